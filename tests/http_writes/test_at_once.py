"""What takes the short way of small writes, and that it ends as the long way does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from mixdown.model.errors import OverloadedError
from tests.http_writes.worker import Worker, running

RECORD = {"$token": "TOK", "$distinct_id": "u1", "$set": {"a": 1}}
BODY = json.dumps([RECORD]).encode()
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def worker() -> Iterator[Worker]:
    yield from running()


@pytest.mark.parametrize(
    ("target", "body", "headers", "reply"),
    [
        ("/engage", BODY, JSON, b"1"),
        ("/engage", json.dumps(RECORD).encode(), JSON, b"1"),
        ("/engage?verbose=1", BODY, JSON, b'{"error":null,"status":1}'),
        ("/engage", b"data=" + BODY, {"Content-Type": "application/x-www-form-urlencoded"}, b"1"),
        (
            "/groups",
            b'[{"$token":"TOK","$group_key":"k","$group_id":"g","$set":{"a":1}}]',
            JSON,
            b"1",
        ),
        ("/track", b'[{"event":"E","properties":{"token":"TOK","distinct_id":"u1"}}]', JSON, b"1"),
        ("/track", b'[{"event":"E","properties":{"token":"TOK"}}]', JSON, b"1"),
    ],
)
def test_a_small_plain_request_is_taken_and_answered_as_ever(
    worker: Worker, target: str, body: bytes, headers: dict[str, str], reply: bytes
) -> None:
    answer = worker.ask_at_once("POST", target, body, headers)
    assert answer is not None
    assert (answer.status, answer.body) == (200, reply)
    assert worker.stored() == 1
    asked = worker.ask("POST", target, body, headers)
    assert (asked.status, asked.body) == (200, reply)
    assert [(name.decode(), value.decode()) for name, value in answer.headers] == [*asked.headers.items()]
    endpoint = target.partition("?")[0][1:]
    assert worker.counted("mixdown_records_total", endpoint=endpoint, outcome="stored") == 2
    assert worker.held_bytes() == 0


NOT_TAKEN: dict[str, tuple[str, str, bytes, dict[str, str]]] = {
    "another method": ("GET", "/engage", BODY, JSON),
    "another path": ("POST", "/import", BODY, JSON),
    "no plain event": ("POST", "/track", BODY, JSON),
    "a page that wants CORS": ("POST", "/engage", BODY, {**JSON, "Origin": "https://a.example"}),
    "a key of its own": ("POST", "/engage", BODY, {**JSON, "Idempotency-Key": "k"}),
    "a call of a browser": ("POST", "/engage?_=1", BODY, JSON),
    "a compressed body": ("POST", "/engage", BODY, {**JSON, "Content-Encoding": "gzip"}),
    "strict": ("POST", "/engage?strict=1", BODY, JSON),
    "no JSON": ("POST", "/engage", b"[{", JSON),
    "nothing": ("POST", "/engage", b"", JSON),
    "a record that is none": ("POST", "/engage", b"[7]", JSON),
    "a large body": ("POST", "/engage", b"[" + b" " * 70_000 + BODY[1:], JSON),
    "data in the query alone": ("POST", "/engage?data=" + quote(BODY), b"", JSON),
    "gzip that does not say so": ("POST", "/engage", gzip.compress(BODY), JSON),
    "too many records": ("POST", "/engage", json.dumps([RECORD] * 900).encode(), JSON),
}


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_what_wants_more_is_not_taken_and_nothing_has_happened_to_it(name: str) -> None:
    method, target, body, headers = NOT_TAKEN[name]
    for worker in running(records_per_request=800):
        assert worker.ask_at_once(method, target, body, headers) is None
        assert (worker.stored(), worker.refusals(), worker.held_bytes()) == (0, [], 0)


def test_a_token_that_nobody_has_is_refused_and_kept(worker: Worker) -> None:
    answer = worker.ask_at_once("POST", "/engage", BODY.replace(b"TOK", b"NO"), JSON)
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"0")
    assert [refusal.field for refusal in worker.refusals()] == ["$token"]


@pytest.mark.parametrize("error", [OSError("disk"), OverloadedError("full", retry_after_s=5)])
def test_a_commit_that_fails_is_answered_503(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def turn(*_: Any) -> None:
        raise error

    monkeypatch.setattr(worker.store.log, "turn", turn)
    answer = worker.ask_at_once("POST", "/engage", BODY, JSON)
    assert answer is not None
    assert answer.status == 503
    assert dict(answer.headers)[b"retry-after"] == b"5"
    assert worker.held_bytes() == 0


def test_while_the_gate_is_closed_nothing_is_taken(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(worker.ingest._gate), "check", lambda _: 0.5)
    assert worker.ask_at_once("POST", "/engage", BODY, JSON) is None
    assert worker.stored() == 0
