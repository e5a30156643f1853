"""The pages of reports over HTTP: what they ask, show and hand out; what is saved, shared and noted."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from markupsafe import escape

from mixdown.explorer import session
from mixdown.explorer.pages.reports import asking, kinds
from mixdown.explorer.pages.reports.funnel import duration
from mixdown.model.errors import ReadTimeoutError
from mixdown.model.expression import parse
from mixdown.query.reports import segmentation as counting
from tests.engine import open_store
from tests.explorer.support import HTMX, NASTY
from tests.explorer.test_session import csrf_of, sign_in
from tests.reads.support import DAY_MS, NOON_MS, READER, World

ANALYST = "analyst.mp-service-account"
FORMULA = '=HYPERLINK("http://evil.example")'
PLANS = ("free", "pro", FORMULA, NASTY)
REPORTS = "/api/mixdown/reports"


def event(number: int, name: str, person: int, days: float, **properties: Any) -> dict[str, Any]:
    return {
        "position": number,
        "arrived": NOON_MS,
        "event": name,
        "time": int(NOON_MS - days * DAY_MS),
        "distinct_id": f"u{person}",
        "insert_id": f"i{number}",
        "properties": properties,
    }


def made_up() -> list[dict[str, Any]]:
    """Forty people look, thirty of them sign up two hours later, ten of those pay the day after."""
    found: list[dict[str, Any]] = []
    for n in range(40):
        days, plan = 20 - n % 4 * 5, PLANS[n % 4]
        found.append(event(len(found), "visit", n, days, plan=plan, amount=n, page="/pricing"))
        if n < 30:
            found.append(event(len(found), "sign up", n, days - 2 / 24, plan=plan))
        if n < 10:
            found.append(event(len(found), "pay", n, days - 1, plan=plan, amount=10.5))
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One server for all tests: each saves under names of its own."""
    folder: Path = tmp_path_factory.mktemp("reports") / "data"
    store = open_store(folder, role="worker", create=True)
    made = World(store, open_store(folder, role="fold", create=False))
    made.store_events(made_up())
    made.add_account(ANALYST, "analyst")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _signed_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FAILURE_PAUSE_S", 0.0)
    as_user(world, ANALYST)


def as_user(world: World, username: str) -> None:
    world.http.cookies.clear()
    assert sign_in(world, username).status_code == 303


def at(world: World, rest: str, **params: Any) -> str:
    query = urlencode({name: value for name, value in params.items() if value is not None})
    return f"/explorer/{world.project.id}/{rest}{'?' if query else ''}{query}"


def get(world: World, rest: str, status: int = 200, **params: Any) -> httpx.Response:
    reply = world.get(at(world, rest, **params), user=None, headers={"Accept": "text/html", **HTMX})
    assert reply.status_code == status, reply.text
    return reply


def twin(world: World, rest: str, **params: Any) -> Any:
    reply = world.get(at(world, f"{rest}.json", **params), user=READER)
    assert reply.status_code == 200, reply.text
    return reply.json()


def lines(world: World, rest: str, **params: Any) -> list[list[str]]:
    reply = get(world, f"{rest}/figures.csv", **params)
    assert reply.headers["content-type"].startswith("text/csv")
    assert "attachment" in reply.headers["content-disposition"]
    return list(csv.reader(io.StringIO(reply.text)))


def post(world: World, rest: str, **fields: Any) -> httpx.Response:
    csrf = csrf_of(world.get(at(world, "reports"), user=None))
    return world.post(at(world, rest), user=None, data={"csrf": csrf, **fields})


def shown(world: World, address: str) -> Any:
    """The figures of a page, by its address."""
    path, _, query = address.partition("?")
    return twin(world, path.removeprefix(at(world, "")), **dict(parse_qsl(query)))["figures"]


# --- what they show


def test_a_page_asks_for_no_figures_itself_and_names_the_parts_that_do(world: World) -> None:
    asked: dict[str, Any] = {"event": "visit", "on": "plan", "days": 90}
    text = get(world, "reports/segmentation", **asked).text
    (part,) = re.findall(r'hx-get="([^"]*segmentation/figures[^"]*)"', text)
    assert dict(parse_qsl(urlsplit(html.unescape(part)).query)) == {
        "days": "90",
        "on": "plan",
        "event": "visit",
    }
    assert "<table" not in text


