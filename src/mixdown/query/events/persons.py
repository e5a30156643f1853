"""Who an event's id stands for: canonical ids beside the ids as they were sent (contract ingestion §8).

An open table and the state's identities enter; the SQL of a relation with the column `person` leaves. Ids
that occur in the table are looked up, or all that stand for another are taken, where these are fewer; only
such take room. A project without links pays for one look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from mixdown.model.identity import Member
from mixdown.query.events.columns import PERSON_SQL
from mixdown.store import patience

if TYPE_CHECKING:
    from mixdown.query.events.reader import OpenEvents
    from mixdown.store.protocols import State

IDS_AT_ONCE: Final = 20_000
MEMBERS_LIMIT: Final = 300_000
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
    if ids is None and _has_all(table, state, project):
        return _LINKED
    for some in _ids_of(table) if ids is None else _batches(ids):
        _add(table, state.resolved(project, some))
    return _LINKED


def _has_all(table: OpenEvents, state: State, project: int) -> bool:
    """Whether all of a project's members were added: they are, where that is less than to look up each id.

    A table of many events has many ids; a project may have few members, or more than the table has events.
    """
    most = min(table.columns.rows_at_most, MEMBERS_LIMIT)
    if most < IDS_AT_ONCE:
        return False
    added = 0
    for members in state.all_members(project):
        added += len(members)
        if added > most:
            table.run("DELETE FROM persons")
            return False
        _add(table, members)
        patience.check()
    return True


def _add(table: OpenEvents, members: Sequence[Member]) -> None:
    if members:
        columns = [list(column) for column in zip(*members, strict=True)]
        table.run(
            "INSERT INTO persons SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[])",
            columns,
        )


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
