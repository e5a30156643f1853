"""What the commands on funnels, reports and dashboards share: one is found, listed, shown and deleted.

Names or numbers that people type enter; what is saved leaves, as the API shows it. It reads no event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mixdown.cli.folder import find_project, opened
from mixdown.cli.output import confirm, emit, json_text, note, print_fields, print_rows, printable
from mixdown.model.errors import CatalogError

if TYPE_CHECKING:
    from mixdown.store.protocols import Store
    from mixdown.store.reports import SavedReport

FUNNELS: Final = "funnels"
DASHBOARD: Final = "dashboard"
_WORDS: Final = {FUNNELS: "funnel", DASHBOARD: "dashboard"}


def find(store: Store, project: int, kind: str, ref: str) -> SavedReport:
    """What is saved of a kind ("": any) under this id or this name. Raises `CatalogError`."""
    found = store.reports.listing(project, kind)
    for each in found:
        if str(each.id) == ref:
            return each
    named = [each for each in found if each.name == ref]
    what = word_of(kind)
    if len(named) > 1:
        raise CatalogError(f"several {what}s are called {ref!r}", hint="Name one by its id.")
    if not named:
        raise CatalogError(f"there is no {what} {ref!r}", hint=f"`mixdown {what} list` shows all.")
    return named[0]


def word_of(kind: str) -> str:
    """How people call what is saved of a kind."""
    return _WORDS.get(kind, "report")


def print_list(project_ref: str, kind: str, *, as_json: bool, data_dir: str | None) -> None:
    """Print all that is saved of a kind ("": any)."""
    from mixdown.query.reports.saved import report_view

    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        found = [report_view(each) for each in store.reports.listing(project.id, kind)]
    if as_json:
        emit(found)
        return
    columns = (
        ("id", "name", "created", "definition") if kind else ("id", "kind", "name", "created", "definition")
    )
    rows = [[_cell(view[column]) for column in columns] for view in found]
    print_rows(columns, rows)


def print_found(ref: str, project_ref: str, kind: str, *, as_json: bool, data_dir: str | None) -> None:
    """Print one that is saved, by its id or its name."""
    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        found = find(store, project.id, kind, ref)
    print_one(found, as_json=as_json)


def print_one(found: SavedReport, *, as_json: bool) -> None:
    """Print what is saved."""
    from mixdown.query.reports.saved import report_view

    view = report_view(found)
    if as_json:
        emit(view)
        return
    print_fields([(name, _cell(value)) for name, value in view.items() if value not in (None, "")])


def delete_found(
    ref: str, project_ref: str, kind: str, *, yes: bool, as_json: bool, data_dir: str | None
) -> None:
    """Delete one that is saved, once that is confirmed."""
    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        found = find(store, project.id, kind, ref)
        what = word_of(kind)
        confirm(f"Delete the {what} {printable(found.name)}?", yes=yes)
        store.reports.delete(project.id, found.id)
    if as_json:
        emit({"id": found.id, "name": found.name})
    else:
        note(f"deleted the {what} {printable(found.name)}")


def _cell(value: Any) -> Any:
    return json_text(value) if isinstance(value, dict) else value
