"""Lanes: the commit threads of a store with several partitions.

Requests enter, each cut into the shares of the partitions that it touches; they leave answered when all their
shares are on disk. Each partition belongs to one lane, which appends its chunks in transactions of their own,
so partitions commit beside each other. If a share cannot be written the answer is 503, and what other
partitions have of the request stays: a retry with a key is recognised there (DESIGN G2).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Final

from mixdown.ingest.commit import (
    CommitMetrics,
    Committer,
    Done,
    Pending,
    Tokens,
    fail,
)
from mixdown.ingest.links import SentLinks
from mixdown.ingest.prepare import Prepared, Rules, Submission
from mixdown.model import texts
from mixdown.model.errors import NodeDownError, OverloadedError, StoreDownError
from mixdown.store.chunk import Outcome
from mixdown.store.places import all_views, partition_at
from mixdown.store.protocols import Log, Store, Turn

LANES_LIMIT: Final = 8
"""Commit threads of one worker: each mostly waits for its database, and holds a connection meanwhile."""
_RETRY_S: Final = 1


class Joint:
    """Who waits for several shares of one request. Settled on its event loop, once for each share."""

    def __init__(self, done: Done, partitions: frozenset[int]) -> None:
        self.partitions = partitions
        self.judging = threading.Lock()
        """Held by the lane that judges the request again: to judge changes it."""
        self._done = done
        self._left = len(partitions)
        self._error: BaseException | None = None

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it belongs to."""
        return self._done.get_loop()

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return self._done.done()

    def set_result(self, outcome: Outcome) -> None:
        """A share is on disk."""
        self._settled(outcome)

    def set_exception(self, error: BaseException) -> None:
        """A share is not."""
        self._error = self._error or error
        self._settled(None)

    def _settled(self, outcome: Outcome | None) -> None:
        self._left -= 1
        if self._left or self._done.done():
            return
        if self._error is not None:
            self._done.set_exception(self._error)
        elif outcome is not None:
            self._done.set_result(outcome)


class Lanes:
    """All lanes of a worker, as one that takes requests. `start`, `put`, then `close` (which drains)."""

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        rules: Rules,
        *,
        wake: Callable[[int], None],
        now_ms: Callable[[], int],
        metrics: CommitMetrics | None = None,
        limit: int = LANES_LIMIT,
    ) -> None:
        logs = [view.log for view in all_views(store)]
        count = min(limit, len(logs))
        counting = None if metrics is None else _OneAtATime(metrics)
        self._lanes = [
            _Lane(
                logs[number],
                tokens,
                rules,
                wake=wake,
                now_ms=now_ms,
                metrics=counting,
                lanes=count,
                name=f"commit-{number}",
            )
            for number in range(count)
        ]
        for lane in self._lanes:
            lane.logs, lane.pass_on = logs, self.put

    def start(self) -> None:
        """Begin to take requests."""
        for lane in self._lanes:
            lane.start()

    def put(self, pending: Pending) -> None:
        """Queue a request, a share of it in each lane that has a partition of it.

        Raises `OverloadedError` when too many bytes wait or the threads are closing. Where only some lanes
        cannot take their share, the request fails when the others are done.
        """
        appends = pending.prepared.appends
        if len(appends) <= 1:
            self._lane_of(appends[0].partition if appends else 0).put(pending)
            return
        joint = Joint(pending.done, frozenset([append.partition for append in appends]))
        refused: list[tuple[Pending, OverloadedError]] = []
        for append in appends:
            share = Pending(
                pending.submission,
                pending.key,
                pending.prepared.share(append.partition),
                pending.version,
                joint,
            )
            try:
                self._lane_of(append.partition).put(share)
            except OverloadedError as error:
                refused.append((share, error))
        if len(refused) == len(appends):
            raise refused[0][1]
        for share, why in refused:
            fail(share, why)

    def close(self) -> None:
        """Take no more, commit what waits, and end."""
        for lane in self._lanes:
            lane.close()

    def _lane_of(self, partition: int) -> _Lane:
        return self._lanes[partition % len(self._lanes)]


