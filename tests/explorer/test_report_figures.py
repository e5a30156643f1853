"""What pages of reports say of their figures: whose they are, how many in all, and what is not over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixdown.explorer import session
from tests.engine import open_store
from tests.explorer.test_reports import ANALYST, REPORTS, event, get, lines, made_up, twin
from tests.explorer.test_session import sign_in
from tests.reads.support import READER, World

CLOCKS_GO_ON_MS = 1_774_746_000_000
"""When in Berlin it is three o'clock, on 2026-03-29, and was two."""


def logins() -> list[dict[str, Any]]:
    """Five people who come on three days each, with two values at a time."""
    return [
        event(1000 + 3 * n + at, "login", n, days, tags=["a", "b"])
        for n in range(5)
        for at, days in enumerate((20, 10, 3))
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One server for all tests: none changes what another one counts."""
    folder: Path = tmp_path_factory.mktemp("figures") / "data"
    store = open_store(folder, role="worker", create=True)
    made = World(store, open_store(folder, role="fold", create=False))
    made.store_events([*made_up(), *logins(), event(2000, "early", 1, 0) | {"time": CLOCKS_GO_ON_MS}])
    made.add_account(ANALYST, "analyst")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _signed_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FAILURE_PAUSE_S", 0.0)
    world.http.cookies.clear()
    assert sign_in(world, ANALYST).status_code == 303


# --- retention in each stretch


def test_where_each_return_begins_anew_one_event_is_asked_for_and_named(world: World) -> None:
    asked: dict[str, Any] = {"retention_type": "compounded", "event": "login", "unit": "week"}
    page = twin(world, "reports/retention", **asked)
    other = twin(world, "reports/retention", **asked, born_event="visit", born_where="true")
    assert page["definition"]["event"] == "login"
    assert not {"born_event", "born_where"} & other["definition"].keys()
    assert other == page
    form = get(world, "reports/retention", **asked, born_event="visit").text.partition('id="question"')[2]
    assert set(re.findall(r'name="((?:born_)?(?:event|where))"', form)) == {"event", "where"}
    assert "Does, and does again" in form
    assert "counted anew in each stretch" in get(world, "reports/retention/figures", **asked).text
    wrong = get(world, "reports/retention/figures", **{**asked, "event": "logn", "born_event": "visit"}).text
    assert re.search("no such event in these days: <bdi>logn", wrong)


def test_what_somebody_saved_in_each_stretch_is_told_once(world: World) -> None:
    definition = {"retention_type": "compounded", "born_event": "visit", "event": "login", "unit": "week"}
    body = {"kind": "retention", "name": "again and again", "definition": definition}
    number = world.post(REPORTS, user=ANALYST, json=body).json()["results"]["id"]
    (line,) = twin(world, "reports", q="again and again")["reports"]
    assert line["asks"] == ["login"]
    assert "born" not in line["url"]
    del definition["event"]
    changed = {"id": number, "definition": definition}
    assert world.run(world.ask(REPORTS, method="PATCH", user=ANALYST, json=changed)).status_code == 200
    opened = get(world, "reports/open", status=303, id=number).headers["location"]
    figures = world.get(opened.replace("retention?", "retention.json?"), user=READER).json()["figures"]
    assert sum(row["first"] for row in figures["rows"]) > 15  # of any event, as the API counts it


# --- how many in all


@pytest.mark.parametrize("limit", [1, 10])
def test_the_events_of_a_segmentation_by_value_count_once_each(world: World, limit: int) -> None:
    """Values stand under each element of a list, and rarer ones are left out."""
    found = twin(world, "reports/segmentation", event="login", on="tags", limit=limit)["figures"]
    assert [column["total"] for column in found["table"]["columns"]] == [15, 15][:limit]
    assert found["headline"] == {"number": 15, "text": "events"}
    some = twin(world, "reports/segmentation", event="visit", on="plan", limit=limit)["figures"]
    assert some["headline"]["number"] == 40


@pytest.mark.parametrize("on", ["", "tags"])
def test_different_people_of_all_days_are_counted_once(world: World, on: str) -> None:
    asked: dict[str, Any] = {"event": "login", "measure": "unique", "on": on or None, "unit": "week"}
    found = twin(world, "reports/segmentation", **asked)["figures"]
    assert found["people"] == 5
    assert found["headline"]["number"] == (None if on else 5)
    text = get(world, "reports/segmentation/figures", **asked).text
    assert re.search(r'class="figure">5</span> <span dir="auto">users in these days<', text)
    assert ("5 users at most in a week" in text) == (not on)
    days = twin(world, "reports/segmentation", event="visit", measure="unique")["figures"]
    assert (days["people"], days["headline"]["number"]) == (40, 10)
    assert twin(world, "reports/segmentation", event="visit")["figures"]["people"] is None


def test_more_days_than_buckets_are_counted_together_all_the_same(world: World) -> None:
    days: dict[str, Any] = {"from": "0100-01-01", "to": "9999-12-31"}
    found = twin(world, "reports/funnel", event1="visit", event2="sign up", **days)["figures"]
    assert [step["count"] for step in found["steps"]] == [40, 30]
    assert len(lines(world, "reports/funnel", event1="visit", event2="sign up", **days)) == 3
    asked: dict[str, Any] = {"event": "login", "measure": "unique", "unit": "month"}
    assert twin(world, "reports/segmentation", **asked, **days)["figures"]["people"] == 5


# --- what is not over, or not whole


def test_stretches_that_are_cut_or_not_over_are_marked(world: World) -> None:
    """It is Thursday noon, and the days begin on a Wednesday."""
    for rest, own in (
        ("reports/segmentation", {"event": "visit", "unit": "week"}),
        ("reports/frequency", {"event": "visit", "on": "plan"}),
    ):
        for until, parts in (
            ("2026-01-15", ["2026-01-12", "2025-12-22"]),
            ("2026-01-11", ["2025-12-22"]),
            ("2026-01-10", ["2026-01-05", "2025-12-22"]),
        ):
            asked: dict[str, Any] = {**own, "from": "2025-12-24", "to": until}
            found = twin(world, rest, **asked)["figures"]
            rows = found["rows"] if "rows" in found else found["table"]["rows"]
            assert [row["key"] for row in rows if not row["is_whole"]] == parts
            text = get(world, f"{rest}/figures", **asked).text
            assert text.count("Not over yet, or cut by these days.") == 1
            lone = {**asked, "from": "2025-12-22", "to": "2026-01-11"}
            assert "Not over yet" not in get(world, f"{rest}/figures", **lone).text
    groups = twin(world, "reports/frequency", event="login", on="tags")["figures"]["groups"]
    assert {(group["key"], group["is_whole"]) for group in groups} == {
        ("2025-12-22", True),
        ("2026-01-05", True),
        ("2026-01-12", False),
    }


def test_a_day_is_whole_when_it_is_over_in_the_zone_of_the_project(world: World) -> None:
    for zone, now in (("UTC", "2026-01-15 12:00:00"), ("Asia/Tokyo", "2026-01-15 21:00:00")):
        world.store.catalog.change_project(world.project.id, timezone=zone)
        try:
            rows = twin(world, "reports/segmentation", event="visit", days=1)["figures"]["table"]["rows"]
        finally:
            world.store.catalog.change_project(world.project.id, timezone="UTC")
        assert max(row["key"] for row in rows if row["is_whole"]) < now
        assert min(row["key"] for row in rows if not row["is_whole"]) == now


def test_a_funnel_says_who_may_still_go_on(world: World) -> None:
    asked: dict[str, Any] = {
        "event1": "visit",
        "event2": "pay",
        "unit": "week",
        "length": 4,
        "from": "2025-12-22",
    }
    still = "Who began less than 4 days ago may still go on."
    for until, goes_on, parts in (
        ("2026-01-15", True, ["2026-01-12", "2026-01-05"]),
        ("2026-01-11", True, ["2026-01-05"]),
        ("2026-01-10", False, ["2026-01-05"]),
        ("2026-01-04", False, []),
    ):
        found = twin(world, "reports/funnel", **asked, to=until)
        assert found["figures"]["unfinished"] == ("4 days" if goes_on else "")
        assert [row["key"] for row in found["trend"]["rows"] if not row["is_whole"]] == parts
        assert (still in get(world, "reports/funnel/figures", **asked, to=until).text) == goes_on
        trend = get(world, "reports/funnel/trend", **asked, to=until).text
        assert ("over for less than 4 days" in trend) == bool(parts)
    hours = twin(world, "reports/funnel", **{**asked, "length": 3, "length_unit": "hour"}, to="2026-01-14")
    assert hours["figures"]["unfinished"] == ""


def test_the_first_column_of_frequency_is_who_came_at_least_once(world: World) -> None:
    assert twin(world, "reports/frequency")["figures"]["columns"][:2] == ["1+ days", "2+ days"]


@pytest.mark.parametrize(
    ("unit", "interval", "drawn", "at_three"),
    [("hour", 1, 23, 2), ("minute", 40, 35, 3), ("hour", 2, 12, 1), ("day", 1, 1, 0)],
)
def test_an_hour_that_clocks_leave_out_is_not_drawn(
    world: World, unit: str, interval: int, drawn: int, at_three: int
) -> None:
    """What lies in it in part begins when they go on."""
    world.store.catalog.change_project(world.project.id, timezone="Europe/Berlin")
    day: dict[str, Any] = {"from": "2026-03-29", "to": "2026-03-29"}
    try:
        asked: dict[str, Any] = {"event": "early", "unit": unit, "interval": interval, **day}
        found = twin(world, "reports/segmentation", **asked)["figures"]
    finally:
        world.store.catalog.change_project(world.project.id, timezone="UTC")
    x, values = found["chart"]["x"], found["chart"]["series"][0]["values"]
    assert len(x) == len(values) == drawn
    assert x == sorted(set(x))
    assert values.index(1) == at_three
    assert sum(row["figures"][0] for row in found["table"]["rows"]) == sum(values) == 1
