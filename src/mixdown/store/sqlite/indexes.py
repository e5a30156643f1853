"""Indexes on chosen properties in `state.db`: which profiles may hold a value, without reading them.

Enters: an open connection; documents as they are written, or the conditions of a read. Leaves: rowids of all
profiles that may match, and perhaps of more: the filter itself still decides. It begins and ends no
transaction. Only profiles of a kind that has an index pay for it, as they are written.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any, Final

import apsw
import msgspec

from mixdown.model.errors import CatalogError
from mixdown.model.expression import PROFILE_ACCESSORS, Context, Expression
from mixdown.model.expression_nodes import Access, Binary, Items, Literal, Logical, Node
from mixdown.store.bounds import INDEXES_PER_PROJECT
from mixdown.store.protocols import PropertyIndex
from mixdown.store.selection import value_bytes
from mixdown.store.sqlite import connection as sqlite

Pair = tuple[int, int]
Indexes = dict[Pair, list[tuple[int, str]]]
"""(index number, property) by (project, data_group_id)."""
Bounds = tuple[bytes, bytes]
"""Of values as they are stored: the least and the greatest that may match."""
CUT_BYTES: Final = 64
BYTES_AT_ONCE: Final = 8 * 1024 * 1024
DROPPED_AT_ONCE: Final = 5000
MOST_SHARE: Final = 4
"""Where more than one profile in so many may match, reading the file in order is quicker."""
_VALUES_LIMIT: Final = 200
_LAST: Final = b"\xff"
_MIRRORED: Final = {"==": "==", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

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
    if (group_id, name) in held:
        raise CatalogError(f"there is an index on {name!r} already", hint="`mixdown index list` shows all.")
    if len(held) >= INDEXES_PER_PROJECT:
        raise CatalogError(
            f"a project has {INDEXES_PER_PROJECT} indexes at most: each makes every write dearer",
            hint="Remove one that no query uses: mixdown index remove.",
        )
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
        raise CatalogError(f"there is no index on {name!r}", hint="`mixdown index list` shows all.")


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
        value_of = _reader(name)
        array_of = tuple(
            [
                b"%08d%b%b" % (len(profile_id), profile_id, value_of(document))
                for profile_id, document in rows
                if document is not None
            ]
        )
        if array_of:
            sqlite.rows(connection, _UPSERT, (number, apsw.carray(array_of)))


@lru_cache(maxsize=256)
def _reader(name: str) -> Callable[[bytes], bytes]:
    """A function from a document to the bytes of its value of this property; b"" where none is indexed."""
    shape = msgspec.defstruct("Row", [("value", Any, None)], rename={"value": name}, gc=False)
    decode = msgspec.json.Decoder(shape).decode

    def read(document: bytes) -> bytes:
        try:
            return stored_value(decode(document).value)  # type: ignore[attr-defined]
        except msgspec.DecodeError:  # a damaged document, which no filter matches
            return b""

    return read


def stored_value(value: Any) -> bytes:
    """A value as it is stored: texts, numbers and booleans, cut; b"" for all else."""
    if type(value) is str or type(value) is int or type(value) is float or type(value) is bool:
        return value_bytes(value, descending=False)[:CUT_BYTES]
    return b""


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
        for name, bounds in _conditions(expression, expression.tree):
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


def _conditions(expression: Expression, node: Node) -> Iterator[tuple[str, list[Bounds]]]:
    """(property, bounds of its value) for each condition that every match must meet."""
    if isinstance(node, Logical) and node.operator == "and":
        for operand in node.operands:
            yield from _conditions(expression, operand)
    elif isinstance(node, Binary):
        for operator, left, right in (
            (node.operator, node.left, node.right),
            (_MIRRORED.get(node.operator, ""), node.right, node.left),
        ):
            if isinstance(left, Access) and expression.slots[left.place].accessor in PROFILE_ACCESSORS:
                bounds = _bounds(operator, right)
                if bounds is not None:
                    yield expression.slots[left.place].name, bounds


def _bounds(operator: str, node: Node) -> list[Bounds] | None:
    """Within what a value must be that stands so to `node`; None where that cannot be told."""
    if operator == "in" and isinstance(node, Items):
        items = [item.value if isinstance(item, Literal) else None for item in node.items]
        stored = sorted({stored_value(item) for item in items})
        if len(stored) > _VALUES_LIMIT or b"" in stored:
            return None
        return [(value, value) for value in stored]
    if not isinstance(node, Literal):
        return None
    value = stored_value(node.value)
    if not value or (operator != "==" and type(node.value) is bool):
        return None
    kind = value[:1]
    if operator == "==":
        return [(value, value)]
    if operator in (">", ">="):
        return [(value, kind + _LAST * CUT_BYTES)]
    if operator in ("<", "<="):
        return [(kind, value)]
    return None
