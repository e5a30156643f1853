"""Events in `events.db`: hot batches, request keys, the watermark, and the list of Parquet files.

Enters: `EventsWrite`s, from one process. Leaves: `Parts`, for any thread of any process. Every commit is
on disk when it returns (FULL), so the log may be trimmed up to this watermark.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from mixdown.model.errors import StoreError
from mixdown.store.chunk import Outcome
from mixdown.store.events import EventBatch, EventsSize, EventsWrite, Parts
from mixdown.store.memory_events import without
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.keys import find_keys, key_window, redact_outcomes, write_keys

EVENTS_FOLDER: Final = "events"
"""The folder of Parquet files in the data folder."""
_CHECKPOINT_PAGES: Final = 4000


class SqliteEvents:
    """`Events` in a data folder. Any process may open it; one alone may write.

    `before_commit`, when set, is called inside each write transaction just before its COMMIT: crash
    tests put their kill there.
    """

    before_commit: Callable[[], None] | None = None

    def __init__(self, folder: Path) -> None:
        self._path = folder / sqlite.EVENTS.file_name
        self._what = str(self._path)
        self._readers = sqlite.ThreadConnections(self._path, sqlite.EVENTS)
        self._guard = threading.Lock()
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

    def watermark(self) -> int:
        with sqlite.store_errors(self._what):
            return int(sqlite.value(self._readers.get(), "SELECT watermark FROM reader"))

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        with sqlite.store_errors(self._what):
            return find_keys(self._readers.get(), keys, since_ms)

    def key_window(self) -> tuple[int, int]:
        with sqlite.store_errors(self._what):
            return key_window(self._readers.get())

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        with self._writing() as writer:
            redact_outcomes(writer, keys)

    def write(self, written: EventsWrite) -> None:
        with self._writing() as writer:
            for batch in written.batches:
                if batch.count:
                    self._keep_hot(writer, batch, written.now_ms)
            write_keys(writer, written.keys, written.now_ms)
            sqlite.rows(writer, "UPDATE reader SET watermark = ?", (written.watermark,))

    def _keep_hot(self, writer: apsw.Connection, batch: EventBatch, now_ms: int) -> None:
        sqlite.rows(
            writer,
            "INSERT INTO hot (project, count, first_ms, last_ms, written_ms, lines)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (batch.project, batch.count, batch.first_ms, batch.last_ms, now_ms, batch.lines),
        )

    def tend(self, *, busy: bool, now_ms: int) -> bool:
        del busy, now_ms
        return False

    def parts(self, project: int, since_ms: int, until_ms: int) -> Parts:
        with sqlite.store_errors(self._what):
            reader = self._readers.get()
            with sqlite.snapshot(reader):
                watermark = int(sqlite.value(reader, "SELECT watermark FROM reader"))
                hot = sqlite.rows(
                    reader,
                    "SELECT lines FROM hot WHERE project = ? AND first_ms < ? AND last_ms >= ?"
                    " ORDER BY batch",
                    (project, until_ms, since_ms),
                )
            return Parts(project, since_ms, until_ms, watermark, hot=tuple(lines for (lines,) in hot))

    def projects(self) -> list[int]:
        with sqlite.store_errors(self._what):
            found = sqlite.rows(
                self._readers.get(), "SELECT project FROM hot UNION SELECT project FROM files ORDER BY 1"
            )
            return [project for (project,) in found]

    def forget(self, project: int, ids: Collection[str], *, below: int) -> Iterator[int]:
        batches = []
        with sqlite.store_errors(self._what):
            batches = sqlite.rows(
                self._readers.get(), "SELECT batch FROM hot WHERE project = ? ORDER BY batch", (project,)
            )
        for (number,) in batches:
            with self._writing() as writer:
                hidden = self._forget_hot(writer, number, ids, below)
            yield hidden

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
        with sqlite.store_errors(self._what):
            return int(sqlite.value(self._readers.get(), "SELECT forgotten FROM reader"))

    def note_forgotten(self, position: int) -> None:
        with self._writing() as writer:
            sqlite.rows(writer, "UPDATE reader SET forgotten = max(forgotten, ?)", (position,))

    def drop(self, project: int) -> None:
        with self._writing() as writer:
            sqlite.rows(writer, "DELETE FROM hot WHERE project = ?", (project,))

    def owed(self, project: int) -> int:
        del project
        return 0

    def size(self, project: int | None = None) -> EventsSize:
        with sqlite.store_errors(self._what):
            count, size = sqlite.value(
                self._readers.get(),
                "SELECT coalesce(sum(count), 0), coalesce(sum(length(lines)), 0) FROM hot"
                " WHERE ?1 IS NULL OR project = ?1",
                (project,),
            )
            return EventsSize(hot_events=count, hot_bytes=size)

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        """A write transaction, on disk when it ends; one at a time."""
        with self._guard, sqlite.store_errors(self._what):
            writer = self._open_writer()
            with sqlite.transaction(writer):
                yield writer
                if self.before_commit is not None:
                    self.before_commit()

    def _open_writer(self) -> apsw.Connection:
        if self._closed:
            raise StoreError(f"{self._what} was closed")
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
