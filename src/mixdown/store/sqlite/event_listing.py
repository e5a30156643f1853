"""`events.db` as a `Listing`: hot batches, request keys, the watermark, and the list of Parquet files.

Enters: changes, from one process. Leaves: what is there, for any thread of any process. Every commit is on
disk when it returns (FULL).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from mixdown.model.errors import StoreError
from mixdown.store.chunk import Outcome
from mixdown.store.duck.writing import Written
from mixdown.store.event_listing import DayFile, HotBatch, Place, RecentFile, Waiting
from mixdown.store.events import EventBatch, EventFile, EventsSize, Parts
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite import event_files as files
from mixdown.store.sqlite.keys import find_keys, key_window, redact_outcomes, write_keys

_CHECKPOINT_PAGES: Final = 4000


class SqliteListing:
    """`Listing` in `events.db`; `committing` is called inside each write transaction, before its COMMIT."""

    def __init__(self, path: Path, folder: Path, committing: Callable[[], None]) -> None:
        self.what = str(path)
        self._path = path
        self._folder = folder
        self._committing = committing
        self._readers = sqlite.ThreadConnections(path, sqlite.EVENTS)
        self._guard = threading.Lock()  # the writing connection
        self._numbers = threading.Lock()
        self._next_number = 0
        self._writer: apsw.Connection | None = None
        self._closed = False

    def begin(self, tail: int) -> int:
        """Begin at the log's tail where nothing was ever stored; the watermark."""
        if self.watermark() < tail:
            with self._writing() as writer:
                sqlite.rows(
                    writer,
                    "UPDATE reader SET watermark = max(watermark, ?) WHERE next_file = 1"
                    " AND NOT EXISTS (SELECT 1 FROM hot) AND NOT EXISTS (SELECT 1 FROM key_buckets)",
                    (tail,),
                )
        return self.watermark()

    @contextmanager
    def changes(self) -> Iterator[SqliteChanges]:
        with self._writing() as writer:
            yield SqliteChanges(writer)

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        """A write transaction, on disk when it ends; one at a time."""
        with self._guard, sqlite.store_errors(self.what):
            writer = self._open_writer()
            with sqlite.transaction(writer):
                yield writer
                self._committing()

    def _open_writer(self) -> apsw.Connection:
        if self._closed:
            raise StoreError(f"{self.what} was closed")
        if self._writer is None:
            self._writer = sqlite.connect(self._path, sqlite.EVENTS)
            self._writer.wal_autocheckpoint(_CHECKPOINT_PAGES)
        return self._writer

    def close(self) -> None:
        """Release files."""
        with self._guard:
            self._closed = True
            self._readers.close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    # --- numbers of files

    def make_ready(self) -> None:
        with self._numbers, sqlite.store_errors(self.what):
            if not self._next_number:
                reader = self._readers.get()
                files.remove_strays(self._folder, files.known(reader))
                self._next_number = int(sqlite.value(reader, "SELECT next_file FROM reader"))

    def place(self, project: int, day: int | None) -> Place:
        self.make_ready()
        with self._numbers:
            self._next_number += 1
            return Place(self._next_number - 1, project, day)

    def is_free(self, place: Place, error: Exception) -> bool:
        # after a failed flush nobody knows which commit the disk has: the next start sees
        return not isinstance(error.__cause__, apsw.IOError) and not self._may_be_listed(place)

    def _may_be_listed(self, place: Place) -> bool:
        """Whether a commit that raised may list a file all the same: the checkpoint behind it raises too."""
        known = "SELECT 1 FROM files WHERE number = ?1 UNION ALL SELECT 1 FROM removable WHERE number = ?1"
        try:
            return bool(self._rows(known, (place.number,)))
        except StoreError:
            return True

    def give_up(self, place: Place) -> None:
        del place  # its number goes unused

    def release(self, place: Place) -> None:
        del place  # the next start looks at all files there are

    # --- what is there

    def _rows(self, sql: str, bindings: sqlite.Bindings = ()) -> list[Any]:
        with sqlite.store_errors(self.what):
            return sqlite.rows(self._readers.get(), sql, bindings)

    def _listed(self, where: str, *bindings: Any) -> list[EventFile]:
        with sqlite.store_errors(self.what):
            return files.listed(self._readers.get(), self._folder, where, bindings)

    def watermark(self) -> int:
        return int(self._rows("SELECT watermark FROM reader")[0][0])

    def forgotten(self) -> int:
        return int(self._rows("SELECT forgotten FROM reader")[0][0])

    def known_keys(self, keys: Sequence[bytes], since_ms: int) -> dict[bytes, Outcome | None]:
        with sqlite.store_errors(self.what):
            return find_keys(self._readers.get(), keys, since_ms)

    def key_window(self) -> tuple[int, int]:
        with sqlite.store_errors(self.what):
            return key_window(self._readers.get())

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        with self._writing() as writer:
            redact_outcomes(writer, keys)

    def parts(self, project: int, since_ms: int, until_ms: int) -> Parts:
        with sqlite.store_errors(self.what):
            reader = self._readers.get()
            with sqlite.snapshot(reader):
                watermark = int(sqlite.value(reader, "SELECT watermark FROM reader"))
                held = files.listed(
                    reader,
                    self._folder,
                    "project = ? AND first_ms < ? AND last_ms >= ? AND dead < count",
                    (project, until_ms, since_ms),
                )
                hot = sqlite.rows(
                    reader,
                    "SELECT lines FROM hot WHERE project = ? AND first_ms < ? AND last_ms >= ?"
                    " ORDER BY batch",
                    (project, until_ms, since_ms),
                )
            lines = tuple(lines for (lines,) in hot)
            return Parts(project, since_ms, until_ms, watermark, tuple(held), lines)

    def projects(self) -> list[int]:
        found = self._rows("SELECT project FROM hot UNION SELECT project FROM files ORDER BY 1")
        return [project for (project,) in found]

    def owed(self, project: int) -> int:
        ((owed,),) = self._rows(
            "SELECT (SELECT count(*) FROM files WHERE project = ?1 AND erased > 0)"
            " + (SELECT count(*) FROM removable WHERE project = ?1 AND erased)",
            (project,),
        )
        return int(owed)

    def size(self, project: int | None) -> EventsSize:
        with sqlite.store_errors(self.what):
            return files.size(self._readers.get(), project)

    # --- what the upkeep asks

    def unnoted(self) -> bool:
        return bool(self._rows("SELECT 1 FROM removable WHERE since_ms IS NULL LIMIT 1"))

    def due(self, before_ms: int, erased_before_ms: int, limit: int) -> list[Place]:
        with sqlite.store_errors(self.what):
            return files.due_for_removal(self._readers.get(), before_ms, erased_before_ms, limit)

    def to_close(self, events: int, size_bytes: int, before_ms: int) -> int | None:
        return _first(
            self._rows(
                "SELECT project FROM hot GROUP BY project"
                " HAVING sum(count) >= ? OR sum(length(lines)) >= ? OR min(written_ms) <= ? LIMIT 1",
                (events, size_bytes, before_ms),
            )
        )

    def hot_sizes(self, project: int) -> list[tuple[int, int]]:
        return self._rows("SELECT batch, length(lines) FROM hot WHERE project = ? ORDER BY batch", (project,))

    def hot_lines(self, number: int) -> bytes:
        lines: bytes = self._rows("SELECT lines FROM hot WHERE batch = ?", (number,))[0][0]
        return lines

    def to_gather(self, below_bytes: int, batches: int) -> int | None:
        return _first(
            self._rows(
                "SELECT project FROM hot WHERE length(lines) < ?"
                " GROUP BY project HAVING count(*) >= ? LIMIT 1",
                (below_bytes, batches),
            )
        )

    def small_batches(self, project: int, below_bytes: int, limit: int) -> list[HotBatch]:
        found = self._rows(
            "SELECT batch, written_ms, count, first_ms, last_ms, lines FROM hot"
            " WHERE project = ? AND length(lines) < ? ORDER BY batch LIMIT ?",
            (project, below_bytes, limit),
        )
        return [
            HotBatch(number, written_ms, EventBatch(project, *rest)) for number, written_ms, *rest in found
        ]

    def being_split(self) -> list[EventFile]:
        project = _first(self._rows("SELECT project FROM files WHERE begin_ms IS NOT NULL LIMIT 1"))
        return [] if project is None else self._listed("project = ? AND begin_ms IS NOT NULL", project)

    def waiting(self) -> list[Waiting]:
        found = self._rows(
            "SELECT project, sum(count), sum(largest_day), count(*), min(written_ms), sum(erased)"
            " FROM files WHERE day IS NULL GROUP BY project ORDER BY min(number)"
        )
        return [Waiting(*row) for row in found]

    def recent(self, project: int, limit: int) -> list[RecentFile]:
        found = self._rows(
            "SELECT number, count, largest_day FROM files WHERE project = ? AND day IS NULL"
            " ORDER BY number LIMIT ?",
            (project, limit),
        )
        return [RecentFile(*row) for row in found]

    def files(self, numbers: Sequence[int]) -> list[EventFile]:
        if not numbers:
            return []
        return self._listed("number IN (SELECT value FROM carray(?))", files.integers(numbers))

    def next_file(self, project: int, done: Collection[int]) -> EventFile | None:
        ((number,),) = self._rows(
            "SELECT min(number) FROM files WHERE project = ? AND number NOT IN (SELECT value FROM carray(?))",
            (project, files.integers((*done, 0))),
        )
        found = [] if number is None else self.files([number])
        return found[0] if found else None

    def overlapping(self, project: int, day: int, first_ms: int, last_ms: int) -> list[EventFile]:
        return self._listed(
            "project = ? AND day = ? AND first_ms <= ? AND last_ms >= ?", project, day, last_ms, first_ms
        )

    def to_rewrite(self, share: int, *, busy: bool) -> EventFile | None:
        found = self._listed(
            "number = (SELECT min(number) FROM files WHERE day IS NOT NULL"
            " AND (erased > 0 OR (dead * ? > count AND NOT ?)))",
            share,
            busy,
        )
        return found[0] if found else None

    def days_of_many(self) -> list[tuple[int, int]]:
        return self._rows(
            "SELECT project, day FROM files WHERE day IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"
        )

    def of_day(self, project: int, day: int) -> list[DayFile]:
        found = self._rows(
            "SELECT number, count - dead, written_ms FROM files WHERE project = ? AND day = ?",
            (project, day),
        )
        return [DayFile(*row) for row in found]

    def before_day(self, day: int, limit: int) -> list[DayFile]:
        found = self._rows(
            "SELECT number, count - dead, written_ms FROM files WHERE day < ? ORDER BY day, number LIMIT ?",
            (day, limit),
        )
        return [DayFile(*row) for row in found]


