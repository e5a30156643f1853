"""Saved reports as Mixpanel's Insights have them, told apart by values."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reads.support import ADMIN, NOON_MS, World
from tests.reports.test_journeys_over_http import DAYS, REPORTS, asked_world, good, plain_world

__all__ = ["asked_world", "plain_world"]

BY_VALUE: dict[str, dict[str, Any]] = {
    "segmentation": {"event": "visit", "on": "plan"},
    "funnels": {"steps": ["visit", "buy"], "on": "n", "unit": "week"},
    "retention": {"born_event": "visit", "event": "buy", "on": "n"},
    "addiction": {"unit": "week", "addiction_unit": "day", "on": "plan"},
}


@pytest.fixture(scope="module")
def told_by_value(asked_world: World) -> dict[str, dict[str, Any]]:
    """What Insights answer of a report of each kind that tells values apart, of days that are not padded."""
    found = {}
    for kind, definition in BY_VALUE.items():
        given = {"kind": kind, "name": f"{kind} by value", "definition": definition}
        number = good(asked_world.post(REPORTS, user=ADMIN, json=given))["results"]["id"]
        asked = {"bookmark_id": number, "from_date": "2026-1-14", "to_date": "2026-1-15"}
        found[kind] = good(asked_world.get("/api/query/insights", params=asked))
        days = found[kind]["date_range"]
        assert (days["from_date"][:10], days["to_date"][:10]) == (DAYS["from_date"], DAYS["to_date"])
    return found


def test_insights_tell_values_apart_as_their_headers_say(told_by_value: dict[str, dict[str, Any]]) -> None:
    headers = {kind: answer["headers"] for kind, answer in told_by_value.items()}
    assert headers == {
        "segmentation": ["plan"],
        "funnels": ["$funnel", "n"],
        "retention": ["$retention", "n"],
        "addiction": ["$frequency", "plan"],
    }
    day = "2026-01-14T00:00:00+00:00"
    series = told_by_value["segmentation"]["series"]
    assert {name: figures[day] for name, figures in series.items()} == {
        "pro": 2,
        "free": 1,
        "$overall": 0,
        "undefined": 0,
    }
    funnel = told_by_value["funnels"]["series"]["funnels by value"]["2026-01-12"]
    assert funnel["count"] == {
        "1. visit": {"all": 3, "undefined": 3},
        "2. buy": {"all": 3, "undefined": 3},
    }
    assert funnel["avg_time"]["2. buy"] == {"all": 6000, "undefined": 6000}
    rows = told_by_value["retention"]["series"]["retention by value"]
    assert {value: own[day] for value, own in rows.items()} == {
        "$overall": {"first": 2, "counts": [2, 0], "rates": [1.0, 0.0]},
        "1": {"first": 2, "counts": [1, 0], "rates": [0.5, 0.0]},
        "2": {"first": 2, "counts": [1, 0], "rates": [0.5, 0.0]},
        "5": {"first": 2, "counts": [0, 0], "rates": [0.0, 0.0]},
    }
    often = told_by_value["addiction"]["series"]["addiction by value"]
    week = "2026-01-12T00:00:00+00:00"
    assert {value: own[week][:2] for value, own in often.items()} == {
        "$overall": [3, 1],
        '"$overall"': [1, 0],
        "free": [1, 0],
        "pro": [2, 0],
        "undefined": [3, 0],
    }


@pytest.mark.parametrize("value", ["steps", "$overall", "all", "analysis"])
def test_no_value_hides_all_of_them_together(plain_world: World, value: str) -> None:
    plain_world.store_events(
        [
            {
                "position": 0,
                "arrived": NOON_MS,
                "event": "visit",
                "time": NOON_MS,
                "distinct_id": "ada",
                "insert_id": "0",
                "properties": {"plan": value},
            }
        ]
    )
    asked = {**DAYS, "on": "plan", "interval": 2}
    answer = good(plain_world.get("/api/query/arb_funnels", params={**asked, "steps": '["visit"]'}))
    quoted = f'"{value}"' if value in ("steps", "$overall") else value
    assert set(answer["data"]["2026-01-14"]) == {"$overall", quoted}
    given = {"kind": "funnels", "name": "by plan", "definition": {"steps": ["visit"]}}
    number = good(plain_world.post(REPORTS, user=ADMIN, json=given))["results"]["id"]
    told = good(plain_world.get("/api/query/insights", params={**asked, "bookmark_id": number}))
    figures = told["series"]["by plan"]["2026-01-14"]["count"]["1. visit"]
    assert list(figures.values()) == [1, 1]
    assert next(iter(figures)) == "all"
