"""Lookup tables in memory: the part of the model store that keeps them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

import msgspec

from mixdown.model.errors import CatalogError
from mixdown.model.lookup import Table, Tables
from mixdown.model.lookup_csv import LookupCsv
from mixdown.store.lookup_tables import (
    LookupTable,
    OpenTables,
    StoredRow,
    check_tables,
    in_sent_order,
    no_table,
    sorted_rows,
)
from mixdown.store.protocols import Catalog


class MemoryLookupTables:
    """`LookupTables` in memory; those of a project that is gone are gone."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._guard = threading.RLock()
        self._held: dict[str, LookupTable] = {}
        self._contents: dict[int, dict[str, StoredRow]] = {0: {}}
        self._replaced: list[tuple[int, int]] = []
        self._open = OpenTables(self._find, self._pairs)

    def listing(self, project: int) -> list[LookupTable]:
        with self._guard:
            if not self._knows(project):
                return []
            found = [table for table in self._held.values() if table.project == project]
            return sorted(found, key=lambda table: table.name)

    def create(self, table: LookupTable) -> LookupTable:
        with self._guard:
            if not self._knows(table.project):
                raise CatalogError(f"there is no project {table.project}")
            own = self.listing(table.project)
            check_tables(len(own))
            if table.name in {other.name for other in own} or table.id in self._held:
                raise CatalogError("this name is taken by another lookup table", hint="Choose another.")
            self._held[table.id] = table
            return table

    def delete(self, project: int, table_id: str) -> None:
        with self._guard:
            self._known(project, table_id)
            del self._held[table_id]

    def replace(self, project: int, table_id: str, source: LookupCsv, *, now_ms: int) -> LookupTable:
        with self._guard:
            known = self._known(project, table_id)
            rows = {row.key: row for row in sorted_rows(source, None)}
            content = max(self._contents) + 1
            self._contents[content] = rows
            made = msgspec.structs.replace(
                known,
                columns=source.columns,
                rows=len(rows),
                size_bytes=source.size_bytes,
                replaced_ms=now_ms,
                content=content,
            )
            self._held[table_id] = made
            self._replaced.append((project, now_ms))
            return made

    def replacements(self, project: int, *, since_ms: int) -> tuple[int, int]:
        with self._guard:
            times = [time_ms for own, time_ms in self._replaced if own == project and time_ms >= since_ms]
            return len(times), min(times, default=0)

    def rows(self, table: LookupTable) -> Iterator[list[str]]:
        with self._guard:
            held = self._contents.get(table.content, {})
        return in_sent_order(((row.place, row.cells) for row in held.values()), None)

    def first_rows(self, table: LookupTable, limit: int) -> list[list[str]]:
        return list(islice(self.rows(table), limit))

    def tables(self, project: int) -> Tables:
        def find(name: str) -> Table | None:
            for table in self.listing(project):
                if table.name == name:
                    return self._open.open(table)
            return None

        return find

    def tidy(self, now_ms: int) -> bool:
        del now_ms
        with self._guard:
            used = {0, *(table.content for table in self._held.values())}
            gone = [content for content in self._contents if content not in used]
            for content in gone:
                del self._contents[content]
            return bool(gone)

    def close(self) -> None:
        """There is nothing to release."""

    def _find(self, content: int, key: str) -> str | None:
        row = self._contents.get(content, {}).get(key)
        return None if row is None else row.cells

    def _pairs(self, content: int) -> list[tuple[str, str]]:
        return [(row.key, row.cells) for row in self._contents.get(content, {}).values()]

    def _known(self, project: int, table_id: str) -> LookupTable:
        table = self._held.get(table_id)
        if table is None or table.project != project or not self._knows(project):
            raise no_table(table_id)
        return table

    def _knows(self, project: int) -> bool:
        return project in {each.id for each in self._catalog.projects()}
