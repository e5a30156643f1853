"""Bad input over real HTTP: the reply that the contract names, no hang, and no lost neighbour.

Each case sends its odd thing between two good records where it can; those must be stored.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from mixdown.model import texts
from tests.contract.support import (
    A1,
    FORM,
    ONE,
    SET,
    TOKEN,
    V0,
    V1,
    ZERO,
    Case,
    G,
    R,
    Reply,
    Sent,
    empty,
    engage,
    exactly,
    run,
    strict_reply,
)
from tests.serving import Server

LIMIT_BYTES = 10_485_760
SOON_S = 60.0
FIRST, LAST = R({"$set": {"place": "first"}}, "first"), R({"$set": {"place": "last"}}, "last")
NEIGHBOURS = {"first": {"place": "first"}, "last": {"place": "last"}}
GZIPPED = {"Content-Encoding": "gzip"}
NOT_GZIP = exactly(400, {"error": texts.BODY_NOT_GZIP, "status": 0})
TOO_LARGE = exactly(
    413,
    {
        "code": 413,
        "error": "request exceeds max limit of 10485760 bytes",
        "status": "Request Entity Too Large",
    },
)


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def amid(raw: bytes | Any) -> bytes:
    """A list with something odd, given as raw JSON or as a value, between two good records."""
    middle = raw if isinstance(raw, bytes) else dumps(raw)
    return b"[%b,%b,%b]" % (dumps(FIRST), middle, dumps(LAST))


def raw_record(operation: bytes) -> bytes:
    """A record of u1 with an operation in raw JSON."""
    return b'{"$token":"TOK","$distinct_id":"u1",%b}' % operation


def alone(name: str, raw: bytes | Any, field: str, message: str) -> Iterator[Case]:
    """A record that fails alone: its neighbours are stored, the reply says 1, strict names it."""
    body = amid(raw)
    yield Case(name, Sent("/engage?verbose=1", body, V1), NEIGHBOURS)
    yield Case(
        f"{name}: strict", Sent("/engage?strict=1", body, strict_reply(2, (1, field, message))), NEIGHBOURS
    )
    batch = raw if isinstance(raw, bytes) else dumps(raw)
    yield Case(f"{name}: by itself", Sent("/engage?verbose=1", b"[%b]" % batch, V0(message)))


def kept(name: str, operation: bytes, profile: dict[str, Any]) -> Case:
    """A record that is stored after repair, neighbours and all."""
    body = amid(raw_record(operation))
    return Case(name, Sent("/engage?verbose=1", body, V1), {**NEIGHBOURS, "u1": profile})


TEXTS_TOO_DEAR = "record, holds more than 50000 lists, objects and names"


def malformed(
    name: str, body: bytes, content_type: str = "application/json", *, reason: str = "data, invalid JSON"
) -> Iterator[Case]:
    """A body that is no JSON at all."""
    for target, reply in [("/engage", ZERO), ("/groups?verbose=1", V0(reason))]:
        yield Case(f"{name}: {target}", Sent(target, body, reply, content_type=content_type))


BODIES = [
    Case("broken gzip", Sent("/engage", b"\x1f\x8b\x08 and so on", NOT_GZIP, headers=GZIPPED)),
    Case("cut gzip", Sent("/groups", gzip.compress(amid(FIRST))[:-3], NOT_GZIP, headers=GZIPPED)),
    Case("plain under gzip's header", Sent("/engage", amid(FIRST), NOT_GZIP, headers=GZIPPED)),
    Case("gzip bomb", Sent("/engage", gzip.compress(b" " * 200_000_000, 1), TOO_LARGE, headers=GZIPPED)),
    Case(
        "gzip bomb in a form",
        Sent("/engage", gzip.compress(b"data=" + b"%20" * 5_000_000, 1), TOO_LARGE, content_type=FORM),
    ),
    Case("body over the limit", Sent("/engage", b"[" + b" " * LIMIT_BYTES + b"]", TOO_LARGE)),
    Case("body far over the limit", Sent("/groups", b"x" * (3 * LIMIT_BYTES), TOO_LARGE)),
    Case(
        "body at the limit",
        Sent("/engage?verbose=1", amid(R(SET)).ljust(LIMIT_BYTES), V1),
        {**NEIGHBOURS, **A1},
    ),
    Case(
        "unknown encoding",
        Sent(
            "/engage",
            amid(R(SET)),
            exactly(400, {"error": texts.ENCODING_UNKNOWN.format(encoding="br"), "status": 0}),
            headers={"Content-Encoding": "br"},
        ),
    ),
    *malformed("truncated", amid(R(SET))[:-5]),
    *malformed("truncated in a string", amid(R(SET))[:-15]),
    *malformed("NaN", amid(raw_record(b'"$set":{"a":NaN}'))),
    *malformed("Infinity", amid(raw_record(b'"$set":{"a":-Infinity}'))),
    *malformed("nothing but brackets", b"[" * LIMIT_BYTES),
    *malformed("nothing but objects", b'{"a":' * (LIMIT_BYTES // 5), reason=TEXTS_TOO_DEAR),
    *malformed("percent signs", b"data=" + b"%" * (LIMIT_BYTES - 5), FORM),
    *malformed("words", b"hello", "text/plain"),
    *malformed("binary", bytes(range(256)) * 40, "application/octet-stream"),
    *malformed("base64 of words", b"data=" + base64.b64encode(b"hello"), FORM),
    *malformed("scalar", b"17"),
]

NO_OBJECT = ", must be an object"
NO_OBJECTS: tuple[Any, ...] = ("x", 5, True, None, [1], [[]])
NO_NAMES: tuple[Any, ...] = (5, True, None, [1], [None], [["a"]])
NO_GROUP_IDS: tuple[Any, ...] = (None, "", [], {}, [1])

RECORDS = [
    *alone("deep list", b"[" * 100_000 + b"]" * 100_000, "", "data, nested too deeply"),
    *alone(
        "deep value",
        raw_record(b'"$set":{"a":' + b'{"x":' * 20_000 + b"1" + b"}" * 20_001),
        "",
        "data, nested too deeply",
    ),
    *alone(
        "value deeper than 64 levels",
        R({"$set": {"a": json.loads("[" * 65 + "]" * 65)}}),
        "$set",
        "$set, nested too deeply",
    ),
    *alone(
        "record over 1 MB",
        R({"$set": {"a": "x" * 1_100_000}}),
        "",
        "record, must be at most 1048576 bytes of JSON",
    ),
    *alone("text", "x", "", "data, must be an object"),
    *alone("number", 5, "", "data, must be an object"),
    *alone("null", None, "", "data, must be an object"),
    *alone("list", [R(SET)], "", "data, must be an object"),
    *alone("empty object", {}, "$token", "$token, missing or empty"),
    *alone("unknown token", {**R(SET), "$token": "NOPE"}, "$token", "$token, no project has this token"),
    *(
        case
        for token in (None, 5, True, [], {}, [TOKEN], {"a": TOKEN})
        for case in alone(f"token {token!r}", {**R(SET), "$token": token}, "$token", texts.TOKEN_MISSING)
    ),
    *(
        case
        for value in NO_OBJECTS
        for operator in ("$set", "$set_once", "$add", "$append", "$union", "$remove", "$merge")
        for case in alone(
            f"{operator} {value!r}", R({operator: value}), operator, f"{operator}, must be an object"
        )
    ),
    *(
        case
        for value in (5, True, None, [1], [None], [["a"]])
        for case in alone(
            f"$unset {value!r}", R({"$unset": value}), "$unset", "$unset, must be a list of strings"
        )
    ),
]

DEEPEST = json.loads("[" * 64 + "]" * 64)
VALUES = [
    kept("value of 64 levels", b'"$set":{"a":%b}' % dumps(DEEPEST), {"a": DEEPEST}),
    kept("deep value in a field that nobody reads", b'"x":%b,"$set":{"a":1}' % dumps(DEEPEST), {"a": 1}),
    kept("overflow drops its key", b'"$set":{"a":1e999,"b":2}', {"b": 2}),
    kept("overflow inside drops the whole key", b'"$set":{"a":[{"x":-1e999}],"b":2}', {"b": 2}),
    kept("400 digits drop their key", b'"$set":{"a":%b,"b":2}' % (b"9" * 400), {"b": 2}),
    kept("5000 digits drop their key", b'"$set":{"a":-%b,"b":2}' % (b"9" * 5000), {"b": 2}),
    kept("25 digits become a double", b'"$set":{"a":1%b}' % (b"0" * 24), {"a": 1e24}),
    kept("64 bits", b'"$set":{"a":9223372036854775807}', {"a": 2**63 - 1}),
    kept("65 bits become a double", b'"$set":{"a":9223372036854775808}', {"a": 2.0**63}),
    kept("small beyond doubles is 0", b'"$set":{"a":1e-999}', {"a": 0.0}),
    kept("lone surrogates", b'"$set":{"a":"x\\ud800y","\\udfff":["\\udc00"]}', {"a": "x�y", "�": ["�"]}),
    kept("NUL", b'"$set":{"a":"x\\u0000y","b\\u0000":{"c\\u0000":1}}', {"a": "x�y", "b�": {"c�": 1}}),
    kept("surrogate pair", b'"$set":{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
    kept("invalid UTF-8", b'"$set":{"a":"x\xffy"}', {"a": "x�y"}),
    kept("two names that become one", b'"$set":{"a\\ud800":1,"a\\u0000":2}', {"a�": 2}),
    kept("duplicate names", b'"$set":{"a":1,"b":2,"a":3}', {"a": 3, "b": 2}),
    kept("huge name", b'"$set":{"%b":1}' % (b"k" * 5000), {"k" * 255: 1}),
    kept("empty name", b'"$set":{"":1}', {"": 1}),
    kept("huge text", b'"$set":{"a":"%b"}' % (b"x" * 500_000), {"a": "x" * 255}),
    kept("huge list drops its key", b'"$set":{"a":%b,"b":2}' % dumps([1] * 200_000), {"b": 2}),
    kept("odd $time", b'"$time":1e999,"$set":{"a":1}', {"a": 1}),
    kept(
        "odd fields beside",
        b'"$ip":{},"$time":[],"$ignore_time":{},"$mp_metadata":5,"$set":{"a":1}',
        {"a": 1},
    ),
    Case(
        "overflow under strict",
        Sent(
            "/engage?strict=1",
            amid(raw_record(b'"$set":{"a":1e999}')),
            strict_reply(2, (1, "$set.a", "$set.a, number is out of range")),
        ),
        NEIGHBOURS,
    ),
    Case(
        "invalid UTF-8 under strict",
        Sent(
            "/engage?strict=1",
            amid(raw_record(b'"$set":{"a":"\xff"}')),
            strict_reply(2, (1, "", "data, string should be valid utf8")),
        ),
        NEIGHBOURS,
    ),
    Case(
        "lone surrogate in an id",
        Sent("/engage", b'{"$token":"TOK","$distinct_id":"\\ud800","$set":{}}'),
        {"�": {}},
    ),
    Case("huge number as an id", Sent("/engage", R({"$set": {}}, 10**25)), {"1e+25": {}}),
    Case(
        "overflow as an id",
        Sent(
            "/engage?verbose=1",
            b'{"$token":"TOK","$distinct_id":1e999,"$set":{}}',
            V0("$distinct_id, missing or empty"),
        ),
    ),
    *(
        Case(f"group id {bad!r}", Sent("/groups?verbose=1", [G(SET, bad)], V0("$group_id, missing or empty")))
        for bad in NO_GROUP_IDS
    ),
    Case(
        "$add of what is no number",
        engage({"$add": {"a": "x", "b": [], "c": None, "d": {}, "n": 1}}),
        {"u1": {"n": 1}},
    ),
    Case(
        "a line that is no JSON",
        Sent(
            "/engage?strict=1",
            dumps(FIRST) + b"\n{\n\n" + dumps(LAST),
            strict_reply(2, (1, "", "data, invalid JSON")),
            content_type="application/x-ndjson",
        ),
        NEIGHBOURS,
    ),
    Case(
        "emoji as the browser SDK writes them",
        Sent(
            "/engage",
            b"data=" + base64.b64encode(raw_record(b'"$set":{"a":"\xed\xa0\xbd\xed\xb8\x80"}')),
            content_type=FORM,
        ),
        {"u1": {"a": "😀"}},
    ),
]


@pytest.mark.parametrize("case", [*BODIES, *RECORDS, *VALUES], ids=lambda case: case.name)
def test_bad_input(mixdown: Server, case: Case) -> None:
    began = time.monotonic()
    run(mixdown, case)
    assert time.monotonic() - began < SOON_S


def test_a_long_url_is_taken_as_the_node_sdk_sends_it(mixdown: Server) -> None:
    empty(mixdown)
    data = base64.urlsafe_b64encode(
        dumps(R({"$set": {f"p{index}": "x" * 250 for index in range(180)}}))
    ).decode()
    assert len(data) > 60_000
    sent = Sent(f"/engage?verbose=1&data={data}", None, V1, method="GET")
    sent.reply.check(sent.send(mixdown))
    assert len(mixdown.profiles()["u1"]) == 181


def test_a_url_without_end_is_answered_414(mixdown: Server) -> None:
    reply = mixdown.request("GET", "/engage?data=" + "x" * 200_000)
    assert reply.status == 414
    assert reply.json()["status"] == 0


def test_a_refused_record_is_kept_with_its_reason(mixdown: Server) -> None:
    empty(mixdown)
    record = R({"$set": "kept for mending"})
    Sent("/engage", [FIRST, record], ONE).reply.check(Sent("/engage", [FIRST, record], ONE).send(mixdown))
    listing = mixdown.get("/api/mixdown/refusals", project_id=mixdown.project_id, limit=1).json()["results"]
    assert [(kept["index"], kept["field"], kept["message"]) for kept in listing] == [
        (1, "$set", "$set, must be an object")
    ]
    assert json.loads(listing[0]["record"]) == record


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.base_url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 80), timeout=60)


def everything(connection: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: test", "Content-Type: application/json", *lines, "", ""]
    ).encode()


def test_a_body_cut_off_by_its_sender_stores_nothing_and_hurts_nobody(mixdown: Server) -> None:
    empty(mixdown)
    body = amid(R(SET))
    with contextlib.closing(connect(mixdown)) as connection:
        connection.sendall(head("/engage", f"Content-Length: {len(body) + 1}") + body)
        connection.shutdown(socket.SHUT_WR)
        everything(connection)
    assert mixdown.profiles() == {}
    assert mixdown.post("/engage", [R(SET)]).body == b"1"


def test_a_body_in_chunks_is_stored(mixdown: Server) -> None:
    empty(mixdown)
    body = dumps([R({"$set": {"place": "x" * 200}})])
    pieces = [body[at : at + 50] for at in range(0, len(body), 50)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    with contextlib.closing(connect(mixdown)) as connection:
        connection.sendall(
            head("/engage?ip=0", "Transfer-Encoding: chunked", "Connection: close") + chunks + b"0\r\n\r\n"
        )
        assert everything(connection).endswith(b"\r\n\r\n1")
    assert mixdown.profiles()["u1"]["place"] == "x" * 200


@pytest.mark.parametrize("path", ["/engage", "/record/"])
def test_a_body_without_end_is_answered_413_and_the_connection_closed(mixdown: Server, path: str) -> None:
    with contextlib.closing(connect(mixdown)) as connection:
        connection.sendall(head(path, "Transfer-Encoding: chunked", "Origin: https://a.example"))
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(chunk)
        answer = b""
        with contextlib.suppress(OSError):
            answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
    assert b"access-control-allow-origin: https://a.example" in answer.lower()
    assert mixdown.post("/engage", [R(SET)]).body == b"1"


def test_a_reply_over_http_is_the_reply_and_nothing_else(mixdown: Server) -> None:
    with contextlib.closing(connect(mixdown)) as connection:
        body = dumps([R(SET)])
        connection.sendall(head("/engage", f"Content-Length: {len(body)}", "Connection: close") + body)
        answer = everything(connection)
    top, _, rest = answer.partition(b"\r\n\r\n")
    assert rest == b"1"
    names = {line.partition(b":")[0].lower() for line in top.split(b"\r\n")[1:]}
    assert {b"content-type", b"content-length", b"x-content-type-options"} <= names
    assert b"content-encoding" not in names
    assert b"transfer-encoding" not in names


def test_shapes_of_odd_replies_carry_cors(mixdown: Server) -> None:
    for sent in [
        Sent("/engage", b"no gzip", NOT_GZIP, headers={**GZIPPED, "Origin": "https://a.example"}),
        Sent("/engage", b"x" * (LIMIT_BYTES + 1), TOO_LARGE, headers={"Origin": "https://a.example"}),
        Sent("/engage", b"[", ZERO, headers={"Origin": "https://a.example"}),
        Sent(
            "/engage",
            b"[]",
            Reply(405, "application/json", lambda response: response.json()["status"] == 0),
            method="DELETE",
            headers={"Origin": "https://a.example"},
        ),
    ]:
        response = sent.send(mixdown)
        sent.reply.check(response)
        assert response.header("Access-Control-Allow-Origin") == "https://a.example"
        assert response.header("Retry-After") is None
