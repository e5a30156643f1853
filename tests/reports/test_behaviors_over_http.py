"""What persons did over HTTP: in profile queries, and in cohorts that count events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from msgspec import structs

from mixdown.model.errors import QueryError, ReadTimeoutError, TooMuchAtOnceError
from mixdown.query import cohorts
from mixdown.store.protocols import Cohort
from tests.reads.support import ADMIN, DAY_MS, NOON_MS, READER, TOKEN, World, shared_world

ENGAGE = "/api/query/engage"
COHORTS = "/api/mixdown/cohorts"
HOUR_MS = 3_600_000
CART = {"event": "Added Item To Cart", "selector": 'properties["sale"] == true'}
COUNTS = [
    {"window": "90d", "name": "behaviors_1", "event_selectors": [CART]},
    {"window": "1d", "name": "bought", "event_selectors": [{"event": "Purchase"}]},
]
DATED = {"name": "behaviors_1", "event_selectors": [CART]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Four persons with profiles, one without, and what they did; nobody changes that."""
    world = shared_world(tmp_path_factory.mktemp("behaviors") / "data")
    for one in ("ada", "bob", "eve", "zoe"):
        world.send({"$token": TOKEN, "$distinct_id": one, "$set": {"plan": "pro" if one < "e" else "free"}})
    world.fold_all()
    rows = [
        ("Added Item To Cart", -50, "ada", {"sale": True}),
        ("Added Item To Cart", -40, "ada", {"sale": True}),
        ("Added Item To Cart", -30, "bob", {"sale": False}),
        ("Added Item To Cart", -30, "eve", {"sale": True}),
        ("Added Item To Cart", -24 * 91, "bob", {"sale": True}),
        ("Added Item To Cart", -2, "nobody", {"sale": True}),
        ("Purchase", -24, "ada", {}),
        ("Purchase", -25, "eve", {}),
    ]
    world.store_events(
        [
            {
                "position": position,
                "arrived": NOON_MS,
                "event": event,
                "time": NOON_MS + hours * HOUR_MS,
                "distinct_id": who,
                "insert_id": str(position),
                "properties": properties,
            }
            for position, (event, hours, who, properties) in enumerate(rows)
        ]
    )
    yield world
    world.close()


def good(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(reply: httpx.Response) -> str:
    assert reply.status_code == 400, reply.text
    return str(reply.json()["error"])


def asked(where: str, behaviors: Any = COUNTS, **more: Any) -> dict[str, Any]:
    return {"where": where, "behaviors": orjson.dumps(behaviors).decode(), **more}


def who(answer: Any) -> list[str]:
    return [row["$distinct_id"] for row in answer["results"]]


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ('(behaviors["behaviors_1"] > 0)', ["ada", "eve"]),
        ('behaviors["behaviors_1"] == 0', ["bob", "zoe"]),
        ('behaviors["behaviors_1"] > 1 or properties["plan"] == "free"', ["ada", "eve", "zoe"]),
        ('behaviors["behaviors_1"] > 0 and behaviors["bought"] == 0', ["eve"]),
        ('behaviors["bought"] < behaviors["behaviors_1"] and properties["plan"] == "pro"', ["ada"]),
        ('properties["plan"] == "pro"', ["ada", "bob"]),
    ],
)
def test_profiles_are_chosen_by_what_was_done(world: World, where: str, ids: list[str]) -> None:
    for answer in (
        good(world.get(ENGAGE, params=asked(where))),
        good(world.post("/api/2.0/engage/", data=asked(where))),
        good(world.post(ENGAGE, json={"where": where, "behaviors": COUNTS})),
    ):
        assert who(answer) == ids
        assert answer["total"] == len(ids)


def test_windows_end_with_the_time_that_is_asked_for(world: World) -> None:
    where = 'behaviors["bought"] > 0'
    second = NOON_MS // 1000
    assert who(good(world.get(ENGAGE, params=asked(where)))) == ["ada"]
    for at, ids in (
        (second - 24 * 3600, ["ada", "eve"]),
        (second - 24 * 3600 - 1, ["eve"]),
        (second + 1, []),
        (second - 26 * 3600, []),
    ):
        assert who(good(world.get(ENGAGE, params=asked(where, as_of_timestamp=at)))) == ids, at


