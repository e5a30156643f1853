"""Reports that are empty until there are events: valid, checked, and never a made-up figure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from mixdown.http.reports import NOT_BUILT
from tests.reads.support import (
    DAY_MS,
    IMPORTER,
    NOON_MS,
    OTHER_SECRET,
    OWNER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
)

DAYS = "from_date=2026-01-01&to_date=2026-01-14"
EMPTY: dict[str, Any] = {
    "funnels/list": [],
    f"funnels?funnel_id=7&{DAYS}&unit=day&interval=1&length=60": {"meta": {"dates": []}, "data": {}},
    "annotations": {"annotations": [], "error": False},
    f"annotations?{DAYS}": {"annotations": [], "error": False},
    "events/names?type=general&limit=5000&from_date=2000-01-01&to_date=2026-01-15": [],
    "events/properties/top?limit=2000": {},
    "events/properties/top?event=Sign+Up": {},
}
PREFIXES = ("/api/query", "/api/2.0")
APP = "/api/app/projects/{}/annotations"


def slashed(target: str) -> list[str]:
    """A target without and with a slash at the end of its path."""
    path, mark, query = target.partition("?")
    return [target, f"{path}/{mark}{query}"]


def good(reply: httpx.Response) -> httpx.Response:
    """The reply, which is 200 and says nothing of trying again (contract query §1.5)."""
    assert reply.status_code == 200, reply.text
    assert "retry-after" not in reply.headers
    assert reply.headers["cache-control"] == "no-store"
    return reply


def refused(reply: httpx.Response) -> str:
    """The text of a 400 in the shape that every client reads."""
    assert reply.status_code == 400, reply.text
    told = reply.json()
    assert told["status"] == "error"
    assert told["request"]
    return str(told["error"])


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", EMPTY)
def test_a_report_without_events_is_empty_and_valid(plain_world: World, prefix: str, name: str) -> None:
    for target in slashed(f"{prefix}/{name}"):
        reply = good(plain_world.get(target, params=None))
        assert reply.json() == EMPTY[name]
        assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("rest", ["", "/", "/tags", "/tags/", "?fromDate=2026-01-01&toDate=2026-01-02"])
def test_a_project_has_no_annotations_and_no_tags(plain_world: World, rest: str) -> None:
    reply = good(plain_world.get(APP.format(plain_world.project.id) + rest))
    assert reply.json() == {"status": "ok", "results": []}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_export_without_events_has_no_bytes(plain_world: World, prefix: str) -> None:
    airbyte = "properties%5B%22%24time%22%5D%3E%3Ddatetime%281768392000%29"
    asked = f"{DAYS}&where={airbyte}&event=%5B%22a%22%5D&limit=100000&time_in_ms=true"
    asked += f"&project_id={plain_world.project.id}"
    for target in slashed(f"{prefix}/export?{asked}"):
        reply = good(plain_world.get(target))
        assert reply.content == b""
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "from_date, missing"),
        ("from_date=2026-01-01", "to_date, missing"),
        ("to_date=2026-01-01", "from_date, missing"),
        ("from_date=&to_date=2026-01-01", "from_date, missing"),
        ("from_date=yesterday&to_date=2026-01-01", "from_date, must be a day as YYYY-MM-DD"),
        ("from_date=2026-01-01&to_date=2026-02-30", "to_date, must be a day as YYYY-MM-DD"),
        ("from_date=2026-01-01&to_date=0000-01-01", "to_date, must be a day as YYYY-MM-DD"),
        ("from_date=2026-01-01T00:00:00&to_date=2026-01-01", "from_date, must be a day"),
        ("from_date=2026-01-03&to_date=2026-01-02", "from_date, 2026-01-03 is later than to_date"),
        (f"{DAYS}&limit=0", "limit, must be an integer from 1 to 100000"),
        (f"{DAYS}&limit=100001", "limit, must be an integer from 1 to 100000"),
        (f"{DAYS}&limit=ten", "limit, must be an integer from 1 to 100000"),
        (f"{DAYS}&time_in_ms=maybe", "time_in_ms, must be true or false"),
        (f"{DAYS}&where=properties%5B%22a%22%5D+%3D+1", "position 16"),
        (f"{DAYS}&event=%5B%7B%7D%5D", "event, must be a list of texts"),
    ],
)
def test_an_export_is_refused_with_what_is_wrong(plain_world: World, query: str, text: str) -> None:
    assert text in refused(plain_world.get(f"/api/2.0/export?{query}"))


def test_days_may_be_written_without_zeros(plain_world: World) -> None:
    good(plain_world.get("/api/2.0/export?from_date=2016-9-3&to_date=2016-9-23"))


@pytest.mark.parametrize(("hours", "ahead", "status"), [(0, 0, 200), (10, 1, 200), (9, 1, 400), (10, 2, 400)])
def test_a_day_that_is_today_somewhere_is_not_in_the_future(
    plain_world: World, hours: int, ahead: int, status: int
) -> None:
    """The day ends first in UTC+14: there it is tomorrow from 10:00 UTC on."""
    midnight_ms = NOON_MS - DAY_MS // 2
    plain_world.now_ms = midnight_ms + hours * 3_600_000
    day = datetime.fromtimestamp((midnight_ms + ahead * DAY_MS) / 1000, UTC).date()
    reply = plain_world.get(f"/api/2.0/export?from_date=2026-01-01&to_date={day}")
    assert reply.status_code == status
    if status == 400:
        assert refused(reply) == "to_date cannot be later than today"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("funnels", "funnel_id, missing"),
        ("funnels?funnel_id=seven", "funnel_id, must be an integer"),
        ("funnels?funnel_id=7&from_date=x", "from_date, must be a day"),
        ("annotations?from_date=2026-01-02&to_date=2026-01-01", "from_date, 2026-01-02 is later"),
        ("events/names?limit=0", "limit, must be an integer"),
        ("events/properties/top?to_date=12", "to_date, must be a day"),
    ],
)
def test_parameters_are_checked_as_if_there_were_events(plain_world: World, target: str, text: str) -> None:
    for prefix in PREFIXES:
        assert text in refused(plain_world.get(f"{prefix}/{target}"))


@pytest.mark.parametrize("name", sorted(NOT_BUILT))
def test_a_report_that_would_be_a_figure_says_that_it_is_not_built(plain_world: World, name: str) -> None:
    for prefix in PREFIXES:
        for target in slashed(f"{prefix}/{name}?{DAYS}"):
            for method in ("GET", "POST"):
                reply = plain_world.run(plain_world.ask(target, method=method))
                assert refused(reply).startswith(f"{name}, this report is not built yet")


@pytest.mark.parametrize("target", ["annotations/create", "funnels/lists", "nothing", "export/x", "app/me"])
def test_any_other_query_endpoint_is_none(plain_world: World, target: str) -> None:
    for prefix in PREFIXES:
        assert refused(plain_world.get(f"{prefix}/{target}")) == "Invalid API endpoint"


def targets(world: World) -> list[str]:
    """Every report, with parameters that are right."""
    named = [f"/api/2.0/{name}" for name in (*EMPTY, f"export?{DAYS}")]
    return [*named, APP.format(world.project.id)]


def test_nobody_reads_without_credentials_or_with_a_token(plain_world: World) -> None:
    for target in targets(plain_world):
        for credentials in ("", f"{TOKEN}:", TOKEN, f"{SECRET[:-1]}1"):
            headers = {"Authorization": basic(credentials)} if credentials else {}
            reply = plain_world.get(target, user=None, headers=headers)
            assert reply.status_code == 401, target
            assert "Unable to authenticate request" in reply.json()["error"]


def test_the_project_comes_from_the_secret_the_parameter_or_the_path(plain_world: World) -> None:
    world = plain_world
    for target in targets(world):
        for credentials in (SECRET, f"{SECRET}:"):  # tap and airbyte leave the colon out
            good(world.get(target, user=None, headers={"Authorization": basic(credentials)}))
        mark = "&" if "?" in target else "?"
        good(world.get(f"{target}{mark}project_id={world.project.id}"))
        good(world.get(f"{target}{mark}project_id={world.project.id}", user=OWNER))
        assert world.get(target, user=IMPORTER).status_code == 403
        asked = f"{target}{mark}project_id={world.project.id}"
        assert world.get(asked, user=STRANGER).status_code == 403
        assert world.get(asked, user=None, headers={"Authorization": basic(OTHER_SECRET)}).status_code == 403


def test_the_path_decides_over_the_parameter(plain_world: World) -> None:
    world = plain_world
    reply = world.get(f"{APP.format(world.other.id)}?project_id={world.project.id}")
    assert reply.status_code == 403
    for name in ("x", "-1", "1.5", "0", "9" * 20, "%C2%B2"):
        reply = world.get(APP.format(name))
        assert (reply.status_code, json.loads(reply.content)["error"]) == (404, "Not Found"), name
    assert world.get(APP.format(4711)).status_code == 403


def test_what_is_not_built_is_refused_by_its_method_or_path(plain_world: World) -> None:
    path = APP.format(plain_world.project.id)
    reply = plain_world.post(path, json={"date": "2026-01-01 00:00:00", "description": "deploy"})
    assert (reply.status_code, set(reply.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert plain_world.get(f"{path}/7").status_code == 404
