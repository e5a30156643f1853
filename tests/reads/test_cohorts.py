"""Cohorts over HTTP: listed as Mixpanel lists them, used as filters, made and deleted by Mixdown's path."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from mixdown.query import cohorts
from mixdown.store import patience
from tests.engine import plain_store
from tests.reads.support import (
    ADMIN,
    ENGAGE,
    IMPORTER,
    OTHER_SECRET,
    READER,
    SECRET,
    STRANGER,
    World,
    basic,
    group,
    ids_of,
    user,
)

OWN = "/api/mixdown/cohorts"
LIST = "/api/query/cohorts/list"


@pytest.fixture
def people(world: World) -> World:
    world.send(user("ada", plan="pro"), user("bob", plan="free"), user("cyd", plan="pro"))
    world.send(group("Company", "Acme", plan="pro"), group("Company", "Void"), endpoint="groups")
    world.fold_all()
    return world


def make(world: World, **fields: Any) -> Any:
    reply = world.post(OWN, json=fields, user=ADMIN)
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


def test_cohorts_are_listed_as_mixpanel_lists_them(people: World) -> None:
    pro = make(people, name="paying", description="who pay", where='properties["plan"] == "pro"')
    listed = make(people, name="beta", distinct_ids=["bob", "nobody", "bob"])
    firms = make(people, name="firms", data_group_id="Company", where='properties["plan"] == "pro"')
    number = people.store.state.group_keys(people.project.id)["Company"]
    expected = [
        {
            "id": pro["id"],
            "name": "paying",
            "description": "who pay",
            "count": 2,
            "is_visible": 1,
            "created": "2026-01-15 12:00:00",
            "project_id": people.project.id,
            "data_group_id": None,
        },
        {"id": listed["id"], "name": "beta", "count": 2, "data_group_id": None},
        {"id": firms["id"], "name": "firms", "count": 1, "data_group_id": number},
    ]
    for path in (LIST, LIST + "/", "/api/2.0/cohorts/list"):
        for method in ("GET", "POST"):
            reply = people.run(people.ask(path, method=method))
            assert reply.status_code == 200
            found = reply.json()
            assert [{**each, **wanted} for each, wanted in zip(found, expected, strict=True)] == found
            assert set(found[1]) == set(expected[0])


def test_an_empty_project_has_no_cohorts(plain_world: World) -> None:
    assert plain_world.get(LIST).json() == []
    assert plain_world.get(OWN).json() == {"status": "ok", "results": []}


def test_counts_are_those_of_the_query(people: World) -> None:
    make(people, name="paying", where='properties["plan"] == "pro"')
    assert people.get(LIST).json()[0]["count"] == 2
    people.send(user("dan", plan="pro"), user("ada", plan="free"), user("eve", plan="pro"))
    people.fold_all()
    cohorts._kept.clear()  # counting these takes so little that a busy machine may keep a count for it
    assert people.get(LIST).json()[0]["count"] == 3


def test_a_count_is_kept_for_as_long_as_it_is_told(people: World) -> None:
    make(people, name="paying", where='properties["plan"] == "pro"')
    make(people, name="seen lately", where='datetime(properties["$last_seen"]) > NOW - 60')
    store, project = people.store, people.project.id
    ticks = iter([100.0, 100.0, 101.0, 110.0, 121.5, 121.5, 121.6, 121.7, 121.7])

    def counts(now_ms: int) -> list[int | None]:
        known = store.cohorts.listing(project)
        return [
            each.count for each in cohorts.counted(store, known, now_ms=now_ms, clock=lambda: next(ticks))
        ]

    cohorts._kept.clear()
    assert counts(people.now_ms) == counts_now(people)
    people.send(user("dan", plan="pro"))
    people.fold_all()
    asked = counts(people.now_ms + 5000)
    assert asked[0] == 2, "counting took a second: it is kept for 20"
    assert counts(people.now_ms + 25_000)[0] == 3
    assert counts(people.now_ms + 25_000)[0] == 3, "nothing was folded since"


def counts_now(world: World) -> list[int]:
    found = world.store.cohorts.listing(world.project.id)
    return [len(list(cohorts.members(world.store, each, now_ms=world.now_ms))) for each in found]


@pytest.mark.parametrize("form", [str, int])
def test_a_cohort_filters_a_query(people: World, form: type) -> None:
    made = make(people, name="paying", where='properties["plan"] == "pro"')
    number = form(made["id"])
    for asked in ({"id": number}, '{"id":%s}' % ("1" if form is int else '"1"')):
        assert made["id"] == 1
        body = {"filter_by_cohort": asked}
        assert ids_of(people.post(f"{ENGAGE}?page_size=1000", json=body).json()) == ["ada", "cyd"]
    both = people.page(filter_by_cohort='{"id":1}', where='properties["$distinct_id"] != "ada"')
    assert ids_of(both) == ["cyd"]
    assert ids_of(people.page(filter_by_cohort='{"id":1}', distinct_ids='["bob","cyd"]')) == ["cyd"]
    assert ids_of(people.page(filter_by_cohort='{"id":1}', page=1, page_size=1)) == ["cyd"]


def test_a_list_of_ids_shows_those_without_a_profile_unless_asked_not_to(people: World) -> None:
    make(people, name="beta", distinct_ids=["zoe", "bob", "ada", 7])
    asked = {"filter_by_cohort": '{"id":1}'}
    everyone = people.page(**asked)
    assert ids_of(everyone) == ["7", "ada", "bob", "zoe"]
    assert everyone["results"][3] == {"$distinct_id": "zoe", "$properties": {}}
    assert ids_of(people.page(**asked, include_all_users="true", output_properties='["plan"]')) == [
        "7",
        "ada",
        "bob",
        "zoe",
    ]
    assert ids_of(people.page(**asked, include_all_users="false")) == ["ada", "bob"]
    assert ids_of(people.page(**asked, where='not defined(properties["plan"])')) == ["7", "zoe"]
    assert ids_of(people.page(**asked, where='properties["plan"] == "pro"')) == ["ada"]
    assert ids_of(people.page(**asked, sort_key='properties["plan"]')) == ["bob", "ada", "7", "zoe"]
    assert ids_of(people.page(**asked, distinct_ids='["zoe","cyd"]')) == ["zoe"]
    first = people.page(**asked, page_size=3)
    assert first["total"] == 4
    assert ids_of(people.page(page=1, session_id=first["session_id"])) == ["zoe"]


def test_a_cohort_of_groups_says_which_groups(people: World) -> None:
    make(people, name="firms", data_group_id="Company", where='properties["plan"] == "pro"')
    assert ids_of(people.page(filter_by_cohort='{"id":1}')) == ["Acme"]
    assert ids_of(people.page(filter_by_cohort='{"id":1}', data_group_id="Company")) == ["Acme"]
    make(people, name="users", where="true")
    reply = people.get(ENGAGE, params={"filter_by_cohort": '{"id":2}', "data_group_id": "Company"})
    assert reply.status_code == 400
    assert "cohort 2 is one of users" in reply.json()["error"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"name": "x"}, "where, give either"),
        ({"name": "x", "where": "true", "distinct_ids": ["a"]}, "where, give either"),
        ({"name": "", "where": "true"}, "name, "),
        ({"name": "x" * 256, "where": "true"}, "name, "),
        ({"name": "a\nb", "where": "true"}, "name, "),
        ({"name": "x", "where": "true", "description": "x" * 2001}, "description, "),
        ({"name": "x", "where": " "}, "where, an expression is missing"),
        ({"name": "x", "where": "plan == 1"}, "where, "),
        ({"name": "x", "where": "true", "data_group_id": "Nowhere"}, "data_group_id, "),
        ({"name": "x", "distinct_ids": [None]}, "distinct_ids, "),
        ({"name": "taken", "where": "true"}, "cohort, this name is taken"),
    ],
)
def test_a_cohort_that_cannot_be_made_is_400(plain_world: World, fields: Any, error: str) -> None:
    make(plain_world, name="taken", where="true")
    reply = plain_world.post(OWN, json=fields, user=ADMIN)
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(error)
    assert len(plain_world.store.cohorts.listing(plain_world.project.id)) == 1


def test_a_deleted_cohort_is_gone(people: World) -> None:
    made = make(people, name="paying", where='properties["plan"] == "pro"')
    gone = people.run(people.ask(f"{OWN}?id={made['id']}", method="DELETE", user=ADMIN))
    assert gone.json() == {"status": "ok", "results": {"id": made["id"]}}
    assert people.get(LIST).json() == []
    assert people.get(ENGAGE, params={"filter_by_cohort": '{"id":1}'}).status_code == 400
    again = people.run(people.ask(f"{OWN}?id={made['id']}", method="DELETE", user=ADMIN))
    assert again.status_code == 404
    missing = people.run(people.ask(OWN, method="DELETE", user=ADMIN))
    assert (missing.status_code, missing.json()["error"][:3]) == (400, "id,")


def test_who_may_read_and_who_may_write(people: World) -> None:
    make(people, name="paying", where="true")
    for who, secret, reads, writes in (
        (ADMIN, "", 200, 200),
        (READER, "", 200, 403),
        (None, SECRET, 200, 403),
        (IMPORTER, "", 403, 403),
        (None, "wrong", 401, 401),
    ):
        headers = {"Authorization": basic(f"{secret}:")} if secret else {}
        name = f"by {who}"
        assert people.get(LIST, user=who, headers=headers).status_code == reads
        made = people.post(OWN, json={"name": name, "where": "true"}, user=who, headers=headers)
        assert made.status_code == writes, who
        number = made.json()["results"]["id"] if writes == 200 else 1
        gone = people.run(people.ask(f"{OWN}?id={number}", method="DELETE", user=who, headers=headers))
        assert gone.status_code == writes


def test_a_cohort_is_its_projects_own(people: World) -> None:
    make(people, name="paying", where="true")
    headers = {"Authorization": basic(f"{OTHER_SECRET}:")}
    assert people.get(LIST, headers=headers).json() == []
    reply = people.get(ENGAGE, params={"filter_by_cohort": '{"id":1}'}, headers=headers)
    assert (reply.status_code, reply.json()["error"]) == (
        400,
        "filter_by_cohort, there is no cohort 1 in this project",
    )
    gone = people.run(people.ask(f"{OWN}?id=1", method="DELETE", user=STRANGER))
    assert gone.status_code == 404


def test_another_sites_page_changes_nothing(people: World) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    reply = people.post(OWN, json={"name": "x", "where": "true"}, user=ADMIN, headers=headers)
    assert reply.status_code == 403


def test_a_cohort_that_takes_too_long_to_count_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(plain_store(), read_timeout_s=0.2)

    def endless(*_asked: Any) -> Any:
        until_s = time.monotonic() + 10
        while time.monotonic() < until_s:
            patience.check()
        raise AssertionError("nothing ends it")

    monkeypatch.setattr(world.store.state, "tally", endless)
    reply = world.post(OWN, json={"name": "slow", "where": "true"}, user=ADMIN)
    assert reply.status_code == 400
    assert "took longer than 0.2 s" in reply.json()["error"]
    assert world.get(LIST).json() == []
    world.close()


def change(world: World, user: str | None = ADMIN, **fields: Any) -> httpx.Response:
    return world.run(world.ask(OWN, method="PATCH", user=user, json=fields))


def test_a_cohort_is_changed_in_what_is_named_and_counted_anew(people: World) -> None:
    made = make(people, name="paying", description="d", where='properties["plan"] == "pro"')
    assert people.get(OWN).json()["results"][0]["count"] == made["count"]
    changed = change(people, id=made["id"], where="true").json()["results"]
    assert changed == {**made, "where": "true", "count": changed["count"]}
    assert changed["count"] > made["count"]
    assert people.get(OWN).json()["results"] == [changed]
    assert change(people, id=made["id"], name="all").json()["results"]["name"] == "all"
    assert change(people, id=made["id"], description=" ").json()["results"]["description"] == ""
    listed = people.get(OWN, params={"counts": "false"}).json()["results"]
    assert [(each["name"], each["count"]) for each in listed] == [("all", None)]


def test_a_change_that_cannot_be_is_refused_and_changes_nothing(plain_world: World) -> None:
    made = make(plain_world, name="one", where="true")
    make(plain_world, name="listed", distinct_ids=["a"])
    for fields, status, error in (
        ({"id": 1}, 400, "name, description, where, behaviors: give"),
        ({"name": "x"}, 400, "id, missing"),
        ({"id": 1, "where": "plan == 1"}, 400, "where, "),
        ({"id": 1, "where": " "}, 400, "where, an expression is missing"),
        ({"id": 1, "name": "listed"}, 400, "cohort, this name is taken"),
        ({"id": 1, "distinct_ids": ["b"]}, 400, "distinct_ids and data_group_id, these stay"),
        ({"id": 2, "where": "true"}, 400, "cohort, cohort 2 is a list of ids"),
        ({"id": 9, "name": "x"}, 404, "cohort, there is no cohort 9"),
    ):
        reply = change(plain_world, **fields)
        assert (reply.status_code, reply.json()["error"][: len(error)]) == (status, error)
    assert change(plain_world, user=READER, id=1, name="x").status_code == 403
    assert plain_world.get(OWN).json()["results"][0] == made