def test_pages_are_those_of_one_answer_and_order_and_ids_narrow_it(world: World) -> None:
    where = 'behaviors["behaviors_1"] >= 0'
    first = good(world.get(ENGAGE, params=asked(where, page_size=2)))
    assert (first["total"], who(first)) == (4, ["ada", "bob"])
    next_page = asked(where, page_size=2, page=1, session_id=first["session_id"])
    assert who(good(world.get(ENGAGE, params=next_page))) == ["eve", "zoe"]
    assert who(good(world.get(ENGAGE, params=asked(where, page_size=3, page=1)))) == ["zoe"]
    ordered = asked(where, sort_key='properties["plan"]', sort_order="descending", limit=3)
    assert who(good(world.get(ENGAGE, params=ordered))) == ["ada", "bob", "eve"]
    few = asked('behaviors["behaviors_1"] > 0', distinct_ids='["bob","eve"]')
    assert who(good(world.get(ENGAGE, params=few))) == ["eve"]
    count = good(world.get("/api/query/engage/stats", params=asked('behaviors["behaviors_1"] > 0')))
    assert count["results"] == 2
    listed = good(world.get("/api/mixdown/profiles", params=asked('behaviors["behaviors_1"] > 0')))
    assert who(listed) == ["ada", "eve"]
    file = world.get(
        "/api/mixdown/profiles/export", params=asked('behaviors["behaviors_1"] > 0', format="ndjson")
    )
    assert [orjson.loads(line)["$distinct_id"] for line in file.text.splitlines()] == ["ada", "eve"]


@pytest.mark.parametrize(
    ("behaviors", "text"),
    [
        ("x", "behaviors, must be JSON"),
        ({"name": "a"}, "behaviors, must be a list of 1 to 20"),
        ([{"name": "a", "odd": 1}], "behaviors, must be a list of 1 to 20"),
        ([*COUNTS] * 11, "behaviors, must be a list of 1 to 20"),
        ([{"event_selectors": [CART]}], "behaviors, each needs a name"),
        ([COUNTS[0], COUNTS[0]], "behaviors, each needs a name"),
        ([{**COUNTS[0], "window": "90"}], "behaviors, window must be"),
        ([{**COUNTS[0], "window": "0d"}], "behaviors, window must be"),
        ([{**COUNTS[0], "window": "3661d"}], "behaviors, window must be"),
        ([{**COUNTS[0], "window": 90}], "behaviors, window must be"),
        ([{**COUNTS[0], "from_date": "2026-01-01"}], "behaviors, from_date and to_date"),
        ([{"name": "behaviors_1", "event_selectors": [CART], "to_date": "soon"}], "behaviors, from_date and"),
        ([{**DATED, "from_date": "2026-01-02", "to_date": "2026-01-01"}], "behaviors, from_date is later"),
        ([{**DATED, "from_date": "2026-01-17"}], "behaviors, from_date is later"),
        ([{**COUNTS[0], "event_selectors": []}], "behaviors, event_selectors must be"),
        ([{**COUNTS[0], "event_selectors": [{"selector": "true"}]}], "behaviors, event_selectors must be"),
        ([{**COUNTS[0], "event_selectors": [{"event": "a", "selector": "("}]}], "behaviors, selector, "),
        ([{**COUNTS[0], "name": "b"}], 'where, there is no behavior "behaviors_1"'),
        ([{**COUNTS[0], "name": "x" * 70_000}], "behaviors, must have at most 65536 bytes"),
    ],
)
def test_what_is_wrong_with_behaviors_is_named(world: World, behaviors: Any, text: str) -> None:
    given = behaviors if behaviors == "x" else orjson.dumps(behaviors).decode()
    params = {"where": 'behaviors["behaviors_1"] > 0', "behaviors": given}
    assert text in refused(world.post(ENGAGE, data=params))
    if behaviors != "x":
        own = {"name": "c", "where": params["where"], "behaviors": behaviors}
        assert text in refused(world.post(COHORTS, user=ADMIN, json=own))


def test_days_that_have_begun_somewhere_may_be_asked_for(world: World) -> None:
    where = 'behaviors["behaviors_1"] == 0'
    for dates in (
        {"from_date": "2026-01-16"},  # it is in the easternmost zone
        {"from_date": "2027-01-01", "to_date": "2027-01-01"},
        {"from_date": "2300-01-01", "to_date": "9999-12-31"},
        {"to_date": "1969-12-31"},
    ):
        found = good(world.get(ENGAGE, params=asked(where, [{**DATED, **dates}])))
        assert who(found) == ["ada", "bob", "eve", "zoe"], dates


