"""The fold's process: wait to be woken, fold until nothing waits, trim the log now and then."""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from mixdown.fold.beside import Steps, no_step
from mixdown.fold.erasure import Eraser
from mixdown.fold.events import take_all
from mixdown.fold.held import Held, Holding
from mixdown.fold.profiles import Folded, ProfileFold
from mixdown.fold.upkeep import Counting, HistoryKept, HistoryUpkeep, LookupUpkeep
from mixdown.model.errors import LeaseLostError, NodeDownError, StoreError
from mixdown.store.places import all_views
from mixdown.store.protocols import Store

POLL_S: Final = 0.05
EMPTY_LOOKS: Final = 40
"""After so many looks in a row that found nothing they become rarer, where they are dear."""
TRIM_EVERY_S: Final = 60.0
RETRY_S: Final = 1.0
SMALL_STEP_RECORDS: Final = 128
SHORTEST_REST_S: Final = 0.0001
LONGEST_REST_S: Final = 0.005
_HISTORY: Final = HistoryKept()


class Wake(Protocol):
    """Something a worker can nudge (`store.sqlite.folder.WakeReceiver`)."""

    def fileno(self) -> int:
        """What to wait on."""

    def drain(self) -> object:
        """Take the nudges that have come."""


class FoldEvents(Protocol):
    """Where the loop reports what happened (logs, metrics)."""

    def folded(self, folded: Folded, seconds: float) -> None:
        """A transaction is written."""

    def rested(self) -> None:
        """Nothing waits."""

    def erased(self, jobs: int, people: int, records: int, seconds: float) -> None:
        """Jobs that erase people are done."""

    def failed(self, error: Exception) -> None:
        """A step, the trimming of the log, or an erasure, failed as a whole; it is tried again."""


class BackupsSeen(Protocol):
    """What backups ask of the fold (`store.sqlite.folder.BackupWatch`)."""

    def running(self) -> bool:
        """Whether one copies: the log is not trimmed then."""

    def presses(self) -> bool:
        """Whether folding on would make the state's WAL grow past its bound."""


def run_fold(  # noqa: PLR0913 - each is one thing that the process has
    store: Store,
    wake: Wake,
    *,
    stopping: Callable[[], bool],
    parent_fd: int | None = None,
    retention_ms: int,
    drain_s: float = 5.0,
    events: FoldEvents | None = None,
    backups: BackupsSeen | None = None,
    history: HistoryKept = _HISTORY,
    holding: Holding | None = None,
    idle_poll_s: float = 0.0,
) -> None:
    """Fold until `stopping()` says so (then catch up for at most `drain_s`) or the supervisor is gone.

    `parent_fd` is the read end of a pipe that the supervisor holds open. A step that fails as a
    whole (a full disk) is tried again every second; nothing is lost meanwhile. `holding` says which
    partitions are folded here; without it all are. `idle_poll_s` is how rarely it may look while nothing
    comes and nobody wakes it.
    """
    trimmed = time.monotonic()
    pace = _Pace()
    looks = Looks(wake, parent_fd, idle_poll_s)
    if holding is not None and events is not None:
        events = _InTurn(events)
    failed = events.failed if events is not None else _untold
    parts = Held(store, holding, lambda view: _Part(view, history, events), failed)
    steps = Steps(store, failed)
    try:
        while not stopping():
            held = backups is not None and backups.presses()
            records = 0
            more = False
            now = parts.now()
            for part, step in [(part, no_step) for part in now] if held else steps.of(now):
                with parts.unless_lost(part.store.number):
                    folded = step()
                    more |= part.go_on(busy=folded > 0, held=held)
                    records += folded
            pace.rest_after(records)
            if records:
                looks.begin_anew()
            else:
                if events is not None:
                    events.rested()
                if not looks.wait(at_once=more):
                    return
            if time.monotonic() - trimmed > TRIM_EVERY_S:
                trimmed = time.monotonic()
                _trim_all(parts, retention_ms, events, backups)
        _drain(parts, steps, drain_s)
    finally:
        steps.close()
        parts.close()
        looks.close()


def _trim_all(
    parts: Held[_Part], retention_ms: int, events: FoldEvents | None, backups: BackupsSeen | None
) -> None:
    """Trim the logs of all partitions, unless a backup copies."""
    if backups is None or not backups.running():
        for part in parts.now():
            _trim(part.store, retention_ms, events)


def _drain(parts: Held[_Part], steps: Steps, drain_s: float) -> None:
    """Fold what waits, for so long at most."""
    until = time.monotonic() + drain_s
    records = 1
    while records and time.monotonic() < until:
        records = 0
        for part, step in steps.of(parts.now()):
            with parts.unless_lost(part.store.number):
                records += step()


class _Part:
    """One partition as it is folded here."""

    def __init__(self, store: Store, history: HistoryKept, events: FoldEvents | None) -> None:
        failed = _but_for_lost_leases(events.failed if events is not None else _untold)
        self.store = store
        self._events = events
        self._fold = ProfileFold(store, history=history.days > 0)
        self._counting = Counting(store, failed)
        self._history = HistoryUpkeep(store, history, failed)
        self._tables = LookupUpkeep(store, failed) if store.number == 0 else None
        self._eraser = Eraser(store, events=events)

    def step(self) -> int:
        """Fold once; how many records. Raises `LeaseLostError`, `NodeDownError`."""
        return _step(self._fold, self._events)

    def waits(self, head: int) -> bool:
        """Whether there is something to fold, when the log ends at `head`."""
        return self._fold.waits(head)

    def go_on(self, *, busy: bool, held: bool) -> bool:
        """What is done between two steps; whether there is more of it at once.

        While a backup holds the fold back nothing that fills the state's WAL.
        """
        more = not held and self._counting.go_on(busy=busy)
        more |= not held and self._history.go_on(busy=busy)
        if self._tables is not None:
            more |= self._tables.go_on(busy=busy)
        return more | self._eraser.go_on(busy=busy)

    def close(self) -> None:
        """This partition is folded here no more."""
        self._fold.close()


