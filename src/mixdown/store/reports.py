"""Saved reports (funnels among them) and dashboards: what every store must do with them.

Enters: what a report asks for, as JSON, under a kind and a name. Leaves: the same, by number. What a
definition may say is decided by `query.reports`; a store does not read it.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from mixdown.model.errors import CatalogError

REPORTS_PER_PROJECT: Final = 2_000
DEFINITION_LIMIT_BYTES: Final = 64 * 1024


class SavedReport(msgspec.Struct, frozen=True):
    """A saved report of a project: `definition` is JSON, `creator` the name of an account.

    `id` is given by the store (0 before), for good: no other report of the server ever has it.
    """

    project: int
    kind: str
    name: str
    definition: bytes
    description: str = ""
    creator: str = ""
    created_ms: int = 0
    changed_ms: int = 0
    id: int = 0


class Reports(Protocol):
    """Saved reports: at most `REPORTS_PER_PROJECT`, of at most `DEFINITION_LIMIT_BYTES` each.

    A name is given once among the reports of a kind in a project. What changes is on disk on return.
    """

    def listing(self, project: int, kind: str = "") -> list[SavedReport]:
        """A project's reports, of one kind or of all, by id."""

    def get(self, project: int, report_id: int) -> SavedReport | None:
        """The project's report with this id, None where it has none such."""

    def create(self, report: SavedReport) -> SavedReport:
        """Keep a report; returns it with its id.

        Raises `CatalogError`: no such project, a name that is taken, too many, too long a definition.
        """

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
        """Change what is given; returns the report as it is then.

        Raises `CatalogError`: no such report, a name that is taken, too long a definition.
        """

    def delete(self, project: int, report_id: int) -> None:
        """Raises `CatalogError` where the project has no such report."""


def check_report(held: int, definition: bytes | None) -> None:
    """Raises `CatalogError` where a project would hold more reports than it may, or one too long."""
    if held > REPORTS_PER_PROJECT:
        raise CatalogError(
            f"a project has at most {REPORTS_PER_PROJECT} saved reports",
            hint="Delete those that are not used.",
        )
    if definition is not None and len(definition) > DEFINITION_LIMIT_BYTES:
        raise CatalogError(f"what a report asks for has at most {DEFINITION_LIMIT_BYTES} bytes of JSON")


def no_report(report_id: int) -> CatalogError:
    """The error about a report that a project does not have."""
    return CatalogError(f"there is no report {report_id}", hint="`mixdown report list` shows all.")


def name_taken() -> CatalogError:
    """The error about a name that another report of the kind has."""
    return CatalogError("this name is taken by another report of this kind", hint="Choose another.")
