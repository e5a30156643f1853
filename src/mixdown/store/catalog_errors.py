"""What every catalog says of a change that it refuses: the same words for each engine. Values alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mixdown.model.errors import CatalogError

TAKEN: Final[Mapping[str, str]] = {
    "projects.name": "this name is taken by another project",
    "projects.token": "this token is taken by another project",
    "projects.secret_hash": "this secret is taken by another project",
    "accounts.username": "this name is taken by another account",
    "cohorts.name": "this name is taken by another cohort",
    "reports.name": "this name is taken by another report of this kind",
    "annotation_tags.name": "this name is taken by another tag",
    "lookup_tables.name": "this name is taken by another lookup table",
    "lookup_tables.id": "this id is taken by another lookup table",
}
"""By table and column: no two rows (of a project) may have the same value there."""


def taken(column: str) -> CatalogError:
    """The error about a value that another row has already; `column` is one of `TAKEN`."""
    return CatalogError(TAKEN[column], hint="Choose another.")


def no_project(project_id: int) -> CatalogError:
    """The error about a project that there is not."""
    return CatalogError(f"there is no project {project_id}", hint="`mixdown project list` shows all.")
