"""Profiles' rows in PostgreSQL, read and written thousands in one statement.

Enters: a database or a connection, the partitions to look in, ids and documents. Leaves: documents as the
fold encodes them. Each write names its one partition.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from psycopg import sql

from mixdown.model.errors import TooMuchAtOnceError
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.documents import all_for_jsonb, bytes_for_jsonb, document_of
from mixdown.store.postgres.ids import KEY_BYTES, TextArray, key_for_write, key_of, keys_of, long_of
from mixdown.store.postgres.pool import Connection
from mixdown.store.postgres.reach import Place
from mixdown.store.protocols import ProfileKey

FOUND_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""So much is read at once at most."""
_PAGE_BYTES: Final = FOUND_LIMIT_BYTES // 2
"""Likewise of a page, which memory holds as it came and as it will be sent."""
_KINDS_AT_ONCE: Final = 64
_MERGED_AT_ONCE: Final = 1000

# The server adds up what it gives, so no more is ever on its way; above the bound documents are NULL. Of a
# small one, which is not compressed, it is enough to know that it is.
_FIND: Final = sql.SQL("""
    SELECT kind, id, CASE WHEN total <= %s THEN convert_to(document::text, 'UTF8') END FROM (
        SELECT kind, id, document, sum(
            CASE WHEN pg_column_size(document) < 2000 AND pg_column_compression(document) IS NULL
            THEN 2000 ELSE octet_length(document::text) END
        ) OVER (ROWS UNBOUNDED PRECEDING) AS total
        FROM ({}) AS asked
    ) AS found
""")
_OF_KIND: Final = sql.SQL("""
    SELECT %s::int AS kind, id, document FROM mixdown.profiles
    WHERE partition = %s AND project_id = %s AND group_key = %s AND id = ANY(%s)
""")
_UNION: Final = sql.SQL(" UNION ALL ")
# Rows that stand on their page as they are, which is nearly all of them: no text of 2 kB becomes megabytes.
_FIND_SMALL: Final = """
    SELECT id, CASE WHEN pg_column_size(document) < 2000 AND pg_column_compression(document) IS NULL
        THEN convert_to(document::text, 'UTF8') END
    FROM mixdown.profiles WHERE partition = %s AND project_id = %s AND group_key = %s AND id = ANY(%s)
"""
# Rows in the order of their keys, up to the bound in bytes and one more.
_PAGE: Final = sql.SQL("""
    SELECT id, long_id, document FROM (
        SELECT id, long_id, convert_to(document, 'UTF8') AS document,
            sum(octet_length(document)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - octet_length(document)
                AS before
        FROM (
            SELECT id, long_id, document::text AS document FROM mixdown.profiles
            WHERE partition = %s AND project_id = %s AND group_key = %s AND id {} %s
            ORDER BY id LIMIT %s
        ) AS page
    ) AS found WHERE before <= %s ORDER BY id
""")
_AFTER: Final = _PAGE.format(sql.SQL(">"))
_IDS: Final = """
    SELECT id, long_id FROM mixdown.profiles
    WHERE partition = %s AND project_id = %s AND group_key = %s AND id > %s ORDER BY id LIMIT %s
"""
_BETWEEN: Final = """
    SELECT coalesce(long_id, id), convert_to(document::text, 'UTF8') FROM mixdown.profiles
    WHERE partition = %s AND project_id = %s AND group_key = %s
    AND id >= %s AND (%s::text IS NULL OR id < %s)
"""
_COUNT: Final = """
    SELECT count(*) FROM mixdown.profiles
    WHERE partition = ANY(%s) AND project_id = %s AND group_key = %s
"""
_NTH: Final = """
    SELECT coalesce(long_id, id) FROM mixdown.profiles
    WHERE partition = ANY(%s) AND project_id = %s AND group_key = %s AND id >= %s ORDER BY id LIMIT 1 OFFSET
    %s
"""
_NTH_AFTER: Final = """
    SELECT id FROM mixdown.profiles
    WHERE partition = %s AND project_id = %s AND group_key = %s ORDER BY id LIMIT 1 OFFSET %s
"""
_PUT: Final = """
    INSERT INTO mixdown.profiles (partition, project_id, group_key, id, document)
    SELECT %s::int, %s::bigint, %s::text, unnest(%s::text[]), unnest(%s::text[])::jsonb
    ON CONFLICT (partition, project_id, group_key, id) DO UPDATE SET document = excluded.document
"""
_PUT_LONG: Final = """
    INSERT INTO mixdown.profiles (partition, project_id, group_key, id, document, long_id)
    VALUES (%s, %s, %s, %s, %s::jsonb, %s)
    ON CONFLICT (partition, project_id, group_key, id) DO UPDATE SET document = excluded.document
"""
_DELETE: Final = """
    DELETE FROM mixdown.profiles
    WHERE partition = %s AND project_id = %s AND group_key = %s AND id = ANY(%s)
"""

