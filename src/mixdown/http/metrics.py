"""What `/metrics` counts: each metric declared once, with its type, labels and help; who reports what.

Counts and label values from closed sets enter; no property value, id, token or message ever does.
`docs/operations.md` lists every metric, and a test holds the two together. How it is counted:
`http.tally`; what is read from the store when somebody asks: `http.exposition`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from prometheus_client import CollectorRegistry

from mixdown.http.tally import CHILD_LIMIT, OTHER, Add, Counters, Gauges, Histograms, Metric, count_as
from mixdown.model import texts
from mixdown.store.chunk import Outcome

__all__ = [
    "CHILD_LIMIT",
    "METRICS",
    "EventsMetrics",
    "FoldMetrics",
    "Metric",
    "Metrics",
    "SupervisorMetrics",
    "count_as",
]

_COMMIT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_REQUEST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_REQUEST_RECORDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_COMMIT_RECORDS: Final = (1, 2, 5, 10, 50, 100, 500, 1000, 5000, 10_000, 50_000)
_FOLD_RECORDS: Final = (1, 10, 50, 100, 500, 1000, 5000, 10_000, 20_000, 50_000, 100_000)
_TENDING_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COMMIT_REQUESTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

REQUESTS: Final = Metric(
    "mixdown_requests_total",
    "counter",
    "Requests answered, by endpoint and HTTP status.",
    ("endpoint", "status"),
)
REQUEST_SECONDS: Final = Metric(
    "mixdown_request_seconds",
    "histogram",
    "Time from a request's headers to its reply, its body's arrival included, by endpoint.",
    ("endpoint",),
    _REQUEST_S,
)
REQUEST_RECORDS: Final = Metric(
    "mixdown_request_records",
    "histogram",
    "Records in one request, by endpoint.",
    ("endpoint",),
    _REQUEST_RECORDS,
)
RECORDS: Final = Metric(
    "mixdown_records_total",
    "counter",
    "Records received, by endpoint and outcome (stored or refused).",
    ("endpoint", "outcome"),
)
REFUSALS: Final = Metric("mixdown_refusals_total", "counter", "Refused records, by reason.", ("reason",))
LIMITED: Final = Metric(
    "mixdown_rate_limited_requests_total",
    "counter",
    "Requests answered with 429, by the limit that was reached (records, requests or queries) and project.",
    ("limit", "project"),
)
PROTOCOL_REFUSALS: Final = Metric(
    "mixdown_protocol_refusals_total",
    "counter",
    "Requests refused before any endpoint saw them, by HTTP status: 400, 405, 408, 414, 431, "
    "and 503 for connections beyond the limit.",
    ("status",),
)
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
CONNECTIONS: Final = Metric(
    "mixdown_connections_open", "gauge", "Connections open at the workers, as of the last second."
)
RECOGNISED_REQUESTS: Final = Metric(
    "mixdown_recognised_requests_total",
    "counter",
    "Requests that got the first one's reply and were not stored again, by what they were known by: "
    "their Idempotency-Key (key), or as a browser's own repetition (browser).",
    ("kind",),
)
COMMIT_SECONDS: Final = Metric(
    "mixdown_commit_seconds",
    "histogram",
    "Time that a group commit took, from its turn at the log until it was on disk.",
    (),
    _COMMIT_S,
)
COMMIT_RECORDS: Final = Metric(
    "mixdown_commit_records", "histogram", "Records in one group commit.", (), _COMMIT_RECORDS
)
COMMIT_REQUESTS: Final = Metric(
    "mixdown_commit_requests", "histogram", "Requests in one group commit.", (), _COMMIT_REQUESTS
)
FOLDED: Final = Metric("mixdown_folded_records_total", "counter", "Records folded into profiles.")
FOLDED_PROFILES: Final = Metric(
    "mixdown_folded_profiles_total", "counter", "Profiles written by fold transactions."
)
FOLD_SECONDS: Final = Metric(
    "mixdown_fold_seconds", "histogram", "Time that one fold transaction took.", (), _COMMIT_S
)
FOLD_RECORDS: Final = Metric(
    "mixdown_fold_records", "histogram", "Records in one fold transaction.", (), _FOLD_RECORDS
)
RECOGNISED: Final = Metric(
    "mixdown_fold_recognised_retries_total",
    "counter",
    "Records that the fold recognised as already applied, by what carried the key: the record "
    "($insert_id) or its whole request (Idempotency-Key).",
    ("kind",),
)
FOLD_FAILED: Final = Metric(
    "mixdown_fold_failed_records_total", "counter", "Records set aside because applying them failed."
)
LINKS: Final = Metric(
    "mixdown_identity_links_total",
    "counter",
    "Links between ids that events asked for: made, failed (each pair once while the fold remembers it), or "
    "undone by an unmerge.",
    ("outcome",),
)
FOLD_FAULTS: Final = Metric(
    "mixdown_fold_faults_total", "counter", "Fold transactions that failed as a whole and were tried again."
)
EVENTS_STORED: Final = Metric(
    "mixdown_events_stored_total", "counter", "Events that the events reader took from the log."
)
EVENTS_RECOGNISED: Final = Metric(
    "mixdown_events_recognised_retries_total",
    "counter",
    "Events of requests that the events reader knew by their Idempotency-Key and left out.",
)
EVENTS_SECONDS: Final = Metric(
    "mixdown_events_seconds", "histogram", "Time that one step of the events reader took.", (), _COMMIT_S
)
EVENTS_STEP: Final = Metric(
    "mixdown_events_step_records", "histogram", "Events in one step of the events reader.", (), _FOLD_RECORDS
)
EVENTS_TENDING: Final = Metric(
    "mixdown_events_tending_seconds",
    "histogram",
    "Time of one piece of closing, splitting, merging or unlinking files of events.",
    (),
    _TENDING_S,
)
EVENTS_FAULTS: Final = Metric(
    "mixdown_events_faults_total",
    "counter",
    "Steps of the events reader, or pieces of its upkeep, that failed as a whole and were tried again.",
)
PROCESS_UP: Final = Metric(
    "mixdown_process_up", "gauge", "1 while a process of the server lives, 0 while it does not.", ("process",)
)
PROCESS_START: Final = Metric(
    "mixdown_process_start_time_seconds", "gauge", "When a process started, in Unix time.", ("process",)
)
PROCESS_RESTARTS: Final = Metric(
    "mixdown_process_restarts_total", "counter", "Processes that died and were started again.", ("process",)
)
CERTIFICATE_END: Final = Metric(
    "mixdown_tls_certificate_expiry_timestamp_seconds",
    "gauge",
    "When the TLS certificate in use ends, in Unix time; 0 without one.",
)
READY: Final = Metric("mixdown_ready", "gauge", "1 while records can be stored, as `/readyz` says, else 0.")
BEHIND: Final = Metric("mixdown_fold_behind_records", "gauge", "Stored records that are not yet folded.")
BEHIND_BYTES: Final = Metric(
    "mixdown_fold_behind_bytes", "gauge", "Bytes of the log that are not yet folded, estimated."
)
BEHIND_SECONDS: Final = Metric(
    "mixdown_fold_behind_seconds", "gauge", "Age of the oldest stored record that is not yet folded; 0: none."
)
EVENTS_BEHIND: Final = Metric(
    "mixdown_events_behind_records",
    "gauge",
    "Stored records behind the place to which the events reader has come; 0 where no event is among them.",
)
EVENTS_BEHIND_BYTES: Final = Metric(
    "mixdown_events_behind_bytes", "gauge", "Bytes of the log behind that place, estimated."
)
EVENTS_BEHIND_SECONDS: Final = Metric(
    "mixdown_events_behind_seconds",
    "gauge",
    "Age of the oldest event in the log that is not yet taken from it; 0: none.",
)
EVENTS_HELD: Final = Metric(
    "mixdown_events_held",
    "gauge",
    "Events held, hot in events.db and in files; those sent twice count twice until they meet.",
    ("part",),
)
EVENTS_BYTES: Final = Metric(
    "mixdown_events_bytes", "gauge", "Bytes of the events held, hot in events.db and in files.", ("part",)
)
EVENTS_FILES: Final = Metric(
    "mixdown_events_files",
    "gauge",
    "Files of events: listed, waiting to be split or merged (waiting), or to be unlinked (removable).",
    ("state",),
)
EVENTS_DEAD: Final = Metric(
    "mixdown_events_hidden_rows",
    "gauge",
    "Rows of files that count as not there: sent again, or erased. They go when their file is written anew.",
)
LIMIT_RECORDS: Final = Metric(
    "mixdown_backlog_limit_records",
    "gauge",
    "The setting backlog_limit_records: so many may wait for the fold, or for the events reader.",
)
LIMIT_BYTES: Final = Metric(
    "mixdown_backlog_limit_bytes",
    "gauge",
    "The setting backlog_limit_bytes: so many may wait for the fold, or for the events reader.",
)
HEAD: Final = Metric("mixdown_log_head", "gauge", "Position that the next record of the log will get.")
LOG_BYTES: Final = Metric("mixdown_log_bytes", "gauge", "Bytes of the records held in the log.")
LOG_DAMAGED: Final = Metric(
    "mixdown_log_damaged_chunks", "gauge", "Chunks of the log set aside because they could not be read."
)
CLOCK_AHEAD: Final = Metric(
    "mixdown_log_clock_ahead_seconds",
    "gauge",
    "How far the log's time is ahead of the clock; above 0 after the clock was set back.",
)
KEYS: Final = Metric("mixdown_idempotency_keys", "gauge", "Idempotency keys held.")
KEY_WINDOW: Final = Metric(
    "mixdown_idempotency_window_seconds",
    "gauge",
    "How far back retries with a key are recognised: 7 days, less while 50 million keys come in sooner.",
)
HISTORY_BYTES: Final = Metric(
    "mixdown_history_bytes", "gauge", "Size of the history of profiles, within the file state."
)
HISTORY_SEGMENTS: Final = Metric(
    "mixdown_history_segments", "gauge", "Segments of history: a read of one profile looks into each."
)
HISTORY_SECONDS: Final = Metric(
    "mixdown_history_reach_seconds",
    "gauge",
    "How far back the history of profiles reaches, counted from 1970 where nothing was ever forgotten.",
)
DATABASE: Final = Metric("mixdown_database_bytes", "gauge", "Size of a database file, by file.", ("file",))
WAL: Final = Metric(
    "mixdown_wal_bytes",
    "gauge",
    "Size of a database's write-ahead log, by file; it shrinks at checkpoints.",
    ("file",),
)
DISK_FREE: Final = Metric(
    "mixdown_disk_free_bytes", "gauge", "Free space on the disk of the data folder, for this user."
)
DISK_RESERVE: Final = Metric(
    "mixdown_disk_reserve_bytes", "gauge", "Free space below which writes are answered with 503."
)
BUILD: Final = Metric(
    "mixdown_build_info", "gauge", "Always 1; the versions are in the labels.", ("version", "python")
)

METRICS: Final[tuple[Metric, ...]] = (
    REQUESTS,
    REQUEST_SECONDS,
    REQUEST_RECORDS,
    RECORDS,
    REFUSALS,
    LIMITED,
    PROTOCOL_REFUSALS,
    AUXILIARY,
    AUXILIARY_BYTES,
    CONNECTIONS,
    RECOGNISED_REQUESTS,
    COMMIT_SECONDS,
    COMMIT_RECORDS,
    COMMIT_REQUESTS,
    FOLDED,
    FOLDED_PROFILES,
    FOLD_SECONDS,
    FOLD_RECORDS,
    RECOGNISED,
    FOLD_FAILED,
    LINKS,
    FOLD_FAULTS,
    EVENTS_STORED,
    EVENTS_RECOGNISED,
    EVENTS_SECONDS,
    EVENTS_STEP,
    EVENTS_TENDING,
    EVENTS_FAULTS,
    PROCESS_UP,
    PROCESS_START,
    PROCESS_RESTARTS,
    CERTIFICATE_END,
    READY,
    BEHIND,
    BEHIND_BYTES,
    BEHIND_SECONDS,
    EVENTS_BEHIND,
    EVENTS_BEHIND_BYTES,
    EVENTS_BEHIND_SECONDS,
    EVENTS_HELD,
    EVENTS_BYTES,
    EVENTS_FILES,
    EVENTS_DEAD,
    LIMIT_RECORDS,
    LIMIT_BYTES,
    HEAD,
    LOG_BYTES,
    LOG_DAMAGED,
    CLOCK_AHEAD,
    KEYS,
    KEY_WINDOW,
    HISTORY_BYTES,
    HISTORY_SEGMENTS,
    HISTORY_SECONDS,
    DATABASE,
    WAL,
    DISK_FREE,
    DISK_RESERVE,
    BUILD,
)


class Metrics:
    """What a worker's event loop and commit thread report."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        both = [(endpoint, outcome) for endpoint in _WRITTEN for outcome in ("stored", "refused")]
        self._requests = Counters(REQUESTS, self.registry)
        self._request_seconds = Histograms(REQUEST_SECONDS, self.registry)
        self._request_records = Histograms(REQUEST_RECORDS, self.registry)
        self._records = Counters(RECORDS, self.registry, both)
        self._refusals = Counters(REFUSALS, self.registry)
        self._limited = Counters(LIMITED, self.registry)
        self._protocol = Counters(PROTOCOL_REFUSALS, self.registry, [(each,) for each in _PROTOCOL_STATUSES])
        self._auxiliary = Counters(AUXILIARY, self.registry)
        self._auxiliary_bytes = Counters(AUXILIARY_BYTES, self.registry)
        self._connections = Gauges(CONNECTIONS, self.registry, over="sum")
        self._certificate_end = Gauges(CERTIFICATE_END, self.registry, over="max")
        self._recognised = Counters(RECOGNISED_REQUESTS, self.registry, [("key",), ("browser",)])
        self._commit_seconds = Histograms(COMMIT_SECONDS, self.registry, [()])
        self._commit_records = Histograms(COMMIT_RECORDS, self.registry, [()])
        self._commit_requests = Histograms(COMMIT_REQUESTS, self.registry, [()])
        self._answered: dict[tuple[str, int], tuple[Add, Add, tuple[Add, ...]]] = {}
        self.connections(0)

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """A request to `endpoint` (a route's own name, never what a client wrote) was answered."""
        answered = self._answered.get((endpoint, status))
        if answered is None:
            answered = self._answered_first(endpoint, status)
        count, add_seconds, buckets = answered
        count(1)
        add_seconds(seconds)
        buckets[bisect_left(_REQUEST_S, seconds)](1)

    def _answered_first(self, endpoint: str, status: int) -> tuple[Add, Add, tuple[Add, ...]]:
        count = self._requests.adder((endpoint, str(status)))
        made = (count, *self._request_seconds.adders((endpoint,)))
        if len(self._answered) < CHILD_LIMIT:
            self._answered[endpoint, status] = made
        return made

    def records(self, endpoint: str, outcome: Outcome) -> None:
        """The records of one request were judged: how many are stored, how many refused and why."""
        self._request_records.observe((endpoint,), outcome.total)
        if outcome.good:
            self._records.add((endpoint, "stored"), outcome.good)
        refused = outcome.total - outcome.good
        if refused:
            self._records.add((endpoint, "refused"), refused)
            for reason, count in Counter(reason_of(message) for _, _, message in outcome.failed).items():
                self._refusals.add((reason,), count)

    def body_refused(self, endpoint: str, message: str) -> None:
        """A body was refused whole, for the reason that `message` tells."""
        self._records.add((endpoint, "refused"))
        self._refusals.add((reason_of(message),))

    def rate_limited(self, limit: str, project: int) -> None:
        """A request was answered with 429 because of `limit`: "records", "requests" or "queries"."""
        self._limited.add((limit, str(project)))

    def refused_by_protocol(self, status: int) -> None:
        """A request was refused with `status` before any endpoint saw it."""
        self._protocol.add((str(int(status)),))

    def auxiliary(self, path: str, size_bytes: int) -> None:
        """A request to an auxiliary path (one of a fixed list) was answered and its body discarded."""
        self._auxiliary.add((path,))
        self._auxiliary_bytes.add((path,), size_bytes)

    def connections(self, count: int) -> None:
        """So many connections are open at this worker."""
        self._connections.set((), count)

    def certificate_ends(self, at_s: float) -> None:
        """The TLS certificate in use ends at this Unix time."""
        self._certificate_end.set((), at_s)

    def recognised(self, kind: str) -> None:
        """A request gets the first one's reply, known by its "key" or as a "browser"'s repetition."""
        self._recognised.add((kind,))

    def committed(self, *, requests: int, records: int, seconds: float) -> None:
        """One group commit is on disk (`ingest.commit.CommitMetrics`); from the commit thread alone."""
        self._commit_seconds.observe((), seconds)
        self._commit_records.observe((), records)
        self._commit_requests.observe((), requests)


