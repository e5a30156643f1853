"""Cohorts in memory: the part of the model store that keeps saved filters."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from mixdown.model.errors import CatalogError
from mixdown.store import bounds
from mixdown.store.catalog_errors import taken
from mixdown.store.protocols import Catalog, Cohort


class MemoryCohorts:
    """`Cohorts` in memory; those of a project that is gone are gone."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._guard = threading.RLock()
        self._next_id = 1
        self._held: dict[int, Cohort] = {}
        self._ids: dict[int, frozenset[str]] = {}

    def listing(self, project: int) -> list[Cohort]:
        with self._guard:
            if not self._knows(project):
                return []
            return [cohort for cohort in self._held.values() if cohort.project == project]

    def get(self, project: int, cohort_id: int) -> Cohort | None:
        return next((cohort for cohort in self.listing(project) if cohort.id == cohort_id), None)

    def create(self, cohort: Cohort, ids: Iterable[str] = ()) -> Cohort:
        with self._guard:
            if not self._knows(cohort.project):
                raise CatalogError(f"there is no project {cohort.project}")
            own = self.listing(cohort.project)
            bounds.check_cohorts(len(own))
            if cohort.name in {other.name for other in own}:
                raise taken("cohorts.name")
            listed = list(islice(ids, bounds.COHORT_IDS + 1))
            bounds.check_cohort_ids(len(listed))
            made = msgspec.structs.replace(cohort, id=self._next_id)
            self._next_id += 1
            self._held[made.id] = made
            self._ids[made.id] = frozenset(listed if cohort.expression is None else ())
            return made

    def change(
        self,
        project: int,
        cohort_id: int,
        *,
        name: str | None = None,
        description: str | None = None,
        expression: str | None = None,
        behaviors: str | None = None,
    ) -> Cohort:
        with self._guard:
            own = {cohort.id: cohort for cohort in self.listing(project)}
            held = own.get(cohort_id)
            if held is None:
                raise bounds.no_cohort(cohort_id)
            if name in {other.name for other in own.values() if other.id != cohort_id}:
                raise taken("cohorts.name")
            if (expression is not None or behaviors is not None) and held.expression is None:
                raise bounds.lists_ids(cohort_id)
            given = {
                "name": name,
                "description": description,
                "expression": expression,
                "behaviors": behaviors,
            }
            changes = {field: value for field, value in given.items() if value is not None}
            changed: Cohort = msgspec.structs.replace(held, **changes)
            self._held[cohort_id] = changed
            return changed

    def delete(self, project: int, cohort_id: int) -> None:
        with self._guard:
            if cohort_id not in {cohort.id for cohort in self.listing(project)}:
                raise bounds.no_cohort(cohort_id)
            del self._held[cohort_id], self._ids[cohort_id]

    def ids(self, cohort_id: int) -> Iterator[str]:
        with self._guard:
            return iter(sorted(self._ids.get(cohort_id, ())))

    def forget(self, project: int, group_key: str, ids: Sequence[str]) -> int:
        with self._guard:
            gone = 0
            for cohort in self.listing(project):
                if cohort.group_key == group_key:
                    left = self._ids[cohort.id].difference(ids)
                    gone += len(self._ids[cohort.id]) - len(left)
                    self._ids[cohort.id] = left
            return gone

    def _knows(self, project: int) -> bool:
        return project in {each.id for each in self._catalog.projects()}
