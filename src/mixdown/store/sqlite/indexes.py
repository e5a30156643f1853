"""Indexes on chosen properties in `state.db`: which profiles may hold a value, without reading them.

Enters: an open connection; documents as they are written, or the conditions of a read. Leaves: rowids of all
profiles that may match, and perhaps of more: the filter itself still decides. It begins and ends no
transaction. Only profiles of a kind that has an index pay for it, as they are written.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final

import apsw

from mixdown.model.expression import Context, Expression
from mixdown.store import indexing
from mixdown.store.indexing import BYTES_AT_ONCE, DROPPED_AT_ONCE, Bounds
from mixdown.store.protocols import PropertyIndex
from mixdown.store.sqlite import connection as sqlite

Pair = tuple[int, int]
Indexes = dict[Pair, list[tuple[int, str]]]
"""(index number, property) by (project, data_group_id)."""
MOST_SHARE: Final = 4
"""Where more than one profile in so many may match, reading the file in order is quicker."""

_UPSERT: Final = """
    INSERT INTO property_values
    SELECT ?1, CAST(substr(value, 9, size) AS TEXT), substr(value, 9 + size)
    FROM (SELECT value, CAST(CAST(substr(value, 1, 8) AS TEXT) AS INTEGER) AS size FROM carray(?2)) WHERE true
    ON CONFLICT (index_number, id) DO UPDATE SET value = excluded.value WHERE value IS NOT excluded.value
"""
_DELETE: Final = """
    DELETE FROM property_values
    WHERE index_number = ? AND id IN (SELECT CAST(value AS TEXT) FROM carray(?))
"""
_CANDIDATES: Final = """
    SELECT p.rowid FROM property_values AS v CROSS JOIN profiles AS p
    ON p.project_id = ?2 AND p.data_group_id = ?3 AND p.id = v.id
    WHERE v.index_number = ?1 AND v.value > x'' AND v.value BETWEEN ?4 AND ?5 LIMIT ?6
"""
_DEFINITIONS: Final = """
    SELECT i.number, i.project_id, coalesce(g.group_key, ''), i.name, i.complete,
           (SELECT count(*) FROM property_values AS v WHERE v.index_number = i.number)
    FROM property_indexes AS i
    LEFT JOIN group_keys AS g ON g.project_id = i.project_id AND g.data_group_id = i.data_group_id
    WHERE i.project_id = ? AND NOT i.dropped ORDER BY i.number
"""


def listing(connection: apsw.Connection, project: int) -> list[PropertyIndex]:
    """A project's indexes."""
    return [
        PropertyIndex(number, project_id, group_key, name, bool(complete), profiles)
        for number, project_id, group_key, name, complete, profiles in sqlite.rows(
            connection, _DEFINITIONS, (project,)
        )
    ]


def add(connection: apsw.Connection, project: int, group_id: int, name: str) -> int:
    """Ask for an index; its number. Raises `CatalogError` where there is one, or there are too many."""
    held = sqlite.rows(
        connection,
        "SELECT data_group_id, name FROM property_indexes WHERE project_id = ? AND NOT dropped",
        (project,),
    )
    indexing.check_new(held, group_id, name)
    return int(
        sqlite.value(
            connection,
            "INSERT INTO property_indexes (project_id, data_group_id, name) VALUES (?, ?, ?)"
            " RETURNING number",
            (project, group_id, name),
        )
    )


def drop(connection: apsw.Connection, project: int, group_id: int | None, name: str) -> None:
    """Use an index no more; its values go a few at a time. Raises `CatalogError` where there is none."""
    found = sqlite.value(
        connection,
        "UPDATE property_indexes SET dropped = 1"
        " WHERE project_id = ? AND data_group_id = ? AND name = ? AND NOT dropped RETURNING number",
        (project, group_id, name),
    )
    if found is None:
        raise indexing.no_index(name)


def forget_all(connection: apsw.Connection) -> None:
    """Have all indexes built anew."""
    sqlite.rows(connection, "DELETE FROM property_values")
    sqlite.rows(connection, "UPDATE property_indexes SET built_to = '', complete = 0")


def forget(connection: apsw.Connection, project: int, group_id: int, ids: Sequence[str]) -> None:
    """Take away what says that these profiles ever were.

    That is values in indexes that are about to go, and how far the building of one has come.
    """
    encoded = apsw.carray(tuple([profile_id.encode() for profile_id in ids]))
    of_kind = "SELECT number FROM property_indexes WHERE project_id = ? AND data_group_id = ?"
    for (number,) in sqlite.rows(connection, f"{of_kind} AND dropped", (project, group_id)):
        sqlite.rows(connection, _DELETE, (number, encoded))
    sqlite.rows(
        connection,
        "UPDATE property_indexes SET built_to = '' WHERE project_id = ? AND data_group_id = ?"
        " AND built_to IN (SELECT CAST(value AS TEXT) FROM carray(?))",
        (project, group_id, encoded),
    )


