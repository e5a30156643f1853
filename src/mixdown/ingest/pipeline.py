"""Ingestion for an event loop: a request's records in, its outcome out once they are on disk."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from mixdown.ingest.commit import CommitMetrics, Commits, Done, Pending, Tokens
from mixdown.ingest.gate import Gate, GateLimits
from mixdown.ingest.geo import open_geo
from mixdown.ingest.lanes import committer_of, shares_of
from mixdown.ingest.links import SentLinks
from mixdown.ingest.placing import Placing, placing_of
from mixdown.ingest.prepare import Prepared, Rules, Submission, prepare, request_key
from mixdown.ingest.resends import Resends
from mixdown.ingest.submission import EVENT_ENDPOINTS
from mixdown.model.errors import OverloadedError
from mixdown.model.limits import KEY_WINDOW_MS, Limits
from mixdown.model.values import clean_text
from mixdown.settings import Settings
from mixdown.store.chunk import Outcome
from mixdown.store.protocols import Append, RefusedRecord, Store

RECENT_KEYS: Final = 1000
_FRESH_BYTES: Final = 12
RECENT_FAILURES: Final = 200
LOOK_EVERY_S: Final = 0.25
KEPT_BODY_BYTES: Final = 1024
LARGE_BYTES: Final = 1_048_576
"""Work on more bytes than this takes milliseconds, and leaves the event loop to small requests meanwhile."""
SWITCH_BESIDE_S: Final = 0.00005
"""The interpreter's switch interval while such work runs."""

_T = TypeVar("_T")


def rules_of(settings: Settings) -> Rules:
    """What the settings say about reading records. Raises `SettingsError` (geo database)."""
    return Rules(
        limits=Limits(
            string_limit_bytes=settings.string_limit_bytes,
            records_per_request=settings.records_per_request,
            body_limit_bytes=settings.body_limit_bytes,
        ),
        geo=open_geo(settings.geo_database),
        geo_from_request=settings.geo_default == "request",
        accept_unknown_token=settings.unknown_token == "accept",
    )


def gate_limits_of(settings: Settings) -> GateLimits:
    """The gate's limits."""
    return GateLimits(
        backlog_records=settings.backlog_limit_records,
        backlog_bytes=settings.backlog_limit_bytes,
        disk_reserve_bytes=settings.disk_reserve_bytes,
        disk_reserve_percent=settings.disk_reserve_percent,
    )


