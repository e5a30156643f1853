"""`mixdown cohort …`: saved filters over users or groups, by what they are and by what they did.

Makes, lists, shows and deletes cohorts in the catalog; members are counted as readers would count them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from mixdown.cli.flags import data_dir_flag, group_key_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened, reading_events, settle_and_tell
from mixdown.cli.output import confirm, emit, json_text, note, print_fields, print_rows, printable
from mixdown.model.errors import CatalogError

if TYPE_CHECKING:
    from mixdown.query.cohorts import Counted
    from mixdown.store.protocols import Cohort, Store


@click.group()
def cohort() -> None:
    """Make, list, show and delete cohorts: saved filters."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _find(store: Store, project: int, ref: str) -> Cohort:
    """The cohort with this id or this name. Raises `CatalogError`."""
    cohorts = store.cohorts.listing(project)
    for key in ("id", "name"):
        for each in cohorts:
            if str(getattr(each, key)) == ref:
                return each
    raise CatalogError(f"there is no cohort {ref!r}", hint="`mixdown cohort list` shows all.")


def _counting(
    behaviors: str | None, did: tuple[str, ...], did_not: tuple[str, ...], times: int, within: str | None
) -> tuple[list[dict[str, Any]] | None, str | None]:
    """Counts of events, and what they must be; None where nothing is asked of them."""
    import orjson

    if behaviors is not None:
        if did or did_not:
            raise click.UsageError("Give either --behaviors or --did and --did-not.")
        try:
            return orjson.loads(behaviors), None
        except orjson.JSONDecodeError as error:
            raise click.UsageError(f"--behaviors is no JSON: {error}") from None
    if not did and not did_not:
        if within is not None or times != 1:
            raise click.UsageError("--times and --within say how often and when something of --did was done.")
        return None, None
    window = {} if within is None else {"window": within}
    counts = [
        {"name": f"{number}", "event_selectors": [{"event": event}], **window}
        for number, event in enumerate((*did, *did_not), 1)
    ]
    wanted = [f'behaviors["{number}"] >= {times}' for number in range(1, len(did) + 1)]
    wanted += [f'behaviors["{number}"] == 0' for number in range(len(did) + 1, len(counts) + 1)]
    return counts, " and ".join(wanted)


def _ids_from(file: str) -> list[str]:
    """The ids in a file, one a line ("-": stdin)."""
    with click.open_file(file, encoding="utf-8") as lines:
        return [line.rstrip("\r\n") for line in lines if line.strip()]