class FoldMetrics:
    """What the fold's process reports."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._folded = Counters(FOLDED, self.registry, [()])
        self._profiles = Counters(FOLDED_PROFILES, self.registry, [()])
        self._seconds = Histograms(FOLD_SECONDS, self.registry, [()])
        self._records = Histograms(FOLD_RECORDS, self.registry, [()])
        self._recognised = Counters(RECOGNISED, self.registry, [("record",), ("request",)])
        self._failed = Counters(FOLD_FAILED, self.registry, [()])
        self._faults = Counters(FOLD_FAULTS, self.registry, [()])
        self._links = Counters(LINKS, self.registry, [("made",), ("failed",), ("undone",)])

    def linked(self, *, made: int, failed: int, undone: int) -> None:
        """What a fold transaction did to links between ids."""
        self._links.add(("made",), made)
        self._links.add(("failed",), failed)
        self._links.add(("undone",), undone)

    def folded(
        self,
        *,
        records: int,
        profiles: int,
        recognised: int,
        recognised_by_request: int,
        failed: int,
        seconds: float,
    ) -> None:
        """One fold transaction is written; `recognised` counts those in `recognised_by_request` too."""
        self._folded.add((), records)
        self._profiles.add((), profiles)
        self._records.observe((), records)
        self._recognised.add(("record",), recognised - recognised_by_request)
        self._recognised.add(("request",), recognised_by_request)
        self._failed.add((), failed)
        self._seconds.observe((), seconds)

    def fault(self) -> None:
        """A fold transaction failed as a whole."""
        self._faults.add(())


class EventsMetrics:
    """What the events reader's process reports; its two threads report different things."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._stored = Counters(EVENTS_STORED, self.registry, [()])
        self._recognised = Counters(EVENTS_RECOGNISED, self.registry, [()])
        self._seconds = Histograms(EVENTS_SECONDS, self.registry, [()])
        self._records = Histograms(EVENTS_STEP, self.registry, [()])
        self._tending = Histograms(EVENTS_TENDING, self.registry, [()])
        self._faults = Counters(EVENTS_FAULTS, self.registry, [()])

    def taken(self, *, events: int, recognised: int, seconds: float) -> None:
        """One step is on disk."""
        self._stored.add((), events)
        self._recognised.add((), recognised)
        self._records.observe((), events)
        self._seconds.observe((), seconds)

    def tended(self, seconds: float) -> None:
        """One piece of upkeep is done."""
        self._tending.observe((), seconds)

    def fault(self) -> None:
        """A step or a piece failed as a whole."""
        self._faults.add(())


