"""Replies byte for byte, as SDKs compare them (contract ingestion §6)."""

from __future__ import annotations

import pytest

from mixdown.http.forms import Params
from mixdown.http.reply import (
    GIF,
    Reply,
    callback_name,
    error_reply,
    not_allowed,
    outcome_reply,
    overloaded,
    problem_reply,
    too_large,
)
from mixdown.store.chunk import Outcome

GOOD = Outcome(2, 2)
MIXED = Outcome(3, 2, ((1, "$set", "$set, must be an object"),))
BAD = Outcome(2, 0, ((0, "$token", "$token, missing or empty"), (1, "", "data, must be an object")))

SOME = b"some data points in the request failed validation"
NO_SET_OBJECT = b'{"index":1,"field":"$set","message":"$set, must be an object"}'
NO_TOKEN = b'{"index":0,"field":"$token","message":"$token, missing or empty"}'
NO_OBJECT = b'{"index":1,"field":"","message":"data, must be an object"}'


def strict(error: bytes, failed: bytes, good: int) -> bytes:
    return (
        b'{"code":200,"error":"%b","failed_records":[%b],"num_good_events":%d,"num_records_imported":%d,"status":0}'
        % (error, failed, good, good)
    )


BODIES: list[tuple[str, Params, Outcome, bytes, bytes]] = [
    ("plain good", Params(), GOOD, b"text/plain", b"1"),
    ("plain mixed", Params(), MIXED, b"text/plain", b"1"),
    ("plain bad", Params(), BAD, b"text/plain", b"0"),
    ("verbose good", Params(verbose=True), GOOD, b"application/json", b'{"error":null,"status":1}'),
    ("verbose mixed", Params(verbose=True), MIXED, b"application/json", b'{"error":null,"status":1}'),
    (
        "verbose bad names the first error",
        Params(verbose=True),
        BAD,
        b"application/json",
        b'{"error":"$token, missing or empty","status":0}',
    ),
    (
        "strict good",
        Params(strict=True, verbose=True),
        GOOD,
        b"application/json",
        b'{"code":200,"error":null,"num_good_events":2,"num_records_imported":2,"status":1}',
    ),
    (
        "strict mixed",
        Params(strict=True),
        MIXED,
        b"application/json",
        strict(SOME, NO_SET_OBJECT, 2),
    ),
    (
        "strict bad",
        Params(strict=True),
        BAD,
        b"application/json",
        strict(SOME, NO_TOKEN + b"," + NO_OBJECT, 0),
    ),
    ("callback good", Params(callback="f"), GOOD, b"text/javascript", b"f(1);"),
    ("callback bad", Params(callback="f", strict=True), BAD, b"text/javascript", b"f(0);"),
    (
        "callback verbose good",
        Params(callback="mixpanel._jsc[12]", verbose=True),
        GOOD,
        b"text/javascript",
        b'mixpanel._jsc[12]({"error":null,"status":1});',
    ),
    (
        "callback verbose bad",
        Params(callback="f", verbose=True),
        BAD,
        b"text/javascript",
        b'f({"error":"$token, missing or empty","status":0});',
    ),
    ("no-op callback", Params(callback="(function(){})"), GOOD, b"text/javascript", b"(function(){})(1);"),
    ("bad callback name is ignored", Params(callback="alert(1)//"), GOOD, b"text/plain", b"1"),
    (
        "image wins over everything",
        Params(img=True, callback="f", strict=True, verbose=True),
        BAD,
        b"image/gif",
        GIF,
    ),
]


@pytest.mark.parametrize(
    ("params", "outcome", "content_type", "body"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES]
)
def test_the_reply_to_a_batch(params: Params, outcome: Outcome, content_type: bytes, body: bytes) -> None:
    reply = outcome_reply(params, outcome)
    headers = dict(reply.headers)
    assert (reply.status, reply.body, headers[b"content-type"]) == (200, body, content_type)
    assert headers[b"content-length"] == str(len(body)).encode()
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_the_image_is_a_gif_of_43_bytes_that_nobody_caches() -> None:
    reply = outcome_reply(Params(img=True), GOOD)
    assert (len(reply.body), reply.body[:6], reply.body[-1:]) == (43, b"GIF89a", b";")
    assert (b"cache-control", b"no-cache, no-store") in reply.headers


@pytest.mark.parametrize(
    ("params", "body"),
    [
        (Params(), b"0"),
        (Params(verbose=True), b'{"error":"data, invalid JSON","status":0}'),
        (
            Params(strict=True),
            strict(b"data, invalid JSON", b"", 0),
        ),
        (Params(callback="f", strict=True), b"f(0);"),
        (Params(img=True, strict=True), GIF),
    ],
)
def test_the_reply_to_a_body_without_records(params: Params, body: bytes) -> None:
    reply = problem_reply(params, "data, invalid JSON")
    assert (reply.status, reply.body) == (200, body)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("f", True),
        ("$", True),
        ("_a.b[0].$c", True),
        ("mixpanel._jsc[123]", True),
        ("a" * 128, True),
        ("(function(){})", True),
        ("a" * 129, False),
        ("", False),
        ("1a", False),
        (".a", False),
        ("a b", False),
        ("a\n", False),
        ("a;b", False),
        ("a(b)", False),
        ("<script>", False),
        ("ä", False),
        ("aä", False),
        ("(function(){alert(1)})", False),
    ],
)
def test_callback_names(name: str, taken: bool) -> None:
    assert callback_name(name) == (name if taken else "")


TOO_LARGE = b'{"code":413,"error":"request exceeds max limit of 9 bytes","status":"Request Entity Too Large"}'
OVERLOADED = b'{"error":"too much","status":0}'
NOT_ALLOWED = b'{"error":"Method Not Allowed","status":0}'
BROKEN = b'{"error":"broken","status":0}'


@pytest.mark.parametrize(
    ("reply", "status", "body", "more"),
    [
        (too_large("request exceeds max limit of 9 bytes"), 413, TOO_LARGE, {}),
        (overloaded("too much", 5), 503, OVERLOADED, {b"retry-after": b"5"}),
        (not_allowed("GET, OPTIONS"), 405, NOT_ALLOWED, {b"allow": b"GET, OPTIONS"}),
        (error_reply(400, "broken"), 400, BROKEN, {}),
    ],
)
def test_replies_of_other_statuses(reply: Reply, status: int, body: bytes, more: dict[bytes, bytes]) -> None:
    assert (reply.status, reply.body) == (status, body)
    assert dict(reply.headers) == {
        b"content-type": b"application/json",
        b"content-length": str(len(body)).encode(),
        b"x-content-type-options": b"nosniff",
        **more,
    }
