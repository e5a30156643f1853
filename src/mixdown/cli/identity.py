"""`mixdown identity …`: which ids are one person, what linked them, and taking one apart again.

A read sees every record that was acknowledged before it; an unmerge is one more record of the log, so the
commands work while the server runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from mixdown.cli.flags import data_dir_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened, settle_and_tell, wake_fold
from mixdown.cli.output import Failure, confirm, emit, note, print_rows, printable, time_text
from mixdown.model.values import clean_text

if TYPE_CHECKING:
    from mixdown.query.identities import Identity

_COLUMNS = ("id", "linked to", "by", "mode", "when", "unmerged")


@click.group()
def identity() -> None:
    """See which ids are one person, and take them apart."""


@identity.command()
@click.argument("distinct_id", metavar="ID")
@project_flag()
@json_flag
@data_dir_flag
def show(*, distinct_id: str, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Print all ids of a person, the canonical one first, and what linked them.

    Any id of the person will do. Links that were undone are told too, with the time. With --json as
    /api/mixdown/identity answers: {"distinct_id": …, "canonical": …, "ids": […], "links": […], "more": …}.

    \b
    Examples:
      mixdown identity show alice --project shop
      mixdown identity show '$device:0b5bd3f5-9c6f-4b7e-8f5e-2a1c3d4e5f60' --project shop --json
    """
    from mixdown.query.identities import identity_of

    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        found = identity_of(store.state, project.id, clean_text(distinct_id))
    _tell(found, as_json=as_json)


@identity.command()
@click.argument("distinct_id", metavar="ID")
@project_flag()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@data_dir_flag
def unmerge(*, distinct_id: str, project_ref: str, yes: bool, as_json: bool, data_dir: str | None) -> None:
    """Undo every link that names an id; all other links stay.

    Events are the id's own again, profile updates from now on. No profile is changed: what the id has set of
    the person's stays there. The id is free: the next event that links it links it again. Exit code 1 where
    it is linked to nothing. With --json the id as it stands then, as `identity show` prints it.

    \b
    Example:
      mixdown identity unmerge '$device:0b5bd3f5-9c6f-4b7e-8f5e-2a1c3d4e5f60' --project shop
    """
    from mixdown.query.identities import identity_of
    from mixdown.store.unmerging import append_unmerge

    one = clean_text(distinct_id)
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        found = identity_of(store.state, project.id, one)
        if not found.is_linked:
            raise Failure(f"{printable(one)} is linked to no other id in project {project.id}")
        named = sum(link.in_force and one in (link.one, link.other) for link in found.links)
        links = "1 link" if named == 1 else f"{named} links"
        confirm(
            f"Undo {links} of {printable(one)} in project {project.id}, {printable(project.name)}?", yes=yes
        )
        append_unmerge(store, project.id, one, now_ms=time.time_ns() // 1_000_000)
        wake_fold(settings)
        settle_and_tell(settings, store)
        found = identity_of(store.state, project.id, one)
    _tell(found, as_json=as_json)


def _tell(found: Identity, *, as_json: bool) -> None:
    from mixdown.query.identities import identity_view

    view = identity_view(found)
    if as_json:
        emit(view)
        return
    others = ", ".join(map(printable, found.ids[1:]))
    note(f"{printable(found.canonical)}: {others or 'linked to no other id'}")
    rows = [
        (
            printable(told["id"]),
            printable(told["linked_to"]),
            told["verb"],
            told["mode"],
            time_text(link.time_ms),
            "" if link.in_force else time_text(link.undone_ms),
        )
        for told, link in zip(view["links"], found.links, strict=True)
    ]
    if rows:
        print_rows(_COLUMNS, rows)
    if found.more:
        note("there are more than are shown")