def test_an_event_over_time_is_drawn_and_stands_in_a_table(world: World) -> None:
    found = twin(world, "reports/segmentation", event="visit")["figures"]
    assert found["headline"]["number"] == 40
    assert len(found["table"]["rows"]) == 30
    assert sum(row["figures"][0] for row in found["table"]["rows"]) == 40
    (series,) = found["chart"]["series"]
    assert [row["figures"][0] for row in found["table"]["rows"]] == series["values"][::-1]
    text = get(world, "reports/segmentation/figures", event="visit").text
    assert 'data-chart="area"' in text
    assert '<td class="num">40</td>' in text


def test_values_are_told_apart_as_text_and_the_rarer_ones_left_out_in_words(world: World) -> None:
    text = get(world, "reports/segmentation/figures", event="visit", on="plan", limit=4).text
    assert str(escape(NASTY)) in text
    assert NASTY not in text
    assert "the 4 most frequent values" in text
    found = twin(world, "reports/segmentation", event="visit", on="plan")["figures"]
    assert {column["name"]: column["total"] for column in found["table"]["columns"]} == dict.fromkeys(
        PLANS, 10
    )


@pytest.mark.parametrize(
    ("measure", "on", "drawn", "total"),
    [
        ("unique", "", "line", 10),
        ("average", "", "line", 1),
        ("sum", "amount", "line", 780),
        ("mean", "amount", "line", 21),
        ("ranges", "amount", "bars", 40),
        ("ranges-unique", "amount", "line", None),
        ("ranges-average", "amount", "line", None),
    ],
)
def test_what_is_counted_can_be_chosen(
    world: World, measure: str, on: str, drawn: str, total: int | None
) -> None:
    found = twin(world, "reports/segmentation", event="visit", measure=measure, on=on or None)["figures"]
    assert found["drawn"] == drawn
    assert found["headline"]["number"] == total
    assert (len(found["table"]["columns"]) == 1) == (not measure.startswith("ranges"))


def test_people_are_not_added_up_over_days(world: World) -> None:
    table = twin(world, "reports/segmentation", event="visit", measure="unique")["figures"]["table"]
    assert not table["summed"]
    assert table["columns"][0]["total"] == pytest.approx(40 / 30)


def test_a_funnel_tells_who_drops_off_and_how_long_it_takes(world: World) -> None:
    asked: dict[str, Any] = {"event1": "visit", "event2": "sign up", "event3": "pay", "unit": "week"}
    found = twin(world, "reports/funnel", **asked)
    steps = found["figures"]["steps"]
    assert [(step["count"], step["lost"]) for step in steps] == [(40, 0), (30, 10), (10, 20)]
    assert [step["took"] for step in steps] == ["", "2 h", "22 h"]
    assert found["figures"]["took"] == "1 d"
    assert sum(row["began"] for row in found["trend"]["rows"]) == 40
    text = get(world, "reports/funnel/figures", **asked).text
    assert "66.7&nbsp;% dropped off (20)" in text
    assert text.count('class="kept"') == 3


def test_a_funnel_is_filtered_step_by_step_and_told_by_value(world: World) -> None:
    pricing = 'properties["page"] == "/pricing"'
    found = twin(
        world, "reports/funnel", event1="visit", where1=pricing, event2="pay", where2="true", on="plan"
    )
    groups = {
        group["name"]: [step["count"] for step in group["steps"]] for group in found["figures"]["groups"]
    }
    assert groups == {"free": [10, 3], "pro": [10, 3], FORMULA: [10, 2], NASTY: [10, 2]}
    none = twin(world, "reports/funnel", event1="visit", where1='properties["page"] == "/"', event2="pay")
    assert none["figures"]["empty"]["title"] == "Nothing matches in these days"


@pytest.mark.parametrize("first", ["1900-01-01", "0100-01-01"])
def test_a_funnel_of_all_time_is_one(world: World, first: str) -> None:
    days = {"from": first, "to": "9999-12-31"}
    found = twin(world, "reports/funnel", event1="visit", event2="sign up", **days)
    assert [step["count"] for step in found["figures"]["steps"]] == [40, 30]


def test_steps_that_are_left_blank_say_nothing(world: World) -> None:
    found = twin(world, "reports/funnel", event1="visit", event3="pay")
    assert [step["event"] for step in found["steps"]] == ["visit", "pay"]
    assert "event2=pay" in found["link"]
    many: dict[str, Any] = {f"event{number}": "visit" for number in range(1, 22)}
    assert "at most 20 steps" in get(world, "reports/funnel", status=400, **many).text


