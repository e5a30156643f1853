"""`mixdown profiles …`: reading and deleting single profiles.

A read sees every record that was acknowledged before it; a delete is one more record of the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from mixdown.cli.flags import data_dir_flag, group_key_flag, ignore_alias_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened, profile_key, settle_and_tell, wake_fold
from mixdown.cli.history import history, undo
from mixdown.cli.output import (
    Failure,
    confirm,
    emit,
    json_text,
    note,
    print_rows,
    printable,
    shortened,
    to_terminal,
)
from mixdown.cli.transfer.exporting import export
from mixdown.cli.transfer.importing import import_
from mixdown.model.values import clean_text
from mixdown.store.batches import documents_in_batches

if TYPE_CHECKING:
    from mixdown.model.operators import Properties
    from mixdown.settings import Settings
    from mixdown.store.protocols import ProfileKey, Project, Store

CELL_CHARS: Final = 400
_NAMED_IDS: Final = 10


@click.group()
def profiles() -> None:
    """Read, export, import, put back and delete the profiles of users and groups."""


profiles.add_command(history)
profiles.add_command(undo)
profiles.add_command(export)
profiles.add_command(import_)


def _what(group_key: str, profile_id: str) -> str:
    return f"{printable(group_key) or 'user'} {printable(profile_id)}"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return shortened(text, CELL_CHARS) if to_terminal() else text


@profiles.command()
@click.argument("profile_id", metavar="ID")
@project_flag()
@group_key_flag("Read the group ID of this group key, instead of a user.")
@click.option("--as-of", "time", metavar="TIME", help="As it stood then: 2026-01-31T12:00:00, in UTC.")
@ignore_alias_flag
@json_flag
@data_dir_flag
def get(
    *,
    profile_id: str,
    project_ref: str,
    group_key: str,
    time: str | None,
    ignore_alias: bool,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Print one profile, as it stands or as it stood.

    A user is named by any id of theirs: what is printed is the profile of the person that the id belongs to,
    or belonged to then. With --json in the shape of the query API: {"$distinct_id": …, "$properties": {…}}.
    Exit code 1 when there is no such profile.

    \b
    Examples:
      mixdown profiles get alice --project shop
      mixdown profiles get alice --project shop --as-of 2026-01-31T12:00:00
      mixdown profiles get Acme --group-key Company --project shop --json
    """
    profile_id, group_key = clean_text(profile_id), clean_text(group_key)
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        literal = ignore_alias or time is not None
        key = profile_key(store, project, group_key, profile_id, ignore_alias=literal)
        profile_id, properties = _profile(store, key, time, ignore_alias=ignore_alias)
    if properties is None:
        verb = "has" if time is None else "had"
        raise Failure(
            f"project {project.id}, {project.name}, {verb} no profile of {_what(group_key, profile_id)}"
        )
    if as_json:
        emit({"$distinct_id": profile_id, "$properties": properties})
        return
    print_rows(("property", "value"), [(name, _cell(value)) for name, value in properties.items()])


def _profile(
    store: Store, key: ProfileKey, time: str | None, *, ignore_alias: bool
) -> tuple[str, Properties | None]:
    """The id and properties of a profile as it stands, or as it stood at a time; None where there is none."""
    import orjson

    from mixdown.query.history import as_of, read_time, require_reach
    from mixdown.query.identities import owners_at

    if time is not None:
        time_ms = read_time(time, "--as-of")
        require_reach(store.state, time_ms, "--as-of")
        if not ignore_alias:
            (owner,) = owners_at(store.state, key[0], key[1], [key[2]], time_ms)
            key = (key[0], key[1], owner)
        return key[2], as_of(store.state, key, time_ms)
    document = store.state.documents([key])[0]
    return key[2], None if document is None else orjson.loads(document)


@profiles.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@project_flag()
@group_key_flag("Delete groups of this group key, instead of users.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@ignore_alias_flag
@json_flag
@data_dir_flag
def delete(
    *,
    ids: tuple[str, ...],
    project_ref: str,
    group_key: str,
    yes: bool,
    ignore_alias: bool,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Delete profiles, by a `$delete` record for each.

    Any id of a person deletes the one profile that the person has. Prints which were deleted and which were
    not there; exit code 1 when any was not. With --json: {"deleted": […], "missing": […]}.
    """
    from mixdown.query.identities import owners

    wanted = list(dict.fromkeys(map(clean_text, ids)))
    group_key = clean_text(group_key)
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        if not ignore_alias:
            wanted = list(owners(store.state, project.id, group_key, wanted))
        keys = [(project.id, group_key, each) for each in wanted]
        read = documents_in_batches(store.state.documents, keys, first=16, most=1000, roomy_bytes=2**20)
        present = [
            key[2]
            for some, documents in read
            for key, document in zip(some, documents, strict=True)
            if document is not None
        ]
        missing = [each for each in wanted if each not in set(present)]
        if present:
            confirm(_question(project, group_key, present), yes=yes)
            _append_deletes(settings, store, project, group_key, present)
            settle_and_tell(settings, store)
    if as_json:
        emit({"deleted": present, "missing": missing})
    elif present:
        note(f"deleted {len(present)} of {len(wanted)}")
    if missing:
        named = ", ".join(_what(group_key, each) for each in missing[:_NAMED_IDS])
        raise Failure(f"no such profile: {named}{', …' if len(missing) > _NAMED_IDS else ''}")


def _question(project: Project, group_key: str, present: list[str]) -> str:
    named = ", ".join(_what(group_key, each) for each in present[:_NAMED_IDS])
    more = f" and {len(present) - _NAMED_IDS} more" if len(present) > _NAMED_IDS else ""
    return f"Delete {named}{more} from project {project.id}, {printable(project.name)}?"


def _append_deletes(
    settings: Settings, store: Store, project: Project, group_key: str, present: list[str]
) -> None:
    """Append a `$delete` for each profile. Raises `Failure` where one was refused."""
    from mixdown.ingest.direct import append_raw
    from mixdown.ingest.pipeline import rules_of

    if group_key:
        endpoint = "groups"
        records = [
            {"$token": project.token, "$group_key": group_key, "$group_id": each, "$delete": ""}
            for each in present
        ]
    else:
        endpoint = "engage"
        named: dict[str, Any] = {"$token": project.token, "$ignore_alias": True, "$delete": ""}
        records = [{"$distinct_id": each, **named} for each in present]
    outcome = append_raw(store, rules_of(settings), endpoint, records, sdk="mixdown", keep_refusals=False)
    wake_fold(settings)
    if outcome.failed:
        index, _, message = outcome.failed[0]
        raise Failure(f"{_what(group_key, present[index])} was not deleted: {message}")
