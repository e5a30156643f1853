"""`mixdown refusals …`: records that were not stored, why, and sending them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from mixdown.cli.flags import data_dir_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened, wake_fold
from mixdown.cli.output import Failure, emit, note, print_rows, printable, shortened, time_text, to_terminal

if TYPE_CHECKING:
    from mixdown.store.protocols import RefusedRecord, Store

PAGE: Final = 500
SHOWN_CHARS: Final = 120


@click.group()
def refusals() -> None:
    """List the records that were not stored, and send them again.

    Every refused record is kept with the reason: up to 10,000 a project.
    """


@refusals.command("list")
@project_flag(required=False)
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="At most so many."
)
@json_flag
@data_dir_flag
def list_refusals(*, project_ref: str | None, limit: int, as_json: bool, data_dir: str | None) -> None:
    """List refusals, the newest first.

    With --json as `/api/mixdown/refusals` shows them; `record` is the text that arrived.

    Records whose token no project has belong to project 0: `--project 0`.
    """
    with opened(data_dir) as (_, store):
        found = _newest(store, chosen_projects(store, project_ref), limit)
    if as_json:
        from mixdown.http.own import refusal_view

        emit([refusal_view(refusal) for refusal in found])
        return
    cut = SHOWN_CHARS if to_terminal() else None
    print_rows(
        ("id", "time", "project", "endpoint", "message", "record"),
        [
            (
                each.id,
                time_text(each.time_ms),
                each.project,
                each.endpoint,
                each.message,
                shortened(each.record, cut) if cut else each.record,
            )
            for each in found
        ],
    )


def chosen_projects(store: Store, ref: str | None) -> list[int] | None:
    """The projects that `--project` stands for: None for all, 0 for records with an unknown token."""
    if ref is None:
        return None
    return [0] if ref in ("0", "none") else [find_project(store, ref).id]


def _newest(store: Store, projects: list[int] | None, limit: int) -> list[RefusedRecord]:
    found: list[RefusedRecord] = []
    before: int | None = None
    while len(found) < limit:
        page = store.refusals.listing(projects, before_id=before, limit=min(PAGE, limit - len(found)))
        if not page:
            break
        found += page
        before = page[-1].id
    return found


@refusals.command()
@click.argument("ids", nargs=-1, type=click.IntRange(1), metavar="ID…")
@click.option("--record", "record_text", metavar="JSON", help="Send this record instead (one ID).")
@click.option("--set-token", metavar="T", help="Put this token into every record.")
@click.option("--all", "everything", is_flag=True, help="All refusals of the project that --project names.")
@project_flag(required=False)
@json_flag
@data_dir_flag
def resend(
    *,
    ids: tuple[int, ...],
    record_text: str | None,
    set_token: str | None,
    everything: bool,
    project_ref: str | None,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Send refused records again, mended or as they are.

    Those that are good now are stored and leave the refusals; the others stay, and the reason is printed.
    Exit code 1 when any stays. With --json: {"stored": [ID…], "refused": [{"id", "message"}…]}.

    \b
    Examples:
      mixdown refusals resend 12 13
      mixdown refusals resend 12 --record '{"$token": "T", "$distinct_id": "u1", "$set": {"a": 1}}'
      mixdown refusals resend --all --project 0 --set-token T
    """
    _check_usage(ids, record_text, set_token, everything=everything, project_ref=project_ref)
    record = _parsed(record_text)
    from mixdown.ingest.direct import resend as send_again
    from mixdown.ingest.pipeline import rules_of

    with opened(data_dir) as (settings, store):
        if everything:
            chosen = [each.id for each in _newest(store, chosen_projects(store, project_ref), 2**31)]
        else:
            chosen = list(dict.fromkeys(ids))
            _check_known(store, chosen)
        answers = send_again(store, rules_of(settings), chosen, record=record, token=set_token or "")
        wake_fold(settings)
    stored = [refusal_id for refusal_id, message in answers if not message]
    refused = [(refusal_id, message) for refusal_id, message in answers if message]
    if as_json:
        emit({"stored": stored, "refused": [{"id": each, "message": message} for each, message in refused]})
    else:
        note(f"stored {len(stored)} of {len(answers)}")
        for refusal_id, message in refused:
            note(f"  {refusal_id} stays: {printable(message)}")
    if refused:
        raise Failure(
            f"{len(refused)} still refused",
            hint="Mend one with --record JSON, or give all a token with --set-token T.",
        )


def _check_usage(
    ids: tuple[int, ...],
    record_text: str | None,
    set_token: str | None,
    *,
    everything: bool,
    project_ref: str | None,
) -> None:
    if everything == bool(ids):
        raise click.UsageError("Name the refusals by their ids, or give --all --project P.")
    if everything and project_ref is None:
        raise click.UsageError(
            "--all needs --project P; `--project 0` stands for records with an unknown token."
        )
    if ids and project_ref is not None:
        raise click.UsageError("--project goes with --all; an ID alone says which refusal is meant.")
    if record_text is not None and (len(ids) != 1 or set_token is not None):
        raise click.UsageError("--record replaces one refused record: give one ID, and no --set-token.")


def _parsed(record_text: str | None) -> dict[str, Any] | None:
    if record_text is None:
        return None
    from mixdown.ingest.direct import parse_kept

    record = parse_kept(record_text)
    if not isinstance(record, dict):
        raise click.UsageError("--record is no JSON object.")
    return record


def _check_known(store: Store, ids: list[int]) -> None:
    known = {refusal.id for refusal in store.refusals.by_ids(ids)}
    unknown = [str(each) for each in ids if each not in known]
    if unknown:
        raise Failure(
            f"there is no refusal {', '.join(unknown)}",
            hint="`mixdown refusals list` shows those that are kept.",
        )
