"""Query sessions in `scratch.db`: frozen lists of ids, read page by page.

Nothing here is precious: a file that is damaged or of another version is made anew, and clients whose
session went with it ask again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from mixdown.model.errors import CorruptStoreError, SchemaTooNewError, StoreError
from mixdown.store import bounds, patience, session_blocks
from mixdown.store.protocols import Session
from mixdown.store.session_blocks import Found
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.folder import setting_up
from mixdown.store.sqlite.sweeping import sweep

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
        self._blocks = _SqliteBlocks(self._try)

    def create(self, session: Session, ids: Iterable[str]) -> Session:
        number = self._try(lambda connection: _begin(connection, session))
        try:
            total = session_blocks.keep_ids(self._blocks, number, ids)
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
        if now_ms - used_ms >= bounds.SESSION_TOUCH_MS:
            with suppress(StoreError):  # a page can be read where nothing can be written
                self._try(
                    lambda connection: sqlite.rows(
                        connection, "UPDATE sessions SET used_ms = ? WHERE id = ?", (now_ms, session_id)
                    )
                )
        return Session(*(*fields, session_blocks.properties_of(packed)))

    def page_ids(self, session_id: str, page: int) -> list[str]:
        return self._try(lambda connection: _page_ids(connection, session_id, page))

    def forget(
        self, project: int, group_key: str, ids: Collection[str], *, until_ms: int, now_ms: int
    ) -> Iterator[bool]:
        return session_blocks.forget_ids(
            self._blocks, project, group_key, ids, until_ms=until_ms, now_ms=now_ms
        )

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


def _begin(connection: apsw.Connection, session: Session) -> int:
    """Write the session's row, not complete yet, and drop what is expired, abandoned or over the bound."""
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
                    session_blocks.properties_text(session),
                    session.created_ms,
                ),
            )
        )


def _evict(connection: apsw.Connection, session: Session) -> None:
    gone: list[Any] = sqlite.rows(
        connection,
        "SELECT number FROM sessions WHERE created_ms <= ? OR (NOT complete AND created_ms <= ?)",
        (session.created_ms - bounds.SESSION_LIFE_MS, session.created_ms - session_blocks.UNFINISHED_MS),
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
    rows = sqlite.rows(
        connection,
        "SELECT ids FROM id_blocks WHERE session = ? AND block BETWEEN ? AND ? ORDER BY block",
        (number, *session_blocks.blocks_of_page(page, page_size)),
    )
    return session_blocks.ids_of_page((block for (block,) in rows), page, page_size)


class _SqliteBlocks:
    """`Blocks` in `scratch.db`; `ask` runs a function on a connection of it."""

    def __init__(self, ask: Callable[[Callable[[apsw.Connection], Any]], Any]) -> None:
        self._ask = ask

    def insert(self, number: int, first: int, blocks: Sequence[bytes]) -> None:
        rows = [(number, first + place, packed) for place, packed in enumerate(blocks)]
        self._many("INSERT INTO id_blocks VALUES (?, ?, ?)", rows)

    def about(self, project: int, group_key: str, until_ms: int) -> dict[int, Found]:
        rows = self._rows(
            "SELECT number, complete, created_ms FROM sessions"
            " WHERE project = ? AND group_key = ? AND created_ms <= ? ORDER BY number DESC",
            (project, group_key, until_ms),
        )
        return {number: Found(bool(complete), created_ms) for number, complete, created_ms in rows}

    def after(self, number: int, block: int, limit: int) -> list[tuple[int, bytes]]:
        return self._rows(
            "SELECT block, ids FROM id_blocks WHERE session = ? AND block > ? ORDER BY block LIMIT ?",
            (number, block, limit),
        )

    def replace(self, number: int, blocks: Sequence[tuple[int, bytes]]) -> None:
        rows = [(packed, number, block) for block, packed in blocks]
        self._many("UPDATE id_blocks SET ids = ? WHERE session = ? AND block = ?", rows)

    def abandon(self, number: int) -> None:
        def drop(connection: apsw.Connection) -> None:
            with sqlite.transaction(connection):
                sqlite.rows(connection, "DELETE FROM id_blocks WHERE session = ?", (number,))
                sqlite.rows(connection, "DELETE FROM sessions WHERE number = ? AND NOT complete", (number,))

        self._ask(drop)

    def _rows(self, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        found: list[Any] = self._ask(lambda connection: sqlite.rows(connection, sql, bindings))
        return found

    def _many(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        def write(connection: apsw.Connection) -> None:
            with sqlite.transaction(connection):
                connection.executemany(sql, rows)

        self._ask(write)
