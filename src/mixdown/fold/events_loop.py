"""The loop of the events reader's process: take in what waits, and keep what is stored quick to read.

Two threads: one takes events from the log and waits to be woken; the other closes hot events into files,
splits and merges those, unlinks old ones, and hides the events of people who are erased. Either may fail and
try again; both may be killed at any moment.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from mixdown.fold.events import EventsReader, Taken
from mixdown.fold.events_erasure import EventsEraser
from mixdown.fold.held import Held, Holding
from mixdown.fold.loop import RETRY_S, BackupsSeen, Looks, Wake
from mixdown.model.errors import LeaseLostError, NodeDownError
from mixdown.store.event_upkeep import CLOSED_EVENTS
from mixdown.store.protocols import Store

SMALL_STEP_EVENTS: Final = 500
SHORTEST_REST_S: Final = 0.002
LONGEST_REST_S: Final = 0.05
GATHERING_S: Final = 0.4
"""So long may events gather that come in so fast that they then make a file at once."""
RATE_SPAN_S: Final = 0.3
"""Over about so long it is reckoned how fast they come."""
MARGIN: Final = 1.1
"""A step that just misses it would go the long way."""
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


def run_events(  # noqa: PLR0913 - each is one thing that the process has
    store: Store,
    wake: Wake,
    *,
    stopping: Callable[[], bool],
    parent_fd: int | None = None,
    drain_s: float = 5.0,
    reports: EventsReports | None = None,
    backups: BackupsSeen | None = None,
    holding: Holding | None = None,
    idle_poll_s: float = 0.0,
) -> None:
    """Take events in until `stopping()` says so (then what waits, for at most `drain_s`) or it is an orphan.

    `parent_fd` is the read end of a pipe that the supervisor holds open. What fails as a whole (a full disk)
    is tried again every second; nothing is lost meanwhile. `holding` says which partitions are read here;
    without it all are. `idle_poll_s` is how rarely it may look while nothing comes and nobody wakes it.
    """
    told = reports or _Silent()
    looks = Looks(wake, parent_fd, idle_poll_s)
    parts = Held(store, holding, lambda view: _Part(view, told, backups), told.failed)
    try:
        while not stopping():
            some = False
            for part in parts.now():
                with parts.unless_lost(part.store.number):
                    some |= part.step()
            if some:
                looks.begin_anew()
            elif not looks.wait():
                return
        until = time.monotonic() + drain_s
        some = True
        while some and time.monotonic() < until:
            some = False
            for part in parts.now():
                with parts.unless_lost(part.store.number):
                    some |= part.step() or part.reading.failed
        for part in parts.now():
            part.reading.finish()
    finally:
        parts.close()
        looks.close()


class _Part:
    """One partition as its events are taken here, in two threads."""

    def __init__(self, store: Store, reports: EventsReports, backups: BackupsSeen | None) -> None:
        self.store = store
        self.reading = _Reading(EventsReader(store), reports)
        self._tending = Tending(store, reports, busy=self.reading.is_busy, backups=backups)
        self._tending.start()

    def step(self) -> bool:
        """Take what waits; whether anything did. Raises `LeaseLostError`, `NodeDownError`."""
        taken = self.reading.step()
        if taken is not None and taken.erasures:
            self._tending.look_now()
        return taken is not None

    def close(self) -> None:
        """End the second thread after the piece in hand."""
        self._tending.stop()


class _Reading:
    """Steps, the rests between small ones, and what is told of them."""

    def __init__(self, reader: EventsReader, reports: EventsReports) -> None:
        self._reader = reader
        self._reports = reports
        self._pace = Pace()
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
        except (LeaseLostError, NodeDownError):
            raise
        except Exception as error:  # noqa: BLE001 - the reader outlives any fault; it reports and tries again
            self.failed = True
            self._reports.failed(error)
            time.sleep(RETRY_S)
            return None
        self.failed = False
        self._reports.works()
        if taken is None:
            self._pace.rested()
            return None
        seconds = time.perf_counter() - began
        self._reports.taken(taken, seconds)
        if taken.events:
            self._last_s = time.monotonic()
        time.sleep(self._pace.rest_after(taken.events, seconds, time.monotonic()))
        return taken

    def finish(self) -> None:
        """Leave nothing to be looked at again."""
        try:
            self._reader.finish()
        except Exception as error:  # noqa: BLE001 - the next start looks at it again
            self._reports.failed(error)


class Pace:
    """How long to rest between steps that follow close upon each other, so that requests gather.

    Each step is on disk before the next begins, and that is an fsync. A lone request is taken at once; small
    ones close behind it wait, a little longer each time, as long as something always waits. Where events come
    in so fast, for longer than a moment, that `CLOSED_EVENTS` gather within `GATHERING_S`, a step is to have
    as many: those go into a file at once, and not by way of hot batches, which would write them three times.
    """

    def __init__(self) -> None:
        self._in_a_row = 0
        self._last_s = 0.0
        self._rate = 0.0

    def rested(self) -> None:
        """Nothing waited."""
        self._in_a_row = 0

    def rest_after(self, events: int, seconds: float, now_s: float) -> float:
        """Seconds to rest after a step that took `events` in and lasted so many seconds."""
        since, self._last_s = max(now_s - self._last_s, 1e-6), now_s
        weight = math.exp(-since / RATE_SPAN_S)
        self._rate = self._rate * weight + events / since * (1 - weight)
        if self._rate * GATHERING_S >= CLOSED_EVENTS:
            return max(0.0, CLOSED_EVENTS / self._rate * MARGIN - seconds)
        if not 0 < events < SMALL_STEP_EVENTS:
            self._in_a_row = 0
            return 0.0
        self._in_a_row += 1
        return min(LONGEST_REST_S, SHORTEST_REST_S * 2.0 ** min(self._in_a_row - 1, 16))


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
            except LeaseLostError:  # the other thread is told of it as well, and ends this one
                due = time.monotonic() + RETRY_S
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
