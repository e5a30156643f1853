"""The upkeep of events: hot batches closed into files, recent files split into days, files of days merged.

A piece at a time, each of a second or so: files are written and put on disk first, then one FULL commit lists
them and no longer lists what they stand for. Whoever dies in between leaves files that nobody lists; they
are removed at the next start. Nothing is kept here that the next process would miss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import apsw

from mixdown.model.errors import StoreError, TooMuchAtOnceError
from mixdown.store.duck import writing
from mixdown.store.events import EventBatch, EventFile
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite import event_files as files
from mixdown.store.sqlite.event_files import Place

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from mixdown.store.sqlite.events import SqliteEvents

_MIB: Final = 1024 * 1024
_MINUTE_MS: Final = 60_000
MEMORY_LIMIT_BYTES: Final = 256 * _MIB
WIDE_MEMORY_LIMIT_BYTES: Final = 1024 * _MIB
THREADS: Final = 1

CLOSED_EVENTS: Final = 20_000
CLOSED_BYTES: Final = 16 * _MIB
"""So many events or bytes of a project are closed into a file: by `write` itself, if they come at once."""
CLOSED_LIMIT_BYTES: Final = 64 * _MIB
CLOSED_AFTER_MS: Final = 24 * 60 * _MINUTE_MS
"""Fewer are closed when they are so old."""
GATHERED_BATCHES: Final = 64
GATHERED_LIMIT_BYTES: Final = 256 * 1024

SPLIT_EVENTS: Final = 150_000
"""Recent files are split when they have so many events of one day; no piece takes many more."""
SPLIT_EVENTS_LIMIT: Final = 4_000_000
"""Or so many of many days."""
SPLIT_FILES_LIMIT: Final = 256
SPLIT_AFTER_MS: Final = 10 * _MINUTE_MS
MANY_RECENT_EVENTS: Final = 2_000_000
MANY_RECENT_FILES: Final = 64

MERGED_EVENTS: Final = 500_000
"""No merge makes a larger file."""
MERGED_FILES: Final = 4
MERGED_FILES_LIMIT: Final = 16
_SMALL_FILE_EVENTS: Final = 5_000
QUIET_MS: Final = 60 * _MINUTE_MS
"""A day that got nothing for so long is merged into as few files as can be."""
DEAD_SHARE: Final = 10
"""A file is written anew when one row in so many is dead."""
_REMOVED_AT_ONCE: Final = 100
ERASED_GRACE_MS: Final = _MINUTE_MS
"""A file with rows of somebody who was erased stays so long for reads, or as long as a read may take."""

T = TypeVar("T")
Writing = Callable[[], AbstractContextManager[apsw.Connection]]


class Upkeep:
    """What `SqliteEvents.tend` does; one piece at a time."""

    def __init__(self, store: SqliteEvents, events: Path, writing_to: Writing) -> None:
        self._store = store
        self._events = events
        self._writing = writing_to
        self._days: dict[tuple[int, int], int] | None = None

    def piece(self, *, busy: bool, now_ms: int) -> bool:
        """Do one piece; whether there was any."""
        return (
            self._unlink(now_ms)
            or self._close(now_ms)
            or self._gather(now_ms)
            or self._split(now_ms, busy=busy)
            or self._rewrite(now_ms, busy=busy)
            or self._merge(now_ms, busy=busy)
        )

    def write(self, job: Callable[[DuckDBPyConnection], T]) -> T:
        """Do a job that writes files, in bounded memory.

        Where the bound is not enough (events of megabytes, columns by the hundred) it is tried once more with
        a wider one: events that could never be closed would be worse.
        """
        self._store.make_ready()
        try:
            with writing.workshop(
                self._events, memory_limit_bytes=MEMORY_LIMIT_BYTES, threads=THREADS
            ) as workshop:
                return job(workshop)
        except TooMuchAtOnceError:
            with writing.workshop(
                self._events, memory_limit_bytes=WIDE_MEMORY_LIMIT_BYTES, threads=THREADS
            ) as workshop:
                return job(workshop)

    @contextmanager
    def new_file(self, project: int, day: int | None) -> Iterator[tuple[Place, Path]]:
        """Where a new file goes, to be written and listed in the block.

        Where that fails it is unlinked at once: what is tried again every second must not fill the disk.
        """
        place = self._store.place(project, day)
        path = place.path(self._events)
        try:
            yield place, path
        except Exception as error:
            # after a failed flush nobody knows which commit the disk has: the next start sees
            if not isinstance(error.__cause__, apsw.IOError) and not self._may_be_listed(place):
                path.unlink(missing_ok=True)
            raise

    def _may_be_listed(self, place: Place) -> bool:
        """Whether a commit that raised may list a file all the same: the checkpoint behind it raises too."""
        known = "SELECT 1 FROM files WHERE number = ?1 UNION ALL SELECT 1 FROM removable WHERE number = ?1"
        try:
            return bool(self._rows(known, (place.number,)))
        except StoreError:
            return True

    def _rows(self, sql: str, bindings: sqlite.Bindings = ()) -> list[Any]:
        with sqlite.store_errors(self._store.what):
            return sqlite.rows(self._store.reader(), sql, bindings)

    def _listed(self, where: str, *bindings: Any) -> list[EventFile]:
        with sqlite.store_errors(self._store.what):
            return files.listed(self._store.reader(), self._events, where, bindings)

    # --- unlinking

    def _unlink(self, now_ms: int) -> bool:
        """Unlink files that no read can have on its list any more."""
        if self._rows("SELECT 1 FROM removable WHERE since_ms IS NULL LIMIT 1"):
            with self._writing() as writer:
                files.note_removal(writer, now_ms)
        with sqlite.store_errors(self._store.what):
            grace_ms = self._store.grace_ms
            erased_grace_ms = min(grace_ms, max(ERASED_GRACE_MS, self._store.longest_read_ms))
            gone = files.due_for_removal(
                self._store.reader(), now_ms - grace_ms, now_ms - erased_grace_ms, _REMOVED_AT_ONCE
            )
        if not gone:
            return False
        for place in gone:
            self._store.step("unlink")
            path = place.path(self._events)
            path.unlink(missing_ok=True)
            if place.day is not None:  # its folder is made by the upkeep alone
                with suppress(OSError):  # it is not empty, or gone
                    path.parent.rmdir()
        self._store.step("unlinked")
        with self._writing() as writer:
            files.removed(writer, gone)
        return True

    # --- hot batches

    def _close(self, now_ms: int) -> bool:
        """Close a project's oldest hot batches into a recent file."""
        found = self._rows(
            "SELECT project FROM hot GROUP BY project"
            " HAVING sum(count) >= ? OR sum(length(lines)) >= ? OR min(written_ms) <= ? LIMIT 1",
            (CLOSED_EVENTS, CLOSED_BYTES, now_ms - CLOSED_AFTER_MS),
        )
        if not found:
            return False
        (project,) = found[0]
        batches: list[bytes] = []
        numbers = []
        size = 0
        for number, length in self._rows(
            "SELECT batch, length(lines) FROM hot WHERE project = ? ORDER BY batch", (project,)
        ):
            size += length
            if batches and size > CLOSED_LIMIT_BYTES:
                break
            batches.append(self._rows("SELECT lines FROM hot WHERE batch = ?", (number,))[0][0])
            numbers.append(number)
        with self.new_file(project, None) as (place, path):
            written = self.write(lambda workshop: writing.write_recent(workshop, batches, path))
            self._store.step("written")
            with self._writing() as writer:
                files.add(writer, place, written, now_ms)
                writer.executemany("DELETE FROM hot WHERE batch = ?", [(number,) for number in numbers])
        return True

    def _gather(self, now_ms: int) -> bool:
        """Make one batch of many small ones, so that a read fetches few rows."""
        del now_ms
        found = self._rows(
            "SELECT project FROM hot WHERE length(lines) < ? GROUP BY project HAVING count(*) >= ? LIMIT 1",
            (GATHERED_LIMIT_BYTES, GATHERED_BATCHES),
        )
        if not found:
            return False
        (project,) = found[0]
        batches = self._rows(
            "SELECT batch, count, first_ms, last_ms, written_ms, lines FROM hot"
            " WHERE project = ? AND length(lines) < ? ORDER BY batch LIMIT ?",
            (project, GATHERED_LIMIT_BYTES, 4 * GATHERED_BATCHES),
        )
        numbers, counts, firsts, lasts, times, lines = zip(*batches, strict=True)
        with self._writing() as writer:
            writer.executemany("DELETE FROM hot WHERE batch = ?", [(number,) for number in numbers])
            batch = EventBatch(project, sum(counts), min(firsts), max(lasts), b"".join(lines))
            keep_hot(writer, batch, min(times), number=numbers[0])
        return True

    # --- recent files

    def _split(self, now_ms: int, *, busy: bool) -> bool:
        """Write the first day of recent files to a file of that day."""
        sources = self._to_split(now_ms, busy=busy)
        if not sources:
            return False
        project = sources[0].project
        first_ms = self.write(lambda workshop: writing.next_time(workshop, sources))
        if first_ms is None:
            with self._writing() as writer:
                files.remove(writer, [file.number for file in sources], now_ms)
            return True
        day = first_ms // writing.DAY_MS
        end_ms = (day + 1) * writing.DAY_MS
        last_ms = max(file.last_ms for file in sources)
        stored = self._listed(
            "project = ? AND day = ? AND first_ms <= ? AND last_ms >= ?", project, day, last_ms, first_ms
        )
        with self.new_file(project, day) as (place, path):
            result = self.write(lambda workshop: writing.split(workshop, sources, day, stored, path))
            self._store.step("written")
            with self._writing() as writer:
                if result.written is not None:
                    files.add(writer, place, result.written, now_ms)
                files.kill(writer, result.dead, erased=False, now_ms=now_ms)
                files.move_on(writer, sources, end_ms, now_ms)
        self._days_of_all()[project, day] = now_ms
        return True

    def _to_split(self, now_ms: int, *, busy: bool) -> list[EventFile]:
        """Recent files that are to be split together: those under way, or else a project's oldest."""
        under_way = self._rows("SELECT project FROM files WHERE begin_ms IS NOT NULL LIMIT 1")
        if under_way:
            return self._listed("project = ? AND begin_ms IS NOT NULL", under_way[0][0])
        waiting = self._rows(
            "SELECT project, sum(count), sum(largest_day), count(*), min(written_ms), sum(erased)"
            " FROM files WHERE day IS NULL GROUP BY project ORDER BY min(number)"
        )
        for project, events, of_a_day, count, oldest_ms, erased in waiting:
            full = of_a_day >= SPLIT_EVENTS or events >= SPLIT_EVENTS_LIMIT or count >= SPLIT_FILES_LIMIT
            many = full and (events >= MANY_RECENT_EVENTS or count >= MANY_RECENT_FILES)
            late = full or oldest_ms <= now_ms - SPLIT_AFTER_MS
            if many or erased or (late and not busy):
                return self._first_recent(project)
        return []

    def _first_recent(self, project: int) -> list[EventFile]:
        """A project's oldest recent files, as many as can be split together."""
        numbers: list[int] = []
        events = of_a_day = 0
        for number, count, largest_day in self._rows(
            "SELECT number, count, largest_day FROM files WHERE project = ? AND day IS NULL"
            " ORDER BY number LIMIT ?",
            (project, SPLIT_FILES_LIMIT),
        ):
            events += count
            of_a_day += largest_day
            if numbers and (of_a_day > SPLIT_EVENTS or events > SPLIT_EVENTS_LIMIT):
                break
            numbers.append(number)
        return self._listed("number IN (SELECT value FROM carray(?))", files.integers(numbers))

    # --- files of days

    def _rewrite(self, now_ms: int, *, busy: bool) -> bool:
        """Write a file of a day anew, without its dead rows; those of people who are erased cannot wait."""
        found = self._listed(
            "number = (SELECT min(number) FROM files WHERE day IS NOT NULL"
            " AND (erased > 0 OR (dead * ? > count AND NOT ?)))",
            DEAD_SHARE,
            busy,
        )
        if found:
            self._merge_files(found, now_ms)
        return bool(found)

    def _days_of_all(self) -> dict[tuple[int, int], int]:
        """Days that may have files to merge, and when each is to be looked at next."""
        if self._days is None:
            found = self._rows(
                "SELECT project, day FROM files WHERE day IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"
            )
            self._days = dict.fromkeys(found, 0)
        return self._days

    def _merge(self, now_ms: int, *, busy: bool) -> bool:
        """Merge files of one day, where there are many of a size or none came for long."""
        days = self._days_of_all()
        for (project, day), look_ms in list(days.items()):
            if look_ms > now_ms:
                continue
            found = self._rows(
                "SELECT number, count - dead, written_ms FROM files WHERE project = ? AND day = ?",
                (project, day),
            )
            newest_ms = max((written_ms for _, _, written_ms in found), default=0)
            quiet = newest_ms <= now_ms - QUIET_MS
            group = to_merge([(count, number) for number, count, _ in found], quiet=quiet)
            if group and (not busy or len(group) >= MERGED_FILES_LIMIT):
                self._merge_files(
                    self._listed("number IN (SELECT value FROM carray(?))", files.integers(group)), now_ms
                )
                return True
            if group:
                continue
            if quiet or len(found) < 2:
                del days[project, day]
            else:
                days[project, day] = newest_ms + QUIET_MS
        return False

    def _merge_files(self, merged: list[EventFile], now_ms: int) -> None:
        day = merged[0].day
        assert day is not None
        with self.new_file(merged[0].project, day) as (place, path):
            written = self.write(lambda workshop: writing.merge(workshop, merged, path))
            self._store.step("written")
            with self._writing() as writer:
                if written is not None:
                    files.add(writer, place, written, now_ms)
                    # so that a merge does not keep a day from being quiet
                    newest = "SELECT max(written_ms) FROM files WHERE number IN (SELECT value FROM carray(?))"
                    sqlite.rows(
                        writer,
                        f"UPDATE files SET written_ms = ({newest}) WHERE number = ?",  # noqa: S608 - our own
                        (files.integers(file.number for file in merged), place.number),
                    )
                files.remove(writer, [file.number for file in merged], now_ms)
        self._days_of_all()[place.project, day] = 0