def test_behaviors_stand_alone_and_empty_ones_say_nothing(world: World) -> None:
    both = asked("true", filter_by_cohort='{"id": 1}')
    assert "behaviors, give either these or filter_by_cohort" in refused(world.get(ENGAGE, params=both))
    assert len(who(good(world.get(ENGAGE, params={"behaviors": "[]", "as_of_timestamp": 5})))) == 4
    assert "as_of_timestamp" in refused(world.get(ENGAGE, params=asked("true", as_of_timestamp="soon")))


# --- cohorts


@pytest.fixture(scope="module")
def cohort(world: World) -> dict[str, Any]:
    made = world.post(
        COHORTS,
        user=ADMIN,
        json={"name": "carted", "where": 'behaviors["behaviors_1"] > 0', "behaviors": COUNTS},
    )
    return dict(good(made)["results"])


def test_a_cohort_counts_events_when_it_is_asked(world: World, cohort: dict[str, Any]) -> None:
    assert (cohort["behaviors"], cohort["count"]) == (COUNTS, 3)
    listed = good(world.get("/api/query/cohorts/list", user=READER))
    assert [row["count"] for row in listed if row["id"] == cohort["id"]] == [3]
    number = orjson.dumps({"id": cohort["id"]}).decode()
    # she who did it and has no profile is a member as well
    assert who(good(world.get(ENGAGE, params={"filter_by_cohort": number}))) == ["ada", "eve", "nobody"]
    few = {"filter_by_cohort": number, "include_all_users": "false"}
    assert who(good(world.get(ENGAGE, params=few))) == ["ada", "eve"]
    free = {**few, "where": 'properties["plan"] == "free"'}
    assert who(good(world.get(ENGAGE, params=free))) == ["eve"]
    for target in ("/api/mixdown/profiles", "/api/query/engage"):
        assert who(good(world.get(target, params=few))) == ["ada", "eve"]
    stats = {
        "segment_by_cohorts": orjson.dumps([cohort["id"]]).decode(),
        "where": 'properties["plan"] == "pro"',
    }
    assert good(world.get("/api/query/engage/stats", params=stats))["results"] == {str(cohort["id"]): 1}
    # as it was a day and a half earlier: of what is asked now, nothing is kept
    then = {"filter_by_cohort": number, "as_of_timestamp": NOON_MS // 1000 - 45 * 3600}
    assert who(good(world.get(ENGAGE, params=then))) == ["ada", "bob"]


def test_what_a_cohort_counts_is_changed(world: World) -> None:
    given = {"name": "changing", "where": 'behaviors["bought"] > 0', "behaviors": COUNTS}
    made = good(world.post(COHORTS, user=ADMIN, json=given))["results"]
    assert made["count"] == 1

    def patch(**change: Any) -> httpx.Response:
        return world.run(world.ask(COHORTS, method="PATCH", user=ADMIN, json={"id": made["id"], **change}))

    longer = [{**COUNTS[1], "window": "2d"}]
    changed = good(patch(behaviors=longer))["results"]
    assert (changed["behaviors"], changed["where"], changed["count"]) == (longer, made["where"], 2)
    assert "there is no behavior" in refused(patch(where='behaviors["behaviors_1"] > 0'))
    assert "there is no behavior" in refused(patch(behaviors=[COUNTS[0]]))
    assert good(patch(where='behaviors["bought"] == 0'))["results"]["count"] == 2
    ids = {"name": "listed", "distinct_ids": ["ada"], "behaviors": COUNTS}
    assert "behaviors, where must say" in refused(world.post(COHORTS, user=ADMIN, json=ids))


@pytest.mark.parametrize(
    "error", [ReadTimeoutError.after(60), TooMuchAtOnceError("too much"), QueryError("no", status=400)]
)
def test_a_cohort_that_cannot_be_counted_keeps_no_other_from_being_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world = shared_world(tmp_path / "data")
    done = {"event": "buy", "time": NOON_MS - 1000, "distinct_id": "ada", "insert_id": "1", "properties": {}}
    world.store_events([{"position": 0, "arrived": NOON_MS, **done}])
    counts = [{"name": "n", "window": "7d", "event_selectors": [{"event": "buy"}]}]
    for name in ("first", "second"):
        given = {"name": name, "where": 'behaviors["n"] > 0', "behaviors": counts}
        assert good(world.post(COHORTS, user=ADMIN, json=given))["results"]["count"] == 1
    good(world.post(COHORTS, user=ADMIN, json={"name": "plain", "where": "true"}))
    counted = cohorts.members
    asked: list[str] = []

    def members(store: Any, cohort: Any, **more: Any) -> Any:
        asked.append(cohort.name)
        if cohort.name == "first":
            raise error
        return counted(store, cohort, **more)

    def told() -> list[Any]:
        cohorts_ = good(world.get(COHORTS))["results"]
        figures = [each["count"] for each in cohorts_]
        of_clients = [each["count"] for each in good(world.get("/api/2.0/cohorts/list"))]
        assert of_clients == [figure or 0 for figure in figures]
        return figures

    monkeypatch.setattr(cohorts, "members", members)
    monkeypatch.setattr(cohorts, "KEPT_TIMES", 0)  # how long counting took is no matter of this test
    assert told() == [1, 1, 0], "the count that was last known"
    cohorts._kept.clear()
    assert told() == [None, 1, 0]
    renaming = {"name": "first of all", "id": 1}
    renamed = good(world.run(world.ask(COHORTS, method="PATCH", user=ADMIN, json=renaming)))["results"]
    assert (renamed["name"], renamed["count"]) == ("first of all", 1)
    assert set(asked) == {"first", "second", "first of all"}
    again = {"name": "first", "where": 'behaviors["n"] > 0', "behaviors": counts}
    assert world.post(COHORTS, user=ADMIN, json=again).status_code == 400, "a new one is refused"
    assert [each.name for each in world.store.cohorts.listing(world.project.id)] == [
        "first of all",
        "second",
        "plain",
    ]
    world.close()


def test_a_cohort_that_took_all_of_the_time_is_counted_last_and_not_at_once_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = shared_world(tmp_path / "data")
    counts = orjson.dumps([{"name": "n", "event_selectors": [{"event": "buy"}]}]).decode()
    where, project, store = 'behaviors["n"] > 0', world.project.id, world.store
    for name in ("slow", "late"):
        made = Cohort(project, name, "", "", where, NOON_MS)
        store.cohorts.create(structs.replace(made, behaviors=counts), [])
    now_s, left_s = 1000.0, 0.0
    asked: list[str] = []

    def members(_store: Any, cohort: Any, **_more: Any) -> Any:
        nonlocal now_s, left_s
        asked.append(cohort.name)
        took_s = min(left_s, 90.0 if cohort.name == "slow" else 1.0)
        now_s, left_s = now_s + took_s, left_s - took_s
        if not left_s:
            raise ReadTimeoutError.after(60)
        return iter(["ada"])

    def told(later_s: float) -> tuple[list[Any], list[str]]:
        nonlocal now_s, left_s
        now_s, left_s = now_s + later_s, 60.0
        asked.clear()
        listed = store.cohorts.listing(project)
        found = cohorts.counted(store, listed, now_ms=NOON_MS, clock=lambda: now_s, lenient=True)
        return [each.count for each in found], list(asked)

    monkeypatch.setattr(cohorts, "members", members)
    assert told(0) == ([None, None], ["slow", "late"])
    assert told(1) == ([None, 1], ["late"]), "who had no turn has one now"
    assert told(10) == ([None, 1], [])
    assert told(60) == ([None, 1], ["late", "slow"])
    world.close()


def test_groups_are_counted_for_a_cohort_of_groups(tmp_path: Path) -> None:
    world = shared_world(tmp_path / "data")
    for name in ("acme", "zed", "ink"):
        world.send(
            {"$token": TOKEN, "$group_key": "company", "$group_id": name, "$set": {}}, endpoint="groups"
        )
    world.fold_all()
    world.store_events(
        [
            {
                "position": number,
                "arrived": NOON_MS,
                "event": "buy",
                "time": NOON_MS - DAY_MS,
                "distinct_id": who_,
                "insert_id": str(number),
                "properties": {"company": company},
            }
            for number, (who_, company) in enumerate(
                [("ada", ["acme", "zed"]), ("bob", "acme"), ("eve", "new")]
            )
        ]
    )
    counts = [{"name": "n", "window": "7d", "event_selectors": [{"event": "buy"}]}]
    for where, ids in (('behaviors["n"] > 1', ["acme"]), ('behaviors["n"] < 2', ["ink", "zed"])):
        answer = good(world.get(ENGAGE, params=asked(where, counts, data_group_id="company")))
        assert who(answer) == ids
    given = {"name": "c", "where": 'behaviors["n"] > 0', "behaviors": counts, "data_group_id": "company"}
    assert good(world.post(COHORTS, user=ADMIN, json=given))["results"]["count"] == 3
    world.close()
