"""Mixdown's own reads of events over HTTP: what is stored now, however many values, and errors that help."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.reads.support import DAY_MS, NOON_MS, World, user

EVENTS = "/api/mixdown/events"
DISTINCT = 10_000


def event(
    number: int, name: str = "a", *, days: int = 0, person: str = "ada", **properties: Any
) -> dict[str, Any]:
    return {
        "position": number,
        "arrived": NOON_MS,
        "event": name,
        "time": NOON_MS - days * DAY_MS - number,
        "distinct_id": person,
        "insert_id": f"i{number}",
        "properties": properties,
    }


def good(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


def refused(world: World, path: str, **asked: Any) -> str:
    reply = world.get(f"{EVENTS}{path}", params=asked)
    assert reply.status_code == 400, reply.text
    return str(reply.json()["error"])


def test_a_late_event_and_an_erasure_change_each_answer_at_once(world: World) -> None:
    def told() -> tuple[Any, ...]:
        series = good(world.get(f"{EVENTS}/series", params={"by": "plan", "type": "unique"}))
        return (
            good(world.get(f"{EVENTS}/volumes"))["total"],
            series["whole"]["total"],
            series["values"][0]["count"],
            good(world.get(f"{EVENTS}/properties"))["properties"][0]["count"],
            len(good(world.get(EVENTS))),
        )

    world.store_events([event(1, plan="pro"), event(2, plan="pro", person="bob", days=3)])
    assert told() == (2, 2, 2, 2, 2)
    world.store_events([event(3, plan="pro", person="eve", days=20)])
    assert told() == (3, 3, 3, 3, 3)
    for _ in world.fold_store.events.forget(world.project.id, {"bob"}, below=10):
        pass
    assert told() == (2, 2, 2, 2, 2)


def test_a_filter_reads_the_profiles_of_persons(world: World) -> None:
    world.send(user("ada", level=2), user("bob", level=1))
    world.fold_all()
    world.store_events([event(1), event(2, person="bob"), event(3, person="nobody")])
    for where, ids in (
        ('user["level"] == 2', ["ada"]),
        ('user["level"] < 2', ["bob"]),
        ('not defined(user["level"])', ["nobody"]),
    ):
        lines = good(world.get(EVENTS, params={"where": where}))
        assert [line["properties"]["distinct_id"] for line in lines] == ids
        assert good(world.get(f"{EVENTS}/series", params={"where": where}))["whole"]["count"] == 1


def test_many_values_are_counted_and_only_some_are_told(world: World) -> None:
    world.store_events([event(n, n=n) for n in range(DISTINCT)] + [event(DISTINCT, n=7)])
    found = good(world.get(f"{EVENTS}/values", params={"by": "n", "limit": 3}))
    assert [(line["value"], line["count"]) for line in found["values"]] == [("7", 2), ("0", 1), ("1", 1)]
    assert found["other"] == {"total": DISTINCT - 3, "count": DISTINCT - 3, "values": DISTINCT - 3}
    whole = good(world.get(f"{EVENTS}/values", params={"by": "n", "limit": 2**40}))
    assert (len(whole["values"]), whole["other"]) == (DISTINCT, None)
    reply = world.get(
        f"{EVENTS}/series", params={"event": "a", "by": "n", "limit": 1, "interval": 2, "format": "csv"}
    )
    assert reply.text.splitlines() == [
        "date,7,(other),total",
        "2026-01-14,0,0,0",
        f"2026-01-15,2,{DISTINCT - 1},{DISTINCT + 1}",
    ]


def test_a_series_ends_with_the_current_unit_and_knows_its_times(world: World) -> None:
    world.store_events([event(1)])
    found = good(world.get(f"{EVENTS}/series", params={"unit": "hour", "from_date": "2026-01-15"}))
    assert (len(found["series"]), found["series"][-1]) == (13, "2026-01-15 12:00:00")
    assert found["times"][-1] == NOON_MS // 1000
    assert found["whole"]["figures"][-2:] == [1, 0]


@pytest.mark.parametrize(
    ("path", "asked", "told"),
    [
        ("/values", {}, "by, missing: name the property"),
        ("/values", {"by": "a", "type": "x"}, "type, must be one of general, unique, average"),
        ("/series", {"unit": "year"}, "unit, must be one of"),
        ("/series", {"where": 'properties["a"] =='}, "at position 18"),
        ("/series", {"from_date": "1971-01-01", "unit": "minute"}, "unit, this range of days has more than"),
        ("/series", {"by": "a", "from_date": "2000-01-01", "unit": "hour", "limit": 100}, "unit, this range"),
        ("/volumes", {"sort": "x"}, "sort, must be one of total, name"),
        ("/volumes", {"search": "x" * 1001}, "search, must be a text of at most 1000"),
        ("/volumes", {"from_date": "1971-01-01", "limit": 5000}, "this answer would have more than"),
        ("", {"before": "x"}, "before, must be what the page before gave as its next"),
        ("", {"limit": 1001}, "limit, must be an integer from 1 to 1000"),
        ("/properties", {"event": '["a","b"]'}, "event, must be a list of at most 1 values"),
    ],
)
def test_what_is_asked_wrongly_is_told(
    plain_world: World, path: str, asked: dict[str, Any], told: str
) -> None:
    assert told in refused(plain_world, path, **asked)
