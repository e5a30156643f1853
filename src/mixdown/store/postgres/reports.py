"""Saved reports and annotations in PostgreSQL. Each change is one transaction, on disk when it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mixdown.store.annotations import (
    Annotation,
    Tag,
    check_annotations,
    check_tagged,
    check_tags,
    no_annotation,
)
from mixdown.store.postgres.catalog import PostgresCatalog, known_project, next_number, one
from mixdown.store.postgres.connection import Cursor
from mixdown.store.reports import SavedReport, check_report, no_report

_REPORT: Final = "project_id, kind, name, definition, description, creator, created_ms, changed_ms, id"
_ANNOTATION: Final = "project_id, moment, description, creator, created_ms, tags, id"
_TAGS: Final = (
    "SELECT project_id, name, id,"
    " EXISTS (SELECT 1 FROM mixdown.annotations AS held"
    " WHERE held.project_id = tag.project_id AND tag.id = ANY(held.tags))"
    " FROM mixdown.annotation_tags AS tag WHERE project_id = %s ORDER BY id"
)


class PostgresReports:
    """`Reports` in PostgreSQL, beside the catalog."""

    def __init__(self, catalog: PostgresCatalog) -> None:
        self._catalog = catalog

    def listing(self, project: int, kind: str = "") -> list[SavedReport]:
        rows = self._catalog.select(
            f"SELECT {_REPORT} FROM mixdown.reports"
            " WHERE project_id = %s AND (%s::text = '' OR kind = %s) ORDER BY id",
            (project, kind, kind),
        )
        return [SavedReport(*row) for row in rows]

    def get(self, project: int, report_id: int) -> SavedReport | None:
        rows = self._catalog.select(
            f"SELECT {_REPORT} FROM mixdown.reports WHERE id = %s AND project_id = %s",
            (report_id, project),
        )
        return SavedReport(*rows[0]) if rows else None

    def create(self, report: SavedReport) -> SavedReport:
        with self._catalog.change() as cursor:
            known_project(cursor, report.project)
            check_report(_count(cursor, "reports", report.project) + 1, report.definition)
            made = msgspec.structs.replace(report, id=next_number(cursor, "report"))
            cursor.execute(
                f"INSERT INTO mixdown.reports ({_REPORT}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    made.project,
                    made.kind,
                    made.name,
                    made.definition,
                    made.description,
                    made.creator,
                    made.created_ms,
                    made.changed_ms,
                    made.id,
                ),
            )
        return made

    def change(
        self,
        project: int,
        report_id: int,
        *,
        name: str | None = None,
        description: str | None = None,
        definition: bytes | None = None,
        now_ms: int,
    ) -> SavedReport:
        check_report(0, definition)
        with self._catalog.change() as cursor:
            row = one(
                cursor,
                "UPDATE mixdown.reports SET name = coalesce(%s, name),"
                " description = coalesce(%s, description), definition = coalesce(%s, definition),"
                f" changed_ms = %s WHERE id = %s AND project_id = %s RETURNING {_REPORT}",
                (name, description, definition, now_ms, report_id, project),
            )
            if row is None:
                raise no_report(report_id)
        return SavedReport(*row)

    def delete(self, project: int, report_id: int) -> None:
        with self._catalog.change() as cursor:
            if not _delete(cursor, "reports", project, report_id):
                raise no_report(report_id)


class PostgresAnnotations:
    """`Annotations` in PostgreSQL, beside the catalog."""

    def __init__(self, catalog: PostgresCatalog) -> None:
        self._catalog = catalog

    def listing(self, project: int, *, since: str = "", until: str = "") -> list[Annotation]:
        rows = self._catalog.select(
            f"SELECT {_ANNOTATION} FROM mixdown.annotations WHERE project_id = %s AND moment >= %s"
            " AND (%s::text = '' OR moment < %s) ORDER BY moment, id",
            (project, since, until, until),
        )
        return [_annotation(row) for row in rows]

    def get(self, project: int, annotation_id: int) -> Annotation | None:
        rows = self._catalog.select(
            f"SELECT {_ANNOTATION} FROM mixdown.annotations WHERE id = %s AND project_id = %s",
            (annotation_id, project),
        )
        return _annotation(rows[0]) if rows else None

    def create(self, annotation: Annotation) -> Annotation:
        with self._catalog.change() as cursor:
            known_project(cursor, annotation.project)
            check_annotations(_count(cursor, "annotations", annotation.project) + 1)
            tags = _checked(cursor, annotation.project, annotation.tags)
            made = msgspec.structs.replace(annotation, id=next_number(cursor, "annotation"), tags=tags)
            cursor.execute(
                f"INSERT INTO mixdown.annotations ({_ANNOTATION}) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (
                    made.project,
                    made.moment,
                    made.description,
                    made.creator,
                    made.created_ms,
                    list(made.tags),
                    made.id,
                ),
            )
        return made

    def change(
        self,
        project: int,
        annotation_id: int,
        *,
        moment: str | None = None,
        description: str | None = None,
        tags: Sequence[int] | None = None,
    ) -> Annotation:
        with self._catalog.change() as cursor:
            row = one(
                cursor,
                "UPDATE mixdown.annotations SET moment = coalesce(%s, moment),"
                " description = coalesce(%s, description)"
                f" WHERE id = %s AND project_id = %s RETURNING {_ANNOTATION}",
                (moment, description, annotation_id, project),
            )
            if row is None:
                raise no_annotation(annotation_id)
            changed = _annotation(row)
            if tags is None:
                return changed
            found = _checked(cursor, project, tags)
            cursor.execute(
                "UPDATE mixdown.annotations SET tags = %s WHERE id = %s", (list(found), annotation_id)
            )
            return msgspec.structs.replace(changed, tags=found)

    def delete(self, project: int, annotation_id: int) -> None:
        with self._catalog.change() as cursor:
            if not _delete(cursor, "annotations", project, annotation_id):
                raise no_annotation(annotation_id)

    def tags(self, project: int) -> list[Tag]:
        return [Tag(*row) for row in self._catalog.select(_TAGS, (project,))]

    def create_tag(self, tag: Tag) -> Tag:
        with self._catalog.change() as cursor:
            known_project(cursor, tag.project)
            check_tags(_count(cursor, "annotation_tags", tag.project) + 1)
            number = next_number(cursor, "tag")
            cursor.execute(
                "INSERT INTO mixdown.annotation_tags (project_id, name, id) VALUES (%s, %s, %s)",
                (tag.project, tag.name, number),
            )
        return msgspec.structs.replace(tag, id=number, is_used=False)


def _checked(cursor: Cursor, project: int, tags: Sequence[int]) -> tuple[int, ...]:
    rows = cursor.execute("SELECT id FROM mixdown.annotation_tags WHERE project_id = %s", (project,))
    return check_tagged(tags, frozenset(number for (number,) in rows))


def _count(cursor: Cursor, table: str, project: int) -> int:
    sql = f"SELECT count(*) FROM mixdown.{table} WHERE project_id = %s"
    row = one(cursor, sql, (project,))
    return 0 if row is None else int(row[0])


def _delete(cursor: Cursor, table: str, project: int, number: int) -> bool:
    sql = f"DELETE FROM mixdown.{table} WHERE id = %s AND project_id = %s"
    return bool(cursor.execute(sql, (number, project)).rowcount)


def _annotation(row: tuple[Any, ...]) -> Annotation:
    *fields, tags, number = row
    return Annotation(*(*fields, tuple(tags), number))
