"""What else a record brings: its idempotency key, the string limit in force, the text kept of a refusal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mixdown.model import updates
from mixdown.model.limits import Limits
from mixdown.model.operators import Operator
from tests.model import product

if TYPE_CHECKING:
    from tests.model.reference import Document, Json


def key_of(record: Document, *, project: int = 7, group: bool = False) -> bytes | None:
    judged = updates.read_update(record, 0, updates.Reading(projects={"TOK": project}, group=group))
    assert isinstance(judged, updates.Update), judged
    return judged.key


def user(**fields: Json) -> Document:
    named = {f"${name}": value for name, value in fields.items()}
    return {"$token": "TOK", "$distinct_id": "u1", "$add": {"n": 1}, **named}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"insert_id": ""},
        {"insert_id": None},
        {"insert_id": True},
        {"insert_id": []},
        {"mp_metadata": 5},
        {"mp_metadata": {}},
        {"mp_metadata": {"$mp_event_id": ""}},
        {"mp_metadata": {"$mp_session_id": "s"}},
    ],
)
def test_a_record_without_an_id_of_its_own_has_no_key(fields: Document) -> None:
    assert key_of(user(**fields)) is None


def test_a_key_is_sixteen_bytes_whatever_the_id() -> None:
    for insert_id in ("a", "x" * 10_000, "\0", "\ud800", 5, 5.0, 1.5):
        key = key_of(user(insert_id=insert_id))
        assert key is not None
        assert len(key) == updates.KEY_BYTES


def test_a_retry_has_the_same_key_whatever_else_changed() -> None:
    first = key_of(user(insert_id="i1"))
    assert first == key_of({**user(insert_id="i1"), "$add": {"n": 2}, "$time": 1, "unknown": 1})
    assert first == key_of(user(mp_metadata={"$mp_event_id": "i1"}))
    assert first == key_of(user(insert_id="i1", mp_metadata={"$mp_event_id": "other"}))


def test_records_of_other_ids_kinds_and_projects_have_other_keys() -> None:
    group: Document = {"$token": "TOK", "$group_id": "u1", "$set": {}, "$insert_id": "i1"}
    keys = [
        key_of(user(insert_id="i1")),
        key_of(user(insert_id="i2")),
        key_of({**user(insert_id="i1"), "$distinct_id": "u2"}),
        key_of(user(insert_id="i1"), project=8),
        key_of({**group, "$group_key": "Company"}, group=True),
        key_of({**group, "$group_key": "Team"}, group=True),
    ]
    assert len(set(keys)) == len(keys)


def test_digest_key_keeps_its_parts_apart() -> None:
    assert updates.digest_key("ab", "c") != updates.digest_key("a", "bc")
    assert updates.digest_key("a", "") != updates.digest_key("a")
    assert updates.digest_key("a", "b") != updates.digest_key("b", "a")


@pytest.mark.parametrize(
    ("limit_bytes", "text", "stored"),
    [
        (255, "x" * 300, "x" * 255),
        (0, "x" * 100_000, "x" * 100_000),
        (1, "abc", "a"),
        (1, "é", ""),
        (4, "\U0001f600\U0001f600", "\U0001f600"),
        (1000, "é" * 501, "é" * 500),
        (1000, "x" * 1000, "x" * 1000),
    ],
)
@pytest.mark.parametrize("hostile", [False, True])
def test_the_string_limit_can_be_set(limit_bytes: int, text: str, stored: str, hostile: bool) -> None:
    limits = Limits(string_limit_bytes=limit_bytes)
    reading = updates.Reading(projects={"TOK": 7}, hostile=hostile, limits=limits)
    record: Document = {
        "$token": "TOK",
        "$distinct_id": "u1",
        "$set": {"a": text, "l": [text], "o": {"k": text}},
    }
    judged = updates.read_update(record, 0, reading)
    assert isinstance(judged, updates.Update)
    assert judged.operations == [(Operator.SET, {"a": stored, "l": [stored], "o": {"k": stored}})]


def test_reading_leaves_the_raw_record_as_it_came() -> None:
    record: Document = {
        "$token": "TOK",
        "$distinct_id": "u1",
        "$set": {"a": "\0" * 300, "$ip": "::1", "l": [2**70], "o": {"\0": 1}},
        "$union": {"l": "x"},
    }
    before = json.dumps(record)
    assert isinstance(product.read(record, hostile=True), updates.Update)
    assert isinstance(
        updates.read_update(record, 0, updates.Reading(projects={"TOK": 7}, hostile=True)), updates.Update
    )
    assert json.dumps(record) == before


@pytest.mark.parametrize(
    ("raw", "limit_bytes", "text", "whole"),
    [
        ({"a": 1}, 100, '{"a":1}', True),
        ("é", 4, '"é"', True),
        ("é", 3, '"é"', False),
        (["x" * 5000], 4000, '["' + "x" * 1022, False),
        (["é" * 5000], 4000, '["' + "é" * 511, False),
        ({"a": 2**70}, 100, '{"a": 1180591620717411303424}', True),
        ({"a": None, "b": [None]}, 100, '{"a":null,"b":[null]}', True),
        ({"a": float("inf")}, 1000, '{"a": 1' + "0" * 309 + "}", True),
        ([None, float("-inf")], 1000, "[null, -1" + "0" * 309 + "]", True),
        ({"a": "\ud800"}, 100, '{"a": "\\ud800"}', True),
    ],
)
def test_the_text_kept_of_a_refused_record(raw: Json, limit_bytes: int, text: str, whole: bool) -> None:
    assert updates.record_text(raw, limit_bytes) == (text, whole)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 10**400, "\ud800", 2**70, None, 0.1, "é"])
def test_a_kept_record_is_refused_again_when_sent_again_unmended(value: Json) -> None:
    record = user(insert_id=None) | {"$add": {"n": value}}
    text, whole = updates.record_text(record, 100_000)
    assert whole
    again = json.loads(text)
    reading = updates.Reading(projects={"TOK": 7}, strict=True, hostile=True)
    assert updates.read_update(again, 0, reading) == updates.read_update(record, 0, reading)