class _InTurn:
    """Tells what several threads do, one thing at a time (`FoldEvents`)."""

    def __init__(self, events: FoldEvents) -> None:
        self._events = events
        self._telling = threading.Lock()

    def folded(self, folded: Folded, seconds: float) -> None:
        with self._telling:
            self._events.folded(folded, seconds)

    def rested(self) -> None:
        with self._telling:
            self._events.rested()

    def erased(self, jobs: int, people: int, records: int, seconds: float) -> None:
        with self._telling:
            self._events.erased(jobs, people, records, seconds)

    def failed(self, error: Exception) -> None:
        with self._telling:
            self._events.failed(error)


def _but_for_lost_leases(failed: Callable[[Exception], None]) -> Callable[[Exception], None]:
    """Whom faults are told to; that another process has a partition now is none."""

    def tell(error: Exception) -> None:
        if not isinstance(error, LeaseLostError):
            failed(error)

    return tell


def _untold(error: Exception) -> None:
    """Where nobody asked to be told; what failed is tried again."""
    del error


class Looks:
    """How long to wait before the next look, while nothing comes; on a cluster each is a task for each part.

    `longest_s` bounds how long records wait that other machines have taken.
    """

    def __init__(self, wake: Wake, parent_fd: int | None, longest_s: float) -> None:
        self._wake = wake
        self._longest_s = longest_s
        self._empty = 0
        self._selector = selectors.DefaultSelector()
        self._selector.register(wake.fileno(), selectors.EVENT_READ, "wake")
        if parent_fd is not None:
            self._selector.register(parent_fd, selectors.EVENT_READ, "parent")

    def begin_anew(self) -> None:
        """Something came, or is said to come."""
        self._empty = 0

    def wait(self, *, at_once: bool = False) -> bool:
        """The last look found nothing: wait for the next, or to be woken; false where the parent is gone."""
        ready = {key.data for key, _ in self._selector.select(0 if at_once else self._pause_s())}
        if "wake" in ready:
            self._wake.drain()
            self.begin_anew()
        return "parent" not in ready

    def close(self) -> None:
        """No look comes any more."""
        self._selector.close()

    def _pause_s(self) -> float:
        self._empty += 1
        if self._empty <= EMPTY_LOOKS:
            return POLL_S
        return max(POLL_S, min(self._longest_s, POLL_S * 2.0 ** min(self._empty - EMPTY_LOOKS, 16)))


class _Pace:
    """Rests between small steps that follow close upon each other, a little longer each time.

    A transaction costs as much for one record as for dozens. While many small requests come in, a rest lets
    them gather and leaves the processor to the workers; a lone record, or what makes a step of more than
    that, is folded at once: there a rest gains little, and whoever reads waits for it.
    """

    def __init__(self) -> None:
        self._in_a_row = 0

    def rest_after(self, records: int) -> None:
        """A step folded so many records; 0 when nothing waited."""
        if not records:
            self._in_a_row = 0
        elif records < SMALL_STEP_RECORDS:
            self._in_a_row += 1
            time.sleep(min(LONGEST_REST_S, SHORTEST_REST_S * 2.0 ** min(self._in_a_row, 16)))


def _step(fold: ProfileFold, events: FoldEvents | None) -> int:
    """Fold once; how many records. Raises `LeaseLostError`, `NodeDownError`."""
    began = time.perf_counter()
    try:
        folded = fold.step()
    except (LeaseLostError, NodeDownError):
        raise
    except Exception as error:  # noqa: BLE001 - the fold outlives any fault; it reports and tries again
        if events is not None:
            events.failed(error)
        time.sleep(RETRY_S)
        return 0
    if folded is None:
        return 0
    if events is not None:
        events.folded(folded, time.perf_counter() - began)
    return folded.records


def _trim(store: Store, retention_ms: int, events: FoldEvents | None) -> None:
    """Trim the log; what fails (a full disk) is tried again a minute later."""
    try:
        trim(store, retention_ms=retention_ms, now_ms=time.time_ns() // 1_000_000)
    except StoreError as error:
        if events is not None:
            events.failed(error)


def catch_up(store: Store, *, history: bool = True) -> int:
    """Fold all that waits, and take its events, in this process (no server runs); how many records.

    With or without `history`. Raises `StoreError`.
    """
    records = 0
    for view in all_views(store):
        take_all(view)
        fold = ProfileFold(view, history=history)
        while (folded := fold.step()) is not None:
            records += folded.records
    return records


def trim(store: Store, *, retention_ms: int, now_ms: int) -> int:
    """Drop chunks older than the retention, never past what both readers have on disk (DESIGN §4)."""
    below = min(store.state.checkpoint(), store.events.watermark())
    return store.log.trim(below, now_ms - retention_ms)
