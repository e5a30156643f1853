"""The last records of some projects, read backwards from the log's head.

What enters: a store, project ids, how many. What leaves: records as they stand in the log, newest first.
It reads a bounded stretch of the log, so a quiet project in a busy log may show fewer than asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from mixdown.model.errors import CorruptStoreError
from mixdown.model.operators import Operator
from mixdown.store.chunk import Chunk, LoggedUpdate, decode_body
from mixdown.store.places import all_views
from mixdown.store.privacy import is_tombstone
from mixdown.store.protocols import Log, Store

SCAN_LIMIT_RECORDS: Final = 50_000
SCAN_LIMIT_BYTES: Final = 64 * 1024 * 1024
_READ_BYTES: Final = 8 * 1024 * 1024


class RecentRecord(msgspec.Struct, frozen=True):
    """One accepted record: its place in the log, when it was appended, and what it does.

    `operations` maps operator names to their payloads, as JSON.
    """

    position: int
    time_ms: int
    project: int
    endpoint: str
    sdk: str
    group_key: str
    id: str
    operations: dict[str, msgspec.Raw]


class Placed(Protocol):
    """What has a place in the log."""

    @property
    def position(self) -> int:
        """Its place."""

    @property
    def time_ms(self) -> int:
        """When it was appended."""


R = TypeVar("R", bound=Placed)


def recent_records(store: Store, projects: Collection[int] | None, *, limit: int) -> list[RecentRecord]:
    """The last `limit` records of these projects (None: of all), newest first. Raises `StoreError`."""
    return last_of_all(views_for(store, projects), lambda chunk: records_of(chunk, projects), limit=limit)


def views_for(store: Store, projects: Collection[int] | None) -> list[Store]:
    """The store as each of the partitions sees it that has records of these projects (None: of any)."""
    if store.partition_count == 1 or projects is None:
        return all_views(store)
    numbers = {number for project in projects for number in store.partitions_of(project)}
    return [store.partition(number) for number in sorted(numbers)]


def last_of_all(
    views: Sequence[Store],
    look: Callable[[Chunk], list[R]],
    *,
    limit: int,
    back_records: int = SCAN_LIMIT_RECORDS,
) -> list[R]:
    """The same of several partitions together: by the times of chunks, then by position."""
    found = [
        each for view in views for each in last_of(view.log, look, limit=limit, back_records=back_records)
    ]
    if len(views) > 1:
        found.sort(key=_arrival, reverse=True)
    return found[:limit]


def _arrival(placed: Placed) -> tuple[int, int]:
    return placed.time_ms, placed.position


def last_of(
    log: Log, look: Callable[[Chunk], list[R]], *, limit: int, back_records: int = SCAN_LIMIT_RECORDS
) -> list[R]:
    """The last `limit` of what `look` finds in chunks, newest first, not further back than so many records.

    Raises `StoreError`.
    """
    end = log.head()
    floor = max(log.tail_position(), end - back_records)
    budget = SCAN_LIMIT_BYTES
    stretch = max(1, limit)
    found: list[R] = []
    while end > floor and len(found) < limit:
        start = max(floor, end - stretch)
        chunks = _chunks(log, start, end, budget)
        if chunks is None:
            break
        budget -= sum(len(chunk.body) for chunk in chunks)
        found = [each for chunk in chunks for each in look(chunk)] + found
        end = min([start, *[chunk.first for chunk in chunks]])
        stretch *= 4
    return found[-limit:][::-1]


def _chunks(log: Log, start: int, end: int, budget: int) -> list[Chunk] | None:
    """The whole chunks that begin before `end`, from the one at `start` on; None where they are too large."""
    chunks: list[Chunk] = []
    at = start
    while at < end:
        found = log.read(at, max_records=end - at, max_bytes=_READ_BYTES)
        if not found or found[-1].end <= at:
            break
        chunks += [chunk for chunk in found if chunk.first < end]
        budget -= sum(len(chunk.body) for chunk in found)
        if budget < 0:
            return None
        at = found[-1].end
    return chunks


def records_of(chunk: Chunk, projects: Collection[int] | None) -> list[RecentRecord]:
    """The records of a chunk that belong to these projects (None: all); none where it cannot be read."""
    try:
        segments = decode_body(chunk.body)
    except CorruptStoreError:
        return []
    records = []
    position = chunk.first
    for segment in segments:
        for update in segment.updates:
            if not is_tombstone(update) and (projects is None or update.project in projects):
                records.append(recent_record(update, position, chunk.time_ms, segment.endpoint, segment.sdk))
            position += 1
        position += segment.event_count
    return records


def recent_record(update: LoggedUpdate, position: int, time_ms: int, endpoint: str, sdk: str) -> RecentRecord:
    """An update of the log as it is shown."""
    return RecentRecord(
        position=position,
        time_ms=time_ms,
        project=update.project,
        endpoint=endpoint,
        sdk=sdk,
        group_key=update.group_key,
        id=update.id,
        operations={f"${Operator(code).name.lower()}": payload for code, payload in update.operations},
    )
