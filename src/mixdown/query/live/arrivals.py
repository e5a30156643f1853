"""How many records of each kind arrived in the last ten minutes, counted from the log when somebody asks.

A store and a time enter; counts leave, for each five seconds. It keeps what it has counted, and reads on from
there: workers that count by themselves come to the same, and whoever writes to the log pays nothing for it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from mixdown.query.live.pieces import KINDS, REFUSAL, Counts, counts_of
from mixdown.store import patience
from mixdown.store.places import End, all_views, first_of
from mixdown.store.protocols import Log, Store

INTERVAL_S: Final = 5
INTERVALS: Final = 120
BACK_RECORDS: Final = 1_000_000
"""So many of the newest records are counted where nothing was before: in a flood, less than ten minutes."""
_INTERVAL_MS: Final = INTERVAL_S * 1000
_READ_RECORDS: Final = 50_000
_READ_BYTES: Final = 4 * 1024 * 1024
_HEADS: Final = 5_000
_REFUSALS_BACK: Final = 50_000


class Arrivals(msgspec.Struct, frozen=True):
    """Counts by kind, one for each interval from `begin_s` (unix time) on; the last is not over yet.

    Before `counted_from_s` nothing was counted: there was more than could be.
    """

    begin_s: int
    counted_from_s: int
    counts: dict[str, list[int]]


class ArrivalCounts:
    """What one worker has counted. From any thread; who comes while another counts waits for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._intervals: dict[int, Counts] = {}
        self._counted_from_ms = 0
        self._logs = [_Counting(view) for view in all_views(store)]

    def of(self, projects: frozenset[int] | None, *, now_ms: int) -> Arrivals:
        """What has arrived for these projects (None: all; 0: refusals whose token none has).

        Raises `StoreError`.
        """
        newest = now_ms // _INTERVAL_MS
        oldest = newest - INTERVALS + 1
        with self._lock:
            self._count(oldest * _INTERVAL_MS)
            for interval in [known for known in self._intervals if known < oldest]:
                del self._intervals[interval]
            shown = [self._intervals.get(interval, Counter()) for interval in range(oldest, newest + 1)]
            from_ms = self._counted_from_ms
        counts = {
            kind: [
                sum(
                    count
                    for (found, project), count in interval.items()
                    if found == kind and (projects is None or project in projects)
                )
                for interval in shown
            ]
            for kind in KINDS
        }
        begin_ms = oldest * _INTERVAL_MS
        return Arrivals(begin_ms // 1000, max(begin_ms, from_ms) // 1000, counts)

    def _count(self, since_ms: int) -> None:
        """Count what has come since the last time, but nothing before `since_ms`."""
        ends = self._store.ends(range(self._store.partition_count))
        for number, log in enumerate(self._logs):
            from_ms = log.count(since_ms, self._add, ends[number], BACK_RECORDS // len(self._logs))
            self._counted_from_ms = max(self._counted_from_ms, from_ms)

    def _add(self, time_ms: int, counts: Counts) -> None:
        interval = time_ms // _INTERVAL_MS
        self._intervals[interval] = self._intervals.get(interval, Counter()) + counts


class _Counting:
    """How far one partition's records and refusals are counted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._first = first_of(store.number)
        self._position = self._refusal = self._first

    def count(self, since_ms: int, add: Callable[[int, Counts], None], end: End, back_records: int) -> int:
        """Count what has come since the last time; from when on, where there was more than that (else 0)."""
        log = self._store.log
        head = end.head
        from_ms = 0
        at = self._position if self._position <= head else self._first  # one restored may end before it
        if head - at > _READ_RECORDS:
            begin = max(at, position_at(log, since_ms, head))
            at = max(begin, head - back_records)
            if at > begin:
                from_ms = log.time_at(at)
        while at < head:
            patience.check()
            chunks = log.read(at, max_records=_READ_RECORDS, max_bytes=_READ_BYTES)
            for chunk in chunks:
                if chunk.first >= at and chunk.time_ms >= since_ms:  # within which we stand: counted before
                    add(chunk.time_ms, counts_of(chunk))
            past = chunks[-1].end if chunks else log.skip_damaged(at)
            if past <= at:
                break
            at = self._position = past
        self._position = at
        self._count_refusals(since_ms, add, end.refusal)
        return from_ms

    def _count_refusals(self, since_ms: int, add: Callable[[int, Counts], None], newest: int) -> None:
        self._refusal = max(self._refusal, newest - _REFUSALS_BACK)
        while self._refusal < newest:
            heads = self._store.refusals.heads(self._refusal, limit=_HEADS)
            if not heads:  # what there was is gone again
                self._refusal = newest
                break
            for _, project, time_ms in heads:
                if time_ms >= since_ms:
                    add(time_ms, Counter({(REFUSAL, project): 1}))
            self._refusal = heads[-1][0]


def position_at(log: Log, time_ms: int, head: int) -> int:
    """The position from which on records of the log are of this time or later; `head` where none is."""
    low, high = log.tail_position(), head
    while low < high:
        middle = (low + high) // 2
        found_ms = log.time_at(middle)
        if found_ms >= time_ms or found_ms == 0:
            high = middle
        else:
            low = middle + 1
    return low
