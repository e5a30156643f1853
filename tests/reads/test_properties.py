"""`engage/properties`: names, counts and types of all properties, from the fold's counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mixdown.query.properties import type_of
from tests.reads.support import TOKEN, World, group, user

PROPERTIES = "/api/query/engage/properties"
LAST_SEEN = {"count": 0, "type": "datetime"}


def listed(world: World, **options: Any) -> Any:
    reply = world.get(PROPERTIES, **options)
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


def test_an_empty_project_lists_last_seen_all_the_same(world: World) -> None:
    answer = world.get(PROPERTIES).json()
    assert (answer["status"], answer["results"], answer["complete"]) == (
        "ok",
        {"$last_seen": LAST_SEEN},
        True,
    )


def test_each_property_has_its_count_and_type(world: World) -> None:
    world.send(user("ada", plan="pro", age=36, active=True, tags=["a"], address={"zip": "1"}))
    world.send(user("bob", plan="free", signup="2026-01-15T12:00:00", nick=None))
    world.fold_all()
    assert listed(world) == {
        "plan": {"count": 2, "type": "string"},
        "age": {"count": 1, "type": "number"},
        "active": {"count": 1, "type": "boolean"},
        "tags": {"count": 1, "type": "list"},
        "address": {"count": 1, "type": "object"},
        "signup": {"count": 1, "type": "datetime"},
        "nick": {"count": 1, "type": "unknown"},
        "$last_seen": {"count": 2, "type": "datetime"},
    }


@pytest.mark.parametrize(
    ("kinds", "word"),
    [
        ({"string": 3}, "string"),
        ({"number": 3, "string": 2}, "number"),
        ({"number": 2, "string": 2}, "number"),
        ({"unknown": 9, "boolean": 1}, "boolean"),
        ({"unknown": 9}, "unknown"),
        ({"datetime": 9, "string": 1}, "string"),
        ({"datetime": 2, "unknown": 3}, "datetime"),
        ({"datetime": 2, "string": 1, "number": 2}, "string"),
    ],
)
def test_several_kinds_get_one_word(kinds: Mapping[str, int], word: str) -> None:
    assert type_of(kinds) == word


def test_groups_are_asked_for_by_name_or_number_and_strangers_refused(world: World) -> None:
    world.send(group("Company", "Acme", size=3), endpoint="groups")
    world.fold_all()
    number = world.store.state.group_keys(world.project.id)["Company"]
    for asked in ("Company", number):
        assert set(listed(world, params={"data_group_id": asked})) == {"size", "$last_seen"}
    assert set(listed(world)) == {"$last_seen"}
    refused = world.get(PROPERTIES, params={"data_group_id": "Nobody"})
    assert (refused.status_code, "Company" in refused.json()["error"]) == (400, True)


def test_what_clients_add_changes_nothing_and_post_answers_the_same(world: World) -> None:
    world.send(user("ada", plan="pro"))
    world.fold_all()
    plain = listed(world)
    assert listed(world, params={"where": 'properties["plan"] == "x"', "limit": 1}) == plain
    for path in (PROPERTIES, PROPERTIES + "/", "/api/2.0/engage/properties"):
        assert world.post(path, json={"project_id": str(world.project.id)}).json()["results"] == plain


def test_it_waits_for_the_fold_only_a_moment(world: World) -> None:
    world.send(user("ada", plan="pro"))
    reply = world.get(PROPERTIES)
    assert (reply.json()["results"], reply.headers["X-Mixdown-Behind"]) == ({"$last_seen": LAST_SEEN}, "1")


def test_another_project_and_a_token_see_nothing(world: World) -> None:
    world.send(user("ada", plan="pro"))
    world.fold_all()
    assert world.get(PROPERTIES, user=None).status_code == 401
    assert world.get(PROPERTIES, user=TOKEN).status_code == 401
    assert world.get(PROPERTIES, params={"project_id": world.other.id}).status_code == 403
