"""Properties taken out of JSON into typed columns, so that a count by one of them reads little.

Enters: a table of events with their properties as JSON text. Leaves: SQL that selects them with a column for
each common property, and everything else in the column `rest`. No value changes its JSON type: what a
column cannot hold exactly stays in `rest`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from mixdown.store.duck.sql import FILE_COLUMN, identifier, literal, literals
from mixdown.store.events import Kind, PropertyColumn

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BASE: Final = ("event", "time", "distinct_id", "insert_id", "position", "arrived")
COLUMNS_LIMIT: Final = 256
COLUMN_NAME_LIMIT_BYTES: Final = 128
REST_NAMES_LIMIT: Final = 1000
COMMON_SHARE: Final = 1000
"""A property gets a column where at least one event in so many has it."""
EXACT: Final = 2**53
"""Integers up to this are exact as doubles."""
TYPES: Final[dict[Kind, str]] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
}
_NAMES: Final = '"(names)"'
_APART: Final = '"(apart)"'
_ONE: Final = '"(one)"'
_RESERVED: Final = frozenset({*BASE, "properties", "rest", "(names)", "(apart)", FILE_COLUMN})
_SAMPLED_EVENTS: Final = 4_000


class Chosen(msgspec.Struct, frozen=True):
    """A property that is taken out of the JSON, and the column it gets (None: it goes into `rest`)."""

    name: str
    kind: Kind | None
    column: str
    integers: str


def shredded(connection: DuckDBPyConnection, table: str) -> tuple[str, list[Chosen]]:
    """SQL that selects a table's events with their properties in columns, and what these columns are.

    The table has `BASE` and `properties` (VARCHAR: JSON objects).
    """
    ((events,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    named = connection.execute(
        f"SELECT name, count(*) FROM (SELECT unnest(json_keys(properties)) AS name FROM {table})"
        " GROUP BY name ORDER BY count(*) DESC, name LIMIT ?",
        [2 * COLUMNS_LIMIT],
    ).fetchall()
    names = columns_of(name for name, count in named if count * COMMON_SHARE >= events)
    chosen = _kinds(connection, table, events, names)
    return _selection(table, chosen), chosen


def columns_of(names: Iterable[str]) -> dict[str, str]:
    """The columns of properties, most important first: for `COLUMNS_LIMIT` of them at most.

    Names that differ only by case cannot both be columns, and long ones shall not be.
    """
    columns: dict[str, str] = {}
    taken = set(_RESERVED)
    known: set[str] = set()
    for name in names:
        if not name or len(name.encode()) > COLUMN_NAME_LIMIT_BYTES or name.lower() in known:
            continue
        column = name
        while column.lower() in taken or integers_of(column).lower() in taken:
            column += " (property)"
        columns[name] = column
        known.add(name.lower())
        taken |= {column.lower(), integers_of(column).lower()}
        if len(columns) == COLUMNS_LIMIT:
            break
    return columns


def integers_of(column: str) -> str:
    """The name of the column that says which numbers of a column were sent as integers."""
    return f"{column} (integer)"


def rest_names(connection: DuckDBPyConnection, source: str) -> frozenset[str] | None:
    """The names in the column `rest` of a source; None where they are too many."""
    found = connection.execute(
        f"SELECT DISTINCT unnest(json_keys(rest)) FROM {source} WHERE rest IS NOT NULL LIMIT ?",
        [REST_NAMES_LIMIT + 1],
    ).fetchall()
    return None if len(found) > REST_NAMES_LIMIT else frozenset(name for (name,) in found)


def quoted(name: str) -> str:
    """A name as JSON text."""
    return msgspec.json.encode(name).decode()


def member(name: str, value: str) -> str:
    """SQL of a member of an object: NULL where the value is."""
    return f"{literal(quoted(name) + ':')} || {value}"


def rest_of(members: Sequence[str], rest: str = "") -> str:
    """SQL of an object made of members, and of those of the object `rest`; NULL without any."""
    inner = [f"nullif(substr({rest}, 2, length({rest}) - 2), '')"] if rest else []
    if not members:
        return rest or "NULL::VARCHAR"
    return f"nullif('{{' || concat_ws(',', {', '.join([*inner, *members])}) || '}}', '{{}}')"


def _kinds(connection: DuckDBPyConnection, table: str, events: int, columns: dict[str, str]) -> list[Chosen]:
    """What kind of value each property mostly has, in some of the events: a wrong guess costs only space."""
    if not columns:
        return []
    counted = [f"count(*) FILTER ({test})" for name in columns for test in _tests(_apart(name)).values()]
    every = events // _SAMPLED_EVENTS + 1
    some = f"SELECT {_structure(columns)} AS {_APART} FROM {table} WHERE position % {every} = 0"
    (counts,) = connection.execute(f"SELECT {', '.join(counted)} FROM ({some})").fetchall()
    chosen = []
    for place, (name, column) in enumerate(columns.items()):
        text, integer, fraction, boolean, nested = counts[5 * place : 5 * place + 5]
        numbers = integer + fraction
        most = max(text, numbers, boolean, nested)
        kind: Kind | None = "text"
        if most and most == nested:
            kind = None
        elif most and most == numbers:
            kind = "number" if fraction else "integer"
        elif most and most == boolean:
            kind = "boolean"
        integers = integers_of(column) if kind == "number" and integer else ""
        chosen.append(Chosen(name, kind, column, integers))
    return chosen


def _apart(name: str) -> str:
    """SQL of a property that was taken out, as JSON text."""
    return f"CAST({_APART}.{identifier(name)} AS VARCHAR)"


def _tests(value: str) -> dict[str, str]:
    """SQL that tells the kind of a JSON text."""
    number = f"({value} >= '-' AND {value} < ':')"
    fraction = f"(contains({value}, '.') OR contains({value}, 'e') OR contains({value}, 'E'))"
    return {
        "text": f"starts_with({value}, '\"')",
        "integer": f"{number} AND NOT {fraction}",
        "fraction": f"{number} AND {fraction}",
        "boolean": f"{value} = 'true' OR {value} = 'false'",
        "nested": f"starts_with({value}, '{{') OR starts_with({value}, '[')",
    }


def _typed(kind: Kind, value: str, *, integers: bool) -> str:
    """SQL of a JSON text as a column of a kind holds it; NULL where it cannot."""
    tests = _tests(value)
    if kind == "text":
        plain = (
            f"CASE WHEN contains({value}, '\\') THEN json_extract_string({value}, '$') ELSE {value}[2:-2] END"
        )
        return f"CASE WHEN {tests['text']} THEN {plain} END"
    if kind == "integer":
        return f"CASE WHEN {tests['integer']} THEN TRY_CAST({value} AS BIGINT) END"
    if kind == "boolean":
        return f"CASE WHEN {tests['boolean']} THEN {value} = 'true' END"
    double = f"CASE WHEN isfinite(TRY_CAST({value} AS DOUBLE)) THEN TRY_CAST({value} AS DOUBLE) END"
    small = f"abs(TRY_CAST({value} AS HUGEINT)) <= {EXACT}"
    whole = f" WHEN {tests['integer']} AND {small} THEN {double}" if integers else ""
    return f"CASE WHEN {tests['fraction']} THEN {double}{whole} END"


def _structure(columns: Iterable[str]) -> str:
    """SQL that takes properties out of the JSON in one go, each as JSON text, NULL where it is null."""
    names = msgspec.json.encode(dict.fromkeys(columns, "JSON")).decode()
    return f"json_transform(properties, {literal(names)})"


def _selection(table: str, chosen: Sequence[Chosen]) -> str:
    """SQL in three layers: the JSON taken apart, its values as columns hold them, and what is left."""
    base = ", ".join(BASE)
    structure = _structure(each.name for each in chosen) if chosen else "NULL"
    apart = (
        f"SELECT {base}, properties, json_keys(properties) AS {_NAMES}, {structure} AS {_APART} FROM {table}"
    )
    typed: list[str] = []
    for each in chosen:
        value = _apart(each.name)
        if each.kind is None:
            continue
        typed.append(f"{_typed(each.kind, value, integers=bool(each.integers))} AS {identifier(each.column)}")
        if each.integers:
            typed.append(f"CASE WHEN {_tests(value)['integer']} THEN true END AS {identifier(each.integers)}")
    values = f"SELECT {', '.join([base, 'properties', _NAMES, _APART, *typed])} FROM ({apart})"
    columns = [identifier(each.column) for each in chosen if each.kind is not None]
    columns += [identifier(each.integers) for each in chosen if each.integers]
    return f"SELECT {', '.join([base, *columns])}, {_rest(chosen)} AS rest FROM ({values})"


def _rest(chosen: Sequence[Chosen]) -> str:
    """SQL of what stands in no column: values of other kinds, nested ones, nulls, and rare names."""
    held = [f"({identifier(each.column)} IS NOT NULL)::INT" for each in chosen if each.kind is not None]
    apart = [f"({_APART}.{identifier(each.name)} IS NOT NULL)::INT" for each in chosen]
    members = []
    for each in chosen:
        other = _apart(each.name)
        if each.kind is not None:
            other = f"CASE WHEN {identifier(each.column)} IS NULL THEN {other} END"
        members.append(member(each.name, other))
    # Whoever has a name that is not among the chosen, or a null, is taken apart name by name.
    chosen_names = [
        f"CASE WHEN {_APART}.{identifier(each.name)} IS NOT NULL THEN {literal(each.name)} END"
        for each in chosen
    ]
    known = f"[{', '.join(chosen_names)}]" if chosen_names else literals([])
    place = f"'/' || replace(replace({_ONE}, '~', '~0'), '/', '~1')"
    unknown = f"list_filter({_NAMES}, lambda {_ONE}: NOT list_contains({known}, {_ONE}))"
    told = f"to_json({_ONE})::VARCHAR || ':' || json_extract(properties, {place})::VARCHAR"
    others = f"array_to_string(list_transform({unknown}, lambda {_ONE}: {told}), ',')"
    members.append(f"CASE WHEN len({_NAMES}) > {_sum(apart)} THEN {others} END")
    return f"CASE WHEN len({_NAMES}) > {_sum(held)} THEN {rest_of(members)} END"


def _sum(terms: Sequence[str]) -> str:
    return f"({' + '.join(terms)})" if terms else "0"


def listed(chosen: Iterable[Chosen], counts: dict[str, int]) -> tuple[PropertyColumn, ...]:
    """The columns of a file that hold anything, by how many values each holds."""
    found = [
        PropertyColumn(
            each.name,
            each.kind,
            each.column,
            counts[each.column],
            each.integers if each.integers and counts[each.integers] else "",
        )
        for each in chosen
        if each.kind is not None and counts[each.column]
    ]
    return tuple(sorted(found, key=lambda column: (-column.count, column.name)))
