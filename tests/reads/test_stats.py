"""`engage/stats`: figures over profiles, filtered and split by cohorts (contract query §2.5)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mixdown.store.protocols import Cohort
from tests.engine import plain_store
from tests.reads.support import World, group, user

STATS = "/api/query/engage/stats"
PEOPLE = (
    user("ada", plan="pro", age=36, score="12.5"),
    user("bob", plan="free", age=17, score="abc"),
    user("cyd", plan="pro", age=61.5),
    user("dan", age="36", score=True),
)


@pytest.fixture
def people(world: World) -> World:
    world.send(*PEOPLE)
    world.send(group("Company", "Acme", size=3), group("Company", "Void"), endpoint="groups")
    world.fold_all()
    return world


def asked(world: World, **parameters: Any) -> Any:
    reply = world.post(STATS, json=parameters)
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    assert (answer["status"], set(answer)) == ("ok", {"status", "computed_at", "results"})
    return answer["results"]


def test_figures_of_values_at_the_ends_of_doubles_are_answered(world: World) -> None:
    world.send(user("ada", n=1.7e308, t=1e300), user("bob", n=-1.7e308, t=10))
    world.fold_all()
    assert asked(world, action='numeric_summary(properties["n"])')["stddev"] is None
    assert asked(world, action='percentile(properties["n"], 0)')["value"] == -1.7e308
    assert asked(world, action='percentile(properties["n"], 50)')["value"] == 0
    times = 'datetime(properties["t"])'
    assert asked(world, action=f"extremes({times})") == {"max": 1e297, "min": 10}
    assert asked(world, action=f"numeric_summary({times})")["sum_squares"] is None
    assert [
        row["$distinct_id"] for row in world.page(sort_key=times, sort_order="descending")["results"]
    ] == [
        "ada",
        "bob",
    ]


def cohort(world: World, name: str, *ids: str, expression: str | None = None, group_key: str = "") -> int:
    made = Cohort(project=world.project.id, name=name, expression=expression, group_key=group_key)
    return world.store.cohorts.create(made, ids).id


@pytest.mark.parametrize(
    ("parameters", "results"),
    [
        ({}, 4),
        ({"action": "count()"}, 4),
        ({"action": " count ( ) ", "selector": 'properties["plan"] == "pro"'}, 2),
        ({"selector": 'properties["plan"] == "pro"', "where": 'properties["age"] > 40'}, 1),
        ({"search": "ab"}, 1),
        ({"data_group_id": "Company"}, 2),
        ({"data_group_id": "Company", "action": 'extremes(properties["size"])'}, {"max": 3, "min": 3}),
        ({"action": 'extremes(properties["age"])'}, {"max": 61.5, "min": 17}),
        ({"action": 'extremes(number(properties["score"]))'}, {"max": 12.5, "min": 1}),
        ({"action": 'extremes(properties["plan"])'}, {"max": None, "min": None}),
        ({"action": 'extremes(properties["age"] + 1)', "where": "properties.plan"}, None),
        ({"action": 'percentile(properties["age"], 50)'}, {"percentile": 50, "value": 36}),
        ({"action": 'percentile(properties["age"], 0)'}, {"percentile": 0, "value": 17}),
        ({"action": 'percentile(properties["age"], 100)'}, {"percentile": 100, "value": 61.5}),
        ({"action": 'percentile(properties["age"], 75)'}, {"percentile": 75, "value": 48.75}),
        ({"action": 'percentile(properties["none"], 75)'}, {"percentile": 75, "value": None}),
        (
            {"action": 'numeric_summary(properties["age"])', "selector": 'properties["age"] < 50'},
            {"count": 2, "sum": 53, "sum_squares": 1585, "avg": 26.5, "stddev": 9.5},
        ),
        (
            {"action": 'numeric_summary(properties["none"])'},
            {"count": 0, "sum": 0, "sum_squares": 0, "avg": None, "stddev": None},
        ),
    ],
)
def test_each_action_over_what_the_filters_choose(people: World, parameters: Any, results: Any) -> None:
    if results is None:
        assert people.post(STATS, json=parameters).status_code == 400
    else:
        assert asked(people, **parameters) == results


def test_get_and_the_other_paths_answer_the_same(people: World) -> None:
    for path in (STATS, STATS + "/", "/api/2.0/engage/stats"):
        reply = people.get(path, params={"action": 'extremes(properties["age"])'})
        assert reply.json()["results"] == {"max": 61.5, "min": 17}


def test_figures_are_split_by_cohorts(people: World) -> None:
    pro = cohort(people, "pro", expression='properties["plan"] == "pro"')
    some = cohort(people, "some", "ada", "bob", "nobody")
    both = json.dumps({str(pro): True, str(some): True, "77": False})
    assert asked(people, segment_by_cohorts=both, include_all_users=False) == {str(pro): 2, str(some): 2}
    assert asked(people, segment_by_cohorts=[some]) == {str(some): 3}
    action = 'extremes(properties["age"])'
    assert asked(people, action=action, segment_by_cohorts={str(pro): True, str(some): True}) == {
        str(pro): {"max": 61.5, "min": 36},
        str(some): {"max": 36, "min": 17},
    }
    within = {"filter_by_cohort": {"id": some}, "segment_by_cohorts": [pro]}
    assert asked(people, **within) == {str(pro): 1}


def test_a_cohort_of_ids_counts_those_without_a_profile_unless_told_not_to(people: World) -> None:
    some = cohort(people, "some", "ada", "bob", "nobody")
    other = cohort(people, "other", "bob", "nobody", "cyd")
    chosen = json.dumps({"id": some})
    assert asked(people, filter_by_cohort=chosen) == 3
    assert asked(people, filter_by_cohort=chosen, include_all_users=False) == 2
    assert asked(people, filter_by_cohort=chosen, selector='properties["plan"] == "free"') == 1
    assert asked(people, filter_by_cohort=chosen, segment_by_cohorts=[other]) == {str(other): 2}


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"action": "sum(1)"}, "action"),
        ({"action": "count"}, "action"),
        ({"action": "count(1)"}, "action"),
        ({"action": "extremes()"}, "action"),
        ({"action": 'percentile(properties["age"])'}, "percentile"),
        ({"action": 'percentile(properties["age"], 101)'}, "percentile"),
        ({"action": 'percentile(properties["age"], nan)'}, "percentile"),
        ({"action": "extremes(wrong)"}, "position 9"),
        ({"selector": "1 +"}, "selector"),
        ({"segment_by_cohorts": "{"}, "segment_by_cohorts"),
        ({"segment_by_cohorts": {"x": True}}, "segment_by_cohorts"),
        ({"segment_by_cohorts": {"1": 1}}, "segment_by_cohorts"),
        ({"segment_by_cohorts": list(range(1, 22))}, "segment_by_cohorts"),
        ({"segment_by_cohorts": {"77": True}}, "77"),
        ({"filter_by_cohort": {"id": 77}}, "77"),
        ({"data_group_id": "Nobody"}, "data_group_id"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    plain_world: World, parameters: dict[str, Any], named: str
) -> None:
    reply = plain_world.post(STATS, json=parameters)
    assert (reply.status_code, named in reply.json()["error"]) == (400, True), reply.text


def test_a_cohort_of_groups_cannot_split_users(people: World) -> None:
    groups = cohort(people, "groups", group_key="Company", expression="true")
    reply = people.post(STATS, json={"segment_by_cohorts": [groups]})
    assert reply.status_code == 400
    assert asked(people, data_group_id="Company", segment_by_cohorts=[groups]) == {str(groups): 2}


def test_large_numbers_give_figures_and_no_fault() -> None:
    world = World(plain_store())
    try:
        world.send(*[user(f"u{place}", n=n) for place, n in enumerate([2**63 - 1, -(2**63), 1e308, 1e308])])
        world.fold_all()
        summary = asked(world, action='numeric_summary(properties["n"])')
        assert (summary["count"], summary["sum_squares"]) == (4, None)
        assert asked(world, action='extremes(properties["n"])') == {"max": 1e308, "min": -(2**63)}
        assert asked(world, action='percentile(properties["n"], 0)')["value"] == -(2.0**63)
    finally:
        world.close()
