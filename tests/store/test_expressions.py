"""Expressions as SQL: an engine's form, with what it leaves to Python, selects what the reference selects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, tzinfo
from typing import Any

import apsw
import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

from mixdown.model.errors import ExpressionError
from mixdown.model.expression import Context, Expression, document_predicate, parse
from mixdown.store.filters import Compiled
from mixdown.store.postgres import expressions as postgres_form
from mixdown.store.postgres.documents import jsonb_of
from mixdown.store.sqlite import connection as connection_of_sqlite
from mixdown.store.sqlite import expressions as sqlite_form
from tests.model.expression_reference import World, truth_of
from tests.model.expression_rows import NOW_S, PROFILES, SENT_BY_CLIENTS, TABLE
from tests.model.expression_strategies import (
    NEW_YORK,
    Rules,
    Tree,
    one_of_each,
    population,
    rules,
    text_of,
    trees,
)
from tests.model.expression_tables import GIVEN_TABLES, MEANT_TABLES
from tests.store.postgres import postgres

PEOPLE = [*population(), *PROFILES.items()]
IN_UTC = Context(NOW_S)
Rows = list[tuple[str, Any]]
Engine = Callable[[Expression, Context], tuple[Compiled, Rows]]


@pytest.fixture(scope="module")
def sqlite() -> Iterator[Engine]:
    with apsw.Connection(":memory:") as connection:
        connection.execute("CREATE TABLE profiles (id TEXT NOT NULL, document TEXT NOT NULL) STRICT")
        connection.executemany(
            "INSERT INTO profiles VALUES (?, ?)", [(name, orjson.dumps(row).decode()) for name, row in PEOPLE]
        )
        yield lambda expression, context: _in_sqlite(connection, expression, context)


def _in_sqlite(
    connection: apsw.Connection, expression: Expression, context: Context
) -> tuple[Compiled, Rows]:
    form = sqlite_form.compile_filter(expression, context)
    sql = f"SELECT p.id, {form.undecided} FROM profiles AS p WHERE {form.sql}"
    rows: Rows = connection_of_sqlite.rows(connection, sql, form.undecided_bindings + form.bindings)
    return form, rows


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Engine]:
    with postgres() as connection:
        connection.execute("CREATE TABLE profiles (id text NOT NULL, document jsonb NOT NULL)")
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO profiles VALUES (%s, %s::jsonb)",
                [(name, jsonb_of(orjson.dumps(row))) for name, row in PEOPLE],
            )
        yield lambda expression, context: _in_postgres(connection, expression, context)


def _in_postgres(
    connection: psycopg.Connection, expression: Expression, context: Context
) -> tuple[Compiled, Rows]:
    form = postgres_form.compile_filter(expression, context)
    sql = f"SELECT p.id, {form.undecided} FROM profiles AS p WHERE {form.sql}"
    return form, connection.execute(sql.encode(), form.undecided_bindings + form.bindings).fetchall()


def check(tree: Tree, engine: Engine, zone: tzinfo = UTC, *, ci_strings: bool = False) -> None:
    """The rows that an engine and Python select together are those that the reference selects."""
    expression = parse(text_of(tree), GIVEN_TABLES.get)
    wanted = {
        name
        for name, row in PEOPLE
        if truth_of(tree, World(row, name, NOW_S, zone, tables=MEANT_TABLES, ci_strings=ci_strings))
    }
    assert chosen(expression, engine, Context(NOW_S, zone, ci_strings)) == wanted


def chosen(expression: Expression, engine: Engine, context: Context = IN_UTC) -> set[str]:
    form, rows = engine(expression, context)
    decide = document_predicate(expression, context)
    assert not form.exact or all(document is None for _, document in rows)
    return {name for name, document in rows if document is None or decide(name, document)}


def check_generated(tree: Tree, engine: Engine, rules: Rules) -> None:
    try:
        parse(text_of(tree), GIVEN_TABLES.get)
    except ExpressionError:  # a bare value beside `and`
        return
    check(tree, engine)
    zone, ci_strings = rules
    check(tree, engine, zone, ci_strings=ci_strings)


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in TABLE] + SENT_BY_CLIENTS)
def test_sqlite_selects_what_the_truth_table_says(text: str, expected: str, sqlite: Engine) -> None:
    found = chosen(parse(text), sqlite) & PROFILES.keys()
    assert found == {name for name, letter in zip("ABC", expected, strict=True) if letter == "T"}


@pytest.mark.parametrize("part", range(4))
def test_sqlite_compares_each_value_as_the_reference_does(part: int, sqlite: Engine) -> None:
    for tree in one_of_each()[part::12]:
        check(tree, sqlite)
    zone, ci_strings = NEW_YORK
    for tree in one_of_each()[part + 4 :: 24]:
        check(tree, sqlite, zone, ci_strings=ci_strings)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees, rules=rules)
def test_sqlite_selects_what_the_reference_selects(tree: Tree, rules: Rules, sqlite: Engine) -> None:
    check_generated(tree, sqlite, rules)


@pytest.mark.slow
def test_sqlite_compares_all_values_as_the_reference_does(sqlite: Engine) -> None:
    for tree in one_of_each():
        check(tree, sqlite)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees, rules=rules)
def test_sqlite_selects_what_the_reference_selects_at_length(
    tree: Tree, rules: Rules, sqlite: Engine
) -> None:
    check_generated(tree, sqlite, rules)


@pytest.mark.slow
def test_postgres_compares_each_value_as_the_reference_does(postgresql: Engine) -> None:
    for text, expected in [row[1:] for row in TABLE] + SENT_BY_CLIENTS:
        found = chosen(parse(text), postgresql) & PROFILES.keys()
        assert found == {name for name, letter in zip("ABC", expected, strict=True) if letter == "T"}
    for tree in one_of_each():
        check(tree, postgresql)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees, rules=rules)
def test_postgres_selects_what_the_reference_selects(tree: Tree, rules: Rules, postgresql: Engine) -> None:
    check_generated(tree, postgresql, rules)


EXACT = [
    'properties["a"] == "pro"',
    'properties["a"] != 36',
    'properties["a"] in ["a", 1, true, null]',
    'properties["a"] > 18 and not properties["b"] <= "x"',
    '"a" in properties["a"]',
    'defined(properties["a"])',
    '1 in list(properties["a"])',
    'boolean(properties["a"]) == false',
    'user["$distinct_id"] == "user-1"',
]


@pytest.mark.parametrize("text", EXACT)
def test_the_usual_filters_leave_nothing_to_python(text: str) -> None:
    for form in (sqlite_form, postgres_form):
        assert form.compile_filter(parse(text), Context(NOW_S)).exact


def test_times_as_mixdown_writes_them_leave_nothing_to_python(sqlite: Engine) -> None:
    expression = parse('datetime(properties["$last_seen"]) >= datetime(NOW - 604800)')
    form, rows = sqlite(expression, Context(NOW_S))
    assert {name for name, document in rows if document is None} == {"A", "C"}
    assert not form.exact


@pytest.mark.parametrize(("terms", "exact"), [(1500, True), (2500, False)])
def test_a_condition_that_grows_too_large_is_left_to_python(terms: int, exact: bool) -> None:
    text = " or ".join(f'properties["a"] == "{number}"' for number in range(terms))
    for form in (sqlite_form, postgres_form):
        assert form.compile_filter(parse(text), Context(NOW_S)).exact is exact


def test_no_value_of_an_expression_stands_in_the_sql() -> None:
    hostile = "'); DROP TABLE profiles; --"
    text = f'properties["{hostile}"] == "{hostile}" or "{hostile}" in properties["a"]'
    for form in (sqlite_form, postgres_form):
        compiled = form.compile_filter(parse(text), Context(NOW_S))
        assert "DROP" not in compiled.sql + compiled.undecided
        assert any("DROP" in str(binding) for binding in compiled.bindings)


@pytest.mark.parametrize(
    "text",
    [
        " or ".join(f'properties["a"] == "{number}"' for number in range(1499))
        + ' or properties["a"] == "pro"',
        " or ".join(f'properties["a"] == "{number}"' for number in range(4500))
        + ' or properties["a"] == "pro"',
        f'properties["a"] in [{", ".join(map(str, range(8_000)))}, "pro"]',
        "not " * 90 + 'properties["a"] == "pro"',
        "(" * 90 + 'properties["a"] == "pro"' + ")" * 90,
    ],
    ids=lambda text: text[:30],
)
def test_expressions_at_their_limits_run(text: str, sqlite: Engine) -> None:
    expression = parse(text)
    decide = document_predicate(expression, Context(NOW_S))
    wanted = {name for name, row in PEOPLE if decide(name, orjson.dumps(row))}
    assert chosen(expression, sqlite) == wanted
    assert wanted
