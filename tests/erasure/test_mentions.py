"""Which refused records name somebody: they are erased with them."""

from __future__ import annotations

import base64
from urllib.parse import quote, urlencode

import orjson
import pytest

from mixdown.model.mentions import mentions

ODD = 'ünï "quoted" id'


def text(value: object) -> str:
    return orjson.dumps(value).decode()


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        (text({"$token": "t", "$distinct_id": "ada", "$set": 5}), True),
        (text({"$token": "t", "$distinct_id": "bob", "$set": {"friend": "ada"}}), False),
        (text({"$distinct_id": "adam"}), False),
        (text([{"$distinct_id": "bob"}, {"$distinct_id": "ada"}]), True),
        (text({"event": "x", "properties": {"distinct_id": "ada"}}), True),
        (text({"properties": {"$user_id": "ada", "$device_id": "d"}}), True),
        (text({"$identified_id": "x", "$anon_id": "ada"}), True),
        (text({"properties": {"$device_id": "d7", "$user_id": "bob"}}), True),
        (text({"properties": {"$device_id": "$device:d7"}}), True),
        (text({"properties": {"$user_id": "d7"}}), False),
        (text({"$create_alias": {"properties": {"alias": "ada"}}}), True),
        (text({"distinct_ids": ["bob", "ada"]}), True),
        (text({"$group_key": "ada", "$group_id": "ada"}), False),
        (text("ada"), True),
        (text(5), False),
        ('{"$distinct_id":"ada","$set":{"cut":"of', True),
        ('{"$distinct_id":"adamant","$set":{"cut":"of', False),
        (urlencode({"data": text({"$distinct_id": "ada"})})[:-2], True),
        (quote(base64.b64encode(text({"$distinct_id": "ada", "$set": {"a": "b"}}).encode())), True),
        ("data=" + base64.b64encode(text({"$distinct_id": "bob", "$set": 1}).encode()).decode(), False),
        ("[" * 100_000, False),
        ("", False),
    ],
)
def test_a_user_is_found_under_names_for_ids_and_in_what_cannot_be_parsed(record: str, wanted: bool) -> None:
    assert mentions(record, {"ada", "zoe", "$device:d7"}, "") is wanted


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"$group_key": "Company", "$group_id": "Acme"}, True),
        ({"$group_key": "Team", "$group_id": "Acme"}, False),
        ({"$group_id": "Acme"}, True),
        ({"$distinct_id": "Acme"}, False),
        ({"$group_key": "Company", "$group_id": "Node"}, False),
    ],
)
def test_a_group_is_found_with_its_key_or_where_there_is_none(record: object, wanted: bool) -> None:
    assert mentions(text(record), {"Acme"}, "Company") is wanted


def test_numbers_and_awkward_ids_are_known_as_they_would_have_been_stored() -> None:
    assert mentions('{"$distinct_id":4242.0}', {"4242"}, "")
    assert mentions('{"$distinct_id":"a\\u0000b"}', {"a\N{REPLACEMENT CHARACTER}b"}, "")
    assert mentions(text({"$distinct_id": ODD}), {ODD}, "")
    cut = text({"$distinct_id": ODD, "$set": 1})[:-2]
    assert mentions(cut, {ODD}, "")
    assert mentions(
        cut.encode("ascii", "backslashreplace")
        .decode()
        .replace("\\xfc", "\\u00fc")
        .replace("\\xef", "\\u00ef"),
        {ODD},
        "",
    )
