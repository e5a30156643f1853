"""The log and the refusals in memory: the model that other logs are held to.

Of a store with several partitions each has one of its own, whose positions and ids count from `begin` on.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from mixdown.store import bounds
from mixdown.store.chunk import FOR_ALL, Chunk, join_segments
from mixdown.store.memory_part import Part
from mixdown.store.privacy import Rewritten, filter_meets
from mixdown.store.protocols import (
    ALL_REFUSALS,
    Append,
    Appended,
    RefusalCount,
    RefusalFilter,
    RefusalHead,
    RefusedRecord,
    kinds_of,
)


class MemoryRefusals(Part):
    """`Refusals` in memory."""

    def __init__(self, begin: int = 0) -> None:
        super().__init__()
        self._kept: dict[int, RefusedRecord] = {}
        self._next_id = begin + 1
        self.newest_ms = 0

    def listing(
        self,
        projects: Sequence[int] | None,
        *,
        before_id: int | None = None,
        limit: int = 100,
        wanted: RefusalFilter = ALL_REFUSALS,
    ) -> list[RefusedRecord]:
        with self._use():
            found = [
                refusal
                for refusal in reversed(self._kept.values())
                if (projects is None or refusal.project in projects)
                and (before_id is None or refusal.id < before_id)
                and bounds.is_wanted(refusal, wanted)
            ]
            return found[:limit]

    def by_ids(self, ids: Sequence[int]) -> list[RefusedRecord]:
        with self._use():
            return [self._kept[number] for number in sorted(set(ids)) if number in self._kept]

    def newest_id(self) -> int:
        with self._use():
            return self._next_id - 1

    def heads(self, after_id: int, *, limit: int) -> list[RefusalHead]:
        with self._use():
            found = [kept for kept in self._kept.values() if kept.id > after_id]
            return [(kept.id, kept.project, kept.time_ms) for kept in found[:limit]]

    def remove(self, ids: Sequence[int]) -> int:
        with self._use():
            return sum(self._kept.pop(number, None) is not None for number in ids)

    def counts(self) -> Mapping[int, tuple[int, int]]:
        with self._use():
            counts: dict[int, tuple[int, int]] = {}
            for refusal in self._kept.values():
                records, size = counts.get(refusal.project, (0, 0))
                counts[refusal.project] = (records + 1, size + bounds.refusal_bytes(refusal))
            return counts

    def reasons(self, projects: Sequence[int]) -> list[RefusalCount]:
        with self._use():
            found: dict[tuple[str, str], list[int]] = {}
            for refusal in self._kept.values():
                if refusal.project in projects:
                    found.setdefault((refusal.message, refusal.endpoint), []).append(refusal.id)
            return [RefusalCount(*key, len(ids), ids[-1]) for key, ids in found.items()]

    def add(self, refusals: Sequence[RefusedRecord], now_ms: int) -> None:
        with self._use():
            time_ms = max(now_ms, self.newest_ms)
            known: set[tuple[bytes | None, int]] = {
                (kept.request_key, kept.index) for kept in self._kept.values() if kept.request_key is not None
            }
            for refusal in [bounds.storable(refusal) for refusal in refusals]:
                place = (refusal.request_key, refusal.index)
                if place in known:
                    continue
                if refusal.request_key is not None:
                    known.add(place)
                self._kept[self._next_id] = msgspec.structs.replace(
                    refusal, id=self._next_id, time_ms=time_ms
                )
                self._next_id += 1
            for project in {refusal.project for refusal in refusals}:
                self._evict(project)

    def _evict(self, project: int) -> None:
        records_bound, bytes_bound = bounds.refusal_bounds(project)
        own = [refusal for refusal in self._kept.values() if refusal.project == project]
        size = sum(map(bounds.refusal_bytes, own))
        for place, refusal in enumerate(own):
            if len(own) - place <= records_bound and size <= bytes_bound:
                return
            size -= bounds.refusal_bytes(refusal)
            del self._kept[refusal.id]


class MemoryLog(Part):
    """`Log` in memory."""

    def __init__(self, refusals: MemoryRefusals, begin: int = 0) -> None:
        super().__init__()
        self._refusals = refusals
        self._turn = threading.Lock()
        self._chunks: list[Chunk] = []
        self._filters: dict[int, bytes] = {}
        self._head = begin
        self._parted = begin
        self._damaged: dict[int, tuple[int, int, str]] = {}

    @contextmanager
    def turn(self) -> Iterator[MemoryLog]:
        with self._turn:
            yield self

    def append(self, appends: Sequence[Append], now_ms: int) -> Appended:
        """`Turn.append`: the log itself is the turn that it gives out."""
        with self._use():
            count = sum(append.count for append in appends)
            first = self._head
            time_ms = max(now_ms, self._refusals.newest_ms)
            self._refusals.add([refusal for append in appends for refusal in append.refusals], time_ms)
            if count:
                body = join_segments([append.segment for append in appends if append.count])
                kinds = kinds_of(appends)
                self._chunks.append(Chunk(first, count, time_ms, body, kinds))
                self._filters[first] = b"".join([append.id_filter for append in appends])
                self._head += count
                self._refusals.newest_ms = time_ms
                if any(append.parts for append in appends):
                    self._parted = self._head
            return Appended(first, self._head, time_ms)

    def parted(self) -> int:
        """`Turn.parted`."""
        with self._use():
            return self._parted

    def head(self) -> int:
        with self._use():
            return self._head

    def tail_position(self) -> int:
        with self._use():
            return self._chunks[0].first if self._chunks else self._head

    def read(self, watermark: int, *, max_records: int, max_bytes: int, kinds: int = FOR_ALL) -> list[Chunk]:
        with self._use():
            taken: list[Chunk] = []
            records = size = 0
            for chunk in self._chunks[bisect_left(self._chunks, watermark + 1, key=lambda held: held.end) :]:
                if chunk.kinds & kinds:
                    if records and (
                        records + chunk.count > max_records or size + len(chunk.body) > max_bytes
                    ):
                        break
                    records += chunk.count
                    size += len(chunk.body)
                    taken.append(chunk)
                    if records >= max_records or size >= max_bytes:
                        break
                elif taken and not taken[-1].body:
                    run = taken.pop()
                    taken.append(Chunk(run.first, run.count + chunk.count, chunk.time_ms, b"", 0))
                else:
                    taken.append(Chunk(chunk.first, chunk.count, chunk.time_ms, b"", 0))
            return taken

    def next_of(self, watermark: int, kinds: int) -> int:
        with self._use():
            found = (held.first for held in self._chunks if held.first >= watermark and held.kinds & kinds)
            return next(found, self._head)

    def skip_damaged(self, watermark: int) -> int:
        position = watermark
        for first, count, _ in self.damaged():
            if first == position:
                position += count
        return position

    def holding(
        self, hashes: frozenset[int], *, begin: int, below: int, times_ms: Collection[int] = ()
    ) -> tuple[list[int], int]:
        with self._use():
            asked = [chunk for chunk in self._chunks if begin <= chunk.first < below]
            found = [
                chunk.first
                for chunk in asked
                if chunk.time_ms in times_ms or filter_meets(self._filters[chunk.first], hashes)
            ]
            return found, below

    def rewrite(self, rewritten: Sequence[Rewritten]) -> int:
        with self._use():
            taking = {each.chunk.first: each.chunk for each in rewritten}
            held = {chunk.first for chunk in self._chunks}
            self._chunks = [taking.get(chunk.first, chunk) for chunk in self._chunks]
            self._filters.update(
                (each.chunk.first, each.id_filter) for each in rewritten if each.chunk.first in held
            )
            return len(held.intersection(taking))

    def damaged(self) -> list[tuple[int, int, str]]:
        with self._use():
            return [self._damaged[first] for first in sorted(self._damaged)]

    def set_aside(self, chunk: Chunk, reason: str) -> None:
        with self._use():
            self._damaged.setdefault(chunk.first, (chunk.first, chunk.count, reason))

    def trim(self, below: int, older_than_ms: int) -> int:
        with self._use():
            trimmed = 0
            for chunk in self._chunks:
                if chunk.end > below or chunk.time_ms >= older_than_ms:
                    break
                trimmed += 1
                del self._filters[chunk.first]
            del self._chunks[:trimmed]
            return trimmed

    def size_bytes(self) -> int:
        with self._use():
            return sum(len(chunk.body) for chunk in self._chunks)

    def time_at(self, position: int) -> int:
        with self._use():
            index = bisect_left(self._chunks, position + 1, key=lambda held: held.end)
            return self._chunks[index].time_ms if index < len(self._chunks) else 0

    def newest_ms(self) -> int:
        with self._use():
            return self._refusals.newest_ms
