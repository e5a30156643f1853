"""Cohorts: saved filters, and what every store must do with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec


class Cohort(msgspec.Struct, frozen=True):
    """A saved filter over a project's users (group key "") or the groups of one key.

    `expression` is its text; None for a list of ids. `behaviors` is JSON, counts of events that the
    expression reads ("": it reads none). `id` is given by the store (0 before), for good.
    """

    project: int
    name: str
    description: str = ""
    group_key: str = ""
    expression: str | None = None
    created_ms: int = 0
    id: int = 0
    behaviors: str = ""


class Cohorts(Protocol):
    """Saved filters: at most 1,000 a project, a list of at most 100,000 ids (`store.bounds`)."""

    def listing(self, project: int) -> list[Cohort]:
        """A project's cohorts, by id."""

    def get(self, project: int, cohort_id: int) -> Cohort | None:
        """The project's cohort with this id, None where it has none such; the others are not read."""

    def create(self, cohort: Cohort, ids: Iterable[str] = ()) -> Cohort:
        """Keep a cohort, and its ids where it has no expression; returns it with its id.

        Raises `CatalogError`: no such project, a name that another cohort of the project has, too many.
        """

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
        """Change what is given; a list of ids stays one. Returns the cohort as it is then.

        Raises `CatalogError`: no such cohort, a name that is taken, an expression for a list of ids.
        """

    def delete(self, project: int, cohort_id: int) -> None:
        """Raises `CatalogError` where the project has no such cohort."""

    def ids(self, cohort_id: int) -> Iterator[str]:
        """The ids of a cohort that is a list, ascending by code point."""

    def forget(self, project: int, group_key: str, ids: Sequence[str]) -> int:
        """Take ids out of all lists of a project's cohorts over this group key; how many places they had."""
