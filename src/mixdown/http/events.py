"""Figures and names of events: `events`, `events/names`, `events/top`, `events/properties` and below.

Requests enter; series and lists leave, in Mixpanel's shapes (contract query §5.1), made by `query.events`.
Days are those of the project's time zone. Parameters are checked before anything is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import tzinfo
from typing import Any, Final, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.date_ranges import date_range
from mixdown.http.parameters import Parameters
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.http.read_errors import answering
from mixdown.http.reading import BEHIND_HEADER, Read, begin_read, in_report_thread, json_response
from mixdown.http.services import Services
from mixdown.model.errors import QueryError
from mixdown.model.values import clean_text
from mixdown.query.events import names
from mixdown.query.events.buckets import (
    BUCKETS_LIMIT,
    UNITS,
    Buckets,
    Span,
    days_before,
    span_of_days,
    span_of_interval,
    today,
)
from mixdown.query.events.figures import KINDS, Series, event_series, value_series
from mixdown.query.events.reader import EventReads
from mixdown.store.chunk import FOR_ALL, FOR_EVENTS
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.zones import zone_of

EVENTS_LIMIT: Final = 2000
VALUES_LIMIT: Final = 2000
NAMES_LIMIT: Final = 5000
PROPERTIES_LIMIT: Final = 2000
VALUES_ANSWERED_LIMIT: Final = 10_000
LIMIT_LIMIT: Final = 2**53
DEFAULT_NAMES: Final = 255
DEFAULT_TOP: Final = 100
DEFAULT_VALUES: Final = 255
RECENT_DAYS: Final = 31
FORMATS: Final = ("json", "csv")
NO_RANGE: Final = "from_date, missing: give from_date and to_date as YYYY-MM-DD, or interval"
_EVER: Final = Span(FIRST_MS, LAST_MS)


class Asked(NamedTuple):
    """A question about a project's events, and where these are opened."""

    project: int
    zone: tzinfo
    parameters: Parameters
    now_ms: int
    reads: EventReads


def asked_of(services: Services, read: Read) -> Asked:
    """What a read asks about: a project's events, with the parameters that it came with."""
    zone = zone_of(read.project.timezone)
    return Asked(read.project.id, zone, read.parameters, services.now_ms(), services.event_reads)


_Question = Callable[[Asked], Callable[[], Any]]
"""Checks what is asked, and gives what answers it, in a thread."""


def routes(services: Services) -> list[Route]:
    """The routes of this file, each with and without a slash at its end."""
    questions: dict[str, tuple[_Question, int]] = {
        "events": (_events, FOR_ALL),
        "events/names": (_names, FOR_ALL),
        "events/top": (_top, FOR_ALL),
        "events/properties": (_properties, FOR_ALL),
        "events/properties/top": (_top_properties, FOR_EVENTS),
        "events/properties/values": (_values, FOR_ALL),
    }
    return [
        Route(f"{prefix}/{name}{slash}", answering(_endpoint(services, question, kinds)), methods=["GET"])
        for name, (question, kinds) in questions.items()
        for prefix in QUERY_PREFIXES
        for slash in ("", "/")
    ]


