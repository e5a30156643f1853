"""Reports that others saved, by the API or at a terminal, in the explorer: they open as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest

from mixdown.explorer import session
from mixdown.explorer.pages.reports import asking
from mixdown.store.reports import SavedReport
from tests.engine import open_store
from tests.explorer.test_reports import (
    ANALYST,
    PLANS,
    REPORTS,
    at,
    get,
    lines,
    made_up,
    post,
    twin,
)
from tests.explorer.test_session import sign_in
from tests.reads.support import READER, TOKEN, World

BOARDS = "/api/mixdown/dashboards"
KINDS = {
    "segmentation": "reports/segmentation",
    "funnels": "reports/funnel",
    "retention": "reports/retention",
    "addiction": "reports/frequency",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One server for all tests: each saves under names of its own."""
    folder: Path = tmp_path_factory.mktemp("others") / "data"
    store = open_store(folder, role="worker", create=True)
    made = World(store, open_store(folder, role="fold", create=False))
    made.send({"$token": TOKEN, "$group_key": "plan", "$group_id": "pro", "$set": {}}, endpoint="groups")
    made.fold_all()
    made.store_events(made_up())
    made.add_account(ANALYST, "analyst")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _signed_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FAILURE_PAUSE_S", 0.0)
    world.http.cookies.clear()
    assert sign_in(world, ANALYST).status_code == 303


def saved(world: World, kind: str, name: str, definition: dict[str, Any]) -> int:
    reply = world.post(REPORTS, user=ANALYST, json={"kind": kind, "name": name, "definition": definition})
    assert reply.status_code == 200, reply.text
    return int(reply.json()["results"]["id"])


def opened(world: World, number: int) -> Any:
    """The data of the page that a saved report leads to."""
    address = urlsplit(get(world, "reports/open", status=303, id=number).headers["location"])
    return twin(world, address.path.removeprefix(at(world, "")), **dict(parse_qsl(address.query)))


DEFINITIONS: list[tuple[str, dict[str, Any]]] = [
    ("segmentation", {"event": "visit"}),
    ("segmentation", {"event": "visit", "on": "plan"}),
    ("segmentation", {"event": "visit", "on": "plan", "limit": "3"}),
    ("segmentation", {"event": "visit", "on": 'properties["plan"]', "limit": 200, "chart": "line"}),
    ("segmentation", {"event": "visit", "on": "amount", "method": "numeric", "type": "average"}),
    ("segmentation", {"event": "visit", "on": "amount", "method": "sum", "type": "unique"}),
    ("segmentation", {"event": "visit", "unit": "week", "interval": 400, "days": 3660}),
    ("segmentation", {"event": "visit", "type": "unique", "data_group_id": "plan"}),
    ("funnels", {"steps": ["visit", "pay"]}),
    ("funnels", {"steps": ["visit", "pay"], "interval": 2, "on": "plan", "length": "3"}),
    ("funnels", {"steps": ["visit", {"event": "pay", "label": "Paid"}], "unit": "week", "order": "any"}),
    ("retention", {"born_event": "visit"}),
    ("retention", {"born_event": "visit", "unbounded_retention": "true", "interval_count": "4"}),
    ("retention", {"retention_type": "compounded", "event": "visit", "unbounded_retention": 1}),
    ("retention", {"born_event": "visit", "unit": "month", "interval": 5000, "on": "plan"}),
    ("addiction", {}),
    ("addiction", {"unit": "week", "addiction_unit": "day", "on": "plan"}),
]


@pytest.mark.parametrize("place", range(len(DEFINITIONS)))
def test_a_report_opens_unchanged_and_saving_it_changes_no_figure(world: World, place: int) -> None:
    kind, definition = DEFINITIONS[place]
    number = saved(world, kind, f"others {place}", definition)
    asked = {"id": number, "from_date": "2025-12-20", "to_date": "2026-01-15"}

    def figures() -> Any:
        answer = world.get(f"{REPORTS}/run", user=READER, params=asked).json()
        answer.pop("computed_at", None)
        return answer

    before = figures()
    page = opened(world, number)
    assert not page["is_changed"]
    assert page["title"] == f"others {place}"
    assert opened(world, number)["definition"] == page["definition"]
    reply = post(world, "reports/change", id=number, definition=orjson.dumps(page["definition"]).decode())
    assert reply.status_code == 303, reply.text
    assert not opened(world, number)["is_changed"]
    assert figures() == before
    assert f"others {place}" in get(world, "reports").text


def test_what_was_saved_before_definitions_had_types_opens_all_the_same(world: World) -> None:
    old = {"event": "visit", "on": "plan", "limit": "3", "chart": "pie", "interval": " 2 "}
    project = world.project.id
    wanted = SavedReport(project, "segmentation", "of old", orjson.dumps(old), created_ms=1, changed_ms=1)
    number = world.store.reports.create(wanted).id
    assert "of old" in get(world, "reports").text
    page = opened(world, number)
    assert (page["definition"]["limit"], page["definition"]["interval"]) == (3, 2)
    assert len(page["figures"]["chart"]["series"]) == 3


