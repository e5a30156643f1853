"""Query sessions in PostgreSQL: frozen lists of ids, read page by page, from any node.

Who drops a session holds its row first, and passes over those that somebody else holds: nodes never wait for
each other here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from mixdown.model.errors import StoreError
from mixdown.store import bounds, patience, session_blocks
from mixdown.store.postgres.connection import Cursor, Database
from mixdown.store.protocols import Session
from mixdown.store.session_blocks import Found

_SESSION: Final = "id, project, group_key, total, page_size, created_ms, output_properties, used_ms"
_PAGES: Final = 2**31
"""No result set has so many."""


class PostgresSessions:
    """`Sessions` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._blocks = _PostgresBlocks(database)

    def create(self, session: Session, ids: Iterable[str]) -> Session:
        with self._database.transaction() as cursor:
            _evict(cursor, session)
            cursor.execute(
                f"INSERT INTO mixdown.sessions ({_SESSION}, complete)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, false)",
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
        try:
            total = session_blocks.keep_ids(self._blocks, session.id, ids)
            self._database.run(
                "UPDATE mixdown.sessions SET complete = true, total = %s WHERE id = %s", (total, session.id)
            )
        except BaseException:
            with suppress(StoreError), patience.forgotten():
                self._blocks.abandon(session.id)
            raise
        return msgspec.structs.replace(session, total=total)

    def get(self, session_id: str, project: int, *, now_ms: int) -> Session | None:
        row = self._database.row(
            f"SELECT {_SESSION} FROM mixdown.sessions"
            " WHERE id = %s AND project = %s AND created_ms > %s AND complete",
            (session_id, project, now_ms - bounds.SESSION_LIFE_MS),
        )
        if row is None:
            return None
        *fields, properties, used_ms = row
        if now_ms - used_ms >= bounds.SESSION_TOUCH_MS:
            with suppress(StoreError):  # a page can be read where nothing can be written
                self._database.run(
                    "UPDATE mixdown.sessions SET used_ms = %s WHERE id = %s", (now_ms, session_id)
                )
        return Session(*(*fields, session_blocks.properties_of(properties)))

    def page_ids(self, session_id: str, page: int) -> list[str]:
        if not 0 <= page < _PAGES:
            return []
        rows = self._database.rows(
            "SELECT session.page_size, block.ids FROM mixdown.sessions AS session"
            " JOIN mixdown.session_blocks AS block ON block.session = session.id"
            " AND block.block BETWEEN %(page)s::bigint * session.page_size / %(ids)s"
            " AND ((%(page)s::bigint + 1) * session.page_size - 1) / %(ids)s"
            " WHERE session.id = %(id)s AND session.complete ORDER BY block.block",
            {"page": page, "ids": session_blocks.BLOCK_IDS, "id": session_id},
            binary=True,
        )
        if not rows:
            return []
        return session_blocks.ids_of_page((block for _, block in rows), page, rows[0][0])

    def forget(
        self, project: int, group_key: str, ids: Collection[str], *, until_ms: int, now_ms: int
    ) -> Iterator[bool]:
        return session_blocks.forget_ids(
            self._blocks, project, group_key, ids, until_ms=until_ms, now_ms=now_ms
        )

    def close(self) -> None:
        """The connections are the store's."""


def _evict(cursor: Cursor, session: Session) -> None:
    """Drop sessions that are expired or abandoned, and those above the project's bound."""
    cursor.execute(
        "SELECT id FROM mixdown.sessions WHERE created_ms <= %s OR (NOT complete AND created_ms <= %s)"
        " OR id IN (SELECT id FROM mixdown.sessions WHERE project = %s"
        " ORDER BY used_ms DESC, created_ms DESC, id OFFSET %s) FOR UPDATE SKIP LOCKED",
        (
            session.created_ms - bounds.SESSION_LIFE_MS,
            session.created_ms - session_blocks.UNFINISHED_MS,
            session.project,
            bounds.SESSIONS_PER_PROJECT - 1,
        ),
    )
    _drop(cursor, [number for (number,) in cursor.fetchall()])


def _drop(cursor: Cursor, held: list[Any]) -> None:
    """Drop sessions whose rows this transaction holds."""
    if held:
        cursor.execute("DELETE FROM mixdown.session_blocks WHERE session = ANY(%s)", (held,))
        cursor.execute("DELETE FROM mixdown.sessions WHERE id = ANY(%s)", (held,))


class _PostgresBlocks:
    """`Blocks` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, number: str, first: int, blocks: Sequence[bytes]) -> None:
        with self._database.transaction() as cursor:
            held = "SELECT 1 FROM mixdown.sessions WHERE id = %s FOR KEY SHARE"
            if cursor.execute(held, (number,)).fetchone() is None:
                return  # pushed out by newer ones: nobody will ask for it
            cursor.executemany(
                "INSERT INTO mixdown.session_blocks VALUES (%s, %s, %b)",
                [(number, first + place, packed) for place, packed in enumerate(blocks)],
            )

    def about(self, project: int, group_key: str, until_ms: int) -> dict[str, Found]:
        rows = self._database.rows(
            "SELECT id, complete, created_ms FROM mixdown.sessions"
            " WHERE project = %s AND group_key = %s AND created_ms <= %s ORDER BY created_ms DESC",
            (project, group_key, until_ms),
        )
        return {number: Found(complete, created_ms) for number, complete, created_ms in rows}

    def after(self, number: str, block: int, limit: int) -> list[tuple[int, bytes]]:
        rows = self._database.rows(
            "SELECT block, ids FROM mixdown.session_blocks WHERE session = %s AND block > %s"
            " ORDER BY block LIMIT %s",
            (number, block, limit),
            binary=True,
        )
        return [(each, ids) for each, ids in rows]

    def replace(self, number: str, blocks: Sequence[tuple[int, bytes]]) -> None:
        with self._database.transaction() as cursor:
            cursor.execute("SELECT 1 FROM mixdown.sessions WHERE id = %s FOR UPDATE", (number,))
            cursor.executemany(
                "UPDATE mixdown.session_blocks SET ids = %b WHERE session = %s AND block = %s",
                [(packed, number, block) for block, packed in blocks],
            )

    def abandon(self, number: str) -> None:
        with self._database.transaction() as cursor:
            held = "SELECT id FROM mixdown.sessions WHERE id = %s AND NOT complete FOR UPDATE"
            if cursor.execute(held, (number,)).fetchone() is not None:
                _drop(cursor, [number])
