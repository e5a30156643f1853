"""Lookup tables in PostgreSQL, so that every node joins the same rows.

A replacement writes its rows as a new content and names it, in one transaction: whatever ends the process,
the table holds the old rows or the new ones. Other changes of the catalog wait for its last moment alone.
What no table names any more goes in pieces (`tidy`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any, Final

import msgspec

from mixdown.model.lookup import Table, Tables
from mixdown.model.lookup_csv import LookupCsv
from mixdown.store.lookup_tables import (
    KEPT_UNUSED_MS,
    LookupTable,
    OpenTables,
    StoredRow,
    cells_of,
    check_tables,
    no_table,
    sorted_rows,
)
from mixdown.store.postgres.catalog import PostgresCatalog, known_project, next_number, one, raise_version
from mixdown.store.postgres.connection import Cursor, Database
from mixdown.store.postgres.lookup_copies import Copies

_TABLE: Final = "id, project_id, name, columns, row_count, size_bytes, created_ms, replaced_ms, content"
_DROPPED_ROWS: Final = 5_000
_READ_ROWS: Final = 5_000
_TWO_DAYS_MS: Final = 2 * 24 * 3600 * 1000


class PostgresLookupTables:
    """`LookupTables` in PostgreSQL, beside the catalog."""

    def __init__(self, database: Database, catalog: PostgresCatalog) -> None:
        self._database = database
        self._catalog = catalog
        self._replacing = threading.Lock()
        self._copies = Copies(self._find_there, self._scan)
        self._open = OpenTables(self._copies.find, self._scan)

    def listing(self, project: int) -> list[LookupTable]:
        return [_table(row) for row in self._select("WHERE project_id = %s ORDER BY name", (project,))]

    def create(self, table: LookupTable) -> LookupTable:
        with self._catalog.change() as cursor:
            known_project(cursor, table.project)
            held = "SELECT count(*) FROM mixdown.lookup_tables WHERE project_id = %s"
            row = one(cursor, held, (table.project,))
            check_tables(0 if row is None else row[0])
            cursor.execute(
                f"INSERT INTO mixdown.lookup_tables ({_TABLE}) VALUES (%s, %s, %s, '[]', 0, 0, %s, 0, 0)",
                (table.id, table.project, table.name, table.created_ms),
            )
        return table

    def delete(self, project: int, table_id: str) -> None:
        with self._catalog.change() as cursor:
            gone = "DELETE FROM mixdown.lookup_tables WHERE id = %s AND project_id = %s"
            if not cursor.execute(gone, (table_id, project)).rowcount:
                raise no_table(table_id)

    def replace(self, project: int, table_id: str, source: LookupCsv, *, now_ms: int) -> LookupTable:
        with self._replacing:
            if not self._select("WHERE id = %s AND project_id = %s", (table_id, project)):
                raise no_table(table_id)
            with closing(sorted_rows(source, None)) as rows:
                # all that a client sends is read before a connection is taken
                first = next(rows, None)
                return self._write(
                    project, table_id, source, rows if first is None else chain((first,), rows), now_ms
                )

    def _write(
        self, project: int, table_id: str, source: LookupCsv, rows: Iterable[StoredRow], now_ms: int
    ) -> LookupTable:
        """Write the rows of a new content, and make the table hold it."""
        with self._database.transaction() as cursor:
            content = next_number(cursor, "content")  # of a row that others wait for: let go of it at once
        with self._database.transaction() as cursor:
            count = 0
            cursor.execute("INSERT INTO mixdown.lookup_contents VALUES (%s, 0)", (content,))
            with cursor.copy(
                "COPY mixdown.lookup_rows (content, place, key, cells) FROM STDIN (FORMAT binary)"
            ) as copy:
                copy.set_types(("int8", "int4", "text", "text"))
                for row in rows:
                    copy.write_row((content, row.place, row.key, row.cells))
                    count += 1
            raise_version(cursor)
            found = one(
                cursor,
                "UPDATE mixdown.lookup_tables SET columns = %s, row_count = %s, size_bytes = %s,"
                f" replaced_ms = %s, content = %s WHERE id = %s AND project_id = %s RETURNING {_TABLE}",
                (
                    msgspec.json.encode(source.columns).decode(),
                    count,
                    source.size_bytes,
                    now_ms,
                    content,
                    table_id,
                    project,
                ),
            )
            if found is None:  # deleted meanwhile
                raise no_table(table_id)
            _note_replacement(cursor, project, now_ms)
        return _table(found)

    def replacements(self, project: int, *, since_ms: int) -> tuple[int, int]:
        found = self._database.row(
            "SELECT count(*), coalesce(min(time_ms), 0) FROM mixdown.lookup_replacements"
            " WHERE project_id = %s AND time_ms >= %s",
            (project, since_ms),
        )
        assert found is not None
        count, first_ms = found
        return count, first_ms

    def rows(self, table: LookupTable) -> Iterator[list[str]]:
        for _, cells in self._scan(table.content):
            yield cells_of(cells)

    def first_rows(self, table: LookupTable, limit: int) -> list[list[str]]:
        rows = self._database.rows(
            "SELECT cells FROM mixdown.lookup_rows WHERE content = %s ORDER BY place LIMIT %s",
            (table.content, limit),
        )
        return [cells_of(cells) for (cells,) in rows]

    def tables(self, project: int) -> Tables:
        def find(name: str) -> Table | None:
            rows = self._select("WHERE project_id = %s AND name = %s", (project, name))
            return self._open.open(_table(rows[0])) if rows else None

        return find

    def tidy(self, now_ms: int) -> bool:
        """Take away some thousand rows of what was unused for an hour; whether there was any."""
        # a content that is being written is not seen before its table names it
        self._database.run(
            "UPDATE mixdown.lookup_contents SET unused_since_ms = %s WHERE number IN"
            " (SELECT number FROM mixdown.lookup_contents WHERE unused_since_ms = 0"
            " AND number NOT IN (SELECT content FROM mixdown.lookup_tables) FOR UPDATE SKIP LOCKED)",
            (now_ms,),
        )
        with self._database.transaction() as cursor:
            due = one(
                cursor,
                "SELECT number FROM mixdown.lookup_contents WHERE unused_since_ms BETWEEN 1 AND %s"
                " ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED",
                (now_ms - KEPT_UNUSED_MS,),
            )
            if due is None:
                return False
            dropped = cursor.execute(
                "DELETE FROM mixdown.lookup_rows WHERE content = %s AND place IN"
                " (SELECT place FROM mixdown.lookup_rows WHERE content = %s ORDER BY place LIMIT %s)",
                (*due, *due, _DROPPED_ROWS),
            ).rowcount
            if not dropped:
                cursor.execute("DELETE FROM mixdown.lookup_contents WHERE number = %s", due)
        return True

    def close(self) -> None:
        """Release the copies; the connections are the store's."""
        self._copies.close()

    def _select(self, rest: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._database.rows(f"SELECT {_TABLE} FROM mixdown.lookup_tables {rest}", parameters)

    def _find_there(self, content: int, key: str) -> str | None:
        found: str | None = self._database.value(
            "SELECT cells FROM mixdown.lookup_rows WHERE content = %s"
            " AND hashtextextended(key, 0) = hashtextextended(%s, 0) AND key = %s",
            (content, key, key),
        )
        return found

    def _scan(self, content: int) -> Iterator[tuple[str, str]]:
        """(key, cells) in the order in which they were sent, some at a time: it holds no snapshot between."""
        last = -1
        while True:
            rows = self._database.rows(
                "SELECT place, key, cells FROM mixdown.lookup_rows WHERE content = %s AND place > %s"
                " ORDER BY place LIMIT %s",
                (content, last, _READ_ROWS),
            )
            for _, key, cells in rows:
                yield key, cells
            if len(rows) < _READ_ROWS:
                return
            last = rows[-1][0]


def _note_replacement(cursor: Cursor, project: int, now_ms: int) -> None:
    cursor.execute("INSERT INTO mixdown.lookup_replacements VALUES (%s, %s)", (project, now_ms))
    cursor.execute(
        "DELETE FROM mixdown.lookup_replacements WHERE project_id = %s AND time_ms < %s",
        (project, now_ms - _TWO_DAYS_MS),
    )


def _table(row: tuple[Any, ...]) -> LookupTable:
    table_id, project, name, columns, rows, size_bytes, created_ms, replaced_ms, content = row
    names = tuple(msgspec.json.decode(columns, type=list[str]))
    return LookupTable(table_id, project, name, names, rows, size_bytes, created_ms, replaced_ms, content)
