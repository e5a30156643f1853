"""`mixdown report …`: what events say, asked and saved to be asked again.

Flags enter; figures leave, those that the API answers, as a table, as CSV or as JSON. A report runs in this
process, over the same events as the server's, in the memory and the time that a report of the server's has,
`event_read_memory_bytes` and `read_timeout_s`, or as much time as `--timeout` gives it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mixdown.cli.flags import data_dir_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened, reading_events, settle_and_tell
from mixdown.cli.output import Failure, emit, print_rows
from mixdown.cli.questions import KINDS, question_flags, question_of, without
from mixdown.cli.saved import DASHBOARD, delete_found, find, print_found, print_list, print_one
from mixdown.model.errors import CatalogError

if TYPE_CHECKING:
    from mixdown.query.events.reader import EventReads
    from mixdown.query.reports.tables import Table
    from mixdown.store.protocols import Project, Store
    from mixdown.store.reports import SavedReport


@click.group()
def report() -> None:
    """Ask what events say; make, list, show, change and delete saved reports."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@report.command()
@click.argument("name")
@project_flag()
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What kind of report it is.")
@question_flags
@click.option("--description", default="", help="A note for people.")
@json_flag
@data_dir_flag
def create(
    *,
    name: str,
    project_ref: str,
    kind: str,
    description: str,
    as_json: bool,
    data_dir: str | None,
    **flags: Any,
) -> None:
    """Save a report, and print it; `run` asks it.

    \b
    Examples:
      mixdown report create plans --project shop --kind segmentation --event "page view" \\
        --on plan --type unique --unit week
      mixdown report create back --project shop --kind retention --born-event "sign up" \\
        --event "page view" --unit week --interval-count 8 --days 90
      mixdown report create pay --project shop --kind funnels --step Cart --step Pay \\
        --step-where '2=properties["amount"] > 100' --length 1 --length-unit hour
    """
    from mixdown.http.saved_reports import asked_about, try_report
    from mixdown.query.reports.saved import new_report

    definition = question_of(flags)
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        now_ms = _now_ms()
        wanted = new_report(store, project.id, kind, name, definition, description=description, now_ms=now_ms)
        with reading_events(settings, store) as reads:
            try_report(asked_about(project, {}, reads, now_ms=now_ms), wanted)
        made = store.reports.create(wanted)
    print_one(made, as_json=as_json)


@report.command()
@click.argument("ref", metavar="[REPORT]", required=False)
@project_flag()
@click.option("--kind", type=click.Choice(KINDS), help="Without REPORT: what kind of report is asked.")
@click.option("--from", "from_date", metavar="DAY", help="The first day, as YYYY-MM-DD.")
@click.option("--to", "to_date", metavar="DAY", help="The last day, today without.")
@question_flags
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="End a question after so many seconds. [read_timeout_s]",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print comma separated values, for a spreadsheet.")
@json_flag
@data_dir_flag
def run(  # noqa: PLR0913 - each is a flag
    *,
    ref: str | None,
    project_ref: str,
    kind: str | None,
    from_date: str | None,
    to_date: str | None,
    timeout_s: float | None,
    as_csv: bool,
    as_json: bool,
    data_dir: str | None,
    **flags: Any,
) -> None:
    """Ask a report: a saved one, by id or name, or one that the flags describe.

    What the flags say goes before what was saved. A table has all figures of the answer; --json prints the
    answer as the API gives it at `/api/mixdown/reports/run`. In --csv no text is a formula.

    \b
    Examples:
      mixdown report run plans --project shop
      mixdown report run pay --project shop --from 2026-01-01 --to 2026-01-31 --csv > pay.csv
      mixdown report run --kind segmentation --project shop --event Purchase --on country --days 7
      mixdown report run --kind funnels --project shop --step Visit --step "Sign Up" --unit week --json
    """
    if (ref is None) == (kind is None):
        raise click.UsageError("Name a saved report, or give --kind.")
    if as_json and as_csv:
        raise click.UsageError("Choose --json or --csv.")
    question = question_of(flags)
    dates = {"from_date": from_date, "to_date": to_date}
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        saved = None if ref is None else _saved(store, project, ref)
        of_kind = kind or (saved.kind if saved is not None else "")
        _check(store, project, of_kind, question)
        settle_and_tell(settings, store)
        question |= {name: day for name, day in dates.items() if day is not None}
        with reading_events(settings, store) as reads, _within(timeout_s or settings.read_timeout_s):
            answer, table = _answered(project, of_kind, question, saved, reads)
    if as_json:
        emit(answer)
    elif as_csv:
        from mixdown.query.files.cells import safe_csv

        click.echo(safe_csv(*table), nl=False)
    else:
        print_rows(*table)


