"""Cohorts in PostgreSQL: saved filters, as an expression or as a list of ids.

Each change is one transaction and is on disk when it returns. What an expression means is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec

from mixdown.store import bounds
from mixdown.store.postgres.catalog import PostgresCatalog, known_project, next_number, one
from mixdown.store.postgres.connection import Cursor
from mixdown.store.protocols import Cohort

_COHORT: Final = "project_id, name, description, group_key, expression, created_ms, id, behaviors"
_IDS_AT_ONCE: Final = 10_000


class PostgresCohorts:
    """`Cohorts` in PostgreSQL, beside the catalog."""

    def __init__(self, catalog: PostgresCatalog) -> None:
        self._catalog = catalog

    def listing(self, project: int) -> list[Cohort]:
        rows = self._catalog.select(
            f"SELECT {_COHORT} FROM mixdown.cohorts WHERE project_id = %s ORDER BY id",
            (project,),
        )
        return [Cohort(*row) for row in rows]

    def get(self, project: int, cohort_id: int) -> Cohort | None:
        rows = self._catalog.select(
            f"SELECT {_COHORT} FROM mixdown.cohorts WHERE id = %s AND project_id = %s",
            (cohort_id, project),
        )
        return Cohort(*rows[0]) if rows else None

    def create(self, cohort: Cohort, ids: Iterable[str] = ()) -> Cohort:
        listed: list[str] = []
        if cohort.expression is None:  # read before anybody waits for this change
            listed = list(islice(ids, bounds.COHORT_IDS + 1))
            bounds.check_cohort_ids(len(listed))
        with self._catalog.change() as cursor:
            known_project(cursor, cohort.project)
            held = one(
                cursor, "SELECT count(*) FROM mixdown.cohorts WHERE project_id = %s", (cohort.project,)
            )
            bounds.check_cohorts(0 if held is None else held[0])
            made = msgspec.structs.replace(cohort, id=next_number(cursor, "cohort"))
            cursor.execute(
                f"INSERT INTO mixdown.cohorts ({_COHORT}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    made.project,
                    made.name,
                    made.description,
                    made.group_key,
                    made.expression,
                    made.created_ms,
                    made.id,
                    made.behaviors,
                ),
            )
            _insert_ids(cursor, made.id, sorted(set(listed)))
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
        with self._catalog.change() as cursor:
            row = one(
                cursor,
                "UPDATE mixdown.cohorts SET name = coalesce(%s, name),"
                " description = coalesce(%s, description),"
                " expression = CASE WHEN expression IS NULL THEN NULL ELSE coalesce(%s, expression) END,"
                " behaviors = coalesce(%s, behaviors)"
                f" WHERE id = %s AND project_id = %s RETURNING {_COHORT}",
                (name, description, expression, behaviors, cohort_id, project),
            )
            if row is None:
                raise bounds.no_cohort(cohort_id)
            changed = Cohort(*row)
            if (expression is not None or behaviors is not None) and changed.expression is None:
                raise bounds.lists_ids(cohort_id)
        return changed

    def delete(self, project: int, cohort_id: int) -> None:
        with self._catalog.change() as cursor:
            cursor.execute(
                "DELETE FROM mixdown.cohorts WHERE id = %s AND project_id = %s", (cohort_id, project)
            )
            if not cursor.rowcount:
                raise bounds.no_cohort(cohort_id)
            cursor.execute("DELETE FROM mixdown.cohort_ids WHERE cohort_id = %s", (cohort_id,))

    def ids(self, cohort_id: int) -> Iterator[str]:
        last = -1
        while True:
            rows = self._catalog.select(
                "SELECT place, id FROM mixdown.cohort_ids WHERE cohort_id = %s AND place > %s"
                " ORDER BY place LIMIT %s",
                (cohort_id, last, _IDS_AT_ONCE),
            )
            for _, profile_id in rows:
                yield profile_id
            if len(rows) < _IDS_AT_ONCE:
                return
            last = rows[-1][0]

    def forget(self, project: int, group_key: str, ids: Sequence[str]) -> int:
        with self._catalog.change() as cursor:
            cursor.execute(
                "DELETE FROM mixdown.cohort_ids AS held USING mixdown.cohorts AS cohort,"
                " unnest(%s::text[]) AS gone (id)"
                " WHERE hashtextextended(held.id, 0) = hashtextextended(gone.id, 0) AND held.id = gone.id"
                " AND cohort.id = held.cohort_id AND cohort.project_id = %s AND cohort.group_key = %s",
                (list(ids), project, group_key),
            )
            return cursor.rowcount


def _insert_ids(cursor: Cursor, number: int, ids: Sequence[str]) -> None:
    if ids:
        cursor.execute(
            "INSERT INTO mixdown.cohort_ids SELECT %s, place - 1, id"
            " FROM unnest(%s::text[]) WITH ORDINALITY AS given (id, place)",
            (number, ids),
        )
