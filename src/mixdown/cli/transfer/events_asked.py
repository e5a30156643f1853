"""Which events a command is about: the flags that say it, and the question that they make.

Enters: flags. Leaves: an `ExportQuery` over whole days in UTC, both ends included.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from mixdown.cli.flags import project_flag

if TYPE_CHECKING:
    from mixdown.query.events.export import ExportQuery
    from mixdown.store.protocols import Store

F = TypeVar("F", bound=Callable[..., Any])


class EventsAsked(msgspec.Struct, frozen=True):
    """The flags; days as `YYYY-MM-DD`, None for no bound; `events` are names, () for all."""

    project_ref: str
    since: str | None = None
    until: str | None = None
    events: tuple[str, ...] = ()
    where: str = ""

    def check(self) -> None:
        """What can be judged without a store. Raises `UsageError`, `ExpressionError`."""
        from mixdown.model.expression import parse

        parse(self.where, lenient=True)  # lookup tables are known once the folder is open
        first, last = self.days()
        if first > last:
            raise click.UsageError("--from is a later day than --to.")

    def days(self) -> tuple[dt.date, dt.date]:
        """The first and the last day. Raises `UsageError`."""
        from mixdown.query.events.buckets import EARLIEST, LATEST

        first = EARLIEST if self.since is None else _day(self.since, "--from")
        return first, LATEST if self.until is None else _day(self.until, "--to")

    def query(self, store: Store, project: int) -> ExportQuery:
        """The question. Raises `ExpressionError`."""
        from mixdown.model.expression import parse
        from mixdown.query.events.buckets import span_of_days
        from mixdown.query.events.export import ExportQuery
        from mixdown.query.events.where import Selector

        where = parse(self.where, store.lookup_tables.tables(project))
        selector = Selector(where, self.events or None)
        span = span_of_days(*self.days())
        return ExportQuery(project=project, span=span, selectors=(selector,), time_in_ms=True)


def _day(text: str, flag: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{flag} is a day such as 2026-01-31, not {text}.") from None


Matches = Callable[[Any, int | None, dict[str, Any]], bool]
"""Whether an event is wanted: its name, its time in ms, and what else it was sent with."""


def matcher(store: Store, query: ExportQuery) -> Matches:
    """A function that judges events as they are sent, by the names and the expression of a question.

    Raises `UsageError` where the expression asks for more than an event's own properties.
    """
    from mixdown.model.expression import UNDEFINED
    from mixdown.query.contexts import context_of

    (selector,) = query.selectors
    names = None if selector.events is None else frozenset(selector.events)
    expression = selector.where
    if any(slot.accessor not in {"properties", "event"} for slot in expression.slots):
        raise click.UsageError("--where can ask here for the properties of events alone.")
    context = context_of(store, query.project, now_ms=time.time_ns() // 1_000_000)
    matches = None if expression.is_blank else expression.predicate(context)

    def wanted(name: Any, time_ms: int | None, properties: dict[str, Any]) -> bool:
        if names is not None and name not in names:
            return False
        if matches is None:
            return True
        known = _known(name, time_ms, properties)
        return matches(tuple(known.get(slot.name, UNDEFINED) for slot in expression.slots))

    return wanted


def _known(name: Any, time_ms: int | None, properties: dict[str, Any]) -> dict[str, Any]:
    """The properties of an event as expressions know them (contract query §3.3)."""
    seconds = {} if time_ms is None else {"time": time_ms // 1000, "$time": time_ms // 1000}
    known = {**properties, "$event_name": name, **seconds}
    if "distinct_id" in properties:
        known["$distinct_id"] = properties["distinct_id"]
    return known


def events_flags(*, dates: bool = True) -> Callable[[F], F]:
    """Give a command the flags of `EventsAsked`; `dates` those of days as well."""

    def decorate(command: F) -> F:
        options = [project_flag()]
        if dates:
            options += [
                click.option(
                    "--from", "since", metavar="DAY", help="The first day, such as 2026-01-01, in UTC."
                ),
                click.option("--to", "until", metavar="DAY", help="The last day, that day included."),
            ]
        options += [
            click.option(
                "--event",
                "events",
                multiple=True,
                metavar="NAME",
                help="Only events of this name; repeatable.",
            ),
            click.option(
                "--where",
                default="",
                metavar="EXPRESSION",
                help="""Only events that match, such as 'properties["plan"] == "pro"'.""",
            ),
        ]
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