@contextmanager
def _within(timeout_s: float) -> Iterator[None]:
    """A question that ends after so many seconds. Raises `Failure`: it did, or takes too much memory."""
    from mixdown.http.reading import TOO_MUCH_MEMORY
    from mixdown.model.errors import ReadTimeoutError, TooMuchAtOnceError
    from mixdown.store import patience

    try:
        with patience.until(time.monotonic() + timeout_s, timeout_s):
            yield
    except ReadTimeoutError:
        raise Failure(
            f"this report took longer than {timeout_s:g} s",
            hint="Ask for fewer days, or for fewer events by a filter, or allow more with --timeout.",
        ) from None
    except TooMuchAtOnceError:
        raise Failure(TOO_MUCH_MEMORY) from None


def _saved(store: Store, project: Project, ref: str) -> SavedReport:
    found = find(store, project.id, "", ref)
    if found.kind == DASHBOARD:
        raise CatalogError(
            f"{found.name} is a dashboard: it holds reports, and no figures of its own",
            hint="`mixdown dashboard show` names its reports, `mixdown dashboard change` changes it.",
        )
    return found


def _check(store: Store, project: Project, kind: str, question: dict[str, Any]) -> None:
    """Raises `QueryError` where a flag is none of this kind's, or cannot be read."""
    from mixdown.query.reports.saved import FUNNELS, checked_definition

    needed = {"steps": [{"event": "any"}]} if kind == FUNNELS else {}
    checked_definition(store, project.id, kind, {**needed, **question})


def _answered(
    project: Project, kind: str, question: dict[str, Any], saved: SavedReport | None, reads: EventReads
) -> tuple[Any, Table]:
    """The answer as the API gives it, and as a table."""
    from mixdown.http.journeys import over_saved
    from mixdown.http.saved_reports import answer_of, asked_about
    from mixdown.query.events.figures import Series
    from mixdown.query.reports.tables import table_of

    asked = over_saved(asked_about(project, question, reads, now_ms=_now_ms()), saved)
    found = answer_of(kind, asked, reads.store.lookup_tables.tables(project.id))
    answer = found.answer() if isinstance(found, Series) else found
    named = {name: asked.parameters.text(name) for name in ("event", "unit", "interval", "addiction_unit")}
    return answer, table_of(kind, named, answer)


@report.command()
@click.argument("ref", metavar="REPORT")
@project_flag()
@click.option("--name", help="Another name.")
@question_flags
@click.option(
    "--drop",
    "dropped",
    multiple=True,
    metavar="FLAG",
    help="What it asks for no more, by the name of its flag: where, on, …",
)
@click.option("--description", help="Another note for people; '' for none.")
@json_flag
@data_dir_flag
def change(
    *,
    ref: str,
    project_ref: str,
    name: str | None,
    dropped: tuple[str, ...],
    description: str | None,
    as_json: bool,
    data_dir: str | None,
    **flags: Any,
) -> None:
    """Change what a saved report asks for, or its name; id and kind stay.

    What no flag names stays as it was. --step replaces all steps.

    \b
    Examples:
      mixdown report change plans --project shop --unit month --drop where
      mixdown report change 3 --project shop --name "Signups by plan" --on plan
    """
    from msgspec.structs import replace

    from mixdown.http.saved_reports import asked_about, try_report
    from mixdown.query.reports.saved import (
        checked_definition,
        checked_description,
        checked_name,
        definition_of,
    )

    question = question_of(flags)
    if not (question or dropped or name is not None or description is not None):
        raise click.UsageError("Give what is to change.")
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        held = _saved(store, project, ref)
        wanted = without(definition_of(held), dropped) | question
        definition = checked_definition(store, project.id, held.kind, wanted)
        now_ms = _now_ms()
        with reading_events(settings, store) as reads:
            about = asked_about(project, {}, reads, now_ms=now_ms)
            try_report(about, replace(held, definition=definition))
        made = store.reports.change(
            project.id,
            held.id,
            name=None if name is None else checked_name(name),
            description=None if description is None else checked_description(description),
            definition=definition,
            now_ms=now_ms,
        )
    print_one(made, as_json=as_json)


@report.command("list")
@project_flag()
@json_flag
@data_dir_flag
def list_reports(*, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """List a project's saved reports of all kinds."""
    print_list(project_ref, "", as_json=as_json, data_dir=data_dir)


@report.command()
@click.argument("ref", metavar="REPORT")
@project_flag()
@json_flag
@data_dir_flag
def show(*, ref: str, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Show a saved report, by its id or its name."""
    print_found(ref, project_ref, "", as_json=as_json, data_dir=data_dir)


@report.command()
@click.argument("ref", metavar="REPORT")
@project_flag()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@data_dir_flag
def delete(*, ref: str, project_ref: str, yes: bool, as_json: bool, data_dir: str | None) -> None:
    """Delete a saved report, by its id or its name; no event changes."""
    delete_found(ref, project_ref, "", yes=yes, as_json=as_json, data_dir=data_dir)
