"""`mixdown profiles history|undo`: what changed in a profile, and putting one back.

A read sees every record that was acknowledged before it; undoing is one more update of the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from mixdown.cli.flags import data_dir_flag, group_key_flag, ignore_alias_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened, profile_key, settle_and_tell, wake_fold
from mixdown.cli.output import (
    Failure,
    confirm,
    emit,
    json_text,
    note,
    print_rows,
    printable,
    shortened,
    time_text,
    to_terminal,
)
from mixdown.model.values import clean_text

if TYPE_CHECKING:
    from mixdown.query.history import HistoryEntry
    from mixdown.settings import Settings
    from mixdown.store.protocols import ProfileKey, Project, Store

_CELL_CHARS: Final = 120
_GROUP_KEY: Final = group_key_flag("The group ID of this group key, instead of a user.")


@click.command()
@click.argument("profile_id", metavar="ID")
@project_flag()
@_GROUP_KEY
@click.option("--property", "names", multiple=True, metavar="P", help="Only this property; may be repeated.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, 1000), help="At most so many."
)
@click.option("--before", metavar="PLACE", help="Those before: what the end of another page names.")
@ignore_alias_flag
@json_flag
@data_dir_flag
def history(  # noqa: PLR0913 - each is a flag
    *,
    profile_id: str,
    project_ref: str,
    group_key: str,
    names: tuple[str, ...],
    limit: int,
    before: str | None,
    ignore_alias: bool,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Print what changed in a profile, newest first.

    With --json: {"results": […], "next": …}, as /api/mixdown/history answers.

    \b
    Examples:
      mixdown profiles history alice --project shop
      mixdown profiles history alice --project shop --property plan --json
    """
    from mixdown.query.history import entry_view, history_page, place_of, place_text

    place = place_of(before) if before else None
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        ids = clean_text(group_key), clean_text(profile_id)
        key = profile_key(store, project, *ids, ignore_alias=ignore_alias)
        found, following = history_page(store, key, names=names, before=place, limit=limit)
    if as_json:
        results = [entry_view(entry) for entry in found]
        emit({"results": results, "next": None if following is None else place_text(following)})
        return
    print_rows(("time", "property", "operator", "was", "is", "sent by"), [_row(entry) for entry in found])
    if following is not None:
        note(f"there is more: --before {place_text(following)}")


def _row(entry: HistoryEntry) -> tuple[str, ...]:
    was, now = _value(entry.old), _value(entry.new)
    if entry.added is not None and to_terminal():
        was, now = f"- {_value(entry.removed)}", f"+ {_value(entry.added)}"
    sender = f"{entry.endpoint} {entry.sdk}".strip()
    name = entry.property or f"({entry.whole})"
    return time_text(entry.time_ms), printable(name), entry.operator, was, now, printable(sender)


def _value(value: Any) -> str:
    from msgspec import UNSET

    if value is UNSET:
        return ""
    text = printable(value) if isinstance(value, str) else json_text(value)
    return shortened(text, _CELL_CHARS) if to_terminal() else text


@click.command()
@click.argument("profile_id", metavar="ID")
@project_flag()
@_GROUP_KEY
@click.option(
    "--to", "time", required=True, metavar="TIME", help="When it was right: 2026-01-31T12:00:00, UTC."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@ignore_alias_flag
@json_flag
@data_dir_flag
def undo(
    *,
    profile_id: str,
    project_ref: str,
    group_key: str,
    time: str,
    yes: bool,
    ignore_alias: bool,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Put a profile back as it stood at a time, by one more update.

    Shows what it will send, and asks. What came after stays in the history, and can be had back in the same
    way. With --json prints the record: {"sent": …}, null where nothing was to be done.

    \b
    Example:
      mixdown profiles undo alice --project shop --to 2026-01-31T12:00:00
    """
    from mixdown.query.history import read_time
    from mixdown.query.undoing import undoing

    time_ms = read_time(time, "--to")
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        ids = clean_text(group_key), clean_text(profile_id)
        key = profile_key(store, project, *ids, ignore_alias=ignore_alias)
        operators = undoing(store.state, key, time_ms, "--to")
        if operators:
            if not as_json:
                print_rows(
                    ("operator", "payload"), [(name, _value(what)) for name, what in operators.items()]
                )
            confirm(f"Send this to {_what(key)} of project {project.id}, {printable(project.name)}?", yes=yes)
            _send(settings, store, project, key, operators)
            settle_and_tell(settings, store)
    if as_json:
        emit({"sent": operators or None})
    elif not operators:
        note(f"{_what(key)} stands as it stood then: nothing to do")
    else:
        note(f"put back {_what(key)}")


def _what(key: ProfileKey) -> str:
    return f"{printable(key[1]) or 'user'} {printable(key[2])}"


def _send(
    settings: Settings, store: Store, project: Project, key: ProfileKey, operators: dict[str, Any]
) -> None:
    """Append one record that does it all. Raises `Failure` where it is refused."""
    from mixdown.ingest.direct import append_raw
    from mixdown.ingest.pipeline import rules_of
    from mixdown.query.undoing import endpoint_for, record_for

    record = record_for(project.token, key, operators)
    outcome = append_raw(
        store, rules_of(settings), endpoint_for(key), [record], sdk="mixdown", keep_refusals=False
    )
    wake_fold(settings)
    if outcome.failed:
        raise Failure(f"{_what(key)} was not put back: {outcome.failed[0][2]}")
