"""The fold's process: wait to be woken, fold until nothing waits, trim the log now and then."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from typing import Final, Protocol

from mixdown.fold.erasure import Eraser
from mixdown.fold.events import take_all
from mixdown.fold.profiles import Folded, ProfileFold
from mixdown.fold.upkeep import Counting, HistoryKept, HistoryUpkeep, LookupUpkeep
from mixdown.model.errors import StoreError
from mixdown.store.protocols import Store

POLL_S: Final = 0.05
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
) -> None:
    """Fold until `stopping()` says so (then catch up for at most `drain_s`) or the supervisor is gone.

    `parent_fd` is the read end of a pipe that the supervisor holds open. A step that fails as a
    whole (a full disk) is tried again every second; nothing is lost meanwhile.
    """
    fold = ProfileFold(store, history=history.days > 0)
    selector = selectors.DefaultSelector()
    selector.register(wake.fileno(), selectors.EVENT_READ, "wake")
    if parent_fd is not None:
        selector.register(parent_fd, selectors.EVENT_READ, "parent")
    trimmed = time.monotonic()
    pace = _Pace()
    failed = events.failed if events is not None else _untold
    counting = Counting(store, failed)
    upkeep = HistoryUpkeep(store, history, failed)
    tables = LookupUpkeep(store, failed)
    eraser = Eraser(store, events=events)
    try:
        while not stopping():
            held = backups is not None and backups.presses()
            records = 0 if held else _step(fold, events)
            pace.rest_after(records)
            more = not held and counting.go_on(busy=records > 0)
            more |= not held and upkeep.go_on(busy=records > 0)
            more |= tables.go_on(busy=records > 0)
            more |= eraser.go_on(busy=records > 0)
            if not records:
                if events is not None:
                    events.rested()
                ready = {key.data for key, _ in selector.select(0 if more else POLL_S)}
                if "parent" in ready:
                    return
                if "wake" in ready:
                    wake.drain()
            if time.monotonic() - trimmed > TRIM_EVERY_S:
                trimmed = time.monotonic()
                if backups is None or not backups.running():
                    _trim(store, retention_ms, events)
        until = time.monotonic() + drain_s
        while time.monotonic() < until and _step(fold, events):
            pass
    finally:
        selector.close()


def _untold(error: Exception) -> None:
    """Where nobody asked to be told; what failed is tried again."""
    del error


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
    """Fold once; how many records."""
    began = time.perf_counter()
    try:
        folded = fold.step()
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
    take_all(store)
    fold = ProfileFold(store, history=history)
    records = 0
    while (folded := fold.step()) is not None:
        records += folded.records
    return records


def trim(store: Store, *, retention_ms: int, now_ms: int) -> int:
    """Drop chunks older than the retention, never past what both readers have on disk (DESIGN §4)."""
    below = min(store.state.checkpoint(), store.events.watermark())
    return store.log.trim(below, now_ms - retention_ms)
