"""Floors of the fold on PostgreSQL: COPY of the same final rows, the same put in place, a plain way.

Enters: a store whose profiles are in place, and the records that its fold was given. Leaves: records a
second. All write to tables of their own in the same database, flushed as the fold's transactions are, and
only profiles: no history, no counts, no watermark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import orjson
import psycopg

from bench import records, server
from mixdown.fold.profiles import GROUP_LIMIT_RECORDS
from mixdown.store.postgres.ids import TextArray
from mixdown.store.protocols import Store

READ_AT_ONCE: Final = 10_000
PLAIN_AT_ONCE: Final = 2000
"""Records in one transaction of the plain way."""
_MAKE: Final = "CREATE TABLE bench_rows (LIKE mixdown.profiles INCLUDING ALL)"
_COPY: Final = "COPY bench_rows (partition, project_id, group_key, id, document) FROM STDIN"
_MAKE_PLAIN: Final = """
    CREATE TABLE bench_plain (id text COLLATE "C" PRIMARY KEY, doc jsonb NOT NULL) WITH (fillfactor = 75)
"""
_FILL_PLAIN: Final = "INSERT INTO bench_plain SELECT id, document FROM mixdown.profiles ORDER BY ctid"
_READ: Final = (
    "SELECT id, convert_to(doc::text, 'UTF8') FROM bench_plain WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
)
_WRITE: Final = """
    INSERT INTO bench_plain SELECT unnest(%s::text[]), unnest(%s::text[])::jsonb
    ON CONFLICT (id) DO UPDATE SET doc = excluded.doc
"""
_READ_AS_IS: Final = "SELECT id, convert_to(doc::text, 'UTF8') FROM bench_plain WHERE id = ANY(%s)"
_STAGE: Final = "COPY bench_staged FROM STDIN"
_PUT_STAGED: Final = """
    INSERT INTO bench_plain SELECT id, doc FROM bench_staged ON CONFLICT (id) DO UPDATE SET doc = excluded.doc
