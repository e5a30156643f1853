"""Properties as SQL expressions over the rows of one part, whether a column of their own holds them or JSON.

Enters: a file's columns and a property's name. Leaves: SQL whose value is the property as JSON (NULL where
the event has none): exactly the JSON that came in, but for spaces and the order of names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixdown.store.duck.shredding import TYPES, member, rest_of
from mixdown.store.duck.sql import identifier, literal, pointer
from mixdown.store.events import EventFile, PropertyColumn

NOTHING: Final = "NULL::JSON"


def of_json(column: str, name: str) -> str:
    """A property of the JSON object in a column."""
    return f"json_extract({column}, {literal(pointer(name))})"


def of_column(column: PropertyColumn) -> str:
    """A property's own column as JSON. Its type is named: files in which it differs are not read as one."""
    own = f"{identifier(column.column)}::{TYPES[column.kind]}"
    if column.integers:
        integer = f"to_json(CAST({own} AS BIGINT))"
        return f"CASE WHEN {identifier(column.integers)} THEN {integer} ELSE to_json({own}) END"
    return f"to_json({own})"


def of_file(file: EventFile, name: str) -> str:
    """A property in a file. Files for which this is the same text can be read as one."""
    if file.day is None:
        return of_json("properties", name)
    found = next((of_column(column) for column in file.columns if column.name == name), None)
    others = file.rest is None or name in file.rest
    if found is None:
        return of_json("rest", name) if others else NOTHING
    return f"coalesce({found}, {of_json('rest', name)})" if others else found


def whole_of_file(file: EventFile) -> str:
    """All properties of a file's row as one JSON object."""
    if file.day is None:
        return "properties::JSON"
    return whole(file.columns, "rest")


def whole(columns: Sequence[PropertyColumn], rest: str) -> str:
    """One JSON object of what the columns hold and of the members of `rest` (an object, or NULL)."""
    members = [member(column.name, f"{of_column(column)}::VARCHAR") for column in columns]
    return f"coalesce({rest_of(members, rest)}, '{{}}')::JSON"