class Ingest:
    """One worker's way to the log. `open`, then `submit` and `refuse_body`, then `close`.

    `count_recognised` is told of each request that gets the first one's reply, by what it
    was known: its "key", or as a "browser"'s repetition.
    """

    count_recognised: Callable[[str], None] = staticmethod(lambda _: None)

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        rules: Rules,
        *,
        gate: Gate,
        committer: Commits,
        executor: Executor,
        now_ms: Callable[[], int],
        resends: Resends,
    ) -> None:
        self.resends = resends
        self._store = store
        self._tokens = tokens
        self._rules = rules
        self._placing: Placing | None = rules.placing
        self._gate = gate
        self._committer = committer
        self._executor = executor
        self._beside = 0
        self._switch_s = sys.getswitchinterval()
        self._now_ms = now_ms
        tokens.refresh()
        self._recent: OrderedDict[bytes, Outcome] = OrderedDict()
        self._looked = 0.0
        self._looking: asyncio.Future[None] | None = None

    @classmethod
    def open(
        cls,
        settings: Settings,
        store: Store,
        tokens: Tokens,
        *,
        executor: Executor,
        wake: Callable[[int], None] = lambda _: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        metrics: CommitMetrics | None = None,
        folder: Path | None = None,
    ) -> Ingest:
        """Start the commit thread.

        `executor` looks things up and works on large bodies; reads that take long must not fill it.
        `folder` is the data folder: disk space is measured there, and workers share their open calls in it
        (None: neither). `wake` is told after each commit for which readers of the log it was (`store.chunk`).
        """
        links = tuple(SentLinks() for _ in range(store.partition_count))
        rules = msgspec.structs.replace(rules_of(settings), links=links, placing=placing_of(store))
        gate = Gate(store, folder, gate_limits_of(settings))
        gate.look()
        committer = committer_of(store, tokens, rules, wake=wake, now_ms=now_ms, metrics=metrics)
        committer.start()
        return cls(
            store,
            tokens,
            rules,
            gate=gate,
            committer=committer,
            executor=executor,
            now_ms=now_ms,
            resends=Resends(folder, now_ms),
        )

    @property
    def limits(self) -> Limits:
        """The limits in force for requests."""
        return self._rules.limits

    async def submit(self, submission: Submission) -> Outcome:
        """Judge a request's records and store the good ones; returns when they are on disk.

        Raises `OverloadedError` (503). A request whose Idempotency-Key was seen before gets the
        outcome that the first one got, and is not stored again (DESIGN G2).
        """
        await self._pass_gate()
        call = submission.call
        key = None
        if submission.idempotency_key:
            key = await self.beside(submission.body_bytes, lambda: request_key(submission))
        elif call is not None:
            key = call.key
        again = key is not None and (call is None or call.again)
        if key is not None and again and self._placing is None:
            known = await self._known(key)
            if known is not None:
                self.count_recognised("key" if call is None else "browser")
                return known
        version, tokens, projects = self._tokens.version, self._tokens.tokens, self._tokens.projects
        self._arrived(submission)
        prepared = await self.beside(
            submission.body_bytes, lambda: prepare(submission, tokens, self._rules, key, projects)
        )
        if key is not None and again and self._placing is not None:
            known = await self._known_in(key, shares_of(prepared))
            if known is not None:
                self.count_recognised("key" if call is None else "browser")
                return known
        outcome = await self._commit(submission, prepared, key, version)
        if key is not None and call is None:
            self._remember(key, outcome)
        return outcome

    def submit_at_once(self, submission: Submission, done: Done) -> bool:
        """Judge and queue a small request without waiting; false where it must wait, and `submit` is for it.

        `done` is settled with the outcome, or an `OverloadedError`, as the future of `submit` would be.
        """
        if submission.idempotency_key or submission.call is not None:
            return False
        if time.monotonic() - self._looked > LOOK_EVERY_S and self._looking is None:
            return False  # it is time for a look, which `submit` starts
        version, tokens, projects = self._tokens.version, self._tokens.tokens, self._tokens.projects
        try:
            if self._gate.check():
                return False
            self._arrived(submission)
            prepared = prepare(submission, tokens, self._rules, projects=projects)
            self._committer.put(Pending(submission, None, prepared, version, done))
        except OverloadedError:
            return False
        return True

    def _arrived(self, submission: Submission) -> None:
        """Note when a request's events came, and what ids they get that bring none."""
        if submission.endpoint in EVENT_ENDPOINTS and not submission.now_ms:
            submission.now_ms = self._now_ms()
            submission.fresh = os.urandom(_FRESH_BYTES).hex()

    async def beside(self, size_bytes: int, work: Callable[[], _T], *, asks: bool = False) -> _T:
        """Do work on so many bytes: at once, or beside the event loop where they are many.

        Beside it too where it `asks` the store, which may take long to answer; else it must be pure.

        Work beside it holds the interpreter's lock for as long as the switch interval lets it, whenever
        another thread wants it, and a small request wants it ten times: the interval is short meanwhile.
        """
        if size_bytes <= LARGE_BYTES:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work) if asks else work()
        if not self._beside:
            self._switch_s = sys.getswitchinterval()
            sys.setswitchinterval(min(SWITCH_BESIDE_S, self._switch_s))
        self._beside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._beside -= 1
            if not self._beside:
                sys.setswitchinterval(self._switch_s)

    async def refuse_body(
        self, endpoint: str, message: str, body_start: bytes, *, token: str = "", sdk: str = ""
    ) -> None:
        """Keep a body that was refused whole: one refusal with its first kilobyte (DESIGN G5).

        It is filed under the project of `token`, if there is one.
        """
        text = clean_text(body_start[:KEPT_BODY_BYTES].decode("utf-8", "replace"))
        if token:  # what is not judged again at the commit must be right before it
            await asyncio.get_running_loop().run_in_executor(self._executor, self._tokens.refresh)
        refusal = RefusedRecord(
            project=self._tokens.tokens.get(token, 0),
            endpoint=endpoint,
            index=0,
            field="",
            message=message,
            record=text,
            whole=False,
            sdk=sdk,
        )
        await self._pass_gate()
        partition = 0 if self._placing is None else self._placing.home(refusal.project)
        append = Append(segment=b"", count=0, id_filter=b"", refusals=(refusal,), partition=partition)
        await self._commit(None, Prepared(append, Outcome(1, 0)), None, self._tokens.version)

    def closed_because(self) -> str:
        """Why records cannot be appended now, "" when they can; measures afresh (blocks for microseconds)."""
        self._gate.look()
        return self._gate.reason

    def close(self) -> None:
        """Commit what waits and end the commit thread."""
        self._committer.close()
        self.resends.close()

    async def _commit(
        self, submission: Submission | None, prepared: Prepared, key: bytes | None, version: int
    ) -> Outcome:
        if prepared.append is None and submission is None:
            return prepared.outcome
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._committer.put(Pending(submission, key, prepared, version, done))
        return await done

    def _remember(self, key: bytes, outcome: Outcome) -> None:
        """Keep an outcome at hand until the fold has surely stored it.

        A retry that comes before the fold would be judged afresh otherwise: by a catalog that changed
        in between it might promise a record of a request that the fold leaves out as a whole.
        """
        if len(outcome.failed) > RECENT_FAILURES:  # these would take memory by the hundred megabytes
            return
        self._recent[key] = outcome
        if len(self._recent) > RECENT_KEYS:
            self._recent.popitem(last=False)

    async def _known(self, key: bytes) -> Outcome | None:
        recent = self._recent.get(key)
        if recent is not None:
            return recent
        loop = asyncio.get_running_loop()
        since = self._now_ms() - KEY_WINDOW_MS
        known = await loop.run_in_executor(
            self._executor, lambda: self._store.state.known_keys([key], since_ms=since)
        )
        return known.get(key)

    async def _known_in(self, key: bytes, partitions: Sequence[int]) -> Outcome | None:
        """The same of a store with several partitions: known to every one that it has records in.

        A request that failed in some of them is taken there now, and the others leave it out.
        """
        recent = self._recent.get(key)
        if recent is not None:
            return recent
        since = self._now_ms() - KEY_WINDOW_MS

        def look() -> Outcome | None:
            found: dict[bytes, Outcome | None] = {}
            for number in partitions:
                found = self._store.partition(number).state.known_keys([key], since_ms=since)
                if key not in found:
                    return None
            return found.get(key)

        return await asyncio.get_running_loop().run_in_executor(self._executor, look)

    async def _pass_gate(self) -> None:
        now = time.monotonic()
        if now - self._looked > LOOK_EVERY_S and self._looking is None:
            self._looked = now
            loop = asyncio.get_running_loop()
            self._looking = loop.run_in_executor(self._executor, self._gate.look)
            self._looking.add_done_callback(self._looked_at)
        hold_back = self._gate.check()
        if hold_back:
            await asyncio.sleep(hold_back)

    def _looked_at(self, looking: asyncio.Future[None]) -> None:
        self._looking = None
        looking.cancelled() or looking.exception()