class _Lane(Committer):
    """One commit thread, for some of the partitions."""

    logs: Sequence[Log]
    """Those of all partitions, by number."""
    pass_on: Callable[[Pending], None]
    """What takes a request that belongs to other partitions now."""
    _passing: list[tuple[Pending, Pending | None]]

    def _commit(self, batch: list[Pending]) -> None:
        """Append what waits, a chunk for each partition; then see to what does not belong here any more."""
        groups: dict[int, list[Pending]] = {}
        for pending in batch:
            append = pending.prepared.append
            groups.setdefault(0 if append is None else append.partition, []).append(pending)
        down: Exception | None = None
        for partition, group in groups.items():
            if down is not None:  # each would wait for it in vain, one after the other
                for pending in group:
                    fail(pending, down)
                continue
            error = self._commit_to(self.logs[partition], group, partition)
            if isinstance(error, StoreDownError) and not isinstance(error, NodeDownError):
                down = error

    def _judge_again(
        self, batch: list[Pending], links: SentLinks | None, turn: Turn, partition: int
    ) -> list[Pending]:
        self._passing = []
        kept = super()._judge_again(batch, links, turn, partition)
        for pending, again in self._passing:  # all were judged, and nothing of these is appended here
            if again is None:
                fail(pending, OverloadedError(texts.CATALOG_CHANGED, retry_after_s=_RETRY_S))
                continue
            try:
                self.pass_on(again)
            except OverloadedError as error:
                fail(pending, error)
        return kept

    def _is_stale(self, pending: Pending, version: int, parted: int) -> bool:
        """Whether a request was judged by what does not hold any more; other partitions have links apart."""
        looked = pending.prepared.parted
        elsewhere = looked >= 0 and partition_at(looked) != partition_at(parted)
        return pending.version != version or not (elsewhere or looked in {-1, parted})

    def _judged_again(self, pending: Pending, submission: Submission, version: int, partition: int) -> bool:
        """Judge a request anew; whether its share here is still to be appended here.

        A whole request that belongs elsewhere now goes there. Of one that was cut, other shares may be on
        disk: unless all of it is as it was, it fails, and is sent again.
        """
        joint = pending.done if isinstance(pending.done, Joint) else None
        if joint is None:
            prepared = self._judge(pending, submission)
            partitions = {append.partition for append in prepared.appends}
            if not partitions <= {partition}:
                again = Pending(pending.submission, pending.key, prepared, version, pending.done)
                self._passing.append((pending, again))
                return False
            pending.prepared = prepared
        else:
            with joint.judging:
                prepared = self._judge(pending, submission)
            partitions = {append.partition for append in prepared.appends}
            if partitions != joint.partitions or prepared.outcome != pending.prepared.outcome:
                self._passing.append((pending, None))
                return False
            pending.prepared = prepared.share(partition)
        pending.version = version
        return True


class _OneAtATime:
    """Counts what several threads have done: each of a process's metrics is changed by one at a time."""

    def __init__(self, metrics: CommitMetrics) -> None:
        self._metrics = metrics
        self._counting = threading.Lock()

    def committed(self, *, requests: int, records: int, seconds: float) -> None:
        """One group commit is on disk."""
        with self._counting:
            self._metrics.committed(requests=requests, records=records, seconds=seconds)


def committer_of(
    store: Store,
    tokens: Tokens,
    rules: Rules,
    *,
    wake: Callable[[int], None],
    now_ms: Callable[[], int],
    metrics: CommitMetrics | None,
) -> Committer | Lanes:
    """What takes requests to a store's log, or logs."""
    if store.partition_count == 1:
        return Committer(store.log, tokens, rules, wake=wake, now_ms=now_ms, metrics=metrics)
    return Lanes(store, tokens, rules, wake=wake, now_ms=now_ms, metrics=metrics)


def shares_of(prepared: Prepared) -> list[int]:
    """The partitions whose logs get records of a request, refusals apart."""
    return [append.partition for append in prepared.appends if append.count]
