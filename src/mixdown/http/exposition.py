"""What `/metrics` answers: the counts of all processes, and gauges read from the store when asked.

A store, the settings and the counters enter; Prometheus' text format leaves. It blocks for some
milliseconds, so it runs beside the event loop.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from mixdown import __version__
from mixdown.http import metrics as declared
from mixdown.http.tally import Labels, Metric
from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.settings import Settings
from mixdown.store import bounds
from mixdown.store.chunk import FOR_EVENTS, FOR_PROFILES
from mixdown.store.places import backlog_of
from mixdown.store.protocols import Store

DATABASES: Final = ("log.db", "state.db", "events.db", "catalog.db", "scratch.db")


class Seen(msgspec.Struct, frozen=True):
    """What the gauges tell about: the store, how it is set, the time (ms), whether writes are taken."""

    store: Store
    settings: Settings
    now_ms: int
    ready: bool


def exposition(counters: CollectorRegistry, shared: Path | None, seen: Seen) -> bytes:
    """The answer of `/metrics`, in Prometheus' text format.

    Args:
        counters: this process's own counters, shown where nothing is shared.
        shared: the folder in which all processes of this server count, if they do.
        seen: what the gauges are made of.

    Raises:
        StoreError: the store could not be read.
    """
    registry = CollectorRegistry()
    if shared is not None:
        MultiProcessCollector(registry, path=str(shared))  # type: ignore[no-untyped-call]
        counted = generate_latest(registry)
    else:
        counted = generate_latest(counters)
    gauges = CollectorRegistry()
    gauges.register(_Gauges(seen))
    return counted + generate_latest(gauges)


def key_window_s(held: int, oldest_ms: int, now_ms: int) -> float:
    """How far back a retry with a key is surely recognised (DESIGN G2: 7 days or 50 M keys).

    Keys go by number a bucket at a time: only where no more than one bucket is missing may any have gone.
    """
    if held <= bounds.KEYS_HELD - bounds.KEYS_PER_BUCKET:
        return KEY_WINDOW_MS / 1000
    return max(0, min(KEY_WINDOW_MS, now_ms - oldest_ms)) / 1000


class _Gauges(Collector):
    """Read from the store and the data folder when somebody asks."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def collect(self) -> Iterable[Family]:
        settings = self._seen.settings
        yield _gauge(declared.READY, int(self._seen.ready))
        yield from self._log()
        yield from self._events()
        yield _gauge(declared.LIMIT_RECORDS, settings.backlog_limit_records)
        yield _gauge(declared.LIMIT_BYTES, settings.backlog_limit_bytes)
        keys, oldest_ms = self._seen.store.state.key_window()
        yield _gauge(declared.KEYS, keys)
        yield _gauge(declared.KEY_WINDOW, key_window_s(keys, oldest_ms, self._seen.now_ms))
        history = self._seen.store.state.history_size()
        yield _gauge(declared.HISTORY_BYTES, history.size_bytes)
        yield _gauge(declared.HISTORY_SEGMENTS, history.segments)
        reach_ms = 0 if history.since_ms is None else self._seen.now_ms - history.since_ms
        yield _gauge(declared.HISTORY_SECONDS, max(0, reach_ms) / 1000)
        yield from self._files()
        versions = ((__version__, platform.python_version()), 1.0)
        yield _labelled(declared.BUILD, [versions])

    def _log(self) -> Iterator[Family]:
        store, now_ms = self._seen.store, self._seen.now_ms
        logs = store.logs()
        fold, events = backlog_of(store, FOR_PROFILES), backlog_of(store, FOR_EVENTS)
        yield _gauge(declared.HEAD, logs.records)
        yield _gauge(declared.BEHIND, fold.records)
        yield _gauge(declared.BEHIND_BYTES, fold.size_bytes)
        yield _gauge(declared.BEHIND_SECONDS, _since(fold.oldest_ms, now_ms))
        yield _gauge(declared.EVENTS_BEHIND, events.records)
        yield _gauge(declared.EVENTS_BEHIND_BYTES, events.size_bytes)
        yield _gauge(declared.EVENTS_BEHIND_SECONDS, _since(events.oldest_ms, now_ms))
        yield _gauge(declared.LOG_BYTES, logs.size_bytes)
        yield _gauge(declared.LOG_DAMAGED, logs.damaged)
        yield _gauge(declared.CLOCK_AHEAD, max(0, logs.newest_ms - now_ms) / 1000)

    def _events(self) -> Iterator[Family]:
        size = self._seen.store.events.size()
        held = [(("hot",), float(size.hot_events)), (("files",), float(size.file_events))]
        yield _labelled(declared.EVENTS_HELD, held)
        stored = [(("hot",), float(size.hot_bytes)), (("files",), float(size.file_bytes))]
        yield _labelled(declared.EVENTS_BYTES, stored)
        files = [("listed", size.files), ("waiting", size.waiting), ("removable", size.removable)]
        yield _labelled(declared.EVENTS_FILES, [((state,), float(count)) for state, count in files])
        yield _gauge(declared.EVENTS_DEAD, size.dead)

    def _files(self) -> Iterator[Family]:
        folder = self._seen.settings.data_dir
        databases = [((name,), _file_bytes(folder / name)) for name in DATABASES]
        wals = [((name,), _file_bytes(folder / f"{name}-wal")) for name in DATABASES]
        yield _labelled(declared.DATABASE, databases)
        yield _labelled(declared.WAL, wals)
        try:
            disk = os.statvfs(folder)
        except OSError:
            return
        settings = self._seen.settings
        reserve = disk.f_blocks * disk.f_frsize * settings.disk_reserve_percent // 100
        yield _gauge(declared.DISK_FREE, disk.f_bavail * disk.f_frsize)
        yield _gauge(declared.DISK_RESERVE, max(settings.disk_reserve_bytes, reserve))


def _since(oldest_ms: int, now_ms: int) -> float:
    """For how many seconds the oldest that waits has done so."""
    return max(0, now_ms - oldest_ms) / 1000 if oldest_ms else 0.0


def _gauge(metric: Metric, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, value=value)


def _labelled(metric: Metric, values: Iterable[tuple[Labels, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
