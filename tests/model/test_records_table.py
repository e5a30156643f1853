"""Which records are good, and what an `Update` carries (contract ingestion §3, §4.1, §4.4, §6.5, §10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mixdown.model import updates
from tests.model import product, record_rows, reference
from tests.model.record_rows import RecordRow, check_record_row
from tests.model.strategies import ARRIVAL, GEO

if TYPE_CHECKING:
    from tests.model.operator_rows import Implementation
    from tests.model.reference import Document, Json, Kind

IMPLEMENTATIONS: list[Implementation] = [product.update, reference.update]
each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=["product", "reference"])


@each_implementation
@pytest.mark.parametrize("row", record_rows.ROWS, ids=lambda row: f"{row.record!r:.70}")
def test_record_is_judged(row: RecordRow, implementation: Implementation) -> None:
    check_record_row(row, implementation)


def good(record: Document, kind: Kind = "engage") -> updates.Update:
    judged = product.read(record, kind=kind)
    assert isinstance(judged, updates.Update), judged
    return judged


def user(**fields: Json) -> Document:
    return {"$token": "TOK", "$distinct_id": "u1", **{f"${name}": value for name, value in fields.items()}}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("u1", "u1"),
        (" U1 ", " U1 "),
        (3473, "3473"),
        (-5, "-5"),
        (7.0, "7"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (2**53 + 1, "9007199254740993"),
        (10**20, "100000000000000000000"),
        (1e15, "1000000000000000"),
        ("a\0b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("x" * 300, "x" * 300),
    ],
)
def test_distinct_id_is_text(given: Json, text: str) -> None:
    assert good(user(set={}, distinct_id=given)).id == text


@pytest.mark.parametrize(
    ("given", "text"), [(True, "true"), (False, "false"), (5, "5"), (5.0, "5"), ("a", "a")]
)
def test_group_id_is_text_and_takes_booleans(given: Json, text: str) -> None:
    record: Document = {"$token": "TOK", "$group_key": "Company", "$group_id": given, "$set": {}}
    update = good(record, "groups")
    assert (update.group_key, update.id) == ("Company", text)


def test_user_update_has_no_group_key_and_names_its_project() -> None:
    update = good({**user(set={}), "$group_key": "Company", "$group_id": "Acme"})
    assert (update.project, update.group_key, update.id) == (product.PROJECT, "", "u1")


def test_unknown_token_is_refused_before_its_ids_are_looked_at() -> None:
    judged = product.read({"$token": "NOPE", "$set": "x"})
    assert judged == updates.Refusal(0, "$token", "$token, no project has this token", 0)


def test_refusal_knows_index_and_project() -> None:
    reading = updates.Reading(projects={"TOK": 7})
    judged = updates.read_update({"$token": "TOK", "$distinct_id": "u1"}, 41, reading)
    assert judged == updates.Refusal(41, "", "no operation, missing or empty", 7)


@pytest.mark.parametrize(
    ("given", "on"),
    [
        (True, True),
        (1, True),
        (1.0, True),
        ("true", True),
        ("TRUE", True),
        ("1", True),
        (False, False),
        (0, False),
        ("false", False),
        ("False", False),
        ("0", False),
        ("", False),
        ("junk", False),
        (None, False),
        ([], False),
        ({}, False),
    ],
)
def test_flags_of_a_record(given: Json, on: bool) -> None:
    assert bool(good(user(set={}, ignore_alias=given)).flags & updates.IGNORE_ALIAS) is on
    assert bool(good(user(set={}, ignore_time=given)).flags & updates.IGNORE_TIME) is on


@pytest.mark.parametrize(
    ("given", "milliseconds"),
    [
        (1768392000, 1768392000_000),
        (1768392000.25, 1768392000_250),
        (1768392000_123, 1768392000_123),
        ("1768392000", 1768392000_000),
        (" 1768392000.5 ", 1768392000_500),
        (99_999_999_999, 99_999_999_999_000),
        (10**11, 10**11),
        (0, 0),
        (-1, 0),
        (True, 0),
        (None, 0),
        ("soon", 0),
        ("nan", 0),
        ("0x10", 0),
        (10**400, 0),
        (10**18, 0),
        ([1768392000], 0),
    ],
)
def test_time_of_a_record_is_seconds_or_milliseconds(given: Json, milliseconds: int) -> None:
    assert good(user(set={}, time=given)).time_ms == milliseconds


@pytest.mark.parametrize(
    ("record", "names"),
    [
        (user(set={"$city": "Rome", "a": 1}), {"$city", "a"}),
        (user(set_once={"$city": "Rome"}), {"$city"}),
        (user(set={"a": 1}, set_once={"b": 1}, add={"c": 1}), {"a", "b"}),
        (user(set={}), set()),
        (user(set=[]), set()),
        (user(add={"n": 1}), None),
        (user(union={"l": [1]}, append={"l": 1}, remove={"l": 1}, merge={"o": {}}, unset=["a"]), None),
        (user(delete="", set={"a": 1}), None),
    ],
)
def test_location_goes_with_set_and_set_once_alone(record: Document, names: set[str] | None) -> None:
    assert updates.geo_names_left(good(record)) == names


@pytest.mark.parametrize(
    ("record", "address"),
    [
        (user(set={}), None),
        (user(set={}, ip="203.0.113.9"), "203.0.113.9"),
        (user(set={}, ip=0), 0),
        (user(set={}, ip=""), ""),
        (user(set={"$ip": "203.0.113.9"}), "203.0.113.9"),
        (user(set_once={"$ip": "203.0.113.9"}), "203.0.113.9"),
        (user(set={"$ip": "203.0.113.9"}, ip="0"), "0"),
        (user(set={"$ip": "203.0.113.9"}, ip=None), "203.0.113.9"),
        (user(add={"$ip": "203.0.113.9"}), None),
        (user(set=[]), None),
    ],
)
def test_address_of_a_record(record: Document, address: Json) -> None:
    assert updates.record_ip(record) == address


GEO_ROWS: list[tuple[Document, Document, Document]] = [
    # record, before, after
    (user(set={"a": 1}), {}, {**GEO, "a": 1}),
    (user(set_once={"a": 1}), {"$city": "Rome"}, {**GEO, "a": 1}),
    (user(set={"$city": "Rome"}), {}, {**GEO, "$city": "Rome"}),
    (user(set_once={"$city": "Rome"}), {"$city": "Oslo"}, {**GEO, "$city": "Oslo"}),
    (user(set={}, unset=["$city"]), {"$city": "Oslo"}, GEO),
    (user(set={"a": 1}, unset=["a"], add={"n": 1}), {"a": 0}, {**GEO, "a": 1, "n": 1}),
    (user(set={"$city": None}), {}, {**GEO, "$city": None}),
    (user(set={"$city": 10**400}), {"$city": "Oslo"}, GEO),
    (user(add={"n": 1}), {"$city": "Oslo"}, {"$city": "Oslo", "n": 1}),
    (user(unset=["a"]), {"a": 1}, {}),
    (user(append={"$city": 1}), {}, {"$city": [1]}),
]


@each_implementation
@pytest.mark.parametrize(("record", "before", "after"), GEO_ROWS)
def test_location_is_overwritten_unless_the_record_names_it(
    record: Document, before: Document, after: Document, implementation: Implementation
) -> None:
    outcome = implementation(record, kind="engage", strict=False, arrival=ARRIVAL, geo=GEO, stored=before)
    expected = {**after, "$last_seen": "2026-01-15T12:00:00"}
    assert outcome == reference.Applied(expected)
