"""Events in `events.db`: hot batches, request keys, the watermark, and the list of Parquet files.

Enters: `EventsWrite`s, from one process. Leaves: `Parts`, for any thread of any process. Every commit is
on disk when it returns (FULL), so the log may be trimmed up to this watermark; files are on disk before
the commit that lists them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import apsw

from mixdown.model.errors import StoreError
from mixdown.store.chunk import Outcome
from mixdown.store.duck import writing
from mixdown.store.events import GRACE_MS, EventBatch, EventFile, EventsSize, EventsWrite, Parts
from mixdown.store.memory_events import without
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite import event_files as files
from mixdown.store.sqlite import event_upkeep as upkeep
from mixdown.store.sqlite.event_files import EVENTS_FOLDER, Place
from mixdown.store.sqlite.event_upkeep import Upkeep, keep_hot
from mixdown.store.sqlite.keys import find_keys, key_window, redact_outcomes, write_keys

_CHECKPOINT_PAGES: Final = 4000


class SqliteEvents:
    """`Events` in a data folder. Any process may open it; one alone may write.

    `before_commit`, when set, is called inside each write transaction just before its COMMIT, and `at_step`
    with a name between the steps of what happens to files: fault tests put their faults there. No file is
    unlinked while a read of `longest_read_ms` may have it on its list, unless `grace_ms` is less.
    """

    before_commit: Callable[[], None] | None = None
    at_step: Callable[[str], None] | None = None
    grace_ms = GRACE_MS
    longest_read_ms = 0

    def __init__(self, folder: Path) -> None:
        self._path = folder / sqlite.EVENTS.file_name
        self.what = str(self._path)
        self._events = folder / EVENTS_FOLDER
        self._readers = sqlite.ThreadConnections(self._path, sqlite.EVENTS)
        self._guard = threading.Lock()  # the writing connection
        self._turn = threading.RLock()  # what changes files and hot batches that are there
        self._numbers = threading.Lock()
        self._next_number = 0
        self._writer: apsw.Connection | None = None
        self._closed = False
        self._upkeep = Upkeep(self, self._events, self._writing)

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

    def watermark(self) -> int:
        with sqlite.store_errors(self.what):
            return int(sqlite.value(self._readers.get(), "SELECT watermark FROM reader"))

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        with sqlite.store_errors(self.what):
            return find_keys(self._readers.get(), keys, since_ms)

    def key_window(self) -> tuple[int, int]:
        with sqlite.store_errors(self.what):
            return key_window(self._readers.get())

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        with self._writing() as writer:
            redact_outcomes(writer, keys)

    def write(self, written: EventsWrite) -> None:
        large = {
            place: batch
            for place, batch in enumerate(written.batches)
            if batch.count >= upkeep.CLOSED_EVENTS or len(batch.lines) >= upkeep.CLOSED_BYTES
        }
        with ExitStack() as stack:
            recent = [self._write_recent(stack, batch) for batch in large.values()]
            if recent:
                self.step("written")
            with self._writing() as writer:
                for place, file in recent:
                    files.add(writer, place, file, written.now_ms)
                for number, batch in enumerate(written.batches):
                    if batch.count and number not in large:
                        keep_hot(writer, batch, written.now_ms)
                write_keys(writer, written.keys, written.now_ms)
                sqlite.rows(writer, "UPDATE reader SET watermark = ?", (written.watermark,))

    def _write_recent(self, stack: ExitStack, batch: EventBatch) -> tuple[Place, writing.Written]:
        place, path = stack.enter_context(self._upkeep.new_file(batch.project, None))
        written = self._upkeep.write(lambda workshop: writing.write_recent(workshop, [batch.lines], path))
        return place, written

    def tend(self, *, busy: bool, now_ms: int) -> bool:
        with self._turn:
            self.make_ready()
            return self._upkeep.piece(busy=busy, now_ms=now_ms)

    def parts(self, project: int, since_ms: int, until_ms: int) -> Parts:
        with sqlite.store_errors(self.what):
            reader = self._readers.get()
            with sqlite.snapshot(reader):
                watermark = int(sqlite.value(reader, "SELECT watermark FROM reader"))
                held = files.listed(
                    reader,
                    self._events,
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
        with sqlite.store_errors(self.what):
            found = sqlite.rows(
                self._readers.get(), "SELECT project FROM hot UNION SELECT project FROM files ORDER BY 1"
            )
            return [project for (project,) in found]

    def forget(self, project: int, ids: Collection[str], *, below: int) -> Iterator[int]:
        with sqlite.store_errors(self.what):
            batches = sqlite.rows(
                self._readers.get(), "SELECT batch FROM hot WHERE project = ? ORDER BY batch", (project,)
            )
        for (number,) in batches:
            with self._turn, self._writing() as writer:
                hidden = self._forget_hot(writer, number, ids, below)
            yield hidden
        done: set[int] = set()
        while True:  # what is split or merged meanwhile comes again under another number
            with self._turn:
                file = self._next_file(project, done)
                if file is None:
                    return
                done.add(file.number)
                hidden = self._forget_in(file, ids, below)
            yield hidden

    def _next_file(self, project: int, done: Collection[int]) -> EventFile | None:
        with sqlite.store_errors(self.what):
            found = sqlite.rows(
                self._readers.get(),
                "SELECT min(number) FROM files WHERE project = ?"
                " AND number NOT IN (SELECT value FROM carray(?))",
                (project, files.integers((*done, 0))),
            )
            listed = files.listed(self._readers.get(), self._events, "number = ?", found[0])
            return listed[0] if listed else None

    def _forget_in(self, file: EventFile, ids: Collection[str], below: int) -> int:
        counting, moved = self._upkeep.write(
            lambda workshop: writing.positions_of(workshop, file, ids, below)
        )
        if not counting and not moved:
            return 0
        with self._writing() as writer:
            hidden = files.kill(writer, {file.number: counting}, erased=True, now_ms=None)
            files.kill(writer, {file.number: moved}, erased=True, now_ms=None)
            return hidden

    def _forget_hot(self, writer: apsw.Connection, number: int, ids: Collection[str], below: int) -> int:
        """Take events of these ids out of a hot batch; how many there were."""
        found = sqlite.rows(
            writer, "SELECT project, count, first_ms, last_ms, lines FROM hot WHERE batch = ?", (number,)
        )
        if not found:  # it was closed meanwhile
            return 0
        kept, hidden = without(EventBatch(*found[0]), ids, below)
        if not kept.count:
            sqlite.rows(writer, "DELETE FROM hot WHERE batch = ?", (number,))
        elif hidden:
            sqlite.rows(
                writer,
                "UPDATE hot SET count = ?, lines = ? WHERE batch = ?",
                (kept.count, kept.lines, number),
            )
        return hidden

    def forgotten(self) -> int:
        with sqlite.store_errors(self.what):
            return int(sqlite.value(self._readers.get(), "SELECT forgotten FROM reader"))

    def note_forgotten(self, position: int) -> None:
        with self._writing() as writer:
            sqlite.rows(writer, "UPDATE reader SET forgotten = max(forgotten, ?)", (position,))

    def drop(self, project: int) -> None:
        with self._turn, self._writing() as writer:
            sqlite.rows(writer, "DELETE FROM hot WHERE project = ?", (project,))
            found = sqlite.rows(writer, "SELECT number FROM files WHERE project = ?", (project,))
            sqlite.rows(writer, "UPDATE files SET erased = count WHERE project = ?", (project,))
            files.remove(writer, [number for (number,) in found], None)

    def owed(self, project: int) -> int:
        with sqlite.store_errors(self.what):
            return int(
                sqlite.value(
                    self._readers.get(),
                    "SELECT (SELECT count(*) FROM files WHERE project = ?1 AND erased > 0)"
                    " + (SELECT count(*) FROM removable WHERE project = ?1 AND erased)",
                    (project,),
                )
            )

    def size(self, project: int | None = None) -> EventsSize:
        with sqlite.store_errors(self.what):
            return files.size(self._readers.get(), project)

    def reader(self) -> apsw.Connection:
        """This thread's connection for reading."""
        return self._readers.get()

    def step(self, name: str) -> None:
        """Between two steps of what happens to files."""
        if self.at_step is not None:
            self.at_step(name)

    def make_ready(self) -> None:
        """Before anything else is done to files: remove what an earlier process left unlisted."""
        with self._numbers, sqlite.store_errors(self.what):
            if not self._next_number:
                reader = self._readers.get()
                files.remove_strays(self._events, files.known(reader))
                self._next_number = int(sqlite.value(reader, "SELECT next_file FROM reader"))

    def place(self, project: int, day: int | None) -> Place:
        """Where a new file goes: its number was never given to another that was listed."""
        self.make_ready()
        with self._numbers:
            self._next_number += 1
            return Place(self._next_number - 1, project, day)

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        """A write transaction, on disk when it ends; one at a time."""
        with self._guard, sqlite.store_errors(self.what):
            writer = self._open_writer()
            with sqlite.transaction(writer):
                yield writer
                if self.before_commit is not None:
                    self.before_commit()

    def _open_writer(self) -> apsw.Connection:
        if self._closed:
            raise StoreError(f"{self.what} was closed")
        if self._writer is None:
            self._writer = sqlite.connect(self._path, sqlite.EVENTS)
            self._writer.wal_autocheckpoint(_CHECKPOINT_PAGES)
        return self._writer

    def close(self) -> None:
        with self._guard:
            self._closed = True
            self._readers.close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
