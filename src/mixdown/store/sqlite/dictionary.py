"""The data dictionary in `catalog.db`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw

from mixdown.model.errors import CatalogError
from mixdown.store.dictionary import DictionaryChange, DictionaryEntry, check_schemas
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.catalog import SqliteCatalog

_ENTRY: Final = "SELECT project_id, entity_type, name, schema, changed_ms FROM dictionary "
_OF: Final = "project_id = ? AND (? = '' OR entity_type = ?) AND (? = '' OR name = ?)"
_ONE: Final = "project_id = ? AND entity_type = ? AND name = ?"


class SqliteDictionary:
    """`Dictionary` in `catalog.db`, through the catalog's connection."""

    def __init__(self, catalog: SqliteCatalog) -> None:
        self._catalog = catalog

    def listing(self, project: int, entity_type: str = "") -> list[DictionaryEntry]:
        of = f"WHERE {_OF} ORDER BY entity_type, name"
        return [_entry(row) for row in self._catalog.select(_ENTRY + of, _asked(project, entity_type, ""))]

    def get(self, project: int, entity_type: str, name: str) -> DictionaryEntry | None:
        rows = self._catalog.select(f"{_ENTRY} WHERE {_ONE}", (project, entity_type, name))
        return _entry(rows[0]) if rows else None

    def change(
        self, project: int, changes: Sequence[DictionaryChange], *, truncate: bool = False, now_ms: int
    ) -> int:
        with self._catalog.change() as connection:
            if sqlite.value(connection, "SELECT 1 FROM projects WHERE id = ?", (project,)) is None:
                raise CatalogError(f"there is no project {project}")
            deleted = _delete(connection, project, "", "") if truncate else 0
            for entity_type, name, update in changes:
                old = sqlite.value(
                    connection,
                    f"SELECT schema FROM dictionary WHERE {_ONE}",  # noqa: S608 - a constant
                    (project, entity_type, name),
                )
                schema = update(None if old is None else old.encode())
                sqlite.rows(
                    connection,
                    "INSERT INTO dictionary VALUES (?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (project_id, entity_type, name) DO UPDATE SET"
                    " changed_ms = excluded.changed_ms, size_bytes = excluded.size_bytes,"
                    " schema = excluded.schema",
                    (project, entity_type, name, now_ms, len(schema), schema.decode()),
                )
            held, size_bytes = sqlite.value(
                connection,
                "SELECT count(*), coalesce(sum(size_bytes), 0) FROM dictionary WHERE project_id = ?",
                (project,),
            )
            check_schemas(held, size_bytes)
        return deleted

    def delete(self, project: int, entity_type: str = "", name: str = "") -> int:
        with self._catalog.change() as connection:
            return _delete(connection, project, entity_type, name)


def _delete(connection: apsw.Connection, project: int, entity_type: str, name: str) -> int:
    of = f"DELETE FROM dictionary WHERE {_OF}"  # noqa: S608 - a constant
    sqlite.rows(connection, of, _asked(project, entity_type, name))
    return int(connection.changes())


def _asked(project: int, entity_type: str, name: str) -> tuple[Any, ...]:
    return (project, entity_type, entity_type, name, name)


def _entry(row: tuple[Any, ...]) -> DictionaryEntry:
    project, entity_type, name, schema, changed_ms = row
    return DictionaryEntry(project, entity_type, name, schema.encode(), changed_ms)
