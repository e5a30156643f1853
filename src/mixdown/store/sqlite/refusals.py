"""Refused records in `log.db`: kept in the transaction of the chunk they arrived with, within bounds.

The functions on a connection run inside the log's transaction; `SqliteRefusals` is what other rooms
see. What goes over a bound goes oldest first, in the transaction that went over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import apsw
import orjson

from mixdown.store.bounds import folded, newest_within, refusal_bounds, refusal_bytes, storable
from mixdown.store.protocols import (
    ALL_REFUSALS,
    RefusalCount,
    RefusalFilter,
    RefusalHead,
    RefusedRecord,
)
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.turns import LogFile

_PAGE_ROWS: Final = 1000
_NO_ID_BEYOND: Final = 2**63 - 1
_SELECT: Final = (
    "SELECT project, endpoint, record_index, field, message, record, whole, sdk, request_key, id, time_ms"
    " FROM refusals "
)


def insert_refusals(connection: apsw.Connection, refusals: Sequence[RefusedRecord], time_ms: int) -> None:
    """Keep refusals, in order, inside the caller's transaction; those kept before are left out."""
    if not refusals:
        return
    last = sqlite.value(connection, "SELECT coalesce(max(id), 0) FROM refusals")
    connection.executemany(
        "INSERT OR IGNORE INTO refusals (project, endpoint, record_index, field, message, record, whole, sdk,"
        " request_key, time_ms, size_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [_row(storable(refusal), time_ms) for refusal in newest_within(refusals)],
    )
    added = sqlite.rows(
        connection,
        "SELECT project, count(*), sum(size_bytes) FROM refusals WHERE id > ? GROUP BY project",
        (last,),
    )
    for project, records, size in added:
        sqlite.rows(
            connection,
            "INSERT INTO refusal_counts VALUES (?, ?, ?)"
            " ON CONFLICT (project) DO UPDATE SET"
            " records = records + excluded.records, size_bytes = size_bytes + excluded.size_bytes",
            (project, records, size),
        )
        _evict(connection, project)


def _row(refusal: RefusedRecord, time_ms: int) -> tuple[Any, ...]:
    return (
        refusal.project,
        refusal.endpoint,
        refusal.index,
        refusal.field,
        refusal.message,
        refusal.record,
        int(refusal.whole),
        refusal.sdk,
        refusal.request_key,
        time_ms,
        refusal_bytes(refusal),
    )


def _evict(connection: apsw.Connection, project: int) -> None:
    """Drop a project's oldest refusals until it is within its bounds."""
    records_bound, bytes_bound = refusal_bounds(project)
    records, size = sqlite.value(
        connection, "SELECT records, size_bytes FROM refusal_counts WHERE project = ?", (project,)
    )
    dropped_to = 0
    while records > records_bound or size > bytes_bound:
        page = sqlite.rows(
            connection,
            "SELECT id, size_bytes FROM refusals WHERE project = ? AND id > ? ORDER BY id LIMIT ?",
            (project, dropped_to, _PAGE_ROWS),
        )
        assert page, "the counts of refusals tell of more than there are"
        for refusal_id, size_bytes in page:
            if records <= records_bound and size <= bytes_bound:
                break
            dropped_to = refusal_id
            records -= 1
            size -= size_bytes
    if dropped_to:
        sqlite.rows(connection, "DELETE FROM refusals WHERE project = ? AND id <= ?", (project, dropped_to))
        sqlite.rows(
            connection,
            "UPDATE refusal_counts SET records = ?, size_bytes = ? WHERE project = ?",
            (records, size, project),
        )


def _wanted(wanted: RefusalFilter) -> Iterator[tuple[str, list[Any]]]:
    """The conditions of a filter, those that look at the record itself last."""
    if wanted.endpoint:
        yield "endpoint = ?", [wanted.endpoint]
    if wanted.field:
        yield "field = ?", [wanted.field]
    if wanted.messages is not None:
        yield "message IN (SELECT value FROM json_each(?))", [orjson.dumps(wanted.messages).decode()]
    if wanted.since_ms:
        yield "time_ms >= ?", [wanted.since_ms]
    if wanted.until_ms:
        yield "time_ms < ?", [wanted.until_ms]
    if wanted.text:
        yield (
            "(instr(lower(message), ?) OR instr(lower(field), ?) OR instr(lower(record), ?))",
            [folded(wanted.text)] * 3,
        )


