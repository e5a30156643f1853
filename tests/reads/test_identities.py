"""Reads of profiles by any id of a person, now and back in time; who is who, and taking ids apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mixdown.store.chunk import Link
from tests.engine import plain_store
from tests.reads.support import (
    ADMIN,
    ENGAGE,
    NOON_MS,
    OWNER,
    READER,
    SECRET,
    STRANGER,
    World,
    basic,
    group,
    ids_of,
    user,
)
from tests.store.support import append, appending_events

PATH = "/api/mixdown/identity"
UNMERGE = f"{PATH}/unmerge"
MINUTE_MS = 60_000


def link(world: World, verb: str, one: str, other: str, mode: str = "original") -> None:
    """An event that links two ids, and a minute that passes."""
    asked = Link(0, world.project.id, mode, verb, one, other)
    append(world.store.log, appending_events(one, links=[asked]), now_ms=world.now_ms)
    world.fold_all()
    world.now_ms += MINUTE_MS


@pytest.fixture
def world() -> Iterator[World]:
    """At noon `a1` and `u1` have profiles; a minute later they are one; another later `a1` gets an update."""
    made = World(plain_store())
    made.send(user("a1", own="a"), user("u1", plan="free"), user("u2", plan="pro"))
    made.send(group("Company", "a1", size=1), endpoint="groups")
    made.fold_all()
    made.now_ms += MINUTE_MS
    link(made, "create_alias", "u1", "a1")
    made.send(user("a1", plan="team"))
    made.fold_all()
    made.now_ms += MINUTE_MS
    yield made
    made.close()


def properties(answer: Any) -> dict[str, Any]:
    """Of an answer, each id and what its profile holds."""
    return {
        row["$distinct_id"]: {
            name: value for name, value in row["$properties"].items() if name != "$last_seen"
        }
        for row in answer["results"]
    }


@pytest.mark.parametrize(
    ("asked", "sent", "waits"),
    [
        ("u1", "a1", True),
        ("a1", "u1", True),
        ("a1", "a1", True),
        ("u2", "a1", False),
        ("a1", "u2", False),
    ],
)
def test_a_read_by_one_id_of_a_person_waits_for_records_of_any_of_them(
    world: World, asked: str, sent: str, waits: bool
) -> None:
    world.send(user(sent, plan="late"))
    reply = world.get(ENGAGE, params={"distinct_id": asked}, headers={"X-Mixdown-Wait": "0"})
    assert ("x-mixdown-behind" in reply.headers) == waits


def test_a_read_waits_for_a_link_of_its_id_and_for_all_behind_it(world: World) -> None:
    asked = Link(0, world.project.id, "original", "create_alias", "u1", "a2")
    append(world.store.log, appending_events("u1", links=[asked]), now_ms=world.now_ms)
    world.send(user("a2", plan="of a2"))
    reply = world.get(ENGAGE, params={"distinct_id": "a1"}, headers={"X-Mixdown-Wait": "0"})
    assert reply.headers["x-mixdown-behind"] == "2"
    world.fold_all()
    assert world.page(distinct_id="a1")["results"][0]["$properties"]["plan"] == "of a2"


@pytest.mark.parametrize("asked", ["u1", "a1"])
def test_any_id_of_a_person_reads_the_canonical_profile(world: World, asked: str) -> None:
    assert properties(world.page(distinct_id=asked)) == {"u1": {"plan": "team"}}


def test_ids_of_one_person_are_one_row(world: World) -> None:
    answer = world.page(distinct_ids='["a1","u2","u1","nobody"]')
    assert ids_of(answer) == ["u1", "u2"]
    assert answer["total"] == 2


def test_ignore_alias_reads_the_profile_of_that_very_id(world: World) -> None:
    assert properties(world.page(distinct_id="a1", ignore_alias="true")) == {"a1": {"own": "a"}}


def test_groups_have_no_identities(world: World) -> None:
    assert properties(world.page(distinct_id="a1", data_group_id="Company")) == {"a1": {"size": 1}}


def test_back_in_time_an_id_is_whose_it_was_then(world: World) -> None:
    at = {
        minutes: properties(world.page(distinct_id="a1", as_of=(NOON_MS + minutes * MINUTE_MS) // 1000))
        for minutes in (0, 1, 2)
    }
    assert at == {0: {"a1": {"own": "a"}}, 1: {"u1": {"plan": "free"}}, 2: {"u1": {"plan": "team"}}}


def test_back_in_time_an_unmerged_id_is_still_whose_it_was_then(world: World) -> None:
    assert unmerge(world, "a1").status_code == 200
    world.now_ms += MINUTE_MS
    world.send(user("a1", later=1))
    world.fold_all()
    assert properties(world.page(distinct_id="a1")) == {"a1": {"own": "a", "later": 1}}
    then = (NOON_MS + 2 * MINUTE_MS) // 1000
    assert properties(world.page(distinct_id="a1", as_of=then)) == {"u1": {"plan": "team"}}
    assert properties(world.page(distinct_ids='["a1","u1"]', as_of=then)) == {"u1": {"plan": "team"}}
    literal = world.page(distinct_id="a1", as_of=then, ignore_alias=1)
    assert properties(literal) == {"a1": {"own": "a"}}


def test_history_by_an_alias_is_that_of_the_person(world: World) -> None:
    def changed(**more: Any) -> list[str]:
        reply = world.get("/api/mixdown/history", params={"distinct_id": "a1", **more})
        return [entry["property"] for entry in reply.json()["results"]]

    assert changed() == ["plan", "plan"]
    assert changed(ignore_alias="true") == ["own"]


def test_an_alias_of_legacy_mode_reads_the_profile_of_its_distinct_id(world: World) -> None:
    link(world, "create_alias", "u2", "old", "legacy")
    assert ids_of(world.page(distinct_id="old")) == ["u2"]
    before = (world.now_ms - 2 * MINUTE_MS) // 1000
    assert ids_of(world.page(distinct_id="old", as_of=before)) == []
    after = (world.now_ms - MINUTE_MS) // 1000
    assert ids_of(world.page(distinct_id="old", as_of=after)) == ["u2"]


# --- who is who


def show(world: World, one: str, **options: Any) -> Any:
    reply = world.get(PATH, params={"distinct_id": one}, **options)
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


def unmerge(world: World, one: str, *, user: str = ADMIN, **options: Any) -> Any:
    reply = world.post(UNMERGE, json={"distinct_id": one}, user=user, **options)
    world.fold_all()
    return reply


def test_a_person_is_shown_with_what_linked_it(world: World) -> None:
    link(world, "device", "$device:D", "u1", "simplified")
    assert show(world, "a1") == {
        "distinct_id": "a1",
        "canonical": "u1",
        "ids": ["u1", "a1", "$device:D"],
        "links": [
            {
                "id": "a1",
                "linked_to": "u1",
                "verb": "create_alias",
                "mode": "original",
                "time": "2026-01-15T12:01:00",
                "position": 4,
                "unmerged": None,
                "unmerged_position": None,
            },
            {
                "id": "$device:D",
                "linked_to": "u1",
                "verb": "device",
                "mode": "simplified",
                "time": "2026-01-15T12:03:00",
                "position": 6,
                "unmerged": None,
                "unmerged_position": None,
            },
        ],
        "more": False,
    }
    assert show(world, "u1")["ids"][0] == "u1"
    assert show(world, "nobody")["ids"] == ["nobody"]


def test_unmerging_is_history_and_the_id_is_free(world: World) -> None:
    reply = unmerge(world, "a1")
    assert reply.status_code == 200
    shown = show(world, "a1")
    assert (shown["canonical"], shown["ids"]) == ("a1", ["a1"])
    (told,) = shown["links"]
    assert (told["unmerged"], told["unmerged_position"]) == ("2026-01-15T12:03:00", 6)
    link(world, "create_alias", "u2", "a1")
    assert show(world, "a1")["canonical"] == "u2"
    assert [each["linked_to"] for each in show(world, "a1")["links"]] == ["u1", "u2"]


def test_what_is_linked_to_nothing_cannot_be_unmerged(world: World) -> None:
    head = world.store.log.head()
    reply = unmerge(world, "u2")
    assert (reply.status_code, reply.json()["error"]) == (404, "distinct_id, this id is linked to no other")
    assert world.store.log.head() == head


def test_an_unmerge_with_an_idempotency_key_is_done_once(world: World) -> None:
    headers = {"Idempotency-Key": "k"}
    assert unmerge(world, "a1", headers=headers).status_code == 200
    link(world, "create_alias", "u2", "a1")
    assert unmerge(world, "a1", headers=headers).status_code == 200
    assert show(world, "a1")["canonical"] == "u2"
    assert unmerge(world, "a1", headers={"Idempotency-Key": "other"}).status_code == 200
    assert show(world, "a1")["canonical"] == "a1"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"user": READER}, 403),
        ({"user": STRANGER}, 404),
        ({"user": None}, 401),
        ({"user": OWNER}, 400),
        ({"user": None, "headers": {"Authorization": basic(f"{SECRET}:")}}, 403),
        ({"user": ADMIN, "headers": {"Idempotency-Key": "k" * 256}}, 400),
        ({"user": ADMIN, "headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
    ],
)
def test_an_admin_of_the_project_alone_unmerges(world: World, options: Any, status: int) -> None:
    assert world.post(UNMERGE, json={"distinct_id": "a1"}, **options).status_code == status
    world.fold_all()
    assert show(world, "a1")["canonical"] == "u1"


def test_another_project_sees_nobody(world: World) -> None:
    assert show(world, "a1", user=STRANGER)["ids"] == ["a1"]
    reply = world.get(ENGAGE, params={"distinct_id": "a1"}, user=STRANGER)
    assert ids_of(reply.json()) == []


@pytest.mark.parametrize("asked", [{}, {"distinct_id": ""}, {"distinct_id": "a1", "limit": "0"}])
def test_what_is_asked_wrongly_is_400(world: World, asked: Any) -> None:
    assert world.get(PATH, params=asked).status_code == 400
    assert world.post(UNMERGE, json={}, user=ADMIN).status_code == 400


def test_of_a_person_with_many_ids_some_are_shown(world: World) -> None:
    for number in range(12):
        link(world, "device", f"$device:{number}", "u2", "simplified")
    shown = show(world, "u2")
    assert (len(shown["ids"]), shown["more"]) == (13, False)
    reply = world.get(PATH, params={"distinct_id": "u2", "limit": 5}).json()["results"]
    assert (len(reply["ids"]), len(reply["links"]), reply["more"]) == (5, 5, True)
