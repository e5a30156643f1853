"""Links of events and the profiles they bring together, applied in log order, once each."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest

from mixdown.fold import identity
from mixdown.fold.profiles import ProfileFold
from mixdown.model import texts
from mixdown.model.errors import StoreError
from mixdown.model.identity import Identities
from mixdown.store.chunk import Link
from mixdown.store.protocols import FoldResult
from mixdown.store.unmerging import append_unmerge
from tests.fold.conftest import Way, record
from tests.store.support import append, appending_events

UUID = "0b5bd3f5-9c6f-4b7e-8f5e-2a1c3d4e5f60"
DEVICE = "$device:D"


def link(way: Way, verb: str, one: str, other: str, mode: str = "original", key: bytes | None = None) -> None:
    """An event that links two ids."""
    asked = Link(0, way.project.id, mode, verb, one, other)
    append(way.store.log, appending_events(one, links=[asked], key=key), now_ms=way.now_ms)


def canonical(way: Way, *ids: str) -> list[str]:
    """Whose these ids are."""
    found = way.store.state.canonical(way.project.id, ids)
    return [found[each] for each in ids]


def refused(way: Way) -> list[tuple[str, str]]:
    """(field, message) of what was refused."""
    return [(each.field, each.message) for each in way.store.refusals.listing([way.project.id])]


def test_an_update_of_an_alias_is_one_of_its_distinct_id(way: Way) -> None:
    link(way, "create_alias", "u1", "a1")
    way.submit(record("a1", set={"n": 1}))
    way.fold_all()
    assert (way.profile("u1"), way.profile("a1")) == ({"n": 1}, None)


def test_within_a_step_an_update_before_the_link_stays_and_one_behind_it_goes_over(way: Way) -> None:
    way.submit(record("a1", set={"before": 1}))
    link(way, "create_alias", "u1", "a1")
    way.submit(record("a1", set={"behind": 1}))
    way.submit(record("u1", add={"behind": 1}))
    folded = way.fold.step()
    assert folded is not None
    assert folded.records == 4
    assert (way.profile("u1"), way.profile("a1")) == ({"behind": 2}, {"before": 1})


def test_ignore_alias_means_the_literal_id(way: Way) -> None:
    link(way, "create_alias", "u1", "a1")
    way.submit(record("u1", set={"n": 1}), record("a1", set={"own": 1}, ignore_alias=True))
    way.fold_all()
    way.submit(record("a1", delete="", ignore_alias="true"))
    way.fold_all()
    assert (way.profile("u1"), way.profile("a1")) == ({"n": 1}, None)
    way.submit(record("a1", delete="", ignore_alias="false"))
    way.fold_all()
    assert way.profile("u1") is None


def test_of_two_profiles_that_become_one_the_canonical_one_keeps_its_values_and_takes_none(way: Way) -> None:
    way.submit(record("u1", set={"a": 1}), record("u2", set={"a": 2, "b": 2}))
    link(way, "merge", "u1", "u2")
    way.submit(record("u2", set={"c": 3}))
    way.fold_all()
    assert (way.profile("u1"), way.profile("u2")) == ({"a": 1, "c": 3}, {"a": 2, "b": 2})
    way.submit(record("u2", unset=["b"], ignore_alias=True))
    way.fold_all()
    assert way.profile("u2") == {"a": 2}


def test_properties_of_a_device_are_not_carried_over_to_its_user(way: Way) -> None:
    way.submit(record(DEVICE, set={"anonymous": 1}))
    link(way, "device", DEVICE, "u1", "simplified")
    way.submit(record(DEVICE, set={"known": 1}))
    way.fold_all()
    assert (way.profile("u1"), way.profile(DEVICE)) == ({"known": 1}, {"anonymous": 1})


def test_groups_have_no_identities(way: Way) -> None:
    link(way, "create_alias", "u1", "a1")
    group = {"$token": "TOK", "$group_key": "Company", "$group_id": "a1", "$set": {"n": 1}}
    way.submit(group, endpoint="groups")
    way.fold_all()
    assert way.profile("a1", "Company") == {"n": 1}


def test_another_project_is_none_of_it(way: Way) -> None:
    way.store.catalog.create_project(
        "second", token="TOK2", secret_hash=b"2" * 32, id_merge="original", now_ms=0
    )
    link(way, "create_alias", "u1", "a1")
    way.submit({**record("a1", set={"n": 1}), "$token": "TOK2"})
    way.fold_all()
    assert way.store.state.documents([(2, "", "a1"), (1, "", "u1")])[1] is None
    assert way.store.state.documents([(2, "", "a1")])[0] is not None


FAILURES = [
    ("identify", "u1", "not-a-uuid", "original", "$anon_id", texts.LINK_NOT_ANONYMOUS),
    ("device", DEVICE, "u2", "simplified", "$device_id", texts.LINK_FIRST_USER),
    ("create_alias", "u2", "a1", "original", "alias", texts.LINK_ALIAS_TAKEN),
]


@pytest.mark.parametrize(("verb", "one", "other", "mode", "field", "why"), FAILURES)
def test_a_link_that_fails_is_a_refusal_once_for_each_pair(
    way: Way, verb: str, one: str, other: str, mode: str, field: str, why: str
) -> None:
    link(way, "device", DEVICE, "u1", "simplified")
    link(way, "create_alias", "u1", "a1")
    link(way, verb, one, other, mode)
    link(way, verb, one, other, mode)
    way.fold_all()
    link(way, verb, one, other, mode)
    way.fold_all()
    way.fold = ProfileFold(way.store)
    link(way, verb, one, other, mode)
    way.fold_all()
    assert refused(way) == [(field, why)]
    (kept,) = way.store.refusals.listing(None)
    assert (kept.endpoint, kept.whole) == ("track", verb != "device")
    sent = orjson.loads(kept.record)["properties"]
    assert sent["token"] == "TOK"
    assert {one.removeprefix("$device:"), other} <= set(sent.values())


def test_thousands_who_share_a_device_do_not_fill_the_refusals(way: Way) -> None:
    link(way, "device", DEVICE, "u0", "simplified")
    for number in range(1, 60):
        link(way, "device", DEVICE, f"u{number}", "simplified")
    way.fold_all()
    assert len(refused(way)) == identity.TOLD_OF_ONE


def test_a_step_counts_what_it_did_to_links(way: Way) -> None:
    for number in range(30):
        link(way, "device", DEVICE, f"u{number}", "simplified")
    folded = way.fold.step()
    assert folded is not None
    assert folded.links == (1, 29, 0), "those that are not told are counted"
    append_unmerge(way.store, way.project.id, DEVICE, now_ms=way.now_ms)
    folded = way.fold.step()
    assert folded is not None
    assert folded.links == (0, 0, 1)


def test_a_link_of_a_request_sent_twice_is_made_once(way: Way) -> None:
    link(way, "create_alias", "u1", "a1", key=b"k" * 16)
    way.fold_all()
    append_unmerge(way.store, way.project.id, "a1", now_ms=way.now_ms)
    link(way, "create_alias", "u1", "a1", key=b"k" * 16)
    way.fold_all()
    assert canonical(way, "a1") == ["a1"]


def test_unmerging_takes_an_id_apart_in_its_place_in_the_log(way: Way) -> None:
    link(way, "create_alias", "u1", "a1")
    way.submit(record("a1", add={"n": 1}))
    append_unmerge(way.store, way.project.id, "a1", now_ms=way.now_ms)
    way.submit(record("a1", add={"n": 10}))
    way.fold_all()
    assert (way.profile("u1"), way.profile("a1")) == ({"n": 1}, {"n": 10})
    (undone,) = way.store.state.links(way.project.id, ["a1"], limit=9, undone=True)
    assert (undone.position, undone.undone_position, undone.undone_ms) == (0, 2, way.now_ms)
    link(way, "create_alias", "u2", "a1")
    way.fold_all()
    assert canonical(way, "a1") == ["u2"], "it is free for others then"


def test_after_unmerging_the_next_event_of_both_links_them_again_though_the_pair_was_settled(
    way: Way,
) -> None:
    for _ in range(2):
        link(way, "device", DEVICE, "u1", "simplified")
        way.fold_all()
    append_unmerge(way.store, way.project.id, DEVICE, now_ms=way.now_ms)
    link(way, "device", DEVICE, "u2", "simplified")
    link(way, "device", DEVICE, "u1", "simplified")
    way.fold_all()
    assert canonical(way, DEVICE) == ["u2"]


def test_an_unmerge_with_a_key_counts_once(way: Way) -> None:
    link(way, "create_alias", "u1", "a1")
    append_unmerge(way.store, way.project.id, "a1", key=b"k" * 16, now_ms=way.now_ms)
    link(way, "create_alias", "u1", "a1")
    append_unmerge(way.store, way.project.id, "a1", key=b"k" * 16, now_ms=way.now_ms)
    way.fold_all()
    assert canonical(way, "a1") == ["u1"]


def test_unmerging_where_nothing_was_ever_linked_makes_no_profile(way: Way) -> None:
    append_unmerge(way.store, way.project.id, "u1", now_ms=way.now_ms)
    way.fold_all()
    assert way.profile("u1") is None
    assert refused(way) == []


def test_a_step_that_fails_is_done_again_as_if_it_had_not_been(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(way, "create_alias", "u1", "a1")
    way.submit(record("a1", add={"n": 1}))

    def crash(result: FoldResult) -> None:
        list(result.profiles)
        raise StoreError("no more disk")

    with monkeypatch.context() as patch:
        patch.setattr(way.store.state, "write", crash)
        with pytest.raises(StoreError):
            way.fold.step()
    assert canonical(way, "a1") == ["a1"]
    way.fold_all()
    assert canonical(way, "a1") == ["u1"]
    assert way.profile("u1") == {"n": 1}


def test_what_is_settled_asks_the_store_no_more(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    link(way, "device", DEVICE, "u1", "simplified")
    way.fold_all()

    def asked(*_: Any) -> str:
        raise AssertionError

    monkeypatch.setattr(Identities, "link", asked)
    link(way, "device", DEVICE, "u1", "simplified")
    way.fold_all()
    assert canonical(way, DEVICE) == ["u1"]


def test_settled_links_are_forgotten_when_there_are_many() -> None:
    settled = identity.Settled()
    for number in range(3 * identity.SETTLED_HELD):
        settled.add(str(number))
    assert "0" not in settled
    assert str(3 * identity.SETTLED_HELD - 1) in settled
    settled.add("x" * 10_000)
    assert "x" * 10_000 not in settled
    settled.add("😀" * 200)
    assert "😀" * 200 not in settled, "held, it takes four bytes a character"


def test_ids_that_links_failed_for_are_remembered_in_bounded_memory() -> None:
    settled = identity.Settled()
    tracemalloc.start()
    try:
        for number in range(50):
            assert settled.tells(1, f"{number}" + "x" * 100_000)
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held_bytes < 50_000


def test_links_of_erased_events_are_passed_by(way: Way) -> None:
    append(way.store.log, appending_events("u1", links=[Link(0, 0, "original", "merge", "u1", "u2")]))
    way.fold_all()
    assert way.store.state.linked_projects() <= {0}
    assert way.store.state.links(0, ["u1"], limit=9) == []
