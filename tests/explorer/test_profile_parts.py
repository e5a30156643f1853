"""What a profile's pages are made of: values as people type them, rows, filters, sums."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from mixdown.explorer.pages.profile.known import names_id
from mixdown.explorer.pages.profile.relations import ids_named, members_where
from mixdown.explorer.pages.profile.revenue import DAYS_SHOWN, figures_of
from mixdown.explorer.pages.profile.rows import compared_rows, found, property_rows
from mixdown.explorer.pages.profile.subject import Subject
from mixdown.explorer.pages.profile.values import EDITORS, ValueProblem, editable_text, read_value
from mixdown.model.expression import matches, parse
from mixdown.model.expression_values import Context


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("text", "two\r\nlines", "two\nlines"),
        ("text", "", ""),
        ("number", " 12 ", 12),
        ("number", "-3.50", -3.5),
        ("number", "1e6", 1e6),
        ("number", "9223372036854775807", 2**63 - 1),
        ("boolean", "false", False),
        ("date", "2026-01-31", "2026-01-31T00:00:00"),
        ("date", "2026-01-31T12:00", "2026-01-31T12:00:00"),
        ("date", "2026-01-31 12:00:00+02:00", "2026-01-31T10:00:00"),
        ("list", '["a", 1, null]', ["a", 1, None]),
        ("object", '{"__proto__": {}}', {"__proto__": {}}),
    ],
)
def test_a_value_is_read_by_its_type(kind: str, text: str, value: Any) -> None:
    assert orjson.dumps(read_value(kind, text)) == orjson.dumps(value)
    assert kind == "date" or read_value(kind, editable_text(value)) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("number", ""),
        ("number", "1,5"),
        ("number", "NaN"),
        ("number", "1e999"),
        ("boolean", "yes"),
        ("date", "1768478400"),
        ("date", "tomorrow"),
        ("date", ""),
        ("list", "{}"),
        ("list", "[1"),
        ("object", "[]"),
        ("object", "[" * 5000),
        ("text", "x" * 262_145),
        ("thing", "x"),
    ],
)
def test_what_is_no_value_of_its_type_is_said(kind: str, text: str) -> None:
    with pytest.raises(ValueProblem) as problem:
        read_value(kind, text)
    assert str(problem.value).startswith("Type:" if kind not in EDITORS else "Value:")


def test_reserved_properties_come_first_and_a_search_looks_into_labels_and_values() -> None:
    held = {"zeta": [1, {"deep": "Needle"}], "$other": 1, "alpha": None, "$email": "a@b.c", "$name": "Ada"}
    rows = property_rows(held)
    assert [row["name"] for row in rows] == ["$name", "$email", "$other", "alpha", "zeta"]
    for wanted, names in (
        ("needle", ["zeta"]),
        ("E-MAIL", ["$email"]),
        ("  ", list(map(str, held))),
        ("x", []),
    ):
        assert {row["name"] for row in found(rows, wanted)} == set(names)


def test_one_and_one_point_zero_differ_and_the_order_of_names_does_not() -> None:
    rows = compared_rows(
        {"n": 1, "o": {"a": 1, "b": 2}, "t": True}, {"n": 1.0, "o": {"b": 2, "a": 1}, "t": 1}
    )
    assert {row["name"]: row["difference"] for row in rows} == {"n": "changed", "o": "", "t": "changed"}


@pytest.mark.parametrize(
    ("group_id", "value", "belongs"),
    [
        ("Acme", "Acme", True),
        ("Acme", ["x", "Acme"], True),
        ("Acme", "Acme Inc", False),
        ("42", 42, True),
        ("42", "42", True),
        ("042", 42, False),
        ("true", True, True),
        ('say "hi"\\\n\t\x7f', 'say "hi"\\\n\t\x7f', True),
        ('") or true or ("', "x", False),
    ],
)
def test_members_are_those_whose_property_names_the_group(group_id: str, value: Any, belongs: bool) -> None:
    key = 'a "key"\n'
    expression = parse(members_where(key, group_id))
    assert matches(expression, {key: value}, "u1", Context(0)) == belongs
    assert (group_id in ids_named(value)) == belongs


def test_charges_of_any_shape_are_summed_or_counted_apart() -> None:
    odd: list[Any] = [
        {"$amount": "2.50", "$time": 1768478400},
        {"$amount": 1, "$time": "0001-01-01T00:00:00"},
        {"$amount": None, "$time": ["x"]},
        {"$amount": True},
        "no charge",
    ]
    told = figures_of(odd)
    assert (told["sum"], told["count"], told["without_amount"]) == (3.5, 2, 3)
    assert len(told["chart"]["x"]) == DAYS_SHOWN
    assert sum(told["chart"]["series"][0]["values"]) == 2.5
    assert figures_of([{"$amount": 1, "$time": "0001-01-01T00:00:00"}])["chart"]["series"][0]["values"] == [1]
    assert figures_of([{"$amount": 1e308}, {"$amount": 1e308}])["sum"] is None
    nothing: list[Any] = [None, {}, "x", []]
    for none in nothing:
        assert (figures_of(none)["count"], figures_of(none)["chart"]) == (0, None)


def test_a_refused_record_is_about_the_id_that_it_names() -> None:
    user, group = Subject("a/b"), Subject("7", "Company")
    for record, subject, about in (
        ('{"$distinct_id":"a/b"}', user, True),
        ('{"$distinct_id":"x","note":"a/b"}', user, False),
        ('{"event":"e","properties":{"distinct_id":"a/b"}}', user, True),
        ('{"$group_key":"Company","$group_id":7}', group, True),
        ('{"$group_key":"Other","$group_id":7}', group, False),
        ('"a/b"', user, False),
        ('{"$distinct_id":"a/b"', user, False),
    ):
        assert names_id(record, subject) is about, record
