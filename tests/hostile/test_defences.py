"""What SECURITY.md says is defended, tried: injection, tricks with paths, reflection, guessing, leaking."""

from __future__ import annotations

import base64
import json
import re
import socket
import stat
import time
from hmac import compare_digest
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from mixdown.http import cors, metrics
from mixdown.http.reply import callback_name
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.credentials import secret_hash
from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import Account
from tests.hostile.wire import send_all
from tests.serving import ACCOUNT, SECRET, TOKEN, Response, Server

EVIL = "https://evil.example"
RECORD = json.dumps({"$token": TOKEN, "$distinct_id": "u", "$set": {"a": 1}})
READS = ("/api/query/engage", "/api/2.0/engage", "/api/mixdown/status", "/metrics", "/livez", "/docs", "/")
PAGES = ("/", "/docs")


def write(server: Server, parameters: str) -> Response:
    return server.request("GET", f"/engage?data={quote(RECORD)}&{parameters}")


# --- injection


@pytest.mark.parametrize(
    "callback",
    [
        "alert(1)//",
        "f;evil",
        "f</script><script>",
        "f\r\nSet-Cookie: a=b",
        "ƒ",
        "f g",
        "f" * 200,
        "f`x`",
        "'f'",
        "1",
    ],
)
def test_a_callback_that_is_no_name_of_a_function_is_not_reflected(server: Server, callback: str) -> None:
    assert callback_name(callback) == ""
    answer = write(server, f"callback={quote(callback)}")
    assert (answer.body, answer.header("content-type")) == (b"1", "text/plain")
    assert answer.header("set-cookie") is None


def test_a_callback_is_answered_as_a_script_that_no_browser_takes_for_a_page(server: Server) -> None:
    answer = write(server, "callback=f")
    assert answer.body == b"f(1);"
    assert answer.header("content-type") == "text/javascript"
    assert answer.header("x-content-type-options") == "nosniff"


@pytest.mark.parametrize("redirect", [EVIL, "//evil.example", "/%5cevil.example"])
def test_the_parameter_redirect_is_ignored(server: Server, redirect: str) -> None:
    answer = write(server, f"redirect={quote(redirect)}")
    assert answer.status == 200
    assert answer.header("location") is None


@pytest.mark.parametrize(
    "header",
    [
        b"Origin: http://a\r\n Set-Cookie: a=b",
        b"Origin: http://a\nSet-Cookie: a=b",
        b"Origin: http://a\rSet-Cookie: a=b",
        b"Access-Control-Request-Headers: x\nSet-Cookie: a=b",
        b"Origin: http://a\0b",
    ],
)
@pytest.mark.parametrize("method", [b"OPTIONS", b"GET"])
def test_a_header_that_is_echoed_cannot_become_two(server: Server, header: bytes, method: bytes) -> None:
    text = b"%b /engage HTTP/1.1\r\nHost: x\r\nOrigin: http://ok\r\n%b\r\nConnection: close\r\n\r\n" % (
        method,
        header,
    )
    received, _ = send_all(server.base_url, text)
    head = received.partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0].lower() for line in re.split(rb"\r\n|\r|\n", head)]
    assert b"set-cookie" not in names
    assert b"\0" not in head


def test_texts_of_clients_do_not_reach_the_log(server: Server) -> None:
    marks = [f"mark{number}x" for number in range(6)]
    server.request("GET", f"/{marks[0]}?{marks[0]}=1")
    server.post("/engage", f"[{marks[1]}", {"Content-Type": "application/json"})
    server.post("/engage", f"--{marks[2]}\r\n\r\nnone", {"Content-Type": "multipart/form-data; boundary=xx"})
    server.request("GET", "/api/query/engage", headers={"Authorization": f"Basic {marks[3]}"})
    send_all(server.base_url, f"{marks[4]} / HTTP/1.1\r\n\r\n".encode())
    server.post("/engage", [{"$token": marks[5], "$distinct_id": "a\nlevel=error", "$set": {}}])
    assert [mark for mark in marks if mark in server.log_text()] == []
    assert "python_multipart" not in server.log_text()  # a line for each broken body would fill the disk