def test_a_group_key_that_was_named_by_its_number_is_the_one_that_is_chosen(world: World) -> None:
    number = str(world.store.state.group_keys(world.project.id)["plan"])
    definition = {"event": "visit", "type": "unique", "data_group_id": number}
    page = opened(world, saved(world, "segmentation", "by number", definition))
    assert page["question"]["data_group_id"] == "plan"
    assert page["people"] == "groups of plan"
    assert not page["is_changed"]


def test_more_values_than_a_page_draws_stand_in_the_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TOPS", (1, 2))
    asked: dict[str, dict[str, Any]] = {
        "segmentation": {"event": "visit"},
        "funnels": {"event1": "visit", "event2": "pay"},
        "retention": {"born_event": "visit", "event": "pay"},
        "addiction": {"event": "visit"},
    }
    for kind, own in asked.items():
        rest = KINDS[kind]
        for limit, told in ((60, "the CSV has 60"), (2, "what is rarer is left out")):
            params = {**own, "on": "plan", "limit": limit, "days": 90}
            text = get(world, f"{rest}/figures", **params).text
            assert f"the 2 most frequent values; {told}" in text, kind
            named = {cell for line in lines(world, rest, **params) for cell in line}
            there = [plan for plan in PLANS if {plan, f"'{plan}"} & named]
            assert len(there) == (4 if limit == 60 else 2), kind


@pytest.mark.parametrize(
    ("rest", "asked"),
    [
        ("reports/funnel", {"event1": "visit", "event2": "pay", "unit": "week", "interval": 2}),
        ("reports/retention", {"born_event": "visit"}),
        ("reports/frequency", {}),
        ("reports/segmentation", {"event": "visit", "interval": 2}),
    ],
)
def test_what_a_form_does_not_show_goes_along_with_it(world: World, rest: str, asked: dict[str, Any]) -> None:
    text = get(world, rest, **asked, on="plan", limit=37).text
    form = text.partition('id="question"')[2].partition("</form>")[0]
    sent = set(re.findall(r'name="([^"]+)"', form))
    assert asked.keys() | {"on", "limit"} <= sent
    assert '<option value="37" selected>37</option>' in form


def test_a_funnel_over_time_is_handed_out_too(world: World) -> None:
    asked: dict[str, Any] = {"event1": "visit", "event2": "pay", "unit": "week", "on": "plan"}
    trend = get(world, "reports/funnel/trend", **asked).text
    assert "trend.csv?" in trend
    reply = get(world, "reports/funnel/trend.csv", **asked)
    assert "attachment" in reply.headers["content-disposition"]
    header, *rows = [line.split(",") for line in reply.text.splitlines()]
    assert header[:5] == ["date", "value", "step", "event", "count"]
    shown = twin(world, "reports/funnel", **asked)["trend"]["rows"]
    told = {(row[0], row[2]): int(row[4]) for row in rows}
    assert told == {
        (row["key"], step): row[name] for row in shown for step, name in (("1", "began"), ("2", "done"))
    }
    assert "name the stretch" in get(world, "reports/funnel/trend.csv", status=400, event1="visit").text


@pytest.mark.parametrize("rest", KINDS.values())
def test_days_of_which_there_are_no_events_say_so(world: World, rest: str) -> None:
    own: dict[str, Any] = {"event": "visit", "event1": "visit", "event2": "pay", "born_event": "visit"}
    days: dict[str, Any] = {"from": "1960-01-01", "to": "1960-01-02"}
    assert "No events in these days" in get(world, rest, **own, **days, whole=1).text
    assert len(lines(world, rest, **own, **days)) == 1


def test_arranging_a_dashboard_keeps_the_room_that_the_api_gave(world: World) -> None:
    number = saved(world, "segmentation", "roomy", {"event": "visit"})
    rooms = [{"id": number, "width": 3, "height": 2}, {"id": number, "width": 8}]
    given = {"title": "Roomy", "reports": rooms, "days": 3655}
    board = world.post(BOARDS, user=ANALYST, json=given).json()["results"]
    page = get(world, "reports/dashboard", id=board["id"])
    form = page.text.partition("dashboard/save")[2].partition("</form>")[0]
    assert '<option value="3" selected>3 of 12 columns</option>' in form
    fields = {
        name: re.findall(pattern, form)
        for name, pattern in (
            ("report", r'name="report" value="(\d+)"'),
            ("height", r'name="height" value="(\d+)"'),
            ("order", r'name="order"[^>]* value="(\d+)"'),
            ("width", r'<option value="(\d+)" selected>'),
        )
    }
    sent = {"id": board["id"], "title": "Roomy", "days": "3655", **fields}
    assert post(world, "reports/dashboard/save", **sent).status_code == 303
    again = world.get(BOARDS, user=READER, params={"id": board["id"]}).json()["results"]
    assert again["reports"] == board["reports"]
    place = twin(world, "reports/dashboard", id=board["id"])["places"][0]
    assert "days=3655" in place["figures_url"]
    assert world.get(place["figures_url"], user=None).status_code == 200
