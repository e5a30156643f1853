"""Who an event's id stands for: canonical ids beside the ids as they were sent (contract ingestion §8).

An open table and the state's identities enter; the SQL of a relation with the column `person` leaves. Only
ids that occur in the table are looked up, and only those that stand for another take room. A project without
links pays for one look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from mixdown.model.identity import Member
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
    if ids is None:  # read before the first is added: the table runs one statement at a time
        ids = [one for (one,) in table.rows("SELECT DISTINCT distinct_id FROM events")]
    table.run("CREATE TEMP TABLE persons (id VARCHAR, canonical VARCHAR, since BIGINT)")
    for members in members_of(state, project, ids):
        columns = [list(column) for column in zip(*members, strict=True)]
        table.run(
            "INSERT INTO persons SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[])",
            columns,
        )
    return _LINKED


def members_of(state: State, project: int, ids: Sequence[str]) -> Iterator[list[Member]]:
    """Those of many ids that stand for another, some at a time, with the canonical id that events have."""
    for begin in range(0, len(ids), IDS_AT_ONCE):
        found = state.resolved(project, ids[begin : begin + IDS_AT_ONCE])
        if found:
            yield found


def ids_of_persons(state: State, project: int, ids: Sequence[str]) -> list[str]:
    """All ids, as they may have been sent, of the persons whom these ids name."""
    if project not in state.linked_projects():
        return list(dict.fromkeys(ids))
    return list(dict.fromkeys(one for each in ids for one in state.linked(project, each)))
