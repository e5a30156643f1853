"""Properties as SQL expressions over the rows of one part, whether a column of their own holds them or JSON.

Enters: a file's columns and a property's name. Leaves: SQL whose value is the property as JSON (NULL where
the event has none): exactly the JSON that came in, but for spaces and the order of names. Or, in the forms
`text` and `number`, as it is where it is of that kind and NULL where it is not: of a column that holds such,
the column itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from mixdown.store.duck.shredding import TYPES, member, rest_of
from mixdown.store.duck.sql import identifier, literal, pointer
from mixdown.store.events import EventFile, PropertyColumn

Form = Literal["json", "text", "number"]
NOTHING: Final = "NULL::JSON"
_NOTHING: Final[dict[Form, str]] = {"json": NOTHING, "text": "NULL::VARCHAR", "number": "NULL::DOUBLE"}


def of_json(column: str, name: str) -> str:
    """A property of the JSON object in a column."""
    return f"json_extract({column}, {literal(pointer(name))})"


def in_form(value: str, form: Form) -> str:
    """A JSON value in a form."""
    if form == "text":
        return f"CASE WHEN starts_with(CAST({value} AS VARCHAR), '\"') THEN {value} ->> '$' END"
    # a text of digits has its quotes here
    return f"TRY_CAST(CAST({value} AS VARCHAR) AS DOUBLE)" if form == "number" else value


def of_column(column: PropertyColumn) -> str:
    """A property's own column as JSON. Its type is named: files in which it differs are not read as one."""
    own = f"{identifier(column.column)}::{TYPES[column.kind]}"
    if column.integers:
        integer = f"to_json(CAST({own} AS BIGINT))"
        return f"CASE WHEN {identifier(column.integers)} THEN {integer} ELSE to_json({own}) END"
    return f"to_json({own})"


def of_file(file: EventFile, name: str, form: Form = "json") -> str:
    """A property in a file. Files for which this is the same text can be read as one."""
    if file.day is None:
        return in_form(of_json("properties", name), form)
    found = next((_of_column(column, form) for column in file.columns if column.name == name), None)
    others = file.rest is None or name in file.rest
    if not others:
        return found or _NOTHING[form]
    rest = in_form(of_json("rest", name), form)
    return rest if found is None else f"coalesce({found}, {rest})"


def _of_column(column: PropertyColumn, form: Form) -> str | None:
    """A property's own column in a form; None where it holds nothing of that kind."""
    if form == "json":
        return of_column(column)
    if (column.kind == "text") != (form == "text") or column.kind == "boolean":
        return None
    own = f"{identifier(column.column)}::{TYPES[column.kind]}"
    return own if form == "text" else f"CAST({own} AS DOUBLE)"


def whole_of_file(file: EventFile) -> str:
    """All properties of a file's row as one JSON object."""
    if file.day is None:
        return "properties::JSON"
    return whole(file.columns, "rest")


def whole(columns: Sequence[PropertyColumn], rest: str) -> str:
    """One JSON object of what the columns hold and of the members of `rest` (an object, or NULL)."""
    members = [member(column.name, f"{of_column(column)}::VARCHAR") for column in columns]
    return f"coalesce({rest_of(members, rest)}, '{{}}')::JSON"
