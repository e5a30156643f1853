"""The pages of events over HTTP: names and volumes, one event by its values, filters, downloads, odd data."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from markupsafe import escape

from mixdown.explorer import session
from mixdown.explorer.pages.event_asking import equals
from mixdown.explorer.pages.events import change
from mixdown.model.expression import Context, matches, parse
from tests.engine import open_store
from tests.explorer.support import HTMX, NASTY
from tests.explorer.test_session import sign_in
from tests.reads.support import DAY_MS, NOON_MS, PASSWORD, READER, World, basic, group

RTL = "مرحبا بالعالم"
LONG = "x" * 255
ODD = (NASTY, RTL, LONG, "=1+1", "__proto__", '["a"]', "a & b?c=d#e")
WIDE = 2000
VALUES = 300
HOUR_MS = 3_600_000


def event(number: int, name: str, days: int, **properties: Any) -> dict[str, Any]:
    return {
        "position": number,
        "arrived": NOON_MS,
        "event": name,
        "time": NOON_MS - days * DAY_MS - number % 60 * 1000,
        "distinct_id": f"u{number % 7}",
        "insert_id": f"i{number}",
        "properties": properties,
    }


def made_up() -> list[dict[str, Any]]:
    plans = ("free", "pro", 3, True, None, ["a", "b"])
    found = [event(n, "page view", n % 40, plan=plans[n % 6], n=n % VALUES) for n in range(900)]
    found += [event(1000 + n, "sign up", n % 3, company="acme") for n in range(12)]
    found += [event(1100 + n, name, 0, **{name: name}) for n, name in enumerate(ODD)]
    found.append(event(1200, "wide", 0, **{f"property {n:04}": n for n in range(WIDE)}))
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One server for the tests that only look."""
    folder: Path = tmp_path_factory.mktemp("events") / "data"
    store = open_store(folder, role="worker", create=True)
    made = World(store, open_store(folder, role="fold", create=False))
    made.store_events(made_up())
    made.send(group("company", "acme", plan="pro"), endpoint="groups")
    made.fold_all()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _signed_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FAILURE_PAUSE_S", 0.0)
    sign_in(world, READER)


def path(world: World, rest: str, **params: Any) -> str:
    query = urlencode({name: value for name, value in params.items() if value is not None}, doseq=True)
    return f"/explorer/{world.project.id}/{rest}{'?' if query else ''}{query}"


def get(world: World, rest: str, status: int = 200, **params: Any) -> httpx.Response:
    reply = world.get(path(world, rest, **params), user=None, headers={"Accept": "text/html", **HTMX})
    assert reply.status_code == status, reply.text
    return reply


def twin(world: World, rest: str, **params: Any) -> Any:
    reply = world.get(path(world, f"{rest}.json", **params), user=READER)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_page_reads_nothing_itself_and_names_its_parts(world: World) -> None:
    text = get(world, "events", days=7, q="view").text
    assert 'hx-trigger="load"' in text
    assert html.escape(path(world, "events/volumes", days=7, q="view")) in text
    assert "page view" not in text


def test_names_come_with_their_volumes_and_what_they_lead_to(world: World) -> None:
    found = twin(world, "events")["volumes"]
    assert found["names"] == 3 + len(ODD)
    rows = {row["event"]: row for row in found["events"]}
    days = [n % 40 for n in range(900)]
    assert rows["page view"]["total"] == sum(day < 30 for day in days)
    assert sum(rows["page view"]["figures"]) == rows["page view"]["total"]
    assert rows["page view"]["week"]["count"] == sum(day < 7 for day in days)
    assert rows["sign up"]["today"]["count"] == 4
    assert rows["sign up"]["month"]["change"] == {"text": "new", "part": None}
    assert found["total"] == sum(row["total"] for row in rows.values())
    text = get(world, "events/volumes").text
    for name in ODD:
        assert str(escape(path(world, "event", name=name))) in text
        assert str(escape(name)) in text
    assert NASTY not in text


def test_names_are_searched_sorted_and_shown_a_page_at_a_time(world: World) -> None:
    assert [row["event"] for row in twin(world, "events", q="VIEW")["volumes"]["events"]] == ["page view"]
    names = [row["event"] for row in twin(world, "events", sort="name")["volumes"]["events"]]
    assert names == sorted(names)
    assert get(world, "events/volumes", q="nothing at all").text.count("No event is called so") == 1
    assert "sort is one of" in get(world, "events/volumes", status=400, sort="none").text
    text = get(world, "events/volumes", sort="today").text
    assert re.search(r'aria-sort="descending"><a href="[^"]*sort=today[^"]*order=ascending', text)


