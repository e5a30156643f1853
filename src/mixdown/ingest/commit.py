"""Group commit: a thread that appends the requests of all connections to the log, one chunk at a time.

While one chunk is being flushed to disk the next one gathers. A request is answered only after the
transaction that holds its records is on disk (DESIGN G1), and its records are never split over two.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

import msgspec
import structlog

from mixdown.ingest.links import SentLinks
from mixdown.ingest.prepare import Prepared, Rules, Submission, prepare
from mixdown.model import texts
from mixdown.model.errors import OverloadedError, PartedError
from mixdown.store.chunk import Outcome
from mixdown.store.protocols import Append, Log, Project, Turn, kinds_of

CHUNK_LIMIT_BYTES: Final = 16 * 1024 * 1024
CHUNK_LIMIT_RECORDS: Final = 50_000
WAITING_LIMIT_BYTES: Final = 128 * 1024 * 1024

_log = structlog.get_logger(__name__)


class Tokens(Protocol):
    """The catalog's tokens, as of a version (`store.catalog_cache.CatalogCache`)."""

    @property
    def version(self) -> int:
        """The catalog's version as of the last refresh; read it before `tokens`."""

    @property
    def tokens(self) -> Mapping[str, int]:
        """Project ids by token, as of the last refresh."""

    @property
    def projects(self) -> Mapping[int, Project]:
        """Projects by id, as of the last refresh."""

    def refresh(self) -> int:
        """Take in any change of the catalog; returns its version."""


class CommitMetrics(Protocol):
    """Where the committer reports what it did."""

    def committed(self, *, requests: int, records: int, seconds: float) -> None:
        """One group commit is on disk."""


