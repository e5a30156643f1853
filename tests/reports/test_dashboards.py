"""Dashboards over HTTP, and annotations as old clients write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.reads.support import ADMIN, OWNER, READER, SECRET, STRANGER, World, basic, shared_world

PATH = "/api/mixdown/dashboards"
REPORTS = "/api/mixdown/reports"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server; each test tells its own titles apart."""
    world = shared_world(tmp_path_factory.mktemp("dashboards") / "data")
    yield world
    world.close()


@pytest.fixture(scope="module")
def saved(world: World) -> list[int]:
    """Two saved reports: a funnel and a segmentation."""
    return [
        int(good(world.post(REPORTS, user=ADMIN, json={"name": name, **given}))["results"]["id"])
        for name, given in (
            ("Signup", {"definition": {"steps": ["visit", "buy"]}}),
            ("Visits", {"kind": "segmentation", "definition": {"event": "visit"}}),
        )
    ]


def good(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    assert reply.headers["cache-control"] == "no-store"
    return reply.json()


def refused(reply: httpx.Response, status: int = 400) -> str:
    assert reply.status_code == status, reply.text
    return str(reply.json()["error"])


def put(world: World, **given: Any) -> httpx.Response:
    return world.run(world.ask(PATH, method="PUT", user=ADMIN, json=given))


def delete(world: World, number: int, user: str = ADMIN) -> httpx.Response:
    return world.run(world.ask(PATH, method="DELETE", user=user, params={"id": number}))


def test_a_dashboard_is_made_shown_replaced_and_deleted(world: World, saved: list[int]) -> None:
    funnel, visits = saved
    given = {"title": "Growth", "days": 28, "reports": [{"id": visits, "width": 6, "height": 2}, funnel]}
    made = good(world.post(PATH, user=ADMIN, json=given))["results"]
    assert made == {
        "id": made["id"],
        "project_id": world.project.id,
        "title": "Growth",
        "description": "",
        "days": 28,
        "reports": [
            {"id": visits, "kind": "segmentation", "name": "Visits", "width": 6, "height": 2},
            {"id": funnel, "kind": "funnels", "name": "Signup", "width": 12, "height": 1},
        ],
        "creator": ADMIN,
        "created": "2026-01-15T12:00:00",
        "changed": "2026-01-15T12:00:00",
    }
    assert made in good(world.get(PATH, user=READER))["results"]
    assert good(world.get(PATH, params={"id": made["id"]}))["results"] == made
    # what is shown may be sent back as it is
    again = good(put(world, **{key: made[key] for key in ("id", "title", "days", "reports")}))["results"]
    assert again == made
    bare = good(put(world, id=made["id"], title="Less", reports=[funnel]))["results"]
    assert [bare[name] for name in ("title", "days", "created")] == ["Less", None, made["created"]]
    assert [each["id"] for each in bare["reports"]] == [funnel]
    assert good(delete(world, made["id"]))["results"] == {"id": made["id"]}
    for reply in (delete(world, made["id"]), world.get(PATH, params={"id": made["id"]})):
        assert "there is no dashboard" in refused(reply, 404)
    assert {each["id"] for each in good(world.get(REPORTS))["results"]} >= set(saved)


def test_a_report_that_is_gone_is_left_out_of_its_dashboard(world: World, saved: list[int]) -> None:
    short = {"name": "Short lived", "definition": {"steps": ["a"]}}
    number = good(world.post(REPORTS, user=ADMIN, json=short))["results"]["id"]
    given = {"title": "Two", "reports": [{"id": number, "width": 3}, {"id": saved[0], "width": 9}]}
    made = good(world.post(PATH, user=ADMIN, json=given))["results"]
    good(world.run(world.ask(REPORTS, method="DELETE", user=ADMIN, params={"id": number})))
    left = good(world.get(PATH, params={"id": made["id"]}))["results"]["reports"]
    assert [(each["id"], each["width"]) for each in left] == [(saved[0], 9)]
    # one that was saved as a report without a layout shows all the same
    plain = {"kind": "dashboard", "name": "Plain", "definition": {"reports": [saved[1]]}}
    number = good(world.post(REPORTS, user=ADMIN, json=plain))["results"]["id"]
    shown = good(world.get(PATH, params={"id": number}))["results"]
    assert [(each["id"], each["width"], each["height"]) for each in shown["reports"]] == [(saved[1], 12, 1)]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"title": " "}, "title, must be 1 to 255"),
        ({"reports": {"id": 1}}, "reports, must be a list of at most 100 numbers"),
        ({"reports": ["1"]}, "reports, must be a list of at most 100 numbers"),
        ({"reports": [True]}, "reports, must be a list of at most 100 numbers"),
        ({"reports": [{"id": 1, "odd": 2}]}, "reports, must be a list of at most 100 numbers"),
        ({"reports": [1] * 101}, "reports, must be a list of at most 100 numbers"),
        ({"reports": [4711]}, "reports, there is no report 4711"),
        ({"reports": [{"id": 1, "width": 13}]}, "reports, width and height"),
        ({"reports": [{"id": 1, "height": 0}]}, "reports, width and height"),
        ({"days": 0}, "days, must be an integer"),
        ({"description": "x" * 2001}, "description, must be at most 2000"),
    ],
)
def test_what_is_wrong_with_a_dashboard_is_named(
    world: World, saved: list[int], given: dict[str, Any], text: str
) -> None:
    del saved
    assert text in refused(world.post(PATH, user=ADMIN, json={"title": "t", **given}))


