"""Indexes on chosen properties in PostgreSQL: which profiles may hold a value, without reading them.

Enters: documents as they are written, or the conditions of a read. Leaves: keys of all profiles that may
match, and perhaps of more: the filter itself still decides. Values have a table of their own: an index of
PostgreSQL on documents would have every write of any profile touch all indexes (no HOT updates).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mixdown.model.expression import Context, Expression
from mixdown.store import indexing
from mixdown.store.indexing import BYTES_AT_ONCE, DROPPED_AT_ONCE, Bounds
from mixdown.store.postgres.connection import Cursor, Database
from mixdown.store.postgres.ids import ByteaArray, TextArray, key_for_write
from mixdown.store.postgres.pool import Connection
from mixdown.store.postgres.profiles import Kind, documents_after
from mixdown.store.postgres.reach import Place, Reach
from mixdown.store.protocols import PropertyIndex

CANDIDATES_LIMIT: Final = 50_000
"""Where more profiles than these may match, reading them all in order is quicker."""

Indexes = dict[Kind, list[tuple[int, str]]]
"""(index number, property) by kind."""

_DEFINITIONS: Final = """
    SELECT number, project_id, group_key, name FROM mixdown.property_indexes
    WHERE project_id = %s ORDER BY number
"""
_PARTS: Final = """
    SELECT index_number, bool_and(complete), count(*) FROM mixdown.property_index_parts
    WHERE partition = ANY(%s) AND index_number = ANY(%s) GROUP BY index_number
"""
_HELD: Final = """
    SELECT index_number, count(*) FROM mixdown.property_values
    WHERE partition = ANY(%s) AND index_number = ANY(%s) GROUP BY index_number
"""
_LOCK_PROJECT: Final = "SELECT pg_advisory_xact_lock(%s, %s)"
_INDEXES_LOCK: Final = 0x6D697869
_OF_PROJECT: Final = """
    SELECT group_key, name FROM mixdown.property_indexes WHERE project_id = %s
"""
_ADD: Final = """
    INSERT INTO mixdown.property_indexes (project_id, group_key, name) VALUES (%s, %s, %s) RETURNING number
"""
_DROP: Final = """
    DELETE FROM mixdown.property_indexes WHERE project_id = %s AND group_key = %s AND name = %s
"""
_ALL: Final = """
    SELECT number, project_id, group_key, name FROM mixdown.property_indexes
"""
_OWN_PARTS: Final = """
    SELECT index_number, built_to, complete FROM mixdown.property_index_parts WHERE partition = %s
"""
_PUT_PART: Final = """
    INSERT INTO mixdown.property_index_parts (partition, index_number, built_to, complete)
    VALUES (%s, %s, %s, %s)
    ON CONFLICT (partition, index_number) DO UPDATE
    SET built_to = excluded.built_to, complete = excluded.complete
"""
_DROP_PART: Final = "DELETE FROM mixdown.property_index_parts WHERE partition = %s AND index_number = %s"
_PUT: Final = """
    INSERT INTO mixdown.property_values (partition, index_number, id, value)
    SELECT %s::int, %s::bigint, unnest(%s::text[]), unnest(%s::bytea[])
    ON CONFLICT (partition, index_number, id) DO UPDATE SET value = excluded.value
    WHERE property_values.value <> excluded.value
"""
_DELETE: Final = """
    DELETE FROM mixdown.property_values WHERE partition = %s AND index_number = %s AND id = ANY(%s)
"""
_DELETE_SOME: Final = """
    DELETE FROM mixdown.property_values WHERE partition = %s AND index_number = %s AND id IN (
        SELECT id FROM mixdown.property_values WHERE partition = %s AND index_number = %s ORDER BY id LIMIT %s
    )
"""
_FORGET_PLACES: Final = """
    UPDATE mixdown.property_index_parts SET built_to = ''
    WHERE partition = %s AND index_number = ANY(%s) AND built_to = ANY(%s)
"""
_CANDIDATES: Final = """
    SELECT id FROM mixdown.property_values
    WHERE partition = ANY(%s) AND index_number = %s AND value > '\\x' AND value BETWEEN %s AND %s LIMIT %s
"""


def listing(database: Database, partitions: Sequence[int], project: int) -> list[PropertyIndex]:
    """A project's indexes."""
    rows = database.rows(_DEFINITIONS, (project,))
    numbers = [row[0] for row in rows]
    built = _built(database, partitions, numbers)
    held = {row[0]: row[1] for row in database.rows(_HELD, (list(partitions), numbers))} if numbers else {}
    return [
        PropertyIndex(number, project, group_key, name, number in built, held.get(number, 0))
        for number, _, group_key, name in rows
    ]


def _built(database: Database, partitions: Sequence[int], numbers: Sequence[int]) -> set[int]:
    """Those that every partition has built."""
    if not numbers:
        return set()
    rows = database.rows(_PARTS, (list(partitions), list(numbers)))
    return {number for number, complete, parts in rows if complete and parts == len(partitions)}


def add(cursor: Cursor, project: int, group_key: str, name: str) -> int:
    """Ask for an index; its number. Raises `CatalogError` where there is one, or there are too many."""
    cursor.execute(_LOCK_PROJECT, (_INDEXES_LOCK, project & 0x7FFFFFFF))
    held = cursor.execute(_OF_PROJECT, (project,)).fetchall()
    indexing.check_new([(kind, known) for kind, known in held], group_key, name)
    made = cursor.execute(_ADD, (project, group_key, name)).fetchone()
    assert made is not None
    return int(made[0])


def drop(database: Database, project: int, group_key: str, name: str) -> None:
    """Use an index no more; its values go a few at a time. Raises `CatalogError` where there is none."""
    if not database.run(_DROP, (project, group_key, name)):
        raise indexing.no_index(name)


