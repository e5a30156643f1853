"""Query sessions in `scratch.db`: frozen lists of ids, read page by page.

Nothing here is precious: a file that is damaged or of another version is made anew, and clients whose
session went with it ask again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec
import orjson

from mixdown.model.errors import CorruptStoreError, SchemaTooNewError, StoreError
from mixdown.store import bounds, patience
from mixdown.store.protocols import Session
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.folder import setting_up
from mixdown.store.sqlite.forgetting import forget_ids
from mixdown.store.sqlite.sweeping import sweep

_BLOCK_IDS: Final = 1000
_BLOCKS_AT_ONCE: Final = 20
_ABANDONED_MS: Final = 3600 * 1000
_COMPRESSION: Final = 1

T = TypeVar("T")


class SqliteSessions:
    """`Sessions` in `scratch.db`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / sqlite.SCRATCH.file_name
        self._what = str(self._path)
        with setting_up(folder):
            prepare_scratch(self._path)
        self._inode = self._path.stat().st_ino
        self._connections = sqlite.ThreadConnections(self._path, sqlite.SCRATCH)

    def create(self, session: Session, ids: Iterable[str]) -> Session:
        number = self._try(lambda connection: _begin(connection, session))
        try:
            total = self._keep_ids(number, ids)
            self._try(
                lambda connection: sqlite.rows(
                    connection,
                    "UPDATE sessions SET complete = 1, total = ? WHERE number = ?",
                    (total, number),
                )
            )
        except BaseException:
            with suppress(StoreError), patience.forgotten():
                self._try(partial(_drop, number=number))
            raise
        return msgspec.structs.replace(session, total=total)

    def _keep_ids(self, number: int, ids: Iterable[str]) -> int:
        """Write the ids in blocks as they come; how many there were."""
        rest = iter(ids)
        total = block = 0
        # a few blocks a transaction: making the ids takes time, and other workers write here too
        while some := list(islice(rest, _BLOCKS_AT_ONCE * _BLOCK_IDS)):
            patience.check()
            rows = [(number, block + place, packed) for place, packed in enumerate(_blocks(some))]
            self._try(partial(_insert_blocks, rows=rows))
            block += len(rows)
            total += len(some)
        return total

    def get(self, session_id: str, project: int, *, now_ms: int) -> Session | None:
        row = self._try(
            lambda connection: sqlite.value(
                connection,
                "SELECT id, project, group_key, total, page_size, created_ms, output_properties, used_ms"
                " FROM sessions WHERE id = ? AND project = ? AND created_ms > ? AND complete",
                (session_id, project, now_ms - bounds.SESSION_LIFE_MS),
            )
        )
        if row is None:
            return None
        *fields, packed, used_ms = row
        properties = None if packed is None else tuple(orjson.loads(packed))
        if now_ms - used_ms >= bounds.SESSION_TOUCH_MS:
            with suppress(StoreError):  # a page can be read where nothing can be written
                self._try(
                    lambda connection: sqlite.rows(
                        connection, "UPDATE sessions SET used_ms = ? WHERE id = ?", (now_ms, session_id)
                    )
                )
        return Session(*(*fields, properties))

    def page_ids(self, session_id: str, page: int) -> list[str]:
        return self._try(lambda connection: _page_ids(connection, session_id, page))

    def forget(
        self, project: int, group_key: str, ids: Collection[str], *, until_ms: int, now_ms: int
    ) -> Iterator[bool]:
        return forget_ids(self._try, project, group_key, ids, until_ms=until_ms, now_ms=now_ms)

    def sweep(self) -> Iterator[bool]:
        """Overwrite what the file and its WAL hold of deleted rows (`sweeping.sweep`)."""
        return sweep(self._path, sqlite.SCRATCH)

    def close(self) -> None:
        self._connections.close()

    def _try(self, ask: Callable[[apsw.Connection], T]) -> T:
        """Ask the file; if it turns out to be damaged, make it anew and ask once more."""
        try:
            with sqlite.store_errors(self._what):
                return ask(self._connections_now().get())
        except CorruptStoreError:
            self._make_anew()
            with sqlite.store_errors(self._what):
                return ask(self._connections.get())

    def _connections_now(self) -> sqlite.ThreadConnections:
        """The connections; new ones where another process has made the file anew."""
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            inode = -1
        if inode != self._inode:
            self._reopen()
        return self._connections

    def _make_anew(self) -> None:
        with setting_up(self._folder):
            if self._path.exists() and self._path.stat().st_ino == self._inode:
                remove_database(self._path)
        self._reopen()

    def _reopen(self) -> None:
        with setting_up(self._folder):
            prepare_scratch(self._path)
        # the old connections close when their threads ask again or end
        self._connections = sqlite.ThreadConnections(self._path, sqlite.SCRATCH)
        self._inode = self._path.stat().st_ino


