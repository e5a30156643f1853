"""Paging as each known client does it, with its own arithmetic (contract query §2.3, wire §0.16-18)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.reads.support import ENGAGE, SECRET, World, basic, ids_of, names


def test_mixpanel_utils_reads_pages_in_parallel_and_out_of_order(world: World) -> None:
    world.store_users(names(2500))
    target = f"/api/2.0/engage?project_id={world.project.id}"
    first = world.get(target).json()
    assert (first["total"], first["page_size"], first["page"]) == (2500, 1000, 0)
    last = math.ceil(first["total"] / first["page_size"]) - 1
    pages = [f"{target}&session_id={first['session_id']}&page={page}" for page in range(last, 0, -1)]
    rest = world.at_once(*[world.ask(page) for page in pages])
    found = ids_of(first)
    for reply in reversed(rest):
        answer = reply.json()
        assert answer["total"] == 2500
        assert answer["page_size"] == 1000
        assert answer["session_id"] == first["session_id"]
        found += ids_of(answer)
    assert found == names(2500)


@pytest.mark.parametrize(("users", "page_size"), [(2500, 1000), (2000, 1000), (900, 1000), (7, 3), (0, 5)])
def test_airbyte_trusts_its_own_page_size(world: World, users: int, page_size: int) -> None:
    world.store_users(names(users))
    project = world.project.id
    found: list[str] = []
    page, session = 0, ""
    while True:
        more = f"&session_id={session}&page={page}" if page else ""
        answer = world.get(f"{ENGAGE}?project_id={project}&page_size={page_size}{more}").json()
        found += ids_of(answer)
        assert all("$last_seen" in row["$properties"] for row in answer["results"])
        if answer["total"] <= page_size * (answer["page"] + 1):
            break
        page, session = answer["page"] + 1, answer["session_id"]
    assert found == names(users)


@pytest.mark.parametrize("users", [500, 501, 249, 250, 0])
def test_tap_asks_one_page_past_the_end_with_a_secret_that_has_no_colon(world: World, users: int) -> None:
    world.store_users(names(users))
    secret = {"Authorization": basic(SECRET)}
    assert world.get("/api/2.0/engage", headers=secret).status_code == 200, "its probe of the credentials"
    found: list[str] = []
    offset, more, pages = 0, "", 0
    while True:
        answer = world.get(f"/api/2.0/engage?page_size=250{more}", headers=secret).json()
        pages += 1
        found += ids_of(answer)
        offset += 250
        if answer["session_id"] is None or not answer["results"] or offset > answer["total"]:
            break
        more = f"&session_id={answer['session_id']}&page={answer['page'] + 1}"
    assert found == names(users)
    assert pages == users // 250 + 1, "exact multiples cost one empty page"


@pytest.mark.parametrize("users", [0, 1, 1000, 2000, 2500])
def test_headless_posts_json_until_a_page_is_empty(world: World, users: int) -> None:
    world.store_users(names(users))
    project = world.project.id
    target = f"{ENGAGE}/?project_id={project}&query_origin=mixpanel-headless"
    body: dict[str, Any] = {"project_id": str(project), "page": 0}
    found: list[str] = []
    while True:
        answer = world.post(target, json=body).json()
        assert answer["session_id"]
        if not answer["results"]:
            break
        found += ids_of(answer)
        body = {"project_id": str(project), "page": body["page"] + 1, "session_id": answer["session_id"]}
    assert answer["total"] == users
    assert answer["page_size"] == 1000
    assert found == names(users)


def test_headless_limits_the_total_on_every_call(world: World) -> None:
    world.store_users(names(2500))
    first = world.post(ENGAGE, json={"page": 0, "limit": 1500}).json()
    assert (first["total"], first["page_size"], len(first["results"])) == (1500, 1000, 1000)
    again = {"page": 1, "limit": 1500, "session_id": first["session_id"]}
    second = world.post(ENGAGE, json=again).json()
    assert ids_of(first) + ids_of(second) == names(1500)
    few = world.post(ENGAGE, json={"page": 0, "limit": 5}).json()
    assert (few["total"], few["page_size"], ids_of(few)) == (5, 5, names(5))


@pytest.mark.parametrize("users", [2000, 2001, 1, 0])
def test_mixpanel_import_posts_an_empty_form_and_stops_at_a_short_page(world: World, users: int) -> None:
    world.store_users(names(users))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    target = f"/api/2.0/engage?project_id={world.project.id}"
    answer = world.post(target, headers=form).json()
    page_size = answer["page_size"]
    found, page = ids_of(answer), 0
    while len(answer["results"]) >= page_size:
        page += 1
        answer = world.post(f"{target}&page={page}&session_id={answer['session_id']}", headers=form).json()
        found += ids_of(answer)
    assert found == names(users)


def test_mixpanel_import_streams_from_page_0_with_an_empty_session_to_an_empty_page(world: World) -> None:
    world.store_users(names(1500))
    page, session, found = 0, "", list[str]()
    while True:
        target = f"/api/2.0/engage?page={page}&session_id={session}&project_id={world.project.id}"
        answer = world.post(target, content=b"").json()
        if not answer["results"]:
            break
        found += ids_of(answer)
        page, session = answer["page"] + 1, answer["session_id"]
    assert found == names(1500)
    form = world.post("/api/2.0/engage", content=b"page=0&session_id=").json()
    assert len(form["results"]) == 1000


@pytest.mark.parametrize("users", [5000, 5001, 3])
def test_openpanel_pages_without_any_session(world: World, users: int) -> None:
    world.store_users(names(users))
    found: list[str] = []
    page = 0
    while True:
        form = {"page": str(page), "page_size": "5000"}
        answer = world.post(f"{ENGAGE}?project_id={world.project.id}", data=form).json()
        assert answer["session_id"]
        assert answer["total"] == users
        found += ids_of(answer)
        if len(answer["results"]) < 5000:
            break
        page += 1
    assert found == names(users)


def test_a_posthog_fork_checks_the_status_and_counts_by_total(world: World) -> None:
    world.store_users(names(23))
    found: list[str] = []
    page, session = 0, ""
    while True:
        form = {"page": str(page), "page_size": "10"} | ({"session_id": session} if session else {})
        answer = world.post(ENGAGE, data=form).json()
        assert answer["status"] == "ok"
        session = answer["session_id"]
        found += ids_of(answer)
        if (page + 1) * 10 >= answer["total"] or not answer["results"]:
            break
        page += 1
    assert found == names(23)


def test_a_public_client_posts_json_without_saying_so(world: World) -> None:
    world.store_users(names(3))
    reply = world.post(ENGAGE, content=b' {"page_size": "2"}', headers={"Content-Type": "text/plain"})
    assert ids_of(reply.json()) == names(2)


def test_pages_of_groups_keep_to_their_session(world: World) -> None:
    records = [
        {"$token": world.project.token, "$group_key": "Company", "$group_id": name, "$set": {}}
        for name in names(25)
    ]
    world.send(*records, endpoint="groups")
    world.store_users(["ada"])
    first = world.page(data_group_id="Company", page_size=10)
    second = world.page(data_group_id="Company", page_size=10, page=1, session_id=first["session_id"])
    bare = world.page(page=2, session_id=first["session_id"])
    assert ids_of(first) + ids_of(second) + ids_of(bare) == names(25)
