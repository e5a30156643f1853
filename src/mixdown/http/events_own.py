"""Mixdown's own reads of events, `/api/mixdown/events…`: what the explorer shows, for anybody to ask.

Requests enter; JSON leaves, in the envelope `{"status": "ok", "results": ...}`, or CSV: the newest events,
how often each came, one by the values of a property, over time or of a span, and which properties there are.
Days are those of the project's time zone; without any, the last 30, today included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.events import (
    EVENTS_LIMIT,
    FORMATS,
    LIMIT_LIMIT,
    NAMES_LIMIT,
    VALUES_ANSWERED_LIMIT,
    Asked,
    asked_of,
    buckets_of,
    given_span,
    limit_of,
    one_of,
)
from mixdown.http.own import PREFIX
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import BEHIND_HEADER, begin_read, in_event_thread, json_response
from mixdown.http.services import Services
from mixdown.model.errors import QueryError
from mixdown.model.expression import parse
from mixdown.model.lookup import Tables
from mixdown.model.values import clean_text
from mixdown.query.contexts import context_of
from mixdown.query.events.activity import Page, place_of, place_text
from mixdown.query.events.breakdown import Breakdown, Line, as_csv, breakdown
from mixdown.query.events.buckets import (
    UNITS,
    Buckets,
    Span,
    days_before,
    following,
    local_of,
    moment_of,
    span_of_days,
    start_of,
    today,
)
from mixdown.query.events.columns import BEFORE, PERSON
from mixdown.query.events.described import DAY_MS, days_with
from mixdown.query.events.figures import KINDS
from mixdown.query.events.lines import ascii_lines
from mixdown.query.events.matching import matching_events, reads_persons
from mixdown.query.events.newest import NewestQuery, newest_page
from mixdown.query.events.properties import PROPERTIES_LIMIT, event_properties
from mixdown.query.events.volumes import SORTS, WINDOWS, Volumes, VolumesQuery, event_volumes, span_of_volumes
from mixdown.query.events.where import Selector
from mixdown.store.chunk import FOR_ALL, FOR_EVENTS
from mixdown.store.events import FIRST_MS, LAST_MS

NEWEST: Final = f"{PREFIX}/events"
VOLUMES: Final = f"{NEWEST}/volumes"
SERIES: Final = f"{NEWEST}/series"
VALUES: Final = f"{NEWEST}/values"
PROPERTIES: Final = f"{NEWEST}/properties"
DAYS: Final = 30
RECENT_LIMIT: Final = 2**53
DEFAULT_NEWEST: Final = 50
NEWEST_LIMIT: Final = 1000
DEFAULT_VOLUMES: Final = 100
DEFAULT_VALUES: Final = 10
SERIES_VALUES_LIMIT: Final = 100
SEARCH_LIMIT_CHARS: Final = 1000
SORT_ORDERS: Final = ("descending", "ascending")


class _Told(NamedTuple):
    """An answer's body, and what it is."""

    body: bytes
    media_type: str = "application/json"


_Question = Callable[[Asked, Tables], Callable[[], _Told]]
"""Checks what is asked, and gives what answers it, in a thread."""


def routes(services: Services) -> list[Route]:
    """The routes of this file."""
    questions: dict[str, tuple[_Question, int]] = {
        NEWEST: (_newest, FOR_ALL),
        VOLUMES: (_volumes, FOR_EVENTS),
        SERIES: (_series, FOR_ALL),
        VALUES: (_values, FOR_ALL),
        PROPERTIES: (_properties, FOR_EVENTS),
    }
    return [
        Route(path, answering(_endpoint(services, question, kinds)), methods=["GET"])
        for path, (question, kinds) in questions.items()
    ]


