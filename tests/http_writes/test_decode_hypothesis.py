"""Whatever arrives, decoding ends in records, a problem or a `BodyError`, and soon."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
import zlib
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mixdown.http.body import Decoded
from mixdown.http.forms import unquote
from mixdown.http.jsontext import MalformedJsonError, parse_json
from mixdown.http.jsontext import _split as split  # the one part that is hard to reach from outside
from mixdown.model import texts
from mixdown.model.errors import BodyError
from mixdown.model.limits import Limits
from mixdown.model.updates import Unreadable
from tests.http_writes.support import FORM, JSON, NDJSON, TEXT, base64_text, quoted, read

LIMITS = Limits(body_limit_bytes=100_000)
MULTIPART = b"multipart/form-data; boundary=xx"
SOON_S = 40.0  # far above what any of these needs, far below a hang

# Pieces of JSON, forms, gzip and base64: much of what is made of them is nearly right.
PIECES: list[bytes] = [
    *(b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\", b"&", b"=", b"%", b"+", b" ", b"\n", b"\r", b"\0"),
    *(b"data=", b'"data":', b'"$token":"TOK"', b'"$set":{', b"null", b"true", b"NaN", b"Infinity", b"-"),
    *(
        b"1",
        b"1e999",
        b"9" * 400,
        b"\\u0000",
        b"\\ud800",
        b"\\udc00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"%5B",
    ),
    *(b"%7", b"[" * 2000, b"]" * 2000, b'{"a":' * 1100, b"W3t9XQ==", b"\x1f\x8b", b"verbose=1", b"strict=1"),
    *(gzip.compress(b"[{}]"), zlib.compress(b"[]"), b"--xx\r\n", b'name="data"\r\n\r\n', b"--xx--"),
]
bodies = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join),
)
content_types = st.sampled_from(
    [
        JSON,
        FORM,
        NDJSON,
        TEXT,
        b"",
        MULTIPART,
        b"multipart/form-data; boundary=\xff",
        b"multipart/form-data; boundary=" + b"x" * 300,
        b";\0",
    ]
)
encodings = st.sampled_from([b"", b"", b"gzip", b"deflate", b"br", b"\xff"])
queries = st.one_of(st.just(b""), bodies)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bodies, content_types, encodings, queries, st.sampled_from(["POST", "GET"]))
def test_decoding_raises_nothing_but_body_errors(
    body: bytes, content_type: bytes, encoding: bytes, query: bytes, method: str
) -> None:
    began = time.perf_counter()
    try:
        decoded = read(body, content_type, query=query, encoding=encoding, method=method, limits=LIMITS)
    except BodyError as error:
        if error.status not in (400, 413):
            raise
    else:
        assert isinstance(decoded, Decoded)
        assert bool(decoded.records) == (decoded.problem == "")
        assert decoded.problem in ("", texts.DATA_MISSING, texts.DATA_INVALID)
    assert time.perf_counter() - began < SOON_S


@settings(max_examples=80, deadline=None)
@given(st.lists(json_values, min_size=1, max_size=5))
def test_every_encoding_of_a_list_gives_the_list(records: list[Any]) -> None:
    text = json.dumps(records).encode()
    for body, content_type in [
        (text, JSON),
        (gzip.compress(text), JSON),
        (json.dumps(text.decode()).encode(), JSON),
        (b"data=" + quoted(text), FORM),
        (b"data=" + base64_text(records), FORM),
        (base64_text(records), TEXT),
    ]:
        assert same(read(body, content_type).records, records)


@settings(max_examples=100, deadline=None)
@given(st.lists(json_values, max_size=6), st.sampled_from([None, 1]))
def test_a_list_is_split_where_a_parser_would_split_it(values: list[Any], indent: int | None) -> None:
    parts = split(json.dumps(values, indent=indent).encode())
    assert same([json.loads(part) for part in parts], values)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*PIECES[:8], b"1", b'"a"', b"[]", b"{}"]), max_size=12).map(b"".join))
def test_splitting_keeps_every_byte_or_says_malformed(text: bytes) -> None:
    try:
        parts = split(b"[" + text)
    except MalformedJsonError:
        return
    assert b"".join(text.split()) == b"".join(b",".join(parts).split()) + b"]"


@settings(max_examples=80, deadline=None)
@given(st.lists(json_values, min_size=1, max_size=4), st.data())
def test_a_deep_element_leaves_its_neighbours_as_they_were(values: list[Any], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values)))
    texts_of = [json.dumps(value) for value in values]
    texts_of.insert(place, "[" * 3000 + "]" * 3000)
    parsed = parse_json(f"[{','.join(texts_of)}]".encode()).value
    assert isinstance(parsed.pop(place), Unreadable)
    assert same(parsed, values)


ESCAPES = st.sampled_from([b"%", b"4", b"1", b"%41", b"%C3%A4", b"=", b"\r", b"\n", b"x", b"_", b"%g1"])


@settings(max_examples=500, deadline=None)
@example(b"%%41")
@example(b"%\n41")
@example(b"%4")
@example(b"=%3D%")
@given(
    st.lists(
        st.sampled_from([b"%", b"4", b"1", b"%41", b"%C3%A4", b"=", b"\r", b"\n", b"x", b"_", b"%g1"])
    ).map(b"".join)
)
def test_percent_encoding_is_undone_as_urllib_does(text: bytes) -> None:
    assert unquote(text) == unquote_to_bytes(text)


MEGABYTES_10 = 10_000_000
SLOW_FOR_THE_CARELESS = {
    "brackets": (b"[" * MEGABYTES_10, JSON),
    "objects in objects": (b'{"a":' * (MEGABYTES_10 // 5), JSON),
    "lists in lists and out again": (b"[" * 5000 + b"[]," * 3_000_000 + b"1" + b"]" * 5000, JSON),
    "a deep record and millions of small ones": (
        b"[" + b"[" * 5000 + b"]" * 5000 + b",1" * 4_000_000 + b"]",
        JSON,
    ),
    "strings with brackets after deep ones": (b"[" * 5000 + b'"[",' * 2_000_000, JSON),
    "quotes after brackets": (b"[" * 5000 + b'"' * 9_000_000, JSON),
    "backslashes": (b'["' + b"\\" * MEGABYTES_10, JSON),
    "digits": (b"[" + b"1" * MEGABYTES_10 + b"]", JSON),
    "emoji of the browser SDK": (b'["' + b"\xed\xa0\xbd\xed\xb8\x80x" * 1_400_000 + b'"]', JSON),
    "percent signs": (b"data=" + b"%" * MEGABYTES_10, FORM),
    "ampersands": (b"&" * MEGABYTES_10, FORM),
    "blank lines": (b"\n" * MEGABYTES_10, NDJSON),
    "lines": (b"1\n" * (MEGABYTES_10 // 2), NDJSON),
    "parts": (b"--xx\r\n" * 1_600_000, MULTIPART),
    "broken boundaries": (b"--xx\r\n\r\n" + b"\r\n--" * 2_000_000, MULTIPART),
    "gzip members": (gzip.compress(b"") * 400_000, JSON),
}


@pytest.mark.parametrize(("body", "content_type"), SLOW_FOR_THE_CARELESS.values(), ids=SLOW_FOR_THE_CARELESS)
def test_ten_megabytes_made_to_be_slow_are_answered_soon(body: bytes, content_type: bytes) -> None:
    began = time.perf_counter()
    with contextlib.suppress(BodyError):
        read(body, content_type)
    assert time.perf_counter() - began < SOON_S


def same(a: Any, b: Any) -> bool:
    """Equality of JSON values that tells 1, 1.0 and true apart and lets huge integers be doubles."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if type(a) is float and type(b) is int:
        return abs(b) > 2**63 - 1 and a == float(b)
    return type(a) is type(b) and bool(a == b)