# --- paths


@pytest.mark.parametrize(
    "path",
    [
        "/static/../page.py",
        "/static/..%2fpage.py",
        "/static/%2e%2e%2fpage.py",
        "/static/%2e%2e/page.py",
        "/static//etc/passwd",
        "/static/app.css%00.py",
        "/static/..%5cpage.py",
        "/static/page.html",
    ],
)
def test_only_the_named_static_files_are_served(server: Server, path: str) -> None:
    assert server.request("GET", path).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/api/query/../mixdown/status",
        "//api//mixdown//status",
        "/api/mixdown/status/",
        "/api/mixdown/%73tatus",
        "/api%2fmixdown/status",
        "/api/mixdown/status#x",
        "/%2e/api/mixdown/status",
        "/engage/../api/mixdown/status",
        "/api/mixdown/status%00",
        "/metrics/../api/mixdown/status",
    ],
)
def test_no_spelling_of_a_path_reads_without_credentials(server: Server, path: str) -> None:
    answer = server.request("GET", path)
    assert answer.status in (400, 401, 404)
    assert b"projects" not in answer.body
    assert answer.header("location") is None


def test_metrics_asked_through_a_proxy_want_an_account(server: Server) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        for value in ("127.0.0.1", ""):
            assert server.request("GET", "//metrics", headers={name: value}).status == 401


# --- browsers


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
def test_no_read_lets_another_site_look_at_it(server: Server, path: str, method: str) -> None:
    headers = {"Origin": EVIL, "Access-Control-Request-Method": "GET", **server.authorization()}
    answer = server.request(method, path, headers=headers)
    assert [name for name, _ in answer.headers if name.lower().startswith("access-control")] == []


def test_ingestion_gives_other_sites_nothing_but_its_reply(server: Server) -> None:
    # credentials are allowed because the SDK asks for them; nothing on these paths looks at any
    answer = server.post("/engage", RECORD, {"Origin": EVIL, **server.authorization()})
    assert answer.header("access-control-allow-origin") == EVIL
    assert answer.header("vary") == "Origin"
    assert answer.body == b"1"
    assert cors.cors_headers(b"") == []


