"""Looking through profiles in the order of their ids, a bounded number at a time: what a list shows first.

Enters: a `Selection`, the id to go on behind, and how many may be looked at. Leaves: `Looked`. It ends as
soon as it has found enough, and needs to keep nothing for the next page. Of several partitions each is asked
for its share, and what they give is merged here: asked together, a cluster would fetch all documents of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import isqrt
from typing import Any, Final, NamedTuple

from psycopg import sql

from mixdown.store import patience
from mixdown.store.postgres import indexes
from mixdown.store.postgres.connection import Cursor, Database, Row
from mixdown.store.postgres.documents import document_of
from mixdown.store.postgres.ids import TextArray, key_for_write
from mixdown.store.postgres.pool import Connection
from mixdown.store.postgres.profiles import FOUND_LIMIT_BYTES, Kind
from mixdown.store.postgres.scanning import filter_of, trusted
from mixdown.store.selection import Looked, Selection, judge

CANDIDATES_LIMIT: Final = 5_000
"""So many that an index on a property names are looked at one by one; beyond, the index by id is as good."""
_JUDGED_AT_ONCE: Final = 500
_SPARE: Final = 8
"""So many more than its share is a partition asked for, since none has exactly that."""

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
_KEYS: Final = f"SELECT id FROM mixdown.profiles WHERE {_KIND} ORDER BY id LIMIT %s"
_END: Final = f"""
    SELECT count(*), max(id) FILTER (WHERE place <= %s) FROM (
        SELECT id, row_number() OVER (ORDER BY id) AS place FROM mixdown.profiles WHERE {_KIND}
        ORDER BY id LIMIT %s
    ) AS p
"""
_ID: Final = """
    SELECT coalesce(long_id, id) FROM mixdown.profiles
    WHERE partition = ANY(%s) AND project_id = %s AND group_key = %s AND id = %s
"""


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
    if keys is None and len(asked.partitions) > 1:
        return _Several(database, asked).looked()
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
        relation = _STRETCH.format(_AHEAD)
        before += [*asked.partitions, *asked.kind, after, ahead]
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
    found = database.row(_END, (rows, *asked.partitions, *asked.kind, after, rows + 1))
    assert found is not None
    return found[0], found[1]


class _Merged(NamedTuple):
    """What several partitions have found: (key, id, document), in the order of keys.

    Nothing is left out up to `complete_to` (None: all), which comes soon where documents `are_large`.
    """

    rows: list[tuple[str, str, bytes]]
    complete_to: str | None
    are_large: bool


class _Several:
    """A look at a stretch of several partitions."""

    def __init__(self, database: Database, asked: Asked) -> None:
        self._database = database
        self._asked = asked
        self._filter = filter_of(asked.selection)
        self._statement = _WANTED.format(_STRETCH.format(_AHEAD), trusted(self._filter.sql))
        self._ahead = self._share(asked.rows)
        self._room = FOUND_LIMIT_BYTES // len(asked.partitions)

    def looked(self) -> Looked:
        """The next profiles that are wanted."""
        asked, known = self._asked, self._filter
        wants = None if known.exact else judge(asked.selection)
        found, stretch, is_more = self._first(asked.limit if wants is None else _JUDGED_AT_ONCE)
        profiles: list[tuple[str, bytes]] = []
        room = FOUND_LIMIT_BYTES
        while stretch:
            upto = stretch[-1] if found.complete_to is None else min(stretch[-1], found.complete_to)
            for key, profile_id, document in found.rows:
                if key > upto:
                    break
                patience.check()
                if wants is None or wants(profile_id, document):
                    profiles.append((profile_id, document_of(document)))
                    room -= len(document)
                    if len(profiles) == asked.limit or room < 0:
                        return self._ended(profiles, stretch, key, is_more=is_more)
            if upto == stretch[-1]:
                break
            if profiles and found.are_large:
                return self._ended(profiles, stretch, upto, is_more=is_more)
            at_once = asked.limit - len(profiles) if wants is None else _JUDGED_AT_ONCE
            found = self._some(upto, at_once)
        if not stretch:
            return Looked([], 0, None)
        return self._ended(profiles, stretch, stretch[-1], is_more=is_more)

    def _ended(
        self, profiles: list[tuple[str, bytes]], stretch: list[str], key: str, *, is_more: bool
    ) -> Looked:
        """What was found, where all up to a key was looked at."""
        last = None
        if is_more or key < stretch[-1]:
            is_last = bool(profiles) and key_for_write(profiles[-1][0]) == key
            last = profiles[-1][0] if is_last else _id_of(self._database, self._asked, key)
        return Looked(profiles, bisect_right(stretch, key), last)

    def _first(self, at_once: int) -> tuple[_Merged, list[str], bool]:
        """What is found first, the keys of the stretch, and whether there are profiles behind it."""
        asked = self._asked
        with self._database.pipeline() as connection:
            found = self._ask(connection, asked.after, at_once)
            keys = [
                connection.execute(_KEYS, (partition, *asked.kind, asked.after, self._ahead + 1))
                for partition in asked.partitions
            ]
        of_each = [[key for (key,) in cursor.fetchall()] for cursor in keys]
        # of each partition as many were looked at, so from the first that has more on nothing is known
        end = min((own[-1] for own in of_each if len(own) > self._ahead), default=None)
        known = sorted(key for own in of_each for key in own if end is None or key < end)
        is_more = end is not None or len(known) > asked.rows
        return self._merged(found, at_once), known[: asked.rows], is_more

    def _some(self, after: str, at_once: int) -> _Merged:
        """What is found behind a key."""
        with self._database.pipeline() as connection:
            found = self._ask(connection, after, at_once)
        return self._merged(found, at_once)

    def _ask(self, connection: Connection, after: str, at_once: int) -> list[Cursor]:
        asked = self._asked
        begin = [(partition, *asked.kind, after, self._ahead) for partition in asked.partitions]
        rest = (self._ahead, *self._filter.bindings, self._share(at_once), self._room)
        return [connection.execute(self._statement, (*each, *rest), binary=True) for each in begin]

    def _merged(self, found: Sequence[Cursor], at_once: int) -> _Merged:
        each = self._share(at_once)
        of_each = [cursor.fetchall() for cursor in found]
        large = [own[-1][1] for own in of_each if sum(len(row[3]) for row in own) > self._room]
        many = [own[-1][1] for own in of_each if len(own) == each]
        complete_to = min(large + many, default=None)
        rows = sorted((key, profile_id, document) for own in of_each for profile_id, key, _, document in own)
        return _Merged(rows, complete_to, complete_to in large)

    def _share(self, number: int) -> int:
        """How many to ask each partition for, where so many are wanted of all: hardly ever too few."""
        mean = number // len(self._asked.partitions)
        return min(number, mean + 4 * isqrt(mean) + _SPARE)


def _id_of(database: Database, asked: Asked, key: str | None) -> str | None:
    """The id that a key stands for."""
    found: str | None = database.value(_ID, (list(asked.partitions), *asked.kind, key))
    return found
