"""Cases of contract ingestion §11 about requests: transport, shapes, validation, auxiliary paths.

A number is that of the case; a name like `D2` is the decision (§13) that a further case rests on.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

from tests.contract.support import (
    A1,
    FORM,
    ONE,
    SET,
    V0,
    V1,
    ZERO,
    Case,
    R,
    Reply,
    Sent,
    engage,
    exactly,
    strict_reply,
)

DATA_6 = "eyIkdG9rZW4iOiJUT0siLCIkZGlzdGluY3RfaWQiOiJ1MSIsIiRzZXQiOnsiYSI6MX19"
DATA_7 = "W3siJHRva2VuIjoiVE9LIiwiJGRpc3RpbmN0X2lkIjoidTEiLCIkc2V0Ijp7ImEiOiJ4Pnk/en5+fiJ9fV0="
STRANGE = {"u1": {"a": "x>y?z~~~"}}
BASIC = {"Authorization": "Basic c2E6cHc="}
PAGE = {"Origin": "https://a.example"}
SOME_JSON = json.dumps([R(SET)]).encode()


def percent(text: str) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in text.encode())


def form(data: bytes, more: bytes = b"") -> bytes:
    return b"data=" + data + more


def has_headers(body: bytes, **expected: str) -> Reply:
    """The plain reply `body` with these headers; an expected "" means that there is no such header."""

    def check(response: Any) -> bool:
        found = {name: response.header(name.replace("_", "-")) or "" for name in expected}
        return bool(response.body == body and found == expected)

    return Reply(200, "text/plain", check)


def too_many(response: Any) -> bool:
    return bool(response.json()["code"] == 413 and response.json()["status"] == "Request Entity Too Large")


def allows(response: Any) -> bool:
    return bool(response.header("Allow") == "GET, POST, OPTIONS" and response.json()["status"] == 0)


def preflight(response: Any) -> bool:
    headers = response.header("Access-Control-Allow-Headers").split(",")
    methods = response.header("Access-Control-Allow-Methods").split(", ")
    return bool(
        not response.body
        and {"content-type", "authorization"} <= set(headers)
        and "POST" in methods
        and response.header("Access-Control-Allow-Origin") == PAGE["Origin"]
    )


TRANSPORT = [
    Case("1", Sent("/engage", [R(SET)]), A1),
    Case("2", Sent("/engage", R(SET)), A1),
    Case("3", Sent("/engage/", [R(SET)]), A1),
    Case("5", Sent("/engage", form(percent(json.dumps(R(SET)))), content_type=FORM), A1),
    Case("6", Sent("/engage", form(DATA_6.encode()), content_type=FORM), A1),
    Case("7", Sent("/engage", form(DATA_7.encode()), content_type=FORM), STRANGE),
    Case("9", Sent("/engage", form(percent(DATA_7)), content_type=FORM), STRANGE),
    Case("10", Sent(f"/engage?data={percent(DATA_6).decode()}&ip=0&verbose=0", method="GET", geo=True), A1),
    Case("11", Sent("/engage", form(DATA_6.encode()), content_type="text/plain;charset=UTF-8"), A1),
    Case("12", Sent("/engage", SOME_JSON, content_type="text/plain"), A1),
    Case("14", Sent("/engage", gzip.compress(SOME_JSON), headers={"Content-Encoding": "gzip"}), A1),
    Case(
        "15: form",
        Sent(
            "/engage",
            gzip.compress(form(DATA_6.encode())),
            content_type=FORM,
            headers={"Content-Encoding": "gzip"},
        ),
        A1,
    ),
    Case(
        "16",
        Sent(
            "/engage",
            SOME_JSON,
            exactly(400, {"error": "could not decompress request body", "status": 0}),
            headers={"Content-Encoding": "gzip"},
        ),
    ),
    Case(
        "17",
        Sent("/engage", form(SOME_JSON, b"&verbose=1&ip=0"), V1, content_type=FORM, geo=True),
        A1,
    ),
    Case(
        "18",
        Sent("/engage?verbose=0", form(SOME_JSON, b"&verbose=1"), ONE, content_type=FORM),
        A1,
    ),
    Case("19", engage(SET, query="?verbose=2", reply=V1), A1),
    Case("21", engage(SET, query="?_=123&mp_lib=web&foo=bar"), A1),
    Case("D2", engage(SET, query="?redirect=https%3A%2F%2Fevil.example"), A1),
    Case("22", Sent("/engage", SOME_JSON, Reply(405, "application/json", allows), method="PUT")),
    Case(
        "23",
        Sent(
            "/engage",
            [R(SET, f"u{index}") for index in range(2001)],
            Reply(413, "application/json", too_many),
        ),
    ),
    Case(
        "24",
        Sent("/engage", [R(SET, f"u{index}") for index in range(2000)]),
        {f"u{index}": {"a": 1} for index in range(2000)},
    ),
]

SHAPES = [
    Case("25", Sent("/engage", [R(SET)], ONE), A1),
    Case("26", engage(SET, query="?verbose=1", reply=V1), A1),
    Case(
        "27",
        engage(
            SET,
            query="?callback=mixpanel._jsc[12]",
            reply=Reply(200, "text/javascript", b"mixpanel._jsc[12](1);"),
        ),
        A1,
    ),
    Case(
        "27: verbose",
        engage(
            SET,
            query="?verbose=1&callback=f",
            reply=Reply(200, "text/javascript", b'f({"error":null,"status":1});'),
        ),
        A1,
    ),
    Case("28: bad name", engage(SET, query="?callback=alert(1)%3B"), A1),
    Case(
        "29",
        engage(
            SET,
            query="?callback=(function()%7B%7D)",
            reply=Reply(200, "text/javascript", b"(function(){})(1);"),
        ),
        A1,
    ),
    Case(
        "30: image",
        engage(
            SET,
            query="?img=1&verbose=1",
            reply=Reply(200, "image/gif", lambda response: len(response.body) == 43),
        ),
        A1,
    ),
    Case(
        "32",
        Sent(
            "/engage",
            [R(SET)],
            has_headers(
                b"1",
                Access_Control_Allow_Origin="https://a.example",
                Access_Control_Allow_Credentials="true",
                Vary="Origin",
            ),
            headers=PAGE,
        ),
        A1,
    ),
    Case(
        "33",
        Sent(
            "/engage",
            [R(SET)],
            has_headers(b"1", Access_Control_Allow_Origin="", Access_Control_Allow_Credentials=""),
        ),
        A1,
    ),
    Case(
        "34",
        Sent(
            "/engage/",
            None,
            Reply(204, None, preflight),
            method="OPTIONS",
            headers={
                **PAGE,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type,authorization",
            },
        ),
    ),
]

NO_TOKEN = {"$distinct_id": "u1", **SET}
BAD = {"$token": "TOK", "$set": {}}
NO_ID = "$distinct_id, missing or empty"
UNKNOWN = "$token, no project has this token"
NO_IDS: tuple[Any, ...] = (None, "", [], True)
VERBOSE = "/engage?verbose=1"

VALIDATION = [
    Case("35", Sent("/engage", b"", ZERO)),
    Case("36", Sent(VERBOSE, [], V0("data, missing or empty"))),
    Case("37", Sent(VERBOSE, ["x"], V0("data, must be an object"))),
    Case("38", Sent(VERBOSE, [NO_TOKEN], V0("$token, missing or empty"))),
    Case(
        "39",
        Sent(
            VERBOSE + "&project_id=1",
            [{**NO_TOKEN, "$token": ""}],
            V0("$token, missing or empty"),
            headers=BASIC,
        ),
    ),
    Case("40", Sent(VERBOSE, [{"$token": "TOK", **SET}], V0(NO_ID))),
    Case("41", Sent("/engage", [{"$token": "TOK", **SET}], ZERO)),
    *(Case(f"42: {bad!r}", Sent(VERBOSE, [R(SET, bad)], V0(NO_ID))) for bad in NO_IDS),
    Case("43", Sent("/engage", [R(SET, 3473)]), {"3473": {"a": 1}}),
    Case("43: float", Sent("/engage", b'[{"$token":"TOK","$distinct_id":3473.0,"$set":{}}]'), {"3473": {}}),
    Case("44", Sent(VERBOSE, [BAD, R(SET)], V1), A1),
    Case("45", Sent("/engage", [BAD, BAD], ZERO)),
    Case("46", engage({}, query="?verbose=1", reply=V0("no operation, missing or empty"))),
    Case("47", engage({"$set": "x"}, query="?verbose=1", reply=V0("$set, must be an object"))),
    Case("47: empty list, as php writes an empty object", engage({"$set": []}), {"u1": {}}),
    Case("49", Sent("/engage", [{**R(SET), "$token": "NOPE"}], ZERO)),
    Case("49: verbose", Sent(VERBOSE, [{**R(SET), "$token": "NOPE"}], V0(UNKNOWN))),
    Case("50", engage(SET, query="?strict=1", reply=strict_reply(1)), A1),
    Case(
        "51",
        Sent("/engage?strict=1", [R(SET), BAD], strict_reply(1, (1, "$distinct_id", NO_ID))),
        A1,
    ),
    Case("53", Sent("/engage", [R(SET, "undefined")]), {"undefined": {"a": 1}}),
    Case(
        "53: strict",
        Sent(
            "/engage?strict=1",
            [R(SET, "undefined")],
            strict_reply(
                0, (0, "$distinct_id", "'$distinct_id' is invalid: must not be a placeholder value")
            ),
        ),
    ),
]


AUXILIARY = [
    Case(
        "156",
        Sent(
            "/flags/?context=%7B%7D&token=TOK", None, exactly(200, {"flags": {}}), method="GET", headers=BASIC
        ),
    ),
    Case("157: definitions", Sent("/flags/definitions", None, exactly(200, {"flags": []}), method="GET")),
    Case(
        "157: recordings",
        Sent(
            "/record/",
            gzip.compress(b"x" * 100_000),
            exactly(200, {"code": 200, "status": "OK"}),
            content_type="application/octet-stream",
        ),
    ),
    Case(
        "157: settings",
        Sent("/settings/?sdk_config=1", None, exactly(200, {"sdk_config": {"config": {}}}), method="GET"),
    ),
    Case(
        "158",
        Sent(
            "/decide?token=TOK",
            None,
            exactly(
                200,
                {"notifications": [], "config": {}, "surveys": [], "event_bindings": [], "variants": []},
            ),
            method="GET",
        ),
    ),
    Case("159", Sent("/nope", None, exactly(404, {"error": "Not Found", "status": 0}), method="GET")),
]

CASES = [*TRANSPORT, *SHAPES, *VALIDATION, *AUXILIARY]