def test_a_change_is_told_in_words(world: World) -> None:
    del world
    told = {(5, 0): "new", (0, 0): "", (150, 100): "+50 %", (50, 100): "-50 %", (100, 100): "±0 %"}
    for (count, before), text in told.items():
        assert change(count, before)["text"] == text
    assert change(5000, 100)["text"] == "50 times"


def test_the_newest_events_lead_to_their_people(world: World) -> None:
    text = get(world, "events/recent").text
    assert html.escape(path(world, "profile", id="u1")) in text
    assert text.count('class="feed-row"') == 50
    assert NASTY not in text


def test_one_event_by_a_property_has_values_shares_and_others(world: World) -> None:
    found = twin(world, "event", name="page view", by="plan", top=3, days=90)["figures"]
    lines = {line.get("value"): line for line in found["lines"] if "other" not in line}
    assert set(lines) == {None, "3", "a"} or len(lines) == 3
    assert found["count"] == 900
    assert all(line["count"] == 150 for line in lines.values())
    other = found["lines"][-1]
    # "b" stands in the same events as "a": they are counted once among the others
    assert other["other"] is True
    assert other["values"] == 4
    assert {round(line["share"], 4) for line in lines.values()} == {0.1667}


@pytest.mark.parametrize(
    ("value", "kind"),
    [("pro", "string"), ("3", "number"), ("true", "boolean"), ("a", "list"), (None, "null")],
)
def test_a_value_leads_to_the_events_that_have_it(world: World, value: str | None, kind: str) -> None:
    where = equals("plan", value, kind)
    also = equals("n", "1", "number", where or "")
    for asked, expected in ((where, {150}), (also, {0, 3})):
        text = get(world, "event/figures", name="page view", where=asked, days=90, unit="month").text
        found = re.search(r'<span class="figure">(\d+)</span> events', text)
        assert found
        assert int(found[1]) in expected


def test_a_value_of_any_text_is_quoted_in_its_filter() -> None:
    for name in (*ODD, '"] or true or properties["', "\\"):
        where = equals(name, name, "string")
        assert where is not None
        assert matches(parse(where), {name: name}, "x", Context(0))
        assert not matches(parse(where), {name: "other"}, "x", Context(0))


def test_values_that_name_people_and_groups_lead_to_them(world: World) -> None:
    text = get(world, "event/figures", name="sign up", by="distinct_id").text
    assert html.escape(path(world, "profile", id="u1")) in text
    text = get(world, "event/figures", name="sign up", by="company").text
    assert html.escape(path(world, "profile", id="acme", group_key="company")) in text


def test_the_place_of_a_fault_in_a_filter_is_shown(world: World) -> None:
    where = 'properties["plan"] == ("pro"'
    page = get(world, "event", name="page view", where=where)
    assert 'role="alert"' in page.text
    assert "<mark>" in page.text
    assert "hx-get" not in page.text.partition("<main")[2]
    fault = twin(world, "event", name="page view", where=where)["fault"]
    assert fault["before"] + fault["at"] + fault["after"] == where
    assert f"position {fault['position']}" in page.text
    refused = get(world, "event/figures", status=400, name="page view", where=where)
    assert f"position {fault['position']}" in refused.text


def test_figures_are_handed_out_as_csv_and_as_a_call_of_the_api(world: World) -> None:
    reply = get(world, "event/figures.csv", name="sign up", by="company", days=7)
    assert reply.headers["content-type"].startswith("text/csv")
    assert "attachment" in reply.headers["content-disposition"]
    lines = reply.text.splitlines()
    assert lines[0] == "date,acme,total"
    assert len(lines) == 8
    assert lines[-1].endswith(",4,4")
    page = html.unescape(get(world, "event", name="it's", by="a").text)
    copied = re.search(r'data-copy-text="(curl -G[^"]*\\[^"]*)"', page)
    assert copied or "curl -G -u 'ACCOUNT:PASSWORD'" in page
    assert PASSWORD not in page


