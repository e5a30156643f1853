"""Sessions: frozen result sets that live for a week (contract query §2.4)."""

from __future__ import annotations

import pytest

from mixdown.query.engage import UNCACHED
from mixdown.query.sessions import WholeSession, read_whole
from tests.reads.support import DAY_MS, ENGAGE, OTHER_SECRET, OWNER, TOKEN, World, basic, ids_of, names, user


def test_profiles_made_after_page_0_neither_appear_nor_shift_pages(world: World) -> None:
    world.store_users(names(30))
    first = world.page(page_size=10)
    world.store_users(["a-new-one", "u00015a", "z"])
    pages = [world.page(page=page, session_id=first["session_id"]) for page in (1, 2, 3)]
    assert ids_of(first) + [profile_id for page in pages for profile_id in ids_of(page)] == names(30)
    assert {page["total"] for page in pages} == {30}
    assert world.page(page_size=10)["total"] == 33


def test_a_changed_profile_is_served_as_it_is_now(world: World) -> None:
    world.store_users(names(30))
    first = world.page(page_size=10)
    world.send(user("u00010", n="new"))
    world.fold_all()
    second = world.page(page=1, session_id=first["session_id"])
    assert second["results"][0]["$properties"]["n"] == "new"


def test_a_profile_deleted_meanwhile_leaves_an_empty_row_so_that_the_page_keeps_its_length(
    world: World,
) -> None:
    world.store_users(names(30))
    first = world.page(page_size=10)
    world.send({"$token": TOKEN, "$distinct_id": "u00012", "$delete": ""})
    world.fold_all()
    second = world.page(page=1, session_id=first["session_id"])
    assert len(second["results"]) == 10
    assert second["results"][2] == {"$distinct_id": "u00012", "$properties": {}}


@pytest.mark.parametrize("users", [0, 7, 10, 25])
def test_pages_past_the_end_are_empty_with_the_same_total_and_session(world: World, users: int) -> None:
    world.store_users(names(users))
    first = world.page(page_size=10)
    for page in (3, 4, 1_000_000_000):
        past = world.page(page=page, session_id=first["session_id"], page_size=10)
        assert past["results"] == []
        for key in ("total", "page_size", "session_id"):
            assert past[key] == first[key]
        assert past["page"] == page


def test_the_first_calls_page_size_and_properties_rule_the_session(world: World) -> None:
    world.store_users(names(30))
    first = world.page(page_size=10, output_properties='["n"]')
    second = world.page(
        page=1, session_id=first["session_id"], page_size=3, output_properties='["$last_seen"]'
    )
    assert second["page_size"] == 10
    assert second["results"][0] == {"$distinct_id": "u00010", "$properties": {"n": 10}}


def test_page_0_of_a_session_is_the_frozen_one(world: World) -> None:
    world.store_users(names(30))
    first = world.page(page_size=10)
    world.store_users(["a-new-one"])
    again = world.page(page=0, session_id=first["session_id"])
    assert ids_of(again) == ids_of(first)
    assert again["session_id"] == first["session_id"]


def test_sessions_live_for_a_week_and_then_say_so(world: World) -> None:
    world.store_users(names(30))
    stored = world.page(page_size=10)
    whole = world.page(page_size=100)
    world.now_ms += 7 * DAY_MS - 1000
    assert len(world.page(page=1, session_id=stored["session_id"])["results"]) == 10
    assert world.page(page=1, session_id=whole["session_id"])["results"] == []
    world.now_ms += 2000
    for session in (stored, whole):
        reply = world.get(ENGAGE, params={"page": 1, "session_id": session["session_id"]})
        assert reply.status_code == 400
        assert "request for page in uncached query for params" in reply.json()["error"]