NOWHERE: Final = Place(-1, 0, "")

Kind = tuple[int, str]
"""(project, group key)."""


def find(
    database: Database, keys: Sequence[ProfileKey], partition_of: Callable[[ProfileKey], int]
) -> list[bytes | None]:
    """The documents of these profiles in the order asked, None where there is none.

    Those of up to `_KINDS_AT_ONCE` kinds are of one moment. Raises `TooMuchAtOnceError` for several that are
    longer than `FOUND_LIMIT_BYTES` together.
    """
    where: list[tuple[Place, str] | None] = []
    asked: dict[Place, list[str]] = defaultdict(list)
    last = NOWHERE
    for key in keys:
        stored = key_of(key[2])
        if stored is None:
            where.append(None)
            continue
        partition = partition_of(key)
        if (partition, key[0], key[1]) != last:
            last = Place(partition, key[0], key[1])
        asked[last].append(stored)
        where.append((last, stored))
    found: dict[Place, dict[str, bytes]] = {}
    places = list(asked)
    room = FOUND_LIMIT_BYTES if len(keys) > 1 else 1 << 62
    for begin in range(0, len(places), _KINDS_AT_ONCE):
        some = places[begin : begin + _KINDS_AT_ONCE]
        parameters: list[Any] = [room]
        for number, place in enumerate(some):
            found[place] = {}
            parameters += [number, *place, TextArray.of_texts(asked[place])]
        statement = _FIND.format(_UNION.join([_OF_KIND] * len(some)))
        for number, stored, document in database.rows(statement, parameters, binary=True):
            if document is None:
                raise TooMuchAtOnceError(f"{len(keys)} documents are more than can be read at once")
            found[some[number]][stored] = document
            room -= len(document)
    return [_answer(found, each) for each in where]


def find_to_change(database: Database, partition: int, keys: Sequence[ProfileKey]) -> list[bytes | None]:
    """The documents of these profiles of one partition as `jsonb` gives them, or as `find` does.

    Raises what `find` raises.
    """
    if not keys:
        return []
    kinds = {key[:2] for key in keys}
    if len(kinds) > 1:
        return find(database, keys, lambda _: partition)
    stored = keys_of([key[2] for key in keys])
    asked = TextArray.of_texts(key for key in stored if key is not None)
    found: dict[str | None, bytes | None] = dict(
        database.rows(_FIND_SMALL, (partition, *kinds.pop(), asked), binary=True)
    )
    documents = [found.get(key) for key in stored]
    if None in found.values():
        at = [place for place, key in enumerate(stored) if documents[place] is None and key in found]
        large = find(database, [keys[place] for place in at], lambda _: partition)
        for place, document in zip(at, large, strict=True):
            documents[place] = document
    return documents


def _answer(found: dict[Place, dict[str, bytes]], asked: tuple[Place, str] | None) -> bytes | None:
    if asked is None:
        return None
    document = found[asked[0]].get(asked[1])
    return None if document is None else document_of(document)


def ids_after(database: Database, place: Place, after: str, at_once: int) -> Iterator[tuple[str, str]]:
    """(key, id) of all profiles of a place behind a key, in order; no snapshot is held in between."""
    while True:
        rows = database.rows(_IDS, (*place, after, at_once))
        for stored, whole in rows:
            yield stored, whole or stored
        if len(rows) < at_once:
            return
        after = rows[-1][0]


