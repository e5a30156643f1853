"""What becomes of a request between socket and log: limits, refusals, overload, auxiliary paths, CORS."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from mixdown.http import ingestion
from mixdown.http.exchange import BodyReader, DisconnectedError
from mixdown.http.exchange import Receive as ReceiveType
from mixdown.ingest import pipeline
from mixdown.ingest.prepare import Submission
from mixdown.model import texts
from mixdown.model.errors import OverloadedError
from mixdown.store.chunk import Outcome
from tests.http_writes.worker import CLIENT, Answer, Message, Worker, running

RECORD = {"$token": "TOK", "$distinct_id": "u1", "$set": {"a": 1}}
BODY = json.dumps([RECORD]).encode()
JSON = {"Content-Type": "application/json"}
GZIP = {"Content-Encoding": "gzip"}
PAGE = {"Origin": "https://a.example"}
CORS = {
    "access-control-allow-origin": "https://a.example",
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "Retry-After",
    "vary": "Origin",
}


@pytest.fixture
def worker() -> Iterator[Worker]:
    yield from running()


def has_cors(answer: Answer) -> bool:
    return answer.headers | CORS == answer.headers


# --- the way of a good request ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/engage", "/engage/", "//engage/", "/engage//", "/engage#profile-set", "/engage/#profile-set"]
)
def test_every_spelling_of_a_path_reaches_its_handler(worker: Worker, path: str) -> None:
    assert worker.ask("POST", path, BODY, JSON)[::2] == (200, b"1")
    assert worker.stored() == 1


def test_a_body_in_pieces_is_put_together(worker: Worker) -> None:
    pieces = [BODY[at : at + 5] for at in range(0, len(BODY), 5)]
    assert worker.ask("POST", "/engage", [*pieces, b""], JSON).body == b"1"
    assert worker.stored() == 1


def test_what_the_pipeline_is_told(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Submission] = []

    async def submit(submission: Submission) -> Outcome:
        told.append(submission)
        return Outcome(1, 1)

    monkeypatch.setattr(worker.ingest, "submit", submit)
    headers = {**JSON, "Idempotency-Key": "k1", "User-Agent": "got (x)"}
    assert worker.ask("POST", "/groups/?strict=1", BODY, headers).status == 200
    assert worker.ask("POST", "/engage?ip=0", b'["\\u0000"]', JSON).status == 200
    first, second = told
    assert first == Submission(
        endpoint="groups",
        records=[RECORD],
        strict=True,
        hostile=False,
        ip_flag=None,
        client_ip=CLIENT[0],
        sdk="got",
        idempotency_key="k1",
        path="groups",
        body_bytes=len(BODY),
    )
    assert (second.ip_flag, second.client_ip, second.hostile) == (False, "", True)


def test_a_name_of_an_sdk_that_is_no_text_costs_nothing(worker: Worker) -> None:
    """A lone surrogate, which no store can hold."""
    body = b'[{"$token":"TOK","$distinct_id":"a","mp_lib":"x\\ud800","$set":{"a":1}},{"mp_lib":"x\\ud800"}]'
    assert worker.ask("POST", "/engage", body, JSON).body == b"1"
    assert worker.stored() == 1
    assert [refusal.sdk for refusal in worker.refusals()] == ["x\ufffd"]


def test_the_client_is_taken_from_trusted_proxies_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for trusted, expected in [("", CLIENT[0]), ("192.0.2.0/24", "81.2.69.160")]:
        for worker in running(trusted_proxies=trusted):
            told: list[Submission] = []

            async def submit(submission: Submission, told: list[Submission] = told) -> Outcome:
                told.append(submission)
                return Outcome(1, 1)

            monkeypatch.setattr(worker.ingest, "submit", submit)
            worker.ask("POST", "/engage", BODY, {**JSON, "X-Forwarded-For": "81.2.69.160"})
            assert told[0].client_ip == expected


# --- bodies that are refused whole -----------------------------------------------------------------

TOO_LARGE = {
    "code": 413,
    "error": "request exceeds max limit of 2000 bytes",
    "status": "Request Entity Too Large",
}
REFUSED: dict[str, tuple[str, bytes, dict[str, str], int, Any]] = {
    "malformed": ("/engage", b"[{", {}, 200, 0),
    "malformed, verbose": ("/engage?verbose=1", b"[{", {}, 200, {"error": "data, invalid JSON", "status": 0}),
    "missing": ("/groups", b"", {}, 200, 0),
    "empty": ("/engage?verbose=1", b"[]", {}, 200, {"error": "data, missing or empty", "status": 0}),
    "broken gzip": (
        "/engage",
        b"no gzip",
        {"Content-Encoding": "gzip"},
        400,
        {"error": "could not decompress request body", "status": 0},
    ),
    "unknown encoding": (
        "/engage",
        BODY,
        {"Content-Encoding": "br"},
        400,
        {"error": "content encoding br is not supported: send gzip or no encoding", "status": 0},
    ),
    "bomb": ("/engage", gzip.compress(b" " * 5000), {}, 413, TOO_LARGE),
    "too long": ("/engage", b"[" + b" " * 5000, {}, 413, TOO_LARGE),
    "too many records": (
        "/engage?strict=1",
        b"[" + b"{}," * 3 + b"{}]",
        {},
        413,
        {
            "code": 413,
            "error": "request exceeds max limit of 3 records",
            "status": "Request Entity Too Large",
        },
    ),
    "too long a key": (
        "/engage",
        BODY,
        {"Idempotency-Key": "k" * 256},
        400,
        {"error": "Idempotency-Key, must be at most 255 characters", "status": 0},
    ),
}


@pytest.mark.parametrize(
    ("target", "body", "headers", "status", "reply"), REFUSED.values(), ids=list(REFUSED)
)
def test_a_body_refused_whole_is_kept_with_its_start(
    target: str, body: bytes, headers: dict[str, str], status: int, reply: Any
) -> None:
    for worker in running(body_limit_bytes=2000, records_per_request=3):
        sent = {**JSON, **PAGE, "User-Agent": "test/1 (x)", **headers}
        answer = worker.ask("POST", target, body, sent)
        assert (answer.status, json.loads(answer.body)) == (status, reply)
        assert has_cors(answer)
        assert "retry-after" not in answer.headers
        (refusal,) = worker.refusals()
        assert (refusal.project, refusal.endpoint, refusal.whole, refusal.sdk) == (
            1 if b"TOK" in body else 0,
            target.partition("?")[0].strip("/"),
            False,
            "test/1",
        )
        assert len(refusal.record.encode()) <= 3 * 1024
        if isinstance(reply, dict):
            assert refusal.message == reply["error"]
        assert worker.stored() == 0


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("[{", ':"TOK"},{},{},{}]'),
        ("[{", ': "TOK", '),
        ("data=%5B%7B", "%3A+%22TOK%22%2C"),
        ('"[{', ':\\"TOK\\",'),
        ("[{", ':"TOK"},"' + "x" * 2000),
    ],
    ids=["too many records", "malformed", "malformed form", "malformed in a string", "too long"],
)
def test_a_body_refused_whole_is_filed_under_the_project_whose_token_it_shows(start: str, end: str) -> None:
    for worker in running(body_limit_bytes=2000, records_per_request=3):
        for name in ('"$token"', '"token"'):
            quoted = {"d": quote(name), '"': name.replace('"', '\\"')}.get(start[0], name)
            worker.ask("POST", "/engage", (start + quoted + end).encode(), {"Content-Type": "text/plain"})
        assert [refusal.project for refusal in worker.refusals()] == [1, 0]


def test_too_many_records_in_base64_are_filed_under_the_project_of_the_first(worker: Worker) -> None:
    records = [RECORD] * (worker.settings.records_per_request + 1)
    worker.ask("POST", "/engage", b"data=" + base64.b64encode(json.dumps(records).encode()))
    assert [refusal.project for refusal in worker.refusals()] == [1]


def test_a_body_refused_whole_is_not_filed_under_a_project_that_is_gone(worker: Worker) -> None:
    worker.store.catalog.delete_project(worker.project.id)
    worker.ask("POST", "/engage", b'[{"$token":"TOK"')
    assert [refusal.project for refusal in worker.refusals()] == [0]


def test_the_limits_themselves_are_allowed() -> None:
    for worker in running(body_limit_bytes=2000, records_per_request=3):
        body = json.dumps([RECORD] * 3).encode().ljust(2000)
        headers = {**JSON, "Idempotency-Key": "k" * 255}
        assert worker.ask("POST", "/engage", body, headers).body == b"1"
        assert worker.ask("POST", "/engage", [body[:900], body[900:], b""], JSON).body == b"1"


def test_a_body_over_the_limit_is_read_on_so_that_its_sender_sees_the_reply() -> None:
    for worker in running(body_limit_bytes=2000):
        pieces = [b"[" + b"x" * 999] + [b"y" * 1000] * 5 + [b""]
        answer = worker.ask("POST", "/engage", pieces, JSON)
        assert answer.status == 413
        assert "connection" not in answer.headers
        (refusal,) = worker.refusals()
        assert refusal.record == "[" + "x" * 999 + "y" * 24


def test_a_body_without_end_is_not_read_for_ever() -> None:
    for worker in running(body_limit_bytes=2000):
        endless = [{"type": "http.request", "body": b"y" * 1000, "more_body": True}] * 1000
        sent, taken = worker.play("POST", "/engage", endless, JSON)
        assert sent[0]["status"] == 413
        assert (b"connection", b"close") in sent[0]["headers"]
        assert taken < 12


@pytest.mark.parametrize("path", ["/engage", "/record/"])
def test_a_client_that_goes_away_is_not_answered_and_stores_nothing(worker: Worker, path: str) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": BODY, "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert worker.play("POST", path, messages, JSON) == ([], 2)
    assert (worker.stored(), worker.refusals()) == (0, [])


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"[" + b" " * 1_100_000 + BODY[1:], {}),
        (gzip.compress(b"[" + BODY[1:-1] + b"," + os.urandom(9000).hex().encode() + b"]"), GZIP),
    ],
    ids=["plain", "gzip"],
)
def test_a_large_body_is_decoded_and_judged_beside_the_event_loop(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, body: bytes, headers: dict[str, str]
) -> None:
    """So that small requests do not wait for it; a small one is spared the way to a thread."""
    threads: list[tuple[str, bool]] = []

    def watch(module: Any, name: str) -> None:
        original = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            threads.append((name, threading.current_thread() is threading.main_thread()))
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    watch(ingestion, "decode")
    watch(pipeline, "prepare")
    assert worker.ask("POST", "/engage", BODY, JSON).body == b"1"
    assert threads == [("decode", True), ("prepare", True)]
    threads.clear()
    worker.ask("POST", "/engage", body, {**JSON, **headers})
    assert ("decode", False) in threads
    assert [name for name, in_loop in threads if in_loop and not headers] == []


# --- overload and faults ---------------------------------------------------------------------------


@pytest.mark.parametrize("body", [BODY, b"[{", b""])
def test_an_overloaded_server_answers_503_to_be_tried_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    async def overloaded(*_: object, **__: object) -> Outcome:
        raise OverloadedError(texts.OVERLOADED_DISK, retry_after_s=5)

    monkeypatch.setattr(worker.ingest, "submit", overloaded)
    monkeypatch.setattr(worker.ingest, "refuse_body", overloaded)
    answer = worker.ask("POST", "/engage?verbose=1", body, {**JSON, **PAGE})
    assert answer.status == 503
    assert json.loads(answer.body) == {"error": "the server is short of disk space", "status": 0}
    assert answer.headers["retry-after"] == "5"
    assert has_cors(answer)


def test_a_fault_of_ours_is_answered_and_logged(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: object) -> Outcome:
        raise RuntimeError("a fault")

    monkeypatch.setattr(worker.ingest, "submit", broken)
    with capture_logs() as lines:
        answer = worker.ask("POST", "/engage", BODY, {**JSON, **PAGE})
    assert (answer.status, json.loads(answer.body)) == (500, {"error": "internal error", "status": 0})
    assert has_cors(answer)
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["a request failed"]


def test_bodies_that_are_held_have_a_limit_together() -> None:
    reader = BodyReader(1000, held_limit_bytes=1500)

    def arriving(*pieces: bytes) -> ReceiveType:
        messages = iter(
            [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
            + [{"type": "http.request", "body": b"", "more_body": False}]
        )

        async def receive() -> Any:
            return next(messages)

        return receive

    async def scenario() -> None:
        first = await reader.read(arriving(b"x" * 900))
        with pytest.raises(OverloadedError):
            await reader.read(arriving(b"x" * 500, b"y" * 200))
        assert reader.held_bytes == 900
        oversized = await reader.read(arriving(b"x" * 500, b"y" * 501, b"z" * 501))
        assert (oversized.oversized, oversized.complete, oversized.size_bytes) == (True, True, 1502)
        assert reader.held_bytes == 900
        reader.release(oversized)
        reader.release(first)
        assert reader.held_bytes == 0

    asyncio.run(scenario())


def test_an_oversized_body_is_let_go_of_while_its_rest_is_read() -> None:
    reader = BodyReader(1000)
    held: list[int] = []

    async def receive() -> Any:
        held.append(reader.held_bytes)
        return {"type": "http.request", "body": b"x" * 600, "more_body": len(held) < 5}

    asyncio.run(reader.read(receive))
    assert held == [0, 600, 0, 0, 0]


@pytest.mark.parametrize(
    "body",
    [BODY, b"[{", b"", b"x" * 5000, gzip.compress(b" " * 5000), b"[{},{},{},{}]"],
    ids=["good", "malformed", "empty", "too long", "bomb", "too many"],
)
def test_no_request_leaves_its_body_held(body: bytes) -> None:
    for worker in running(body_limit_bytes=2000, records_per_request=3):
        worker.ask("POST", "/engage", body, JSON)
        worker.ask("POST", "/engage", [body[:1], body[1:], b""], JSON)
        assert worker.held_bytes() == 0


def test_a_body_cut_off_is_not_held() -> None:
    reader = BodyReader(1000)
    messages = iter([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    with pytest.raises(DisconnectedError):
        asyncio.run(reader.read(receive))
    assert reader.held_bytes == 0


# --- auxiliary paths ----------------------------------------------------------------------------------

TAKEN = {"code": 200, "status": "OK"}
AUXILIARY: list[tuple[str, str, Any]] = [
    ("GET", "/flags", {"flags": {}}),
    ("GET", "/flags/?context=%7B%7D&token=TOK", {"flags": {}}),
    ("GET", "/flags/definitions", {"flags": []}),
    ("GET", "/flags/definitions/", {"flags": []}),
    ("POST", "/flags/abc/first-time-events", TAKEN),
    ("POST", "/flags/abc/first-time-events/", TAKEN),
    ("GET", "/settings/?sdk_config=1", {"sdk_config": {"config": {}}}),
    ("GET", "/settings", {"sdk_config": {"config": {}}}),
    ("POST", "/record/", TAKEN),
    ("POST", "/record", TAKEN),
    (
        "GET",
        "/decide",
        {"notifications": [], "config": {}, "surveys": [], "event_bindings": [], "variants": []},
    ),
    (
        "GET",
        "//decide/",
        {"notifications": [], "config": {}, "surveys": [], "event_bindings": [], "variants": []},
    ),
]


@pytest.mark.parametrize(("method", "target", "reply"), AUXILIARY)
def test_auxiliary_paths_answer_benignly(worker: Worker, method: str, target: str, reply: Any) -> None:
    answer = worker.ask(method, target, b"whatever" if method == "POST" else b"", PAGE)
    assert (answer.status, json.loads(answer.body)) == (200, reply)
    assert answer.headers["content-type"] == "application/json"
    assert has_cors(answer)
    assert "access-control-allow-origin" not in worker.ask(method, target).headers


def test_what_auxiliary_paths_discard_is_counted(worker: Worker) -> None:
    worker.ask("POST", "/record/", [b"x" * 1000, b"y" * 500, b""])
    worker.ask("POST", "/record/", b"z")
    worker.ask("POST", "/flags/abc/first-time-events", b"12345")
    name = "mixdown_auxiliary_discarded"
    assert worker.counted(f"{name}_total", path="/record") == 2
    assert worker.counted(f"{name}_bytes_total", path="/record") == 1501
    assert worker.counted(f"{name}_bytes_total", path="/flags/{id}/first-time-events") == 5


def test_an_endless_recording_is_not_read_for_ever() -> None:
    for worker in running(body_limit_bytes=2000):
        endless = [{"type": "http.request", "body": b"y" * 1000, "more_body": True}] * 1000
        sent, taken = worker.play("POST", "/record/", endless, PAGE)
        assert sent[0]["status"] == 413
        assert taken < 12


# --- methods, preflights and paths that are none ---------------------------------------------------

ALLOWED = [
    ("/engage", "GET, POST, OPTIONS"),
    ("/groups/", "GET, POST, OPTIONS"),
    ("/track", "GET, POST, OPTIONS"),
    ("/import", "GET, POST, OPTIONS"),
    ("/lookup-tables", "GET, OPTIONS"),
    ("/lookup-tables/x", "PUT, POST, OPTIONS"),
    ("/flags", "GET, OPTIONS"),
    ("/flags/x/first-time-events", "POST, OPTIONS"),
    ("/settings/", "GET, OPTIONS"),
    ("/record/", "POST, OPTIONS"),
    ("/decide", "GET, OPTIONS"),
]


@pytest.mark.parametrize(("path", "allow"), ALLOWED)
@pytest.mark.parametrize("method", ["DELETE", "PATCH", "HEAD", "PROPFIND"])
def test_other_methods_are_answered_405_with_those_allowed(
    worker: Worker, path: str, allow: str, method: str
) -> None:
    answer = worker.ask(method, path, b"", PAGE)
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    assert json.loads(answer.body) == {"error": "Method Not Allowed", "status": 0}
    assert has_cors(answer)


@pytest.mark.parametrize(("path", "allow"), ALLOWED)
def test_preflights_allow_credentials_and_the_headers_asked_for(
    worker: Worker, path: str, allow: str
) -> None:
    asked = {
        **PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-custom",
    }
    answer = worker.ask("OPTIONS", path + "?verbose=1", b"", asked)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers == {
        **CORS,
        "allow": allow,
        "access-control-allow-methods": "GET, POST, PUT, OPTIONS",
        "access-control-allow-headers": "content-type,x-custom",
        "access-control-max-age": "1728000",
    }
    answer = worker.ask("OPTIONS", path, b"", PAGE)
    assert answer.headers["access-control-allow-headers"] == (
        "Content-Type, Content-Encoding, Authorization, traceparent, X-Requested-With"
    )
    answer = worker.ask("OPTIONS", path)
    assert (answer.status, answer.headers) == (204, {"allow": allow})


WELCOME = {"error": "Welcome. Get started with our API by visiting https://developer.mixpanel.com/"}
ELSEWHERE: list[tuple[str, str, int, Any]] = [
    ("GET", "/", 200, WELCOME),
    ("GET", "//", 200, WELCOME),
    ("GET", "/nope", 404, {"error": "Not Found", "status": 0}),
    ("POST", "/engaged", 404, {"error": "Not Found", "status": 0}),
    ("GET", "/lib.min.js", 404, {"error": "Not Found", "status": 0}),
    ("GET", "/flags/a/b/c", 404, {"error": "Not Found", "status": 0}),
    ("OPTIONS", "/nope", 404, {"error": "Not Found", "status": 0}),
    ("POST", "/", 405, {"error": "Method Not Allowed", "status": 0}),
    *(
        (method, path, 400, {"request": path, "error": "Invalid API endpoint", "status": "error"})
        for method in ("GET", "POST")
        for path in ("/api/2.0/nope", "/api/query/nope/", "/api/query", "/api/2.0/")
    ),
    (
        "GET",
        "/api/app/nope?x=1",
        404,
        {"request": "/api/app/nope?x=1", "error": "Not Found", "status": "error"},
    ),
]


@pytest.mark.parametrize(("method", "target", "status", "reply"), ELSEWHERE)
def test_paths_that_are_none(worker: Worker, method: str, target: str, status: int, reply: Any) -> None:
    answer = worker.ask(method, target, b"", PAGE)
    assert (answer.status, json.loads(answer.body)) == (status, reply)
    assert answer.headers["content-type"] == "application/json"
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert "location" not in answer.headers


def test_requests_are_counted_by_route_never_by_what_clients_write(worker: Worker) -> None:
    worker.ask("POST", "/engage/", BODY, JSON)
    worker.ask("GET", "/u1/secret")
    worker.ask("GET", "/livez/")
    assert worker.counted("mixdown_requests_total", endpoint="/engage", status="200") == 1
    assert worker.counted("mixdown_requests_total", endpoint="other", status="404") == 1
    assert worker.counted("mixdown_requests_total", endpoint="/livez", status="200") == 1
    assert worker.counted("mixdown_records_total", endpoint="engage", outcome="stored") == 1


def test_a_surface_of_its_own_serves_its_part_alone() -> None:
    for worker in running(part="public"):
        assert worker.ask("POST", "/engage", BODY, JSON).body == b"1"
        assert worker.ask("GET", "/readyz").status == 200
        assert worker.ask("GET", "/api/query/engage").status == 400
        assert worker.ask("GET", "/metrics").status == 404
    for worker in running(part="internal"):
        assert worker.ask("POST", "/engage", BODY, JSON).status == 404
        assert worker.ask("GET", "/decide").status == 404
        assert worker.ask("GET", "/api/query/engage").status == 401
        assert worker.ask("GET", "/livez").status == 200