class Done(Protocol):
    """Who waits for a request: a future of the event loop, or something like it. Settled on its loop."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it belongs to."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, outcome: Outcome, /) -> None:
        """The request is on disk."""

    def set_exception(self, error: BaseException, /) -> None:
        """It is not."""


class Pending(msgspec.Struct, eq=False):
    """A request on its way to disk, or the share of one that is of one partition.

    `done` is settled on its event loop.
    """

    submission: Submission | None
    key: bytes | None
    prepared: Prepared
    version: int
    done: Done


class Commits(Protocol):
    """What takes requests to disk. `start`, then `put` from an event loop, then `close` (which drains)."""

    def start(self) -> None:
        """Begin to take requests."""

    def put(self, pending: Pending) -> None:
        """Queue a request. Raises `OverloadedError` when too many bytes wait, or it is closing."""

    def close(self) -> None:
        """Take no more, commit what waits, and end."""


class Committer:
    """The commit thread of one log. `start`, then `put` from an event loop, then `close` (which drains)."""

    def __init__(
        self,
        log: Log,
        tokens: Tokens,
        rules: Rules,
        *,
        wake: Callable[[int], None],
        now_ms: Callable[[], int],
        metrics: CommitMetrics | None = None,
        lanes: int = 1,
        name: str = "commit",
    ) -> None:
        self._log = log
        self._tokens = tokens
        self._rules = rules
        self._wake = wake
        self._now_ms = now_ms
        self._metrics = metrics
        self._waiting: deque[Pending] = deque()
        self._waiting_bytes = 0
        self._lanes = lanes  # that share the limit
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._closing = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to take requests."""
        self._thread.start()

    def put(self, pending: Pending) -> None:
        """Queue a request. Raises `OverloadedError` when too many bytes wait or the thread is closing."""
        size = _size(pending)
        with self._lock:
            if self._closing:
                raise OverloadedError(texts.SHUTTING_DOWN, retry_after_s=1)
            if self._waiting_bytes + size > WAITING_LIMIT_BYTES // self._lanes:
                raise OverloadedError(texts.OVERLOADED_BACKLOG, retry_after_s=1)
            self._waiting_bytes += size
            self._waiting.append(pending)
        self._some.set()

    def close(self) -> None:
        """Take no more, commit what waits, and end."""
        with self._lock:
            self._closing = True
        self._some.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._some.clear()
            while batch := self._take():
                self._commit(batch)
            with self._lock:
                if self._closing and not self._waiting:
                    return

    def _take(self) -> list[Pending]:
        """The requests of the next chunk: all that wait, up to the limits, one at least."""
        batch: list[Pending] = []
        size = records = 0
        with self._lock:
            while self._waiting and (
                not batch or (size < CHUNK_LIMIT_BYTES and records < CHUNK_LIMIT_RECORDS)
            ):
                pending = self._waiting.popleft()
                size += _size(pending)
                records += pending.prepared.outcome.total
                batch.append(pending)
            self._waiting_bytes -= size
        return batch

    def _commit(self, batch: list[Pending]) -> None:
        self._commit_to(self._log, batch)

    def _commit_to(self, log: Log, batch: list[Pending], partition: int = 0) -> Exception | None:
        """Append a chunk, in one transaction, and answer those whose it is; why it could not be, if so."""
        began = time.perf_counter()
        present: list[Append] = []
        links = self._rules.links[partition] if self._rules.links else None
        try:
            while True:
                with suppress(PartedError), log.turn() as turn:
                    batch = self._judge_again(batch, links, turn, partition)
                    appends = [pending.prepared.append for pending in batch]
                    present = [append for append in appends if append is not None]
                    if present:
                        turn.append(present, self._now_ms())
                    if links is not None:
                        for pending in batch:
                            links.appended(pending.prepared.links)
                    break
        except Exception as error:  # noqa: BLE001 - whatever fails, the requests must be answered
            if not self._failing:  # said once, not for every request while a disk is full
                self._failing = True
                _log.error(texts.NOT_WRITTEN, exc_info=error)
            _settle(batch, error)
            return error
        self._failing = False
        self._wake(kinds_of(present))
        _settle(batch, None)
        self._count(batch, time.perf_counter() - began)
        return None

    def _count(self, batch: list[Pending], seconds: float) -> None:
        if self._metrics is None:
            return
        records = sum(pending.prepared.append.count for pending in batch if pending.prepared.append)
        try:
            self._metrics.committed(requests=len(batch), records=records, seconds=seconds)
        except Exception as error:  # noqa: BLE001 - a counter on a full disk must not end the thread
            _log.error("a commit could not be counted", exc_info=error)

    def _judge_again(
        self, batch: list[Pending], links: SentLinks | None, turn: Turn, partition: int
    ) -> list[Pending]:
        """Judge anew whatever was judged by an older catalog: a rotated token stops at once.

        And whatever leaves out a link that was perhaps undone since. What is to be appended in this turn.
        """
        version = self._tokens.refresh()
        parted = -1
        if links is not None:
            parted = turn.parted()
            links.as_of(parted)
        return [
            pending
            for pending in batch
            if not self._is_stale(pending, version, parted)
            or pending.submission is None
            or self._judged_again(pending, pending.submission, version, partition)
        ]

    def _is_stale(self, pending: Pending, version: int, parted: int) -> bool:
        """Whether a request was judged by what does not hold any more."""
        return pending.version != version or pending.prepared.parted not in {-1, parted}

    def _judged_again(self, pending: Pending, submission: Submission, version: int, partition: int) -> bool:
        """Judge a request by the catalog as it stands; whether it is still to be appended here."""
        del partition
        pending.prepared = self._judge(pending, submission)
        pending.version = version
        return True

    def _judge(self, pending: Pending, submission: Submission) -> Prepared:
        tokens = self._tokens
        return prepare(submission, tokens.tokens, self._rules, pending.key, tokens.projects)


def fail(pending: Pending, error: Exception) -> None:
    """Answer a request that is not to be committed, on its event loop."""
    _settle([pending], error)


def _size(pending: Pending) -> int:
    append = pending.prepared.append
    return 0 if append is None else append_bytes(append)


def append_bytes(append: Append) -> int:
    """Roughly what an append holds in memory."""
    return len(append.segment) + sum(len(refusal.record) + 200 for refusal in append.refusals)


def _settle(batch: list[Pending], error: Exception | None) -> None:
    """Answer the requests on their event loops: one call for each loop, not one for each request."""
    loops: dict[asyncio.AbstractEventLoop, list[Pending]] = {}
    for pending in batch:
        loops.setdefault(pending.done.get_loop(), []).append(pending)
    for loop, group in loops.items():
        try:
            loop.call_soon_threadsafe(_settle_here, group, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _settle_here(group: list[Pending], error: Exception | None) -> None:
    if error is not None and not isinstance(error, OverloadedError):
        # the error itself names files of this machine: it is for the operator, not for every SDK
        failed = OverloadedError(texts.NOT_WRITTEN, retry_after_s=5)
        failed.__cause__ = error
        error = failed
    for pending in group:
        if pending.done.done():
            continue
        try:
            if error is None:
                pending.done.set_result(pending.prepared.outcome)
            else:
                pending.done.set_exception(error)
        except Exception:  # noqa: BLE001 - what fails in one answer must not cost the others theirs
            _log.exception("a request could not be answered")
