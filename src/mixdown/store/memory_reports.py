"""Saved reports and annotations in memory: the parts of the model store that keep them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from mixdown.model.errors import CatalogError
from mixdown.store.annotations import (
    Annotation,
    Tag,
    check_annotations,
    check_tagged,
    check_tags,
    no_annotation,
    tag_taken,
)
from mixdown.store.protocols import Catalog
from mixdown.store.reports import SavedReport, check_report, name_taken, no_report


class MemoryReports:
    """`Reports` in memory; those of a project that is gone are gone."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._guard = threading.RLock()
        self._next_id = 1
        self._held: dict[int, SavedReport] = {}

    def listing(self, project: int, kind: str = "") -> list[SavedReport]:
        with self._guard:
            if self._catalog.project(project) is None:
                return []
            own = [report for report in self._held.values() if report.project == project]
            return [report for report in own if kind in ("", report.kind)]

    def get(self, project: int, report_id: int) -> SavedReport | None:
        return next((report for report in self.listing(project) if report.id == report_id), None)

    def create(self, report: SavedReport) -> SavedReport:
        with self._guard:
            _check_project(self._catalog, report.project)
            check_report(len(self.listing(report.project)) + 1, report.definition)
            made = msgspec.structs.replace(report, id=self._next_id)
            self._check_name(made)
            self._next_id += 1
            self._held[made.id] = made
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
        with self._guard:
            held = self.get(project, report_id)
            if held is None:
                raise no_report(report_id)
            check_report(0, definition)
            given = {"name": name, "description": description, "definition": definition}
            changes = {field: value for field, value in given.items() if value is not None}
            changed: SavedReport = msgspec.structs.replace(held, **changes, changed_ms=now_ms)
            self._check_name(changed)
            self._held[report_id] = changed
            return changed

    def delete(self, project: int, report_id: int) -> None:
        with self._guard:
            if self.get(project, report_id) is None:
                raise no_report(report_id)
            del self._held[report_id]

    def _check_name(self, report: SavedReport) -> None:
        others = self.listing(report.project, report.kind)
        if report.name in {other.name for other in others if other.id != report.id}:
            raise name_taken()


class MemoryAnnotations:
    """`Annotations` in memory; those of a project that is gone are gone."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._guard = threading.RLock()
        self._next_id = self._next_tag = 1
        self._held: dict[int, Annotation] = {}
        self._tags: dict[int, Tag] = {}

    def listing(self, project: int, *, since: str = "", until: str = "") -> list[Annotation]:
        with self._guard:
            if self._catalog.project(project) is None:
                return []
            own = [each for each in self._held.values() if each.project == project]
            within = [each for each in own if since <= each.moment and (not until or each.moment < until)]
            return sorted(within, key=lambda each: (each.moment, each.id))

    def get(self, project: int, annotation_id: int) -> Annotation | None:
        return next((each for each in self.listing(project) if each.id == annotation_id), None)

    def create(self, annotation: Annotation) -> Annotation:
        with self._guard:
            _check_project(self._catalog, annotation.project)
            check_annotations(len(self.listing(annotation.project)) + 1)
            tags = self._checked(annotation.project, annotation.tags)
            made = msgspec.structs.replace(annotation, id=self._next_id, tags=tags)
            self._next_id += 1
            self._held[made.id] = made
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
        with self._guard:
            held = self.get(project, annotation_id)
            if held is None:
                raise no_annotation(annotation_id)
            changed = msgspec.structs.replace(
                held,
                moment=held.moment if moment is None else moment,
                description=held.description if description is None else description,
                tags=held.tags if tags is None else self._checked(project, tags),
            )
            self._held[annotation_id] = changed
            return changed

    def delete(self, project: int, annotation_id: int) -> None:
        with self._guard:
            if self.get(project, annotation_id) is None:
                raise no_annotation(annotation_id)
            del self._held[annotation_id]

    def tags(self, project: int) -> list[Tag]:
        with self._guard:
            if self._catalog.project(project) is None:
                return []
            used = {tag for each in self._held.values() for tag in each.tags}
            own = [tag for tag in self._tags.values() if tag.project == project]
            return [msgspec.structs.replace(tag, is_used=tag.id in used) for tag in own]

    def create_tag(self, tag: Tag) -> Tag:
        with self._guard:
            _check_project(self._catalog, tag.project)
            own = self.tags(tag.project)
            check_tags(len(own) + 1)
            if tag.name in {other.name for other in own}:
                raise tag_taken()
            made = msgspec.structs.replace(tag, id=self._next_tag, is_used=False)
            self._next_tag += 1
            self._tags[made.id] = made
            return made

    def _checked(self, project: int, tags: Sequence[int]) -> tuple[int, ...]:
        return check_tagged(tags, frozenset(tag.id for tag in self.tags(project)))


def _check_project(catalog: Catalog, project: int) -> None:
    if catalog.project(project) is None:
        raise CatalogError(f"there is no project {project}")