def test_retention_is_a_grid_that_tells_what_is_not_over_yet(world: World) -> None:
    asked: dict[str, Any] = {"born_event": "visit", "event": "pay", "unit": "day", "interval_count": 2}
    found = twin(world, "reports/retention", **asked)["figures"]
    assert found["columns"] == ["Day 0", "Day 1", "Day 2"]
    rows = {row["key"]: row for row in found["rows"] if row["first"]}
    assert [row["first"] for row in rows.values()] == [10, 10, 10, 10]
    assert sum(cell["count"] for row in rows.values() for cell in row["cells"]) == 10
    assert found["rows"][-1]["cells"][1]["percent"] is None
    assert found["is_unfinished"]
    assert found["mean"][1]["percent"] == 25.0
    text = get(world, "reports/retention/figures", **asked).text
    assert "heat-3" in text
    assert "not over yet" in text


def test_how_often_people_come_is_told_by_stretch_and_by_value(world: World) -> None:
    found = twin(world, "reports/frequency", on="plan")["figures"]
    assert len(found["columns"]) == 7
    assert sum(row["first"] for row in found["rows"]) == 40 + 0
    assert {group["name"] for group in found["groups"]} == set(PLANS)
    hours = twin(world, "reports/frequency", unit="month", addiction_unit="hour")["figures"]
    assert len(hours["columns"]) == 31
    assert hours["more_columns"] == 31 * 24 - 31


@pytest.mark.parametrize(
    ("rest", "asked"),
    [
        ("reports/segmentation", {"event": "visit", "on": "plan"}),
        ("reports/funnel", {"event1": "visit", "event2": "pay", "on": "plan"}),
        ("reports/retention", {"born_event": "visit", "on": "plan"}),
        ("reports/frequency", {"on": "plan"}),
    ],
)
def test_no_cell_of_a_file_is_a_formula(world: World, rest: str, asked: dict[str, Any]) -> None:
    cells = [cell for line in lines(world, rest, **asked) for cell in line]
    assert "'" + FORMULA in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]


def test_the_file_has_every_figure_of_the_chart(world: World) -> None:
    header, *rows = lines(world, "reports/segmentation", event="visit", on="plan", measure="unique")
    chart = twin(world, "reports/segmentation", event="visit", on="plan", measure="unique")["figures"][
        "chart"
    ]
    assert len(rows) == len(chart["x"])
    columns = [[int(row[at]) for row in rows] for at in range(1, len(header))]
    assert columns == [series["values"] for series in chart["series"]]


# --- where there is nothing, or too much


def test_what_is_missing_is_asked_for_with_what_there_is(world: World) -> None:
    assert "Choose an event" in get(world, "reports/segmentation").text
    assert "Of which number?" in get(world, "reports/segmentation", event="visit", measure="sum").text
    text = html.unescape(get(world, "reports/choices", of="funnels", event1="visit", days=90).text)
    assert at(world, "reports/funnel", event1="visit", days=90, event2="pay") in text
    assert "Name the events" in get(world, "reports/segmentation/figures.csv", status=400).text


def test_a_name_that_is_wrong_meets_names_like_it(world: World) -> None:
    text = get(world, "reports/segmentation/figures", event="vist").text
    assert "There is no such event" in text
    assert ">visit<" in text
    as_user(world, "owner.mp-service-account")
    other = f"/explorer/{world.other.id}/reports/segmentation/figures?event=a"
    assert "No events in these days" in world.get(other, user=None, headers=HTMX).text


def test_a_question_that_was_cut_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: Any, **__: Any) -> Any:
        raise ReadTimeoutError.after(0)

    monkeypatch.setattr(counting, "report_rows", ended)
    text = get(world, "reports/segmentation/figures", event="visit").text
    assert "Cut at a limit of the server" in text
    assert "ask for fewer days" in text
    whole = world.get(at(world, "reports/segmentation.json", event="visit"), user=READER)
    assert (whole.status_code, "ask for fewer days" in whole.text) == (400, True)


def test_what_the_api_refuses_is_shown_in_its_words(world: World) -> None:
    text = get(world, "reports/segmentation/figures", event="visit", where='properties["a"] == (').text
    assert "This cannot be answered" in text
    assert "at position" in text
    assert "unit: is one of" in get(world, "reports/segmentation", status=400, event="a", unit="year").text
    assert "at most 1,000" in get(world, "reports/segmentation", status=400, event="a" * 1001).text