class SqliteRefusals:
    """`Refusals` in `log.db`."""

    def __init__(self, file: LogFile) -> None:
        self._file = file

    def listing(
        self,
        projects: Sequence[int] | None,
        *,
        before_id: int | None = None,
        limit: int = 100,
        wanted: RefusalFilter = ALL_REFUSALS,
    ) -> list[RefusedRecord]:
        conditions = ["id < ?"]
        bindings: list[Any] = [_NO_ID_BEYOND if before_id is None else before_id]
        if projects is not None:
            conditions.insert(0, "project IN (SELECT value FROM json_each(?))")
            bindings.insert(0, orjson.dumps(list(projects)).decode())
        for condition, given in _wanted(wanted):
            conditions.append(condition)
            bindings += given
        where = f"WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"
        return self._select(where, (*bindings, limit))

    def by_ids(self, ids: Sequence[int]) -> list[RefusedRecord]:
        return self._select(
            "WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id", (orjson.dumps(list(ids)).decode(),)
        )

    def newest_id(self) -> int:
        with sqlite.store_errors(self._file.what):
            found = sqlite.value(
                self._file.reader(), "SELECT seq FROM sqlite_sequence WHERE name = 'refusals'"
            )
            return 0 if found is None else int(found)

    def heads(self, after_id: int, *, limit: int) -> list[RefusalHead]:
        with sqlite.store_errors(self._file.what):
            return sqlite.rows(
                self._file.reader(),
                "SELECT id, project, time_ms FROM refusals WHERE id > ? ORDER BY id LIMIT ?",
                (after_id, limit),
            )

    def remove(self, ids: Sequence[int]) -> int:
        wanted = orjson.dumps(list(ids)).decode()
        with self._file.turn() as connection, self._file.transaction(connection):
            gone = sqlite.rows(
                connection,
                "SELECT project, count(*), sum(size_bytes) FROM refusals"
                " WHERE id IN (SELECT value FROM json_each(?)) GROUP BY project",
                (wanted,),
            )
            sqlite.rows(
                connection, "DELETE FROM refusals WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
            )
            for project, records, size in gone:
                sqlite.rows(
                    connection,
                    "UPDATE refusal_counts SET records = records - ?, size_bytes = size_bytes - ?"
                    " WHERE project = ?",
                    (records, size, project),
                )
        return sum(records for _, records, _ in gone)

    def counts(self) -> Mapping[int, tuple[int, int]]:
        with sqlite.store_errors(self._file.what):
            found = sqlite.rows(self._file.reader(), "SELECT * FROM refusal_counts WHERE records > 0")
        return {project: (records, size) for project, records, size in found}

    def reasons(self, projects: Sequence[int]) -> list[RefusalCount]:
        with sqlite.store_errors(self._file.what):
            found = sqlite.rows(
                self._file.reader(),
                "SELECT message, endpoint, count(*), max(id) FROM refusals"
                " WHERE project IN (SELECT value FROM json_each(?)) GROUP BY message, endpoint",
                (orjson.dumps(list(projects)).decode(),),
            )
        return [RefusalCount(*row) for row in found]

    def add(self, refusals: Sequence[RefusedRecord], now_ms: int) -> None:
        with self._file.turn() as connection, self._file.transaction(connection):
            newest = sqlite.value(connection, "SELECT time_ms FROM head")
            insert_refusals(connection, refusals, max(now_ms, newest))

    def _select(self, where: str, bindings: tuple[Any, ...]) -> list[RefusedRecord]:
        with sqlite.store_errors(self._file.what):
            found = sqlite.rows(self._file.reader(), _SELECT + where, bindings)
        return [
            RefusedRecord(
                project, endpoint, index, field, message, record, bool(whole), sdk, key, number, time_ms
            )
            for project, endpoint, index, field, message, record, whole, sdk, key, number, time_ms in found
        ]
