"""The events reader's process: opens the store, takes in events until it is told to stop, and reports.

Settings and inherited descriptors enter; stored events, log lines and metrics leave. While nobody sends
events it holds what a look at the log needs: what closes them into files is loaded when there are any.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Final

from mixdown.fold.events import Taken
from mixdown.fold.events_loop import run_events
from mixdown.http.metrics import EventsMetrics, count_as
from mixdown.server import logs
from mixdown.server.family import METRICS_FOLDER, Inheritance, tell_damage
from mixdown.settings import Settings
from mixdown.store.opening import (
    hear_of_damage,
    holding_of,
    idle_poll_s_of,
    keep_events_for,
    open_store,
    read_for_at_most,
)
from mixdown.store.sqlite.folder import EVENTS_SOCKET, BackupWatch, WakeReceiver

_SWITCH_S: Final = 0.0005  # how long the thread that takes events may wait for the one that closes them


class _Reports:
    """What the loop tells (`fold.events_loop.EventsReports`), as log lines and metrics."""

    def __init__(self, metrics: EventsMetrics) -> None:
        self._metrics = metrics
        self._failing = False

    def taken(self, taken: Taken, seconds: float) -> None:
        self._metrics.taken(events=taken.events, recognised=taken.recognised, seconds=seconds)

    def tended(self, seconds: float) -> None:
        self._metrics.tended(seconds)

    @staticmethod
    def erased(jobs: int, events: int, seconds: float) -> None:
        logs.info("events of people were hidden", jobs=jobs, events=events, seconds=round(seconds, 3))

    def failed(self, error: Exception) -> None:
        self._metrics.fault()
        if not self._failing:  # said once, not every second of a full disk
            self._failing = True
            logs.fault("the events reader failed and tries again every second", error)

    def works(self) -> None:
        if self._failing:
            self._failing = False
            logs.info("the events reader works again")


def _tell_expired(events: int, first_day: str) -> None:
    logs.info("events older than event_retention_days were dropped", events=events, kept_from=first_day)


def run_eventing(settings: Settings, inheritance: Inheritance) -> None:
    """Take events in until SIGTERM, then what waits for at most `shutdown_timeout_s`. Raises `StoreError`."""
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    count_as(inheritance.name, settings.data_dir / METRICS_FOLDER)
    store = open_store(settings, role="events", create=False)
    hear_of_damage(store, tell_damage)
    read_for_at_most(store, 1000 * max(settings.read_timeout_s, settings.sql_timeout_s))
    keep_events_for(store, settings.event_retention_days, _tell_expired)
    try:
        wake = WakeReceiver(settings.data_dir, EVENTS_SOCKET)
        try:
            sys.setswitchinterval(_SWITCH_S)
            inheritance.say_ready()
            run_events(
                store,
                wake,
                stopping=stopping.is_set,
                parent_fd=inheritance.parent_fd,
                drain_s=settings.shutdown_timeout_s,
                reports=_Reports(EventsMetrics()),
                backups=None if settings.on_postgres else BackupWatch(settings.data_dir),
                holding=holding_of(store, "events", inheritance.name),
                idle_poll_s=idle_poll_s_of(store),
            )
        finally:
            wake.close()
    finally:
        store.close()