# --- filters and names


def test_conditions_become_a_filter_and_back(world: World) -> None:
    rows: dict[str, Any] = {
        "field": "where",
        "by": "rows",
        "property": "plan",
        "operator": "is",
        "value": 'a "b"',
    }
    text = html.unescape(get(world, "reports/filter", **rows).text)
    where = r'properties["plan"] == "a \"b\""'
    assert f'name="where" value="{where}"' in text
    back = html.unescape(get(world, "reports/filter", field="where", by="text", where=where).text)
    assert 'id="where-property-1"' in back
    assert 'value="plan"' in back
    profile = get(world, "reports/filter", field="where", by="text", where='user["plan"] == "a"').text
    assert "more than conditions can" in profile
    broken = get(world, "reports/filter", field="where2", by="text", where2="(").text
    assert 'aria-invalid="true"' in broken
    assert "is that of a filter" in get(world, "reports/filter", status=400, field="other").text


def test_names_are_suggested_as_text(world: World) -> None:
    assert '<option value="visit">' in get(world, "reports/names").text
    text = html.unescape(get(world, "reports/properties", event="visit").text)
    assert '<option value="amount" data-operator="eq">' in text
    assert '<option value="plan" data-operator="is">' in text


@pytest.mark.parametrize("name", ["plan", "page name", 'a"b', "a\\b", "true", "ж", "[x]", "$os"])
def test_a_property_is_named_as_an_expression_that_reads(name: str) -> None:
    on = asking.as_expression(asking.property_expression(name))
    slot = parse(on if "properties" in on else f'properties["{on}"]').slots[0]
    assert (slot.accessor, slot.name) == ("properties", name)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, ""), (0, "under 1 s"), (59, "59 s"), (61, "1 min 1 s"), (7200, "2 h"), (90_061, "1 d 1 h")],
)
def test_a_length_of_time_in_two_units(seconds: int | None, told: str) -> None:
    assert duration(seconds) == told


# --- saved and shared


QUESTIONS = {
    "segmentation": {
        "reports/segmentation": {
            "event": "visit", "measure": "ranges-unique", "on": "amount",
            "where": 'properties["plan"] == "pro"', "unit": "week", "interval": "2", "chart": "bars",
            "days": "90",
        }
    },
    "funnels": {
        "reports/funnel": {
            "event1": "visit", "where1": 'properties["page"] == "/pricing"', "event2": "pay", "length": "3",
            "length_unit": "hour", "order": "any", "on": "plan", "limit": "5", "unit": "week",
        }
    },
    "retention": {
        "reports/retention": {
            "born_event": "visit", "born_where": "true", "event": "pay", "unit": "day", "interval_count": "3",
            "unbounded_retention": "1", "retention_type": "birth",
        }
    },
    "addiction": {"reports/frequency": {"event": "visit", "unit": "month", "addiction_unit": "hour"}},
}  # fmt: skip


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_saved_report_opens_as_it_was_and_its_link_shows_the_same(world: World, kind: str) -> None:
    ((rest, asked),) = QUESTIONS[kind].items()
    page = twin(world, rest, **asked)
    body = {"kind": kind, "name": f"my {kind}", "definition": json.dumps(page["definition"])}
    reply = post(world, "reports/save", **body, back=page["parts_of"]["unsaved"])
    assert reply.status_code == 303, reply.text
    address = reply.headers["location"]
    report = dict(parse_qsl(urlsplit(address).query))["report"]
    (line,) = [one for one in twin(world, "reports")["reports"] if str(one["id"]) == report]
    opened = get(world, "reports/open", status=303, id=report).headers["location"]
    assert opened == line["url"]
    path = line["url"].partition("?")[0].removeprefix(at(world, ""))
    again = twin(world, path, **dict(parse_qsl(urlsplit(line["url"]).query)))
    assert again["definition"] == page["definition"]
    assert not again["is_changed"]
    assert again["title"] == f"my {kind}"
    for name in ("csv", "back", "number"):
        page["figures"].pop(name, None), again["figures"].pop(name, None)
    assert again["figures"] == page["figures"]
    assert shown(world, address) is not None
    run = world.get(f"{REPORTS}/run?id={report}", user=READER)
    assert run.status_code == 200, run.text


