"""The filter of a list in its two forms, rows and text, kept in step.

A visit's parameters enter; what both forms show leaves: the rows that the text is, where rows can say it, the
text that the rows make, and of an error its place. The text decides: it is what the address holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from mixdown.explorer.conditions import (
    ALL,
    ANY,
    KINDS,
    OPERATORS,
    Conditions,
    Row,
    RowError,
    given_rows,
    rows_of,
    text_of,
)
from mixdown.explorer.frame import Visit
from mixdown.explorer.people import Asked, address, caret, changed
from mixdown.http.reading import in_thread
from mixdown.model.errors import ExpressionError
from mixdown.model.expression import Expression, parse

NAMES_SUGGESTED: Final = 500
_FIRST: Final = {"Text": "is", "Number": "eq", "Time": "since", "True or false": "true", "List": "has"}


class Filtering(msgspec.Struct, frozen=True):
    """A filter as it was read: `conditions` None where rows cannot say it, `bad_row` a row with a fault."""

    text: str
    conditions: Conditions | None
    problem: str = ""
    caret: Mapping[str, str] | None = None
    bad_row: int = -1


async def read_filter(visit: Visit, text: str) -> Filtering:
    """A text as a filter."""
    store = visit.services.store

    def read() -> Expression:
        return parse(text, store.lookup_tables.tables(visit.project.id))

    try:
        expression = await in_thread(visit.services, read)
    except ExpressionError as error:
        problem = f"{error.reason}, at character {error.position + 1}"
        return Filtering(text, None, problem, caret(text, error.position))
    return Filtering(text, rows_of(expression))


def conditions_in(visit: Visit) -> Conditions:
    """The rows that a form has sent."""
    rows = given_rows(visit.texts("property"), visit.texts("operator"), visit.texts("value"))
    return Conditions(rows, ANY if visit.text("joined") == ANY else ALL)


async def edited(visit: Visit, asked: Asked, properties: Mapping[str, Any]) -> Filtering:
    """The filter after an edit: by its rows, or by its text."""
    if visit.text("by") != "rows":
        return await read_filter(visit, asked.where)
    given = conditions_in(visit)
    rows = tuple(_fitting(row, properties) for row in given.rows)
    conditions = Conditions(rows, given.joined)
    try:
        return Filtering(text_of(conditions), conditions)
    except RowError as error:
        if not rows[error.place].value:  # not filled in yet: no reason to complain
            return Filtering(text_of(Conditions(_filled(rows), given.joined)), conditions)
        return Filtering(asked.where, conditions, error.message, bad_row=error.place)


def _filled(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Those rows that say something by themselves."""
    found = []
    for row in rows:
        try:
            text_of(Conditions((row,)))
        except RowError:
            continue
        found.append(row)
    return tuple(found)


def _fitting(row: Row, properties: Mapping[str, Any]) -> Row:
    """A row as long as nothing was typed: with an operator that fits the type of its property."""
    kind = KINDS.get(_type(row.property, properties), "")
    operator = OPERATORS.get(row.operator)
    if row.value or not kind or (operator is not None and operator.kind in (kind, "Any", "List")):
        return row if operator is not None else Row(row.property, "is", row.value)
    return Row(row.property, _FIRST[kind], row.value)


def _type(name: str, properties: Mapping[str, Any]) -> str:
    told = properties.get(name)
    return str(told["type"]) if told else ""


def filter_view(visit: Visit, asked: Asked, read: Filtering, properties: Mapping[str, Any]) -> dict[str, Any]:
    """What the two forms show; the last row is empty, for one more condition."""
    rows = read.conditions.rows if read.conditions is not None else ()
    shown = [*rows, Row("", "is")]
    return {
        "text": read.text,
        "problem_text": read.problem,
        "caret": dict(read.caret) if read.caret is not None else None,
        "bad_row": read.bad_row,
        "is_rows": read.conditions is not None,
        "is_broken": read.conditions is None and bool(read.problem),
        "joined": read.conditions.joined if read.conditions is not None else ALL,
        "rows": [row_view(row, properties) for row in shown],
        "names": list(islice(properties, NAMES_SUGGESTED)),
        "urls": {
            "apply": visit.path(f"{asked.place}/apply"),
            "list": visit.path(asked.place),
            "edit_rows": visit.path(f"{asked.place}/filter"),
            "edit_text": address(visit, changed(asked, where=""), "filter"),
        },
    }


def row_view(row: Row, properties: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the builder, its comparisons in the order that suits the type of its property."""
    operator = OPERATORS[row.operator]
    kind = KINDS.get(_type(row.property, properties), "")
    kinds = list(dict.fromkeys(each.kind for each in OPERATORS.values()))
    kinds.sort(key=lambda each: (each != kind, each != "Any") if kind else (False, False))
    return {
        "property": row.property,
        "operator": row.operator,
        "value": row.value,
        "takes": operator.takes,
        "choices": [
            [group, [[name, each.label] for name, each in OPERATORS.items() if each.kind == group]]
            for group in kinds
        ],
    }
