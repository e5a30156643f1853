"""The three scripts that mixpanel-utils sends, answered without JavaScript; any other is refused."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import mixpanel_utils
import pytest

from mixdown.query.events.jql import COUNTS, EVENTS, PEOPLE, SCRIPTS, script_of
from tests.engine import plain_store
from tests.reads.support import NOON_MS, World, user
from tests.reads.test_events import EVENTS as STORED
from tests.reads.test_reports import good, refused

DAYS = {"from_date": "2026-01-01", "to_date": "2026-01-15"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(plain_store())
    made.send(user("u0", plan="gold", n=1), user("u9", plan="iron"))
    made.fold_all()
    made.store_events(STORED)
    yield made
    made.close()


def scripts_of_the_library() -> list[str]:
    """Every text that mixpanel-utils has as a script, from its source."""
    tree = ast.parse(Path(mixpanel_utils.__file__).read_text())
    return [
        str(node.value.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "jql_script"
    ]


def run(world: World, script: str, params: Any = None, **more: str) -> httpx.Response:
    """The answer to a script, as a form sends it."""
    form = {"script": script, "format": "json", **more}
    if params is not None:
        form["params"] = json.dumps(params)
    return world.post("/api/2.0/jql", data=form)


def rows(world: World, name: str, params: Any) -> Any:
    reply = good(run(world, SCRIPTS[name], params))
    assert reply.headers["content-type"] == "application/json"
    return reply.json()


def test_each_script_of_the_library_is_known_however_its_blanks_are_set() -> None:
    found = scripts_of_the_library()
    assert sorted(map(script_of, found)) == sorted(SCRIPTS)
    assert {script_of(text.replace(" ", "\n\t ")) for text in found} == set(SCRIPTS)


def test_the_script_on_events_gives_each_event_with_its_time_moved(world: World) -> None:
    asked = {**DAYS, "event_selectors": [], "timezone_offset": -1.5}
    found = rows(world, EVENTS, asked)
    assert [row["event"] for row in found] == ["Ünïcode", "b", "b", "a", "a", "a"]
    last = found[-1]["properties"]
    assert (last["distinct_id"], last["plan"], last["$insert_id"]) == ("u0", "pro", "i0")
    assert last["time"] == NOON_MS // 1000 - 3600 + 5400
    odd = found[1]["properties"]["time"]
    assert odd == (NOON_MS - 31 * 3_600_000 - 123) / 1000 + 5400, "milliseconds stay"


@pytest.mark.parametrize(
    ("selectors", "positions"),
    [
        ([{"event": "b"}], [31, 30]),
        ([{"event": "b", "selector": 'properties["plan"] == "pro"'}, {"event": "Ünïcode"}], [32, 30]),
        ([{"selector": 'user["plan"] == "gold" and properties["n"] == 1'}], [0]),
        ([{"event": "none"}], []),
    ],
)
def test_selectors_choose_events(world: World, selectors: list[Any], positions: list[int]) -> None:
    found = rows(world, EVENTS, {**DAYS, "event_selectors": selectors})
    assert [row["properties"]["mp_processing_time_ms"] - NOON_MS for row in found] == positions


def test_only_the_properties_that_are_asked_for_come(world: World) -> None:
    found = rows(
        world, EVENTS, {**DAYS, "event_selectors": [{"event": "a"}], "output_properties": ["n", "x"]}
    )
    assert [set(row["properties"]) for row in found] == [{"distinct_id", "time", "n"}] * 3


def test_the_script_on_people_gives_profiles_that_a_selector_matches(world: World) -> None:
    everybody = rows(world, PEOPLE, {"user_selectors": []})
    assert [row["$distinct_id"] for row in everybody] == ["u0", "u9"]
    assert everybody[0]["$properties"]["plan"] == "gold"
    some = [{"selector": 'properties["plan"] == "iron"'}, {"selector": 'properties["n"] > 1'}]
    found = rows(world, PEOPLE, {"user_selectors": some, "output_properties": ["plan", "nothing"]})
    assert found == [{"$distinct_id": "u9", "$properties": {"plan": "iron"}}]


def test_the_script_on_counts_gives_counts_of_those_who_have_a_profile(world: World) -> None:
    assert rows(world, COUNTS, {**DAYS, "events": ["a", "b"]}) == [
        {"$distinct_id": "u0", "value": {"a": 2}},
        {"$distinct_id": "u0", "value": {"b": 1}},
    ]
    assert len(rows(world, COUNTS, {**DAYS, "events": []})) == 3, "all events, as the script's join has it"
    assert rows(world, COUNTS, {"from_date": "2025-01-01", "to_date": "2025-01-02", "events": ["a"]}) == []


@pytest.mark.parametrize(
    ("script", "params", "text"),
    [
        ("", None, "script, missing"),
        ("function main() { return Events({}) }", None, "JQL not supported"),
        (SCRIPTS[EVENTS] + ";", DAYS, "JQL not supported"),
        (SCRIPTS[EVENTS], None, "from_date, missing"),
        (SCRIPTS[EVENTS], [1], "params, must be a JSON object"),
        (SCRIPTS[EVENTS], {**DAYS, "event_selectors": {"event": "a"}}, "event_selectors, must be a list"),
        (SCRIPTS[EVENTS], {**DAYS, "event_selectors": [{"event": 1}]}, "event_selectors, each must be"),
        (SCRIPTS[EVENTS], {**DAYS, "event_selectors": [{"selector": "1 +"}]}, "position 3"),
        (SCRIPTS[EVENTS], {**DAYS, "timezone_offset": "far"}, "timezone_offset, must be at most 24 hours"),
        (SCRIPTS[EVENTS], {**DAYS, "timezone_offset": 25}, "timezone_offset, must be at most 24 hours"),
        (SCRIPTS[COUNTS], {"from_date": "2026-01-02", "to_date": "2026-01-01"}, "from_date, 2026-01-02"),
        (SCRIPTS[PEOPLE], {"user_selectors": [[]]}, "user_selectors, each must be"),
    ],
)
def test_a_script_is_refused_with_what_is_wrong(world: World, script: str, params: Any, text: str) -> None:
    assert text in refused(run(world, script, params))


def test_a_script_is_answered_in_json_alone(world: World) -> None:
    assert "format, a script" in refused(run(world, SCRIPTS[PEOPLE], {}, format="csv"))
