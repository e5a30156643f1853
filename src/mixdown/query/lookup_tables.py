"""Lookup tables as people see them: new ones, checked; one by name or id; and the CSV of one.

What enters: a store, a project, names. What leaves: tables, JSON, or CSV in pieces. What is in a table is
decided by `model.lookup_csv`. Everything here blocks and belongs in a thread.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Final

from mixdown.model.errors import CatalogError, QueryError
from mixdown.model.lookup_csv import csv_lines
from mixdown.model.times import iso_seconds
from mixdown.model.values import clean_text
from mixdown.store.lookup_tables import LookupTable
from mixdown.store.protocols import Store

NAME_LIMIT_CHARS: Final = 255
_PIECE_CHARS: Final = 64 * 1024


def new_table(project: int, name: str, *, now_ms: int) -> LookupTable:
    """An empty table to be made. Raises `QueryError` (400) where the name cannot be one."""
    name = clean_text(name).strip()
    if not name or len(name) > NAME_LIMIT_CHARS or not name.isprintable():
        raise QueryError(f"name, must be 1 to {NAME_LIMIT_CHARS} printable characters", status=400)
    return LookupTable(str(uuid.uuid4()), project, name, created_ms=now_ms)


def find_table(store: Store, project: int, ref: str) -> LookupTable:
    """The project's table with this id or this name. Raises `CatalogError`."""
    tables = store.lookup_tables.listing(project)
    for key in ("id", "name"):
        for table in tables:
            if getattr(table, key) == ref:
                return table
    raise CatalogError(
        f"there is no lookup table {ref!r} in this project", hint="`mixdown lookup-table list` shows all."
    )


def table_view(table: LookupTable) -> dict[str, Any]:
    """A table as Mixdown's own API and its command line show it."""
    return {
        "id": table.id,
        "project_id": table.project,
        "name": table.name,
        "key": table.columns[0] if table.columns else None,
        "columns": list(table.columns),
        "rows": table.rows,
        "size_bytes": table.size_bytes,
        "created": iso_seconds(table.created_ms),
        "replaced": iso_seconds(table.replaced_ms) if table.replaced_ms else None,
    }


def csv_of(store: Store, table: LookupTable, *, limit: int = 0) -> Iterator[bytes]:
    """A table as CSV, in the order in which its rows were sent; nothing for one that was never filled.

    With a `limit` its first rows alone.
    """
    if not table.columns:
        return
    tables = store.lookup_tables
    rows = tables.first_rows(table, limit) if limit else tables.rows(table)
    held: list[str] = []
    chars = 0
    for line in csv_lines(table.columns, rows):
        held.append(line)
        chars += len(line)
        if chars >= _PIECE_CHARS:
            yield "".join(held).encode()
            held, chars = [], 0
    yield "".join(held).encode()
