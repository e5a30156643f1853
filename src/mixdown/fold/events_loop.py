"""The loop of the events reader's process: take in what waits, and keep what is stored quick to read.

Two threads: one takes events from the log and waits to be woken; the other closes hot events into files,
splits and merges those, unlinks old ones, and hides the events of people who are erased. Either may fail and
try again; both may be killed at any moment.
"""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from mixdown.fold.events import EventsReader, Taken
from mixdown.fold.events_erasure import EventsEraser
from mixdown.fold.loop import POLL_S, RETRY_S, BackupsSeen, Wake
from mixdown.store.protocols import Store

SMALL_STEP_EVENTS: Final = 500
SHORTEST_REST_S: Final = 0.002
LONGEST_REST_S: Final = 0.05
TEND_EVERY_S: Final = 1.0
ERASURES_EVERY_S: Final = 0.2
BUSY_S: Final = 0.5
"""Events that came in so lately count as load: then only what cannot wait is done beside them."""
UNDER_LOAD_EVERY_S: Final = 10.0
"""Load may never end: so often one piece of what can wait is done all the same."""


class EventsReports(Protocol):
    """Where the loop reports what happened (logs, metrics); from either thread."""

    def taken(self, taken: Taken, seconds: float) -> None:
        """A step is written."""

    def tended(self, seconds: float) -> None:
        """A piece of closing, splitting, merging or unlinking is done."""

    def erased(self, jobs: int, events: int, seconds: float) -> None:
        """The events of people are hidden, so many of them."""

    def failed(self, error: Exception) -> None:
        """A step or a piece failed as a whole; it is tried again."""

    def works(self) -> None:
        """What had failed works again."""


class _Silent:
    """Where nobody asked to be told."""

    def taken(self, taken: Taken, seconds: float) -> None:
        """Not told."""

    def tended(self, seconds: float) -> None:
        """Not told."""

    def erased(self, jobs: int, events: int, seconds: float) -> None:
        """Not told."""

    def failed(self, error: Exception) -> None:
        """Not told."""

    def works(self) -> None:
        """Not told."""


def run_events(
    store: Store,
    wake: Wake,
    *,
    stopping: Callable[[], bool],
    parent_fd: int | None = None,
    drain_s: float = 5.0,
    reports: EventsReports | None = None,
    backups: BackupsSeen | None = None,
) -> None:
    """Take events in until `stopping()` says so (then what waits, for at most `drain_s`) or it is an orphan.

    `parent_fd` is the read end of a pipe that the supervisor holds open. What fails as a whole (a full disk)
    is tried again every second; nothing is lost meanwhile.
    """
    reports = reports or _Silent()
    reading = _Reading(EventsReader(store), reports)
    tending = Tending(store, reports, busy=reading.is_busy, backups=backups)
    selector = selectors.DefaultSelector()
    selector.register(wake.fileno(), selectors.EVENT_READ, "wake")
    if parent_fd is not None:
        selector.register(parent_fd, selectors.EVENT_READ, "parent")
    tending.start()
    try:
        while not stopping():
            taken = reading.step()
            if taken is None:
                ready = {key.data for key, _ in selector.select(POLL_S)}
                if "parent" in ready:
                    return
                if "wake" in ready:
                    wake.drain()
            elif taken.erasures:
                tending.look_now()
        until = time.monotonic() + drain_s
        while time.monotonic() < until and (reading.step() is not None or reading.failed):
            pass
        reading.finish()
    finally:
        tending.stop()
        selector.close()


class _Reading:
    """Steps, the rests between small ones, and what is told of them."""

    def __init__(self, reader: EventsReader, reports: EventsReports) -> None:
        self._reader = reader
        self._reports = reports
        self._in_a_row = 0
        self._last_s = 0.0
        self.failed = False
        """Whether the last step did."""

    def is_busy(self) -> bool:
        """Whether events have come in lately."""
        return time.monotonic() - self._last_s < BUSY_S

    def step(self) -> Taken | None:
        """Take what waits; None where nothing did, or where it failed."""
        began = time.perf_counter()
        try:
            taken = self._reader.step()
        except Exception as error:  # noqa: BLE001 - the reader outlives any fault; it reports and tries again
            self.failed = True
            self._reports.failed(error)
            time.sleep(RETRY_S)
            return None
        self.failed = False
        self._reports.works()
        if taken is None:
            self._in_a_row = 0
            return None
        self._reports.taken(taken, time.perf_counter() - began)
        if taken.events:
            self._last_s = time.monotonic()
        self._rest_after(taken.events)
        return taken

    def finish(self) -> None:
        """Leave nothing to be looked at again."""
        try:
            self._reader.finish()
        except Exception as error:  # noqa: BLE001 - the next start looks at it again
            self._reports.failed(error)

    def _rest_after(self, events: int) -> None:
        """Let small requests gather: each step is on disk before the next begins, and that is an fsync.

        A lone request is taken at once; those that follow close upon it wait, a little longer each time.
        """
        if not 0 < events < SMALL_STEP_EVENTS:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        time.sleep(min(LONGEST_REST_S, SHORTEST_REST_S * 2.0 ** min(self._in_a_row - 1, 16)))


class Tending:
    """The second thread: one piece of what is to be done at a time. `start`, then `stop`."""

    def __init__(
        self,
        store: Store,
        reports: EventsReports,
        *,
        busy: Callable[[], bool],
        backups: BackupsSeen | None = None,
    ) -> None:
        self._store = store
        self._reports = reports
        self._busy = busy
        self._backups = backups
        self._eraser = EventsEraser(store)
        self._waiting_since = time.monotonic()
        self._ending = threading.Event()
        self._look = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tending", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def look_now(self) -> None:
        """People are to be erased: see to it at once."""
        self._look.set()

    def stop(self) -> None:
        """End after the piece in hand."""
        self._ending.set()
        self._look.set()
        self._thread.join()

    def _run(self) -> None:
        due = 0.0
        while not self._ending.is_set():
            self._look.clear()
            try:
                self._erase()
                if time.monotonic() >= due:
                    due = 0.0 if self._tend() else time.monotonic() + TEND_EVERY_S
            except Exception as error:  # noqa: BLE001 - a full disk, perhaps: it is tried again
                self._reports.failed(error)
                due = time.monotonic() + RETRY_S
            self._look.wait(min(ERASURES_EVERY_S, max(0.0, due - time.monotonic())))

    def _erase(self) -> None:
        began = time.perf_counter()
        erased = self._eraser.go_on()
        if erased is not None:
            self._reports.erased(erased.jobs, erased.events, time.perf_counter() - began)

    def _tend(self) -> bool:
        """Whether there was anything to do. While a backup copies, the files stay as they are."""
        if self._backups is not None and self._backups.running():
            return False
        busy = self._busy() and time.monotonic() - self._waiting_since < UNDER_LOAD_EVERY_S
        began = time.perf_counter()
        done = self._store.events.tend(busy=busy, now_ms=time.time_ns() // 1_000_000)
        if not busy:
            self._waiting_since = time.monotonic()
        if done:
            self._reports.tended(time.perf_counter() - began)
        return done
