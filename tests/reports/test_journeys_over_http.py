"""Funnels, retention and addiction over HTTP: Mixpanel's shapes, parameters, saved ones, and who may ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.reads.support import (
    ADMIN,
    DAY_MS,
    IMPORTER,
    NOON_MS,
    OWNER,
    READER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
    shared_world,
)

PREFIXES = ("/api/query", "/api/2.0")
REPORTS = "/api/mixdown/reports"
DAYS = {"from_date": "2026-01-14", "to_date": "2026-01-15"}
HOUR_MS = 3_600_000
STEPS = [{"event": "visit"}, {"event": "buy", "where": 'properties["n"] > 1', "label": "Paid"}]


@pytest.fixture
def plain_world(tmp_path: Path) -> Iterator[World]:
    """A fresh server."""
    world = shared_world(tmp_path / "data")
    yield world
    world.close()


@pytest.fixture(scope="module")
def asked_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server with four visits and three purchases on two days; nobody changes it."""
    world = shared_world(tmp_path_factory.mktemp("journeys") / "data")
    rows = [
        ("visit", -26, "ada", {"plan": "pro"}),
        ("buy", -25, "ada", {"n": 2}),
        ("visit", -24, "bob", {"plan": ["pro", "free"]}),
        ("buy", -23, "bob", {"n": 1}),
        ("visit", 0, "ada", {"plan": "$overall"}),
        ("visit", 1, "eve", {}),
        ("buy", 4, "eve", {"n": 5}),
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
    world.now_ms = NOON_MS + DAY_MS
    yield world
    world.close()


@pytest.fixture(scope="module")
def funnel_id(asked_world: World) -> int:
    made = asked_world.post(
        REPORTS,
        user=ADMIN,
        json={
            "kind": "funnels",
            "name": "Signup",
            "definition": {"steps": STEPS, "length": 3, "length_unit": "hour"},
        },
    )
    assert made.status_code == 200, made.text
    return int(made.json()["results"]["id"])


def good(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    assert "retry-after" not in reply.headers
    assert reply.headers["cache-control"] == "no-store"
    return reply.json()


def refused(reply: httpx.Response, status: int = 400) -> str:
    assert reply.status_code == status, reply.text
    told = reply.json()
    assert told["status"] == "error"
    return str(told["error"])


def step(
    count: int, step_ratio: float, whole: float, seconds: int | None, event: str, label: str
) -> dict[str, Any]:
    return {
        "count": count,
        "step_conv_ratio": step_ratio,
        "overall_conv_ratio": whole,
        "avg_time": seconds,
        "avg_time_from_start": seconds,
        "goal": event,
        "event": event,
        "step_label": label,
    }


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_saved_funnel_answers_in_mixpanels_shape(
    asked_world: World, funnel_id: int, prefix: str, slash: str
) -> None:
    listed = good(asked_world.get(f"{prefix}/funnels/list{slash}"))
    assert listed == [{"funnel_id": funnel_id, "name": "Signup"}]
    answer = good(asked_world.get(f"{prefix}/funnels{slash}", params={"funnel_id": funnel_id, **DAYS}))
    assert set(answer) == {"computed_at", "meta", "data"}
    assert answer["meta"] == {"dates": ["2026-01-14", "2026-01-15"]}
    assert answer["data"]["2026-01-14"] == {
        "steps": [step(2, 1.0, 1.0, None, "visit", "visit"), step(1, 0.5, 0.5, 3600, "buy", "Paid")],
        "analysis": {"completion": 1, "starting_amount": 2, "steps": 2, "worst": 1},
    }
    assert answer["data"]["2026-01-15"]["steps"][1]["count"] == 1, "three hours, to the second, are in time"


def test_a_day_on_which_nobody_came_is_empty_as_mixpanel_has_it(asked_world: World, funnel_id: int) -> None:
    asked = {"funnel_id": funnel_id, "from_date": "2026-01-01", "to_date": "2026-01-01"}
    answer = good(asked_world.get("/api/query/funnels", params=asked))
    assert answer["data"] == {
        "2026-01-01": {
            "steps": [step(0, 1.0, 1.0, None, "visit", "visit"), step(0, 0.0, 0.0, None, "buy", "Paid")],
            "analysis": {"completion": 0, "starting_amount": 0, "steps": 2, "worst": 1},
        }
    }


def test_what_is_asked_goes_before_what_was_saved(asked_world: World, funnel_id: int) -> None:
    asked = {"funnel_id": funnel_id, **DAYS, "length": 2, "interval": 2}
    answer = good(asked_world.get("/api/query/funnels", params=asked))
    assert {key: [one["count"] for one in row["steps"]] for key, row in answer["data"].items()} == {
        "2026-01-14": [3, 1]
    }


def test_a_funnel_by_value_tells_all_and_each(asked_world: World, funnel_id: int) -> None:
    asked = {"funnel_id": funnel_id, **DAYS, "on": 'properties["plan"]', "unit": "week"}
    answer = good(asked_world.get("/api/query/funnels", params=asked))
    counts = {name: [one["count"] for one in steps] for name, steps in answer["data"]["2026-01-12"].items()}
    assert counts == {
        "$overall": [3, 2],
        "pro": [2, 1],
        '"$overall"': [1, 0],
        "free": [1, 0],
        "undefined": [1, 1],
    }
    few = good(asked_world.get("/api/query/funnels", params={**asked, "limit": 1}))
    assert set(few["data"]["2026-01-12"]) == {"$overall", "pro"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_funnel_that_is_sent_needs_no_saving(asked_world: World, method: str) -> None:
    asked: dict[str, Any] = {**DAYS, "events": ["visit", {"event": "buy", "selector": 'properties["n"] > 4'}]}
    reply = (
        asked_world.post("/api/query/arb_funnels", json=asked)
        if method == "POST"
        else asked_world.get(
            "/api/query/arb_funnels",
            params={**DAYS, "events": '["visit", {"event": "buy", "selector": "properties[\\"n\\"] > 4"}]'},
        )
    )
    counts = [[one["count"] for one in row["steps"]] for row in good(reply)["data"].values()]
    assert counts == [[2, 0], [2, 1]]


def test_without_days_a_report_is_about_those_it_was_saved_with(asked_world: World) -> None:
    asked = {"steps": '["visit"]'}
    assert len(good(asked_world.get("/api/query/arb_funnels", params=asked))["meta"]["dates"]) == 30
    made = asked_world.post(
        REPORTS, user=ADMIN, json={"name": "week", "definition": {"steps": ["visit"], "days": 7}}
    )
    number = made.json()["results"]["id"]
    answer = good(asked_world.get(f"{REPORTS}/run", params={"id": number}))
    assert answer["meta"]["dates"][0] == "2026-01-10"
    assert len(answer["meta"]["dates"]) == 7


@pytest.fixture(scope="module")
def drawn_id(asked_world: World) -> int:
    """A funnel that was saved as somebody drew it: by value, in stretches of its own, and filtered."""
    definition = {
        "steps": STEPS,
        "length": 3,
        "length_unit": "hour",
        "on": "plan",
        "limit": 1,
        "unit": "week",
        "interval": 2,
        "where": 'properties["distinct_id"] == "ada" or properties["distinct_id"] == "eve"',
    }
    made = asked_world.post(REPORTS, user=ADMIN, json={"name": "drawn", "definition": definition})
    return int(good(made)["results"]["id"])


def test_how_a_funnel_was_drawn_is_nothing_to_clients_that_copy_it(asked_world: World, drawn_id: int) -> None:
    def counts(**more: Any) -> dict[str, Any]:
        answer = good(asked_world.get("/api/2.0/funnels", params={"funnel_id": drawn_id, **DAYS, **more}))
        assert answer["meta"]["dates"] == list(answer["data"])
        assert all(set(row) == {"steps", "analysis"} for row in answer["data"].values())
        return {key: [one["count"] for one in row["steps"]] for key, row in answer["data"].items()}

    days = {"2026-01-14": [1, 1], "2026-01-15": [2, 1]}
    assert counts() == days
    assert counts(unit="day") == days
    assert counts(unit="day", interval=1) == days
    assert counts(interval=2) == {"2026-01-14": [2, 2]}
    assert counts(unit="week") == {"2026-01-12": [2, 2]}
    both = 'properties["distinct_id"] != "ada" or false'
    assert counts(where=both) == {"2026-01-14": [0, 0], "2026-01-15": [1, 1]}, "both filters count"
    for wrong in ("(", "true) or (true"):
        reply = asked_world.get("/api/2.0/funnels", params={"funnel_id": drawn_id, **DAYS, "where": wrong})
        assert refused(reply).startswith("where, ")
    asked = {"funnel_id": drawn_id, **DAYS, "on": "plan", "unit": "week"}
    by_value = good(asked_world.get("/api/2.0/funnels", params=asked))["data"]["2026-01-12"]
    assert set(by_value) == {"$overall", "pro", '"$overall"', "undefined"}, "its limit is the request's too"


def test_who_names_a_unit_gets_single_ones(asked_world: World, drawn_id: int) -> None:
    def dates(**more: Any) -> list[str]:
        asked = {"bookmark_id": drawn_id, **DAYS, **more}
        answer = good(asked_world.get("/api/query/insights", params=asked))
        assert answer["headers"] == ["$funnel", "plan"]
        return list(answer["series"]["drawn"])

    assert dates() == ["2026-01-12"]
    assert dates(unit="day") == ["2026-01-14", "2026-01-15"]
    assert dates(interval=1) == ["2026-01-14", "2026-01-15"]
    answer = good(asked_world.get(f"{REPORTS}/run", params={"id": drawn_id, **DAYS, "unit": "day"}))
    assert list(answer["data"]["2026-01-15"]) == ["$overall", '"$overall"'], "the saved limit is one"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("funnels", "funnel_id, missing"),
        ("funnels?funnel_id=seven", "funnel_id, must be an integer"),
        ("funnels?funnel_id=4711", "funnel_id, there is no funnel 4711"),
        ("funnels?funnel_id=ID&from_date=x", "from_date, must be a day"),
        ("funnels?funnel_id=ID&from_date=2026-01-02&to_date=2026-01-01", "is later than"),
        ("funnels?funnel_id=ID&length=91&length_unit=day", "length, a funnel takes at most 90 days"),
        ("funnels?funnel_id=ID&length_unit=week", "length_unit, must be one of"),
        ("funnels?funnel_id=ID&where=(", "where, "),
        ("funnels?funnel_id=ID&on=(", "position"),
        ("funnels?funnel_id=ID&order=odd", "order, must be one of"),
        ("funnels?funnel_id=ID&limit=0", "limit, must be an integer"),
        ("funnels?funnel_id=ID&unit=hour", "unit, must be one of"),
        ("funnels?funnel_id=ID&data_group_id=zzz", "data_group_id, no group key"),
        ("arb_funnels", "steps, must be a list"),
        ("arb_funnels?steps=[]", "steps, must be a list"),
        ('arb_funnels?steps=[{"where":"true"}]', "steps, each must name an event"),
        ('arb_funnels?steps=[{"event":7}]', "steps, event must be a text"),
        ('arb_funnels?steps=[{"event":"a","where":"x"}]', "steps, where of step 1"),
        ("arb_funnels?bookmark_id=1&query_type=flows_sankey", "query_type, flows are not built"),
        ("retention?event=a", "born_event, missing"),
        ("retention?born_event=a&retention_type=x", "retention_type, must be one of"),
        ("retention?born_event=a&interval_count=1000", "interval_count, must be an integer"),
        ("retention?born_event=a&born_where=(", "born_where, "),
        ("retention?bookmark_id=4711", "bookmark_id, there is no report 4711"),
        ("retention/addiction?addiction_unit=minute", "addiction_unit, must be one of"),
        ("retention/addiction?unit=hour", "unit, must be one of"),
        ("insights", "bookmark_id, missing"),
        ("insights?bookmark_id=4711", "bookmark_id, there is no report 4711"),
        ("insights?bookmark={}x", "bookmark, "),
    ],
)
def test_what_is_wrong_is_named(asked_world: World, funnel_id: int, target: str, text: str) -> None:
    for prefix in PREFIXES:
        reply = asked_world.get(f"{prefix}/{target.replace('ID', str(funnel_id), 1)}")
        assert text in refused(reply), reply.text


def test_retention_answers_in_mixpanels_shape(asked_world: World) -> None:
    asked = {**DAYS, "born_event": "visit", "event": "buy", "interval_count": 1}
    assert good(asked_world.get("/api/query/retention", params=asked)) == {
        "2026-01-14": {"first": 2, "counts": [2, 0]},
        "2026-01-15": {"first": 1, "counts": [1, 0]},
    }
    asked = {**DAYS, "retention_type": "compounded", "event": "visit", "interval_count": 2}
    assert good(asked_world.get("/api/query/retention", params=asked)) == {
        "2026-01-14": {"first": 2, "counts": [0, 1, 0]},
        "2026-01-15": {"first": 2, "counts": [0, 0, 0]},
    }
    asked["unbounded_retention"] = "true"
    answer = good(asked_world.get("/api/query/retention", params=asked))
    assert answer["2026-01-14"]["counts"] == [1, 1, 0]
    by_value = {**DAYS, "born_event": "visit", "event": "buy", "on": "n"}
    answer = good(asked_world.get("/api/query/retention", params=by_value))
    assert answer["2026-01-14"] == {
        "first": 2,
        "counts": [2, 0],
        "segments": {"1": [1, 0], "2": [1, 0], "5": [0, 0]},
    }


def test_intervals_may_be_longer_than_there_is_time(asked_world: World) -> None:
    asked = {**DAYS, "born_event": "visit", "event": "buy", "unit": "month", "interval": 50_000}
    answer = good(asked_world.get("/api/query/retention", params={**asked, "interval_count": 366}))
    assert answer == {"2026-01-01": {"first": 3, "counts": [3] + [0] * 366}}


def test_without_an_event_any_is_a_return(asked_world: World) -> None:
    asked = {**DAYS, "born_event": "visit"}
    answer = good(asked_world.get("/api/query/retention", params=asked))
    assert answer["2026-01-14"] == {"first": 2, "counts": [2, 1]}


def test_addiction_answers_in_mixpanels_shape(asked_world: World) -> None:
    asked = {**DAYS, "unit": "day", "addiction_unit": "hour"}
    answer = good(asked_world.get("/api/query/retention/addiction", params=asked))
    assert {key: (counts[:3], len(counts)) for key, counts in answer["data"].items()} == {
        "2026-01-14": ([2, 2, 0], 24),
        "2026-01-15": ([2, 1, 0], 24),
    }
    asked = {**DAYS, "unit": "month", "addiction_unit": "day", "event": "visit", "on": "plan"}
    answer = good(asked_world.get("/api/query/retention/addiction", params=asked))
    assert answer["data"]["2026-01-01"] == [3, 1] + [0] * 29
    assert answer["segments"]["pro"]["2026-01-01"] == [2] + [0] * 30


def test_insights_answer_a_saved_report_of_each_kind(asked_world: World, funnel_id: int) -> None:
    made = {
        "segmentation": {"event": "visit"},
        "retention": {"born_event": "visit", "event": "buy"},
        "addiction": {"unit": "week", "addiction_unit": "day"},
    }
    found = {}
    for kind, definition in made.items():
        reply = asked_world.post(
            REPORTS, user=ADMIN, json={"kind": kind, "name": kind, "definition": definition}
        )
        number = good(reply)["results"]["id"]
        found[kind] = good(asked_world.get("/api/query/insights", params={"bookmark_id": number, **DAYS}))
    for answer in found.values():
        assert set(answer) == {"computed_at", "date_range", "headers", "series", "meta"}
        assert answer["date_range"] == {
            "from_date": "2026-01-14T00:00:00+00:00",
            "to_date": "2026-01-15T23:59:59.999000+00:00",
        }
    days = ("2026-01-14T00:00:00+00:00", "2026-01-15T00:00:00+00:00")
    assert found["segmentation"]["headers"] == ["$event"]
    assert found["segmentation"]["series"] == {"visit": dict.fromkeys(days, 2)}
    assert found["retention"]["headers"] == ["$retention"]
    assert found["retention"]["series"] == {
        "retention": {
            days[0]: {"first": 2, "counts": [2, 0], "rates": [1.0, 0.0]},
            days[1]: {"first": 1, "counts": [1, 0], "rates": [1.0, 0.0]},
        }
    }
    asked = {"bookmark_id": funnel_id, **DAYS, "interval": 2}
    answer = good(asked_world.get("/api/query/insights", params=asked))
    assert answer["headers"] == ["$funnel"]
    assert answer["series"]["Signup"]["2026-01-14"]["count"] == {
        "1. visit": {"all": 3},
        "2. Paid": {"all": 2},
    }


def test_groups_are_counted_where_they_are_asked_for(plain_world: World) -> None:
    world = plain_world
    world.send({"$token": TOKEN, "$group_key": "company", "$group_id": "acme", "$set": {}}, endpoint="groups")
    world.fold_all()
    events = [("visit", "ada", ["acme", "zed"]), ("buy", "bob", "acme"), ("buy", "eve", None)]
    world.store_events(
        [
            {
                "position": number,
                "arrived": NOON_MS,
                "event": event,
                "time": NOON_MS,
                "distinct_id": who,
                "insert_id": str(number),
                "properties": {} if company is None else {"company": company},
            }
            for number, (event, who, company) in enumerate(events)
        ]
    )
    asked = {**DAYS, "steps": '["visit","buy"]', "data_group_id": "company", "interval": 2}
    answer = good(world.get("/api/query/arb_funnels", params=asked))
    assert [one["count"] for one in answer["data"]["2026-01-14"]["steps"]] == [2, 1]


def test_nobody_reads_without_credentials_or_the_projects_of_others(
    asked_world: World, funnel_id: int
) -> None:
    own = asked_world.project.id
    for name in (
        f"funnels?funnel_id={funnel_id}",
        "funnels/list",
        "retention?born_event=a",
        "insights?bookmark_id=1",
    ):
        target = f"/api/2.0/{name}"
        for credentials in ("", f"{TOKEN}:", TOKEN):
            headers = {"Authorization": basic(credentials)} if credentials else {}
            assert asked_world.get(target, user=None, headers=headers).status_code == 401, target
        for credentials in (SECRET, f"{SECRET}:"):
            reply = asked_world.get(target, user=None, headers={"Authorization": basic(credentials)})
            assert reply.status_code in (200, 400), target
        mark = "&" if "?" in target else "?"
        assert asked_world.get(f"{target}{mark}project_id={own}", user=STRANGER).status_code == 403
        assert asked_world.get(target, user=IMPORTER).status_code == 403
    other = asked_world.other.id
    foreign = asked_world.get(f"/api/2.0/funnels?funnel_id={funnel_id}&project_id={other}", user=OWNER)
    assert "there is no funnel" in refused(foreign)


# --- what is saved


def save(world: World, user: str = ADMIN, **given: Any) -> httpx.Response:
    return world.post(REPORTS, user=user, json={"name": "one", "definition": {"steps": ["a"]}, **given})


def test_a_report_is_saved_shown_changed_and_deleted(plain_world: World) -> None:
    world = plain_world
    made = good(save(world, description="who"))["results"]
    assert made == {
        "id": made["id"],
        "project_id": world.project.id,
        "kind": "funnels",
        "name": "one",
        "description": "who",
        "definition": {"steps": [{"event": "a"}]},
        "creator": ADMIN,
        "created": "2026-01-15T12:00:00",
        "changed": "2026-01-15T12:00:00",
    }
    assert good(world.get(REPORTS))["results"] == [made]
    assert good(world.get(REPORTS, params={"kind": "retention"}))["results"] == []
    assert good(world.get(REPORTS, params={"id": made["id"]}))["results"] == made
    changed = world.run(
        world.ask(
            REPORTS, method="PATCH", user=ADMIN, json={"id": made["id"], "definition": {"steps": ["b", "c"]}}
        )
    )
    assert good(changed)["results"]["definition"] == {"steps": [{"event": "b"}, {"event": "c"}]}
    assert good(changed)["results"]["name"] == "one"
    gone = world.run(world.ask(f"{REPORTS}?id={made['id']}", method="DELETE", user=ADMIN))
    assert good(gone)["results"] == {"id": made["id"]}
    assert "there is no report" in refused(world.get(REPORTS, params={"id": made["id"]}), 404)
    gone = world.run(world.ask(f"{REPORTS}?id={made['id']}", method="DELETE", user=ADMIN))
    assert gone.status_code == 404


@pytest.mark.parametrize(
    ("kind", "sent", "kept"),
    [
        (
            "segmentation",
            {
                "event": "a",
                "on": 7,
                "limit": " 5",
                "interval": "2",
                "unit": " week ",
                "days": "9",
                "where": True,
            },
            {"event": "a", "on": "7", "limit": 5, "interval": 2, "unit": "week", "days": 9, "where": "true"},
        ),
        (
            "retention",
            {"born_event": "a", "interval_count": "3", "unbounded_retention": "True", "event": " "},
            {"born_event": "a", "interval_count": 3, "unbounded_retention": True},
        ),
        (
            "retention",
            {"born_event": "a", "unbounded_retention": 0},
            {"born_event": "a", "unbounded_retention": False},
        ),
        (
            "funnels",
            {"steps": ["a"], "length": "7", "length_unit": "", "chart": "bars"},
            {"steps": [{"event": "a"}], "length": 7, "chart": "bars"},
        ),
    ],
)
def test_a_definition_is_kept_in_the_types_of_its_parameters(
    plain_world: World, kind: str, sent: dict[str, Any], kept: dict[str, Any]
) -> None:
    made = good(save(plain_world, kind=kind, definition=sent))["results"]
    assert made["definition"] == kept
    assert plain_world.store.reports.listing(plain_world.project.id)[0].definition == orjson.dumps(kept)
    assert good(plain_world.get(REPORTS, params={"id": made["id"]}))["results"] == made


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"name": " "}, "name, must be 1 to 255"),
        ({"name": "a\nb"}, "name, must be 1 to 255"),
        ({"kind": "flows"}, "kind, must be one of"),
        ({"definition": ["a"]}, "definition, must be an object"),
        ({"definition": {"steps": ["a"], "odd": 1}}, "definition, odd is no part of it"),
        ({"definition": {"steps": ["a"], "length": [1]}}, "definition, length must be a text"),
        ({"definition": {"steps": ["a"], "length": 91}}, "length, a funnel takes at most 90 days"),
        ({"definition": {"steps": ["a"], "days": 0}}, "definition, days must be an integer"),
        ({"definition": {"steps": ["a"], "days": True}}, "definition, days must be an integer"),
        ({"definition": {"steps": ["a"], "limit": "many"}}, "limit, must be an integer"),
        ({"definition": {"steps": ["a"], "limit": True}}, "limit, must be an integer"),
        ({"definition": {"steps": ["a"], "interval": -1}}, "interval, must be an integer"),
        (
            {"kind": "segmentation", "definition": {"event": "a", "chart": "pie"}},
            "definition, chart must be one of",
        ),
        (
            {"kind": "retention", "definition": {"born_event": "a", "unbounded_retention": "perhaps"}},
            "must be true or false",
        ),
        ({"definition": {"steps": [{"event": "a", "where": "("}]}}, "steps, where of step 1"),
        ({"kind": "retention", "definition": {"event": "a"}}, "born_event, missing"),
        ({"kind": "segmentation", "definition": {}}, "event, missing"),
        ({"kind": "addiction", "definition": {"unit": "year"}}, "unit, must be one of"),
        ({"kind": "dashboard", "definition": {"reports": [4711]}}, "reports, there is no report 4711"),
        ({"kind": "dashboard", "definition": {"reports": "x"}}, "definition, reports"),
        ({"description": "x" * 2001}, "description, must be at most 2000"),
    ],
)
def test_what_cannot_be_asked_is_not_saved(plain_world: World, given: dict[str, Any], text: str) -> None:
    told = refused(save(plain_world, **given))
    assert text in told or (text.startswith("definition, reports") and "reports, must be a list" in told)
    assert plain_world.store.reports.listing(plain_world.project.id) == []


def test_only_analysts_and_above_save(plain_world: World) -> None:
    assert save(plain_world, user=READER).status_code == 403
    assert save(plain_world, user=IMPORTER).status_code == 403
    assert save(plain_world, user=STRANGER, project_id=plain_world.project.id).status_code == 403
    other_site = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    reply = plain_world.post(REPORTS, user=ADMIN, headers=other_site, json={"name": "x", "definition": {}})
    assert reply.status_code == 403
    assert plain_world.store.reports.listing(plain_world.project.id) == []


def test_a_dashboard_holds_reports_and_has_no_figures(plain_world: World) -> None:
    number = good(save(plain_world))["results"]["id"]
    board = good(save(plain_world, kind="dashboard", name="board", definition={"reports": [number]}))[
        "results"
    ]
    assert board["definition"] == {"reports": [number]}
    nested = refused(save(plain_world, kind="dashboard", name="b", definition={"reports": [board["id"]]}))
    assert "there is no report" in nested
    assert "is a dashboard" in refused(plain_world.get(f"{REPORTS}/run", params={"id": board["id"]}))
    assert "taken by another report" in refused(save(plain_world))
