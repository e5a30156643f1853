"""Expressions over events: what SQL says, with what it leaves to Python, is what the reference says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from mixdown.model.errors import ExpressionError
from mixdown.model.expression import Context, parse
from mixdown.query.events import evaluating
from mixdown.query.events.buckets import Span
from mixdown.query.events.evaluating import Evaluated, Evaluator, Relation
from mixdown.query.events.reader import EventReads, OpenEvents
from mixdown.store.dialect import NEVER, Bound
from mixdown.store.duck import expressions
from mixdown.store.events import FIRST_MS, LAST_MS, EventsWrite, batch_of
from mixdown.store.protocols import State
from tests.engine import open_store
from tests.model.expression_reference import ABSENT, Moment, World, storable, value_of
from tests.model.expression_rows import NOW_S
from tests.model.expression_strategies import (
    NEW_YORK,
    A,
    Rules,
    Tree,
    literal,
    one_of_each,
    population,
    rules,
    text_of,
    trees,
    values,
)
from tests.model.expression_tables import GIVEN_TABLES, MEANT_TABLES
from tests.store.support import user, write

PROJECT = 1
DAY_MS = 24 * 3600 * 1000
PEOPLE = [
    (name, {key: value for key, value in row.items() if key != "$distinct_id"}) for name, row in population()
]
"""On an event its person's id is no property that could be shadowed."""
CASTS = (
    "defined",
    "boolean",
    "number",
    "string",
    "list_of",
    "datetime",
    "floor",
    "ceil",
    "round",
    "negative",
)
GENERATED = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Opened(NamedTuple):
    """An open table of events, one for each of `PEOPLE`, who have profiles of the same properties."""

    table: OpenEvents
    state: State

    def selected(self, text: str, zone: tzinfo = UTC, *, ci_strings: bool = False) -> set[str]:
        """The ids of the events that match."""
        found = self._told(text, Evaluator.condition, Context(NOW_S, zone, ci_strings))
        assert set(found.values()) <= {True, False}
        return {name for name, matches in found.items() if matches}

    def valued(self, text: str, zone: tzinfo = UTC, *, ci_strings: bool = False) -> dict[str, Any]:
        """What the expression is for each event."""
        found = self._told(text, Evaluator.value, Context(NOW_S, zone, ci_strings))
        return {name: ABSENT if told is None else orjson.loads(told) for name, told in found.items()}

    def _told(
        self, text: str, make: Callable[[Evaluator, Any], Evaluated], context: Context
    ) -> dict[str, Any]:
        for name in ("people", "evaluated0"):
            self.table.run(f"DROP TABLE IF EXISTS {name}")
        asked = parse(text, GIVEN_TABLES.get)
        evaluator = Evaluator(
            self.table,
            Relation(f"(SELECT * FROM {self.table.relation})"),
            [asked],
            state=self.state,
            project=PROJECT,
            context=context,
        )
        made = make(evaluator, asked)
        sql = f"SELECT distinct_id, {made.sql} FROM {evaluator.relation.sql} AS named{made.join}"
        return dict(self.table.rows(sql, [*made.parameters, *evaluator.relation.parameters]))


def opened_in(stack: ExitStack, folder: Path, *, in_files: bool) -> Opened:
    """Such a table, of events in memory, or in the file of a day with columns of its own."""
    store = stack.enter_context(_closing(open_store(folder, role="fold", create=True)))
    write(store.state, [(user(name), orjson.dumps(row)) for name, row in PEOPLE])
    events = [
        {
            "position": place,
            "arrived": place,
            "event": "seen",
            "time": place,
            "distinct_id": name,
            "insert_id": name,
            "properties": row,
        }
        for place, (name, row) in enumerate(PEOPLE)
    ]
    store.events.write(EventsWrite(len(events), [batch_of(PROJECT, events)], (), DAY_MS))
    for days in (2, 4, 6) if in_files else ():
        while store.events.tend(busy=False, now_ms=days * DAY_MS):
            pass
    reads = stack.enter_context(_closing(EventReads(store, memory_limit_bytes=128 * 1024 * 1024)))
    assert bool(store.events.parts(PROJECT, FIRST_MS, LAST_MS).files) is in_files
    return Opened(stack.enter_context(reads.open(PROJECT, Span(FIRST_MS, LAST_MS))), store.state)


