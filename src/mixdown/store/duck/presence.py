"""Which properties events have, and of what kind, as SQL over files and hot rows: no event is put together.

Files and hot rows of a table enter, as its SELECTs over them; SQL leaves that gives rows of (name, kind,
events), several for a name. A property with a column of its own is counted in its column, all others by the
shape of the JSON that they stand in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixdown.store.duck.sql import identifier, literal, literals
from mixdown.store.events import PropertyColumn

KINDS: Final = {"text": "string", "integer": "number", "number": "number", "boolean": "boolean"}
"""What a column's kind is in the words of JSON."""
_SHAPES: Final = {
    "VARCHAR": "string",
    "UBIGINT": "number",
    "BIGINT": "number",
    "HUGEINT": "number",
    "UHUGEINT": "number",
    "DOUBLE": "number",
    "BOOLEAN": "boolean",
    "NULL": "null",
}


def in_columns(columns: Sequence[PropertyColumn], source: str, condition: str) -> str:
    """How many rows of a source have each of these properties, counted in their columns."""
    names = literals(column.name for column in columns)
    kinds = literals(KINDS[column.kind] for column in columns)
    counts = ", ".join(f"count({identifier(column.column)})" for column in columns)
    return (
        f"SELECT unnest({names}) AS name, unnest({kinds}) AS kind, unnest([{counts}]) AS n "
        f"FROM ({source}) WHERE {condition}"
    )


def in_json(column: str, source: str, condition: str) -> str:
    """How many rows of a source have each property of the JSON objects in a column."""
    shapes = (
        f"SELECT json_structure({identifier(column)}) AS shape, count(*) AS n "
        f"FROM ({source}) WHERE {identifier(column)} IS NOT NULL AND {condition} GROUP BY shape"
    )
    pointer = "'/' || replace(replace(name, '~', '~0'), '/', '~1')"
    kinds = " ".join(f"WHEN {literal(shape)} THEN {literal(kind)}" for shape, kind in _SHAPES.items())
    member = f"json_extract_string(shape, {pointer})"
    kind = (
        f"CASE {member} {kinds} ELSE CASE WHEN starts_with({member}, '[') THEN 'list' ELSE 'object' END END"
    )
    members = f"SELECT unnest(json_keys(shape)) AS name, shape, n FROM ({shapes})"
    return f"SELECT name, {kind} AS kind, n FROM ({members})"
