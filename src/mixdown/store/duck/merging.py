"""Files of a day as one: their columns brought together, without a look into the JSON of any value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixdown.store.duck.columns import of_column
from mixdown.store.duck.shredding import (
    BASE,
    EXACT,
    REST_NAMES_LIMIT,
    TYPES,
    Chosen,
    columns_of,
    integers_of,
    member,
    rest_of,
)
from mixdown.store.duck.sql import identifier, parquet
from mixdown.store.events import EventFile, Kind, PropertyColumn

_NUMBERS: Final[frozenset[Kind]] = frozenset({"integer", "number"})


def merged(files: Sequence[EventFile]) -> tuple[str, list[Chosen], frozenset[str] | None]:
    """SQL that selects the rows of files of days that are not in the table `dead`; its columns; its `rest`.

    Where files do not agree about a property's kind, the most frequent one keeps the column.
    """
    chosen = _together(files)
    alike: dict[tuple[str, bool], list[str]] = {}
    moved: set[str] = set()
    for file in files:
        columns, others = _columns(file, chosen)
        alike.setdefault((columns, bool(file.dead)), []).append(file.path)
        moved |= others
    selects = [
        f"SELECT {columns} FROM {parquet(paths)}" + (" ANTI JOIN dead USING (position)" if dead else "")
        for (columns, dead), paths in alike.items()
    ]
    rest: frozenset[str] | None = frozenset(moved)
    for file in files:
        rest = None if rest is None or file.rest is None else rest | file.rest
    if rest is not None and len(rest) > REST_NAMES_LIMIT:
        rest = None
    return " UNION ALL ".join(selects), chosen, rest


def _together(files: Sequence[EventFile]) -> list[Chosen]:
    counts: dict[str, dict[Kind, int]] = {}
    integers: set[str] = set()
    for file in files:
        for column in file.columns:
            kinds = counts.setdefault(column.name, {})
            kinds[column.kind] = kinds.get(column.kind, 0) + column.count
            if column.integers or column.kind == "integer":
                integers.add(column.name)
    names = columns_of(sorted(counts, key=lambda name: (-sum(counts[name].values()), name)))
    chosen = []
    for name, column_name in names.items():
        kinds = counts[name]
        numbers = sum(count for kind, count in kinds.items() if kind in _NUMBERS)
        kind = max(kinds, key=lambda each: numbers if each in _NUMBERS else kinds[each])
        if kind in _NUMBERS:
            kind = "number" if "number" in kinds else "integer"
        marked = kind == "number" and name in integers
        chosen.append(Chosen(name, kind, column_name, integers_of(column_name) if marked else ""))
    return chosen


def _columns(file: EventFile, chosen: Sequence[Chosen]) -> tuple[str, set[str]]:
    """SQL of one file's columns as those of all, and the names that it moves to `rest`."""
    own = {column.name: column for column in file.columns}
    values, marks, members = [], [], []
    moved = set()
    for each in chosen:
        assert each.kind is not None
        column = own.pop(each.name, None)
        value, mark, left = f"NULL::{TYPES[each.kind]}", "NULL::BOOLEAN", ""
        if column is not None and column.kind == each.kind:
            value = identifier(column.column)
            mark = identifier(column.integers) if column.integers else mark
        elif column is not None and (column.kind, each.kind) == ("integer", "number"):
            value, mark, left = _as_number(column)
        elif column is not None:
            left = of_column(column)
        values.append(f"{value} AS {identifier(each.column)}")
        if each.integers:
            marks.append(f"{mark} AS {identifier(each.integers)}")
        if left:
            members.append(member(each.name, left))
            moved.add(each.name)
    for name, column in own.items():
        members.append(member(name, of_column(column)))
        moved.add(name)
    rest = f"{rest_of(members, 'rest')} AS rest"
    return ", ".join([*BASE, *values, *marks, rest]), moved


def _as_number(column: PropertyColumn) -> tuple[str, str, str]:
    """An integer column as one of numbers, its mark, and what is not exact as a double."""
    own = identifier(column.column)
    small = f"{own} BETWEEN -{EXACT} AND {EXACT}"
    return (
        f"CASE WHEN {small} THEN {own}::DOUBLE END",
        f"CASE WHEN {small} THEN true END",
        f"CASE WHEN NOT {small} THEN {own}::VARCHAR END",
    )
