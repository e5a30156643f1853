"""The log of a data folder, taken over chunk by chunk while the folder goes on.

Enters: the folder's open log. Leaves: the same records, in the logs of the partitions that they belong to, in
their order and with their time, each once: how far it has come is written by the transaction that appends.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec

from mixdown.model import texts
from mixdown.model.errors import StoreError
from mixdown.store.chunk import (
    FOR_ALL,
    FOR_EVENTS,
    FOR_PROFILES,
    Chunk,
    Link,
    LoggedEvent,
    LoggedUpdate,
    Outcome,
    WholeSegment,
    decode_whole,
    encode_filter,
)
from mixdown.store.places import partition_for
from mixdown.store.postgres.filling import Copy
from mixdown.store.postgres.log import APPEND, PostgresLog
from mixdown.store.postgres.store import PostgresStore
from mixdown.store.privacy import ENDPOINT as ERASE
from mixdown.store.privacy import TOMBSTONE_PROJECT
from mixdown.store.protocols import Append, Log

RECORDS_AT_ONCE: Final = 50_000
BYTES_AT_ONCE: Final = 16 * 1024 * 1024
_MOVE: Final = (
    "UPDATE mixdown.copying SET shipped = %s WHERE one = 1 AND copy = %s AND shipped = %s RETURNING 1"
)


class Shipping:
    """Takes over the log of the folder whose `log` this is. For one thread."""

    def __init__(self, log: Log, store: PostgresStore, copy: Copy) -> None:
        self._log = log
        self._store = store
        self._copy = copy
        self.position = copy.shipped
        """The position up to which the folder's log is here."""
        self.records = 0

    def behind(self) -> int:
        """How many records are not here yet."""
        return self._log.head() - self.position

    def step(self) -> int:
        """Take over what comes next; how many records, 0 when all is here. Raises `StoreError`."""
        begin = self.position
        chunks = self._log.read(begin, max_records=RECORDS_AT_ONCE, max_bytes=BYTES_AT_ONCE)
        tail = self._log.tail_position()  # after reading: it may be trimmed meanwhile
        if tail > begin:
            raise StoreError(
                f"the folder's log begins at {tail} by now, and is here up to {begin}: the rest is gone",
                hint="Begin anew, in another database, with a longer log_retention_hours.",
            )
        end = chunks[-1].end if chunks else self._log.skip_damaged(begin)
        if end <= begin:
            return 0
        appended = [
            (chunk.time_ms, partition, append)
            for chunk in chunks
            for partition, append in self._shares(chunk).items()
            if append.kinds
        ]
        with self._store.database.pipeline() as connection:
            moved = connection.execute(_MOVE, (end, self._copy.copy, begin))
            for time_ms, partition, append in appended:
                log: PostgresLog = self._logs(partition)
                packed = log.packed([append], append.count)
                connection.execute(APPEND, (partition, append.count, time_ms, None, False, *packed))
            if moved.fetchone() is None:
                raise StoreError("another process takes over this folder's log: nothing was written")
        self.position = end
        self.records += end - begin
        return end - begin

    def _logs(self, partition: int) -> PostgresLog:
        return PostgresLog(self._store.database, partition)

    def _shares(self, chunk: Chunk) -> dict[int, Append]:
        """What of a chunk goes to each partition, for those readers that have not had it in the copy."""
        wanted = chunk.kinds
        for kind, since in ((FOR_PROFILES, self._copy.fold_from), (FOR_EVENTS, self._copy.events_from)):
            if chunk.first < since < chunk.end:
                raise StoreError(
                    f"a reader of the folder's log stands within the chunk at {chunk.first}",
                    hint="Begin anew, in another database: it will have gone on.",
                )
            if chunk.end <= since:
                wanted &= ~kind
        if not wanted or not chunk.body:
            return {}
        shares: dict[int, list[WholeSegment]] = defaultdict(list)
        for segment in decode_whole(chunk.body):
            for partition, share in split(segment, self._store.partition_count).items():
                shares[partition].append(share)
        return {partition: _append(own, wanted, partition) for partition, own in sorted(shares.items())}


def _append(segments: list[WholeSegment], wanted: int, partition: int) -> Append:
    kinds = 0
    for segment in segments:
        kinds |= _kinds_of(segment)
    ids = {each for segment in segments for each in segment.ids()}
    return Append(
        # several segments as one: they are joined by commas
        segment=msgspec.json.encode(segments)[1:-1],
        count=sum(segment.records for segment in segments),
        id_filter=encode_filter(ids),
        kinds=kinds & wanted,
        partition=partition,
    )


def _kinds_of(segment: WholeSegment) -> int:
    if segment.endpoint == ERASE:
        return FOR_ALL
    kinds = FOR_EVENTS if segment.event_count else 0
    if segment.updates or segment.links or segment.key is not None:
        kinds |= FOR_PROFILES
    return kinds


def split(segment: WholeSegment, count: int) -> dict[int, WholeSegment]:
    """A request's records by the partition of their projects, in their order.

    What was erased stays nowhere. As when requests are spread (`ingest.placing`), several shares do not tell
    what was wrong with a record, and a link names its event's place within its share.
    """
    updates: dict[int, list[LoggedUpdate]] = defaultdict(list)
    events: dict[int, list[LoggedEvent]] = defaultdict(list)
    links: dict[int, list[Link]] = defaultdict(list)
    linked: dict[int, list[Link]] = defaultdict(list)
    for link in segment.links:
        linked[link.index].append(link)
    for update in segment.updates:
        if update.project != TOMBSTONE_PROJECT:
            updates[partition_for(count, update.project)].append(update)
    for index, (project, event) in enumerate(segment.events):
        if project == TOMBSTONE_PROJECT:
            continue
        home = partition_for(count, project)
        links[home] += [msgspec.structs.replace(link, index=len(events[home])) for link in linked[index]]
        events[home].append((project, event))
    homes = sorted(updates.keys() | events.keys())
    told = segment.outcome if len(homes) == 1 else _unquoted(segment.outcome)
    return {
        home: WholeSegment(
            segment.endpoint,
            segment.sdk,
            segment.key,
            told,
            updates[home],
            links[home],
            len(events[home]),
            events[home],
        )
        for home in homes
    }


def _unquoted(outcome: Outcome | None) -> Outcome | None:
    if outcome is None or not outcome.failed:
        return outcome
    failed = tuple((index, "", texts.REFUSED_BEFORE) for index, _, _ in outcome.failed)
    return Outcome(outcome.total, outcome.good, failed)