def test_no_text_of_a_csv_is_a_formula(world: World) -> None:
    assert get(world, "event/figures.csv", name="=1+1", days=2).text.startswith("date,'=1+1\n")
    by_value: dict[str, Any] = {"name": "=1+1", "by": "=1+1", "days": 2}
    lines = get(world, "event/figures.csv", **by_value).text.splitlines()
    assert lines[0] == "date,'=1+1,total"


def test_properties_come_with_kinds_however_many_there_are(world: World) -> None:
    text = get(world, "event/properties", name="wide").text
    assert text.count("data-rest") == WIDE - 60
    assert "Show all 2" in text
    answer = world.get(
        "/api/mixdown/events/properties", params={"event": "page view", "from_date": "2025-11-01"}
    )
    kinds = {one["name"]: one["kinds"] for one in answer.json()["results"]["properties"]}
    assert kinds["plan"] == {"string": 300, "list": 150, "boolean": 150, "number": 150, "null": 150}
    assert "u1" not in get(world, "event/values", name="page view", by="plan").text


def test_of_very_many_events_the_properties_of_the_last_days_are_counted(world: World) -> None:
    asked = {"event": "page view", "from_date": "2025-11-01"}

    def properties(recent: int) -> dict[str, Any]:
        answer = world.get("/api/mixdown/events/properties", params=asked | {"recent": str(recent)})
        found: dict[str, Any] = answer.json()["results"]
        return found

    everything, some, one_day = properties(0), properties(100), properties(1)
    assert everything["events"] > some["events"] > 0
    assert some["events"] <= 100
    assert everything["since"] < some["since"] <= one_day["since"]
    assert properties(10**9) == everything
    assert world.get("/api/mixdown/events/properties", params={"recent": "-1"}).status_code == 400


def test_samples_go_back_a_page_at_a_time(world: World) -> None:
    seen: list[str] = []
    target: str | None = path(world, "event/samples", name="page view", where='properties["n"] < 10', days=90)
    while target:
        reply = world.get(target, user=None, headers=HTMX)
        assert reply.status_code == 200
        blocks = re.findall(r"<pre class=\"json\"[^>]*>(.*?)</pre>", reply.text, re.DOTALL)
        seen += [json.loads(html.unescape(block))["properties"]["$insert_id"] for block in blocks]
        older = re.search(r'hx-get="([^"]*samples[^"]*before=[^"]*)"', reply.text)
        target = html.unescape(older[1]) if older else None
    assert len(seen) == len(set(seen)) == 30


def test_an_event_that_never_came_is_told_calmly(world: World) -> None:
    for part, text in (
        ("figures", "data-empty"),
        ("properties", "No properties"),
        ("samples", "None in this"),
    ):
        assert text in get(world, f"event/{part}", name="never").text
    assert "Which event" in get(world, "event", status=400, name="").text
    assert (
        "after it ends"
        in get(world, "event", status=400, name="a", **{"from": "2026-02-02", "to": "2026-01-01"}).text
    )
    assert "unit is one of" in get(world, "event", status=400, name="a", unit="year").text
    assert "must be a day" in get(world, "events", status=400, **{"from": "yesterday"}).text


def test_a_project_without_events_says_how_to_send_some(world: World) -> None:
    sign_in(world, "owner.mp-service-account")
    other = f"/explorer/{world.other.id}"
    assert "No events yet" in world.get(f"{other}/events/volumes", user=None, headers=HTMX).text
    assert "Nothing has arrived" in world.get(f"{other}/events/recent", user=None, headers=HTMX).text


def test_days_are_those_of_the_projects_zone(world: World) -> None:
    project = world.project.id
    world.store.catalog.change_project(project, timezone="Pacific/Auckland")
    try:
        chart = twin(world, "event", name="page view", days=2, unit="hour")["chart"]
        assert chart["zone"] == "Pacific/Auckland"
        # noon in UTC is one in the night of the next day there
        assert len(chart["x"]) == 24 + 2
        assert chart["x"][-1] * 1000 == NOON_MS - NOON_MS % HOUR_MS
    finally:
        world.store.catalog.change_project(project, timezone="UTC")


def test_the_twin_takes_a_service_account_and_strangers_find_nothing(world: World) -> None:
    wrong = world.get(path(world, "events.json"), user=None, headers={"Authorization": basic("stranger:no")})
    assert wrong.status_code == 401
    world.http.cookies.clear()
    away = world.get(path(world, "events"), user=None, headers={"Accept": "text/html"})
    assert away.status_code == 303
    assert parse_qs(urlsplit(away.headers["location"]).query)
