"""Who an event's id stands for: canonical ids beside the ids as they were sent (contract ingestion §8).

An open table and the state's identities enter; the SQL of a relation with the column `person` leaves. Only
ids that occur in the table are looked up, and only those that stand for another take room. A project without
links pays for one look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from mixdown.query.events.columns import PERSON_SQL

if TYPE_CHECKING:
    from mixdown.query.events.reader import OpenEvents
    from mixdown.store.protocols import State

IDS_AT_ONCE: Final = 20_000
ALONE: Final = f"(SELECT *, distinct_id AS {PERSON_SQL} FROM events)"
"""Events whose ids stand for themselves."""
_LINKED: Final = (
    f"(SELECT events.*, coalesce(persons.canonical, distinct_id) AS {PERSON_SQL} FROM events "
    "LEFT JOIN persons ON persons.id = distinct_id AND events.position >= persons.since)"
)


def add_persons(table: OpenEvents, state: State, project: int, ids: Sequence[str] | None = None) -> str:
    """The relation of a table with `person`, the canonical id of each event that has one of `ids`, or any.

    Raises `StoreError`.
    """
    if project not in state.linked_projects():
        return ALONE
    table.run("CREATE TEMP TABLE persons (id VARCHAR, canonical VARCHAR, since BIGINT)")
    for some in _ids_of(table) if ids is None else _batches(ids):
        members = state.resolved(project, some)
        if members:
            columns = [list(column) for column in zip(*members, strict=True)]
            table.run(
                "INSERT INTO persons SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[])",
                columns,
            )
    return _LINKED


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(ids), IDS_AT_ONCE):
        yield ids[begin : begin + IDS_AT_ONCE]


def _ids_of(table: OpenEvents) -> Iterator[list[str]]:
    """The ids that occur in a table, some at a time: there may be millions, and they stay in DuckDB.

    Each batch is read to its end before it is given out: the table runs one statement at a time.
    """
    table.run("CREATE TEMP TABLE ids AS SELECT DISTINCT distinct_id FROM events")
    last = next(iter(table.rows("SELECT coalesce(max(rowid), -1) FROM ids")))[0]
    for begin in range(0, last + 1, IDS_AT_ONCE):
        within = [begin, begin + IDS_AT_ONCE]
        yield [
            one for (one,) in table.rows("SELECT distinct_id FROM ids WHERE rowid >= ? AND rowid < ?", within)
        ]
    table.run("DROP TABLE ids")


def ids_of_persons(state: State, project: int, ids: Sequence[str]) -> list[str]:
    """All ids, as they may have been sent, of the persons whom these ids name."""
    if project not in state.linked_projects():
        return list(dict.fromkeys(ids))
    return list(dict.fromkeys(one for each in ids for one in state.linked(project, each)))
