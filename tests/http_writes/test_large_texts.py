"""Bodies that are long or unfold to much: they say the same, and what is dear to parse is not parsed."""

import orjson
import pytest

from mixdown.http import jsontext
from mixdown.http.body import Decoded, decode
from mixdown.http.jsontext import LARGE_TEXT_BYTES, MalformedJsonError, parse_json
from mixdown.model import texts
from mixdown.model.limits import Limits
from mixdown.model.updates import Unreadable

TEN_MIB = 10 * 1024 * 1024
TOO_DEAR = texts.RECORD_TOO_DEAR.format(limit=50_000)


def filled(unit: bytes, size: int = TEN_MIB) -> bytes:
    """A JSON list of so many units that it is `size` bytes long."""
    return b"[" + b",".join([unit] * ((size - 2) // (len(unit) + 1))) + b"]"


def records(count: int, properties: int) -> bytes:
    names = range(properties)
    return orjson.dumps(
        [
            {
                "$distinct_id": f"é{n}",
                "$set": {f"k{p}": ["v" * 20, n, {"a": None}] for p in names},
            }
            for n in range(count)
        ]
    )


@pytest.mark.parametrize(
    "text",
    [
        records(500, 60),
        b" \n" + records(500, 60) + b"\t ",
        b"\xef\xbb\xbf" + records(500, 60),
        b'{"data":' + records(500, 60) + b"}",
        b'{ "verbose" : 1, "data" : ' + records(500, 60) + b"}",
        orjson.dumps({"$set": {"a": "x" * TEN_MIB}}),
        orjson.dumps("x" * TEN_MIB),
        orjson.dumps(["x" * TEN_MIB, 1, None, "", {}]),
    ],
    ids=["list", "blanks", "mark", "wrapped", "wrapped later", "one record", "text", "list with a text"],
)
def test_a_long_text_says_what_a_short_one_would(text: bytes) -> None:
    assert len(text) > LARGE_TEXT_BYTES
    plain = orjson.loads(text.removeprefix(b"\xef\xbb\xbf"))
    value = parse_json(text).value
    assert value == plain or value == {"data": plain["data"]}


@pytest.mark.parametrize("tail", [b"", b"]]", b",", b'"'])
def test_a_long_list_that_does_not_end_is_malformed(tail: bytes) -> None:
    with pytest.raises(MalformedJsonError):
        parse_json(records(500, 60)[:-1] + tail)


def test_one_malformed_element_makes_a_long_list_malformed_as_it_does_a_short_one() -> None:
    with pytest.raises(MalformedJsonError):
        parse_json(records(500, 60)[:-1] + b",{nonsense}]")


@pytest.mark.parametrize("unit", [b"1", b"{}", b"[]", b'{"a":1}', b'""', b"[[]]", b'{"a":{"b":[]}}'])
def test_a_list_of_too_many_elements_is_not_read_to_its_end(unit: bytes) -> None:
    """What stands at its end would make it malformed."""
    value = parse_json(filled(unit)[:-1] + b",nonsense", most=2000).value
    assert len(value) == 2001


@pytest.mark.parametrize(
    "inner",
    [filled(b"[]"), filled(b"{}"), filled(b"1"), b"{" + filled(b'"a":1')[1:-1] + b"}"],
    ids=["lists", "objects", "numbers", "names"],
)
@pytest.mark.parametrize(
    "around", [b'{"$token":"t","$set":{"a":%b}}', b'[{"$token":"t","$set":{"a":%b}}]', b"[%b]"]
)
def test_an_element_that_is_dear_to_parse_is_refused_unparsed(inner: bytes, around: bytes) -> None:
    value = parse_json(around % inner).value
    only = value[0] if isinstance(value, list) else value
    assert isinstance(only, Unreadable)
    assert only.message == TOO_DEAR
    assert len(only.text) <= jsontext.KEPT_BYTES


def test_a_dear_element_costs_its_neighbours_nothing() -> None:
    value = parse_json(b'[{"a":1},{"b":%b},{"c":[3]}]' % filled(b"[]")).value
    assert [type(element) for element in value] == [dict, Unreadable, dict]


def test_an_object_that_wraps_a_dear_list_is_read_by_elements_too() -> None:
    value = parse_json(b'{"data":%b}' % filled(b"{}"), most=2000).value
    assert len(value["data"]) == 2001


def test_invalid_bytes_in_a_long_list_are_repaired_or_refused_with_strict_one_by_one() -> None:
    text = b'[{"a":"\xff"},' + records(500, 60)[1:]
    assert parse_json(text).value[0] == {"a": "�"}
    strictly = parse_json(text, strict=True).value
    assert [type(element) for element in strictly[:2]] == [Unreadable, dict]


def plain_text(count: int, *, last: bytes = b"", data: bytes = b"x" * 600) -> bytes:
    each = [b'{"$token":"T","$distinct_id":"u%d","$set":{"a":"%b"}}' % (n, data) for n in range(count)]
    return b"[" + b" , ".join([*each, last] if last else each) + b"]"


def quickly(text: bytes) -> Decoded:
    return decode(
        method="POST",
        content_type=b"application/json",
        content_encoding=b"",
        query=b"",
        body=text,
        limits=Limits(string_limit_bytes=0),
        quick_for="engage",
    )


def test_a_long_list_of_plain_records_is_read_the_quick_way_in_order() -> None:
    text = plain_text(1999, last=b'{"$token":"T","$distinct_id":"last","$set":{"a":"],[,"}}')
    assert len(text) > LARGE_TEXT_BYTES
    taken = quickly(text).quick
    assert taken is not None
    assert [record.owner for record in taken] == [*(f"u{n}" for n in range(1999)), "last"]
    assert taken[-1].set == {"a": "],[,"}


@pytest.mark.parametrize(
    "text",
    [
        plain_text(1999, last=b"7"),
        plain_text(1999, last=b'{"$token":"T","$distinct_id":"u","$set":{"a":1e999}}'),
        plain_text(
            1999, last=b'{"$token":"T","$distinct_id":"u","$set":{"a":[%b]}}' % b",".join([b"1"] * 500_000)
        ),
        plain_text(2001),
        plain_text(2000)[:-1],
        plain_text(2000) + b"]",
        plain_text(2000, data=b"\xff" * 600),
    ],
    ids=["no record", "overflow", "a dear record", "too many", "cut off", "goes on", "invalid UTF-8"],
)
def test_a_long_list_that_wants_a_closer_look_is_read_the_long_way(text: bytes) -> None:
    assert len(text) > LARGE_TEXT_BYTES
    assert quickly(text).quick is None
