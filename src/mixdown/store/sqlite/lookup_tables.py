"""Lookup tables in `catalog.db`.

A replacement is written as a new content, some thousands of rows a transaction so that other writers of the
catalog wait for milliseconds, and is named by its table in a transaction of its own: whatever ends the
process, the table holds the old rows or the new ones. What no table names any more goes in pieces (`tidy`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from mixdown.model.errors import CatalogError
from mixdown.model.lookup import Table, Tables
from mixdown.model.lookup_csv import LookupCsv
from mixdown.store.lookup_tables import (
    KEPT_UNUSED_MS,
    LookupTable,
    OpenTables,
    StoredRow,
    cells_of,
    check_tables,
    in_sent_order,
    no_table,
    sorted_rows,
)
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.catalog import SqliteCatalog
from mixdown.store.sqlite.folder import FileLock

_TABLE: Final = "id, project_id, name, columns, row_count, size_bytes, created_ms, replaced_ms, content"
_WRITTEN_BYTES: Final = 1024 * 1024
_WRITTEN_ROWS: Final = 5_000
_DROPPED_ROWS: Final = 2_000
_READ_ROWS: Final = 5_000
_UNUSED: Final = (
    "SELECT number, unused_since_ms FROM lookup_contents"
    " WHERE number NOT IN (SELECT content FROM lookup_tables) ORDER BY number"
)


class SqliteLookupTables:
    """`LookupTables` in `catalog.db`; names change through the catalog's connection, rows through its own."""

    def __init__(self, folder: Path, catalog: SqliteCatalog) -> None:
        self._folder = folder
        self._catalog = catalog
        path = folder / sqlite.CATALOG.file_name
        self._what = str(path)
        self._readers = sqlite.ThreadConnections(path, sqlite.CATALOG)
        self._open = OpenTables(self._find, self._scan)

    def listing(self, project: int) -> list[LookupTable]:
        return [_table(row) for row in self._select("WHERE project_id = ? ORDER BY name", (project,))]

    def create(self, table: LookupTable) -> LookupTable:
        with self._catalog.change() as connection:
            if sqlite.value(connection, "SELECT 1 FROM projects WHERE id = ?", (table.project,)) is None:
                raise CatalogError(f"there is no project {table.project}")
            held = "SELECT count(*) FROM lookup_tables WHERE project_id = ?"
            check_tables(sqlite.value(connection, held, (table.project,)))
            sqlite.rows(
                connection,
                "INSERT INTO lookup_tables VALUES (?, ?, ?, '[]', 0, 0, ?, 0, 0)",
                (table.id, table.project, table.name, table.created_ms),
            )
        return table

    def delete(self, project: int, table_id: str) -> None:
        with self._catalog.change() as connection:
            gone = "DELETE FROM lookup_tables WHERE id = ? AND project_id = ? RETURNING id"
            if sqlite.value(connection, gone, (table_id, project)) is None:
                raise no_table(table_id)

    def replace(self, project: int, table_id: str, source: LookupCsv, *, now_ms: int) -> LookupTable:
        with self._writing():
            self._known(project, table_id)
            content = self._begin()
            try:
                rows = self._write(content, sorted_rows(source, self._folder))
                return self._name(project, table_id, content, source, rows, now_ms)
            except BaseException:
                self._drop(content)
                raise

    def replacements(self, project: int, *, since_ms: int) -> tuple[int, int]:
        with sqlite.store_errors(self._what):
            found: tuple[int, int] = sqlite.value(
                self._readers.get(),
                "SELECT count(*), coalesce(min(time_ms), 0) FROM lookup_replacements"
                " WHERE project_id = ? AND time_ms >= ?",
                (project, since_ms),
            )
        return found

    def rows(self, table: LookupTable) -> Iterator[list[str]]:
        return in_sent_order(((place, cells) for _, place, cells in self._all(table.content)), self._folder)

    def first_rows(self, table: LookupTable, limit: int) -> list[list[str]]:
        rows = self._rows(
            "SELECT cells FROM lookup_rows WHERE content = ? ORDER BY place LIMIT ?", (table.content, limit)
        )
        return [cells_of(cells) for (cells,) in rows]

    def tables(self, project: int) -> Tables:
        def find(name: str) -> Table | None:
            rows = self._select("WHERE project_id = ? AND name = ?", (project, name))
            return self._open.open(_table(rows[0])) if rows else None

        return find

    def tidy(self, now_ms: int) -> bool:
        """Take away some thousand rows of what was unused for an hour; nothing while a table is replaced."""
        unused = self._rows(_UNUSED)
        due = [number for number, since_ms in unused if 0 < since_ms <= now_ms - KEPT_UNUSED_MS]
        if not due and all(since_ms for _, since_ms in unused):
            return False
        with self._writing(wait=False) as mine:
            if not mine:
                return False
            connection = self._readers.get()
            with sqlite.transaction(connection):
                # read again: what was being written a moment ago may be a table's now
                held = sqlite.rows(connection, _UNUSED)
                for number, since_ms in held:
                    if not since_ms:
                        mark = "UPDATE lookup_contents SET unused_since_ms = ? WHERE number = ?"
                        sqlite.rows(connection, mark, (now_ms, number))
            return bool(due) and self._drop_some(due[0])

    def close(self) -> None:
        self._readers.close()

    # --- writing ----------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, *, wait: bool = True) -> Iterator[bool]:
        """One replacement at a time, in all processes; gives whether it is this one's turn."""
        lock = FileLock(self._folder / "lookup.lock")
        try:
            mine = lock.try_acquire()
            if wait and not mine:
                lock.acquire()
                mine = True
            with sqlite.store_errors(self._what):
                yield mine
        finally:
            lock.close()

    def _begin(self) -> int:
        number: int = sqlite.value(
            self._readers.get(), "INSERT INTO lookup_contents (unused_since_ms) VALUES (0) RETURNING number"
        )
        return number

    def _write(self, content: int, rows: Iterator[StoredRow]) -> int:
        """Write the rows of a content; how many there were."""
        connection = self._readers.get()
        count = 0
        while some := _some(rows):
            with sqlite.transaction(connection):
                connection.executemany(
                    "INSERT INTO lookup_rows VALUES (?, ?, ?, ?)",
                    [(content, row.key, row.place, row.cells) for row in some],
                )
            count += len(some)
        return count

    def _name(
        self, project: int, table_id: str, content: int, source: LookupCsv, rows: int, now_ms: int
    ) -> LookupTable:
        """Make the table hold this content."""
        columns = msgspec.json.encode(source.columns).decode()
        with self._catalog.change() as connection:
            row = sqlite.value(
                connection,
                "UPDATE lookup_tables SET columns = ?, row_count = ?, size_bytes = ?, replaced_ms = ?,"  # noqa: S608 - our columns
                f" content = ? WHERE id = ? AND project_id = ? RETURNING {_TABLE}",
                (columns, rows, source.size_bytes, now_ms, content, table_id, project),
            )
            if row is None:  # deleted meanwhile
                raise no_table(table_id)
            sqlite.rows(connection, "INSERT INTO lookup_replacements VALUES (?, ?)", (project, now_ms))
            sqlite.rows(
                connection,
                "DELETE FROM lookup_replacements WHERE project_id = ? AND time_ms < ?",
                (project, now_ms - 2 * 24 * 3600 * 1000),
            )
        return _table(row)

    def _drop(self, content: int) -> None:
        """Take away a content that no table ever named."""
        while self._drop_some(content):
            pass

    def _drop_some(self, content: int) -> bool:
        """Take away some rows of a content, and it itself after the last; whether there were any."""
        connection = self._readers.get()
        with sqlite.transaction(connection):
            rows = sqlite.rows(
                connection,
                "SELECT key FROM lookup_rows WHERE content = ? ORDER BY key LIMIT ?",
                (content, _DROPPED_ROWS),
            )
            if rows:
                last = rows[-1][0]
                gone = "DELETE FROM lookup_rows WHERE content = ? AND key <= ?"
                sqlite.rows(connection, gone, (content, last))
            else:
                sqlite.rows(connection, "DELETE FROM lookup_contents WHERE number = ?", (content,))
        return bool(rows)

    # --- reading ----------------------------------------------------------------------------------

    def _rows(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        with sqlite.store_errors(self._what):
            return sqlite.rows(self._readers.get(), sql, bindings)

    def _select(self, rest: str, bindings: tuple[Any, ...]) -> list[Any]:
        return self._rows(f"SELECT {_TABLE} FROM lookup_tables {rest}", bindings)  # noqa: S608 - our columns

    def _known(self, project: int, table_id: str) -> None:
        if not self._select("WHERE id = ? AND project_id = ?", (table_id, project)):
            raise no_table(table_id)

    def _find(self, content: int, key: str) -> str | None:
        with sqlite.store_errors(self._what):
            found: str | None = sqlite.value(
                self._readers.get(),
                "SELECT cells FROM lookup_rows WHERE content = ? AND key = ?",
                (content, key),
            )
        return found

    def _scan(self, content: int) -> Iterable[tuple[str, str]]:
        return ((key, cells) for key, _, cells in self._all(content))

    def _all(self, content: int) -> Iterator[tuple[str, int, str]]:
        """(key, place, cells) by key, some at a time: no snapshot is held in between."""
        last = ""
        while True:
            rows = self._rows(
                "SELECT key, place, cells FROM lookup_rows WHERE content = ? AND key > ?"
                " ORDER BY key LIMIT ?",
                (content, last, _READ_ROWS),
            )
            yield from rows
            if len(rows) < _READ_ROWS:
                return
            last = rows[-1][0]


def _some(rows: Iterator[StoredRow]) -> list[StoredRow]:
    """The next rows, as many as one transaction takes."""
    some: list[StoredRow] = []
    size = 0
    for row in islice(rows, _WRITTEN_ROWS):
        some.append(row)
        size += len(row.cells)
        if size > _WRITTEN_BYTES:
            break
    return some


def _table(row: tuple[Any, ...]) -> LookupTable:
    table_id, project, name, columns, rows, size_bytes, created_ms, replaced_ms, content = row
    names = tuple(msgspec.json.decode(columns, type=list[str]))
    return LookupTable(table_id, project, name, names, rows, size_bytes, created_ms, replaced_ms, content)
