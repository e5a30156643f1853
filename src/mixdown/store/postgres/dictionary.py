"""The data dictionary in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mixdown.store.dictionary import DictionaryChange, DictionaryEntry, check_schemas
from mixdown.store.postgres.catalog import PostgresCatalog, known_project, one
from mixdown.store.postgres.connection import Cursor

_ENTRY: Final = "SELECT project_id, entity_type, name, schema, changed_ms FROM mixdown.dictionary "
_OF: Final = "project_id = %s AND (%s::text = '' OR entity_type = %s) AND (%s::text = '' OR name = %s)"
_ONE: Final = "project_id = %s AND entity_type = %s AND name = %s"


class PostgresDictionary:
    """`Dictionary` in PostgreSQL, beside the catalog."""

    def __init__(self, catalog: PostgresCatalog) -> None:
        self._catalog = catalog

    def listing(self, project: int, entity_type: str = "") -> list[DictionaryEntry]:
        of = f"WHERE {_OF} ORDER BY entity_type, name"
        rows = self._catalog.select(_ENTRY + of, _asked(project, entity_type, ""))
        return [DictionaryEntry(*row) for row in rows]

    def get(self, project: int, entity_type: str, name: str) -> DictionaryEntry | None:
        rows = self._catalog.select(f"{_ENTRY} WHERE {_ONE}", (project, entity_type, name))
        return DictionaryEntry(*rows[0]) if rows else None

    def change(
        self, project: int, changes: Sequence[DictionaryChange], *, truncate: bool = False, now_ms: int
    ) -> int:
        with self._catalog.change() as cursor:
            known_project(cursor, project)
            deleted = _delete(cursor, project, "", "") if truncate else 0
            for entity_type, name, update in changes:
                old = one(
                    cursor,
                    f"SELECT schema FROM mixdown.dictionary WHERE {_ONE}",
                    (project, entity_type, name),
                )
                schema = update(None if old is None else old[0])
                cursor.execute(
                    "INSERT INTO mixdown.dictionary VALUES (%s, %s, %s, %s, %s)"
                    " ON CONFLICT (project_id, entity_type, name) DO UPDATE SET"
                    " changed_ms = excluded.changed_ms, schema = excluded.schema",
                    (project, entity_type, name, now_ms, schema),
                )
            held = one(
                cursor,
                "SELECT count(*), coalesce(sum(octet_length(schema)), 0) FROM mixdown.dictionary"
                " WHERE project_id = %s",
                (project,),
            )
            assert held is not None
            check_schemas(*held)
        return deleted

    def delete(self, project: int, entity_type: str = "", name: str = "") -> int:
        with self._catalog.change() as cursor:
            return _delete(cursor, project, entity_type, name)


def _delete(cursor: Cursor, project: int, entity_type: str, name: str) -> int:
    of = f"DELETE FROM mixdown.dictionary WHERE {_OF}"
    return cursor.execute(of, _asked(project, entity_type, name)).rowcount


def _asked(project: int, entity_type: str, name: str) -> tuple[Any, ...]:
    return (project, entity_type, entity_type, name, name)
