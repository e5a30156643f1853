"""Turns at `log.db`: one writer at a time over all threads and processes, in the order of a file lock.

Waiting is a blocking `flock`, never SQLite's busy handler, which sleeps and polls: under load that
would starve a worker for seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import apsw

from mixdown.model.errors import StoreError
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.folder import FileLock

# The fold's process checkpoints the log; a worker only when nobody has for this long.
_CHECKPOINT_PAGES: Final = 16_000


class LogFile:
    """`log.db` as one process holds it: a writing connection, used in turns, and readers for threads."""

    def __init__(self, folder: Path) -> None:
        self.path = path = folder / sqlite.LOG.file_name
        self.what = str(path)
        self._lock = FileLock(folder / "log.lock")
        self._threads = threading.Lock()
        self._holder = 0
        with sqlite.store_errors(self.what):
            self._writer: apsw.Connection | None = sqlite.connect(path, sqlite.LOG)
            self._writer.wal_autocheckpoint(_CHECKPOINT_PAGES)
        self._readers = sqlite.ThreadConnections(path, sqlite.LOG)

    def reader(self) -> apsw.Connection:
        """This thread's connection for reading."""
        return self._readers.get()

    @contextmanager
    def turn(self) -> Iterator[apsw.Connection]:
        """Wait for a turn, across threads and processes, and hold it; a nested turn is the same turn."""
        if self._holder == threading.get_ident():
            yield self._open_writer()
            return
        with self._threads:
            writer = self._open_writer()
            self._lock.acquire()
            self._holder = threading.get_ident()
            try:
                with sqlite.store_errors(self.what):
                    yield writer
            finally:
                self._holder = 0
                self._lock.release()

    def transaction(self, writer: apsw.Connection) -> AbstractContextManager[None]:
        """A write transaction in a held turn; on disk when it ends."""
        return sqlite.transaction(writer)

    def _open_writer(self) -> apsw.Connection:
        if self._writer is None:
            raise StoreError(f"{self.what} was closed")
        return self._writer

    def close(self) -> None:
        """Close all connections, after the turn under way."""
        with self._threads:
            self._readers.close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._lock.close()
