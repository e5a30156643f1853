"""Reports that are not built: empty and valid, checked, and never a made-up figure."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from mixdown.http.reports import NOT_BUILT
from tests.reads.support import (
    IMPORTER,
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
def test_a_report_of_what_cannot_be_made_is_empty(plain_world: World, prefix: str, name: str) -> None:
    for target in slashed(f"{prefix}/{name}"):
        reply = good(plain_world.get(target, params=None))
        assert reply.json() == EMPTY[name]
        assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("rest", ["", "/", "/tags", "/tags/", "?fromDate=2026-01-01&toDate=2026-01-02"])
def test_a_project_has_no_annotations_and_no_tags(plain_world: World, rest: str) -> None:
    reply = good(plain_world.get(APP.format(plain_world.project.id) + rest))
    assert reply.json() == {"status": "ok", "results": []}


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("funnels", "funnel_id, missing"),
        ("funnels?funnel_id=seven", "funnel_id, must be an integer"),
        ("funnels?funnel_id=7&from_date=x", "from_date, must be a day"),
        ("annotations?from_date=2026-01-02&to_date=2026-01-01", "from_date, 2026-01-02 is later"),
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
    named = [f"/api/2.0/{name}" for name in EMPTY]
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
