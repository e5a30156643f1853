"""Profile queries that filter, search and sort (contract query §2.1, §2.4, §9.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mixdown.http.engage import RAW_COHORT, TOO_LONG
from mixdown.model.limits import EXPRESSION_LIMIT_CHARS
from mixdown.model.times import iso_seconds
from tests.engine import plain_store
from tests.reads.support import ENGAGE, TOKEN, World, group, ids_of, names, user

PEOPLE = (
    user("ada", plan="pro", age=36, city="Paris", tags=["red"]),
    user("bob", plan="free", age=17, city="paris"),
    user("cyd", plan="pro", age=61),
    user("dan", age="36"),
)


@pytest.fixture
def people(world: World) -> World:
    world.send(*PEOPLE)
    world.send(group("Company", "Acme", plan="pro"), group("Company", "Void"), endpoint="groups")
    world.fold_all()
    return world


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"where": 'properties["plan"] == "pro"'}, ["ada", "cyd"]),
        ({"selector": 'properties["plan"] == "pro"'}, ["ada", "cyd"]),
        ({"where": 'properties["plan"] == "pro"', "selector": 'properties["age"] < 40'}, ["ada"]),
        ({"where": '(not defined (properties["plan"]))'}, ["dan"]),
        ({"where": " ", "selector": ""}, ["ada", "bob", "cyd", "dan"]),
        ({"where": 'properties["age"] > 18', "distinct_ids": '["bob","cyd","nobody"]'}, ["cyd"]),
        ({"where": 'properties["age"] > 18', "distinct_id": "bob"}, []),
        ({"where": "true", "limit": "2"}, ["ada", "bob"]),
        ({"where": "1"}, []),
        ({"search": "PARIS"}, ["ada", "bob"]),
        ({"search": "cy"}, ["cyd"]),
        ({"search": "pro", "where": 'properties["age"] > 40'}, ["cyd"]),
        ({"sort_key": 'properties["age"]'}, ["bob", "ada", "cyd", "dan"]),
        ({"sort_key": 'properties["age"]', "sort_order": "descending"}, ["dan", "cyd", "ada", "bob"]),
        ({"sort_key": 'properties["city"]', "sort_order": "descending"}, ["bob", "ada", "cyd", "dan"]),
        ({"sort_key": 'properties["age"]', "limit": "2", "where": 'properties["age"] < 99'}, ["bob", "ada"]),
        (
            {
                "sort_key": 'properties["age"]',
                "distinct_ids": '["dan","cyd","bob"]',
                "sort_order": "descending",
            },
            ["dan", "cyd", "bob"],
        ),
        ({"sort_order": "descending"}, ["ada", "bob", "cyd", "dan"]),
        ({"as_of_timestamp": "1700000000", "where": 'properties["plan"] == "free"'}, ["bob"]),
        ({"data_group_id": "Company", "where": 'properties["plan"] == "pro"'}, ["Acme"]),
        ({"data_group_id": "Company", "search": "acme"}, ["Acme"]),
    ],
)
def test_filters_choose_profiles_and_their_order(
    people: World, parameters: dict[str, Any], found: list[str]
) -> None:
    answer = people.page(**parameters)
    assert ids_of(answer) == found
    assert answer["total"] == len(found)
    for sent in ({"data": parameters}, {"json": parameters}):
        assert ids_of(people.post(ENGAGE, **sent).json()) == found


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"where": 'properties["plan"] = "pro"'}, "where, "),
        ({"where": 'properties["plan"] == '}, "where, "),
        ({"selector": "plan == 1"}, "selector, "),
        ({"sort_key": 'properties["n"'}, "sort_key, "),
        ({"where": 'group["plan"] == "pro"'}, "where, "),
        ({"where": "(" * 100_000}, "where, "),
        ({"where": "1 + " * (EXPRESSION_LIMIT_CHARS // 4) + "1"}, "where, "),
    ],
)
def test_an_expression_with_an_error_is_refused_with_the_position(
    plain_world: World, parameters: dict[str, Any], error: str
) -> None:
    reply = plain_world.post(ENGAGE, json=parameters)
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(error)
    assert "position" in reply.json()["error"]


INJECTIONS = (
    "x' OR 1=1 --",
    'x\\") OR 1=1 --',
    "$.plan",
    "plan[0]",
    "x') UNION SELECT id FROM profiles --",
    "?1",
    "{filter}",
    "x\\u0000y",
)


@pytest.mark.parametrize("text", INJECTIONS)
def test_no_text_of_a_query_becomes_sql(people: World, text: str) -> None:
    for parameters, found in (
        ({"where": f'properties["{text}"] == "pro"'}, []),
        ({"where": f'properties["plan"] == "{text}"'}, []),
        ({"where": f'"{text}" in properties["plan"]'}, []),
        ({"where": f'defined(properties["{text}"]) or properties["{text}"] > 1'}, []),
        ({"sort_key": f'properties["{text}"]'}, ["ada", "bob", "cyd", "dan"]),
        ({"search": text}, []),
        ({"data_group_id": "Company", "search": text}, []),
    ):
        assert ids_of(people.page(**parameters)) == found, parameters


def test_the_position_counts_from_the_start_of_the_text_as_it_was_sent(plain_world: World) -> None:
    reply = plain_world.get(ENGAGE, params={"where": '   properties["é"] = 1'})
    assert reply.json()["error"].endswith("at position 19")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sort_order", "sideways"),
        ("search", "x" * 1001),
        ("include_all_users", "perhaps"),
        ("filter_by_cohort", "7"),
        ("filter_by_cohort", '{"id":"x"}'),
        ("filter_by_cohort", '{"id":1.5}'),
        ("filter_by_cohort", '{"id":-1}'),
        ("filter_by_cohort", '{"id":true}'),
        ("filter_by_cohort", '{"name":"x"}'),
        ("filter_by_cohort", "[1]"),
        ("filter_by_cohort", "{broken"),
        ("filter_by_cohort", '{"id":4711}'),
    ],
)
def test_a_filter_out_of_bounds_is_400_and_named(plain_world: World, name: str, value: str) -> None:
    reply = plain_world.get(ENGAGE, params={name: value})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(name)


def test_a_raw_cohort_is_refused(plain_world: World) -> None:
    asked = {"filter_by_cohort": {"raw_cohort": {"selector": "true", "behaviors": []}}}
    reply = plain_world.post(ENGAGE, json=asked)
    assert (reply.status_code, reply.json()["error"]) == (400, RAW_COHORT)


def test_pages_of_a_filter_are_those_of_one_frozen_result(world: World) -> None:
    world.store_users(names(40))
    asked = {"where": 'properties["n"] >= 10', "page_size": 10}
    first = world.page(**asked)
    assert (first["total"], ids_of(first)) == (30, names(20)[10:])
    world.send(user("u00000", n=99), user("u00015", n=1), user("v", n=99))
    world.fold_all()
    pages = [world.page(**asked, page=page, session_id=first["session_id"]) for page in (2, 1, 3)]
    assert [ids_of(page) for page in pages] == [names(40)[30:], names(30)[20:], []]
    assert {page["total"] for page in pages} == {30}
    assert world.page(**asked)["total"] == 31


def test_a_session_keeps_its_own_filter_whatever_later_calls_say(world: World) -> None:
    world.store_users(names(30))
    first = world.page(where='properties["n"] < 20', page_size=10)
    second = world.page(where='properties["', page=1, session_id=first["session_id"])
    assert ids_of(second) == names(20)[10:]


def test_a_later_page_without_a_session_is_computed_with_the_filter(world: World) -> None:
    world.store_users(names(30))
    asked = {"where": 'properties["n"] >= 5', "page_size": 10, "sort_key": '-properties["n"]'}
    expected = names(30)[:4:-1]
    for _ in range(2):
        second = world.page(**asked, page=1)
        assert (second["total"], ids_of(second)) == (25, expected[10:20])
        world.page(**asked)  # freezes a result that is still what is there now
    world.send(user("u00029", n=1))
    world.fold_all()
    assert world.page(**asked, page=2)["total"] == 24
    assert world.page(**asked, page=9)["results"] == []


def test_now_is_the_time_of_page_0(world: World) -> None:
    records = [
        {**user(profile_id), "$time": world.now_ms // 1000 - age_s}
        for profile_id, age_s in (("new", 10), ("old", 5000), ("older", 7300))
    ]
    world.send(*records)
    world.fold_all()
    asked = {"where": 'datetime(properties["$last_seen"]) > NOW - 7200', "page_size": 1}
    first = world.page(**asked)
    assert (first["total"], ids_of(first)) == (2, ["new"])
    world.now_ms += 3000 * 1000
    assert ids_of(world.page(page=1, session_id=first["session_id"])) == ["old"]
    assert world.page(**asked)["total"] == 1, "the same query begins anew"
    assert iso_seconds(world.now_ms)


def test_an_expression_that_takes_too_long_is_400_and_says_so() -> None:
    world = World(plain_store(), read_timeout_s=0.2)
    world.send(user("ada", list=list(range(5000))))
    world.fold_all()
    where = (
        'any(a, properties["list"], any(b, properties["list"], any(c, properties["list"], a + b + c == -1)))'
    )
    reply = world.get(ENGAGE, params={"where": where})
    assert (reply.status_code, reply.json()["error"]) == (400, TOO_LONG.format(limit="0.2"))
    world.close()


def test_a_filter_reads_what_was_stored_before_it(world: World) -> None:
    world.store_users(["a", "b"])
    world.send(user("a", plan="pro"))
    world.fold_all()
    assert ids_of(world.page(where='properties["plan"] == "pro"')) == ["a"]
    world.send({"$token": TOKEN, "$distinct_id": "a", "$delete": ""})
    world.fold_all()
    assert world.page(where='properties["plan"] == "pro"')["total"] == 0


def test_clients_forms_of_a_filter_are_understood(people: World) -> None:
    """Bodies as mixpanel-headless and Airbyte send them."""
    headless = people.post(
        f"{ENGAGE}/?project_id={people.project.id}&query_origin=mixpanel-headless",
        content=json.dumps(
            {
                "project_id": str(people.project.id),
                "page": 0,
                "where": 'properties["plan"] == "pro"',
                "sort_key": 'properties["age"]',
                "sort_order": "descending",
                "include_all_users": False,
                "limit": 10,
            }
        ),
        headers={"Content-Type": "application/json"},
    )
    assert ids_of(headless.json()) == ["cyd", "ada"]
    airbyte = people.get(ENGAGE, params={"where": 'properties["$last_seen"] >= "2000-01-01T00:00:00"'})
    assert airbyte.json()["total"] == 4
