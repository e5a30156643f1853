"""Signing in to the explorer and out of it: who may, for how long, and what must not let anybody in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from mixdown.explorer import session
from mixdown.explorer.site import Explorer
from mixdown.http.app import App, make_app
from mixdown.http.attempts import FAILURES_ALLOWED
from mixdown.http.cookies import COOKIE_NAME, cookie_key, signed_in, verify
from mixdown.server.worker import application
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.credentials import secret_hash
from tests.engine import open_store
from tests.explorer.support import BROWSER, SIGN_IN, SIGN_OUT, tags_of
from tests.reads.support import (
    IMPORTER,
    PASSWORD,
    READER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
)


def look(world: World, **options: Any) -> httpx.Response:
    """What a browser sees at `/`, wherever that sends it."""
    headers = {"Accept": BROWSER, **options.pop("headers", {})}
    return world.get("/", user=None, headers=headers, follow_redirects=True, **options)


def sign_in(world: World, username: str = READER, password: str = PASSWORD, **headers: str) -> httpx.Response:
    form = {"username": username, "password": password}
    return world.post(SIGN_IN, user=None, data=form, headers={"Accept": BROWSER, **headers})


def csrf_of(reply: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', reply.text)
    assert found
    return found[1]


def test_signed_out_the_page_gives_nothing_away(world: World) -> None:
    world.store_users(["ada"])
    text = look(world).text
    for secret in (TOKEN, "ada\n", "default", READER):
        assert secret not in text


def test_every_field_has_a_label_and_every_section_a_name(world: World) -> None:
    tags = tags_of(look(world))
    labelled = {attributes["for"] for tag, attributes in tags if tag == "label"}
    fields = {a["id"] for tag, a in tags if tag == "input" and a.get("type") != "hidden"}
    assert fields == labelled
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    named = {a["aria-labelledby"] for _, a in tags if "aria-labelledby" in a}
    assert named <= ids
    assert ("html", {"lang": "en"}) in tags


def test_the_cookie_is_secure_under_tls(world: World) -> None:
    form = {"username": READER, "password": PASSWORD}
    reply = world.run(world.http.post(f"https://mixdown.test{SIGN_IN}", data=form))
    assert "secure" in reply.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("username", "password"),
    [
        (READER, "wrong"),
        (READER, ""),
        ("nobody", PASSWORD),
        ("", ""),
        (TOKEN, ""),
        (SECRET, ""),
        (READER, TOKEN),
    ],
)
def test_a_wrong_password_sets_no_cookie_and_says_so(world: World, username: str, password: str) -> None:
    reply = sign_in(world, username, password)
    assert reply.status_code == 401
    assert "set-cookie" not in reply.headers
    assert "No service account has this name and password." in reply.text
    assert "www-authenticate" not in reply.headers, "or the browser would ask as well"


def test_an_account_that_may_not_read_cannot_sign_in(world: World) -> None:
    reply = sign_in(world, IMPORTER)
    assert reply.status_code == 403
    assert "set-cookie" not in reply.headers


def test_attempts_are_bounded_per_address_and_the_bound_passes(world: World) -> None:
    for _ in range(10):
        assert sign_in(world, password="wrong").status_code == 401
    assert sign_in(world).status_code == 429, "not even the right password now"
    world.now_ms += 61_000
    assert sign_in(world).status_code == 303


def test_a_form_from_another_site_is_refused(world: World) -> None:
    for headers in ({"Origin": "http://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        reply = sign_in(world, **headers)
        assert reply.status_code == 403
        assert "set-cookie" not in reply.headers
    assert sign_in(world, Origin="http://mixdown.test").status_code == 303


@pytest.mark.parametrize("body", [b"x" * 9000, b"\xff=1", b"&".join([b"a=1"] * 11)])
def test_a_body_that_is_no_small_form_is_refused(world: World, body: bytes) -> None:
    assert world.post(SIGN_IN, user=None, content=body).status_code == 403


def test_signing_out_needs_the_token_of_the_form(world: World) -> None:
    sign_in(world)
    csrf = csrf_of(look(world))
    for wrong in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "é"}):
        assert world.post(SIGN_OUT, user=None, data=wrong).status_code == 403
    assert (
        world.post(
            SIGN_OUT, user=None, data={"csrf": csrf}, headers={"Origin": "http://evil.test"}
        ).status_code
        == 403
    )
    assert READER in look(world).text
    reply = world.post(SIGN_OUT, user=None, data={"csrf": csrf})
    assert (reply.status_code, reply.headers["location"]) == (303, SIGN_IN)
    assert READER not in look(world).text


def with_cookie(world: World, cookie: str) -> str:
    """What somebody sees at `/` who brings this cookie alone."""
    world.http.cookies.clear()
    world.http.cookies.set(COOKIE_NAME, cookie)
    return look(world).text


def test_a_copy_of_the_cookie_is_nothing_once_its_session_was_signed_out_of(world: World) -> None:
    sign_in(world)
    other = world.http.cookies[COOKIE_NAME]
    world.http.cookies.clear()
    sign_in(world)
    copy, csrf = world.http.cookies[COOKIE_NAME], csrf_of(look(world))
    headers = {"Cookie": f"{COOKIE_NAME}={copy}", "X-CSRF-Token": csrf}
    status = "/api/mixdown/status"
    assert world.get(status, user=None, headers=headers).status_code == 200
    assert world.post(SIGN_OUT, user=None, data={"csrf": csrf}).status_code == 303
    assert READER not in with_cookie(world, copy)
    world.http.cookies.clear()
    assert world.get(status, user=None, headers=headers).status_code == 401
    assert READER in with_cookie(world, other), "the session of another browser goes on"
    world.now_ms += 11 * 3_600_000
    assert READER not in with_cookie(world, copy)


def test_a_session_that_ended_stays_ended_when_the_server_starts_again(world: World, tmp_path: Path) -> None:
    sign_in(world)
    copy = world.http.cookies[COOKIE_NAME]
    world.post(SIGN_OUT, user=None, data={"csrf": csrf_of(look(world))})
    again = open_store(tmp_path / "data", role="worker", create=False)
    try:
        view = CatalogCache(again.catalog).current()
        assert verify(cookie_key(again.catalog), copy, view.accounts, now_s=world.now_ms // 1000)
        assert signed_in(copy, again.catalog, view, now_ms=world.now_ms) is None
    finally:
        again.close()


def test_the_token_of_another_session_does_not_sign_out(world: World) -> None:
    sign_in(world, STRANGER)
    foreign = csrf_of(look(world))
    world.http.cookies.clear()
    sign_in(world)
    assert world.post(SIGN_OUT, user=None, data={"csrf": foreign}).status_code == 403


def test_a_cookie_ends_after_twelve_hours(world: World) -> None:
    sign_in(world)
    cookie = world.http.cookies[COOKIE_NAME]
    world.now_ms += 12 * 3_600_000 - 1000
    assert READER in look(world).text
    world.now_ms += 1000
    world.http.cookies.clear()
    assert READER not in look(world, headers={"Cookie": f"{COOKIE_NAME}={cookie}"}).text


def test_a_cookie_ends_with_its_account_or_password(world: World) -> None:
    catalog = world.store.catalog
    sign_in(world)
    account = next(account for account in catalog.accounts() if account.username == READER)
    catalog.delete_account(READER)
    assert READER not in look(world).text
    catalog.create_account(type(account)(READER, secret_hash("another"), account.project_id, "consumer", 0))
    assert READER not in look(world).text


@pytest.mark.parametrize("host", ["evil.test/<script>", "a b", '"><script>', "x" * 300])
def test_a_strange_host_header_does_not_reach_the_page(world: World, host: str) -> None:
    text = look(world, headers={"Host": host}).text
    assert host not in text
    assert "http://127.0.0.1:6493" in text


def test_an_internal_part_keeps_the_page_off_the_public_port(world: World) -> None:
    explorer = Explorer(world.services)
    public = make_app(world.services, extra_routes=explorer.routes(), page=explorer.page, part="public")
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=public), base_url="http://mixdown.test")
    replies = world.at_once(
        client.get("/", headers={"Accept": BROWSER}), client.post(SIGN_IN, data={"username": "x"})
    )
    assert replies[0].json()["error"].startswith("Welcome.")
    assert replies[1].status_code == 404


def test_a_browser_gets_a_page_and_everyone_else_the_welcome_object(world: World) -> None:
    reply = look(world)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "Sign in to Mixdown" in reply.text
    for accept in ("*/*", "", "application/json"):
        other = world.get("/", user=None, headers={"Accept": accept})
        assert other.json()["error"].startswith("Welcome.")


def test_signing_in_sets_a_strict_cookie_and_leads_to_the_first_project(world: World) -> None:
    reply = sign_in(world)
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    cookie = reply.headers["set-cookie"].lower()
    for part in ("httponly", "samesite=strict", "max-age=43200", "path=/"):
        assert part in cookie
    assert "secure" not in cookie, "this request came over plain HTTP"
    reply = world.get("/", user=None, headers={"Accept": BROWSER})
    assert (reply.status_code, reply.headers["location"]) == (303, f"/explorer/{world.project.id}")


def test_without_the_explorer_there_is_no_page_for_anybody(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data", role="worker", create=True)
    plain = World(store, explorer=False)
    try:
        served = application(plain.services, internal_port=0)
        assert isinstance(served, App)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=served), base_url="http://mixdown.test")
        headers = {"Accept": BROWSER}
        targets = ("/", "/explorer", "/explorer/1", SIGN_IN, "/static/app.css", "/docs", "/openapi.json")
        welcome, *missing, described = plain.at_once(*(client.get(to, headers=headers) for to in targets))
        assert welcome.json()["error"].startswith("Welcome.")
        assert [reply.status_code for reply in missing] == [404] * 5
        assert not {path for path in described.json()["paths"] if path.startswith(("/explorer", "/static"))}
        posted = plain.run(client.post(SIGN_IN, data={"username": READER, "password": PASSWORD}))
        assert posted.status_code == 404
    finally:
        plain.close()


@pytest.mark.parametrize(
    ("trusted", "forwarded", "is_secure"),
    [("192.0.2.0/24", "https", True), ("192.0.2.0/24", "http", False), ("", "https", False)],
)
def test_behind_a_trusted_proxy_with_tls_the_cookie_is_secure(
    tmp_path: Path, trusted: str, forwarded: str, *, is_secure: bool
) -> None:
    store = open_store(tmp_path / "data", role="worker", create=True)
    behind = World(store, trusted_proxies=trusted)
    try:
        cookie = sign_in(behind, **{"X-Forwarded-Proto": forwarded}).headers["set-cookie"].lower()
        assert ("secure" in cookie) == is_secure
        behind.http.cookies.clear()
        shown = look(behind, headers={"X-Forwarded-Proto": forwarded}).text
        assert ("https://mixdown.test" in shown) == is_secure
    finally:
        behind.close()


def test_attempts_that_come_at_once_are_no_more_than_attempts_one_by_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FAILURE_PAUSE_S", 0.05)
    forms = [{"username": READER, "password": f"guess {number}"} for number in range(40)]
    replies = world.at_once(*(world.http.post(SIGN_IN, data=form) for form in forms))
    codes = [reply.status_code for reply in replies]
    assert codes.count(401) == FAILURES_ALLOWED
    assert codes.count(429) == len(forms) - FAILURES_ALLOWED


def test_who_signs_in_often_is_never_told_to_wait(world: World) -> None:
    assert {sign_in(world).status_code for _ in range(FAILURES_ALLOWED * 2)} == {303}
