"""History and time travel over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine import plain_store
from tests.reads.support import NOON_MS, STRANGER, World, group, user

PATH = "/api/mixdown/history"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Two users and a group, changed twice, a minute apart."""
    made = World(plain_store())
    for number in range(3):
        made.send(user("alice", plan=number, other="x" * number), user("bob", plan=10 * number))
        made.send(group("Company", "Acme", size=number), endpoint="groups")
        made.fold_all()
        made.now_ms += 60_000
    yield made
    made.close()


def history(world: World, **parameters: Any) -> Any:
    reply = world.get(PATH, params={"distinct_id": "alice", **parameters})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_history_is_told_newest_first_and_filtered_by_property(world: World) -> None:
    answer = history(world, property="plan")
    assert [entry["new"] for entry in answer["results"]] == [2, 1, 0]
    assert answer["next"] is None
    assert answer["results"][0] | {"position": 0, "sdk": ""} == {
        "position": 0,
        "time": "2026-01-15T12:02:00",
        "time_ms": NOON_MS + 120_000,
        "property": "plan",
        "operator": "$set",
        "endpoint": "engage",
        "sdk": "",
        "old": 1,
        "new": 2,
    }


def test_history_comes_in_pages(world: World) -> None:
    whole = history(world)["results"]
    first = history(world, limit=4)
    rest = history(world, limit=100, before=first["next"])
    assert [*first["results"], *rest["results"]] == whole


def test_a_group_has_history(world: World) -> None:
    answer = history(world, distinct_id="Acme", data_group_id="Company")
    assert [entry["new"] for entry in answer["results"]] == [2, 1, 0]


def test_another_project_has_no_such_history(world: World) -> None:
    reply = world.get(PATH, params={"distinct_id": "alice"}, user=STRANGER)
    assert (reply.status_code, reply.json()["results"]) == (200, [])


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"distinct_id": ""}, "distinct_id"),
        ({"before": "x"}, "before"),
        ({"before": "9" * 40 + "-1"}, "before"),
        ({"limit": "1001"}, "limit"),
        ({"data_group_id": "Nothing"}, "data_group_id"),
    ],
)
def test_a_wrong_parameter_of_history_is_named(world: World, parameters: dict[str, str], named: str) -> None:
    reply = world.get(PATH, params={"distinct_id": "alice", **parameters})
    assert (reply.status_code, reply.json()["error"].split(",")[0]) == (400, named)


def test_named_profiles_are_read_as_they_stood(world: World) -> None:
    answer = world.page(as_of="2026-01-15T12:01:30", distinct_ids='["alice","bob","nobody"]')
    rows = {row["$distinct_id"]: row["$properties"]["plan"] for row in answer["results"]}
    assert (rows, answer["total"]) == ({"alice": 1, "bob": 10}, 2)
    chosen = world.page(as_of=str(NOON_MS // 1000), distinct_id="alice", output_properties='["plan"]')
    assert chosen["results"] == [{"$distinct_id": "alice", "$properties": {"plan": 0}}]
    assert world.page(as_of=str(NOON_MS // 1000 - 1), distinct_id="alice")["results"] == []
    company = world.page(as_of="2026-01-15T12:00:30", distinct_id="Acme", data_group_id="Company")
    assert company["results"][0]["$properties"]["size"] == 0


@pytest.mark.parametrize(
    "parameters",
    [
        {"as_of": "then", "distinct_id": "alice"},
        {"as_of": "2026-01-15"},
        {"as_of": "2026-01-15", "distinct_id": "alice", "where": "true"},
        {
            "as_of": "2026-01-15",
            "distinct_ids": str([str(number) for number in range(1001)]).replace("'", '"'),
        },
        {"as_of": "-9999999999999", "distinct_id": "alice"},
    ],
)
def test_as_of_takes_a_time_and_names_and_no_more(world: World, parameters: dict[str, str]) -> None:
    reply = world.get("/api/query/engage", params=parameters)
    assert (reply.status_code, reply.json()["error"].split(",")[0]) == (400, "as_of")