def prepare_scratch(path: Path) -> None:
    """Make `scratch.db` ready; one that is damaged or of another version is made anew."""
    try:
        sqlite.prepare(path, sqlite.SCRATCH)
    except (CorruptStoreError, SchemaTooNewError):
        remove_database(path)
        sqlite.prepare(path, sqlite.SCRATCH)


def remove_database(path: Path) -> None:
    """Remove a database with its WAL."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _blocks(ids: Iterable[str]) -> Iterator[bytes]:
    rest = iter(ids)
    while block := list(islice(rest, _BLOCK_IDS)):
        yield zlib.compress(orjson.dumps(block), _COMPRESSION)


def _insert_blocks(connection: apsw.Connection, rows: list[tuple[int, int, bytes]]) -> None:
    with sqlite.transaction(connection):
        connection.executemany("INSERT INTO id_blocks VALUES (?, ?, ?)", rows)


def _begin(connection: apsw.Connection, session: Session) -> int:
    """Write the session's row, not complete yet, and drop what is expired, abandoned or over the bound."""
    properties = session.output_properties
    with sqlite.transaction(connection):
        _evict(connection, session)
        return int(
            sqlite.value(
                connection,
                "INSERT INTO sessions (id, project, group_key, total, page_size, created_ms,"
                " output_properties, used_ms, complete) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) RETURNING number",
                (
                    session.id,
                    session.project,
                    session.group_key,
                    session.total,
                    session.page_size,
                    session.created_ms,
                    None if properties is None else orjson.dumps(properties),
                    session.created_ms,
                ),
            )
        )


def _evict(connection: apsw.Connection, session: Session) -> None:
    gone: list[Any] = sqlite.rows(
        connection,
        "SELECT number FROM sessions WHERE created_ms <= ? OR (NOT complete AND created_ms <= ?)",
        (session.created_ms - bounds.SESSION_LIFE_MS, session.created_ms - _ABANDONED_MS),
    )
    gone += sqlite.rows(
        connection,
        "SELECT number FROM sessions WHERE project = ? ORDER BY used_ms DESC, number DESC LIMIT -1 OFFSET ?",
        (session.project, bounds.SESSIONS_PER_PROJECT - 1),
    )
    for (number,) in gone:
        _drop(connection, number)


def _drop(connection: apsw.Connection, number: int) -> None:
    sqlite.rows(connection, "DELETE FROM id_blocks WHERE session = ?", (number,))
    sqlite.rows(connection, "DELETE FROM sessions WHERE number = ?", (number,))


def _page_ids(connection: apsw.Connection, session_id: str, page: int) -> list[str]:
    found = sqlite.value(
        connection, "SELECT number, page_size FROM sessions WHERE id = ? AND complete", (session_id,)
    )
    if found is None or page < 0:
        return []
    number, page_size = found
    start = page * page_size
    first, last = start // _BLOCK_IDS, (start + page_size - 1) // _BLOCK_IDS
    rows = sqlite.rows(
        connection,
        "SELECT ids FROM id_blocks WHERE session = ? AND block BETWEEN ? AND ? ORDER BY block",
        (number, first, last),
    )
    ids: list[str | None] = []
    for (block,) in rows:
        ids += orjson.loads(zlib.decompress(block))
    skip = start - first * _BLOCK_IDS
    return [each for each in ids[skip : skip + page_size] if each is not None]
