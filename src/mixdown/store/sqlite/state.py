"""Profiles, idempotency keys and the watermark in `state.db`: what one fold transaction writes.

Enters: `FoldResult`s, from one process. Leaves: documents, for any thread of any process. What a
power cut takes from this file the log folds again, so a commit need not wait for the disk; how far
the state *is* on disk is `durable_watermark`, and the log must not be trimmed past it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

import apsw

from mixdown.model.errors import StoreError
from mixdown.store.chunk import Outcome
from mixdown.store.group_ids import group_id_of, next_group_id
from mixdown.store.protocols import FoldResult, ProfileKey
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.keys import find_keys, key_window, write_keys

# 256 MiB would save a tenth of the CPU of an upsert, and take most of what all processes may (DESIGN G7).
_WRITER_CACHE_BYTES: Final = 96 * 1024 * 1024
_CHECKPOINT_PAGES: Final = 16_000
_CHECKPOINT_EVERY_S: Final = 30.0
_RESTART_WAIT_MS: Final = 200
_PROFILES_AT_ONCE: Final = 4096
_PROFILE_BYTES_AT_ONCE: Final = 16 * 1024 * 1024
_IDS_AT_ONCE: Final = 10_000
_GROUP_KEYS_CACHED: Final = 10_000

# A row of the array is the id's length in 8 digits, the id, the document. One statement takes all rows:
# called row by row, it would give up the interpreter's lock at every row and wait to get it back.
# OR FAIL, because the statement need not undo itself (an error rolls the transaction back): without it
# SQLite copies every page that the statement changes, at a quarter of the speed.
_UPSERT: Final = """
    INSERT OR FAIL INTO profiles (project_id, data_group_id, id, document)
    SELECT ?1, ?2, CAST(substr(value, 9, size) AS TEXT), CAST(substr(value, 9 + size) AS TEXT)
    FROM (SELECT value, CAST(CAST(substr(value, 1, 8) AS TEXT) AS INTEGER) AS size FROM carray(?3)) WHERE true
    ON CONFLICT (project_id, data_group_id, id) DO UPDATE SET document = excluded.document
"""
_DELETE: Final = """
    DELETE FROM profiles WHERE project_id = ? AND data_group_id = ?
    AND id IN (SELECT CAST(value AS TEXT) FROM carray(?))
"""
_FIND: Final = """
    SELECT p.id, CAST(p.document AS BLOB) FROM carray(?3) AS asked CROSS JOIN profiles AS p
    WHERE p.project_id = ?1 AND p.data_group_id = ?2 AND p.id = CAST(asked.value AS TEXT)
