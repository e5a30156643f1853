"""The quick way gives what the long way gives, byte for byte, or stands aside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixdown.http.jsontext import MalformedJsonError, parse_json
from mixdown.model import quick
from mixdown.model.limits import Limits
from mixdown.model.payloads import Reading
from mixdown.model.quick import quick_updates, read_quickly
from mixdown.model.updates import Update, read_update
from mixdown.store.chunk import Segment, encode_segment
from tests.model.strategies import json_text, records

if TYPE_CHECKING:
    from tests.model.reference import Kind

TOKENS = {"TOK": 1, "OTHER": 2}
LIMITS = (Limits(), Limits(string_limit_bytes=0), Limits(string_limit_bytes=3), Limits(record_limit_bytes=64))
PLAIN: dict[str, Any] = {"$token": "TOK", "$distinct_id": "u1"}
GROUP: dict[str, Any] = {"$token": "TOK", "$group_key": "Company", "$group_id": "Acme"}


def quickly(text: bytes, limits: Limits, *, group: bool) -> list[Update] | None:
    taken = read_quickly(text, limits, group=group)
    return None if taken is None else quick_updates(taken, TOKENS)


def the_long_way(text: bytes, limits: Limits, *, group: bool) -> list[Any]:
    value, hostile = parse_json(text)
    reading = Reading(TOKENS, group=group, hostile=hostile, limits=limits)
    batch = value if type(value) is list else [value]
    return [read_update(raw, index, reading) for index, raw in enumerate(batch)]


def written(updates: list[Any]) -> bytes:
    """As the log has them, so that 1, 1.0 and true differ."""
    assert all(type(update) is Update for update in updates), updates
    return encode_segment(Segment("engage", "", None, None, updates))


def check(text: bytes, limits: Limits, *, group: bool) -> None:
    updates = quickly(text, limits, group=group)
    if updates is not None:
        assert written(updates) == written(the_long_way(text, limits, group=group))


@st.composite
def requests(draw: st.DrawFn, kind: Kind) -> bytes:
    batch = draw(st.lists(records(kind), min_size=1, max_size=3))
    text = json_text(batch if len(batch) > 1 or draw(st.booleans()) else batch[0])
    if draw(st.booleans()):
        return text.encode()
    try:
        return json.dumps(
            json.loads(text), ensure_ascii=False, indent=draw(st.sampled_from([None, 1]))
        ).encode("utf-8", "surrogatepass")
    except ValueError:
        return text.encode()


@given(requests("engage"), st.sampled_from(LIMITS))
@example(b'{"$token":"TOK","$distinct_id":"u\\u0000","$set":{"a":"x\\u0000"}}', Limits(string_limit_bytes=0))
def test_the_quick_way_agrees_with_the_long_way_for_users(text: bytes, limits: Limits) -> None:
    check(text, limits, group=False)


@given(requests("groups"), st.sampled_from(LIMITS))
def test_the_quick_way_agrees_with_the_long_way_for_groups(text: bytes, limits: Limits) -> None:
    check(text, limits, group=True)


@given(requests("engage"), st.integers(0, 400), st.integers(0, 3), st.binary(max_size=3))
@example(b'{"$token":"TOK","$distinct_id":"u1","$set":{"a":"x"},"junk":"y"}', 62, 1, b"\xff")
@example(b'{"$token":"TOK","$distinct_id":"u1","$set":{"a":"x"},"junk":00}', 61, 1, b"0")
@example(b'{"$token":"TOK","$distinct_id":"u1","$set":{"a":"x"}} ', 53, 0, b"{")
def test_text_that_is_damaged_is_never_taken_for_something_else(
    text: bytes, at: int, cut: int, put: bytes
) -> None:
    damaged = text[:at] + put + text[at + cut :]
    try:
        the_long_way(damaged, Limits(), group=False)
    except MalformedJsonError:
        assert quickly(damaged, Limits(), group=False) is None
    else:
        check(damaged, Limits(), group=False)


TAKEN: dict[str, tuple[Any, bool]] = {
    "each operator": (
        [
            PLAIN | {"$set": {"a": "x", "b": 1, "c": 1.5, "d": True, "e": None, "f": [1, {"g": ["h"]}]}},
            PLAIN | {"$set_once": {"$name": "é" * 63}},
            PLAIN | {"$add": {"n": 1, "m": -0.5}},
            PLAIN | {"$union": {"l": ["a", 1]}},
            PLAIN | {"$append": {"l": {"x": 1}}},
            PLAIN | {"$remove": {"l": "a"}},
            PLAIN | {"$unset": ["a", "b"]},
            PLAIN | {"$delete": ""},
            PLAIN | {"$delete": None, "$set": {"a": 1}},
        ],
        False,
    ),
    "a long text in ASCII": (PLAIN | {"$set": {"a": "x" * 255}}, False),
    "several operators in one record": (
        PLAIN | {"$append": {"l": 1}, "$unset": ["a"], "$set": {"b": 2}},
        False,
    ),
    "two projects": ([PLAIN | {"$set": {}}, PLAIN | {"$token": "OTHER", "$set": {}}], False),
    "a number as id": (PLAIN | {"$distinct_id": 17, "$set": {"a": 1}}, False),
    "what SDKs put beside": (
        PLAIN
        | {
            "$set": {"a": 1},
            "$time": 1_768_478_400_123,
            "$ip": 0,
            "$ignore_time": "true",
            "$ignore_alias": True,
            "$insert_id": "k",
            "$mp_metadata": {"$mp_event_id": "m"},
            "mp_lib": "web",
            "$os": "Linux",
        },
        False,
    ),
    "reserved names": (
        [
            PLAIN | {operator: {"$last_seen": "2026-01-01", "$token": "x", "$distinct_id": "y", "a": "z"}}
            for operator in ("$set", "$set_once", "$append", "$remove")
        ]
        + [PLAIN | {"$add": {"$ip": 1, "a": 1}}, PLAIN | {"$union": {"$ip": [1]}}],
        False,
    ),
    "a group": (GROUP | {"$set": {"a": 1}, "$time": 5.5}, True),
    "a key of metadata": (PLAIN | {"$add": {"n": 1}, "$mp_metadata": {"$mp_event_id": "m"}}, False),
}


@pytest.mark.parametrize("name", TAKEN)
def test_plain_records_take_the_quick_way(name: str) -> None:
    batch, group = TAKEN[name]
    for text in (json.dumps(batch).encode(), json.dumps(batch, ensure_ascii=False).encode()):
        assert quickly(text, Limits(), group=group) is not None
        check(text, Limits(), group=group)


LEFT: dict[str, tuple[bytes, bool]] = {
    "NUL": (b'{"$token":"TOK","$distinct_id":"u\\u0000","$set":{"a":1}}', False),
    "a lone surrogate": (b'{"$token":"TOK","$distinct_id":"u1","$set":{"a":"\\ud800"}}', False),
    "invalid UTF-8": (b'{"$token":"TOK","$distinct_id":"u1","$set":{"a":"\xff"}}', False),
    "a text that will be cut": (json.dumps(PLAIN | {"$set": {"a": "x" * 256}}).encode(), False),
    "a text that may be cut": (json.dumps(PLAIN | {"$set": {"a": "é" * 64}}).encode(), False),
    "a long name": (json.dumps(PLAIN | {"$set": {"a" * 256: 1}}).encode(), False),
    "a $last_seen that is meant": (
        json.dumps(PLAIN | {"$set": {"$last_seen": "2026-01-01"}, "$ignore_time": True}).encode(),
        False,
    ),
    "a reserved name to unset": (json.dumps(PLAIN | {"$unset": ["$last_seen"]}).encode(), False),
    "an address inside $set": (json.dumps(PLAIN | {"$set": {"$ip": "1.2.3.4", "a": 1}}).encode(), False),
    "a large integer": (json.dumps(PLAIN | {"$set": {"a": 2**63}}).encode(), False),
    "no finite number": (b'{"$token":"TOK","$distinct_id":"u1","$set":{"a":1e999}}', False),
    "a text to add": (json.dumps(PLAIN | {"$add": {"a": "1"}}).encode(), False),
    "true to add": (json.dumps(PLAIN | {"$add": {"a": True}}).encode(), False),
    "a scalar to union": (json.dumps(PLAIN | {"$union": {"a": 1}}).encode(), False),
    "$merge": (json.dumps(PLAIN | {"$merge": {"a": {}}}).encode(), False),
    "no operator": (json.dumps(PLAIN).encode(), False),
    "no token": (b'{"$distinct_id":"u1","$set":{}}', False),
    "another token": (json.dumps(PLAIN | {"$token": "NO", "$set": {}}).encode(), False),
    "no id": (b'{"$token":"TOK","$set":{}}', False),
    "an empty id": (json.dumps(PLAIN | {"$distinct_id": "", "$set": {}}).encode(), False),
    "an empty group key": (json.dumps(GROUP | {"$group_key": "", "$set": {}}).encode(), True),
    "a group's id that is true": (json.dumps(GROUP | {"$group_id": True, "$set": {}}).encode(), True),
    "the wrapping of its data": (b'{"data":[{"$token":"TOK","$distinct_id":"u1","$set":{}}]}', False),
    "an empty list": (b"[]", False),
    "objects without a list": (
        b'{"$token":"TOK","$distinct_id":"u1","$set":{}},{"$token":"TOK","$distinct_id":"u2","$set":{}}',
        False,
    ),
    "a good record beside one that is none": (b'[{"$token":"TOK","$distinct_id":"u1","$set":{}},7]', False),
    "a user's record that names a group key of its own": (
        json.dumps(PLAIN | {"$set": {}, "group_key": "Company"}).encode(),
        False,
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_wants_a_closer_look_is_left_to_the_long_way(name: str) -> None:
    text, group = LEFT[name]
    assert quickly(text, Limits(), group=group) is None


def test_large_records_are_left_to_the_long_way() -> None:
    text = json.dumps([PLAIN | {"$set": {"a": [1] * 20_000}}] * 20).encode()
    assert len(text) > Limits().record_limit_bytes
    assert quickly(text, Limits(), group=False) is not None
    text = json.dumps([PLAIN | {"$set": {"a": [1] * 200_000}}] * 4).encode()
    assert quickly(text, Limits(), group=False) is None


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("_CLEAN", lambda _: True),
        ("NUL_ESCAPE", b"never"),
        ("NAME_LIMIT_CHARS", 300),
        ("epoch_ms", lambda _: 0),
    ],
)
def test_a_mutant_of_the_quick_way_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, mutant: Any
) -> None:
    quick._decoder.cache_clear()
    monkeypatch.setattr(quick, name, mutant)
    payloads: list[Any] = [{"$ip": "1.2.3.4"}, {"a": "\0"}, {"a" * 256: 1}, {"a": 1}]
    batch = [PLAIN | {"$set": payload, "$time": 1.5e9} for payload in payloads]

    def check_all() -> None:
        for record in batch:
            check(json.dumps(record).encode(), Limits(), group=False)

    with pytest.raises(AssertionError):
        check_all()
    quick._decoder.cache_clear()
    monkeypatch.undo()
    check_all()
