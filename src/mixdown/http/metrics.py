"""What `/metrics` counts: each metric declared once, with its type, labels and help.

Workers and the fold count in memory-mapped files of one folder (`PROMETHEUS_MULTIPROC_DIR`), so that any
worker can answer for all and a restarted process goes on where it died. Counts and label values from
closed sets enter; no property value, id, token or message ever does. `docs/operations.md` lists every
metric, and a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from mixdown import __version__
from mixdown.model import texts
from mixdown.store.chunk import Outcome
from mixdown.store.protocols import Store

CHILD_LIMIT: Final = 500
"""Label sets that one metric may have; beyond it everything counts as `other` (bounded memory)."""
OTHER: Final = "other"


class Metric(msgspec.Struct, frozen=True):
    """One declaration. `buckets` are a histogram's upper bounds."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


REQUESTS: Final = Metric(
    "mixdown_requests_total",
    "counter",
    "Requests answered, by endpoint and HTTP status.",
    ("endpoint", "status"),
)
RECORDS: Final = Metric(
    "mixdown_records_total",
    "counter",
    "Records received, by endpoint and outcome (stored or refused).",
    ("endpoint", "outcome"),
)
REFUSALS: Final = Metric("mixdown_refusals_total", "counter", "Refused records, by reason.", ("reason",))
AUXILIARY: Final = Metric(
    "mixdown_auxiliary_discarded_total",
    "counter",
    "Requests to auxiliary SDK paths, answered and discarded, by path.",
    ("path",),
)
AUXILIARY_BYTES: Final = Metric(
    "mixdown_auxiliary_discarded_bytes_total",
    "counter",
    "Bytes of bodies sent to auxiliary SDK paths and discarded, by path.",
    ("path",),
)
COMMIT_SECONDS: Final = Metric(
    "mixdown_commit_seconds",
    "histogram",
    "Time that a group commit took, from its turn at the log until it was on disk.",
    (),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
COMMIT_RECORDS: Final = Metric(
    "mixdown_commit_records",
    "histogram",
    "Records in one group commit.",
    (),
    (1, 2, 5, 10, 50, 100, 500, 1000, 5000, 10_000, 50_000),
)
FOLDED: Final = Metric("mixdown_folded_records_total", "counter", "Records folded into profiles.")
FOLD_SECONDS: Final = Metric(
    "mixdown_fold_seconds",
    "histogram",
    "Time that one fold transaction took.",
    (),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
RECOGNISED: Final = Metric(
    "mixdown_fold_recognised_retries_total", "counter", "Records that the fold recognised as already applied."
)
FOLD_FAILED: Final = Metric(
    "mixdown_fold_failed_records_total", "counter", "Records set aside because applying them failed."
)
FOLD_FAULTS: Final = Metric(
    "mixdown_fold_faults_total", "counter", "Fold transactions that failed as a whole and were tried again."
)
BEHIND: Final = Metric("mixdown_fold_behind_records", "gauge", "Stored records that are not yet folded.")
HEAD: Final = Metric("mixdown_log_head", "gauge", "Position that the next record of the log will get.")
LOG_BYTES: Final = Metric("mixdown_log_bytes", "gauge", "Bytes of the records held in the log.")
KEYS: Final = Metric("mixdown_idempotency_keys", "gauge", "Idempotency keys held.")
KEY_WINDOW: Final = Metric(
    "mixdown_idempotency_window_seconds", "gauge", "Age of the oldest idempotency key held; 0 without keys."
)
WAL: Final = Metric(
    "mixdown_state_wal_bytes", "gauge", "Size of the write-ahead log of state.db; it shrinks at checkpoints."
)
BUILD: Final = Metric("mixdown_build_info", "gauge", "Always 1; the version is in the label.", ("version",))

METRICS: Final[tuple[Metric, ...]] = (
    REQUESTS,
    RECORDS,
    REFUSALS,
    AUXILIARY,
    AUXILIARY_BYTES,
    COMMIT_SECONDS,
    COMMIT_RECORDS,
    FOLDED,
    FOLD_SECONDS,
    RECOGNISED,
    FOLD_FAILED,
    FOLD_FAULTS,
    BEHIND,
    HEAD,
    LOG_BYTES,
    KEYS,
    KEY_WINDOW,
    WAL,
    BUILD,
)


def count_as(slot: str) -> None:
    """Count in the files of `slot` ("worker-0", "fold"), which no other living process uses.

    Call it before the first `Metrics` is made, and only where PROMETHEUS_MULTIPROC_DIR is set. Files
    named by process id, the library's own way, would pile up with every restart.
    """
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


class _Counters:
    """The children of one counter by label values: a dict look-up where the library takes a lock."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._counter = Counter(metric.name, metric.help, metric.labels, registry=registry)
        self._children: dict[tuple[str, ...], Counter] = {}
        self._width = len(metric.labels)

    def add(self, labels: tuple[str, ...], amount: float = 1) -> None:
        child = self._children.get(labels)
        if child is None:
            if len(self._children) >= CHILD_LIMIT:
                labels = (OTHER,) * self._width
            child = self._children[labels] = self._counter.labels(*labels) if labels else self._counter
        child.inc(amount)


def _histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    return Histogram(metric.name, metric.help, buckets=metric.buckets, registry=registry)


class Metrics:
    """What the request path and the commit thread report. Each call takes a few microseconds at most."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._requests = _Counters(REQUESTS, self.registry)
        self._records = _Counters(RECORDS, self.registry)
        self._refusals = _Counters(REFUSALS, self.registry)
        self._auxiliary = _Counters(AUXILIARY, self.registry)
        self._auxiliary_bytes = _Counters(AUXILIARY_BYTES, self.registry)
        self._commit_seconds = _histogram(COMMIT_SECONDS, self.registry)
        self._commit_records = _histogram(COMMIT_RECORDS, self.registry)
        self._statuses = {status: str(status) for status in range(100, 600)}

    def request(self, endpoint: str, status: int) -> None:
        """A request to `endpoint` (a route's own name, never what a client wrote) was answered."""
        self._requests.add((endpoint, self._statuses[status]))

    def records(self, endpoint: str, outcome: Outcome) -> None:
        """The records of one request were judged: how many are stored, how many refused and why."""
        if outcome.good:
            self._records.add((endpoint, "stored"), outcome.good)
        refused = outcome.total - outcome.good
        if refused:
            self._records.add((endpoint, "refused"), refused)
            for _, _, message in outcome.failed:
                self._refusals.add((reason_of(message),))

    def body_refused(self, endpoint: str, message: str) -> None:
        """A body was refused whole, for the reason that `message` tells."""
        self._records.add((endpoint, "refused"))
        self._refusals.add((reason_of(message),))

    def auxiliary(self, path: str, size_bytes: int) -> None:
        """A request to an auxiliary path (one of a fixed list) was answered and its body discarded."""
        self._auxiliary.add((path,))
        self._auxiliary_bytes.add((path,), size_bytes)

    def committed(self, *, requests: int, records: int, seconds: float) -> None:
        """One group commit is on disk (`ingest.commit.CommitMetrics`); `requests` are counted elsewhere."""
        del requests
        self._commit_seconds.observe(seconds)
        self._commit_records.observe(records)


class FoldMetrics:
    """What the fold's process reports."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._folded = _Counters(FOLDED, self.registry)
        self._seconds = _histogram(FOLD_SECONDS, self.registry)
        self._recognised = _Counters(RECOGNISED, self.registry)
        self._failed = _Counters(FOLD_FAILED, self.registry)
        self._faults = _Counters(FOLD_FAULTS, self.registry)

    def folded(self, *, records: int, recognised: int, failed: int, seconds: float) -> None:
        """One fold transaction is written."""
        self._folded.add((), records)
        self._recognised.add((), recognised)
        self._failed.add((), failed)
        self._seconds.observe(seconds)

    def fault(self) -> None:
        """A fold transaction failed as a whole."""
        self._faults.add(())


def _reason_patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for name, text in vars(texts).items():
        if name.isupper() and isinstance(text, str):
            parts = (re.escape(part) for part in re.split(r"\{\w+\}", text))
            yield name.lower(), re.compile(".+".join(parts), re.DOTALL)


_REASONS: Final = tuple(_reason_patterns())
_EXACT_REASONS: Final = {
    text: name.lower() for name, text in vars(texts).items() if name.isupper() and isinstance(text, str)
}


def reason_of(message: str) -> str:
    """The name of an error text in `model.texts`, lower case: a closed set, free of what clients wrote."""
    exact = _EXACT_REASONS.get(message)
    if exact is not None:
        return exact
    return next((name for name, pattern in _REASONS if pattern.fullmatch(message)), OTHER)


class _StoreGauges(Collector):
    """Gauges that are read from the store when somebody asks."""

    def __init__(self, store: Store, folder: Path | None, now_ms: int) -> None:
        self._store = store
        self._folder = folder
        self._now_ms = now_ms

    def collect(self) -> Iterable[Family]:
        head = self._store.log.head()
        keys, oldest_ms = self._store.state.key_window()
        yield _gauge(HEAD, head)
        yield _gauge(BEHIND, max(0, head - self._store.state.watermark()))
        yield _gauge(LOG_BYTES, self._store.log.size_bytes())
        yield _gauge(KEYS, keys)
        yield _gauge(KEY_WINDOW, max(0, self._now_ms - oldest_ms) / 1000 if oldest_ms else 0)
        yield _gauge(WAL, _file_bytes(self._folder / "state.db-wal") if self._folder else 0)
        build = GaugeMetricFamily(BUILD.name, BUILD.help, labels=BUILD.labels)
        build.add_metric([__version__], 1)
        yield build


def _gauge(metric: Metric, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, value=value)


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def exposition(
    metrics: Metrics, store: Store, *, folder: Path | None, shared: Path | None, now_ms: int
) -> bytes:
    """The answer of `/metrics`, in Prometheus' text format. Blocks for some milliseconds.

    Args:
        metrics: this process's own counters, shown where nothing is shared.
        store: what the gauges are read from.
        folder: the data folder, for the size of its files.
        shared: the folder in which all processes of this server count, if they do.
        now_ms: the time, for ages.

    Raises:
        StoreError: the store could not be read.
    """
    registry = CollectorRegistry()
    if shared is not None:
        MultiProcessCollector(registry, path=str(shared))  # type: ignore[no-untyped-call]
        counted = generate_latest(registry)
    else:
        counted = generate_latest(metrics.registry)
    gauges = CollectorRegistry()
    gauges.register(_StoreGauges(store, folder, now_ms))
    return counted + generate_latest(gauges)