class OwnIndex(NamedTuple):
    """An index as one partition has it, or is to have it. One that nobody wants any more is of no kind."""

    number: int
    kind: Kind | None
    name: str
    known: bool
    built_to: str
    complete: bool


def own_indexes(database: Database, reach: Reach) -> list[OwnIndex]:
    """All that a partition has or is to have, those first that are to be taken away last."""
    parts = {number: (to, complete) for number, to, complete in database.rows(_OWN_PARTS, (reach.own,))}
    found = []
    for number, project, group_key, name in database.rows(_ALL):
        known = number in parts
        if known or reach.holds(project):
            part = parts.pop(number, ("", False))
            found.append(OwnIndex(number, (project, group_key), name, known, *part))
    return found + [OwnIndex(number, None, "", True, *part) for number, part in parts.items()]


# --- as profiles are written


def to_keep(database: Database, reach: Reach) -> Indexes:
    """All indexes that a write must keep: those whose building has begun, by this process or another."""
    found: Indexes = {}
    for index in own_indexes(database, reach):
        if index.known and index.kind is not None:
            found.setdefault(index.kind, []).append((index.number, index.name))
    return found


def keep(
    connection: Connection,
    partition: int,
    indexes: Sequence[tuple[int, str]],
    rows: Sequence[tuple[str, bytes | None]],
) -> None:
    """Note the values in (id, document) pairs of one kind; a document of None: the profile is gone."""
    gone = [key_for_write(profile_id) for profile_id, document in rows if document is None]
    kept = sorted(
        (key_for_write(profile_id), document) for profile_id, document in rows if document is not None
    )
    for number, name in indexes:
        if gone:
            connection.execute(_DELETE, (partition, number, TextArray.of_texts(gone)))
        if kept:
            value_of = indexing.reader(name)
            values = ByteaArray.of([value_of(document) for _, document in kept])
            ids = TextArray.of_texts(key for key, _ in kept)
            connection.execute(_PUT, (partition, number, ids, values))


def forget(
    connection: Connection, partition: int, indexes: Sequence[OwnIndex], kind: Kind, ids: Sequence[str]
) -> None:
    """Take away what says that these profiles ever were.

    That is values in indexes that are about to go, and how far the building of one has come.
    """
    stored = TextArray.of_texts(map(key_for_write, ids))
    for index in indexes:
        if index.kind is None:
            connection.execute(_DELETE, (partition, index.number, stored))
    numbers = [index.number for index in indexes if index.kind in (kind, None)]
    if numbers:
        connection.execute(_FORGET_PLACES, (partition, numbers, stored))


# --- beside the writes


def work_left(database: Database, reach: Reach) -> OwnIndex | None:
    """An index that is to be built, or taken away."""
    left = [index for index in own_indexes(database, reach) if index.kind is None or not index.complete]
    return min(left, key=lambda index: (index.kind is None, index.number), default=None)


class Behind(NamedTuple):
    """Profiles behind those that an index has taken in, and the key of the last."""

    rows: list[tuple[str, bytes | None]]
    last: str


def behind(database: Database, partition: int, index: OwnIndex, limit: int) -> Behind:
    """The next profiles that an index is to take in: at most `limit`, or some MiB."""
    found: list[tuple[str, bytes | None]] = []
    room, last = BYTES_AT_ONCE, index.built_to
    if index.kind is not None:
        place = Place(partition, *index.kind)
        for stored, profile_id, document in documents_after(database, place, last, limit):
            found.append((profile_id, document))
            last = stored
            room -= len(document)
            if room < 0:
                break
    return Behind(found, last)


def work_on(connection: Connection, partition: int, index: OwnIndex, taken: Behind) -> None:
    """Take in these further profiles, or take away some values of an index that is no more."""
    place = (partition, index.number)
    if index.kind is None:
        if connection.execute(_DELETE_SOME, (*place, *place, DROPPED_AT_ONCE)).rowcount < DROPPED_AT_ONCE:
            connection.execute(_DROP_PART, place)
    elif taken.rows:
        keep(connection, partition, [(index.number, index.name)], taken.rows)
        connection.execute(_PUT_PART, (*place, taken.last, False))
    else:
        connection.execute(_PUT_PART, (*place, "", True))


# --- as profiles are read


def narrow(
    database: Database,
    partitions: Sequence[int],
    kind: Kind,
    where: Sequence[Expression],
    context: Context,
) -> list[str] | None:
    """Keys of all profiles that may match; None where no index helps."""
    if not where or context.ci_strings:
        return None
    rows = database.rows(_DEFINITIONS, (kind[0],))
    numbers = {name: number for number, _, group_key, name in rows if group_key == kind[1]}
    built = _built(database, partitions, list(numbers.values()))
    complete = {name: number for name, number in numbers.items() if number in built}
    if not complete:
        return None
    best: list[str] | None = None
    most = CANDIDATES_LIMIT
    for expression in where:
        for name, bounds in indexing.conditions(expression, expression.tree):
            if name in complete:
                found = _candidates(database, partitions, complete[name], bounds, most)
                if found is not None:
                    best, most = found, len(found)
    return best


def _candidates(
    database: Database, partitions: Sequence[int], number: int, bounds: Sequence[Bounds], most: int
) -> list[str] | None:
    """The keys within these bounds; None where there are more than `most`."""
    found: set[str] = set()
    for low, high in bounds:
        rows = database.rows(_CANDIDATES, (list(partitions), number, low, high, most - len(found) + 1))
        found.update(stored for (stored,) in rows)
        if len(found) > most:
            return None
    return sorted(found)
