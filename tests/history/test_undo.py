"""Putting a profile back over HTTP: what would be sent, who may send it, and what changed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mixdown.http.undo import CHANGED_MEANWHILE, NOT_FOLDED
from tests.engine import plain_store
from tests.reads.support import ADMIN, NOON_MS, READER, STRANGER, World, group, user

UNDO = "/api/mixdown/undo"
THEN = "2026-01-15T12:00:30"


@pytest.fixture
def world() -> Iterator[World]:
    """A user and a group, changed a minute after they were made."""
    made = World(plain_store(), read_wait_ms=0)
    made.send(user("ada", plan="free", tags=["a"], gone=1))
    made.send(group("Company", "Acme", size=1), endpoint="groups")
    made.fold_all()
    made.now_ms += 60_000
    made.send(
        user("ada", plan="pro", late=True), {**user("ada"), "$unset": ["gone"], "$append": {"tags": "b"}}
    )
    made.send(group("Company", "Acme", size=2), endpoint="groups")
    made.fold_all()
    made.now_ms += 60_000
    yield made
    made.close()


def undo(world: World, user: str = ADMIN, **parameters: Any) -> httpx.Response:
    return world.post(UNDO, user=user, json={"distinct_id": "ada", "to": THEN, **parameters})


def shown(world: World, **parameters: Any) -> Any:
    reply = world.get(UNDO, params={"distinct_id": "ada", "to": THEN, **parameters})
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


def properties(world: World, profile_id: str = "ada", **parameters: Any) -> Any:
    world.fold_all()
    rows = world.page(distinct_id=profile_id, **parameters)["results"]
    return {name: value for name, value in rows[0]["$properties"].items() if name != "$last_seen"}


def test_what_would_be_sent_is_told_and_nothing_is_sent(world: World) -> None:
    told = shown(world)
    assert told["sent"] is False
    assert (told["distinct_id"], told["group_key"], told["to_ms"]) == ("ada", None, NOON_MS + 30_000)
    assert told["operators"]["$set"] == {
        "plan": "free", "tags": ["a"], "gone": 1, "$last_seen": "2026-01-15T12:00:00"
    }  # fmt: skip
    assert told["operators"]["$unset"] == ["late"]
    assert properties(world)["plan"] == "pro"


def test_a_profile_is_put_back_and_the_undoing_can_be_undone(world: World) -> None:
    before = properties(world)
    told = undo(world).json()["results"]
    assert told["sent"] is True
    assert properties(world) == {"plan": "free", "tags": ["a"], "gone": 1}
    assert undo(world).json()["results"] == {**told, "sent": False, "operators": None}
    world.now_ms += 60_000
    undo(world, to="2026-01-15T12:01:30")
    assert properties(world) == before


def test_a_group_is_put_back(world: World) -> None:
    reply = undo(world, distinct_id="Acme", data_group_id="Company")
    assert reply.json()["results"]["group_key"] == "Company"
    assert properties(world, "Acme", data_group_id="Company") == {"size": 1}


def test_what_was_not_there_is_deleted_and_comes_back_with_all_it_had(world: World) -> None:
    before = properties(world)
    assert shown(world, to=str(NOON_MS - 1))["operators"] == {"$delete": ""}
    undo(world, to=str(NOON_MS - 1))
    world.fold_all()
    assert world.page(distinct_id="ada")["results"] == []
    world.now_ms += 60_000
    undo(world, to="2026-01-15T12:01:30")
    assert properties(world) == before


def test_what_was_acknowledged_and_is_not_applied_yet_is_not_undone_unseen(world: World) -> None:
    expected = shown(world)["operators"]
    world.send(user("ada", plan="enterprise"))
    for seen in ({"expected": expected}, {}):
        reply = undo(world, **seen)
        assert (reply.status_code, reply.json()["error"]) == (503, NOT_FOLDED)
    world.fold_all()
    assert properties(world)["plan"] == "enterprise"


def test_what_changed_since_the_caller_looked_is_not_overwritten(world: World) -> None:
    expected = shown(world)["operators"]
    world.send(user("ada", later=1))
    world.fold_all()
    reply = undo(world, expected=expected)
    assert (reply.status_code, reply.json()["error"]) == (409, CHANGED_MEANWHILE)
    assert properties(world)["plan"] == "pro"
    expected = shown(world)["operators"]
    expected["$unset"].reverse()
    expected["$set"] = dict(reversed(expected["$set"].items()))
    assert undo(world, expected=expected).json()["results"]["sent"] is True


@pytest.mark.parametrize("who", [READER, STRANGER])
def test_only_an_admin_of_the_project_puts_back(world: World, who: str) -> None:
    reply = undo(world, user=who, project_id=world.project.id)
    assert reply.status_code == 403
    assert properties(world)["plan"] == "pro"


def test_another_site_puts_nothing_back(world: World) -> None:
    reply = world.post(
        UNDO, user=ADMIN, json={"distinct_id": "ada", "to": THEN}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert reply.status_code == 403


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"distinct_id": ""}, "distinct_id"),
        ({"to": ""}, "to"),
        ({"to": "then"}, "to"),
        ({"expected": "[]"}, "expected"),
        ({"data_group_id": "Nothing"}, "data_group_id"),
    ],
)
def test_a_wrong_parameter_of_undo_is_named(world: World, parameters: dict[str, str], named: str) -> None:
    reply = undo(world, **parameters)
    assert (reply.status_code, reply.json()["error"].split(",")[0]) == (400, named)


def test_moments_are_told_over_http(world: World) -> None:
    reply = world.get("/api/mixdown/history/moments", params={"distinct_id": "ada"})
    told = reply.json()["results"]
    assert [(one["time"], one["changes"]) for one in told["moments"]] == [
        ("2026-01-15T12:01:00", 4),
        ("2026-01-15T12:00:00", 3),
    ]
    assert told["moments"][1]["profile"] == "created"
    assert told["changed"]["tags"]["operator"] == "$append"
    assert told["changed"]["plan"]["time_ms"] == NOON_MS + 60_000
    assert (told["more"], told["changed"].keys()) == (False, {"plan", "tags", "late"})


def test_an_operator_that_is_none_is_named(world: World) -> None:
    reply = world.get("/api/mixdown/history", params={"distinct_id": "ada", "operator": "$sat"})
    assert (reply.status_code, reply.json()["error"].split(",")[0]) == (400, "operator")
    reply = world.get("/api/mixdown/history", params={"distinct_id": "ada", "operator": "$append"})
    assert [one["property"] for one in reply.json()["results"]] == ["tags"]