def test_only_analysts_change_dashboards_and_nobody_those_of_others(world: World, saved: list[int]) -> None:
    made = good(world.post(PATH, user=ADMIN, json={"title": "Mine", "reports": saved}))["results"]
    assert "may not save dashboards" in refused(world.post(PATH, user=READER, json={"title": "x"}), 403)
    assert "may not save dashboards" in refused(delete(world, made["id"], READER), 403)
    assert world.get(PATH, params={"project_id": world.project.id}, user=STRANGER).status_code == 403
    elsewhere = {"id": made["id"], "project_id": world.other.id}
    assert "there is no dashboard" in refused(world.get(PATH, params=elsewhere, user=OWNER), 404)
    other = {"title": "x", "project_id": world.other.id, "reports": saved}
    assert "there is no report" in refused(world.post(PATH, user=OWNER, json=other))
    assert "title, must be" in refused(put(world, id=made["id"]))
    assert "id, missing" in refused(put(world, title="x"))
    good(world.post(PATH, user=ADMIN, json={"title": "Taken"}))
    assert "dashboard, this name is taken" in refused(world.post(PATH, user=ADMIN, json={"title": "Taken"}))


# --- annotations as old clients write them


def old(world: World, name: str, user: str | None = ADMIN, **given: Any) -> httpx.Response:
    headers = given.pop("headers", {})
    return world.get(f"/api/2.0/annotations{name}", user=user, params=given, headers=headers)


def test_old_clients_write_annotations_by_get(world: World) -> None:
    made = good(old(world, "/create", date="2026-01-15 09:30:00", description="Launched 2.0"))
    assert made == {"error": False, "id": made["id"]}
    changed = old(world, "/update/", id=made["id"], date="2026-01-16 00:00:00", description="Launched")
    assert good(changed) == made
    row = {"id": made["id"], "project_id": world.project.id, "date": "2026-01-16 00:00:00"}
    assert row | {"description": "Launched"} in good(old(world, ""))["annotations"]
    assert good(old(world, "/update", id=made["id"], description="Late"))
    assert row | {"description": "Late"} in good(old(world, ""))["annotations"]
    assert good(old(world, "/delete", id=made["id"])) == made
    assert made["id"] not in [each["id"] for each in good(old(world, ""))["annotations"]]


def test_old_writes_are_refused_where_new_ones_are(world: World) -> None:
    assert "date, must be" in refused(old(world, "/create", date="soon", description="x"))
    assert "description, must be" in refused(old(world, "/create", date="2026-01-15"))
    assert "id, missing" in refused(old(world, "/delete"))
    assert "there is no annotation 4711" in refused(old(world, "/delete", id=4711))
    assert "date, description: give" in refused(old(world, "/update", id=4711))
    note = {"date": "2026-01-15", "description": "x"}
    assert "may not write" in refused(old(world, "/create", READER, **note), 403)
    secret = {"Authorization": basic(f"{SECRET}:")}
    assert old(world, "/create", None, headers=secret, **note).status_code == 403
    # a page of another site that makes a browser ask, with the credentials it remembers
    before = good(old(world, ""))["annotations"]
    assert old(world, "/create", headers={"Sec-Fetch-Site": "cross-site"}, **note).status_code == 403
    head = world.run(world.ask("/api/2.0/annotations/create", method="HEAD", user=ADMIN, params=note))
    assert head.status_code == 405
    assert good(old(world, ""))["annotations"] == before
