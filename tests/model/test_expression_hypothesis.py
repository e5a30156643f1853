"""Expressions in Python, held against a reference that was written apart, on generated expressions."""

from datetime import UTC
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from mixdown.model.errors import ExpressionError
from mixdown.model.expression import UNDEFINED, Context, document_predicate, evaluate, matches, parse
from tests.model.expression_reference import ABSENT, Moment, World, truth_of, value_of
from tests.model.expression_strategies import (
    NEW_YORK,
    NOW_S,
    Rules,
    Tree,
    one_of_each,
    population,
    rules,
    text_of,
    trees,
    values,
)
from tests.model.expression_tables import GIVEN_TABLES, MEANT_TABLES

PEOPLE = population()
DOCUMENTS = [(profile_id, orjson.dumps(row)) for profile_id, row in PEOPLE]


def expected(tree: Tree, rules: Rules) -> list[str]:
    """The ids that the reference selects."""
    zone, ci_strings = rules
    return [
        name
        for name, row in PEOPLE
        if truth_of(tree, World(row, name, NOW_S, zone, tables=MEANT_TABLES, ci_strings=ci_strings))
    ]


def check(tree: Tree, rules: Rules = (UTC, False)) -> None:
    expression = parse(text_of(tree), GIVEN_TABLES.get)
    decide = document_predicate(expression, Context(NOW_S, *rules))
    assert [name for name, document in DOCUMENTS if decide(name, document)] == expected(tree, rules)


def test_each_comparison_with_each_value_is_as_the_reference_has_it() -> None:
    for tree in one_of_each()[::5]:
        check(tree)
    for tree in one_of_each()[1::9]:
        check(tree, NEW_YORK)


@settings(max_examples=60, deadline=None)
@given(trees, rules)
def test_generated_expressions_select_what_the_reference_selects(tree: Tree, rules: Rules) -> None:
    check_generated(tree, rules)


def check_generated(tree: Tree, rules: Rules) -> None:
    try:
        parse(text_of(tree), GIVEN_TABLES.get)
    except ExpressionError as error:
        assert "joins conditions" in error.reason  # noqa: PT017 - it is the only reason there may be
        return
    check(tree)
    check(tree, rules)


def plain(value: Any) -> Any:
    """A value of the reference as the product shows it."""
    if isinstance(value, list):
        return [None if item is ABSENT else plain(item) for item in value]
    return value.seconds if isinstance(value, Moment) else value


def _doubled(value: Any) -> Any:
    """A value with the number -2**63 as a double: its literal is the `-` of one past 64 bits."""
    if type(value) is list:
        return [_doubled(item) for item in value]
    return float(value) if type(value) is int and value == -(2**63) else value


@settings(max_examples=60, deadline=None)
@given(values)
def test_generated_values_are_those_of_the_reference(tree: Tree) -> None:
    expression = parse(text_of(tree), GIVEN_TABLES.get)
    for name, row in PEOPLE[:60]:
        value = evaluate(expression, row, name, Context(NOW_S))
        wanted = plain(value_of(tree, World(row, name, NOW_S, UTC, tables=MEANT_TABLES)))
        if wanted is ABSENT:
            assert value is UNDEFINED
        elif type(wanted) in (int, float):
            assert type(value) in (int, float)
            assert value == wanted
        else:
            assert repr(_doubled(value)) == repr(_doubled(wanted))
        assert matches(expression, row, name, Context(NOW_S)) is (wanted is True)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(trees, rules)
def test_many_generated_expressions_select_what_the_reference_selects(tree: Tree, rules: Rules) -> None:
    check_generated(tree, rules)
