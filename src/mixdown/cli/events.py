"""`mixdown events …`: what happened, out of the data folder and into it.

A read sees every event that was acknowledged before it; an import goes the way of every record but HTTP.
"""

from __future__ import annotations

import time
from typing import Any, Final

import click

from mixdown.cli.flags import data_dir_flag, json_flag
from mixdown.cli.folder import find_project, opened, settle_and_tell
from mixdown.cli.output import emit, print_rows, printable
from mixdown.cli.transfer.events_asked import EventsAsked, events_flags
from mixdown.cli.transfer.events_exporting import MEMORY_LIMIT_BYTES, export
from mixdown.cli.transfer.events_importing import import_

_TOTAL: Final = "total"


@click.group()
def events() -> None:
    """Export, import, count and watch events."""


events.add_command(export)
events.add_command(import_)


@events.command()
@events_flags()
@click.option(
    "--by",
    type=click.Choice(("event", "day")),
    multiple=True,
    help="Count each event, each day (UTC) or, given twice, each event on each day.",
)
@json_flag
@data_dir_flag
def count(*, by: tuple[str, ...], as_json: bool, data_dir: str | None, **flags: Any) -> None:
    """Count events.

    Each is counted once, however often it was sent. With --json a list of objects with `count`, and `event`
    or `day` where --by names them.

    \b
    Examples:
      mixdown events count --project shop
      mixdown events count --project shop --by event --from 2026-01-01 --to 2026-01-31
      mixdown events count --project shop --by day --event Purchase --json
    """
    from mixdown.query.events.counting import count_events
    from mixdown.query.events.reader import EventReads

    asked = EventsAsked(**flags)
    asked.check()
    by = tuple(dict.fromkeys(by))
    with opened(data_dir) as (settings, store):
        project = find_project(store, asked.project_ref)
        query = asked.query(store, project.id)
        settle_and_tell(settings, store)
        reads = EventReads(store, memory_limit_bytes=MEMORY_LIMIT_BYTES)
        try:
            found = count_events(reads, query, by, now_ms=time.time_ns() // 1_000_000)
        finally:
            reads.close()
    if not by and not found:
        found = [((), 0)]
    if as_json:
        emit([{**dict(zip(by, key, strict=True)), "count": number} for key, number in found])
        return
    rows = [(*map(printable, key), f"{number:,}") for key, number in found]
    if by and len(found) > 1:
        rows.append((_TOTAL, *[""] * (len(by) - 1), f"{sum(number for _, number in found):,}"))
    print_rows((*by, "count"), rows)


@events.command()
@events_flags(dates=False)
@json_flag
@data_dir_flag
def tail(*, as_json: bool, data_dir: str | None, **flags: Any) -> None:
    """Show events as they arrive.

    The last 10 come first; Ctrl-C ends it. Each line has the time of its arrival (UTC), the project, the
    event, the id that it was sent with and its properties. With --json one object a line.

    \b
    Examples:
      mixdown events tail --project shop
      mixdown events tail --project shop --event Purchase --where 'properties["price"] > 100'
      mixdown events tail --project shop --json | jq -r .distinct_id
    """
    from mixdown.cli.tail import EVENTS, Follower, follow
    from mixdown.cli.transfer.events_asked import matcher

    asked = EventsAsked(**flags)
    asked.check()
    with opened(data_dir) as (_, store):
        project = find_project(store, asked.project_ref)
        matches = matcher(store, asked.query(store, project.id))
        follow(Follower(store, [project.id], kinds=frozenset({EVENTS}), matches=matches, as_json=as_json))
