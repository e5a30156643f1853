"""Filters built by hand: what rows make, what an expression is in rows, and that the two never differ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixdown.explorer.conditions import (
    ANY,
    OPERATORS,
    Conditions,
    Row,
    RowError,
    given_rows,
    rows_of,
    text_of,
)
from mixdown.model.expression import parse
from mixdown.model.values import clean_text

WRITTEN = [
    (Row("plan", "is", "pro"), 'properties["plan"] == "pro"'),
    (Row("plan", "is-not", ""), 'properties["plan"] != ""'),
    (Row("plan", "one-of", "pro, free"), 'properties["plan"] in ["pro", "free"]'),
    (Row("plan", "none-of", "pro"), 'not properties["plan"] in ["pro"]'),
    (Row("$email", "contains", '"@x"'), '"\\"@x\\"" in properties["$email"]'),
    (Row("$email", "lacks", "{p} {v}"), 'not "{p} {v}" in properties["$email"]'),
    (Row("a", "begins", "x"), 'has_prefix(properties["a"], "x")'),
    (Row("a", "ends", "x"), 'has_suffix(properties["a"], "x")'),
    (Row("age", "eq", "36"), 'properties["age"] == 36'),
    (Row("age", "ne", "-1.5"), 'properties["age"] != -1.5'),
    (Row("age", "gt", "1e+300"), 'properties["age"] > 1e+300'),
    (Row("age", "ge", "0"), 'properties["age"] >= 0'),
    (Row("age", "lt", "0.5"), 'properties["age"] < 0.5'),
    (Row("age", "le", "7"), 'properties["age"] <= 7'),
    (Row("t", "since", "2026-01-31"), 'datetime(properties["t"]) >= datetime("2026-01-31")'),
    (
        Row("t", "before", "2026-01-31T12:00:00"),
        'datetime(properties["t"]) < datetime("2026-01-31T12:00:00")',
    ),
    (Row("t", "within", "7"), 'datetime(properties["t"]) > datetime(NOW - 604800)'),
    (Row("t", "older", "1"), 'datetime(properties["t"]) <= datetime(NOW - 86400)'),
    (Row("on", "true"), 'properties["on"] == true'),
    (Row("on", "false"), 'properties["on"] == false'),
    (Row("tags", "has", "red"), '"red" in list(properties["tags"])'),
    (Row("tags", "has-not", "red"), 'not "red" in list(properties["tags"])'),
    (Row('say "{v}"', "set"), 'defined(properties["say \\"{v}\\""])'),
    (Row("é\n", "unset"), 'not defined(properties["é\\n"])'),
]


@pytest.mark.parametrize(("row", "text"), WRITTEN)
def test_a_row_is_an_expression_and_the_expression_the_row(row: Row, text: str) -> None:
    assert text_of(Conditions((row,))) == text
    assert rows_of(parse(text)) == Conditions((row,))


def test_every_operator_is_tried() -> None:
    assert {row.operator for row, _ in WRITTEN} == OPERATORS.keys()


@pytest.mark.parametrize("joined", ["all", "any"])
def test_several_rows_are_joined(joined: str) -> None:
    conditions = Conditions(tuple(row for row, _ in WRITTEN), joined)
    text = text_of(conditions)
    assert text.count(" or " if joined == ANY else " and ") == len(WRITTEN) - 1
    assert rows_of(parse(text)) == conditions


TEXTS = st.text(max_size=12).map(clean_text)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str), st.floats(allow_nan=False, allow_infinity=False).map(repr)
)
LISTS = st.lists(
    TEXTS.map(lambda text: text.replace(",", "").strip()).filter(bool), min_size=1, max_size=4
).map(", ".join)
VALUES = {
    "text": TEXTS,
    "number": NUMBERS,
    "time": st.datetimes().map(lambda time: time.replace(microsecond=0, fold=0).isoformat()),
    "days": st.integers(0, 99_999).map(str),
    "list": LISTS,
    "nothing": st.just(""),
}


@st.composite
def rows(draw: st.DrawFn) -> Row:
    name = draw(st.sampled_from(sorted(OPERATORS)))
    property_name = draw(TEXTS.filter(lambda text: bool(text.strip())))
    return Row(property_name, name, draw(VALUES[OPERATORS[name].takes]))


@given(st.lists(rows(), min_size=1, max_size=5), st.sampled_from(["all", "any"]))
def test_whatever_is_typed_the_two_forms_say_the_same(given_rows: list[Row], joined: str) -> None:
    text = text_of(Conditions(tuple(given_rows), joined))
    back = rows_of(parse(text))
    assert back is not None
    assert [(row.property, row.operator) for row in back.rows] == [
        (row.property, row.operator) for row in given_rows
    ]
    assert rows_of(parse(text_of(back))) == back
    for row, read in zip(given_rows, back.rows, strict=True):
        if OPERATORS[row.operator].takes == "number":
            assert float(read.value) == float(row.value)
        else:
            assert read.value == row.value
    if len(given_rows) > 1:
        assert back.joined == joined


@pytest.mark.parametrize(
    "text",
    [
        'properties["a"] + 1 == 2',
        'properties["a"] == properties["b"]',
        'properties["a"] == 1 and (properties["b"] == 1 or properties["c"] == 1)',
        'any(x, properties["a"], x == 1)',
        'not properties["a"] == 1',
        'event["a"] == 1',
        'properties["a"] == null',
        'properties["a"] == undefined',
        'properties["a"] > "x"',
        'properties["a"] in ["x", 1]',
        'properties["a"] in ["x,y"]',
        'properties["a"] in []',
        '1 == properties["a"]',
        'datetime(properties["a"]) > datetime(NOW - 5)',
        'datetime(properties["a"]) > datetime("2026-01-01")',
        'datetime(properties["a"]) < datetime("next week")',
        'properties[" "] == 1',
        '"x" in "xyz"',
        "true",
        " or ".join(['properties["a"] == 1'] * 51),
    ],
)
def test_what_rows_cannot_say_stays_a_text(text: str) -> None:
    assert rows_of(parse(text)) is None


def test_a_blank_text_is_no_rows_and_a_bare_property_is_a_true_one() -> None:
    assert rows_of(parse(" ")) == Conditions(())
    assert text_of(Conditions(())) == ""
    assert rows_of(parse('user["on"]')) == Conditions((Row("on", "true"),))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row("age", "eq", "old"), "this is no number"),
        (Row("age", "eq", ""), "this is no number"),
        (Row("t", "since", "2026-02-31"), "this is no time"),
        (Row("t", "before", "soon"), "this is no time"),
        (Row("t", "within", "1.5"), "this is no number of days"),
        (Row("plan", "one-of", " , "), "name at least one value"),
        (Row("plan", "like", "x"), "choose what is to be compared"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(row: Row, said: str) -> None:
    with pytest.raises(RowError) as caught:
        text_of(Conditions((Row("a", "set"), row)))
    assert caught.value.place == 1
    assert said in caught.value.message


def test_minutes_are_enough_for_a_time() -> None:
    assert '"2026-01-31T12:30:00"' in text_of(Conditions((Row("t", "since", " 2026-01-31T12:30 "),)))


def test_rows_of_a_form_without_a_property_say_nothing() -> None:
    assert given_rows(["a", " ", "b"], ["is", "is", "set"], ["x", "y"]) == (
        Row("a", "is", "x"),
        Row("b", "set", ""),
    )
    assert len(given_rows(["a"] * 99, ["set"] * 99, [""] * 99)) == 50