# --- as profiles are written


def to_keep(connection: apsw.Connection) -> Indexes:
    """All indexes that a write must keep."""
    found: Indexes = {}
    for number, project, group_id, name in sqlite.rows(
        connection, "SELECT number, project_id, data_group_id, name FROM property_indexes WHERE NOT dropped"
    ):
        found.setdefault((project, group_id), []).append((number, name))
    return found


def keep(
    connection: apsw.Connection,
    indexes: Sequence[tuple[int, str]],
    rows: Sequence[tuple[bytes, bytes | None]],
) -> None:
    """Note the values in (id, document) pairs of one kind; a document of None: the profile is gone."""
    gone = tuple([profile_id for profile_id, document in rows if document is None])
    for number, name in indexes:
        if gone:
            sqlite.rows(connection, _DELETE, (number, apsw.carray(gone)))
        value_of = indexing.reader(name)
        array_of = tuple(
            [
                b"%08d%b%b" % (len(profile_id), profile_id, value_of(document))
                for profile_id, document in rows
                if document is not None
            ]
        )
        if array_of:
            sqlite.rows(connection, _UPSERT, (number, apsw.carray(array_of)))


# --- beside the writes


def work_left(connection: apsw.Connection) -> bool:
    """Whether an index is to be built, or to be taken away."""
    return bool(
        sqlite.value(
            connection, "SELECT EXISTS (SELECT 1 FROM property_indexes WHERE dropped OR NOT complete)"
        )
    )


def work_on(connection: apsw.Connection, limit: int) -> None:
    """Index at most `limit` further profiles, or take away some values of an index that is no more."""
    found = sqlite.value(
        connection,
        "SELECT number, project_id, data_group_id, name, built_to, dropped FROM property_indexes"
        " WHERE dropped OR NOT complete ORDER BY dropped, number LIMIT 1",
    )
    if found is None:
        return
    number, project, group_id, name, built_to, dropped = found
    if dropped:
        _take_away(connection, number)
        return
    rows = list(_some(connection, (project, group_id, built_to, limit)))
    if not rows:
        sqlite.rows(
            connection, "UPDATE property_indexes SET complete = 1, built_to = '' WHERE number = ?", (number,)
        )
        return
    keep(connection, [(number, name)], rows)
    sqlite.rows(
        connection,
        "UPDATE property_indexes SET built_to = CAST(? AS TEXT) WHERE number = ?",
        (rows[-1][0], number),
    )


def _some(connection: apsw.Connection, after: tuple[int, int, str, int]) -> Iterator[tuple[bytes, bytes]]:
    room = BYTES_AT_ONCE
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            "SELECT CAST(id AS BLOB), CAST(document AS BLOB) FROM profiles"
            " WHERE project_id = ? AND data_group_id = ? AND id > ? ORDER BY id LIMIT ?",
            after,
        )
        for profile_id, document in cursor:
            yield profile_id, document
            room -= len(document)
            if room < 0:
                return


def _take_away(connection: apsw.Connection, number: int) -> None:
    ids = sqlite.rows(
        connection, "SELECT id FROM property_values WHERE index_number = ? LIMIT ?", (number, DROPPED_AT_ONCE)
    )
    if ids:
        gone = apsw.carray(tuple([profile_id.encode() for (profile_id,) in ids]))
        sqlite.rows(connection, _DELETE, (number, gone))
    else:
        sqlite.rows(connection, "DELETE FROM property_indexes WHERE number = ?", (number,))


# --- as profiles are read


def narrow(
    connection: apsw.Connection,
    project: int,
    group_id: int,
    where: Sequence[Expression],
    context: Context,
) -> array[int] | None:
    """Rowids of all profiles that may match (`scanning.Narrow`); None where no index helps."""
    numbers = {
        name: number
        for number, name in sqlite.rows(
            connection,
            "SELECT number, name FROM property_indexes"
            " WHERE project_id = ? AND data_group_id = ? AND complete AND NOT dropped",
            (project, group_id),
        )
    }
    if not numbers or context.ci_strings:
        return None
    most = (sqlite.value(connection, "SELECT max(rowid) FROM profiles") or 0) // MOST_SHARE
    best: array[int] | None = None
    for expression in where:
        for name, bounds in indexing.conditions(expression, expression.tree):
            if name not in numbers:
                continue
            found = _candidates(connection, (numbers[name], project, group_id), bounds, most)
            if found is not None:
                best, most = found, len(found)
    return best


def _candidates(
    connection: apsw.Connection, asked: tuple[int, int, int], bounds: Sequence[Bounds], most: int
) -> array[int] | None:
    """The rowids within these bounds; None where there are more than `most`."""
    found = array("q")
    for low, high in bounds:
        room = most - len(found) + 1
        found.extend([rowid for (rowid,) in sqlite.rows(connection, _CANDIDATES, (*asked, low, high, room))])
        if len(found) > most:
            return None
    return found if len(bounds) == 1 else array("q", sorted(set(found)))