@pytest.mark.parametrize("path", PAGES)
def test_pages_cannot_be_framed_and_run_no_script_from_elsewhere(server: Server, path: str) -> None:
    answer = server.request("GET", path, headers={"Accept": "text/html"})
    policy = dict(
        part.strip().partition(" ")[::2]
        for part in (answer.header("content-security-policy") or "").split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == server.base_url.partition("://")[2] + "/static/"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert answer.header("x-frame-options") == "DENY"
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("cross-origin-opener-policy") == "same-origin"


def sign_in(server: Server, **headers: str) -> Response:
    form = f"username={quote(ACCOUNT[0])}&password={quote(ACCOUNT[1])}"
    host = urlsplit(server.base_url).netloc
    typed = {"Content-Type": "application/x-www-form-urlencoded", "Host": host, **headers}
    return server.request("POST", "/explorer/sign-in", form, typed)


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(server: Server) -> None:
    cookie = sign_in(server).header("set-cookie") or ""
    assert re.search(r";\s*httponly", cookie, re.IGNORECASE)
    assert re.search(r";\s*samesite=strict", cookie, re.IGNORECASE)
    assert re.search(r";\s*path=/", cookie, re.IGNORECASE)
    sent = {"Cookie": cookie.partition(";")[0]}
    for path in ("/api/mixdown/status", "/api/query/engage?project_id=1"):
        assert server.request("GET", path, headers=sent).status == 401


@pytest.mark.parametrize(
    "headers",
    [{"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)
def test_a_form_of_another_site_signs_nobody_in(server: Server, headers: dict[str, str]) -> None:
    answer = sign_in(server, **headers)
    assert answer.status == 403
    assert answer.header("set-cookie") is None


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://]", "a:b:c", "\xff"])
def test_an_origin_that_is_none_is_another_site(server: Server, origin: str) -> None:
    assert sign_in(server, Origin=origin).status == 403


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "]", "x:99999999", "a@b", "\xff", '"><script>'])
def test_a_host_that_is_none_is_not_reflected(server: Server, host: str) -> None:
    answer = server.request("GET", "/", headers={"Accept": "text/html", "Host": host})
    assert answer.status in (200, 400)
    assert host.encode("latin-1") not in answer.body.replace(b"[{", b"").replace(b"}]", b"") or len(host) < 3
    assert b'"><script>' not in answer.body


def test_a_form_of_another_site_sends_no_refusal_again(server: Server) -> None:
    headers = {**server.authorization(), "Sec-Fetch-Site": "cross-site", "Content-Type": "application/json"}
    assert server.request("POST", "/api/mixdown/refusals/resend", '{"ids":[1]}', headers).status == 403


# --- secrets


@pytest.mark.parametrize("name", ["known", "unknown"])
def test_passwords_are_compared_in_constant_time_whether_or_not_there_is_such_an_account(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def recording(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare_digest(one, other)

    monkeypatch.setattr("hmac.compare_digest", recording)
    store = MemoryStore()
    store.catalog.create_project(
        "p", token="T", secret_hash=secret_hash("s"), id_merge="simplified", now_ms=1
    )
    store.catalog.create_account(Account("known", secret_hash("right"), 1, "admin", 1))
    view = CatalogCache(store.catalog).current()
    assert view.account(name, "wrong", now_ms=1) is None
    assert [len(one) + len(other) for one, other in compared] == [64]
    assert view.project_of_secret("wrong") is None
    assert view.project_of_secret("s") is not None
    assert len(compared) == 2


def test_an_unknown_account_is_answered_as_a_wrong_password_is(server: Server) -> None:
    answers = {}
    for name, header in {
        "wrong password": f"{ACCOUNT[0]}:wrong",
        "no such account": "nobody:wrong",
        "wrong secret": "wrong:",
        "a token": f"{TOKEN}:",
    }.items():
        sent = {"Authorization": "Basic " + base64.b64encode(header.encode()).decode()}
        reply = server.request("GET", "/api/query/engage", headers=sent)
        answers[name] = (reply.status, reply.body)
    assert len(set(answers.values())) == 1


def test_nothing_secret_is_in_the_folder_in_clear_and_only_its_owner_may_look(server: Server) -> None:
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    files = [file for file in server.data_dir.rglob("*") if file.is_file()]
    assert files
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
        content = file.read_bytes()
        assert SECRET.encode() not in content, file
        assert ACCOUNT[1].encode() not in content, file
    assert SECRET not in server.log_text()
    command = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert SECRET.encode() not in command


# --- bounds


def test_many_fields_with_colliding_hashes_are_read_soon(server: Server) -> None:
    # integers as texts do not collide; Python's hash of texts is keyed anew in each process
    names = b",".join(b'"%d":1' % (number << 61) for number in range(20_000))
    began = time.monotonic()
    body = b'[{"$token":"%b","$distinct_id":"h","$set":{%b}}]' % (TOKEN.encode(), names)
    assert server.post("/engage", body, {"Content-Type": "application/json"}).body == b"1"
    assert time.monotonic() - began < 60


def test_labels_of_metrics_are_bounded_whatever_clients_ask_for(server: Server) -> None:
    for number in range(50):
        server.request("GET", f"/nowhere/{number}")
    text = server.get("/metrics").body.decode()
    assert "/nowhere" not in text
    assert 'endpoint="other"' in text
    assert metrics.CHILD_LIMIT <= 500


def test_a_socket_that_says_nothing_holds_nothing_up(server: Server) -> None:
    address = urlsplit(server.base_url)
    idle = [socket.create_connection((address.hostname or "", address.port or 80)) for _ in range(100)]
    try:
        assert server.post("/engage", RECORD, {"Content-Type": "application/json"}).body == b"1"
    finally:
        for wire in idle:
            wire.close()
