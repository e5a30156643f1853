"""The same reads over real HTTP, from a server with two workers and a fold process of its own."""

from __future__ import annotations

import base64
import http.cookiejar
import json
import math
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.serving import ACCOUNT, SECRET, TOKEN, Server, launch

USERS = [f"u{number:05}" for number in range(2500)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that holds 2,500 users, read at once after they were sent: reads wait for the fold."""
    running = launch(tmp_path_factory.mktemp("mixdown") / "data", workers=2)
    for start in range(0, len(USERS), 1250):
        records = [
            {"$token": TOKEN, "$distinct_id": name, "$set": {"n": place}}
            for place, name in enumerate(USERS[start : start + 1250], start)
        ]
        assert running.post("/engage?verbose=1", records).json()["status"] == 1
    yield running
    running.stop()


def ids_of(answer: Any) -> list[str]:
    return [row["$distinct_id"] for row in answer["results"]]


def basic(credentials: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


def test_mixpanel_utils_reads_pages_from_either_worker_in_parallel(server: Server) -> None:
    target = f"/api/2.0/engage?project_id={server.project_id}"
    first = server.get(target).json()
    last = math.ceil(first["total"] / first["page_size"]) - 1
    pages = [f"{target}&session_id={first['session_id']}&page={page}" for page in range(last, 0, -1)] * 4
    with ThreadPoolExecutor(4) as pool:
        rest = [reply.json() for reply in pool.map(server.get, pages)]
    by_page = {answer["page"]: ids_of(answer) for answer in rest}
    assert ids_of(first) + by_page[1] + by_page[2] == USERS


@pytest.mark.parametrize("page_size", [1000, 500, 625])
def test_airbyte_pages_by_its_own_arithmetic(server: Server, page_size: int) -> None:
    found: list[str] = []
    more: dict[str, object] = {}
    while True:
        answer = server.get(
            "/api/query/engage", project_id=server.project_id, page_size=page_size, **more
        ).json()
        found += ids_of(answer)
        if answer["total"] <= page_size * (answer["page"] + 1):
            break
        more = {"page": answer["page"] + 1, "session_id": answer["session_id"]}
    assert found == USERS


def test_tap_steps_one_page_past_the_end_with_a_bare_secret(server: Server) -> None:
    secret = basic(SECRET)
    found: list[str] = []
    offset, more, pages = 0, "", 0
    while True:
        answer = server.request("GET", f"/api/2.0/engage?page_size=250{more}", headers=secret).json()
        pages += 1
        found += ids_of(answer)
        offset += 250
        if not answer["results"] or offset > answer["total"]:
            break
        more = f"&session_id={answer['session_id']}&page={answer['page'] + 1}"
    assert (found, pages) == (USERS, 11)


def test_headless_posts_json_with_texts_inside_until_a_page_is_empty(server: Server) -> None:
    project = server.project_id
    target = f"/api/query/engage/?project_id={project}&query_origin=mixpanel-headless"
    body: dict[str, object] = {"project_id": str(project), "page": 0, "output_properties": '["n"]'}
    found: list[str] = []
    while True:
        answer = server.post(target, body, server.authorization()).json()
        if not answer["results"]:
            break
        found += ids_of(answer)
        assert all(list(row["$properties"]) == ["n"] for row in answer["results"])
        body |= {"page": answer["page"] + 1, "session_id": answer["session_id"]}
    assert found == USERS
    some = server.post(target, {"distinct_ids": '["u00007","x"]'}, server.authorization()).json()
    assert ids_of(some) == ["u00007"]


def test_mixpanel_import_posts_forms_with_paging_in_the_query(server: Server) -> None:
    form = server.authorization() | {"Content-Type": "application/x-www-form-urlencoded"}
    page, session, found = 0, "", list[str]()
    while True:
        target = f"/api/2.0/engage?page={page}&session_id={session}&project_id={server.project_id}"
        answer = server.post(target, b"where=&include_all_users=false", form).json()
        if not answer["results"]:
            break
        found += ids_of(answer)
        page, session = page + 1, answer["session_id"]
    assert found == USERS


def test_openpanel_pages_without_a_session(server: Server) -> None:
    form = server.authorization() | {"Content-Type": "application/x-www-form-urlencoded"}
    target = f"/api/query/engage?project_id={server.project_id}"
    found: list[str] = []
    for page in range(3):
        found += ids_of(server.post(target, f"page={page}&page_size=1000", form).json())
    assert found == USERS


def test_a_token_reads_nothing_and_bad_credentials_are_401(server: Server) -> None:
    for headers in ({}, basic(f"{TOKEN}:"), basic("nobody:x")):
        reply = server.request("GET", "/api/2.0/engage", headers=headers)
        assert reply.status == 401
        assert "Unable to authenticate request" in reply.json()["error"]
        assert reply.header("retry-after") is None
        assert reply.header("access-control-allow-origin") is None


def test_a_read_sees_what_was_acknowledged_before_it(server: Server) -> None:
    for number in range(25):
        record = {"$token": TOKEN, "$distinct_id": "zz-fresh", "$set": {"turn": number}}
        assert server.post("/engage", [record]).body == b"1"
        answer = server.get("/api/query/engage", project_id=server.project_id, distinct_id="zz-fresh").json()
        assert answer["results"][0]["$properties"]["turn"] == number
    server.post("/engage", [{"$token": TOKEN, "$distinct_id": "zz-fresh", "$delete": ""}])


def test_the_owner_mends_a_refusal_over_http(server: Server) -> None:
    bad = {"$token": TOKEN, "$set": {"plan": "pro"}}
    assert server.post("/engage", [bad]).body == b"0"
    refusal = server.get("/api/mixdown/refusals", limit=1).json()["results"][0]
    assert json.loads(refusal["record"]) == bad
    call = {"ids": [refusal["id"]], "record": bad | {"$distinct_id": "zz-mended"}}
    reply = server.post("/api/mixdown/refusals/resend", call, server.authorization()).json()
    assert reply["results"] == [{"id": refusal["id"], "stored": True, "error": None}]
    assert server.profiles(distinct_id="zz-mended")["zz-mended"]["plan"] == "pro"
    newest = server.get("/api/mixdown/records", limit=1).json()["results"][0]
    assert (newest["id"], newest["operations"]) == ("zz-mended", {"$set": {"plan": "pro"}})
    server.post("/engage", [{"$token": TOKEN, "$distinct_id": "zz-mended", "$delete": ""}])


def test_the_page_lets_a_browser_sign_in_and_out(server: Server) -> None:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    opener.addheaders = [("Accept", "text/html"), ("Origin", server.base_url)]

    def visit(target: str, **form: str) -> str:
        data = urllib.parse.urlencode(form).encode() if form else None
        with opener.open(server.base_url + target, data, timeout=60) as reply:
            text: str = reply.read().decode()
            return text

    assert TOKEN not in visit("/")
    signed_in = visit("/explorer/sign-in", username=ACCOUNT[0], password=ACCOUNT[1])
    assert TOKEN in signed_in
    assert "2,500" in signed_in
    csrf = re.search(r'name="csrf" value="(\w+)"', signed_in)
    assert csrf
    assert TOKEN not in visit("/explorer/sign-out", csrf=csrf[1])