def test_a_report_that_others_saved_opens_with_what_the_api_takes_as_usual(world: World) -> None:
    made = {
        "kind": "funnels",
        "name": "plain",
        "definition": {"steps": ["visit", {"event": "pay", "label": "Paid"}]},
    }
    number = world.post(REPORTS, user=ANALYST, json=made).json()["results"]["id"]
    opened = get(world, "reports/open", status=303, id=number).headers["location"]
    found = shown(world, opened)
    assert [(step["label"], step["count"]) for step in found["steps"]] == [("visit", 40), ("Paid", 10)]
    made = {
        "kind": "segmentation",
        "name": "sums",
        "definition": {"event": "visit", "method": "sum", "on": "amount"},
    }
    number = world.post(REPORTS, user=ANALYST, json=made).json()["results"]["id"]
    assert sum(world.get(f"{REPORTS}/run?id={number}", user=READER).json()["results"].values()) == 780
    figures = world.get(f"/api/query/insights?bookmark_id={number}", user=READER).json()["series"]["visit"]
    assert sum(figures.values()) == 780
    wrong = {**made, "name": "no number", "definition": {"event": "visit", "method": "sum"}}
    assert "on, missing" in world.post(REPORTS, user=ANALYST, json=wrong).json()["error"]
    wrong["definition"] = {"event": "visit", "method": "median"}
    assert "method, must be one of" in world.post(REPORTS, user=ANALYST, json=wrong).json()["error"]


def test_a_report_is_changed_renamed_and_deleted(world: World) -> None:
    page = twin(world, "reports/segmentation", event="visit")
    definition, back = json.dumps(page["definition"]), page["parts_of"]["unsaved"]
    post(world, "reports/save", kind="segmentation", name="first", definition=definition, back=back)
    (line,) = [one for one in twin(world, "reports", q="first")["reports"] if one["name"] == "first"]
    number = line["id"]
    changed = twin(world, "reports/segmentation", event="visit", measure="unique", report=number)
    assert changed["is_changed"]
    text = get(world, "reports/segmentation", event="visit", measure="unique", report=number).text
    assert "Save changes" in text
    post(world, "reports/change", id=number, definition=json.dumps(changed["definition"]), back=back)
    assert not twin(world, "reports/segmentation", event="visit", measure="unique", report=number)[
        "is_changed"
    ]
    post(world, "reports/rename", id=number, name=NASTY, description="what for", back=back)
    listed = get(world, "reports/rows", q="what for").text
    assert str(escape(NASTY)) in listed
    assert NASTY not in listed
    gone = post(world, "reports/delete", id=number, name=NASTY)
    assert gone.headers["location"] == at(world, "reports")
    assert twin(world, "reports/segmentation", event="visit", report=number)["is_lost"]
    get(world, "reports/open", status=404, id=number)


def test_a_name_that_is_taken_is_refused_in_words(world: World) -> None:
    page = twin(world, "reports/frequency")
    fields = {"kind": "addiction", "name": "twice", "definition": json.dumps(page["definition"]), "back": "/"}
    made = post(world, "reports/save", **fields)
    assert made.headers["location"].startswith(at(world, "reports") + "?report=")
    again = post(world, "reports/save", **fields)
    assert (again.status_code, "has this name" in again.text or "is taken" in again.text) == (400, True)
    assert post(world, "reports/save", **{**fields, "definition": "{"}).status_code == 400


def test_who_reads_is_offered_nothing_to_change_and_is_refused(world: World) -> None:
    as_user(world, READER)
    pages: list[tuple[str, dict[str, Any]]] = [
        ("reports/segmentation", {"event": "visit", "whole": "1"}),
        ("reports", {}),
    ]
    for rest, asked in pages:
        text = get(world, rest, **asked).text.partition("<main")[2]
        assert 'method="post"' not in text
        assert "Save report" not in text
    for rest in ("save", "change", "rename", "delete", "notes/add", "notes/change", "notes/delete"):
        assert post(world, f"reports/{rest}").status_code == 403, rest


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/",
        "//evil.example",
        "/explorer/accounts",
        "/explorer/1/reports\\x",
        "/explorer/1/reports/../x",
    ],
)
def test_a_form_leads_back_to_reports_alone(world: World, back: str) -> None:
    reply = post(world, "reports/notes/add", date="2026-01-01T10:00", description="x", back=back)
    assert reply.headers["location"] == at(world, "reports")


# --- notes