def to_merge(found: list[tuple[int, int]], *, quiet: bool) -> tuple[int, ...]:
    """Which of a day's files, given as (events, number), to merge now; none: ().

    Files of about a size (a factor of four) once there are `MERGED_FILES` of them, so that each event is
    written a few times at most; in a day that is quiet, all that fit into one.
    """
    smallest = sorted(each for each in found if each[0] < MERGED_EVENTS // 2)
    group: list[tuple[int, int]] = []
    total = 0
    for count, number in smallest:
        alike = not group or max(count, _SMALL_FILE_EVENTS) < 4 * max(group[0][0], _SMALL_FILE_EVENTS)
        if not (quiet or alike):
            if len(group) >= MERGED_FILES:
                break
            group, total = [], 0
        if total + count > MERGED_EVENTS or len(group) == MERGED_FILES_LIMIT:
            break
        group.append((count, number))
        total += count
    enough = 2 if quiet else MERGED_FILES
    return tuple(number for _, number in group) if len(group) >= enough else ()


def keep_hot(writer: apsw.Connection, batch: EventBatch, now_ms: int, *, number: int | None = None) -> None:
    """Keep a batch hot, inside the caller's transaction."""
    sqlite.rows(
        writer,
        "INSERT INTO hot (batch, project, count, first_ms, last_ms, written_ms, lines)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, batch.project, batch.count, batch.first_ms, batch.last_ms, now_ms, batch.lines),
    )