class _closing(ExitStack):  # noqa: N801 - as contextlib has it
    def __init__(self, thing: Any) -> None:
        super().__init__()
        self._thing = thing
        self.callback(thing.close)

    def __enter__(self) -> Any:
        return self._thing


@pytest.fixture(scope="module", params=["hot", "filed"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("events") / "data"
        yield opened_in(stack, folder, in_files=request.param == "filed")


def as_on_events(tree: Tree) -> Tree:
    """A tree in which `event[...]` reads what it reads of an event."""
    if not isinstance(tree, tuple):
        return [as_on_events(each) for each in tree] if isinstance(tree, list) else tree
    if tree[:2] == ("property", "event"):
        return ("property", "properties", tree[2])
    return tuple(as_on_events(each) for each in tree)


def meant(tree: Tree, zone: tzinfo = UTC, *, ci_strings: bool = False) -> dict[str, Any]:
    """What the tree is for each event, by the book."""
    plain = as_on_events(tree)
    return {
        name: value_of(plain, World(row, name, NOW_S, zone, tables=MEANT_TABLES, ci_strings=ci_strings))
        for name, row in PEOPLE
    }


def shown(value: Any) -> Any:
    """A value of the reference as it leaves, its type beside it: 1 is no true, and yet 1.0."""
    if isinstance(value, Moment):
        return "number", storable(value.seconds)
    if isinstance(value, list):
        return "list", [(None if item is ABSENT else shown(item)) for item in value]
    if value is None:
        return None
    return ("number" if type(value) in (int, float) else type(value).__name__), value


def check(tree: Tree, opened: Opened, zone: tzinfo = UTC, *, ci_strings: bool = False) -> None:
    text, wanted = text_of(tree), meant(tree, zone, ci_strings=ci_strings)
    selected = {name for name, value in wanted.items() if value is True}
    assert opened.selected(text, zone, ci_strings=ci_strings) == selected


def check_value(tree: Tree, opened: Opened, zone: tzinfo = UTC, *, ci_strings: bool = False) -> None:
    found = opened.valued(text_of(tree), zone, ci_strings=ci_strings)
    wanted = meant(tree, zone, ci_strings=ci_strings)
    assert {name: shown(value) for name, value in found.items()} == {
        name: shown(value) for name, value in wanted.items()
    }


def readable(tree: Tree) -> bool:
    try:
        parse(text_of(tree), GIVEN_TABLES.get)
    except ExpressionError:  # a bare value beside `and`
        return False
    return True


@pytest.mark.parametrize("part", range(4))
def test_events_are_compared_with_each_value_as_the_reference_does(part: int, opened: Opened) -> None:
    for tree in one_of_each()[part::60]:
        check(tree, opened)
    zone, ci_strings = NEW_YORK
    for tree in one_of_each()[part + 4 :: 160]:
        check(tree, opened, zone, ci_strings=ci_strings)


@pytest.mark.slow
def test_events_are_compared_with_all_values_as_the_reference_does(opened: Opened) -> None:
    for tree in one_of_each():
        check(tree, opened)
    zone, ci_strings = NEW_YORK
    for tree in one_of_each()[::4]:
        check(tree, opened, zone, ci_strings=ci_strings)


@settings(GENERATED, max_examples=8)
@given(tree=trees, rules=rules)
def test_events_that_match_are_those_of_the_reference(tree: Tree, rules: Rules, opened: Opened) -> None:
    if readable(tree):
        check(tree, opened)
        check(tree, opened, rules[0], ci_strings=rules[1])


@pytest.mark.slow
@settings(GENERATED, max_examples=600)
@given(tree=trees, rules=rules)
def test_all_that_match_are_those_of_the_reference(tree: Tree, rules: Rules, opened: Opened) -> None:
    if readable(tree):
        check(tree, opened, rules[0], ci_strings=rules[1])


@pytest.mark.parametrize("cast", ["", *CASTS])
def test_a_value_is_cast_as_the_reference_does(cast: str, opened: Opened) -> None:
    check_value((cast, A) if cast else A, opened)
    user_a = ("property", "user", "a")
    check_value((cast, user_a) if cast else user_a, opened, NEW_YORK[0], ci_strings=True)


@settings(GENERATED, max_examples=8)
@given(tree=values, rules=rules)
def test_values_of_events_are_those_of_the_reference(tree: Tree, rules: Rules, opened: Opened) -> None:
    if readable(tree):
        check_value(tree, opened, rules[0], ci_strings=rules[1])


@pytest.mark.slow
@settings(GENERATED, max_examples=600)
@given(tree=values | trees, rules=rules)
def test_all_values_are_those_of_the_reference(tree: Tree, rules: Rules, opened: Opened) -> None:
    if readable(tree):
        check_value(tree, opened, rules[0], ci_strings=rules[1])


@pytest.mark.parametrize(
    "tree",
    [
        ("==", A, literal("pro")),
        (">", A, literal(18)),
        ("not", ("in", A, literal(["pro", 36]))),
        ("==", ("property", "user", "a"), literal("pro")),
        ("and", ("defined", A), ("!=", ("property", "properties", "b"), literal(True))),
    ],
)
def test_common_filters_are_sql_alone(tree: Tree, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> None:
        raise AssertionError("Python was asked")

    monkeypatch.setattr(Evaluator, "_asked", ask)
    check(tree, opened)


# --- mutants


def _surely(bound: Bound) -> Bound:
    return Bound(bound.upper, bound.upper)


Fault = Callable[[pytest.MonkeyPatch], None]


def _ignored_case(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        expressions._Duck,
        "has_affix",
        lambda self, name, *_, **__: self._text_is(name, "IS NOT NULL AND false"),
    )


def _all_numbers_exact(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expressions, "_EXACT", 2**64)


def _any_time_text(patch: pytest.MonkeyPatch) -> None:
    original = expressions._Duck._text_moment
    patch.setattr(expressions._Duck, "_text_moment", lambda *given: _surely(original(*given)))


def _null_is_absent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expressions._Duck, "present", lambda self, name: Bound(*[self.is_absent(name).upper] * 2))


def _nothing_undecided(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expressions, "UNDECIDED", "NULL")
    patch.setattr(expressions._Duck, "document", "NULL")


def _elements_as_text(patch: pytest.MonkeyPatch) -> None:
    original = expressions._Duck.has_element
    patch.setattr(
        expressions._Duck, "has_element", lambda self, name, value: original(self, name, str(value))
    )


def _nulls_differ(patch: pytest.MonkeyPatch) -> None:
    original = Evaluator._asked

    def asked(self: Evaluator, *given: Any) -> tuple[str, str]:
        name, join = original(self, *given)
        return name, join.replace("IS NOT DISTINCT FROM", "=")

    patch.setattr(Evaluator, "_asked", asked)


def _numbers_off(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(evaluating, "ROWS_AT_ONCE", 7)
    original = Evaluator._pages

    def pages(self: Evaluator, *given: Any) -> Iterator[Any]:
        yield from list(original(self, *given))[:2]

    patch.setattr(Evaluator, "_pages", pages)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        _ignored_case,
        _all_numbers_exact,
        _any_time_text,
        _null_is_absent,
        _nothing_undecided,
        _elements_as_text,
        _nulls_differ,
        _numbers_off,
    ],
)
def test_a_fault_is_noticed(fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    noticed = 0
    with ExitStack() as stack:
        opened = opened_in(stack, tmp_path / "data", in_files=False)
        for tree in [*one_of_each(), ("number", A), ("+", A, literal(1))]:
            try:
                check(tree, opened)
                if tree[0] in ("number", "+"):
                    check_value(tree, opened)
            except AssertionError:
                noticed += 1
                break
    assert noticed
    assert NEVER.lower