class SupervisorMetrics:
    """What the supervisor reports about itself and its children."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._up = Gauges(PROCESS_UP, self.registry, over="max")
        self._start = Gauges(PROCESS_START, self.registry, over="max")
        self._restarts = Counters(PROCESS_RESTARTS, self.registry)
        self._known: set[str] = set()

    def started(self, process: str, at_s: float) -> None:
        """A process of this name ("supervisor", "events", "worker-0") was started, at this Unix time."""
        self._up.set((process,), 1)
        self._start.set((process,), at_s)
        self._restarts.add((process,), 1 if process in self._known else 0)
        self._known.add(process)

    def ended(self, process: str) -> None:
        """The process of this name has ended."""
        self._up.set((process,), 0)


_WRITTEN: Final = ("engage", "groups", "track", "import")
_PROTOCOL_STATUSES: Final = ("400", "405", "408", "414", "431", "503")


def _reason_patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for name, text in vars(texts).items():
        if name.isupper() and isinstance(text, str):
            parts = (re.escape(part) for part in re.split(r"\{\w+\}", text))
            yield name.lower(), re.compile(".+".join(parts), re.DOTALL)


_REASONS: Final = tuple(_reason_patterns())
_EXACT_REASONS: Final = {
    text: name.lower() for name, text in vars(texts).items() if name.isupper() and isinstance(text, str)
}
_KEPT_MESSAGE_CHARS: Final = 200


def reason_of(message: str) -> str:
    """The name of an error text in `model.texts`, lower case: a closed set, free of what clients wrote."""
    exact = _EXACT_REASONS.get(message)
    if exact is not None:
        return exact
    return _recent_reason(message) if len(message) <= _KEPT_MESSAGE_CHARS else _found_reason(message)


def _found_reason(message: str) -> str:
    return next((name for name, pattern in _REASONS if pattern.fullmatch(message)), OTHER)


_recent_reason: Final = lru_cache(maxsize=512)(_found_reason)
