"""The one decoder of read parameters (contract query §1.3)."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from mixdown.http.parameters import FIELDS_LIMIT, Parameters, read_parameters
from mixdown.model.errors import BodyError, QueryError

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def decode(query: str = "", body: bytes = b"", content_type: str = "", encoding: str = "") -> Parameters:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-encoding", encoding.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": query.encode(),
        "headers": [header for header in headers if header[1]],
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return asyncio.run(read_parameters(Request(scope, receive), body_limit_bytes=1_000_000))


@pytest.mark.parametrize(
    ("query", "body", "content_type", "text"),
    [
        ("a=1", b"", "", "1"),
        ("a=1", b"a=2", FORM, "2"),
        ("a=1", b'{"a":3}', JSON, "3"),
        ("a=1", b'{"a":"4"}', "text/plain", "4"),
        ("a=1", b'\xef\xbb\xbf {"a":"5"}', FORM, "5"),
        ("a=1&a=2", b"", "", "2"),
        ("a=1", b"a=", FORM, "1"),
        ("a=1", b'{"a":""}', JSON, "1"),
        ("a=1", b'{"a":null}', JSON, "1"),
        ("a=1", b" ", JSON, "1"),
        ("a=", b"", "", ""),
        ("a=1", b"b=2", FORM, "1"),
        ("", b'{"a":true}', JSON, "true"),
        ("", b'{"a":1.0}', JSON, "1"),
        ("a=x+y%2Bz%C3%A9", b"", "", "x y+zé"),
        ("a=%ff", b"", "", "\ufffd"),
    ],
)
def test_sources_are_merged_and_the_later_wins(query: str, body: bytes, content_type: str, text: str) -> None:
    assert decode(query, body, content_type).text("a") == text


@pytest.mark.parametrize(
    ("query", "body", "items"),
    [
        ("", b"", None),
        ("a=", b"", None),
        ('a=["x","y"]', b"", ("x", "y")),
        ("a=x&a=y", b"", ("x", "y")),
        ("a=x", b"", ("x",)),
        ("a=[x", b"", ("[x",)),
        ("a=[]", b"", ()),
        ("a=[1,2.5,3.0]", b"", ("1", "2.5", "3")),
        ("", b'{"a":["x",1]}', ("x", "1")),
        ("", b'{"a":"[\\"x\\"]"}', ("x",)),
        ("", b'{"a":["[1]"]}', ("[1]",)),
        ("", b'{"a":7}', ("7",)),
        ("a=x%00y", b"", ("x\ufffdy",)),
    ],
)
def test_lists_come_as_json_as_text_repeated_or_bare(
    query: str, body: bytes, items: tuple[str, ...] | None
) -> None:
    assert decode(query, body).strings("a", limit=10) == items


@pytest.mark.parametrize(
    ("value", "truth"),
    [(True, True), (False, False), ("True", True), ("false", False), ("1", True), (0, False), ("", None)],
)
def test_booleans(value: Any, truth: bool | None) -> None:
    parameters = decode(body=json.dumps({"a": value}).encode())
    if truth is None:
        assert parameters.boolean("a", default=True)
        assert not parameters.boolean("a", default=False)
    else:
        assert parameters.boolean("a", default=not truth) == truth


@pytest.mark.parametrize("value", [7, "7", 7.0, " 7 "])
def test_integers_may_be_text(value: Any) -> None:
    assert decode(body=json.dumps({"a": value}).encode()).integer("a", 0, low=1, high=9) == 7


@pytest.mark.parametrize("value", [True, "x", 0, 10, -1, 1.5, [7], {"b": 7}, "\u0667", "1e1", "--1"])
def test_what_is_no_integer_in_bounds_is_refused_by_name(value: Any) -> None:
    with pytest.raises(QueryError, match=r"^a, "):
        decode(body=json.dumps({"a": value}).encode()).integer("a", 0, low=1, high=9)


def test_bodies_may_be_compressed_and_bombs_are_413() -> None:
    body = gzip.compress(b'{"a":"x"}')
    assert decode(body=body, content_type=JSON, encoding="gzip").text("a") == "x"
    with pytest.raises(BodyError) as refused:
        decode(body=gzip.compress(b'{"a":"' + b"x" * 2_000_000 + b'"}'), encoding="gzip")
    assert refused.value.status == 413


def test_a_flood_of_fields_is_refused() -> None:
    with pytest.raises(QueryError, match="fields"):
        decode(body=b"&".join([b"a=1"] * (FIELDS_LIMIT + 1)), content_type=FORM)