@cohort.command()
@click.argument("name")
@project_flag()
@click.option("--where", metavar="EXPRESSION", help="Members are the profiles for which this is true.")
@click.option(
    "--ids-from", metavar="FILE", help="Members are the ids in this file, one a line; - reads stdin."
)
@click.option("--did", multiple=True, metavar="EVENT", help="Members did this; name each of several.")
@click.option("--did-not", multiple=True, metavar="EVENT", help="Members did not do this.")
@click.option("--times", type=click.IntRange(1), default=1, help="How often at least, of --did. [1]")
@click.option(
    "--within", metavar="WINDOW", help="In the last so many days, hours or weeks: 30d, 12h, 4w. [ever]"
)
@click.option(
    "--behaviors", metavar="JSON", help="Counts of events that --where reads, as the query API has them."
)
@group_key_flag("Groups of this key, instead of users.")
@click.option("--description", default="", help="A note for people.")
@json_flag
@data_dir_flag
def create(  # noqa: PLR0913 - each is a flag
    *,
    name: str,
    project_ref: str,
    where: str | None,
    ids_from: str | None,
    did: tuple[str, ...],
    did_not: tuple[str, ...],
    times: int,
    within: str | None,
    behaviors: str | None,
    group_key: str,
    description: str,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Save a filter, and print it with the number of its members.

    \b
    Examples:
      mixdown cohort create paying --project shop --where 'properties["plan"] == "pro"'
      mixdown cohort create beta --project shop --ids-from testers.txt
      mixdown cohort create undecided --project shop --did Cart --times 2 --did-not Purchase --within 30d
      mixdown cohort create big --project shop --where 'behaviors["pro"] > 3' --behaviors \\
        '[{"name":"pro","event_selectors":[{"event":"Buy","selector":"properties[\\"n\\"] > 9"}]}]'
    """
    from mixdown.query.cohorts import checked_ids, counted, new_cohort

    counts, done = _counting(behaviors, did, did_not, times, within)
    if done is not None:
        where = done if where is None else f"{done} and ({where})"
    if (where is None) == (ids_from is None):
        raise click.UsageError("Give either --where, --did or --did-not, or --ids-from.")
    ids = checked_ids(_ids_from(ids_from)) if ids_from is not None else []
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        made = new_cohort(
            store,
            project.id,
            name,
            description=description,
            group_key=group_key,
            expression=where,
            behaviors=counts,
            now_ms=_now_ms(),
        )
        with reading_events(settings, store) as reads:
            found = counted(store, [store.cohorts.create(made, ids)], now_ms=_now_ms(), reads=reads)[0]
    _show(found, as_json=as_json)


@cohort.command("list")
@project_flag()
@json_flag
@data_dir_flag
def list_cohorts(*, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """List a project's cohorts with the number of their members."""
    from mixdown.query.cohorts import cohort_view, counted

    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        with reading_events(settings, store) as reads:
            listed = store.cohorts.listing(project.id)
            told = counted(store, listed, now_ms=_now_ms(), reads=reads, lenient=True)
            found = [cohort_view(each) for each in told]
    if as_json:
        emit(found)
        return
    columns = ("id", "name", "group_key", "count", "created", "where")
    print_rows(columns, [[view[column] for column in columns] for view in found])


@cohort.command()
@click.argument("cohort_ref", metavar="COHORT")
@project_flag()
@click.option("--ids", "with_ids", is_flag=True, help="Print the members' ids, one a line, and nothing else.")
@json_flag
@data_dir_flag
def show(*, cohort_ref: str, project_ref: str, with_ids: bool, as_json: bool, data_dir: str | None) -> None:
    """Show a cohort, by its id or its name.

    \b
    Examples:
      mixdown cohort show paying --project shop
      mixdown cohort show paying --project shop --ids > members.txt
    """
    from mixdown.query.cohorts import counted, members

    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        found = _find(store, project.id, cohort_ref)
        with reading_events(settings, store) as reads:
            if with_ids:
                ids = members(store, found, now_ms=_now_ms(), reads=reads)
                if as_json:
                    emit(list(ids))
                    return
                for profile_id in ids:
                    click.echo(printable(profile_id))
                return
            shown = counted(store, [found], now_ms=_now_ms(), reads=reads)[0]
    _show(shown, as_json=as_json)


@cohort.command()
@click.argument("cohort_ref", metavar="COHORT")
@project_flag()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@data_dir_flag
def delete(*, cohort_ref: str, project_ref: str, yes: bool, as_json: bool, data_dir: str | None) -> None:
    """Delete a cohort, by its id or its name; no profile changes."""
    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        found = _find(store, project.id, cohort_ref)
        confirm(f"Delete the cohort {printable(found.name)}?", yes=yes)
        store.cohorts.delete(project.id, found.id)
    if as_json:
        emit({"id": found.id, "name": found.name})
    else:
        note(f"deleted the cohort {printable(found.name)}")


def _show(counted: Counted, *, as_json: bool) -> None:
    from mixdown.query.cohorts import cohort_view

    view = cohort_view(counted)
    if as_json:
        emit(view)
        return
    if view["where"] is None:
        view["where"] = "(a list of ids)"
    if view["behaviors"] is not None:
        view["behaviors"] = json_text(view["behaviors"])
    print_fields([(name, value) for name, value in view.items() if value not in (None, "")])