def _endpoint(
    services: Services, question: _Question, kinds: int
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        read = await begin_read(request, services, kinds=kinds)
        tables = services.store.lookup_tables.tables(read.project.id)
        told = await in_event_thread(services, question(asked_of(services, read), tables))
        if told.media_type == "application/json":
            return json_response(told.body, behind=read.behind)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        if read.behind:
            headers[BEHIND_HEADER] = str(read.behind)
        return Response(told.body, headers=headers, media_type=told.media_type)

    return answer


def _ok(results: Any) -> _Told:
    return _Told(orjson.dumps({"status": "ok", "results": results}))


# --- what may be asked


def _newest(asked: Asked, tables: Tables) -> Callable[[], _Told]:
    parameters = asked.parameters
    before = parameters.text("before")
    place = place_of(before, "before") if before else None
    span = given_span(asked) or Span(FIRST_MS, LAST_MS)
    limit = parameters.integer("limit", DEFAULT_NEWEST, low=1, high=NEWEST_LIMIT)

    def find() -> _Told:
        query = NewestQuery(
            project=asked.project,
            span=span,
            selector=_selector(parameters, tables),
            before=place,
            limit=limit,
        )
        return _page(newest_page(asked.reads, query, now_ms=asked.now_ms))

    return find


def _volumes(asked: Asked, tables: Tables) -> Callable[[], _Told]:
    del tables
    parameters = asked.parameters
    search = clean_text(parameters.text("search"))
    if len(search) > SEARCH_LIMIT_CHARS:
        raise QueryError(f"search, must be a text of at most {SEARCH_LIMIT_CHARS} characters", status=400)
    sort = one_of(parameters, "sort", SORTS)
    order = one_of(parameters, "sort_order", SORT_ORDERS, SORT_ORDERS[sort == "name"])
    span = _span(asked)
    query = VolumesQuery(
        first=local_of(span.since_ms, asked.zone).date(),
        last=local_of(span.until_ms - 1, asked.zone).date(),
        today=today(asked.now_ms, asked.zone),
        now_ms=asked.now_ms,
        zone=asked.zone,
        search=search,
        sort=sort,
        descending=order == SORT_ORDERS[0],
        limit=limit_of(parameters, DEFAULT_VOLUMES, NAMES_LIMIT),
        offset=parameters.integer("offset", 0, low=0, high=LIMIT_LIMIT),
    )

    def find() -> _Told:
        with asked.reads.open(asked.project, span_of_volumes(query), persons=False) as table:
            return _ok(_volumes_answer(event_volumes(table, query), asked))

    return find


def _series(asked: Asked, tables: Tables) -> Callable[[], _Told]:
    parameters = asked.parameters
    kind = one_of(parameters, "type", KINDS)
    form = one_of(parameters, "format", FORMATS)
    limit = limit_of(parameters, DEFAULT_VALUES, SERIES_VALUES_LIMIT)
    buckets = _buckets(asked)
    keys, times = buckets.keys(), buckets.times()
    by = clean_text(parameters.text("by"))

    def find() -> _Told:
        found = _broken_down(asked, tables, by, kind, limit=limit, span=buckets.span, buckets=buckets)
        if form == "csv":
            names = parameters.strings("event", limit=EVENTS_LIMIT) or ()
            name = names[0] if len(names) == 1 else ""
            return _Told(as_csv(keys, found, name).encode(), "text/csv; charset=utf-8")
        told = {"unit": buckets.unit, "type": kind, "timezone": str(asked.zone), "by": by or None}
        return _ok(told | {"series": keys, "times": times} | _lines(found, figures=True))

    return find


def _values(asked: Asked, tables: Tables) -> Callable[[], _Told]:
    parameters = asked.parameters
    kind = one_of(parameters, "type", KINDS)
    limit = limit_of(parameters, DEFAULT_VALUES, VALUES_ANSWERED_LIMIT)
    by = clean_text(parameters.text("by"))
    if not by:
        raise QueryError("by, missing: name the property", status=400)
    span = _span(asked)

    def find() -> _Told:
        found = _broken_down(asked, tables, by, kind, limit=limit, span=span, buckets=None)
        return _ok({"type": kind, "by": by} | _lines(found, figures=False))

    return find


def _properties(asked: Asked, tables: Tables) -> Callable[[], _Told]:
    del tables
    events = asked.parameters.strings("event", limit=1)
    event = events[0] if events else None
    limit = limit_of(asked.parameters, PROPERTIES_LIMIT, PROPERTIES_LIMIT)
    recent = asked.parameters.integer("recent", 0, low=0, high=RECENT_LIMIT)
    span = _span(asked)

    def find() -> _Told:
        looked = span
        if recent:
            with asked.reads.open(asked.project, span, persons=False) as table:
                days = days_with(table, event, span, recent)
            looked = Span(max(span.since_ms, span.until_ms - days * DAY_MS), span.until_ms)
        with asked.reads.open(asked.project, looked, persons=False) as table:
            found = msgspec.to_builtins(event_properties(table, event, looked, limit))
        return _ok(found | {"since": looked.since_ms // 1000})

    return find


def _broken_down(
    asked: Asked, tables: Tables, by: str, kind: str, *, limit: int, span: Span, buckets: Buckets | None
) -> Breakdown:
    """The events that the parameters choose, by a property. Blocks. Raises `QueryError` (400)."""
    selector = _selector(asked.parameters, tables)
    persons = kind != "general" or by in (*PERSON, BEFORE) or reads_persons(selector)
    reads = asked.reads
    with reads.open(asked.project, span, persons=persons) as table:
        context = context_of(reads.store, asked.project, now_ms=asked.now_ms)
        events = matching_events(
            table, selector, span, state=reads.state, project=asked.project, context=context
        )
        return breakdown(table, events, by, kind, limit=limit, buckets=buckets)


# --- parameters


def _selector(parameters: Parameters, tables: Tables) -> Selector:
    """The names of events, and the filter. Blocks. Raises `QueryError` (400)."""
    names = parameters.strings("event", limit=EVENTS_LIMIT)
    return Selector(parse(parameters.text("where"), tables), names or None)


def _span(asked: Asked) -> Span:
    """The days that were given, or the last 30."""
    given = given_span(asked)
    if given is not None:
        return given
    day = today(asked.now_ms, asked.zone)
    return span_of_days(days_before(day, DAYS - 1), day, asked.zone)


def _buckets(asked: Asked) -> Buckets:
    """What a series is cut into: no further than the current unit."""
    if asked.parameters.given("interval"):
        return buckets_of(asked)
    unit = one_of(asked.parameters, "unit", UNITS, "day")
    span = _span(asked)
    current = start_of(unit, local_of(asked.now_ms, asked.zone))
    end_ms = moment_of(following(unit, current), asked.zone)
    return Buckets(unit, Span(span.since_ms, min(span.until_ms, end_ms)), asked.zone)


# --- answers


def _page(page: Page) -> _Told:
    following = None if page.following is None else place_text(page.following)
    lines = ascii_lines(page.lines).rstrip(b"\n").replace(b"\n", b",")
    return _Told(b'{"status":"ok","results":[%b],"next":%b}' % (lines, orjson.dumps(following)))


def _lines(found: Breakdown, *, figures: bool) -> dict[str, Any]:
    def told(line: Line) -> dict[str, Any]:
        own: dict[str, Any] = {"total": line.total, "count": line.count}
        return {"figures": line.figures} | own if figures else own

    other = None if found.other is None else told(found.other) | {"values": found.other.values}
    return {
        "whole": told(found.whole),
        "values": [{"value": line.value, "kind": line.kind} | told(line) for line in found.lines],
        "other": other,
    }


def _volumes_answer(found: Volumes, asked: Asked) -> dict[str, Any]:
    return {
        "timezone": str(asked.zone),
        "series": found.keys,
        "times": found.times,
        "names": found.names,
        "total": found.total,
        "figures": found.figures,
        "events": [
            {
                "event": volume.event,
                "total": volume.total,
                "last_ms": volume.last_ms,
                "figures": volume.figures,
                **{
                    name: dict(zip(("count", "before"), volume.windows[name], strict=True))
                    for name in WINDOWS
                },
            }
            for volume in found.volumes
        ],
    }
