"""The comparison with the reference catches faults: each deliberate fault below must make it fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any, NamedTuple

import apsw
import orjson
import pytest

from mixdown.model import expression_running, expression_values
from mixdown.model.expression import Context, Expression, document_predicate, parse
from mixdown.store import dialect, filters, joined, moments
from mixdown.store.dialect import Bound, Sql, sure
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.expressions import _Sqlite, compile_filter
from tests.model.expression_reference import World, truth_of
from tests.model.expression_strategies import NOW_S, one_of_each, population, text_of
from tests.model.expression_tables import GIVEN_TABLES, MEANT_TABLES

PEOPLE = population()
Patch = pytest.MonkeyPatch


class Case(NamedTuple):
    """An expression and the ids that it selects."""

    expression: Expression
    wanted: set[str]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    def wanted(tree: Any) -> set[str]:
        return {
            name for name, row in PEOPLE if truth_of(tree, World(row, name, NOW_S, UTC, tables=MEANT_TABLES))
        }

    bare, compared = one_of_each()[:5], one_of_each()[5::5]
    return [Case(parse(text_of(tree), GIVEN_TABLES.get), wanted(tree)) for tree in bare + compared]


@pytest.fixture(scope="module")
def database() -> Iterator[apsw.Connection]:
    with apsw.Connection(":memory:") as connection:
        connection.execute("CREATE TABLE profiles (id TEXT NOT NULL, document TEXT NOT NULL) STRICT")
        rows = [(name, orjson.dumps(row).decode()) for name, row in PEOPLE]
        connection.executemany("INSERT INTO profiles VALUES (?, ?)", rows)
        yield connection


def is_right(case: Case, database: apsw.Connection) -> bool:
    """Whether SQLite and Python together select what they should."""
    context = Context(NOW_S)
    form = compile_filter(case.expression, context)
    decide = document_predicate(case.expression, context)
    sql = f"SELECT p.id, {form.undecided} FROM profiles AS p WHERE {form.sql}"
    rows = sqlite.rows(database, sql, form.undecided_bindings + form.bindings)
    return {name for name, document in rows if document is None or decide(name, document)} == case.wanted


def plainly_not(bound: Bound) -> Bound:
    return sure(Sql(f"NOT ({bound.upper.text})", bound.upper.bindings))


def unturned(bound: Bound) -> Bound:
    return Bound(dialect._negated(bound.upper), dialect._negated(bound.lower))


def boolean_without_false(self: _Sqlite, name: str) -> Bound:
    return self._value_is(name, "NOT IN ('', 0)")


def number_or_text(self: _Sqlite, name: str, operator: str, value: float) -> Bound:
    return self._value_is(name, f"{operator} ?", value)


def element_of_any_type(_: _Sqlite, name: str, value: Any) -> Bound:
    walk = "EXISTS (SELECT 1 FROM json_each(p.document, ?) AS e WHERE e.value = ?)"
    return sure(Sql(walk, ("$." + orjson.dumps(name).decode(), value)))


def in_python_alone(_: Expression, __: Context) -> filters.Compiled:
    return filters.Compiled("TRUE", (), exact=False, undecided="CAST(p.document AS BLOB)")


def negation_of_what_is_there(value: Any) -> Any:
    return not value if type(value) is bool else None


MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "true equals 1": (_Sqlite, "number_in", _Sqlite._among),
    "a list equals its text": (_Sqlite, "text_in", _Sqlite._among),
    "a text is above a number": (_Sqlite, "number_order", number_or_text),
    "true is an element like 1": (_Sqlite, "has_element", element_of_any_type),
    "the text false is true": (_Sqlite, "is_truthy", boolean_without_false),
    "null stays null under not": (filters, "none_of", plainly_not),
    "not keeps the bounds as they are": (filters, "none_of", unturned),
    "an offset moves no day": (moments, "_DAYS_AROUND_S", 0),
    "a row that is missing counts as one that differs": (joined, "none_of", lambda bound: bound),
    "a number finds no row": (joined, "numbers_with_key", lambda _: []),
    "what is written alike is equal": (joined, "_SURELY_EXACT", 2**70),
    "another table says the same": (joined, "_same", lambda *_: True),
    "the id has no name": ("mixdown.store.sqlite.expressions", "ID_NAMES", ()),
}
IN_PYTHON: dict[str, tuple[Any, str, Any]] = {
    "Python: true equals 1": (expression_running, "_quick_number", expression_running._quick_text),
    "Python: milliseconds begin later": (expression_values, "SECONDS_UP_TO", 10**13),
    "Python: not of undefined is undefined": (expression_running, "_negation", negation_of_what_is_there),
    "Python: a number is no text": (expression_values, "string", lambda value: value),
}


def patched(monkeypatch: Patch, target: Any, name: str, broken: Any) -> None:
    if isinstance(target, str):
        monkeypatch.setattr(f"{target}.{name}", broken)
    else:
        monkeypatch.setattr(target, name, broken)


def test_without_a_fault_all_is_right(cases: list[Case], database: apsw.Connection) -> None:
    assert all(is_right(case, database) for case in cases)


@pytest.mark.parametrize("fault", MUTANTS)
def test_a_fault_in_the_sql_is_caught(
    fault: str, cases: list[Case], database: apsw.Connection, monkeypatch: Patch
) -> None:
    patched(monkeypatch, *MUTANTS[fault])
    assert not all(is_right(case, database) for case in cases)


@pytest.mark.parametrize("fault", IN_PYTHON)
def test_a_fault_in_python_is_caught(
    fault: str, cases: list[Case], database: apsw.Connection, monkeypatch: Patch
) -> None:
    patched(monkeypatch, *IN_PYTHON[fault])
    forms: Callable[[Expression, Context], filters.Compiled] = in_python_alone
    monkeypatch.setattr("tests.store.test_expression_mutants.compile_filter", forms)
    assert not all(is_right(case, database) for case in cases)
