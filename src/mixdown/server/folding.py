"""The fold's process: opens the store, folds until it is told to stop, reports what it did.

Settings and inherited descriptors enter; profiles, log lines and metrics leave.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Final

from mixdown.fold.loop import run_fold
from mixdown.fold.profiles import Folded
from mixdown.fold.upkeep import HistoryKept
from mixdown.http.metrics import FoldMetrics, count_as
from mixdown.server import logs, memory, telemetry
from mixdown.server.family import METRICS_FOLDER, Inheritance, tell_damage
from mixdown.settings import Settings
from mixdown.store.opening import hear_of_damage, holding_of, idle_poll_s_of, open_store
from mixdown.store.sqlite.folder import BackupWatch, WakeReceiver, fold_socket

if TYPE_CHECKING:
    from mixdown.server.tracing import Tracing

_HOUR_MS = 3_600_000
_GB = 1_000_000_000
# Updates and documents form no cycles: looking for some among 100,000 records would take a tenth of the time.
_GC_THRESHOLDS: Final = (100_000, 50, 1000)
_SWITCH_S: Final = 0.0005  # how long the writing thread may wait for the folding one, at each statement


class _Reports:
    """What the loop tells (`fold.loop.FoldEvents`), as log lines and metrics."""

    def __init__(self, metrics: FoldMetrics, tracing: Tracing | None) -> None:
        self._metrics = metrics
        self._tracing = tracing
        self._failing = False
        self._since_given_back = 0

    def folded(self, folded: Folded, seconds: float) -> None:
        self._metrics.folded(
            records=folded.records,
            profiles=folded.profiles,
            recognised=folded.recognised,
            recognised_by_request=folded.recognised_by_request,
            failed=folded.failed,
            seconds=seconds,
        )
        if folded.links is not None:
            made, failed, undone = folded.links
            self._metrics.linked(made=made, failed=failed, undone=undone)
        if self._tracing is not None:
            self._tracing.folded(folded, seconds)
        if folded.failed:
            logs.error("records could not be applied and are kept as refusals", records=folded.failed)
        if self._failing:
            self._failing = False
            logs.info("the fold works again")
        self._since_given_back += folded.records

    def rested(self) -> None:
        """Give back what many records have left of free memory."""
        if self._since_given_back >= memory.WORTH_RECORDS:
            self._since_given_back = 0
            memory.give_back()

    @staticmethod
    def erased(jobs: int, people: int, records: int, seconds: float) -> None:
        logs.info("people were erased", jobs=jobs, people=people, records=records, seconds=round(seconds, 3))

    def failed(self, error: Exception) -> None:
        self._metrics.fault()
        if not self._failing:  # said once, not every second of a full disk
            self._failing = True
            logs.fault("the fold failed and tries again every second", error)


def run_folding(settings: Settings, inheritance: Inheritance) -> None:
    """Fold until SIGTERM, then fold what waits for at most `shutdown_timeout_s`. Raises `StoreError`."""
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    if settings.on_postgres:
        memory.keep_blocks_of_statements()
    else:
        memory.give_large_blocks_pages_of_their_own()
    count_as(inheritance.name, settings.data_dir / METRICS_FOLDER)
    tracing = telemetry.begin(inheritance.name, os.environ)
    store = open_store(settings, role="fold", create=False)
    hear_of_damage(store, tell_damage)
    try:
        number = int(inheritance.name.partition("-")[2] or 0)
        wake = WakeReceiver(settings.data_dir, fold_socket(number))
        try:
            gc.freeze()
            gc.set_threshold(*_GC_THRESHOLDS)
            sys.setswitchinterval(_SWITCH_S)
            inheritance.say_ready()
            run_fold(
                store,
                wake,
                stopping=stopping.is_set,
                parent_fd=inheritance.parent_fd,
                retention_ms=settings.log_retention_hours * _HOUR_MS,
                drain_s=settings.shutdown_timeout_s,
                events=_Reports(FoldMetrics(), tracing),
                backups=None if settings.on_postgres else BackupWatch(settings.data_dir),
                history=HistoryKept(settings.history_retention_days, settings.history_limit_gb * _GB),
                holding=holding_of(store, "fold", inheritance.name),
                idle_poll_s=idle_poll_s_of(store),
            )
        finally:
            wake.close()
    finally:
        store.close()
        if tracing is not None:
            tracing.close()
