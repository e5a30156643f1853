"""`mixdown dashboard …`: saved reports in an order, with the room that each takes on a page.

Makes, lists, shows, changes and deletes dashboards; the explorer draws them, and `mixdown report run` gives
the figures of one report.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from mixdown.cli.flags import data_dir_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened
from mixdown.cli.output import emit, print_fields, print_rows
from mixdown.cli.saved import DASHBOARD, delete_found, find
from mixdown.model.errors import CatalogError

if TYPE_CHECKING:
    from mixdown.store.protocols import Store


@click.group()
def dashboard() -> None:
    """Make, list, show, change and delete dashboards: saved reports on one page."""


@dashboard.command()
@click.argument("title")
@project_flag()
@click.option(
    "--report",
    "refs",
    multiple=True,
    metavar="REPORT[=WIDTH]",
    help="A saved report, by its id or its name, and how many of a page's twelve columns it takes. [12]",
)
@click.option("--days", type=click.IntRange(1), help="The days of all of its reports. [those of each]")
@click.option("--description", default="", help="A note for people.")
@json_flag
@data_dir_flag
def create(
    *,
    title: str,
    project_ref: str,
    refs: tuple[str, ...],
    days: int | None,
    description: str,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Make a dashboard of saved reports, in the order of the flags, and print it.

    \b
    Examples:
      mixdown dashboard create Growth --project shop --report signups --report pay=6 --report plans=6
      mixdown dashboard create "This week" --project shop --report 3 --days 7
    """
    from mixdown.query.reports.dashboards import new_dashboard

    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        made = new_dashboard(
            store,
            project.id,
            title,
            [_place(store, project.id, ref) for ref in refs],
            description=description,
            days=days,
            now_ms=time.time_ns() // 1_000_000,
        )
        view = _view(store, project.id, store.reports.create(made).id)
    _show(view, as_json=as_json)


@dashboard.command()
@click.argument("ref", metavar="DASHBOARD")
@project_flag()
@click.option("--title", help="Another title.")
@click.option(
    "--report",
    "refs",
    multiple=True,
    metavar="REPORT[=WIDTH]",
    help="A saved report; those that are named stand there instead of all that did.",
)
@click.option("--add", "added", multiple=True, metavar="REPORT[=WIDTH]", help="One more, at the end.")
@click.option("--remove", "removed", multiple=True, metavar="REPORT", help="One less; the report stays.")
@click.option("--days", type=click.IntRange(0), help="The days of all of its reports; 0: those of each.")
@click.option("--description", help="Another note for people; '' for none.")
@json_flag
@data_dir_flag
def change(  # noqa: PLR0913 - each is a flag
    *,
    ref: str,
    project_ref: str,
    title: str | None,
    refs: tuple[str, ...],
    added: tuple[str, ...],
    removed: tuple[str, ...],
    days: int | None,
    description: str | None,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Change a dashboard, by its id or title; what no flag names stays.

    \b
    Examples:
      mixdown dashboard change Growth --project shop --add back=6 --remove plans
      mixdown dashboard change Growth --project shop --title "Growth, monthly" --days 90
    """
    from mixdown.query.reports.dashboards import new_dashboard

    if not (refs or added or removed) and (title, days, description) == (None, None, None):
        raise click.UsageError("Give what is to change.")
    now_ms = time.time_ns() // 1_000_000
    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref).id
        held = _view(store, project, find(store, project, DASHBOARD, ref).id)
        wanted = new_dashboard(
            store,
            project,
            held["title"] if title is None else title,
            _places(store, project, held["reports"], refs, added, removed),
            description=held["description"] if description is None else description,
            days=held["days"] if days is None else days or None,
            now_ms=now_ms,
        )
        store.reports.change(
            project,
            held["id"],
            name=wanted.name,
            description=wanted.description,
            definition=wanted.definition,
            now_ms=now_ms,
        )
        view = _view(store, project, held["id"])
    _show(view, as_json=as_json)


def _places(
    store: Store,
    project: int,
    held: list[dict[str, Any]],
    refs: tuple[str, ...],
    added: tuple[str, ...],
    removed: tuple[str, ...],
) -> list[dict[str, Any]]:
    """The reports of a dashboard as they are to be. Raises `CatalogError`."""
    places: list[dict[str, Any]] = [_place(store, project, ref) for ref in refs] or held
    for ref in removed:
        number = find(store, project, "", ref).id
        if number not in [place["id"] for place in places]:
            raise CatalogError(f"there is no report {ref!r} on this dashboard")
        places = [place for place in places if place["id"] != number]
    return [*places, *(_place(store, project, ref) for ref in added)]


def _place(store: Store, project: int, text: str) -> dict[str, int]:
    """A report and the room that it takes, of `REPORT=6`; a report of that whole name goes before."""
    try:
        return {"id": find(store, project, "", text).id}
    except CatalogError:
        ref, mark, width = text.rpartition("=")
        if not mark or not (width.isascii() and width.isdecimal() and len(width) < 4):
            raise
        return {"id": find(store, project, "", ref).id, "width": int(width)}


def _view(store: Store, project: int, number: int) -> dict[str, Any]:
    from mixdown.query.reports.dashboards import dashboards_of

    return next(each for each in dashboards_of(store, project) if each["id"] == number)


def _show(view: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(view)
        return
    reports = view.pop("reports")
    print_fields([(name, value) for name, value in view.items() if value not in (None, "")])
    if reports:
        click.echo()
        columns = ("id", "kind", "name", "width")
        print_rows(columns, [[each[column] for column in columns] for each in reports])


@dashboard.command("list")
@project_flag()
@json_flag
@data_dir_flag
def list_dashboards(*, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """List a project's dashboards."""
    from mixdown.query.reports.dashboards import dashboards_of

    with opened(data_dir) as (_, store):
        found = dashboards_of(store, find_project(store, project_ref).id)
    if as_json:
        emit(found)
        return
    rows = [
        [view["id"], view["title"], view["days"], ", ".join(each["name"] for each in view["reports"])]
        for view in found
    ]
    print_rows(("id", "title", "days", "reports"), rows)


@dashboard.command()
@click.argument("ref", metavar="DASHBOARD")
@project_flag()
@json_flag
@data_dir_flag
def show(*, ref: str, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Show a dashboard and its reports, by its id or its title."""
    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        view = _view(store, project.id, find(store, project.id, DASHBOARD, ref).id)
    _show(view, as_json=as_json)


@dashboard.command()
@click.argument("ref", metavar="DASHBOARD")
@project_flag()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@data_dir_flag
def delete(*, ref: str, project_ref: str, yes: bool, as_json: bool, data_dir: str | None) -> None:
    """Delete a dashboard, by its id or its title; its reports stay."""
    delete_found(ref, project_ref, DASHBOARD, yes=yes, as_json=as_json, data_dir=data_dir)