"""

Fields = dict[str, Any]


def copied(url: str, store: Store, ids: Sequence[str]) -> float:
    """Records/s of COPY: of each step's records, as the fold takes them, the documents as they are now.

    Into an empty table like that of profiles, with its key; a transaction for each step. What is sent is made
    before the clock runs.
    """
    elapsed = 0.0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_MAKE)
        try:
            for start in range(0, len(ids), GROUP_LIMIT_RECORDS):
                data = b"".join(_lines(store, sorted(set(ids[start : start + GROUP_LIMIT_RECORDS]))))
                began = time.perf_counter()
                with connection.cursor().copy(_COPY) as copy:
                    copy.write(data)
                elapsed += time.perf_counter() - began
                connection.execute("TRUNCATE bench_rows")
        finally:
            connection.execute("DROP TABLE bench_rows")
    return len(ids) / elapsed


def _lines(store: Store, ids: Sequence[str]) -> Iterator[bytes]:
    rest = iter(ids)
    while some := list(islice(rest, READ_AT_ONCE)):
        found = store.state.documents([(server.PROJECT, "", name) for name in some])
        for name, document in zip(some, found, strict=True):
            if document is not None:
                yield b"0\t%d\t\t%b\t%b\n" % (server.PROJECT, name.encode(), document.replace(b"\\", b"\\\\"))


def in_place(url: str, ids: Sequence[str]) -> tuple[float, float]:
    """Records/s of the same steps' rows put in the place of those that are there, and of reading them first.

    What no fold can do without, and nothing else: a step's documents are read as they are, 10,000 at a time,
    sent back with a few bytes more by COPY into a table without a log, and put in place by one statement. All
    in one process, one after the other, a transaction for each step.
    """
    reading = writing = 0.0
    with psycopg.connect(url, autocommit=True) as connection, _plain_table(connection):
        connection.execute("CREATE UNLOGGED TABLE bench_staged (LIKE bench_plain)")
        try:
            for turn, start in enumerate(range(0, len(ids), GROUP_LIMIT_RECORDS)):
                some = sorted(set(ids[start : start + GROUP_LIMIT_RECORDS]))
                began = time.perf_counter()
                found = _as_they_are(connection, some)
                read = time.perf_counter()
                data = b"".join([_line(name, document, turn) for name, document in found])
                made = time.perf_counter()
                _put_in_place(connection, data)
                reading += read - began
                writing += time.perf_counter() - made
        finally:
            connection.execute("DROP TABLE bench_staged")
    return len(ids) / writing, len(ids) / (reading + writing)


def _as_they_are(connection: psycopg.Connection[Any], ids: Sequence[str]) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for start in range(0, len(ids), READ_AT_ONCE):
        asked = TextArray.of_texts(ids[start : start + READ_AT_ONCE])
        found += connection.execute(_READ_AS_IS, (asked,), binary=True).fetchall()
    return sorted(found)


def _line(name: str, document: bytes, turn: int) -> bytes:
    changed = b'%b, "turn": %06d}' % (document[:-1], 100_000 + turn)
    return b"%b\t%b\n" % (name.encode(), changed.replace(b"\\", b"\\\\"))


def _put_in_place(connection: psycopg.Connection[Any], data: bytes) -> None:
    with connection.transaction():
        connection.execute("TRUNCATE bench_staged")
        with connection.cursor().copy(_STAGE) as copy:
            copy.write(data)
        connection.execute(_PUT_STAGED)


def plain(url: str, requests: Sequence[bytes]) -> float:
    """Records/s of what one writes first: read and lock 2,000 profiles, change them, write them, commit."""
    parsed = [row for request in requests for row in records.parsed(request)]
    with psycopg.connect(url, autocommit=True) as connection, _plain_table(connection):
        began = time.perf_counter()
        for start in range(0, len(parsed), PLAIN_AT_ONCE):
            with connection.transaction():
                _change(connection, parsed[start : start + PLAIN_AT_ONCE])
        return len(parsed) / (time.perf_counter() - began)


@contextmanager
def _plain_table(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """All profiles in a table with nothing but an id and `jsonb`, and at rest."""
    connection.execute(_MAKE_PLAIN)
    try:
        connection.execute(_FILL_PLAIN)
        connection.execute("VACUUM ANALYZE bench_plain")
        connection.execute("CHECKPOINT")
        yield
    finally:
        connection.execute("DROP TABLE bench_plain")


def _change(connection: psycopg.Connection[Any], rows: Sequence[Fields]) -> None:
    ids = sorted({row["$distinct_id"] for row in rows})
    asked = TextArray.of_texts(ids)
    found = {name: orjson.loads(text) for name, text in connection.execute(_READ, (asked,), binary=True)}
    for row in rows:
        profile = found.setdefault(row["$distinct_id"], {})
        for operator, apply in _OPERATORS.items():
            if operator in row:
                apply(profile, row[operator])
        profile["$last_seen"] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(row["$time"]))
    connection.execute(_WRITE, (asked, TextArray.of([orjson.dumps(found[name]) for name in ids])))


def _set_once(profile: Fields, payload: Fields) -> None:
    for name, value in payload.items():
        profile.setdefault(name, value)


def _add(profile: Fields, payload: Fields) -> None:
    for name, value in payload.items():
        profile[name] = profile.get(name, 0) + value


def _append(profile: Fields, payload: Fields) -> None:
    for name, value in payload.items():
        profile.setdefault(name, []).append(value)


def _union(profile: Fields, payload: Fields) -> None:
    for name, values in payload.items():
        stored = profile.setdefault(name, [])
        stored += [value for value in values if value not in stored]


def _remove(profile: Fields, payload: Fields) -> None:
    for name, value in payload.items():
        profile[name] = [each for each in profile.get(name, []) if each != value]


def _unset(profile: Fields, payload: Sequence[str]) -> None:
    for name in payload:
        profile.pop(name, None)


_OPERATORS: Final[dict[str, Callable[[Fields, Any], None]]] = {
    "$unset": _unset,
    "$set_once": _set_once,
    "$set": Fields.update,
    "$add": _add,
    "$union": _union,
    "$append": _append,
    "$remove": _remove,
}
