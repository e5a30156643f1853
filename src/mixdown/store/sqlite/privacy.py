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
import orjson

from mixdown.model.errors import CatalogError, StoreError
from mixdown.store.privacy import (
    FINISHED_KEPT,
    RETRIEVAL_LIFE_MS,
    RETRIEVALS_KEPT,
    UNFINISHED_LIMIT,
    Deletion,
    Retrieval,
)
from mixdown.store.sqlite import connection as sqlite

_DELETION: Final = (
    "id, project_id, group_key, ids, count, status, requested_by, compliance_type, requested_ms, due_ms,"
    " claimed_ms, position, finished_ms, report"
)
_RETRIEVAL: Final = (
    "id, project_id, group_key, ids, requested_by, compliance_type, disclosure_type, requested_ms"
)
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
            if held >= UNFINISHED_LIMIT:
                raise CatalogError(
                    f"this project has {held} deletions that are not finished",
                    hint="Name more ids in one, and wait for some of them.",
                )
            sqlite.rows(
                connection,
                "DELETE FROM deletions WHERE id IN (SELECT id FROM deletions WHERE project_id = ?"  # noqa: S608
                f" AND NOT {_UNFINISHED} ORDER BY requested_ms DESC LIMIT -1 OFFSET ?)",
                (deletion.project, FINISHED_KEPT - 1),
            )
            sqlite.rows(
                connection,
                f"INSERT INTO deletions ({_DELETION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    deletion.id,
                    deletion.project,
                    deletion.group_key,
                    _ids_text(deletion.ids),
                    deletion.count,
                    deletion.status,
                    deletion.requested_by,
                    deletion.compliance_type,
                    deletion.requested_ms,
                    deletion.due_ms,
                    deletion.claimed_ms,
                    deletion.position,
                    deletion.finished_ms,
                    deletion.report,
                ),
            )

    def deletion(self, project: int, job_id: str) -> Deletion | None:
        found = self._select(
            f"SELECT {_DELETION} FROM deletions WHERE id = ? AND project_id = ?",  # noqa: S608 - our columns
            (job_id, project),
        )
        return _deletion(found[0]) if found else None

    def unfinished(self) -> list[Deletion]:
        found = self._select(
            f"SELECT {_DELETION} FROM deletions WHERE {_UNFINISHED} ORDER BY requested_ms, id"  # noqa: S608
        )
        return [_deletion(row) for row in found]

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
                (_ids_text(ids), job_id),
            )

    def started(self, job_id: str, position: int) -> None:
        with self._change() as connection:
            sqlite.rows(
                connection,
                "UPDATE deletions SET status = 'STARTED', position = max(position, ?) WHERE id = ?"
                " AND status IN ('STAGING', 'STARTED')",
                (position, job_id),
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
                f"INSERT INTO retrievals ({_RETRIEVAL}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our columns
                (
                    retrieval.id,
                    retrieval.project,
                    retrieval.group_key,
                    _ids_text(retrieval.ids),
                    retrieval.requested_by,
                    retrieval.compliance_type,
                    retrieval.disclosure_type,
                    retrieval.requested_ms,
                ),
            )

    def retrieval(self, project: int, job_id: str, *, now_ms: int) -> Retrieval | None:
        found = self._select(
            f"SELECT {_RETRIEVAL} FROM retrievals WHERE id = ? AND project_id = ? AND requested_ms > ?",  # noqa: S608
            (job_id, project, now_ms - RETRIEVAL_LIFE_MS),
        )
        return _retrieval(found[0]) if found else None

    def forget_retrievals(self, project: int, group_key: str, ids: Collection[str]) -> int:
        wanted = frozenset(ids)
        with self._change() as connection:
            held = sqlite.rows(
                connection,
                "SELECT id, ids FROM retrievals WHERE project_id = ? AND group_key = ?",
                (project, group_key),
            )
            gone = [(job_id,) for job_id, text in held if not wanted.isdisjoint(orjson.loads(text))]
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


def _ids_text(ids: Sequence[str]) -> str:
    return orjson.dumps(list(ids)).decode()


def _deletion(row: tuple[Any, ...]) -> Deletion:
    job_id, project, group_key, ids, *rest = row
    return Deletion(job_id, project, group_key, tuple(orjson.loads(ids)), *rest)


def _retrieval(row: tuple[Any, ...]) -> Retrieval:
    job_id, project, group_key, ids, *rest = row
    return Retrieval(job_id, project, group_key, tuple(orjson.loads(ids)), *rest)
