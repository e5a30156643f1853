"""Listening to a store with several partitions: one place in each, and nothing lost or shown twice."""

from __future__ import annotations

import time

import orjson

from mixdown.cli.tail import Follower
from mixdown.query.live.arrivals import ArrivalCounts
from mixdown.query.live.pieces import REFUSAL, UPDATE, Arrived
from mixdown.query.live.reader import Hearing, Rendering, TailReader, recent
from mixdown.query.live.wanted import Cursor, Places, Share, Tally, Wanted
from mixdown.query.recent import RecentRecord, recent_records
from mixdown.store.memory import MemoryStore
from mixdown.store.places import first_of
from mixdown.store.protocols import RefusedRecord, Store
from tests.store.support import NOW_MS, append, appending, refusal

PROJECT = 1
"""What `tests.store.support` makes records of; it is in partition 1."""


def sent(store: Store, partition: int, *ids: str, at_ms: int, refused: bool = False) -> None:
    made = [refusal(index=at_ms)] if refused else []
    append(store.partition(partition).log, appending(*ids, refused=made), now_ms=NOW_MS + at_ms)


def render(kind: str, arrived: Arrived, place: Places) -> bytes:
    name = arrived.id if isinstance(arrived, RecentRecord) else f"refused {arrived.time_ms - NOW_MS}"
    return orjson.dumps([kind, name, str(place)])


def tallied(tally: Tally, place: Places) -> bytes:
    return orjson.dumps(["tally", tally.matched, str(place)])


def hearing(projects: frozenset[int] | None = None) -> Hearing:
    share = Share(Wanted(projects), rate=1000, now_s=0.0)
    return Hearing(share, Rendering(render, tallied), lambda: 0)


def names(messages: list[bytes]) -> list[str]:
    return [orjson.loads(message)[1] for message in messages]


def test_what_arrives_in_any_partition_is_heard_in_the_order_of_its_times() -> None:
    store = MemoryStore(partitions=3)
    reader, listener = TailReader(store), hearing()
    place, gap, found = reader.begin(listener, None)
    assert (len(place.cursors), gap, found) == (3, False, [])
    sent(store, 2, "a", at_ms=1)
    sent(store, 0, "b", at_ms=2)
    sent(store, 1, "c", at_ms=3, refused=True)
    sent(store, 2, "d", at_ms=4)
    (heard,) = reader.look([listener], 0.5)
    assert names(heard) == ["a", "b", "c", "refused 3", "d"]
    assert reader.look([listener], 0.6) == [[]]


def test_who_comes_back_with_any_place_goes_on_behind_it() -> None:
    store = MemoryStore(partitions=3)
    reader, listener = TailReader(store), hearing()
    reader.begin(listener, None)
    for at in range(6):
        sent(store, at % 3, f"u{at}", at_ms=at)
    (heard,) = reader.look([listener], 0.5)
    for number, message in enumerate(heard):
        after = Places.read(orjson.loads(message)[2])
        assert after is not None
        _, gap, missed = TailReader(store).begin(hearing(), after)
        assert (gap, names(missed)) == (False, [f"u{at}" for at in range(number + 1, 6)])


def test_who_listens_to_one_project_has_a_place_in_its_partition_alone() -> None:
    store = MemoryStore(partitions=3)
    for name in ("one", "two"):
        store.catalog.create_project(name, token=name, secret_hash=b"", id_merge="simplified", now_ms=NOW_MS)
    reader, listener = TailReader(store), hearing(frozenset({PROJECT}))
    place, _, _ = reader.begin(listener, None)
    assert place == Places((Cursor(first_of(1), store.partition(1).refusals.newest_id()),))
    sent(store, 2, "elsewhere", at_ms=1)
    sent(store, 1, "here", at_ms=2)
    (heard,) = reader.look([listener], 0.5)
    assert names(heard) == ["here"]
    other = Places((Cursor(first_of(2), first_of(2)),))
    assert reader.begin(hearing(frozenset({PROJECT})), other)[1], "a place of other partitions is none here"


def test_a_place_reads_as_it_was_written_and_names_each_partition_once() -> None:
    places = Places((Cursor(12, 3), Cursor(first_of(2) + 5, first_of(2))))
    assert Places.read(str(places)) == places
    assert str(Places((Cursor(12, 3),))) == "12-3"
    for text in ("", ".", "1-2.", "1-2.3-4", "1-2.x", ".".join(["1-2"] * 600)):
        assert Places.read(text) is None


def test_the_newest_records_and_their_counts_are_those_of_all_partitions() -> None:
    store = MemoryStore(partitions=3)
    now_ms = time.time_ns() // 1_000_000
    for at in range(6):
        append(
            store.partition(at % 3).log,
            appending(f"u{at}", refused=[refusal(index=at)] if at == 4 else []),
            now_ms=now_ms - 6 + at,
        )
    assert [each.id for each in recent_records(store, None, limit=4)] == ["u5", "u4", "u3", "u2"]
    items, place = recent(store, Wanted(None), limit=4)
    assert [item.kind for item in items] == [UPDATE, UPDATE, REFUSAL, UPDATE]
    assert [cursor.position for cursor in place.cursors] == [
        store.partition(number).log.head() for number in range(3)
    ]
    counts = ArrivalCounts(store)
    for _ in range(2):
        found = counts.of(None, now_ms=now_ms).counts
        assert (sum(found[UPDATE]), sum(found[REFUSAL])) == (6, 1)


def test_a_tail_on_the_command_line_follows_all_partitions() -> None:
    store = MemoryStore(partitions=3)
    sent(store, 0, "before", at_ms=0, refused=True)
    follower = Follower(store, None, as_json=True)
    assert len(follower.start()) == 2
    for at in (2, 0, 1):
        sent(store, at, f"u{at}", at_ms=3 - at, refused=at == 1)
    found = [orjson.loads(line.text) for line in follower.poll()]
    assert [each["id"] for each in found if each["kind"] == "record"] == ["u2", "u1", "u0"]
    assert [each["kind"] for each in found].count("refusal") == 1
    assert follower.poll() == []
    assert isinstance(store.refusals.listing(None)[0], RefusedRecord)
