"""Events that a filter matches, as a relation for SQL to count: exact, and quick where few values differ.

An open table, a filter and its context enter; a relation with its parameters leaves. An expression depends on
the values that it reads alone, so it is asked once for each different set of them, and SQL joins the answers
to the events. The temporary tables `looked_at` and `chosen` belong to this file; one filter to an open table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mixdown.model.expression import Context
from mixdown.query.events.buckets import Span
from mixdown.query.events.columns import BEFORE, PERSON
from mixdown.query.events.reader import OpenEvents
from mixdown.query.events.where import EventFilter, Selector, names_sql, wants_profiles
from mixdown.store.protocols import State

ROWS_AT_ONCE: Final = 2000


class Relation(msgspec.Struct, frozen=True):
    """What stands in FROM, in brackets, and the parameters that it takes there."""

    sql: str
    parameters: tuple[Any, ...]


def reads_persons(selector: Selector) -> bool:
    """Whether it depends on who an event's person is which events match."""
    names = {slot.name for slot in selector.where.slots}
    return wants_profiles((selector,)) or not names.isdisjoint((*PERSON, BEFORE))


def matching_events(
    table: OpenEvents, selector: Selector, span: Span, *, state: State, project: int, context: Context
) -> Relation:
    """The events of a span that a selector matches. Raises `StoreError`."""
    names, parameters = names_sql((selector,))
    condition = f"{names} AND {table.within}"
    parameters = [*parameters, *span]
    if selector.where.is_blank:
        return Relation(f"(SELECT * FROM {table.relation} WHERE {condition})", tuple(parameters))
    own = EventFilter(selector.where, table.columns, state, project, context)
    if not own.columns:  # it reads nothing of an event
        if not own.matching([()])[0]:
            condition = f"false AND {condition}"
        return Relation(f"(SELECT * FROM {table.relation} WHERE {condition})", tuple(parameters))
    read = [f"({column}) AS read{number}" for number, column in enumerate(own.columns)]
    source = f"(SELECT *, {', '.join(read)} FROM {table.relation} WHERE {condition})"
    _choose(table, own, source, parameters)
    same = " AND ".join(
        f"looked.read{number} IS NOT DISTINCT FROM chosen.read{number}" for number in range(len(read))
    )
    return Relation(
        f"(SELECT looked.* FROM {source} AS looked SEMI JOIN chosen ON {same})", tuple(parameters)
    )


def _choose(table: OpenEvents, own: EventFilter, source: str, parameters: Sequence[Any]) -> None:
    """Make the table `chosen`: each different set of values that the filter reads, where it matches."""
    columns = [f"read{number}" for number in range(len(own.columns))]
    listed, typed = ", ".join(columns), ", ".join(f"{column} VARCHAR" for column in columns)
    table.run(f"CREATE TEMP TABLE looked_at ({typed})")
    table.run(f"CREATE TEMP TABLE chosen ({typed})")
    table.run(f"INSERT INTO looked_at SELECT DISTINCT {listed} FROM {source}", parameters)
    last = next(iter(table.rows("SELECT coalesce(max(rowid), -1) FROM looked_at")))[0]
    for begin in range(0, last + 1, ROWS_AT_ONCE):
        sql = f"SELECT rowid, {listed} FROM looked_at WHERE rowid >= ? AND rowid < ?"
        # read to its end before the next statement runs
        rows = list(table.rows(sql, [begin, begin + ROWS_AT_ONCE]))
        matches = own.matching([row[1:] for row in rows])
        wanted = [row[0] for row, matched in zip(rows, matches, strict=True) if matched]
        if wanted:
            table.run(
                f"INSERT INTO chosen SELECT {listed} FROM looked_at"
                " WHERE rowid IN (SELECT unnest(?::BIGINT[]))",
                [wanted],
            )
    table.run("DROP TABLE looked_at")