def test_notes_stand_in_charts_at_their_moment(world: World) -> None:
    world.store.catalog.change_project(world.project.id, timezone="Europe/Berlin")
    try:
        back = at(world, "reports/segmentation", event="visit")
        made = post(world, "reports/notes/add", date="2026-01-10T12:00", description=NASTY, back=back)
        assert made.headers["location"] == back
        found = twin(world, "reports/segmentation", event="visit")["figures"]
        (note,) = [one for one in found["notes"] if one["text"] == NASTY]
        assert note["x"] == 1_768_042_800
        assert note["who"] == ANALYST
        assert {"x": note["x"], "number": note["number"], "text": NASTY} in found["chart"]["notes"]
        text = get(world, "reports/segmentation/figures", event="visit").text
        assert str(escape(NASTY)) in text
        assert NASTY not in text
        assert 'data-note-date="Europe/Berlin"' in text
        post(world, "reports/notes/change", id=note["id"], description="mended", back=back)
        assert "mended" in get(world, "reports/funnel/trend", event1="visit", event2="pay", unit="week").text
        post(world, "reports/notes/delete", id=note["id"], back=back)
        assert "mended" not in get(world, "reports/segmentation/figures", event="visit").text
    finally:
        world.store.catalog.change_project(world.project.id, timezone="UTC")


def test_a_note_without_words_is_refused(world: World) -> None:
    reply = post(world, "reports/notes/add", date="yesterday", description="x", back="")
    assert (reply.status_code, "must be a moment" in reply.text) == (400, True)
    assert post(world, "reports/notes/delete", id="x", back="").status_code == 404


def test_every_kind_of_report_has_a_page_and_words_about_it() -> None:
    assert asking.KINDS.keys() == kinds.TABLE.keys()


# --- dashboards


def test_a_dashboard_is_made_arranged_and_deleted(world: World) -> None:
    numbers = []
    for name, definition in ((NASTY, {"event": "visit"}), ("by plan", {"event": "visit", "on": "plan"})):
        body = {"kind": "segmentation", "name": f"board {name}", "definition": definition}
        numbers.append(world.post(REPORTS, user=ANALYST, json=body).json()["results"]["id"])
    board = post(world, "reports/dashboard/new", title="Growth").headers["location"]
    number = dict(parse_qsl(urlsplit(board).query))["id"]
    assert "Nothing stands here yet" in get(world, "reports/dashboard", id=number).text
    fields = {"id": number, "title": "Growth", "description": "what we look at", "days": "90"}
    for added in numbers:
        places = twin(world, "reports/dashboard", id=number)["places"]
        sent = {
            **fields,
            "report": [place["id"] for place in places],
            "order": [1 for _ in places],
            "width": [4 for _ in places],
            "height": [1 for _ in places],
            "added": added,
        }
        assert post(world, "reports/dashboard/save", **sent).headers["location"] == board
    found = twin(world, "reports/dashboard", id=number)
    assert [(place["id"], place["span"]) for place in found["places"]] == [(numbers[0], 4), (numbers[1], 6)]
    assert "days=90" in found["places"][0]["figures_url"]
    page = get(world, "reports/dashboard", id=number, days=7).text
    assert str(escape(NASTY)) in page
    assert NASTY not in page
    part = world.get(found["places"][0]["figures_url"], user=None, headers=HTMX).text
    assert 'data-chart="area"' in part
    assert "figures-table" not in part
    room = {"width": [12, 6], "height": [1, 1]}
    arranged = {**fields, "report": numbers, "order": [2, 1], **room, "gone": [1]}
    post(world, "reports/dashboard/save", **arranged)
    assert [place["id"] for place in twin(world, "reports/dashboard", id=number)["places"]] == [numbers[1]]
    post(world, "reports/dashboard/save", **{**arranged, "report": numbers[::-1], "gone": []})
    assert [place["id"] for place in twin(world, "reports/dashboard", id=number)["places"]] == numbers
    assert "Growth" in get(world, "reports").text
    as_user(world, READER)
    assert 'method="post"' not in get(world, "reports/dashboard", id=number).text.partition("<main")[2]
    assert post(world, "reports/dashboard/delete", id=number).status_code == 403
    as_user(world, ANALYST)
    post(world, "reports/dashboard/delete", id=number, title="Growth")
    get(world, "reports/dashboard", status=404, id=number)
    assert post(world, "reports/dashboard/save", **{**arranged, "order": [1]}).status_code == 404
