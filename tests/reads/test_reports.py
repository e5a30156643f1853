"""Annotations: notes on moments, with tags, by Mixpanel's API and on the old query paths."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.reads.support import (
    ADMIN,
    IMPORTER,
    OTHER_SECRET,
    OWNER,
    READER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
)

DAYS = "from_date=2026-01-01&to_date=2026-01-14"
PREFIXES = ("/api/query", "/api/2.0")
APP = "/api/app/projects/{}/annotations"


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


def path_of(world: World, rest: str = "") -> str:
    return APP.format(world.project.id) + rest


def send(world: World, method: str, rest: str = "", user: str = ADMIN, **given: Any) -> httpx.Response:
    return world.run(world.ask(path_of(world, rest), method=method, user=user, json=given))


def note(
    world: World, date: str = "2026-01-05 10:00:00", text: str = "Released", **given: Any
) -> dict[str, Any]:
    reply = send(world, "POST", date=date, description=text, **given)
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()["results"]
    return found


def ids(reply: httpx.Response) -> list[int]:
    found = good(reply).json()
    return [each["id"] for each in found.get("results", found.get("annotations"))]


@pytest.mark.parametrize("slash", ["", "/"])
def test_without_annotations_all_lists_are_empty_and_valid(plain_world: World, slash: str) -> None:
    for prefix in PREFIXES:
        for query in ("", f"?{DAYS}"):
            reply = good(plain_world.get(f"{prefix}/annotations{slash}{query}"))
            assert reply.json() == {"annotations": [], "error": False}
    for rest in ("", "/tags", "?fromDate=2026-01-01&toDate=2026-01-02"):
        path, mark, query = rest.partition("?")
        assert good(plain_world.get(path_of(plain_world, path + slash + mark + query))).json() == {
            "status": "ok",
            "results": [],
        }


def test_an_annotation_is_made_read_changed_and_deleted(world: World) -> None:
    tag = send(world, "POST", "/tags", name="releases").json()["results"]
    assert tag == {
        "id": tag["id"],
        "name": "releases",
        "project_id": world.project.id,
        "has_annotations": False,
    }
    made = note(world, tags=[tag["id"]])
    account = next(each for each in world.store.catalog.accounts() if each.username == ADMIN)
    assert made == {
        "id": made["id"],
        "project_id": world.project.id,
        "date": "2026-01-05 10:00:00",
        "description": "Released",
        "user": {"id": account.id, "first_name": ADMIN, "last_name": ""},
        "tags": [{"id": tag["id"], "name": "releases"}],
    }
    one = f"/{made['id']}"
    assert good(world.get(path_of(world, one))).json()["results"] == made
    assert good(world.get(path_of(world))).json()["results"] == [made]
    assert good(world.get(path_of(world, "/tags/"))).json()["results"] == [{**tag, "has_annotations": True}]
    changed = good(send(world, "PATCH", one, description="Taken back", tags=[])).json()["results"]
    assert changed == {**made, "description": "Taken back", "tags": []}
    assert good(send(world, "DELETE", f"{one}/")).json() == {"status": "ok", "results": {"id": made["id"]}}
    for method in ("GET", "PATCH", "DELETE"):
        assert send(world, method, one, description="x").status_code == 404


def test_a_span_of_days_and_tags_choose_annotations(plain_world: World) -> None:
    tags = [send(plain_world, "POST", "/tags", name=name).json()["results"]["id"] for name in ("a", "b")]
    days = ("2026-01-04 23:59:59", "2026-01-05 00:00:00", "2026-01-06 23:59:59", "2026-01-07 00:00:00")
    made = [note(plain_world, day, tags=[tags[place % 2]])["id"] for place, day in enumerate(days)]
    assert ids(plain_world.get(path_of(plain_world, "?fromDate=2026-01-05&toDate=2026-01-06"))) == made[1:3]
    assert ids(plain_world.get(path_of(plain_world, "?toDate=2026-01-04"))) == made[:1]
    assert ids(plain_world.get(path_of(plain_world, f"?tags={tags[0]}"))) == made[::2]
    assert ids(plain_world.get(path_of(plain_world, f"?tags={tags[0]},{tags[1]}"))) == made
    for prefix in PREFIXES:
        reply = plain_world.get(f"{prefix}/annotations?from_date=2026-01-05&to_date=2026-01-06")
        assert good(reply).json() == {
            "annotations": [
                {"id": number, "project_id": 1, "date": day, "description": "Released"}
                for number, day in zip(made[1:3], days[1:3], strict=True)
            ],
            "error": False,
        }


def test_a_moment_is_one_of_the_projects_time_zone(plain_world: World) -> None:
    plain_world.store.catalog.change_project(plain_world.project.id, timezone="America/New_York")
    given = {
        "2026-01-05 10:00:00": "2026-01-05 10:00:00",
        "2026-01-05T10:00:00.9": "2026-01-05 10:00:00",
        "2026-01-05": "2026-01-05 00:00:00",
        "2026-01-05T03:00:00+00:00": "2026-01-04 22:00:00",
        "2026-01-05T03:00:00Z": "2026-01-04 22:00:00",
        "1970-01-01": "1970-01-01 00:00:00",
    }
    assert {date: note(plain_world, date)["date"] for date in given} == given


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"date": "yesterday"}, "date, must be a moment"),
        ({"date": ""}, "date, must be a moment"),
        ({"date": "0001-01-01T00:00:00+14:00"}, "date, must be a moment"),
        ({"date": "0202-11-22 12:00:00"}, "date, must be a moment from 1970 on"),
        ({"date": "1970-01-01T01:00:00+02:00"}, "date, must be a moment from 1970 on"),
        ({"description": ""}, "description, must be a text of 1 to 512"),
        ({"description": "x" * 513}, "description, must be a text of 1 to 512"),
        ({"tags": [4711]}, "there is no tag 4711"),
        ({"tags": ["x"]}, "tags, must be a list of numbers"),
        ({"tags": [-1]}, "tags, must be a list of numbers"),
        ({"tags": list(range(1, 60))}, "tags, an annotation has at most 50"),
    ],
)
def test_what_is_wrong_with_an_annotation_is_named(
    plain_world: World, given: dict[str, Any], text: str
) -> None:
    fields = {"date": "2026-01-05", "description": "x", **given}
    assert text in refused(send(plain_world, "POST", **fields))
    assert ids(plain_world.get(path_of(plain_world))) == []


def test_a_change_that_is_none_or_wrong_changes_nothing(plain_world: World) -> None:
    made = note(plain_world)
    one = f"/{made['id']}"
    assert "give what is to change" in refused(send(plain_world, "PATCH", one))
    assert "there is no tag" in refused(send(plain_world, "PATCH", one, description="y", tags=[7]))
    assert good(plain_world.get(path_of(plain_world, one))).json()["results"] == made
    assert "name, must be" in refused(send(plain_world, "POST", "/tags", name="\n"))
    send(plain_world, "POST", "/tags", name="a")
    assert "taken by another tag" in refused(send(plain_world, "POST", "/tags", name="a"))


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("annotations?from_date=2026-01-02&to_date=2026-01-01", "from_date, 2026-01-02 is later"),
        ("annotations?from_date=x", "from_date, must be a day"),
    ],
)
def test_days_are_checked(plain_world: World, target: str, text: str) -> None:
    for prefix in PREFIXES:
        assert text in refused(plain_world.get(f"{prefix}/{target}"))


def test_the_last_day_there_is_ends_a_span(plain_world: World) -> None:
    made = note(plain_world)["id"]
    assert ids(plain_world.get(path_of(plain_world, "?fromDate=2026-01-01&toDate=9999-12-31"))) == [made]


@pytest.mark.parametrize("target", ["annotations/create/1", "funnels/lists", "nothing", "export/x", "app/me"])
def test_any_other_query_endpoint_is_none(plain_world: World, target: str) -> None:
    for prefix in PREFIXES:
        assert refused(plain_world.get(f"{prefix}/{target}")) == "Invalid API endpoint"


def test_only_analysts_and_above_write(plain_world: World) -> None:
    made = note(plain_world)
    for user in (READER, IMPORTER, STRANGER):
        for method, rest in (
            ("POST", ""),
            ("POST", "/tags"),
            ("PATCH", f"/{made['id']}"),
            ("DELETE", f"/{made['id']}"),
        ):
            reply = send(plain_world, method, rest, user=user, date="2026-01-01", description="x", name="x")
            assert reply.status_code == 403, (user, method, rest)
    other_site = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    reply = plain_world.run(
        plain_world.ask(
            path_of(plain_world, f"/{made['id']}"), method="DELETE", user=ADMIN, headers=other_site
        )
    )
    assert reply.status_code == 403
    assert ids(plain_world.get(path_of(plain_world))) == [made["id"]]


def targets(world: World) -> list[str]:
    return [f"/api/2.0/annotations?{DAYS}", path_of(world), path_of(world, "/tags")]


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
        for path in (APP.format(name), path_of(world, f"/{name}")):
            reply = world.get(path)
            assert reply.status_code == 404, path
            assert "Not Found" in json.loads(reply.content)["error"] or "no annotation" in reply.text, path
    assert world.get(APP.format(4711)).status_code == 403
