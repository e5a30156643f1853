"""Looking through profiles in the order of their ids, a bounded number at a time: what a list shows first.

Enters: a `Selection`, the id to go on behind, and how many may be looked at. Leaves: `Looked`. It goes along
the index by id, which costs several times what `scanning` pays for a row; but it ends as soon as it has found
enough, and needs to keep nothing for the next page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final, NamedTuple

import apsw

from mixdown.store import patience
from mixdown.store.selection import Judge, Looked, Selection, judge
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite import documents as stored
from mixdown.store.sqlite.scanning import Narrow, filter_of

SPLIT_FROM_ROWS: Final = 4_000
"""A stretch as long as this is looked through by two threads: the first part of it may hold a whole page."""
CANDIDATES_LIMIT: Final = 5_000
"""So many that an index on a property names are looked at one by one; beyond, the index by id is as good."""
_KIND: Final = "p.project_id = ?1 AND p.data_group_id = ?2 AND p.id > ?3"
_STRETCH: Final = (
    "SELECT count(*), max(id) FROM (SELECT p.id AS id FROM profiles AS p"  # noqa: S608 - texts of this file
    f" WHERE {_KIND} ORDER BY p.id LIMIT ?4)"
)
_BEFORE: Final = f"SELECT count(*) FROM profiles AS p WHERE {_KIND} AND p.id <= ?4"  # noqa: S608 - likewise
_MORE: Final = f"SELECT 1 FROM profiles AS p WHERE {_KIND} LIMIT 1"  # noqa: S608 - likewise
_WANTED: Final = (
    "SELECT p.id, CAST(p.document AS BLOB) FROM profiles AS p"
    " WHERE p.project_id = ? AND p.data_group_id = ? AND p.id > ? AND p.id <= ? AND ({filter}) ORDER BY p.id"
)
_CANDIDATES: Final = (
    "SELECT p.id, CAST(p.document AS BLOB) FROM carray(?) AS c CROSS JOIN profiles AS p ON p.rowid = c.value"
    " WHERE +p.project_id = ? AND +p.data_group_id = ? AND +p.id > ? AND ({filter}) ORDER BY +p.id"
)


_Found = tuple[list[tuple[str, bytes]], str | None]
AtOnce = Callable[[Sequence[Callable[[apsw.Connection], _Found]]], list[_Found]]


class Asked(NamedTuple):
    """What `State.look` is asked; `kind` is (project, data_group_id)."""

    kind: tuple[int, int]
    selection: Selection
    after: str
    limit: int
    rows: int


def look(connection: apsw.Connection, asked: Asked, narrow: Narrow, at_once: AtOnce) -> Looked:
    """The next profiles that are wanted; `at_once` makes several calls in threads with connections."""
    known = filter_of(asked.selection)
    wants = None if known.exact else judge(asked.selection)
    if asked.selection.where:
        rowids = narrow(connection, *asked.kind, asked.selection.where, asked.selection.context)
        if rowids is not None and not rowids:
            return Looked([], 0, None)
        if rowids is not None and len(rowids) <= CANDIDATES_LIMIT:
            sql = _CANDIDATES.replace("{filter}", known.sql)
            bindings = (apsw.carray(rowids), *asked.kind, asked.after, *known.bindings)
            found, last = _found(connection, sql, bindings, asked.limit, wants)
            return Looked(found, len(rowids), last)
    rows = min(asked.limit, asked.rows) if asked.selection.takes_all else asked.rows
    count, end = sqlite.value(connection, _STRETCH, (*asked.kind, asked.after, rows))
    if not count:
        return Looked([], 0, None)
    sql = _WANTED.replace("{filter}", known.sql)

    def part(begin: str, to: str) -> Callable[[apsw.Connection], _Found]:
        bindings = (*asked.kind, begin, to, *known.bindings)
        return lambda connection: _found(connection, sql, bindings, asked.limit, wants)

    if asked.selection.takes_all or count < SPLIT_FROM_ROWS:
        found, last = part(asked.after, end)(connection)
    else:
        _, middle = sqlite.value(connection, _STRETCH, (*asked.kind, asked.after, count // 2))
        found, last = _joined(at_once([part(asked.after, middle), part(middle, end)]), asked.limit)
    if last is not None and last != end:
        return Looked(found, sqlite.value(connection, _BEFORE, (*asked.kind, asked.after, last)), last)
    # there are more behind a stretch that is as long as it may be, or else it ended with the last of them
    is_more = count == rows and sqlite.value(connection, _MORE, (*asked.kind, end)) is not None
    return Looked(found, count, end if is_more else None)


def _joined(parts: list[_Found], limit: int) -> _Found:
    """What parts of a stretch have found, as if one look had."""
    found: list[tuple[str, bytes]] = []
    for some, last in parts:
        room = limit - len(found)
        found += some[:room]
        if len(some) >= room:
            return found, found[-1][0]
        if last is not None:
            return found, last
    return found, None


def _found(
    connection: apsw.Connection,
    sql: str,
    bindings: tuple[object, ...],
    limit: int,
    wants: Judge | None,
) -> _Found:
    """The first `limit` rows that are wanted, and the id of the last of them where there were so many."""
    found: list[tuple[str, bytes]] = []
    room = stored.FOUND_LIMIT_BYTES
    with closing(connection.cursor()) as cursor:
        for profile_id, document in cursor.execute(sql, bindings):
            patience.check()
            if wants is not None and not wants(profile_id, document):
                continue
            found.append((profile_id, document))
            room -= len(document)
            if len(found) == limit or room < 0:
                return found, profile_id
    return found, None
