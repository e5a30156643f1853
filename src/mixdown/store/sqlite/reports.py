"""Saved reports and annotations in `catalog.db`. Each change is one transaction, on disk when it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw
import msgspec

from mixdown.model.errors import CatalogError
from mixdown.store.annotations import (
    Annotation,
    Tag,
    check_annotations,
    check_tagged,
    check_tags,
    no_annotation,
)
from mixdown.store.reports import SavedReport, check_report, no_report
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.catalog import SqliteCatalog

_REPORT: Final = "project_id, kind, name, definition, description, creator, created_ms, changed_ms, id"
_ANNOTATION: Final = "project_id, moment, description, creator, created_ms, id"
_TAGS: Final = (
    "SELECT project_id, name, id,"
    " EXISTS (SELECT 1 FROM annotations_tagged WHERE tag_id = annotation_tags.id)"
    " FROM annotation_tags WHERE project_id = ? ORDER BY id"
)


class SqliteReports:
    """`Reports` in `catalog.db`, through the connections of the catalog."""

    def __init__(self, catalog: SqliteCatalog) -> None:
        self._catalog = catalog

    def listing(self, project: int, kind: str = "") -> list[SavedReport]:
        rows = self._catalog.select(
            f"SELECT {_REPORT} FROM reports WHERE project_id = ? AND (? = '' OR kind = ?) ORDER BY id",  # noqa: S608 - our columns
            (project, kind, kind),
        )
        return [_report(row) for row in rows]

    def get(self, project: int, report_id: int) -> SavedReport | None:
        rows = self._catalog.select(
            f"SELECT {_REPORT} FROM reports WHERE id = ? AND project_id = ?",  # noqa: S608 - our columns
            (report_id, project),
        )
        return _report(rows[0]) if rows else None

    def create(self, report: SavedReport) -> SavedReport:
        with self._catalog.change() as connection:
            _check_project(connection, report.project)
            held = _count(connection, "reports", report.project)
            check_report(held + 1, report.definition)
            number = sqlite.value(
                connection,
                "INSERT INTO reports (project_id, kind, name, definition, description, creator, created_ms,"
                " changed_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (
                    report.project,
                    report.kind,
                    report.name,
                    report.definition.decode(),
                    report.description,
                    report.creator,
                    report.created_ms,
                    report.changed_ms,
                ),
            )
        return msgspec.structs.replace(report, id=number)

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
        with self._catalog.change() as connection:
            check_report(0, definition)
            row = sqlite.value(
                connection,
                "UPDATE reports SET name = coalesce(?, name), description = coalesce(?, description),"  # noqa: S608 - our columns
                " definition = coalesce(?, definition), changed_ms = ?"
                f" WHERE id = ? AND project_id = ? RETURNING {_REPORT}",
                (
                    name,
                    description,
                    None if definition is None else definition.decode(),
                    now_ms,
                    report_id,
                    project,
                ),
            )
            if row is None:
                raise no_report(report_id)
        return _report(row)

    def delete(self, project: int, report_id: int) -> None:
        with self._catalog.change() as connection:
            if not _delete(connection, "reports", project, report_id):
                raise no_report(report_id)


class SqliteAnnotations:
    """`Annotations` in `catalog.db`, through the connections of the catalog."""

    def __init__(self, catalog: SqliteCatalog) -> None:
        self._catalog = catalog

    def listing(self, project: int, *, since: str = "", until: str = "") -> list[Annotation]:
        within = "project_id = ? AND moment >= ? AND (? = '' OR moment < ?)"
        rows = self._catalog.select(
            f"SELECT {_ANNOTATION} FROM annotations WHERE {within} ORDER BY moment, id",  # noqa: S608 - our columns
            (project, since, until, until),
        )
        tagged: dict[int, list[int]] = {}
        for number, tag in self._catalog.select(
            "SELECT annotation_id, tag_id FROM annotations_tagged JOIN annotations ON id = annotation_id"
            " WHERE project_id = ? ORDER BY annotation_id, tag_id",
            (project,),
        ):
            tagged.setdefault(number, []).append(tag)
        return [_annotation(row, tagged.get(row[-1], ())) for row in rows]

    def get(self, project: int, annotation_id: int) -> Annotation | None:
        rows = self._catalog.select(
            f"SELECT {_ANNOTATION} FROM annotations WHERE id = ? AND project_id = ?",  # noqa: S608 - our columns
            (annotation_id, project),
        )
        if not rows:
            return None
        tags = self._catalog.select(
            "SELECT tag_id FROM annotations_tagged WHERE annotation_id = ? ORDER BY tag_id", (annotation_id,)
        )
        return _annotation(rows[0], [tag for (tag,) in tags])

    def create(self, annotation: Annotation) -> Annotation:
        with self._catalog.change() as connection:
            _check_project(connection, annotation.project)
            check_annotations(_count(connection, "annotations", annotation.project) + 1)
            number = sqlite.value(
                connection,
                "INSERT INTO annotations (project_id, moment, description, creator, created_ms)"
                " VALUES (?, ?, ?, ?, ?) RETURNING id",
                (
                    annotation.project,
                    annotation.moment,
                    annotation.description,
                    annotation.creator,
                    annotation.created_ms,
                ),
            )
            tags = _tag(connection, annotation.project, number, annotation.tags)
        return msgspec.structs.replace(annotation, id=number, tags=tags)

    def change(
        self,
        project: int,
        annotation_id: int,
        *,
        moment: str | None = None,
        description: str | None = None,
        tags: Sequence[int] | None = None,
    ) -> Annotation:
        with self._catalog.change() as connection:
            row = sqlite.value(
                connection,
                "UPDATE annotations SET moment = coalesce(?, moment), description = coalesce(?, description)"  # noqa: S608 - our columns
                f" WHERE id = ? AND project_id = ? RETURNING {_ANNOTATION}",
                (moment, description, annotation_id, project),
            )
            if row is None:
                raise no_annotation(annotation_id)
            if tags is None:
                held = sqlite.rows(
                    connection,
                    "SELECT tag_id FROM annotations_tagged WHERE annotation_id = ? ORDER BY tag_id",
                    (annotation_id,),
                )
                return _annotation(row, [tag for (tag,) in held])
            sqlite.rows(
                connection, "DELETE FROM annotations_tagged WHERE annotation_id = ?", (annotation_id,)
            )
            return _annotation(row, _tag(connection, project, annotation_id, tags))

    def delete(self, project: int, annotation_id: int) -> None:
        with self._catalog.change() as connection:
            if not _delete(connection, "annotations", project, annotation_id):
                raise no_annotation(annotation_id)

    def tags(self, project: int) -> list[Tag]:
        return [_tag_of(row) for row in self._catalog.select(_TAGS, (project,))]

    def create_tag(self, tag: Tag) -> Tag:
        with self._catalog.change() as connection:
            _check_project(connection, tag.project)
            check_tags(_count(connection, "annotation_tags", tag.project) + 1)
            number = sqlite.value(
                connection,
                "INSERT INTO annotation_tags (project_id, name) VALUES (?, ?) RETURNING id",
                (tag.project, tag.name),
            )
        return msgspec.structs.replace(tag, id=number, is_used=False)


def _tag(connection: apsw.Connection, project: int, number: int, tags: Sequence[int]) -> tuple[int, ...]:
    rows = sqlite.rows(connection, "SELECT id FROM annotation_tags WHERE project_id = ?", (project,))
    found = check_tagged(tags, frozenset(each for (each,) in rows))
    for tag in found:
        sqlite.rows(connection, "INSERT INTO annotations_tagged VALUES (?, ?)", (number, tag))
    return found


def _count(connection: apsw.Connection, table: str, project: int) -> int:
    sql = f"SELECT count(*) FROM {table} WHERE project_id = ?"  # noqa: S608 - one of our tables
    return int(sqlite.value(connection, sql, (project,)))


def _delete(connection: apsw.Connection, table: str, project: int, number: int) -> bool:
    sql = f"DELETE FROM {table} WHERE id = ? AND project_id = ? RETURNING id"  # noqa: S608 - one of our tables
    return sqlite.value(connection, sql, (number, project)) is not None


def _check_project(connection: apsw.Connection, project: int) -> None:
    if sqlite.value(connection, "SELECT 1 FROM projects WHERE id = ?", (project,)) is None:
        raise CatalogError(f"there is no project {project}")


def _report(row: tuple[Any, ...]) -> SavedReport:
    project, kind, name, definition, *rest = row
    return SavedReport(project, kind, name, definition.encode(), *rest)


def _annotation(row: tuple[Any, ...], tags: Sequence[int]) -> Annotation:
    project, moment, description, creator, created_ms, number = row
    return Annotation(project, moment, description, creator, created_ms, tuple(tags), number)


def _tag_of(row: tuple[Any, ...]) -> Tag:
    project, name, number, is_used = row
    return Tag(project, name, number, bool(is_used))