def documents_after(
    database: Database, place: Place, after: str, limit: int
) -> Iterator[tuple[str, str, bytes]]:
    """(key, id, document) likewise: at most `limit`, read so many at once."""
    while limit > 0:
        rows = database.rows(_AFTER, (*place, after, limit, _PAGE_BYTES), binary=True)
        for stored, whole, document in rows:
            yield stored, whole or stored, document_of(document)
        if not rows:
            return
        limit -= len(rows)
        after = rows[-1][0]


def page_after(
    database: Database, places: Sequence[Place], after: str, limit: int
) -> list[tuple[str, bytes]]:
    """(id, document) of the first `limit` profiles behind a key, fewer where they are tens of MiB."""
    found: list[tuple[str, bytes]] = []
    room = _PAGE_BYTES
    at_once = limit if len(places) == 1 else max(1, 2 * limit // len(places))
    # several partitions of a large project are merged; each gives a little more than its share
    sources = (_in_pieces(database, place, after, at_once) for place in places)
    for _, profile_id, document in heapq.merge(*sources):
        found.append((profile_id, document))
        room -= len(document)
        if len(found) == limit or room < 0:
            break
    return found


def _in_pieces(
    database: Database, place: Place, after: str, at_once: int
) -> Iterator[tuple[str, str, bytes]]:
    while True:
        last = None
        for row in documents_after(database, place, after, at_once):
            last = row
            yield row
        if last is None:
            return
        after = last[0]


def merged_ids(
    database: Database, places: Sequence[Place], at_once: int, after: str = ""
) -> Iterator[tuple[str, str]]:
    """(key, id) of all profiles of a kind in order, of all partitions that it is in."""
    if len(places) == 1:
        return ids_after(database, places[0], after, at_once)
    few = min(at_once, _MERGED_AT_ONCE)
    return heapq.merge(*(ids_after(database, place, after, few) for place in places))


def between(connection: Connection, place: Place, begin: str, end: str | None) -> Iterator[tuple[str, bytes]]:
    """(id, document) of the profiles whose ids stand from `begin` to before `end` (None: all)."""
    last = None if end is None else key_for_write(end)
    rows = connection.execute(_BETWEEN, (*place, key_for_write(begin), last, last), binary=True)
    return ((profile_id, document_of(document)) for profile_id, document in rows)


def count(database: Database, partitions: Sequence[int], kind: Kind) -> int:
    """How many profiles there are."""
    return int(database.value(_COUNT, (list(partitions), *kind)))


def nth_from(
    database: Database, partitions: Sequence[int], kind: Kind, begin: str, number: int
) -> str | None:
    """The id `number` places behind the first whose key is `begin` or behind it."""
    found: str | None = database.value(_NTH, (list(partitions), *kind, begin, number))
    return found


def key_before(database: Database, places: Sequence[Place], offset: int) -> str | None:
    """The key of the profile before the one at `offset` (above 0); None where there are no more."""
    if len(places) == 1:
        found: str | None = database.value(_NTH_AFTER, (*places[0], offset - 1))
        return found
    for number, (stored, _) in enumerate(merged_ids(database, places, _MERGED_AT_ONCE)):
        if number == offset - 1:
            return stored
    return None


def put(connection: Connection, place: Place, rows: Sequence[tuple[str, bytes]]) -> None:
    """Insert or replace the documents of (id, document) pairs, in the order of their ids."""
    ids = [profile_id.encode() for profile_id, _ in rows]
    if max(map(len, ids)) > KEY_BYTES:
        short = []
        for profile_id, document in rows:
            whole = long_of(profile_id)
            if whole is None:
                short.append((profile_id, document))
            else:
                row = (*place, key_for_write(whole), bytes_for_jsonb(document).decode(), whole)
                connection.execute(_PUT_LONG, row)
        rows, ids = short, [profile_id.encode() for profile_id, _ in short]
    if ids:
        documents = all_for_jsonb([document for _, document in rows])
        connection.execute(_PUT, (*place, TextArray.of(ids), TextArray.of(documents)))


def delete(connection: Connection, place: Place, ids: Sequence[str]) -> None:
    """Delete profiles; those that are not there do not matter."""
    connection.execute(_DELETE, (*place, TextArray.of_texts(map(key_for_write, ids))))
