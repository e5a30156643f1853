"""Jobs of data protection in PostgreSQL: each change is on disk when it returns.

A change of several rows, or one that counts rows first, waits for its turn: so no two of them can stand in
each other's way, on whichever nodes they run. They change nothing that workers keep of the catalog.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from mixdown.store.postgres.catalog import one
from mixdown.store.postgres.connection import Cursor, Database
from mixdown.store.postgres.log import PostgresTurn
from mixdown.store.privacy import (
    FINISHED_KEPT,
    RETRIEVAL_LIFE_MS,
    RETRIEVALS_KEPT,
    Deletion,
    Erasures,
    Retrieval,
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

_UNFINISHED: Final = "status IN ('PENDING', 'STAGING', 'STARTED')"


class PostgresPrivacyJobs:
    """`PrivacyJobs` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_deletion(self, deletion: Deletion) -> None:
        with self._turn() as cursor:
            held = one(
                cursor,
                f"SELECT count(*) FROM mixdown.deletions WHERE project_id = %s AND {_UNFINISHED}",
                (deletion.project,),
            )
            check_unfinished(0 if held is None else held[0])
            cursor.execute(
                "DELETE FROM mixdown.deletions WHERE id IN (SELECT id FROM mixdown.deletions"
                f" WHERE project_id = %s AND NOT {_UNFINISHED} ORDER BY requested_ms DESC OFFSET %s)",
                (deletion.project, FINISHED_KEPT - 1),
            )
            cursor.execute(
                f"INSERT INTO mixdown.deletions ({DELETION})"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                deletion_row(deletion),
            )

    def deletion(self, project: int, job_id: str) -> Deletion | None:
        found = self._database.rows(
            f"SELECT {DELETION} FROM mixdown.deletions WHERE id = %s AND project_id = %s",
            (job_id, project),
        )
        return deletion_of(found[0]) if found else None

    def unfinished(self) -> list[Deletion]:
        found = self._database.rows(
            f"SELECT {DELETION} FROM mixdown.deletions WHERE {_UNFINISHED} ORDER BY requested_ms, id"
        )
        return [deletion_of(row) for row in found]

    def erasures(self, project: int) -> Erasures:
        found = self._database.row(
            "SELECT count(*) FILTER (WHERE status IN ('STAGING', 'STARTED')),"
            " coalesce(max(finished_ms), 0) FROM mixdown.deletions WHERE project_id = %s",
            (project,),
        )
        assert found is not None
        return Erasures(*found)

    def claim(self, job_id: str, *, now_ms: int, stale_ms: int) -> bool:
        claimed = self._database.run(
            "UPDATE mixdown.deletions SET status = 'STAGING', claimed_ms = %s WHERE id = %s"
            " AND (status = 'PENDING' OR (status = 'STAGING' AND claimed_ms < %s))",
            (now_ms, job_id, stale_ms),
        )
        return bool(claimed)

    def widen(self, job_id: str, ids: Sequence[str]) -> None:
        self._database.run(
            "UPDATE mixdown.deletions SET ids = %s WHERE id = %s AND status = 'STAGING'",
            (json_text(ids), job_id),
        )

    def append(
        self, turn: Turn, append: Append, deletion: Deletion, ends: Sequence[int], *, now_ms: int, last: bool
    ) -> int | None:
        assert isinstance(turn, PostgresTurn), "a turn at another store's log"
        with self._database.transaction() as cursor:
            # held until the append is there: who would claim the job waits, and finds it started
            held = one(
                cursor,
                "SELECT positions FROM mixdown.deletions"
                " WHERE id = %s AND status = 'STAGING' AND claimed_ms = %s FOR UPDATE",
                (deletion.id, now_ms),
            )
            if held is None:
                return None
            end = turn.append_in(cursor, [append], now_ms).end
            if last:
                cursor.execute(
                    "UPDATE mixdown.deletions SET status = 'STARTED', positions = %s WHERE id = %s",
                    (positions_with(held[0], (*ends, end)), deletion.id),
                )
        return end

    def started(self, job_id: str, positions: Sequence[int]) -> None:
        with self._turn() as cursor:
            held = one(cursor, "SELECT positions FROM mixdown.deletions WHERE id = %s", (job_id,))
            cursor.execute(
                "UPDATE mixdown.deletions SET status = 'STARTED', positions = %s WHERE id = %s"
                " AND status IN ('STAGING', 'STARTED')",
                (positions_with(held[0] if held else None, positions), job_id),
            )

    def part_done(self, job_id: str, partition: int, report: bytes) -> None:
        with self._turn() as cursor:
            held = one(cursor, "SELECT parts FROM mixdown.deletions WHERE id = %s", (job_id,))
            cursor.execute(
                "UPDATE mixdown.deletions SET parts = %s WHERE id = %s AND status = 'STARTED'",
                (parts_with(held[0] if held else None, partition, report), job_id),
            )

    def revoke(self, job_id: str) -> bool:
        revoked = self._database.run(
            "UPDATE mixdown.deletions SET status = 'REVOKED', ids = '[]'"
            " WHERE id = %s AND status = 'PENDING'",
            (job_id,),
        )
        return bool(revoked)

    def forget_ids(self, job_ids: Sequence[str], report: bytes) -> None:
        with self._turn() as cursor:
            cursor.execute(
                "UPDATE mixdown.deletions SET ids = '[]', report = %s WHERE id = ANY(%s)",
                (report, list(job_ids)),
            )

    def finish(self, job_ids: Sequence[str], *, now_ms: int, report: bytes) -> None:
        with self._turn() as cursor:
            cursor.execute(
                "UPDATE mixdown.deletions SET status = 'SUCCESS', finished_ms = %s, report = %s"
                " WHERE id = ANY(%s) AND status = 'STARTED'",
                (now_ms, report, list(job_ids)),
            )

    def add_retrieval(self, retrieval: Retrieval) -> None:
        with self._turn() as cursor:
            cursor.execute(
                "DELETE FROM mixdown.retrievals WHERE requested_ms <= %s"
                " OR id IN (SELECT id FROM mixdown.retrievals WHERE project_id = %s"
                " ORDER BY requested_ms DESC OFFSET %s)",
                (retrieval.requested_ms - RETRIEVAL_LIFE_MS, retrieval.project, RETRIEVALS_KEPT - 1),
            )
            cursor.execute(
                f"INSERT INTO mixdown.retrievals ({RETRIEVAL}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                retrieval_row(retrieval),
            )

    def retrieval(self, project: int, job_id: str, *, now_ms: int) -> Retrieval | None:
        found = self._database.rows(
            f"SELECT {RETRIEVAL} FROM mixdown.retrievals"
            " WHERE id = %s AND project_id = %s AND requested_ms > %s",
            (job_id, project, now_ms - RETRIEVAL_LIFE_MS),
        )
        return retrieval_of(found[0]) if found else None

    def forget_retrievals(self, project: int, group_key: str, ids: Collection[str]) -> int:
        wanted = frozenset(ids)
        with self._turn() as cursor:
            held = cursor.execute(
                "SELECT id, ids FROM mixdown.retrievals WHERE project_id = %s AND group_key = %s",
                (project, group_key),
            ).fetchall()
            gone = [job_id for job_id, text in held if names_one_of(text, wanted)]
            if gone:
                cursor.execute("DELETE FROM mixdown.retrievals WHERE id = ANY(%s)", (gone,))
        return len(gone)

    def close(self) -> None:
        """The connections are the store's."""

    @contextmanager
    def _turn(self) -> Iterator[Cursor]:
        with self._database.transaction() as cursor:
            cursor.execute("SELECT one FROM mixdown.privacy_turn FOR UPDATE")
            yield cursor
