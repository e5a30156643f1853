"""When two JSON values are equal (contract ingestion §4.6): the rule behind `$union` and `$remove`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from mixdown.model import values
from tests.model import reference
from tests.model.strategies import elements, numbers

if TYPE_CHECKING:
    from tests.model.reference import Json

#: Values within one row are equal to each other and to nothing in any other row.
CLASSES: list[list[Json]] = [
    [0, 0.0, -0.0],
    [1, 1.0],
    [2**53, 2.0**53],
    [2**53 + 1],
    [0.1],
    [True],
    [False],
    [None],
    [""],
    ["1"],
    ["1.0"],
    ["true"],
    ["null"],
    ["a"],
    ["A"],
    ["é"],
    ["e\u0301"],
    [[]],
    [[1], [1.0]],
    [[True]],
    [["1"]],
    [[1, 2]],
    [[2, 1], [2.0, 1.0]],
    [[[1]]],
    [[None]],
    [[[]]],
    [{}],
    [[{}]],
    [{"x": 1}, {"x": 1.0}],
    [{"x": True}],
    [{"x": "1"}],
    [{"x": None}],
    [{"X": 1}],
    [{"x": 1, "y": [1, {"z": 0}]}, {"y": [1.0, {"z": 0.0}], "x": 1}],
    [{"x": 1, "y": [1, {"z": False}]}],
    [{"x": 1, "y": None}],
    [["x", 1]],
    [[["x", 1]]],
    [["list"]],
    [["dict"]],
    ["list"],
]

PAIRS = [
    (a, b, one == other)
    for (one, first), (other, second) in itertools.product(enumerate(CLASSES), repeat=2)
    for a, b in itertools.product(first, second)
]


def wrong_pairs() -> list[tuple[Json, Json]]:
    """The pairs that the product's equality gets wrong."""
    return [(a, b) for a, b, same in PAIRS if (values.canonical(a) == values.canonical(b)) is not same]


def test_equality_of_every_pair() -> None:
    assert wrong_pairs() == []


def test_reference_agrees_on_every_pair() -> None:
    assert [(a, b) for a, b, same in PAIRS if reference.equal(a, b) is not same] == []


@pytest.mark.parametrize("row", CLASSES, ids=str)
def test_equal_values_have_equal_hashes(row: list[Json]) -> None:
    assert len({hash(values.canonical(value)) for value in row}) == 1


@settings(max_examples=300, deadline=None)
@given(elements, elements)
def test_any_two_values(a: Json, b: Json) -> None:
    assert (values.canonical(a) == values.canonical(b)) is reference.equal(a, b)


@settings(max_examples=200, deadline=None)
@given(numbers, numbers)
def test_any_two_numbers(a: Json, b: Json) -> None:
    assert (values.canonical(a) == values.canonical(b)) is reference.equal(a, b)