"""


class SqliteState:
    """`State` in `state.db`; with `writes`, the one that the fold writes through.

    `before_commit`, when set, is called inside each write transaction just before its COMMIT: crash
    tests put their kill there.
    """

    before_commit: Callable[[], None] | None = None

    def __init__(self, folder: Path, *, writes: bool) -> None:
        path = folder / sqlite.STATE.file_name
        self._what = str(path)
        self._readers = sqlite.ThreadConnections(path, sqlite.STATE)
        self._group_keys: dict[tuple[int, str], int] = {}
        self._guard = Lock()
        self._writer: apsw.Connection | None = None
        self._durable = 0
        self._checkpointed = time.monotonic()
        self._wal_pages = self._checkpointed_pages = 0
        if writes:
            with sqlite.store_errors(self._what):
                self._writer = sqlite.connect(path, sqlite.STATE, cache_bytes=_WRITER_CACHE_BYTES)
                self._writer.wal_autocheckpoint(0)
                self._writer.set_wal_hook(self._count_pages)
                self._durable = self._get("SELECT durable FROM watermarks WHERE reader = 'profiles'")

    def watermark(self) -> int:
        return self._get("SELECT position FROM watermarks WHERE reader = 'profiles'")

    def durable_watermark(self) -> int:
        return max(self._durable, self._get("SELECT durable FROM watermarks WHERE reader = 'profiles'"))

    def documents(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        asked: dict[tuple[int, str], list[str]] = defaultdict(list)
        for project, group_key, profile_id in keys:
            asked[project, group_key].append(profile_id)
        with sqlite.store_errors(self._what):
            connection = self._readers.get()
            found = {pair: self._find(connection, pair, ids) for pair, ids in asked.items()}
        if len(found) == 1:
            documents = next(iter(found.values()))
            return [documents.get(profile_id) for _, _, profile_id in keys]
        return [found[project, group_key].get(profile_id) for project, group_key, profile_id in keys]

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        with sqlite.store_errors(self._what):
            return find_keys(self._readers.get(), keys, since_ms)

    def write(self, result: FoldResult) -> None:
        with self._guard, sqlite.store_errors(self._what):
            writer = self._open_writer()
            with sqlite.transaction(writer):
                self._write_profiles(writer, result.profiles)
                write_keys(writer, result.keys, result.now_ms)
                sqlite.rows(
                    writer,
                    "UPDATE watermarks SET position = ?, durable = ? WHERE reader = 'profiles'",
                    (result.watermark, self._durable),
                )
                if self.before_commit is not None:
                    self.before_commit()
            late = time.monotonic() - self._checkpointed > _CHECKPOINT_EVERY_S
            if late or self._wal_pages - self._checkpointed_pages >= _CHECKPOINT_PAGES:
                self._checkpoint(writer)

    def checkpoint(self) -> int:
        with self._guard, sqlite.store_errors(self._what):
            self._checkpoint(self._open_writer())
            return self._durable

    def ids(self, project: int, group_key: str) -> Iterator[str]:
        group_id = self._group_id(project, group_key)
        if group_id is None:
            return
        last = ""
        while True:
            with sqlite.store_errors(self._what):
                # a page at a time: a cursor held open would hold up the fold's checkpoints
                rows = sqlite.rows(
                    self._readers.get(),
                    "SELECT id FROM profiles WHERE project_id = ? AND data_group_id = ? AND id > ?"
                    " ORDER BY id LIMIT ?",
                    (project, group_id, last, _IDS_AT_ONCE),
                )
            for (profile_id,) in rows:
                yield profile_id
            if len(rows) < _IDS_AT_ONCE:
                return
            last = rows[-1][0]

    def count(self, project: int, group_key: str) -> int:
        group_id = self._group_id(project, group_key)
        return self._get(
            "SELECT count(*) FROM profiles WHERE project_id = ? AND data_group_id = ?", (project, group_id)
        )

    def page(self, project: int, group_key: str, *, offset: int, limit: int) -> list[tuple[str, bytes]]:
        group_id = self._group_id(project, group_key)
        with sqlite.store_errors(self._what):
            return sqlite.rows(
                self._readers.get(),
                "SELECT id, CAST(document AS BLOB) FROM profiles WHERE project_id = ? AND data_group_id = ?"
                " ORDER BY id LIMIT ? OFFSET ?",
                (project, group_id, limit, offset),
            )

    def group_keys(self, project: int) -> dict[str, int]:
        with sqlite.store_errors(self._what):
            return dict(
                sqlite.rows(
                    self._readers.get(),
                    "SELECT group_key, data_group_id FROM group_keys WHERE project_id = ? ORDER BY group_key",
                    (project,),
                )
            )

    def key_window(self) -> tuple[int, int]:
        with sqlite.store_errors(self._what):
            return key_window(self._readers.get())

    def close(self) -> None:
        with self._guard:
            self._readers.close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _get(self, sql: str, bindings: tuple[int | None, ...] = ()) -> int:
        with sqlite.store_errors(self._what):
            return int(sqlite.value(self._readers.get(), sql, bindings))

    def _find(
        self, connection: apsw.Connection, pair: tuple[int, str], ids: Sequence[str]
    ) -> dict[str, bytes]:
        group_id = self._group_id(*pair)
        if group_id is None:
            return {}
        array = apsw.carray(tuple([_encoded(profile_id) for profile_id in ids]))
        return dict(sqlite.rows(connection, _FIND, (pair[0], group_id, array)))

    def _group_id(self, project: int, group_key: str) -> int | None:
        """The data_group_id of a group key, None where none was written yet; users have 0."""
        if not group_key:
            return 0
        known = self._group_keys.get((project, group_key))
        if known is None:
            with sqlite.store_errors(self._what):
                known = _select_group_id(self._readers.get(), project, group_key)
            if known is not None:
                self._remember(project, group_key, known)
        return known

    def _remember(self, project: int, group_key: str, group_id: int) -> None:
        if len(self._group_keys) >= _GROUP_KEYS_CACHED:
            self._group_keys.clear()
        self._group_keys[project, group_key] = group_id

    def _open_writer(self) -> apsw.Connection:
        if self._writer is None:
            raise StoreError(f"{self._what} was closed, or opened for reading alone")
        return self._writer

    def _write_profiles(
        self, writer: apsw.Connection, profiles: Iterable[tuple[ProfileKey, bytes | None]]
    ) -> None:
        """Write profiles, thousands in one statement, fewer where they are large."""
        some: list[tuple[ProfileKey, bytes | None]] = []
        size = 0
        for profile in profiles:
            some.append(profile)
            size += len(profile[1] or b"")
            if len(some) == _PROFILES_AT_ONCE or size > _PROFILE_BYTES_AT_ONCE:
                _write_some(writer, some)
                some.clear()
                size = 0
        _write_some(writer, some)

    def _count_pages(self, connection: apsw.Connection, name: str, pages: int) -> int:
        del connection, name
        if pages < self._wal_pages:  # the WAL was started anew
            self._checkpointed_pages = 0
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self, writer: apsw.Connection) -> None:
        """Move the WAL into the file and let the next write start it anew, waiting a little for readers."""
        watermark = sqlite.value(writer, "SELECT position FROM watermarks WHERE reader = 'profiles'")
        writer.set_busy_timeout(_RESTART_WAIT_MS)
        try:
            _, pages, moved = sqlite.value(writer, "PRAGMA wal_checkpoint(RESTART)")
        finally:
            writer.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
        self._checkpointed = time.monotonic()
        self._checkpointed_pages = max(0, pages)  # where a reader held it up, not again at every write
        if moved == pages >= 0:
            self._durable = watermark


def _write_some(writer: apsw.Connection, profiles: Sequence[tuple[ProfileKey, bytes | None]]) -> None:
    puts: dict[tuple[int, str], list[bytes]] = defaultdict(list)
    gone: dict[tuple[int, str], list[bytes]] = defaultdict(list)
    for (project, group_key, profile_id), document in profiles:
        encoded = profile_id.encode()
        if document is None:
            gone[project, group_key].append(encoded)
        else:
            puts[project, group_key].append(b"%08d%b%b" % (len(encoded), encoded, document))
    for (project, group_key), rows in puts.items():
        group_id = _group_id_for_write(writer, project, group_key)
        sqlite.rows(writer, _UPSERT, (project, group_id, apsw.carray(tuple(rows))))
    for (project, group_key), ids in gone.items():
        known = 0 if not group_key else _select_group_id(writer, project, group_key)
        if known is not None:
            sqlite.rows(writer, _DELETE, (project, known, apsw.carray(tuple(ids))))


def _encoded(text: str) -> bytes:
    """UTF-8 for a lookup; a lone surrogate gives bytes that no stored id has."""
    return text.encode("utf-8", "surrogatepass")


def _select_group_id(connection: apsw.Connection, project: int, group_key: str) -> int | None:
    found: int | None = sqlite.value(
        connection,
        "SELECT data_group_id FROM group_keys WHERE project_id = ? AND group_key = ?",
        (project, group_key),
    )
    return found


def _group_id_for_write(writer: apsw.Connection, project: int, group_key: str) -> int:
    """The data_group_id of a group key, made on its first write: from its name, and past any taken one."""
    if not group_key:
        return 0
    found = _select_group_id(writer, project, group_key)
    if found is not None:
        return found
    group_id = group_id_of(project, group_key)
    while sqlite.value(
        writer, "SELECT 1 FROM group_keys WHERE project_id = ? AND data_group_id = ?", (project, group_id)
    ):
        group_id = next_group_id(group_id)
    sqlite.rows(writer, "INSERT INTO group_keys VALUES (?, ?, ?)", (project, group_key, group_id))
    return group_id
