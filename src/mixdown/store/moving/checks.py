"""Whether two stores hold the same: profiles by number and digest, events of each day by number and digest.

Enters: two stores in which nothing changes. Leaves: what each holds, as text that can be compared. A digest
does not depend on the order of rows, nor on that of names within a profile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

import msgspec
import orjson

from mixdown.store.duck import open_events
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.postgres.documents import document_of
from mixdown.store.postgres.store import PostgresStore
from mixdown.store.protocols import Store
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.store import SqliteStore

_WRAP: Final = (1 << 64) - 1
_MEMORY_BYTES: Final = 256 * 1024 * 1024
_DAY_MS: Final = 24 * 3600 * 1000
_IN_FOLDER: Final = """
    SELECT p.project_id, coalesce(g.group_key, ''), p.id, CAST(p.document AS BLOB) FROM profiles AS p
    LEFT JOIN group_keys AS g ON g.project_id = p.project_id AND g.data_group_id = p.data_group_id
"""
_IN_DATABASE: Final = """
    SELECT project_id, group_key, coalesce(long_id, id), convert_to(document::text, 'UTF8')
    FROM mixdown.profiles
"""
_COUNTED_IN_FOLDER: Final = """
    SELECT p.project_id, coalesce(g.group_key, ''), count(*) FROM profiles AS p
    LEFT JOIN group_keys AS g ON g.project_id = p.project_id AND g.data_group_id = p.data_group_id
    GROUP BY p.project_id, p.data_group_id
"""
_COUNTED_IN_DATABASE: Final = """
    SELECT project_id, group_key, count(*) FROM mixdown.profiles GROUP BY project_id, group_key
"""


class Held(msgspec.Struct, frozen=True):
    """Rows of a kind: "" for the digest where none was asked for."""

    rows: int
    digest: str = ""


Found = dict[tuple[int, str], Held]
"""By project, and what is counted: "users", "groups Company", "events 2026-01-31"."""


class Difference(msgspec.Struct, frozen=True):
    """What is not alike."""

    project: int
    what: str
    here: Held
    there: Held


def profiles_in_folder(store: SqliteStore, *, digests: bool) -> Found:
    """The profiles of a data folder."""
    path = store.folder / sqlite.STATE.file_name
    with sqlite.store_errors(str(path)):
        connection = sqlite.connect(path, sqlite.STATE)
        try:
            if not digests:
                return _counted(sqlite.rows(connection, _COUNTED_IN_FOLDER))
            with sqlite.snapshot(connection):
                return _digested(connection.execute(_IN_FOLDER))
        finally:
            connection.close()


def profiles_in_database(store: PostgresStore, *, digests: bool) -> Found:
    """The profiles of a database: of one moment, on a cluster for each partition by itself."""
    if not digests:
        return _counted(store.database.rows(_COUNTED_IN_DATABASE))
    lots = store.database.stream(_IN_DATABASE, binary=True)
    return _digested((*row[:3], document_of(row[3])) for lot in lots for row in lot)


def events_in(store: Store, projects: Iterable[int], *, since_ms: int = FIRST_MS) -> Found:
    """The events of some projects since a time, by UTC day; those that were sent twice count once."""
    found: Found = {}
    for project in projects:
        parts = store.events.parts(project, since_ms, LAST_MS)
        if not parts.files and not parts.hot:
            continue
        with open_events(parts, memory_limit_bytes=_MEMORY_BYTES, threads=2, temp_directory=None) as table:
            days = table.prepare().execute(
                f"SELECT epoch_ms(time) // {_DAY_MS}, count(*),"  # noqa: S608 - a number
                " bit_xor(hash(event, distinct_id, epoch_ms(time), insert_id)) FROM events GROUP BY 1"
            )
            for day, rows, digest in days.fetchall():
                name = datetime.fromtimestamp(day * _DAY_MS / 1000, UTC).strftime("%Y-%m-%d")
                found[project, f"events {name}"] = Held(rows, f"{digest:016x}")
    return found


def differences(here: Found, there: Found) -> list[Difference]:
    """What is not the same in both."""
    none = Held(0)
    return [
        Difference(project, what, here.get((project, what), none), there.get((project, what), none))
        for project, what in sorted(here.keys() | there.keys())
        if here.get((project, what), none) != there.get((project, what), none)
    ]


def _counted(rows: Iterable[tuple[int, str, int]]) -> Found:
    return {(project, _named(group_key)): Held(count) for project, group_key, count in rows}


def _digested(rows: Iterable[tuple[int, str, str, bytes]]) -> Found:
    counts: dict[tuple[int, str], int] = defaultdict(int)
    sums: dict[tuple[int, str], int] = defaultdict(int)
    for project, group_key, profile_id, document in rows:
        kind = project, group_key
        counts[kind] += 1
        sums[kind] = (sums[kind] + _digest_of(profile_id, document)) & _WRAP
    return {
        (project, _named(group_key)): Held(count, f"{sums[project, group_key]:016x}")
        for (project, group_key), count in counts.items()
    }


def _digest_of(profile_id: str, document: bytes) -> int:
    content = orjson.dumps(orjson.loads(document), option=orjson.OPT_SORT_KEYS)
    encoded = profile_id.encode()
    return int.from_bytes(
        blake2b(b"%d %b%b" % (len(encoded), encoded, content), digest_size=8).digest(), "big"
    )


def _named(group_key: str) -> str:
    return f"groups {group_key}" if group_key else "users"


def rows_in(found: Found) -> Iterator[tuple[int, str, int, str]]:
    """What was found, as rows of a table."""
    for (project, what), held in sorted(found.items()):
        yield project, what, held.rows, held.digest
