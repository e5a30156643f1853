"""What the routes need from the rest of the server, put together once for each worker.

`server` makes one `Services` and hands it to `make_app`; routes only ever read it. What they report
goes through `Metrics`, so that this room can be tested without a metrics library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol, TypeVar

from mixdown.http.attempts import Attempts
from mixdown.http.passwords import Gate, Passwords
from mixdown.http.rates import RateLimits
from mixdown.ingest.commit import Done
from mixdown.ingest.prepare import Submission
from mixdown.ingest.resends import Resends
from mixdown.model.limits import Limits
from mixdown.query.events.reader import EventReads
from mixdown.query.live.arrivals import ArrivalCounts
from mixdown.query.live.tail import LiveTail
from mixdown.query.members import Members
from mixdown.query.waiting import ReaderWatch
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.chunk import Outcome
from mixdown.store.protocols import Store

EXPORTS_AT_ONCE: Final = 4
_T = TypeVar("_T")


class Writer(Protocol):
    """The way to the log, as `mixdown.ingest.pipeline.Ingest` offers it."""

    @property
    def limits(self) -> Limits:
        """The limits in force for requests."""

    @property
    def resends(self) -> Resends:
        """Which requests are one call of a browser."""

    async def submit(self, submission: Submission) -> Outcome:
        """Store the good records of a request; they are on disk on return. Raises `OverloadedError`."""

    def submit_at_once(self, submission: Submission, done: Done) -> bool:
        """Queue a small request without waiting, `done` to be settled; false where it must be submitted."""

    async def beside(self, size_bytes: int, work: Callable[[], _T], *, asks: bool = False) -> _T:
        """Do work on so many bytes; beside the event loop where they are many, or it `asks` a store."""

    async def refuse_body(
        self, endpoint: str, message: str, body_start: bytes, *, token: str = "", sdk: str = ""
    ) -> None:
        """Keep a body that is refused whole, for the project of `token`. Raises `OverloadedError`."""

    def closed_because(self) -> str:
        """Why records cannot be appended now; "" when they can."""


class Metrics(Protocol):
    """What the routes report, as `mixdown.http.metrics` counts it."""

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """A request to `endpoint` (a path from a fixed list) was answered with `status` after so long."""

    def records(self, endpoint: str, outcome: Outcome) -> None:
        """A batch was judged: so many good, so many refused and why."""

    def body_refused(self, endpoint: str, message: str) -> None:
        """A body was refused whole."""

    def auxiliary(self, path: str, size_bytes: int) -> None:
        """An auxiliary path took a body of this size and discarded it."""

    def rate_limited(self, limit: str, project: int) -> None:
        """A request was answered with 429 because of `limit`: "records", "requests" or "queries"."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything a route may use. `now_ms` is the clock; `executor` runs reads of the store.

    `scans` runs those that look through all profiles of a kind, `event_threads` reads of events and
    `export_threads` the steps of those that are sent while they are made, so that others need not wait for
    them (None: `executor` does). `rates_file` is where workers share what their rate limits have counted
    (None: one worker alone).

    Reads may take seconds: what must not wait for them (health, ingestion) runs elsewhere.
    """

    settings: Settings
    store: Store
    catalog: CatalogCache
    ingest: Writer
    metrics: Metrics
    executor: Executor
    now_ms: Callable[[], int]
    rates_file: Path | None = None
    scans: Executor | None = None
    event_threads: Executor | None = None
    export_threads: Executor | None = None

    @cached_property
    def watch(self) -> ReaderWatch:
        """Where reads wait for the log's readers."""
        return ReaderWatch(self.store, self.executor)

    @cached_property
    def live(self) -> LiveTail:
        """What tells all who listen at this worker; `close_live` ends it."""
        return LiveTail(self.store)

    def close_live(self) -> None:
        """End all who listen: for the event loop, before the server waits for answers under way."""
        self.live.close()

    @cached_property
    def arrivals(self) -> ArrivalCounts:
        """How many records arrived lately, as far as this worker has counted."""
        return ArrivalCounts(self.store)

    @cached_property
    def event_reads(self) -> EventReads:
        """Where events are opened; `close_event_reads` ends it."""
        return EventReads(self.store, memory_limit_bytes=self.settings.event_read_memory_bytes)

    @cached_property
    def members(self) -> Members:
        """Who did what lists of profiles ask for, as far as this worker has counted lately."""
        return Members(self.store)

    def close_event_reads(self) -> None:
        """Take what reads of events spilt from the disk."""
        if "event_reads" in self.__dict__:
            self.event_reads.close()

    @cached_property
    def export_places(self) -> asyncio.Semaphore:
        """How many answers may be sent while they are made, at a time, by this worker."""
        return asyncio.Semaphore(EXPORTS_AT_ONCE)

    @cached_property
    def attempts(self) -> Attempts:
        """How often who has failed to sign in, on all workers."""
        file = self.rates_file
        return Attempts(None if file is None else file.with_name(f"{file.name}-attempts"))

    @cached_property
    def passwords(self) -> Passwords:
        """Passwords that people chose."""
        return Passwords()

    @cached_property
    def gate(self) -> Gate:
        """Who calls by an `Authorization` header."""
        return Gate(self.attempts, self.passwords)

    @cached_property
    def rates(self) -> RateLimits:
        """The rate limits of this server's projects."""
        return RateLimits(self.settings, self.catalog, self.rates_file)
