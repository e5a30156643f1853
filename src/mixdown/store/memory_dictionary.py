"""The data dictionary in memory: the part of the model store that keeps schemas."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from mixdown.model.errors import CatalogError
from mixdown.store.dictionary import DictionaryChange, DictionaryEntry, check_schemas
from mixdown.store.protocols import Catalog

_Key = tuple[int, str, str]


class MemoryDictionary:
    """`Dictionary` in memory; the schemas of a project that is gone are gone."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._guard = threading.RLock()
        self._held: dict[_Key, DictionaryEntry] = {}

    def listing(self, project: int, entity_type: str = "") -> list[DictionaryEntry]:
        with self._guard:
            if not self._knows(project):
                return []
            keys = sorted(key for key in self._held if key[0] == project)
            return [self._held[key] for key in keys if not entity_type or key[1] == entity_type]

    def get(self, project: int, entity_type: str, name: str) -> DictionaryEntry | None:
        with self._guard:
            return self._held.get((project, entity_type, name)) if self._knows(project) else None

    def change(
        self, project: int, changes: Sequence[DictionaryChange], *, truncate: bool = False, now_ms: int
    ) -> int:
        with self._guard:
            if not self._knows(project):
                raise CatalogError(f"there is no project {project}")
            own = {key: entry for key, entry in self._held.items() if key[0] == project}
            made: dict[_Key, DictionaryEntry] = {} if truncate else dict(own)
            for entity_type, name, update in changes:
                key = (project, entity_type, name)
                old = made.get(key)
                schema = update(None if old is None else old.schema)
                made[key] = DictionaryEntry(project, entity_type, name, schema, now_ms)
            check_schemas(len(made), sum(len(entry.schema) for entry in made.values()))
            self._held = {key: entry for key, entry in self._held.items() if key[0] != project} | made
            return len(own) if truncate else 0

    def delete(self, project: int, entity_type: str = "", name: str = "") -> int:
        with self._guard:
            gone = [entry for entry in self.listing(project, entity_type) if not name or entry.name == name]
            for entry in gone:
                del self._held[(project, entry.entity_type, entry.name)]
            return len(gone)

    def _knows(self, project: int) -> bool:
        return project in {each.id for each in self._catalog.projects()}
