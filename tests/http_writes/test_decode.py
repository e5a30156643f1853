"""What becomes of a body: the encodings of real SDKs, the odd ones, and the malformed ones (contract §2)."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest

from mixdown.http.body import decode
from mixdown.model import texts
from mixdown.model.errors import BodyError
from mixdown.model.limits import Limits
from mixdown.model.updates import Unreadable
from tests.http_writes.support import FORM, JSON, NDJSON, TEXT, base64_text, quoted, read, text, urlsafe_text

# Its base64 holds `+`, `/` and `=`: the three characters that forms spoil.
RECORD = {"$token": "TOK", "$distinct_id": "u1", "$set": {"a": "x>y?z~~~"}}
BATCH = [RECORD, {"$token": "TOK", "$distinct_id": "u2", "$add": {"n": 1}}]
MULTIPART = (
    b'--xx\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + text(BATCH) + b"\r\n"
    b'--xx\r\nContent-Disposition: form-data; name="verbose"\r\n\r\n1\r\n--xx--\r\n'
)

SAME_BATCH: dict[str, tuple[bytes, bytes]] = {
    "JSON list": (text(BATCH), JSON),
    "JSON list with blanks around it": (b"\n\t " + text(BATCH) + b"\r\n", JSON),
    "JSON with parameters and capitals in the type": (text(BATCH), b"Application/JSON; charset=UTF-8"),
    "JSON after a byte order mark": (b"\xef\xbb\xbf" + text(BATCH), JSON),
    "JSON text inside a JSON string": (json.dumps(json.dumps(BATCH)).encode(), JSON),
    "base64 inside a JSON string": (text(base64_text(BATCH).decode()), JSON),
    "object with the list under data": (text({"data": BATCH}), JSON),
    "object with JSON text under data": (text({"data": json.dumps(BATCH)}), JSON),
    "object with base64 under data": (text({"data": base64_text(BATCH).decode()}), JSON),
    "form with plain JSON": (b"data=" + text(BATCH), FORM),
    "form with percent-encoded JSON": (b"data=" + quoted(text(BATCH)), FORM),
    "form with percent-encoded base64": (b"data=" + quoted(base64_text(BATCH)), FORM),
    "form with raw base64, as node, php and old browsers send it": (b"data=" + base64_text(BATCH), FORM),
    "form with raw base64 in lines": (
        b"data=" + base64_text(BATCH)[:20] + b"\r\n" + base64_text(BATCH)[20:],
        FORM,
    ),
    "form with raw base64 without padding": (b"data=" + base64_text(BATCH).rstrip(b"="), FORM),
    "form with URL-safe base64": (b"data=" + urlsafe_text(BATCH), FORM),
    "form with other fields around the data": (b"verbose=1&data=" + quoted(text(BATCH)) + b"&ip=0", FORM),
    "form with data twice": (b"data=bm8&data=" + base64_text(BATCH), FORM),
    "form with a charset, as java sends it": (b"data=" + base64_text(BATCH), FORM + b";charset=utf8"),
    "JSON under the type of a form, as plain curl sends it": (text(BATCH), FORM),
    "multipart form": (MULTIPART, b"multipart/form-data; boundary=xx"),
    "JSON under the type of a multipart form": (text(BATCH), b"multipart/form-data; boundary=xx"),
    "beacon with base64": (b"data=" + quoted(base64_text(BATCH)), TEXT),
    "beacon with JSON": (b"data=" + quoted(text(BATCH)), TEXT),
    "JSON as plain text": (text(BATCH), TEXT),
    "bare base64 as plain text": (base64_text(BATCH), TEXT),
    "bare base64 without a type": (base64_text(BATCH), b""),
    "JSON without a type": (text(BATCH), b""),
    "form without a type": (b"data=" + quoted(text(BATCH)), b""),
    "form under a strange type": (b"data=" + quoted(text(BATCH)), b"application/octet-stream"),
    "JSON lines": (b"\n".join(map(text, BATCH)), NDJSON),
    "JSON lines with blank ones and carriage returns": (
        b"\r\n\n" + text(BATCH[0]) + b"\r\n \r\n" + text(BATCH[1]) + b"\n\n",
        b"application/jsonl",
    ),
}


@pytest.mark.parametrize(("body", "content_type"), SAME_BATCH.values(), ids=SAME_BATCH)
def test_a_batch_is_read_however_it_is_written(body: bytes, content_type: bytes) -> None:
    decoded = read(body, content_type)
    assert (decoded.records, decoded.problem) == (BATCH, "")


@pytest.mark.parametrize(("body", "content_type"), SAME_BATCH.values(), ids=SAME_BATCH)
def test_gzip_is_taken_on_every_encoding(body: bytes, content_type: bytes) -> None:
    assert read(gzip.compress(body), content_type, encoding=b"gzip").records == BATCH


@pytest.mark.parametrize(
    "body",
    [text(RECORD), b"data=" + quoted(text(RECORD)), b"data=" + base64_text(RECORD), text({"data": RECORD})],
)
def test_an_object_is_a_batch_of_one(body: bytes) -> None:
    assert read(body, TEXT).records == [RECORD]


@pytest.mark.parametrize("data", [quoted(base64_text(BATCH)), base64_text(BATCH), quoted(text(BATCH))])
def test_get_takes_its_data_from_the_query(data: bytes) -> None:
    decoded = read(method="GET", query=b"ip=0&verbose=1&data=" + data)
    assert decoded.records == BATCH
    assert (decoded.params.ip, decoded.params.verbose) == (False, True)


def test_data_in_both_places_is_the_querys_on_get_and_the_bodys_on_post() -> None:
    query, body = b"data=" + quoted(text([{"q": 1}])), text([{"b": 1}])
    assert read(body, JSON, query=query, method="GET").records == [{"q": 1}]
    assert read(body, JSON, query=query, method="POST").records == [{"b": 1}]


@pytest.mark.parametrize(
    ("method", "body", "query"), [("GET", text([{"a": 1}]), b""), ("POST", b"", b'data=[{"a":1}]')]
)
def test_data_is_found_in_the_other_place_when_it_is_missing_in_the_first(
    method: str, body: bytes, query: bytes
) -> None:
    assert read(body, JSON, query=query, method=method).records == [{"a": 1}]


MISSING = {
    "nothing": (b"", JSON),
    "blanks": (b" \r\n", JSON),
    "empty list": (b"[]", JSON),
    "null": (b"null", JSON),
    "empty string": (b'""', JSON),
    "string of blanks": (b'"  "', JSON),
    "null under data": (b'{"data":null}', JSON),
    "form without data": (b"verbose=1", FORM),
    "form with empty data": (b"data=", FORM),
    "form with null": (b"data=null", FORM),
    "form with an empty list": (b"data=%5B%5D", FORM),
    "lines that are all blank": (b"\n \n\n", NDJSON),
    "multipart form without data": (
        MULTIPART.replace(b'"data"', b'"date"'),
        b"multipart/form-data; boundary=xx",
    ),
    "multipart form without boundary": (MULTIPART, b"multipart/form-data"),
    "multipart form with an endless boundary": (MULTIPART, b"multipart/form-data; boundary=" + b"x" * 300),
}


@pytest.mark.parametrize(("body", "content_type"), MISSING.values(), ids=MISSING)
def test_no_data_is_told_from_bad_data(body: bytes, content_type: bytes) -> None:
    decoded = read(body, content_type)
    assert (decoded.records, decoded.problem) == ([], texts.DATA_MISSING)


MALFORMED = {
    "truncated list": (text(BATCH)[:-1], JSON),
    "truncated string": (text(BATCH)[:-20], JSON),
    "two values": (b"[{}] [{}]", JSON),
    "NaN": (b'[{"a":NaN}]', JSON),
    "Infinity": (b'[{"a":Infinity}]', JSON),
    "minus Infinity": (b'[{"a":-Infinity}]', JSON),
    "NaN beside what needs repair": (b'[{"a":NaN},"\\ud800"]', JSON),
    "trailing comma": (b"[{},]", JSON),
    "single quotes": (b"[{'a':1}]", JSON),
    "a raw control character": (b'["a\x01"]', JSON),
    "number": (b"5", JSON),
    "true": (b"true", JSON),
    "plain words": (b"hello there", JSON),
    "a string that is no JSON": (b'"hello"', JSON),
    "a string in a string in a string, and so on": (
        json.dumps(json.dumps(json.dumps(json.dumps("[]")))).encode(),
        JSON,
    ),
    "number under data": (b'{"data":5}', JSON),
    "base64 of nonsense": (b"data=aGVsbG8=", FORM),
    "base64 with a foreign character": (b"data=e30!", FORM),
    "base64 of an impossible length": (b"data=e3000", FORM),
    "base64 with padding inside": (b"data=e30=e30=", FORM),
    "percent-encoded nonsense": (b"data=%7Bhello", FORM),
    "plain words as text": (b"hello there", TEXT),
    "unbalanced brackets far too deep": (b"[" * 5000, JSON),
    "closing brackets of the wrong kind after deep ones": (b"[" * 5000 + b"]" * 4999 + b"}", JSON),
    "deep list with a comma too many": (b"[" * 5000 + b"]" * 4999 + b",]", JSON),
    "deep object with something after it": (b'{"a":' * 5000 + b"1" + b"}" * 5000 + b" 1", JSON),
    "two deep objects": (b'{"a":' * 5000 + b"1" + b"}" * 5000 + b",{}", JSON),
}


@pytest.mark.parametrize(("body", "content_type"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_json_is_malformed(body: bytes, content_type: bytes) -> None:
    decoded = read(body, content_type)
    assert (decoded.records, decoded.problem) == ([], texts.DATA_INVALID)


@pytest.mark.parametrize(
    ("value", "records"),
    [
        ({"data": [1], "$token": "TOK"}, [{"data": [1], "$token": "TOK"}]),
        ({"data": [1], "event": "E"}, [{"data": [1], "event": "E"}]),
        ([1, "x", None, [2]], [1, "x", None, [2]]),
        ({}, [{}]),
    ],
)
def test_elements_are_passed_on_as_they_are(value: Any, records: list[Any]) -> None:
    assert read(text(value)).records == records


def test_the_last_of_two_equal_names_wins() -> None:
    assert read(b'[{"a":1,"a":2}]').records == [{"a": 2}]


# --- what orjson refuses and Mixpanel takes ---------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "record"),
    [
        (b'[{"a":"\\ud800"}]', {"a": "\ud800"}),
        (b'[{"\\udfff":1}]', {"\udfff": 1}),
        (b'[{"a":"\\u0000"}]', {"a": "\0"}),
        (b'[{"a":1e999}]', {"a": float("inf")}),
        (b'[{"a":-1e999}]', {"a": float("-inf")}),
        (b'[{"a":%b}]' % (b"9" * 400), {"a": float("inf")}),
        (b'[{"a":%b}]' % (b"9" * 5000), {"a": float("inf")}),
        (b'[{"b":1e999,"a":-9223372036854775808}]', {"b": float("inf"), "a": -(2**63)}),
        (b'[{"b":1e999,"a":9223372036854775807}]', {"b": float("inf"), "a": 2**63 - 1}),
        (b'[{"b":1e999,"a":100000000000000000000000}]', {"b": float("inf"), "a": 1e23}),
        (b'[{"a":"x\xffy"}]', {"a": "x�y"}),
        (b"[{%b1%b}]" % (b'"a":[' * 1, b"]"), {"a": [1]}),
    ],
)
def test_what_strict_parsers_refuse_is_repaired(body: bytes, record: dict[str, Any]) -> None:
    assert read(body).records == [record]


@pytest.mark.parametrize("escape", [b"\\u0000", b"\\ud800"])
def test_text_that_no_store_can_hold_is_marked_hostile(escape: bytes) -> None:
    assert read(b'[{"a":"%b"}]' % escape).hostile
    assert read(b"data=" + base64_text([{"a": "\0"}]), FORM).hostile
    assert read(json.dumps(json.dumps([{"a": "\0"}])).encode()).hostile


def test_ordinary_text_is_not_hostile() -> None:
    assert not read(b'[{"a":"\\u00e4 \\ud83d\\ude00 \xf0\x9f\x98\x80"}]').hostile


@pytest.mark.parametrize("depth", [1025, 5000, 500_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")])
def test_a_record_nested_too_deeply_fails_alone(depth: int, opening: bytes, closing: bytes) -> None:
    deep = opening * depth + b"1" + closing * depth
    decoded = read(b' [ {"a":"]}"} , %b ,\n{"b":[{"c":"\\"["}]}, 7 ]\n' % deep)
    first, second, third, fourth = decoded.records
    assert (first, third, fourth) == ({"a": "]}"}, {"b": [{"c": '"['}]}, 7)
    assert isinstance(second, Unreadable)
    dear = texts.RECORD_TOO_DEAR.format(
        limit=50_000
    )  # what the deepest come to, and then nobody counts levels
    assert second.message in ("data, nested too deeply", dear if depth > 100_000 else "")
    assert deep.decode().startswith(second.text)
    assert len(second.text) <= 1024


def test_a_single_object_nested_too_deeply_is_one_bad_record() -> None:
    (record,) = read(b'{"$token":"TOK","a":' + b"[" * 5000 + b"]" * 5000 + b"}").records
    assert isinstance(record, Unreadable)
    assert record.message == "data, nested too deeply"


def test_strict_fails_the_records_that_hold_invalid_utf8_and_no_others() -> None:
    body = b'[{"a":1},{"a":"\xff"},{"a":"\xc3\xa4"},{"a":"\\ud800"}]'
    first, second, third, fourth = read(body, query=b"strict=1").records
    assert (first, third, fourth) == ({"a": 1}, {"a": "ä"}, {"a": "\ud800"})
    assert second == Unreadable('{"a":"�"}', texts.DATA_NOT_UTF8, {"a": "�"})
    assert read(body).records[1] == {"a": "�"}


def test_strict_fails_a_single_object_that_holds_invalid_utf8() -> None:
    (record,) = read(b'{"a":"\xff"}', query=b"strict=1").records
    assert record == Unreadable('{"a":"�"}', texts.DATA_NOT_UTF8, {"a": "�"})


@pytest.mark.parametrize("query", [b"", b"strict=1"])
def test_emoji_as_the_browser_sdk_writes_them_in_base64_arrive_whole(query: bytes) -> None:
    record = {"$token": "TOK", "$set": {"a": "ä 東 🎉", "👍🏽": ["😀", "𐀀", "\U0010ffff"]}}
    units = json.dumps([record], ensure_ascii=False).encode("utf-16-be")
    halves = "".join(chr(units[at] << 8 | units[at + 1]) for at in range(0, len(units), 2))
    sent = b"data=" + quoted(base64.b64encode(halves.encode("utf-8", "surrogatepass")))
    assert read(sent, FORM, query=query).records == [record]


def test_half_an_emoji_spoils_nothing_but_itself() -> None:
    body = b'[{"a":"x\xed\xa0\xbdy","b":"\xed\xa0\xbd\xed\xb8\x80"},{"a":1}]'
    first, second = read(body).records
    assert (first["b"], second) == ("😀", {"a": 1})
    first, second = read(body, query=b"strict=1").records
    assert isinstance(first, Unreadable)
    assert second == {"a": 1}


def test_a_line_that_is_no_json_fails_alone() -> None:
    decoded = read(b'{"a":1}\n{"a":\n{"b":2}', NDJSON)
    assert decoded.records == [{"a": 1}, Unreadable('{"a":', texts.DATA_INVALID), {"b": 2}]


def test_lines_are_not_read_far_past_the_limit_on_records() -> None:
    assert len(read(b"{}\n" * 5000, NDJSON, limits=Limits(records_per_request=10)).records) == 11


def test_millions_of_lines_of_events_are_not_taken_apart_to_be_refused() -> None:
    tracemalloc.start()
    try:
        decoded = decode(
            method="POST",
            content_type=NDJSON,
            content_encoding=b"",
            query=b"",
            body=b"1\n" * 1_000_000,
            limits=Limits(),
            quick_for="import",
        )
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoded.count == 2001
    assert peak_bytes < 8_000_000


# --- parameters ------------------------------------------------------------------------------------


def test_parameters_come_from_the_form_where_the_query_has_none() -> None:
    params = read(b"data=[]&verbose=1&ip=0&callback=f&mp_lib=py", FORM).params
    assert (params.verbose, params.ip, params.callback, params.lib) == (True, False, "f", "py")


def test_the_query_wins_over_the_form() -> None:
    params = read(b"data=[]&verbose=1&ip=0", FORM, query=b"verbose=0&ip=1&strict=1").params
    assert (params.verbose, params.ip, params.strict) == (False, True, True)


def test_parameters_come_from_a_multipart_form() -> None:
    assert read(MULTIPART, b"multipart/form-data; boundary=xx").params.verbose


def test_the_last_of_a_repeated_parameter_wins() -> None:
    assert not read(query=b"verbose=1&verbose=0").params.verbose


# --- compression -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [b"gzip", b"x-gzip", b"GZIP", b" gzip ", b"", b"identity", b"br"])
def test_gzip_is_known_by_its_first_bytes_whatever_the_header_says(encoding: bytes) -> None:
    assert read(gzip.compress(text(BATCH)), encoding=encoding).records == BATCH


def test_gzip_in_several_members_and_padded_with_zeros() -> None:
    whole = text(BATCH)
    body = gzip.compress(whole[:7]) + gzip.compress(b"") + gzip.compress(whole[7:]) + bytes(40)
    assert read(body, encoding=b"gzip").records == BATCH


def test_a_gzip_longer_than_one_slice() -> None:
    records = [{"n": index, "text": f"{index * 7919 % 104729:x}" * 200} for index in range(2000)]
    assert read(gzip.compress(text(records), 1), encoding=b"gzip").records == records


@pytest.mark.parametrize("bits", [zlib.MAX_WBITS, -zlib.MAX_WBITS])
def test_deflate_with_and_without_its_header(bits: int) -> None:
    packer = zlib.compressobj(wbits=bits)
    assert read(packer.compress(text(BATCH)) + packer.flush(), encoding=b"deflate").records == BATCH


BROKEN = {
    "no gzip at all": (b"no gzip at all", b"gzip"),
    "plain JSON": (b"[]", b"gzip"),
    "cut": (gzip.compress(text(BATCH))[:-1], b"gzip"),
    "wrong checksum": (gzip.compress(text(BATCH))[:-8] + b"12345678", b"gzip"),
    "damaged": (gzip.compress(text(BATCH))[:20] + b"\xff" * 20, b"gzip"),
    "something behind it": (gzip.compress(text(BATCH)) + b"junk", b"gzip"),
    "nothing but the first two bytes": (b"\x1f\x8b", b""),
    "too many members": (gzip.compress(b"") * 5000, b"gzip"),
    "no deflate": (b"no deflate", b"deflate"),
    "cut deflate": (zlib.compress(text(BATCH))[:-1], b"deflate"),
}


@pytest.mark.parametrize(("body", "encoding"), BROKEN.values(), ids=list(BROKEN))
def test_broken_compression_is_answered_400(body: bytes, encoding: bytes) -> None:
    with pytest.raises(BodyError) as caught:
        read(body, encoding=encoding)
    assert (caught.value.status, caught.value.message) == (400, "could not decompress request body")


@pytest.mark.parametrize(
    "encoding",
    [b"br", b"zstd", b"compress", b"\xff\xfe", b"x" * 100_000],
    ids=["br", "zstd", "compress", "junk", "long junk"],
)
def test_an_unknown_encoding_is_answered_400_and_named(encoding: bytes) -> None:
    with pytest.raises(BodyError) as caught:
        read(text(BATCH), encoding=encoding)
    assert caught.value.status == 400
    assert encoding[:64].decode("latin-1").lower() in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_an_empty_body_needs_no_decompression(encoding: bytes) -> None:
    assert read(b"", encoding=encoding).problem == texts.DATA_MISSING


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_a_bomb_is_answered_413_at_the_limit(pack: Any) -> None:
    limits = Limits(body_limit_bytes=10_000)
    fits = b"[" + b" " * 9_998 + b"]"
    encoding = b"gzip" if pack is gzip.compress else b"deflate"
    assert read(pack(fits), encoding=encoding, limits=limits).problem == texts.DATA_MISSING
    for plain in (fits + b" ", b" " * 50_000_000):
        with pytest.raises(BodyError) as caught:
            read(pack(plain), encoding=encoding, limits=limits)
        assert caught.value.status == 413
        assert caught.value.message == "request exceeds max limit of 10000 bytes"
