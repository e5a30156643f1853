"""The raw export of events, and the constant scripts of JQL: answers that are sent while they are made.

Requests enter; lines of events leave (contract query §4), or the JSON list that one of mixpanel-utils' own
scripts gives (§5.1). Days of the export are UTC days, as in Mixpanel; those of a script are the project's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import tzinfo
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.date_ranges import date_range, refuse_days_to_come
from mixdown.http.parameters import Parameters
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.http.read_errors import answering
from mixdown.http.reading import begin_read, in_event_thread
from mixdown.http.services import Services
from mixdown.http.streaming import streamed
from mixdown.model.errors import QueryError
from mixdown.model.expression import parse
from mixdown.model.lookup import Tables
from mixdown.query.events import jql
from mixdown.query.events.buckets import Span, span_of_days
from mixdown.query.events.export import ExportQuery, export_lines, in_pieces
from mixdown.query.events.where import Selector
from mixdown.store.chunk import FOR_ALL
from mixdown.store.protocols import Project
from mixdown.store.zones import zone_of

EXPORT: Final = "export"
JQL: Final = "jql"
EXPORT_LIMIT: Final = 100_000
EVENTS_LIMIT: Final = 2000
PROPERTIES_LIMIT: Final = 2000
OFFSET_LIMIT_HOURS: Final = 24
LINES: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


def routes(services: Services) -> list[Route]:
    """The routes of this file, each with and without a slash at its end."""
    reads = services.event_reads

    async def export(request: Request) -> Response:
        read = await begin_read(request, services, kinds=FOR_ALL)
        now_ms = services.now_ms()
        tables = services.store.lookup_tables.tables(read.project.id)
        query = await in_event_thread(
            services, export_query, read.project.id, read.parameters, tables, now_ms=now_ms
        )
        return await streamed(
            request, services, export_lines(reads, query, now_ms=now_ms), LINES, behind=read.behind
        )

    async def script(request: Request) -> Response:
        read = await begin_read(request, services, kinds=FOR_ALL)
        rows = await in_event_thread(services, _script_rows, services, read.project, read.parameters)
        return await streamed(request, services, _as_list(rows), JSON, behind=read.behind)

    found = []
    for prefix in QUERY_PREFIXES:
        for slash in ("", "/"):
            found.append(Route(f"{prefix}/{EXPORT}{slash}", answering(export), methods=["GET"]))
            found.append(Route(f"{prefix}/{JQL}{slash}", answering(script), methods=["POST"]))
    return found


def export_query(project: int, parameters: Parameters, tables: Tables, *, now_ms: int) -> ExportQuery:
    """What an export asks for, in a project with these lookup tables (contract query §4). Blocks.

    Raises `QueryError` (400).
    """
    days = date_range(parameters, required=True)
    refuse_days_to_come(days, now_ms=now_ms)
    assert days.first is not None
    assert days.last is not None
    names = parameters.strings("event", limit=EVENTS_LIMIT)
    return ExportQuery(
        project=project,
        span=span_of_days(days.first, days.last),
        selectors=(Selector(parse(parameters.text("where"), tables), names or None),),
        limit=parameters.integer("limit", 0, low=1, high=EXPORT_LIMIT),
        time_in_ms=parameters.boolean("time_in_ms", default=False),
    )


def _script_rows(services: Services, project: Project, parameters: Parameters) -> Iterator[list[bytes]]:
    """The rows of a script, made as they are asked for. Blocks. Raises `QueryError` (400)."""
    text = parameters.text("script")
    if not text.strip():
        raise QueryError("script, missing: send one of the scripts that are answered", status=400)
    script = jql.script_of(text)
    if parameters.text("format") not in ("", "json"):
        raise QueryError("format, a script is answered as json", status=400)
    given = parameters.value("params")
    if not (given is None or type(given) is dict):
        raise QueryError("params, must be a JSON object", status=400)
    params = Parameters({name: value for name, value in (given or {}).items() if value is not None})
    now_ms = services.now_ms()
    reads = services.event_reads
    tables = services.store.lookup_tables.tables(project.id)
    if script == jql.PEOPLE:
        selectors = jql.selectors_of(params.value("user_selectors"), "user_selectors", tables)
        output = params.strings("output_properties", limit=PROPERTIES_LIMIT)
        return jql.people_rows(services.store, project.id, selectors, output, now_ms=now_ms)
    span = _span(params, zone_of(project.timezone))
    if script == jql.COUNTS:
        events = params.strings("events", limit=EVENTS_LIMIT) or ()
        return jql.count_rows(reads, project.id, span, events)
    selectors = jql.selectors_of(params.value("event_selectors"), "event_selectors", tables)
    query = ExportQuery(
        project=project.id, span=span, selectors=selectors or (Selector(parse("")),), time_in_ms=True
    )
    output = params.strings("output_properties", limit=PROPERTIES_LIMIT)
    return jql.event_rows(reads, query, output, offset_hours=_offset(params), now_ms=now_ms)


def _span(params: Parameters, zone: tzinfo) -> Span:
    days = date_range(params, required=True)
    assert days.first is not None
    assert days.last is not None
    return span_of_days(days.first, days.last, zone)


def _offset(params: Parameters) -> float:
    """The hours that times are moved back by."""
    text = params.text("timezone_offset") or "0"
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not abs(hours) <= OFFSET_LIMIT_HOURS:
        raise QueryError(f"timezone_offset, must be at most {OFFSET_LIMIT_HOURS} hours", status=400)
    return hours


def _as_list(rows: Iterator[list[bytes]]) -> Iterator[bytes]:
    """Rows as the text of one JSON list."""

    def joined() -> Iterator[bytes]:
        mark = b"["
        for some in rows:
            if some:
                yield mark + b",".join(some)
                mark = b","
            else:
                yield b""
        yield b"[]" if mark == b"[" else b"]"

    return in_pieces(joined())