def _endpoint(
    services: Services, question: _Question, kinds: int
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        read = await begin_read(request, services, kinds=kinds)
        form = one_of(read.parameters, "format", FORMATS)
        find = question(asked_of(services, read))
        found = await in_report_thread(request, services, find)
        return figures_response(found, form, behind=read.behind)

    return answer


def figures_response(found: Any, form: str, *, behind: int) -> Response:
    """The answer to a question: a `Series` as `form` says, "json" or "csv", and all else as JSON."""
    if not isinstance(found, Series):
        return json_response(orjson.dumps(found), behind=behind)
    if form == "json":
        return json_response(orjson.dumps(found.answer()), behind=behind)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if behind:
        headers[BEHIND_HEADER] = str(behind)
    return Response(found.csv(), headers=headers, media_type="text/csv")


# --- what may be asked


def _events(asked: Asked) -> Callable[[], Any]:
    wanted = asked.parameters.strings("event", limit=EVENTS_LIMIT)
    if not wanted:
        raise QueryError("event, missing: name the events, as a JSON list", status=400)
    kind = one_of(asked.parameters, "type", KINDS)
    buckets = buckets_of(asked)

    def find() -> Series:
        buckets.refuse_too_many()
        with asked.reads.open(asked.project, buckets.span, persons=kind != "general") as table:
            return event_series(table, wanted, kind, buckets)

    return find


def _properties(asked: Asked) -> Callable[[], Any]:
    parameters = asked.parameters
    event, name = _text(parameters, "event", "the event"), _text(parameters, "name", "the property")
    values = parameters.strings("values", limit=VALUES_LIMIT)
    limit = limit_of(parameters, VALUES_LIMIT if values else DEFAULT_VALUES, VALUES_ANSWERED_LIMIT)
    kind = one_of(parameters, "type", KINDS)
    buckets = buckets_of(asked)

    def find() -> Series:
        buckets.refuse_too_many()
        with asked.reads.open(asked.project, buckets.span) as table:
            return value_series(table, event, name, kind, buckets, values=values or None, limit=limit)

    return find


def _names(asked: Asked) -> Callable[[], Any]:
    kind = one_of(asked.parameters, "type", KINDS)
    limit = limit_of(asked.parameters, DEFAULT_NAMES, NAMES_LIMIT)
    span = given_span(asked) or last_days(asked.now_ms, asked.zone)

    def find() -> list[str]:
        with asked.reads.open(asked.project, span, persons=kind != "general") as table:
            return names.event_names(table, kind, span, limit)

    return find


def _top(asked: Asked) -> Callable[[], Any]:
    kind = one_of(asked.parameters, "type", KINDS)
    limit = limit_of(asked.parameters, DEFAULT_TOP, NAMES_LIMIT)
    day = today(asked.now_ms, asked.zone)
    day_before = days_before(day, 1)
    now = span_of_days(day, day, asked.zone)
    before = span_of_days(day_before, day_before, asked.zone)

    def find() -> dict[str, Any]:
        both = Span(before.since_ms, now.until_ms)
        with asked.reads.open(asked.project, both, persons=kind != "general") as table:
            return names.top_events(table, kind, now, before, limit)

    return find


def _top_properties(asked: Asked) -> Callable[[], Any]:
    event = clean_text(asked.parameters.text("event")) or None
    limit = limit_of(asked.parameters, PROPERTIES_LIMIT, PROPERTIES_LIMIT)
    given = given_span(asked)

    def find() -> dict[str, Any]:
        span = given or _last_days_of(asked, event)
        if span is None:
            return {}
        with asked.reads.open(asked.project, span, persons=False) as table:
            return names.top_properties(table, event, span, limit)

    return find


def _values(asked: Asked) -> Callable[[], Any]:
    name = _text(asked.parameters, "name", "the property")
    event = clean_text(asked.parameters.text("event")) or None
    limit = limit_of(asked.parameters, DEFAULT_VALUES, VALUES_ANSWERED_LIMIT)
    given = given_span(asked)

    def find() -> list[str]:
        span = given or _last_days_of(asked, event)
        if span is None:
            return []
        with asked.reads.open(asked.project, span) as table:
            return names.top_values(table, event, name, span, limit)

    return find


# --- parameters


def one_of(parameters: Parameters, name: str, known: tuple[str, ...], default: str = "") -> str:
    """A parameter that is one of some words; the first of them, or `default`, where it is absent."""
    text = parameters.text(name).strip() or default or known[0]
    if text not in known:
        raise QueryError(f"{name}, must be one of {', '.join(known)}", status=400)
    return text


def _text(parameters: Parameters, name: str, what: str) -> str:
    text = clean_text(parameters.text(name))
    if not text:
        raise QueryError(f"{name}, missing: name {what}", status=400)
    return text


def limit_of(parameters: Parameters, default: int, most: int) -> int:
    """`limit`; one that is larger than the most that is answered means that."""
    return min(parameters.integer("limit", default, low=1, high=LIMIT_LIMIT), most)


def given_span(asked: Asked) -> Span | None:
    """The days from `from_date` to `to_date`; None where neither was given."""
    days = date_range(asked.parameters)
    if days.first is None and days.last is None:
        return None
    last = days.last or today(asked.now_ms, asked.zone)
    return span_of_days(days.first or days_before(last, RECENT_DAYS - 1), last, asked.zone)


def buckets_of(asked: Asked) -> Buckets:
    """The buckets of a series: the days from `from_date` to `to_date`, or the last `interval` units."""
    unit = one_of(asked.parameters, "unit", UNITS, "day")
    interval = asked.parameters.integer("interval", 0, low=1, high=BUCKETS_LIMIT)
    days = date_range(asked.parameters)
    if days.first is not None:
        last = days.last or today(asked.now_ms, asked.zone)
        return Buckets(unit, span_of_days(days.first, last, asked.zone), asked.zone)
    if not interval:
        raise QueryError(NO_RANGE, status=400)
    until_ms = asked.now_ms
    if days.last is not None:
        until_ms = span_of_days(days.last, days.last, asked.zone).until_ms - 1
    return Buckets(unit, span_of_interval(unit, interval, until_ms, asked.zone), asked.zone)


def last_days(now_ms: int, zone: tzinfo) -> Span:
    """The last 31 days, today included."""
    day = today(now_ms, zone)
    return span_of_days(days_before(day, RECENT_DAYS - 1), day, zone)


def _last_days_of(asked: Asked, event: str | None) -> Span | None:
    """The 31 days that end with the newest event; None where there is none. So old data shows as well."""
    with asked.reads.open(asked.project, _EVER, persons=False) as table:
        newest_ms = names.newest_ms(table, event)
    return None if newest_ms is None else last_days(newest_ms, asked.zone)
