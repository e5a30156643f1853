"""Checkpoints of `state.db`: they move the WAL into the file beside the writes, by a thread of their own.

Enters: how long the WAL is after each commit, and the watermark in it. Leaves: the watermark that a power
cut would spare. A write waits only for the last few pages, when the WAL can start anew behind them, or for
all of them where the WAL has grown far. The thread runs PASSIVE checkpoints: they wait for no reader and no
writer, nor does either wait for them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw
import msgspec

from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.sweeping import truncate_wal

FEW_SHARE: Final = 8
"""A write moves the last pages itself if they are at most this part of what a checkpoint begins at."""
FAR_TIMES: Final = 8
"""And all pages, where the WAL is so many times longer than that."""
_RESTART_WAIT_MS: Final = 200


class Pace(msgspec.Struct, frozen=True):
    """When a checkpoint begins: so many pages after the last one, or so much later."""

    pages: int
    every_s: float


class Checkpoints:
    """The checkpoints of one file with one writer; `committed` is called by the writer alone."""

    def __init__(
        self, path: Path, connect: Callable[[], apsw.Connection], *, watermark: int, durable: int
    ) -> None:
        self._path = path
        self._connect = connect
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wanted = self._closing = False
        self._durable = durable
        self._watermark = watermark
        self._pages = self._moved = self._tried = self._generation = 0
        # How long the WAL was when a write last moved a few pages, and all: readers may have been in the way.
        self._few_at = self._far_at = 0
        self._completed = self._asked = time.monotonic()

    @property
    def durable(self) -> int:
        """The watermark as it stood before the last checkpoint that moved everything."""
        return self._durable

    @property
    def pages(self) -> int:
        """How long the WAL is."""
        return self._pages

    def committed(self, writer: apsw.Connection, pages: int, watermark: int, pace: Pace) -> None:
        """Take note of a commit that left `pages` in the WAL, and see to it that they get moved.

        Raises `apsw.Error` where this thread had to do it and could not.
        """
        with self._changed:
            if pages < self._pages:  # the WAL was started anew
                self._moved = self._tried = self._few_at = self._far_at = 0
                self._generation += 1
            self._pages = pages
            self._watermark = watermark
            left = pages - self._moved
            due = pages - self._tried
            some = pace.pages // FEW_SHARE
            few = pages >= pace.pages and left <= some and pages - self._few_at >= some
            far = pages >= FAR_TIMES * pace.pages and pages - self._far_at >= pace.pages
            now = time.monotonic()
            late = now - max(self._completed, self._asked) > pace.every_s
            if far:
                self._far_at = pages
            elif few:
                self._few_at = pages
            elif late or due >= pace.pages:
                self._asked = now
                self._wake()
        if far:
            self.restart(writer)
        elif few:
            self.run(writer)

    def run(self, connection: apsw.Connection, *, mode: str = "PASSIVE") -> int:
        """Move what readers allow, through `connection`; how many pages of the WAL are left.

        One at a time: it waits for the one that is under way.
        """
        with self._turn:
            with self._changed:
                watermark = self._watermark
                generation = self._generation
            _, pages, moved = sqlite.value(connection, f"PRAGMA wal_checkpoint({mode})")
            with self._changed:
                self._tried = max(0, pages)  # where a reader held it up, not again at every write
                if moved == pages >= 0:
                    self._durable = max(self._durable, watermark)
                    self._completed = time.monotonic()
                if generation == self._generation:
                    self._moved = max(0, moved)
                return max(0, self._pages - self._moved)

    def truncate(self, connection: apsw.Connection) -> bool:
        """Move everything and cut the WAL to nothing, waiting a little for readers; whether it is."""
        with self._turn:
            with self._changed:
                watermark = self._watermark
            if not truncate_wal(connection):
                return False
            with self._changed:
                self._durable = max(self._durable, watermark)
                self._completed = time.monotonic()
                self._pages = self._moved = self._tried = self._few_at = self._far_at = 0
                self._generation += 1
            return True

    def restart(self, writer: apsw.Connection) -> None:
        """Move everything and let the next write start the WAL anew, waiting a little for readers."""
        writer.set_busy_timeout(_RESTART_WAIT_MS)
        try:
            self.run(writer, mode="RESTART")
        finally:
            writer.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)

    def close(self) -> None:
        """End the thread, once what it does is done."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _wake(self) -> None:
        self._wanted = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run_when_wanted, name="checkpoints", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run_when_wanted(self) -> None:
        connection: apsw.Connection | None = None
        try:
            while self._wait():
                try:
                    if connection is None:
                        connection = self._connect()
                    self._run_down(connection)
                except apsw.Error:
                    # A full disk, perhaps: the next commit that is due asks again, and where the WAL has
                    # grown far its write tries itself and says what is wrong.
                    self._changed.acquire()
                    self._tried = self._pages
                    self._changed.release()
        finally:
            if connection is not None:
                connection.close()

    def _wait(self) -> bool:
        """Wait until a checkpoint is wanted; false when the thread should end."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._closing)
            self._wanted = False
            return not self._closing

    def _run_down(self, connection: apsw.Connection) -> None:
        """Run checkpoints one after the other as long as each leaves less, so that the WAL can start anew."""
        left = self.run(connection)
        while left and not self._closing:
            self._sync()
            before, left = left, self.run(connection)
            if left >= before:
                return

    def _sync(self) -> None:
        """Flush what was moved: SQLite leaves that to the checkpoint that ends with nothing left, a write's.

        Through SQLite's own files, since to close another descriptor of the file would drop its locks.
        """
        flags = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE
        file = apsw.VFSFile("", str(self._path), [flags, 0])
        try:
            file.xSync(apsw.SQLITE_SYNC_FULL)
        finally:
            file.xClose()
