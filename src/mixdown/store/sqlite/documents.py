"""Profiles' rows in `state.db`, read and written thousands in one statement.

Enters: an open connection, a project and the number of a group key, ids and documents. It begins and
ends no transaction. One statement takes or gives all rows: row by row, a thread would give up the
interpreter's lock at each of them and wait to get it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import apsw

from mixdown.model.errors import CorruptStoreError, TooMuchAtOnceError
from mixdown.store.sqlite import connection as sqlite

Rowids = dict[bytes, bytes]
FOUND_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""So much is read at once at most: while it is joined and split, memory holds it several times."""

# Answers come in the order asked, since the left table of a LEFT JOIN is always the outer loop. Documents
# are joined by a newline, which compact JSON never holds; one that does is noticed: the count is off then.
_FIND: Final = """
    SELECT CAST(group_concat(coalesce(p.document, ''), char(10)) AS BLOB),
           CAST(group_concat(coalesce(p.rowid, ''), ',') AS BLOB)
    FROM carray(?3) AS asked LEFT JOIN profiles AS p
    ON p.project_id = ?1 AND p.data_group_id = ?2 AND p.id = CAST(asked.value AS TEXT)
"""
_FIND_ONE: Final = """
    SELECT CAST(document AS BLOB), CAST(rowid AS BLOB) FROM profiles
    WHERE project_id = ? AND data_group_id = ? AND id = CAST(? AS TEXT)
"""
# A row of the array is the id's length in 8 digits, the id, the document. OR FAIL, because the statement
# need not undo itself (an error rolls the transaction back): without it SQLite copies every page that the
# statement changes, at a quarter of the speed.
_UPSERT: Final = """
    INSERT OR FAIL INTO profiles (project_id, data_group_id, id, document)
    SELECT ?1, ?2, CAST(substr(value, 9, size) AS TEXT), CAST(substr(value, 9 + size) AS TEXT)
    FROM (SELECT value, CAST(CAST(substr(value, 1, 8) AS TEXT) AS INTEGER) AS size FROM carray(?3)) WHERE true
    ON CONFLICT (project_id, data_group_id, id) DO UPDATE SET document = excluded.document
"""
# A row is the rowid in 19 characters, the document. An upsert that never inserts, because UPDATE … FROM first
# copies all rows into a table of its own: 4.9 us a row against 3.4, and 4.4 for the upsert by id.
_REPLACE: Final = """
    INSERT OR FAIL INTO profiles (rowid, project_id, data_group_id, id, document)
    SELECT CAST(substr(value, 1, 19) AS INTEGER), 0, 0, '', CAST(substr(value, 20) AS TEXT)
    FROM carray(?1) WHERE true
    ON CONFLICT (rowid) DO UPDATE SET document = excluded.document
"""
_INSERTED: Final = "SELECT 1 FROM profiles WHERE project_id = 0 AND data_group_id = 0 AND id = ''"
_DELETE: Final = """
    DELETE FROM profiles WHERE project_id = ? AND data_group_id = ?
    AND id IN (SELECT CAST(value AS TEXT) FROM carray(?))
"""


def find(
    connection: apsw.Connection,
    project: int,
    group_id: int,
    ids: Sequence[bytes],
    rowids: Rowids | None = None,
) -> list[bytes | None]:
    """The documents of these ids (UTF-8), in the order asked, None where there is none.

    `rowids`, where given, gets the rowid of each that was found, as digits. Raises `TooMuchAtOnceError` for
    several that are longer than `FOUND_LIMIT_BYTES` together; SQLite's own bound on a text stops at it.
    """
    if len(ids) == 1:
        return _find_one_by_one(connection, project, group_id, ids, rowids)
    bound = connection.limit(apsw.SQLITE_LIMIT_LENGTH, FOUND_LIMIT_BYTES)
    try:
        joined, numbers = sqlite.value(connection, _FIND, (project, group_id, apsw.carray(tuple(ids))))
    except apsw.TooBigError as error:
        raise TooMuchAtOnceError(f"{len(ids)} documents are more than can be read at once") from error
    finally:
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, bound)
    documents: list[bytes | None] = joined.split(b"\n")
    if len(documents) != len(ids):
        return _find_one_by_one(connection, project, group_id, ids, rowids)
    found = numbers.split(b",")
    if rowids is not None:
        rowids.update(zip(ids, found, strict=True))
    if b"" in found:
        return [document if rowid else None for document, rowid in zip(documents, found, strict=True)]
    return documents


def _find_one_by_one(
    connection: apsw.Connection, project: int, group_id: int, ids: Sequence[bytes], rowids: Rowids | None
) -> list[bytes | None]:
    found: list[bytes | None] = []
    for profile_id in ids:
        document, rowid = sqlite.value(connection, _FIND_ONE, (project, group_id, profile_id)) or (None, b"")
        found.append(document)
        if rowids is not None:
            rowids[profile_id] = rowid
    return found


def between(
    connection: apsw.Connection, project: int, group_id: int | None, begin: str, end: str | None
) -> list[tuple[str, bytes]]:
    """(id, document) of the profiles whose ids stand from `begin` to before `end` (None: all)."""
    if group_id is None:
        return []
    return sqlite.rows(
        connection,
        "SELECT id, CAST(document AS BLOB) FROM profiles WHERE project_id = ?1 AND data_group_id = ?2"
        " AND id >= ?3 AND (?4 IS NULL OR id < ?4) ORDER BY id",
        (project, group_id, begin, end),
    )


def put(
    connection: apsw.Connection, project: int, group_id: int, rows: Sequence[tuple[bytes, bytes]]
) -> None:
    """Insert or replace the documents of (id, document) pairs."""
    array = tuple([b"%08d%b%b" % (len(profile_id), profile_id, document) for profile_id, document in rows])
    sqlite.rows(connection, _UPSERT, (project, group_id, apsw.carray(array)))


def replace(connection: apsw.Connection, rows: Sequence[tuple[bytes, bytes]]) -> None:
    """Replace the documents of (rowid, document) pairs, whose rowids `find` gave in the same transaction.

    Raises `CorruptStoreError` where a row is gone.
    """
    array = tuple([b"%19b%b" % row for row in rows])
    sqlite.rows(connection, _REPLACE, (apsw.carray(array),))
    if sqlite.value(connection, _INSERTED) is not None:
        raise CorruptStoreError("a profile went away while it was written")


def delete(connection: apsw.Connection, project: int, group_id: int, ids: Sequence[bytes]) -> None:
    """Delete profiles; those that are not there do not matter."""
    sqlite.rows(connection, _DELETE, (project, group_id, apsw.carray(tuple(ids))))
