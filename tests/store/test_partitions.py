"""Partitions: positions that say whose they are, logs and watermarks apart, reads over all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mixdown.model.errors import CatalogError, StoreError
from mixdown.model.identity import DEVICE, SIMPLIFIED, IdentityLink, Member
from mixdown.store.chunk import FOR_ALL
from mixdown.store.events import FIRST_MS, LAST_MS, EventsWrite, batch_of
from mixdown.store.identities import IdentityWrites
from mixdown.store.memory import MemoryStore
from mixdown.store.places import (
    PARTITIONS_LIMIT,
    Place,
    all_views,
    first_of,
    partition_at,
    profile_key_text,
    records_waiting,
    views_of,
)
from mixdown.store.privacy import PENDING, Deletion, begin
from mixdown.store.protocols import FoldResult, Project, Store
from tests.store.support import NOW_MS, append, appending, key, read_all, refusal, user, write


@pytest.fixture
def parted() -> Iterator[Store]:
    """An empty store of three partitions."""
    store = MemoryStore(partitions=3)
    yield store
    store.close()


def project(store: Store, name: str = "one", *, large: bool = False) -> Project:
    made = store.catalog.create_project(
        name, token=name, secret_hash=b"", id_merge="simplified", now_ms=NOW_MS
    )
    return store.catalog.enlarge_project(made.id) if large else made


# --- every store


def test_a_store_names_its_partitions_and_gives_the_same_view_of_each_every_time(store: Store) -> None:
    assert store.partition_count >= 1
    for number in range(store.partition_count):
        view = store.partition(number)
        assert view is store.partition(number)
        assert (view.number, view.partition_count) == (number, store.partition_count)
        assert view.partition(number) is view


def test_an_empty_partition_is_at_its_first_position(store: Store) -> None:
    for view in all_views(store):
        first = first_of(view.number)
        assert (view.log.head(), view.log.tail_position()) == (first, first)
        assert (view.state.watermark(), view.events.watermark()) == (first, first)
    numbers = range(store.partition_count)
    firsts = [first_of(number) for number in numbers]
    assert list(store.places(numbers)) == [Place(number, *[firsts[number]] * 3) for number in numbers]


def test_the_records_of_a_project_are_in_one_partition_and_of_a_large_one_in_all(store: Store) -> None:
    small, large = project(store), project(store, "two", large=True)
    assert [view.number for view in views_of(store, small.id)] == [store.partition_of(small.id)]
    assert [view.number for view in views_of(store, large.id)] == list(range(store.partition_count))
    keys = [profile_key_text("", f"user-{number}") for number in range(100)]
    found = {store.partition_of(large.id, text) for text in keys}
    assert found == set(range(store.partition_count))
    assert all(store.partition_of(large.id, text) == store.partition_of(large.id, text) for text in keys)


def test_a_large_project_keeps_simplified_identity(store: Store) -> None:
    made = project(store)
    assert made.large is False
    before = store.catalog.version()
    large = store.catalog.enlarge_project(made.id)
    assert (large.large, store.catalog.project(made.id)) == (True, large)
    assert store.catalog.version() > before
    with pytest.raises(CatalogError, match="simplified"):
        store.catalog.change_project(made.id, id_merge="original")
    assert store.catalog.change_project(made.id, name="other").large
    assert store.catalog.project(made.id) == store.catalog.projects()[0]


def test_a_project_of_another_identity_mode_is_not_made_large(store: Store) -> None:
    made = store.catalog.change_project(project(store).id, id_merge="legacy")
    with pytest.raises(CatalogError, match="simplified"):
        store.catalog.enlarge_project(made.id)
    assert store.catalog.projects() == [made]
    with pytest.raises(CatalogError, match="no project 99"):
        store.catalog.enlarge_project(99)


def test_a_deletion_has_a_position_in_each_partition_of_its_project(store: Store) -> None:
    for made in (project(store), project(store, "two", large=True)):
        job_id = str(made.id) * 32
        store.privacy.add_deletion(
            Deletion(job_id, made.id, "", ("ada",), 1, PENDING, "tests", "GDPR", NOW_MS)
        )
        assert begin(store, store.privacy.unfinished()[-1], now_ms=NOW_MS)
        job = store.privacy.deletion(made.id, job_id)
        assert job is not None
        views = views_of(store, made.id)
        assert job.positions == tuple(view.log.head() for view in views)
        assert [job.end_in(view.number) for view in views] == list(job.positions)
        assert job.end_in(PARTITIONS_LIMIT) == 0
        store.privacy.part_done(job_id, views[-1].number, b'{"records":1}')
        store.privacy.part_done(job_id, views[-1].number, b'{"records":2}')
        job = store.privacy.deletion(made.id, job_id)
        assert job is not None
        assert job.parts == ((views[-1].number, '{"records":2}'),)


# --- several


def test_positions_say_their_partition_and_stay_below_what_a_double_holds() -> None:
    for number in (0, 1, 7, PARTITIONS_LIMIT - 1):
        first = first_of(number)
        assert [partition_at(first), partition_at(first + 10**13)] == [number, number]
        assert first_of(number + 1) <= 2**53
    assert first_of(0) == 0


def test_each_partition_has_a_log_of_its_own(parted: Store) -> None:
    one, two = parted.partition(1), parted.partition(2)
    first = append(one.log, appending("a", "b"))
    second = append(two.log, appending("c", refused=[refusal()]))
    assert (first.first, second.first) == (first_of(1), first_of(2))
    assert read_all(one.log, first_of(1)) == ["a", "b"]
    assert read_all(two.log, first_of(2)) == ["c"]
    assert parted.partition(0).log.head() == 0
    write(one.state, watermark=first.end)
    assert [view.state.watermark() for view in all_views(parted)] == [0, first.end, first_of(2)]
    places = parted.places([1, 2])
    assert [(place.partition, place.head - place.slowest) for place in places] == [(1, 0), (2, 1)]
    assert records_waiting(places) == 1
    write(two.state, watermark=second.end)
    assert records_waiting(parted.places([1, 2])) == 0


def test_the_whole_store_has_no_log_and_writes_nothing(parted: Store) -> None:
    with pytest.raises(StoreError, match="several partitions"):
        parted.log.head()
    with pytest.raises(StoreError, match="several partitions"):
        parted.state.write(FoldResult(1, (), (), NOW_MS))
    with pytest.raises(StoreError, match="several partitions"):
        parted.events.write(EventsWrite(1, (), (), NOW_MS))


def test_what_is_folded_anywhere_changes_the_watermark_of_the_whole(parted: Store) -> None:
    seen = [parted.state.watermark()]
    for number in (2, 0, 1):
        write(parted.partition(number).state, watermark=first_of(number) + 3)
        seen.append(parted.state.watermark())
    assert seen == sorted(set(seen))
    before = parted.events.watermark()
    parted.partition(1).events.write(EventsWrite(first_of(1) + 3, (), (), NOW_MS))
    assert parted.events.watermark() > before


def test_profiles_of_all_partitions_are_read_together_and_each_partition_sees_its_own(parted: Store) -> None:
    made = project(parted, large=True)
    ids = [f"u{number:02}" for number in range(20)]
    held: dict[int, list[str]] = {}
    for each in ids:
        held.setdefault(parted.partition_of(made.id, profile_key_text("", each)), []).append(each)
    assert len(held) == 3
    for number, own in held.items():
        profiles = [(user(each, made.id), b'{"$name":"%b"}' % each.encode()) for each in own]
        write(parted.partition(number).state, profiles, watermark=first_of(number) + len(own))
    state = parted.state
    assert list(state.ids(made.id, "")) == ids
    assert state.count(made.id, "") == len(ids)
    assert [each for each, _ in state.page(made.id, "", offset=5, limit=3)] == ids[5:8]
    assert [each for each, _ in state.profiles_after(made.id, "", after=ids[17], limit=9)] == ids[18:]
    assert None not in state.documents([user(each, made.id) for each in ids])
    for number, own in held.items():
        view = parted.partition(number).state
        assert list(view.ids(made.id, "")) == own
        watermark, document = state.standing(user(own[0], made.id))
        assert (watermark, document is not None) == (view.watermark(), True)
    assert state.property_counts(made.id, "", limit=5).counts == {"$name": {"string": len(ids)}}


def test_links_are_read_of_all_partitions_and_each_partition_knows_its_own(parted: Store) -> None:
    made = project(parted, large=True)
    for number in (0, 2):
        device = f"$device:{number}"
        link = IdentityLink(first_of(number), NOW_MS, SIMPLIFIED, DEVICE, device, "ada")
        changes = IdentityWrites(made.id, made=[link], members=[(device, Member(device, "ada"))])
        parted.partition(number).state.write(
            FoldResult(first_of(number) + 1, (), (), NOW_MS, identities=[changes])
        )
    assert set(parted.state.linked(made.id, "ada")) == {"ada", "$device:0", "$device:2"}
    assert parted.state.canonical(made.id, ["$device:2"]) == {"$device:2": "ada"}
    assert set(parted.partition(0).state.linked(made.id, "ada")) == {"ada", "$device:0"}
    assert parted.partition(1).state.linked(made.id, "ada") == ["ada"]


def test_keys_are_known_to_their_partition_and_to_the_whole(parted: Store) -> None:
    write(parted.partition(1).state, watermark=first_of(1) + 1, keys=[(key(1), NOW_MS, None)])
    assert parted.partition(0).state.known_keys([key(1)], since_ms=0) == {}
    assert parted.partition(1).state.known_keys([key(1)], since_ms=0) == {key(1): None}
    assert parted.state.known_keys([key(1), key(2)], since_ms=0) == {key(1): None}
    assert parted.state.key_window() == (1, NOW_MS)


def test_events_of_all_partitions_are_read_together(parted: Store) -> None:
    def line(position: int) -> dict[str, object]:
        own = {"event": "E", "time": NOW_MS, "distinct_id": "d", "insert_id": str(position)}
        return {"position": position, "arrived": NOW_MS, **own, "properties": {}}

    for number in (0, 1):
        position = first_of(number)
        batch = batch_of(1, [line(position)])
        parted.partition(number).events.write(EventsWrite(position + 1, [batch], [], NOW_MS))
    assert len(parted.events.parts(1, FIRST_MS, LAST_MS).hot) == 2
    assert len(parted.partition(1).events.parts(1, FIRST_MS, LAST_MS).hot) == 1
    assert (parted.events.size(1).hot_events, parted.events.projects()) == (2, [1])
    parted.events.drop(1)
    assert parted.events.projects() == []


def test_refusals_of_all_partitions_come_newest_first_and_page_by_page(parted: Store) -> None:
    order = [2, 0, 1, 0, 2, 2, 1]
    for at, number in enumerate(order):
        append(parted.partition(number).log, appending(refused=[refusal(index=at)]), now_ms=NOW_MS + at)
    newest = [each.index for each in parted.refusals.listing(None)]
    assert newest == list(range(len(order)))[::-1]
    found: list[int] = []
    before = None
    while page := parted.refusals.listing(None, before_id=before, limit=2):
        found += [each.index for each in page]
        before = page[-1].id
    assert found == newest
    ids = [each.id for each in parted.refusals.listing(None)]
    assert [partition_at(each) for each in ids] == order[::-1]
    assert parted.refusals.remove(ids[:3]) == 3
    assert [each.id for each in parted.refusals.by_ids(ids)] == sorted(ids[3:])
    assert parted.refusals.counts()[1][0] == len(order) - 3
    (reason,) = parted.refusals.reasons([1])
    assert reason.count == len(order) - 3


def test_what_one_look_tells_of_readers_covers_the_kinds_that_were_asked_for(parted: Store) -> None:
    appended = append(parted.partition(1).log, appending("a"))
    (place,) = parted.places([1], FOR_ALL)
    assert (place.head, place.profiles, place.events) == (appended.end, appended.first, appended.end)
