"""Partitions and positions: what lies where, and how far the log's readers have come.

Enters: projects, keys, a store. Leaves: numbers of partitions, positions. Partition n counts its positions
from `first_of(n)` upwards, so that every position says whose it is, and all are below 2^53. A reader writes
its watermark when there was something for it, else now and then: it has come up to the next chunk that is for
it, so what a watermark does not tell, the log does.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mixdown.store.chunk import FOR_EVENTS, FOR_PROFILES
from mixdown.store.protocols import Store

SPAN_BITS: Final = 44
"""So many bits number the records of one partition: 17.6 million millions of them."""
PARTITIONS_LIMIT: Final = 512


def first_of(partition: int) -> int:
    """The first position of a partition."""
    return partition << SPAN_BITS


def partition_at(position: int) -> int:
    """The partition that a position, or the id of a refusal, is of."""
    return position >> SPAN_BITS


def profile_key_text(group_key: str, profile_id: str) -> str:
    """What tells a profile, as it was sent, from others of its project: by it large ones are spread."""
    return f"{group_key}\0{profile_id}"


def partition_for(count: int, project: int, key: str | None = None) -> int:
    """The partition of a project's records, of `count`; with a key, that of the key. It never changes."""
    if count == 1:
        return 0
    if key is None:
        return project % count
    return zlib.crc32(f"{project}\0{key}".encode()) % count


class Place(msgspec.Struct, frozen=True):
    """How far a partition is: where its log ends, and the position up to which readers have come.

    Of a reader that was not looked at the place is the head.
    """

    partition: int
    head: int
    profiles: int
    events: int

    @property
    def slowest(self) -> int:
        """The position up to which every reader has come that was looked at."""
        return min(self.profiles, self.events)


class End(msgspec.Struct, frozen=True):
    """Where a partition's log and its refusals end: the head, and the id of the newest refusal ever."""

    head: int
    refusal: int


def ends_of(views: Iterable[Store]) -> Mapping[int, End]:
    """`Store.ends`, by one look at each partition after the other."""
    return {view.number: End(view.log.head(), view.refusals.newest_id()) for view in views}


def places_of(views: Iterable[Store], kinds: int) -> list[Place]:
    """`Store.places`, by one look at each partition after the other."""
    found = []
    for view in views:
        head = view.log.head()  # first: what comes behind it is of no interest
        profiles = fold_place(view) if kinds & FOR_PROFILES else head
        events = events_place(view) if kinds & FOR_EVENTS else head
        found.append(Place(view.number, head, profiles, events))
    return found


def views_of(store: Store, project: int) -> list[Store]:
    """A project's records: the store as each of its partitions sees it."""
    return [store.partition(number) for number in store.partitions_of(project)]


def all_views(store: Store) -> list[Store]:
    """The store as each of its partitions sees it."""
    return [store.partition(number) for number in range(store.partition_count)]


def fold_place(store: Store) -> int:
    """The position up to which all that concerns profiles is folded, in one partition."""
    return store.log.next_of(store.state.watermark(), FOR_PROFILES)


def events_place(store: Store) -> int:
    """The position up to which all events are taken from the log of one partition."""
    return store.log.next_of(store.events.watermark(), FOR_EVENTS)


def slowest_place(store: Store) -> int:
    """The position up to which every reader of one partition has come."""
    return min(fold_place(store), events_place(store))


class Backlog(msgspec.Struct, frozen=True):
    """What the readers of a kind have before them, in all partitions together; the bytes are estimated.

    `place` counts the records behind them, of all that there ever were; `oldest_ms` is when the oldest that
    waits was appended (0: none waits).
    """

    place: int
    records: int
    size_bytes: int
    oldest_ms: int


class Logs(msgspec.Struct, frozen=True):
    """All logs of a store together: records that there ever were, those dropped by now, and what is held."""

    records: int
    dropped: int
    size_bytes: int
    newest_ms: int
    damaged: int


def backlog_of(store: Store, kind: int) -> Backlog:
    """What the readers of these chunks have before them."""
    place = records = size_bytes = oldest_ms = 0
    for at in store.places(range(store.partition_count), kind):
        waiting = max(0, at.head - at.slowest)
        place += at.slowest - first_of(at.partition)
        if not waiting:
            continue
        log = store.partition(at.partition).log
        held = max(1, at.head - log.tail_position())
        records += waiting
        size_bytes += round(log.size_bytes() * min(1.0, waiting / held))
        since_ms = log.time_at(at.slowest)
        oldest_ms = min(oldest_ms or since_ms, since_ms) if since_ms else oldest_ms
    return Backlog(place, records, size_bytes, oldest_ms)


def logs_of(views: Iterable[Store]) -> Logs:
    """`Store.logs`, by several looks at each partition after the other."""
    records = dropped = size_bytes = newest_ms = damaged = 0
    for view in views:
        first = first_of(view.number)
        records += view.log.head() - first
        dropped += view.log.tail_position() - first
        size_bytes += view.log.size_bytes()
        newest_ms = max(newest_ms, view.log.newest_ms())
        damaged += len(view.log.damaged())
    return Logs(records, dropped, size_bytes, newest_ms, damaged)


def records_waiting(places: Iterable[Place]) -> int:
    """How many records the reader that is furthest behind has before it, of these partitions together."""
    return sum(max(0, place.head - place.slowest) for place in places)
