"""`mixdown events import`: rows of a file, a pipe or a Mixpanel project into the log, each an event."""

from __future__ import annotations

import contextlib
import datetime as dt
import tempfile
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import orjson

from mixdown.cli.flags import settings_from, source_of
from mixdown.cli.folder import find_project
from mixdown.cli.output import note, printable
from mixdown.cli.transfer.asking import authorization
from mixdown.cli.transfer.events_asked import EventsAsked, events_flags, matcher
from mixdown.cli.transfer.import_run import (
    LEFT_OUT,
    Choose,
    Input,
    Plan,
    Progress,
    address,
    credentials,
    file_source,
    input_flags,
    run_import,
)
from mixdown.model.events import IDENTITY_EVENTS
from mixdown.query.files.shapes import EventReader
from mixdown.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from mixdown.cli.transfer.mixpanel_events import MixpanelEvents
    from mixdown.ingest.event_rows import EventImport
    from mixdown.ingest.placing import Placing
    from mixdown.ingest.rows import Judged
    from mixdown.query.events.export import ExportQuery
    from mixdown.store.chunk import Outcome
    from mixdown.store.protocols import Append, Project, Store


@click.command("import")
@events_flags()
@input_flags
def import_(
    *,
    project_ref: str,
    since: str | None,
    until: str | None,
    events: tuple[str, ...],
    where: str,
    **flags: Any,
) -> None:
    """Read events from FILE, or from a Mixpanel project, into a project.

    FILE is .ndjson, .csv or .parquet, the first two also with .gz or .zst behind; `-` is standard input. A
    line is {"event": …, "properties": {"time": …, "distinct_id": …, "$insert_id": …, …}}; a table has
    columns of these names and one for each property. Times are seconds or milliseconds since 1970, in tables
    also 2026-01-31T12:00:00 (UTC). A row without `$insert_id` gets one made of all that is in it.

    An import that was interrupted goes on when the same command is run again: an event that is there already
    is never stored twice. Exit code 1 when a row was refused.

    From Mixpanel, day by day from --from on: MIXPANEL_ACCOUNT (`user:secret` of a service account) or
    MIXPANEL_SECRET (the project's secret) says who reads; without either, a terminal asks. Profiles come by
    `mixdown profiles import`.

    \b
    Examples:
      mixdown events import events.ndjson.gz --project shop --refused refused.ndjson
      mixdown events export --project 1 | mixdown events import - --project copy
      mixdown events import --from-mixpanel 1234567 --region eu --from 2025-01-01 --project shop
    """
    input_ = Input(**flags)
    asked = EventsAsked(project_ref, since, until, events, where)
    input_.check()
    asked.check()
    if input_.from_mixpanel is not None and since is None:
        raise click.UsageError("--from-mixpanel wants the first day: --from 2025-01-01.")
    run_import(input_, partial(_plan, asked, input_))


def _plan(
    asked: EventsAsked, input_: Input, settings: Settings, store: Store, stack: contextlib.ExitStack
) -> Plan:
    from mixdown.ingest.placing import placing_of

    project = find_project(store, asked.project_ref)
    target = _Target(project, settings, placing_of(store))
    salt = repr((asked.since, asked.until, asked.events, asked.where))
    if input_.from_mixpanel is not None:
        remote = _mixpanel_source(asked, input_, settings, project, stack)
        return Plan(
            target=target, source=remote, progress=Progress(remote=remote), choose=identified, salt=salt
        )
    source, progress = file_source(input_, EventReader(), stack)
    choose = _choose(asked, store, asked.query(store, project.id))
    return Plan(target=target, source=source, progress=progress, choose=choose, salt=salt)


class _Target:
    """Where events go: `import_run.Target`."""

    def __init__(self, project: Project, settings: Settings, placing: Placing | None) -> None:
        from mixdown.ingest.event_rows import EventImport
        from mixdown.ingest.pipeline import rules_of

        rules = msgspec.structs.replace(rules_of(settings), placing=placing)
        limit = next(setting for setting in SETTINGS if setting.name == "string_limit_bytes")
        whole = source_of(limit, {}) == "default"
        kept = 0 if whole else settings_from({}).string_limit_bytes
        limits = msgspec.structs.replace(rules.limits, string_limit_bytes=kept)
        self._target: EventImport = EventImport(project, msgspec.structs.replace(rules, limits=limits))
        self.key = self._target.key

    def applied_before(self, store: Store, key: bytes) -> Outcome | None:
        from mixdown.ingest.event_rows import stored_before

        return stored_before(store, self._target.project.id, key)

    def judge(self, rows: list[Any], hostile: list[bool], key: bytes, *, keep_refusals: bool) -> Judged:
        return self._target.judge(rows, hostile=any(hostile), key=key, keep_refusals=keep_refusals)

    def append(self, store: Store, appends: Sequence[Append]) -> None:
        from mixdown.ingest.rows import append as append_rows

        append_rows(store, self._target.project.id, appends)


def identified(event: dict[str, Any]) -> dict[str, Any]:
    """The event with an insert id; where it has none, one that is the same for the same event."""
    properties = event["properties"]
    if type(properties) is not dict or event["event"] in IDENTITY_EVENTS or properties.get("$insert_id"):
        return event
    text = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
    made = blake2b(text, digest_size=16).hexdigest()
    return {**event, "properties": {**properties, "$insert_id": made}}


def _choose(asked: EventsAsked, store: Store, query: ExportQuery) -> Choose:
    """A function that gives an event of a file as it is imported, or `LEFT_OUT`."""
    from mixdown.model.events import milliseconds

    since_ms, until_ms = query.span
    bounded = asked.since is not None or asked.until is not None
    matches = matcher(store, query)

    def choose(event: dict[str, Any]) -> Any:
        properties = event["properties"]
        if type(properties) is not dict:
            return event
        ms = milliseconds(properties.get("time"))
        if bounded and ms is not None and not since_ms <= ms < until_ms:
            return LEFT_OUT
        return identified(event) if matches(event["event"], ms, properties) else LEFT_OUT

    return choose


def _mixpanel_source(
    asked: EventsAsked, input_: Input, settings: Settings, project: Project, stack: contextlib.ExitStack
) -> MixpanelEvents:
    from mixdown.cli.transfer import mixpanel, mixpanel_events

    account, secret = credentials()
    since, until = asked.days()
    question = mixpanel_events.Question(
        base_url=address(input_, mixpanel_events.REGIONS),
        project_id=str(input_.from_mixpanel) if account else "",
        since=since,
        until=min(until, dt.datetime.now(dt.UTC).date()) if asked.until else _today(),
        events=asked.events,
        where=asked.where,
    )
    place = mixpanel.place_file(settings.data_dir, project.id, "events", question)
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="mixdown-import-"))
    return mixpanel_events.MixpanelEvents(
        question,
        authorization(account, secret),
        place,
        Path(scratch),
        tell=lambda text: note(printable(text)),
    )


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