class SqliteChanges:
    """`Changes` inside a write transaction of `events.db`."""

    def __init__(self, writer: apsw.Connection) -> None:
        self._writer = writer

    def add(self, place: Place, written: Written, now_ms: int) -> None:
        files.add(self._writer, place, written, now_ms)

    def count_as_written(self, number: int, *, like: Sequence[int]) -> None:
        newest = "SELECT max(written_ms) FROM files WHERE number IN (SELECT value FROM carray(?))"
        sqlite.rows(
            self._writer,
            f"UPDATE files SET written_ms = ({newest}) WHERE number = ?",  # noqa: S608 - our own
            (files.integers(like), number),
        )

    def remove(self, numbers: Iterable[int], now_ms: int | None) -> None:
        files.remove(self._writer, numbers, now_ms)

    def move_on(self, moved: Iterable[EventFile], begin_ms: int, now_ms: int) -> None:
        files.move_on(self._writer, moved, begin_ms, now_ms)

    def kill(self, rows: Mapping[int, Sequence[int]], *, erased: bool, now_ms: int | None) -> int:
        return files.kill(self._writer, rows, erased=erased, now_ms=now_ms)

    def note_removal(self, now_ms: int) -> None:
        files.note_removal(self._writer, now_ms)

    def removed(self, places: Sequence[Place]) -> None:
        files.removed(self._writer, places)

    def keep_hot(self, batch: EventBatch, written_ms: int, *, number: int | None = None) -> None:
        sqlite.rows(
            self._writer,
            "INSERT INTO hot (batch, project, count, first_ms, last_ms, written_ms, lines)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (number, batch.project, batch.count, batch.first_ms, batch.last_ms, written_ms, batch.lines),
        )

    def hot(self, number: int) -> EventBatch | None:
        found = sqlite.rows(
            self._writer,
            "SELECT project, count, first_ms, last_ms, lines FROM hot WHERE batch = ?",
            (number,),
        )
        return EventBatch(*found[0]) if found else None

    def shorten_hot(self, number: int, batch: EventBatch) -> None:
        sqlite.rows(
            self._writer,
            "UPDATE hot SET count = ?, lines = ? WHERE batch = ?",
            (batch.count, batch.lines, number),
        )

    def drop_hot(self, numbers: Sequence[int]) -> None:
        self._writer.executemany("DELETE FROM hot WHERE batch = ?", [(number,) for number in numbers])

    def drop_project(self, project: int) -> None:
        sqlite.rows(self._writer, "DELETE FROM hot WHERE project = ?", (project,))
        found = sqlite.rows(self._writer, "SELECT number FROM files WHERE project = ?", (project,))
        sqlite.rows(self._writer, "UPDATE files SET erased = count WHERE project = ?", (project,))
        files.remove(self._writer, [number for (number,) in found], None)

    def write_keys(self, keys: Sequence[tuple[bytes, int, Outcome | None]], now_ms: int) -> None:
        write_keys(self._writer, keys, now_ms)

    def move_watermark(self, watermark: int, begin: int | None) -> None:
        del begin  # one process writes, and it has read where it stands
        sqlite.rows(self._writer, "UPDATE reader SET watermark = ?", (watermark,))

    def note_forgotten(self, position: int) -> None:
        sqlite.rows(self._writer, "UPDATE reader SET forgotten = max(forgotten, ?)", (position,))


def _first(rows: Sequence[Sequence[Any]]) -> int | None:
    return int(rows[0][0]) if rows else None