@pytest.mark.parametrize(
    "session_id",
    ["1700000000-abcdef", "whole-1-1-1", "whole-1-5-3-0", "whole-x-1-1-1", "live-2", "'", "é" * 300],
)
def test_an_unknown_session_starts_afresh_at_page_0_and_is_400_after_it(
    world: World, session_id: str
) -> None:
    world.store_users(names(30))
    for parameters in ({"page": 0}, {}):
        fresh = world.page(session_id=session_id, page_size=10, **parameters)
        assert ids_of(fresh) == names(10)
        assert fresh["session_id"] != session_id
    reply = world.get(ENGAGE, params={"page": 1, "session_id": session_id})
    assert reply.status_code == 400
    assert UNCACHED in reply.json()["error"]


def test_a_session_counts_in_its_own_project_only(world: World) -> None:
    world.store_users(names(30))
    other = {"headers": {"Authorization": basic(OTHER_SECRET)}}
    for size in (10, 100):
        session = world.page(page_size=size)["session_id"]
        reply = world.get(ENGAGE, params={"page": 1, "session_id": session}, **other)
        assert reply.status_code == 400
        assert "u000" not in reply.text
        fresh = world.get(ENGAGE, params={"page": 0, "session_id": session}, **other)
        assert fresh.json()["total"] == 0
    foreign = world.get(
        ENGAGE, params={"page": 1, "session_id": session, "project_id": world.other.id}, user=OWNER
    )
    assert foreign.status_code == 400


def test_a_page_without_session_is_computed_live_and_its_session_id_goes_on_so(world: World) -> None:
    world.store_users(names(25))
    second = world.page(page=1, page_size=10)
    assert ids_of(second) == names(25)[10:20]
    world.store_users(["a-new-one"])
    third = world.page(page=2, page_size=10, session_id=second["session_id"])
    assert ids_of(third) == ["u00019", *names(25)[20:]]
    assert third["total"] == 26
    assert world.page(page=9, page_size=10)["results"] == []
    assert ids_of(world.page(page=1, page_size=2, distinct_ids='["u00003","u00001","u00002"]')) == ["u00003"]
    capped = world.page(page=1, page_size=10, limit=12)
    assert (ids_of(capped), capped["total"]) == (["u00009", "u00010"], 12)


def test_a_session_over_a_list_of_ids_keeps_the_ones_that_exist(world: World) -> None:
    world.store_users(names(5))
    asked = '["u00004","x","u00000","u00002"]'
    first = world.page(distinct_ids=asked, page_size=2)
    second = world.page(distinct_ids=asked, page_size=2, page=1, session_id=first["session_id"])
    assert ids_of(first) + ids_of(second) == ["u00000", "u00002", "u00004"]
    assert first["total"] == second["total"] == 3


def test_many_first_pages_of_unchanged_data_share_one_session(world: World) -> None:
    world.store_users(names(30))
    slow_reader = world.page(page_size=10)
    sessions = {world.page(page_size=10)["session_id"] for _ in range(150)}
    assert sessions == {slow_reader["session_id"]}
    assert len(world.page(page=2, session_id=slow_reader["session_id"])["results"]) == 10
    for other in (
        world.page(page_size=9),
        world.page(page_size=10, limit=20),
        world.page(page_size=10, output_properties='["n"]'),
    ):
        assert other["session_id"] not in sessions
    world.store_users(["z"])
    fresh = world.page(page_size=10)
    assert fresh["session_id"] not in sessions
    assert fresh["total"] == 31


def test_first_pages_asked_at_once_are_all_whole(world: World) -> None:
    world.store_users(names(300))
    replies = world.at_once(*[world.ask(f"{ENGAGE}?page_size=100") for _ in range(8)])
    for reply in replies:
        answer = reply.json()
        rest = [world.page(page=page, session_id=answer["session_id"]) for page in (1, 2)]
        assert ids_of(answer) + ids_of(rest[0]) + ids_of(rest[1]) == names(300)


def test_the_id_of_a_whole_session_is_read_back_exactly() -> None:
    session = WholeSession(project=3, total=7, page_size=10, created_ms=1000)
    assert read_whole(session.id, 3, now_ms=2000) == session
    assert read_whole(session.id, 4, now_ms=2000) is None
    assert read_whole(session.id, 3, now_ms=1000 + 7 * DAY_MS + 1) is None
