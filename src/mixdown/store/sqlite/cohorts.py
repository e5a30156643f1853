"""Cohorts in `catalog.db`: saved filters, as an expression or as a list of ids.

Each change is one transaction and is on disk when it returns. What an expression means is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import apsw
import msgspec

from mixdown.model.errors import CatalogError
from mixdown.store import bounds
from mixdown.store.protocols import Cohort
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.catalog import SqliteCatalog

_COHORT: Final = "project_id, name, description, group_key, expression, created_ms, id, behaviors"
_IDS_AT_ONCE: Final = 10_000


class SqliteCohorts:
    """`Cohorts` in `catalog.db`, through the connections of the catalog."""

    def __init__(self, catalog: SqliteCatalog) -> None:
        self._catalog = catalog

    def listing(self, project: int) -> list[Cohort]:
        rows = self._catalog.select(
            f"SELECT {_COHORT} FROM cohorts WHERE project_id = ? ORDER BY id",  # noqa: S608 - our columns
            (project,),
        )
        return [Cohort(*row) for row in rows]

    def get(self, project: int, cohort_id: int) -> Cohort | None:
        rows = self._catalog.select(
            f"SELECT {_COHORT} FROM cohorts WHERE id = ? AND project_id = ?",  # noqa: S608 - our columns
            (cohort_id, project),
        )
        return Cohort(*rows[0]) if rows else None

    def create(self, cohort: Cohort, ids: Iterable[str] = ()) -> Cohort:
        values = (
            cohort.project,
            cohort.name,
            cohort.description,
            cohort.group_key,
            cohort.expression,
            cohort.created_ms,
            cohort.behaviors,
        )
        with self._catalog.change() as connection:
            if sqlite.value(connection, "SELECT 1 FROM projects WHERE id = ?", (cohort.project,)) is None:
                raise CatalogError(f"there is no project {cohort.project}")
            held = sqlite.value(
                connection, "SELECT count(*) FROM cohorts WHERE project_id = ?", (cohort.project,)
            )
            bounds.check_cohorts(held)
            number = sqlite.value(
                connection,
                "INSERT INTO cohorts (project_id, name, description, group_key, expression, created_ms,"
                " behaviors) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
                values,
            )
            if cohort.expression is None:
                _insert_ids(connection, number, ids)
        return msgspec.structs.replace(cohort, id=number)

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
        with self._catalog.change() as connection:
            row = sqlite.value(
                connection,
                "UPDATE cohorts SET name = coalesce(?, name), description = coalesce(?, description),"  # noqa: S608 - our columns
                " expression = iif(expression IS NULL, NULL, coalesce(?, expression)),"
                " behaviors = coalesce(?, behaviors)"
                f" WHERE id = ? AND project_id = ? RETURNING {_COHORT}",
                (name, description, expression, behaviors, cohort_id, project),
            )
            if row is None:
                raise bounds.no_cohort(cohort_id)
            changed = Cohort(*row)
            if (expression is not None or behaviors is not None) and changed.expression is None:
                raise bounds.lists_ids(cohort_id)
        return changed

    def delete(self, project: int, cohort_id: int) -> None:
        with self._catalog.change() as connection:
            gone = sqlite.value(
                connection,
                "DELETE FROM cohorts WHERE id = ? AND project_id = ? RETURNING id",
                (cohort_id, project),
            )
            if gone is None:
                raise bounds.no_cohort(cohort_id)

    def ids(self, cohort_id: int) -> Iterator[str]:
        last = ""
        while True:
            rows = self._catalog.select(
                "SELECT id FROM cohort_ids WHERE cohort_id = ? AND id > ? ORDER BY id LIMIT ?",
                (cohort_id, last, _IDS_AT_ONCE),
            )
            for (profile_id,) in rows:
                yield profile_id
            if len(rows) < _IDS_AT_ONCE:
                return
            last = rows[-1][0]

    def forget(self, project: int, group_key: str, ids: Sequence[str]) -> int:
        with self._catalog.change() as connection:
            sqlite.rows(
                connection,
                "DELETE FROM cohort_ids WHERE cohort_id IN"
                " (SELECT id FROM cohorts WHERE project_id = ? AND group_key = ?)"
                " AND id IN (SELECT CAST(value AS TEXT) FROM carray(?))",
                (project, group_key, apsw.carray(tuple(each.encode("utf-8", "replace") for each in ids))),
            )
            return int(connection.changes())


def _insert_ids(connection: apsw.Connection, number: int, ids: Iterable[str]) -> None:
    taken = list(islice(ids, bounds.COHORT_IDS + 1))
    bounds.check_cohort_ids(len(taken))
    connection.executemany(
        "INSERT INTO cohort_ids VALUES (?, ?) ON CONFLICT DO NOTHING",
        ((number, profile_id) for profile_id in taken),
    )
