"""Jobs of data protection in `catalog.db`: each change is on disk when it returns.

Through a connection of its own: a job changes nothing that workers keep of the catalog.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from mixdown.model.errors import StoreError
from mixdown.store.privacy import (
    FINISHED_KEPT,
    RETRIEVAL_LIFE_MS,
    RETRIEVALS_KEPT,
    Deletion,
    Erasures,
    Retrieval,
    append_in_turn,
    check_unfinished,
)
from mixdown.store.privacy_rows import (
    DELETION,
    RETRIEVAL,
    deletion_of,
    deletion_row,
    json_text,
    names_one_of,
    parts_with,
    positions_with,
    retrieval_of,
    retrieval_row,
)
from mixdown.store.protocols import Append, Turn
from mixdown.store.sqlite import connection as sqlite

_UNFINISHED: Final = "status IN ('PENDING', 'STAGING', 'STARTED')"


class SqlitePrivacyJobs:
    """`PrivacyJobs` in `catalog.db`."""

    def __init__(self, folder: Path) -> None:
        path = folder / sqlite.CATALOG.file_name
        self._what = str(path)
        self._guard = threading.Lock()
        with sqlite.store_errors(self._what):
            self._connection: apsw.Connection | None = sqlite.connect(path, sqlite.CATALOG)

    def add_deletion(self, deletion: Deletion) -> None:
        with self._change() as connection:
            held = sqlite.value(
                connection,
                f"SELECT count(*) FROM deletions WHERE project_id = ? AND {_UNFINISHED}",  # noqa: S608 - constants
                (deletion.project,),
            )
            check_unfinished(held)
            sqlite.rows(
                connection,
                "DELETE FROM deletions WHERE id IN (SELECT id FROM deletions WHERE project_id = ?"  # noqa: S608
                f" AND NOT {_UNFINISHED} ORDER BY requested_ms DESC LIMIT -1 OFFSET ?)",
                (deletion.project, FINISHED_KEPT - 1),
            )
            sqlite.rows(
                connection,
                f"INSERT INTO deletions ({DELETION}, position)"  # noqa: S608 - our columns
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                deletion_row(deletion),
            )

    def deletion(self, project: int, job_id: str) -> Deletion | None:
        found = self._select(
            f"SELECT {DELETION} FROM deletions WHERE id = ? AND project_id = ?",  # noqa: S608 - our columns
            (job_id, project),
        )
        return deletion_of(found[0]) if found else None

    def unfinished(self) -> list[Deletion]:
        found = self._select(
            f"SELECT {DELETION} FROM deletions WHERE {_UNFINISHED} ORDER BY requested_ms, id"  # noqa: S608
        )
        return [deletion_of(row) for row in found]

    def erasures(self, project: int) -> Erasures:
        ((under_way, last_ms),) = self._select(
            "SELECT count(*) FILTER (WHERE status IN ('STAGING', 'STARTED')),"
            " coalesce(max(finished_ms), 0) FROM deletions WHERE project_id = ?",
            (project,),
        )
        return Erasures(under_way, last_ms)

    def claim(self, job_id: str, *, now_ms: int, stale_ms: int) -> bool:
        with self._change() as connection:
            sqlite.rows(
                connection,
                "UPDATE deletions SET status = 'STAGING', claimed_ms = ? WHERE id = ?"
                " AND (status = 'PENDING' OR (status = 'STAGING' AND claimed_ms < ?))",
                (now_ms, job_id, stale_ms),
            )
            return bool(connection.changes())

    def widen(self, job_id: str, ids: Sequence[str]) -> None:
        with self._change() as connection:
            sqlite.rows(
                connection,
                "UPDATE deletions SET ids = ? WHERE id = ? AND status = 'STAGING'",
                (json_text(ids), job_id),
            )

    def append(
        self, turn: Turn, append: Append, deletion: Deletion, ends: Sequence[int], *, now_ms: int, last: bool
    ) -> int | None:
        return append_in_turn(self, turn, append, deletion, ends, now_ms=now_ms, last=last)

    def started(self, job_id: str, positions: Sequence[int]) -> None:
        with self._change() as connection:
            held = sqlite.value(connection, "SELECT positions FROM deletions WHERE id = ?", (job_id,))
            sqlite.rows(
                connection,
                "UPDATE deletions SET status = 'STARTED', positions = ? WHERE id = ?"
                " AND status IN ('STAGING', 'STARTED')",
                (positions_with(held, positions), job_id),
            )

    def part_done(self, job_id: str, partition: int, report: bytes) -> None:
        with self._change() as connection:
            held = sqlite.value(connection, "SELECT parts FROM deletions WHERE id = ?", (job_id,))
            sqlite.rows(
                connection,
                "UPDATE deletions SET parts = ? WHERE id = ? AND status = 'STARTED'",
                (parts_with(held, partition, report), job_id),
            )

    def revoke(self, job_id: str) -> bool:
        with self._change() as connection:
            sqlite.rows(
                connection,
                "UPDATE deletions SET status = 'REVOKED', ids = '[]' WHERE id = ? AND status = 'PENDING'",
                (job_id,),
            )
            return bool(connection.changes())

    def forget_ids(self, job_ids: Sequence[str], report: bytes) -> None:
        with self._change() as connection:
            connection.executemany(
                "UPDATE deletions SET ids = '[]', report = ? WHERE id = ?",
                [(report, job_id) for job_id in job_ids],
            )

    def finish(self, job_ids: Sequence[str], *, now_ms: int, report: bytes) -> None:
        with self._change() as connection:
            connection.executemany(
                "UPDATE deletions SET status = 'SUCCESS', finished_ms = ?, report = ? WHERE id = ?"
                " AND status = 'STARTED'",
                [(now_ms, report, job_id) for job_id in job_ids],
            )

    def add_retrieval(self, retrieval: Retrieval) -> None:
        with self._change() as connection:
            sqlite.rows(
                connection,
                "DELETE FROM retrievals WHERE requested_ms <= ?2 OR id IN (SELECT id FROM retrievals"
                " WHERE project_id = ?1 ORDER BY requested_ms DESC LIMIT -1 OFFSET ?3)",
                (retrieval.project, retrieval.requested_ms - RETRIEVAL_LIFE_MS, RETRIEVALS_KEPT - 1),
            )
            sqlite.rows(
                connection,
                f"INSERT INTO retrievals ({RETRIEVAL}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our columns
                retrieval_row(retrieval),
            )

    def retrieval(self, project: int, job_id: str, *, now_ms: int) -> Retrieval | None:
        found = self._select(
            f"SELECT {RETRIEVAL} FROM retrievals WHERE id = ? AND project_id = ? AND requested_ms > ?",  # noqa: S608
            (job_id, project, now_ms - RETRIEVAL_LIFE_MS),
        )
        return retrieval_of(found[0]) if found else None

    def forget_retrievals(self, project: int, group_key: str, ids: Collection[str]) -> int:
        wanted = frozenset(ids)
        with self._change() as connection:
            held = sqlite.rows(
                connection,
                "SELECT id, ids FROM retrievals WHERE project_id = ? AND group_key = ?",
                (project, group_key),
            )
            gone = [(job_id,) for job_id, text in held if names_one_of(text, wanted)]
            connection.executemany("DELETE FROM retrievals WHERE id = ?", gone)
        return len(gone)

    def close(self) -> None:
        with self._guard:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> apsw.Connection:
        if self._connection is None:
            raise StoreError(f"{self._what} was closed")
        return self._connection

    def _select(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        with self._guard, sqlite.store_errors(self._what):
            return sqlite.rows(self._opened(), sql, bindings)

    @contextmanager
    def _change(self) -> Iterator[apsw.Connection]:
        with self._guard, sqlite.store_errors(self._what):
            connection = self._opened()
            with sqlite.transaction(connection):
                yield connection
