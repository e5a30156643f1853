"""The upkeep of events: hot batches closed, recent files split into days, those merged, old days dropped.

A piece at a time, each of a second or so: files are written and put on disk first, then one commit lists them
and no longer lists what they stand for. Whoever dies in between leaves files that nobody lists; whoever comes
next removes them. Nothing is kept here that the next process would miss, and no engine is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from mixdown.model.errors import TooMuchAtOnceError
from mixdown.store.duck import writing
from mixdown.store.event_listing import Listing, Place, Waiting
from mixdown.store.events import EventBatch, EventFile
from mixdown.store.shelves import Shelf

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from mixdown.store.filed_events import FiledEvents

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


class New:
    """A file in the making: where it goes, and where it is written until then."""

    def __init__(self, shelf: Shelf, place: Place) -> None:
        self._shelf = shelf
        self.place = place
        self.draft: Path = shelf.draft(place)

    def keep(self) -> None:
        """It is written: put it where it belongs, on disk."""
        self._shelf.keep(self.place, self.draft)


class Upkeep:
    """What `FiledEvents.tend` does; one piece at a time."""

    def __init__(self, store: FiledEvents, listing: Listing, shelf: Shelf) -> None:
        self._store = store
        self._listing = listing
        self._shelf = shelf
        self._days: dict[tuple[int, int], int] | None = None

    def begin_anew(self) -> None:
        """Know nothing any more: another process has done the upkeep meanwhile."""
        self._days = None

    def piece(self, *, busy: bool, now_ms: int) -> bool:
        """Do one piece; whether there was any."""
        return (
            self._unlink(now_ms)
            or self._expire(now_ms)
            or self._close(now_ms)
            or self._gather()
            or self._split(now_ms, busy=busy)
            or self._rewrite(now_ms, busy=busy)
            or self._merge(now_ms, busy=busy)
        )

    def write(self, job: Callable[[DuckDBPyConnection], T]) -> T:
        """Do a job that writes files, in bounded memory.

        Where the bound is not enough (events of megabytes, columns by the hundred) it is tried once more with
        a wider one: events that could never be closed would be worse.
        """
        self._listing.make_ready()
        try:
            with self._shelf.workshop(memory_limit_bytes=MEMORY_LIMIT_BYTES, threads=THREADS) as workshop:
                return job(workshop)
        except TooMuchAtOnceError:
            with self._shelf.workshop(
                memory_limit_bytes=WIDE_MEMORY_LIMIT_BYTES, threads=THREADS
            ) as workshop:
                return job(workshop)

    @contextmanager
    def new_file(self, project: int, day: int | None) -> Iterator[New]:
        """A new file, to be written and listed in the block.

        Where that fails it is unlinked at once: what is tried again every second must not fill the disk.
        """
        new = New(self._shelf, self._listing.place(project, day))
        try:
            yield new
        except Exception as error:
            if self._listing.is_free(new.place, error):
                self._shelf.remove(new.place, new.draft)
                self._listing.give_up(new.place)
            raise
        finally:
            self._listing.release(new.place)

    # --- unlinking

    def _unlink(self, now_ms: int) -> bool:
        """Unlink files that no read can have on its list any more."""
        if self._listing.unnoted():
            with self._listing.changes() as changes:
                changes.note_removal(now_ms)
        grace_ms = self._store.grace_ms
        erased_grace_ms = min(grace_ms, max(ERASED_GRACE_MS, self._store.longest_read_ms))
        gone = self._listing.due(now_ms - grace_ms, now_ms - erased_grace_ms, _REMOVED_AT_ONCE)
        if not gone:
            return False
        for place in gone:
            self._store.step("unlink")
            self._shelf.remove(place)
        self._store.step("unlinked")
        with self._listing.changes() as changes:
            changes.removed(gone)
        return True

    def _expire(self, now_ms: int) -> bool:
        """List old days no more; of hot and recent events the old ones go once they are filed."""
        keep_days = self._store.keep_days
        if not keep_days:
            return False
        first_day = first_kept_day(now_ms, keep_days)
        gone = self._listing.before_day(first_day, _REMOVED_AT_ONCE)
        if not gone:
            return False
        with self._listing.changes() as changes:
            changes.remove([file.number for file in gone], now_ms)
        self._store.expired(sum(file.events for file in gone), writing.day_name(first_day))
        return True

    # --- hot batches

    def _close(self, now_ms: int) -> bool:
        """Close a project's oldest hot batches into a recent file."""
        project = self._listing.to_close(CLOSED_EVENTS, CLOSED_BYTES, now_ms - CLOSED_AFTER_MS)
        if project is None:
            return False
        batches: list[bytes] = []
        numbers = []
        size = 0
        for number, length in self._listing.hot_sizes(project):
            size += length
            if batches and size > CLOSED_LIMIT_BYTES:
                break
            batches.append(self._listing.hot_lines(number))
            numbers.append(number)
        with self.new_file(project, None) as new:
            written = self.write(lambda workshop: writing.write_recent(workshop, batches, new.draft))
            new.keep()
            self._store.step("written")
            with self._listing.changes() as changes:
                changes.add(new.place, written, now_ms)
                changes.drop_hot(numbers)
        return True

    def _gather(self) -> bool:
        """Make one batch of many small ones, so that a read fetches few rows."""
        project = self._listing.to_gather(GATHERED_LIMIT_BYTES, GATHERED_BATCHES)
        if project is None:
            return False
        small = self._listing.small_batches(project, GATHERED_LIMIT_BYTES, 4 * GATHERED_BATCHES)
        batches = [each.batch for each in small]
        gathered = EventBatch(
            project,
            sum(batch.count for batch in batches),
            min(batch.first_ms for batch in batches),
            max(batch.last_ms for batch in batches),
            b"".join(batch.lines for batch in batches),
        )
        with self._listing.changes() as changes:
            changes.drop_hot([each.number for each in small])
            changes.keep_hot(gathered, min(each.written_ms for each in small), number=small[0].number)
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
            with self._listing.changes() as changes:
                changes.remove([file.number for file in sources], now_ms)
            return True
        day = first_ms // writing.DAY_MS
        end_ms = (day + 1) * writing.DAY_MS
        last_ms = max(file.last_ms for file in sources)
        stored = self._listing.overlapping(project, day, first_ms, last_ms)
        with self.new_file(project, day) as new:
            result = self.write(lambda workshop: writing.split(workshop, sources, day, stored, new.draft))
            if result.written is not None:
                new.keep()
            self._store.step("written")
            with self._listing.changes() as changes:
                if result.written is not None:
                    changes.add(new.place, result.written, now_ms)
                changes.kill(result.dead, erased=False, now_ms=now_ms)
                changes.move_on(sources, end_ms, now_ms)
        self._days_of_all()[project, day] = now_ms
        return True

    def _to_split(self, now_ms: int, *, busy: bool) -> list[EventFile]:
        """Recent files that are to be split together: those under way, or else a project's oldest."""
        under_way = self._listing.being_split()
        if under_way:
            return under_way
        for each in self._listing.waiting():
            if each.erased or _is_due(each, now_ms, busy=busy):
                return self._first_recent(each.project)
        return []

    def _first_recent(self, project: int) -> list[EventFile]:
        """A project's oldest recent files, as many as can be split together."""
        numbers: list[int] = []
        events = of_a_day = 0
        for file in self._listing.recent(project, SPLIT_FILES_LIMIT):
            events += file.events
            of_a_day += file.largest_day
            if numbers and (of_a_day > SPLIT_EVENTS or events > SPLIT_EVENTS_LIMIT):
                break
            numbers.append(file.number)
        return self._listing.files(numbers)

    # --- files of days

    def _rewrite(self, now_ms: int, *, busy: bool) -> bool:
        """Write a file of a day anew, without its dead rows; those of people who are erased cannot wait."""
        found = self._listing.to_rewrite(DEAD_SHARE, busy=busy)
        if found is not None:
            self._merge_files([found], now_ms)
        return found is not None

    def _days_of_all(self) -> dict[tuple[int, int], int]:
        """Days that may have files to merge, and when each is to be looked at next."""
        if self._days is None:
            self._days = dict.fromkeys(self._listing.days_of_many(), 0)
        return self._days

    def _merge(self, now_ms: int, *, busy: bool) -> bool:
        """Merge files of one day, where there are many of a size or none came for long."""
        days = self._days_of_all()
        for (project, day), look_ms in list(days.items()):
            if look_ms > now_ms:
                continue
            found = self._listing.of_day(project, day)
            newest_ms = max((file.written_ms for file in found), default=0)
            quiet = newest_ms <= now_ms - QUIET_MS
            group = to_merge([(file.events, file.number) for file in found], quiet=quiet)
            if group and (not busy or len(group) >= MERGED_FILES_LIMIT):
                self._merge_files(self._listing.files(group), now_ms)
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
        numbers = [file.number for file in merged]
        with self.new_file(merged[0].project, day) as new:
            written = self.write(lambda workshop: writing.merge(workshop, merged, new.draft))
            if written is not None:
                new.keep()
            self._store.step("written")
            with self._listing.changes() as changes:
                if written is not None:
                    changes.add(new.place, written, now_ms)
                    # so that a merge does not keep a day from being quiet
                    changes.count_as_written(new.place.number, like=numbers)
                changes.remove(numbers, now_ms)
        self._days_of_all()[new.place.project, day] = 0


def first_kept_day(now_ms: int, keep_days: int) -> int:
    """The first day that is kept, as UTC days since 1970, where events are kept for so many days."""
    return now_ms // writing.DAY_MS - keep_days


def _is_due(waiting: Waiting, now_ms: int, *, busy: bool) -> bool:
    """Whether a project's recent files are to be split now."""
    full = (
        waiting.of_a_day >= SPLIT_EVENTS
        or waiting.events >= SPLIT_EVENTS_LIMIT
        or waiting.files >= SPLIT_FILES_LIMIT
    )
    many = full and (waiting.events >= MANY_RECENT_EVENTS or waiting.files >= MANY_RECENT_FILES)
    late = full or waiting.oldest_ms <= now_ms - SPLIT_AFTER_MS
    return many or (late and not busy)


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
