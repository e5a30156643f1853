"""Looking through profiles in the order of their ids, a bounded number at a time: what a list shows first.

Enters: a `Selection`, the id to go on behind, and how many may be looked at. Leaves: `Looked`. It ends as
soon as it has found enough, and needs to keep nothing for the next page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from psycopg import sql

from mixdown.store import patience
from mixdown.store.postgres import indexes
from mixdown.store.postgres.connection import Database, Row
from mixdown.store.postgres.documents import document_of
from mixdown.store.postgres.ids import TextArray, key_for_write
from mixdown.store.postgres.profiles import FOUND_LIMIT_BYTES, Kind
from mixdown.store.postgres.scanning import filter_of, trusted
from mixdown.store.selection import Looked, Selection, judge

CANDIDATES_LIMIT: Final = 5_000
"""So many that an index on a property names are looked at one by one; beyond, the index by id is as good."""
_JUDGED_AT_ONCE: Final = 500

_KIND: Final = "partition = %s AND project_id = %s AND group_key = %s AND id > %s"
_AHEAD: Final = sql.SQL(
    "(SELECT coalesce(long_id, id) AS id, id AS key, document FROM mixdown.profiles"
    f" WHERE {_KIND} ORDER BY mixdown.profiles.id LIMIT %s)"
)
# A stretch of the index by id, numbered as it is walked: it ends where enough is found.
_STRETCH: Final = sql.SQL(
    "SELECT id, key, document, row_number() OVER (ORDER BY key) AS place FROM ({}) AS ahead"
)
_CANDIDATES: Final = sql.SQL("""
    SELECT coalesce(long_id, id) AS id, id AS key, document, row_number() OVER (ORDER BY id) AS place
    FROM mixdown.profiles
    WHERE partition = ANY(%s) AND project_id = %s AND group_key = %s AND id = ANY(%s) AND id > %s
""")
# Of a document that there is no more room for, and those behind it, nothing comes.
_WANTED: Final = sql.SQL("""
    SELECT id, key, place, convert_to(document, 'UTF8') FROM (
        SELECT *, sum(octet_length(document)) OVER (ORDER BY place) - octet_length(document) AS before FROM (
            SELECT p.id, p.key, p.place, p.document::text AS document FROM ({}) AS p
            WHERE p.place <= %s AND ({}) ORDER BY p.place LIMIT %s
        ) AS wanted
    ) AS summed WHERE before <= %s ORDER BY place
""")
_KEYS: Final = sql.SQL(f"(SELECT id FROM mixdown.profiles WHERE {_KIND} ORDER BY id LIMIT %s)")
_END: Final = sql.SQL("""
    SELECT count(*), max(id) FILTER (WHERE place <= %s) FROM (
        SELECT id, row_number() OVER (ORDER BY id) AS place FROM ({}) AS ahead ORDER BY id LIMIT %s
    ) AS p
""")
_ID: Final = """
    SELECT coalesce(long_id, id) FROM mixdown.profiles
    WHERE partition = ANY(%s) AND project_id = %s AND group_key = %s AND id = %s
"""
_UNION: Final = sql.SQL(" UNION ALL ")


class Asked(NamedTuple):
    """What `State.look` is asked; `after` is a key."""

    partitions: Sequence[int]
    kind: Kind
    selection: Selection
    after: str
    limit: int
    rows: int


def look(database: Database, asked: Asked) -> Looked:
    """The next profiles that are wanted."""
    selection = asked.selection
    keys = indexes.narrow(database, asked.partitions, asked.kind, selection.where, selection.context)
    if keys is not None and len(keys) > CANDIDATES_LIMIT:
        keys = None
    if keys is not None and not keys:
        return Looked([], 0, None)
    found = _found(database, asked, keys)
    if found.last is None and keys is not None:
        return Looked(found.profiles, len(keys), None)
    if found.last is None:
        count, end = _end(database, asked, asked.after, asked.rows)
        more = end is not None and count > asked.rows
        return Looked(found.profiles, min(count, asked.rows), _id_of(database, asked, end) if more else None)
    last, place = found.last
    if keys is not None:
        return Looked(found.profiles, len(keys), last if key_for_write(last) < keys[-1] else None)
    behind, _ = _end(database, asked, key_for_write(last), 1)
    return Looked(found.profiles, place, last if behind else None)


class _Found(NamedTuple):
    """What is wanted; `last` is the id and the place of the last of them, where there were enough."""

    profiles: list[tuple[str, bytes]]
    last: tuple[str, int] | None


def _found(database: Database, asked: Asked, keys: Sequence[str] | None) -> _Found:
    known = filter_of(asked.selection)
    wants = None if known.exact else judge(asked.selection)
    profiles: list[tuple[str, bytes]] = []
    room = FOUND_LIMIT_BYTES
    after, passed = asked.after, 0
    while True:
        at_once = asked.limit - len(profiles) if wants is None else _JUDGED_AT_ONCE
        rows, whole = _some(database, asked, keys, after, asked.rows - passed, at_once)
        for profile_id, _, place, document in rows:
            patience.check()
            if wants is None or wants(profile_id, document):
                profiles.append((profile_id, document_of(document)))
                room -= len(document)
                if len(profiles) == asked.limit or room < 0:
                    return _Found(profiles, (profile_id, passed + place))
        if whole:
            return _Found(profiles, None)
        after, passed = rows[-1][1], passed + rows[-1][2]


def _some(
    database: Database, asked: Asked, keys: Sequence[str] | None, after: str, ahead: int, at_once: int
) -> tuple[list[Row], bool]:
    """The next rows that pass the filter, and whether these are all."""
    known = filter_of(asked.selection)
    before: list[Any] = []
    if keys is None:
        relation = _STRETCH.format(_UNION.join([_AHEAD] * len(asked.partitions)))
        for partition in asked.partitions:
            before += [partition, *asked.kind, after, ahead]
    else:
        relation = sql.Composed([_CANDIDATES])
        before += [list(asked.partitions), *asked.kind, TextArray.of_texts(keys), after]
        ahead = len(keys)
    statement = _WANTED.format(relation, trusted(known.sql))
    parameters = (*before, ahead, *known.bindings, at_once, FOUND_LIMIT_BYTES)
    rows = database.rows(statement, parameters, binary=True)
    cut_off = sum(len(row[3]) for row in rows) > FOUND_LIMIT_BYTES
    return rows, len(rows) < at_once and not cut_off


def _end(database: Database, asked: Asked, after: str, rows: int) -> tuple[int, str | None]:
    """How many profiles there are behind a key, at most one more than `rows`, and the key of the last."""
    statement = _END.format(_UNION.join([_KEYS] * len(asked.partitions)))
    parameters: list[Any] = [rows]
    for partition in asked.partitions:
        parameters += [partition, *asked.kind, after, rows + 1]
    found = database.row(statement, (*parameters, rows + 1))
    assert found is not None
    return found[0], found[1]


def _id_of(database: Database, asked: Asked, key: str | None) -> str | None:
    """The id that a key stands for."""
    found: str | None = database.value(_ID, (list(asked.partitions), *asked.kind, key))
    return found
