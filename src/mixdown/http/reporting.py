"""What reports over HTTP have in common: their routes, their parameters, and how they are run.

A report that answers a question in a thread enters; routes leave. It runs where events are read, in the time
and memory that reads of events have, for as long as somebody waits for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.date_ranges import date_range
from mixdown.http.events import FORMATS, Asked, asked_of, buckets_of, figures_response, one_of
from mixdown.http.parameters import Parameters
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.http.read_errors import answering
from mixdown.http.reading import begin_read, in_report_thread
from mixdown.http.services import Services
from mixdown.model.expression import Expression
from mixdown.model.lookup import Tables
from mixdown.query.events.buckets import BUCKETS_LIMIT, UNITS, Buckets, span_of_days, today
from mixdown.query.reports.rows import segment_by
from mixdown.store.chunk import FOR_ALL

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Report = Callable[[Asked, Tables], Any]
"""Checks what is asked, and answers it. Blocks. Raises `QueryError` (400), `StoreError`."""


def report_routes(services: Services, reports: dict[str, Report]) -> list[Route]:
    """The routes of reports, by their names below `/api/query` and `/api/2.0`."""
    return [
        Route(f"{prefix}/{name}{slash}", answering(report_endpoint(services, report)), methods=["GET"])
        for name, report in reports.items()
        for prefix in QUERY_PREFIXES
        for slash in ("", "/")
    ]


def report_endpoint(services: Services, report: Report) -> Callable[[Request], Awaitable[Response]]:
    """What answers a report, in a thread that reads events, as long as somebody waits for it.

    A `Series` is answered as JSON or, where `format=csv` asks for it, as CSV; all else as JSON.
    """

    async def answer(request: Request) -> Response:
        read = await begin_read(request, services, kinds=FOR_ALL)
        form = one_of(read.parameters, "format", FORMATS)
        asked = asked_of(services, read)

        def find() -> Any:
            return report(asked, services.store.lookup_tables.tables(asked.project))

        found = await in_report_thread(request, services, find)
        return figures_response(found, form, behind=read.behind)

    return answer


def computed_at(now_ms: int) -> str:
    """A time as Mixpanel says when an answer was computed."""
    return (_EPOCH + timedelta(milliseconds=now_ms)).isoformat(timespec="microseconds")


# --- parameters


def on_of(parameters: Parameters, tables: Tables) -> Expression | None:
    """What events are told apart by; None where nothing is said. Raises `ExpressionError` (400)."""
    text = parameters.text("on")
    return segment_by(text, tables) if text.strip() else None


def report_buckets(asked: Asked, *, units: tuple[str, ...] = UNITS) -> Buckets:
    """The days of a report in buckets: of a unit, or of so many as `interval` says, from the first day on.

    Without a first day `interval` says how many units there are, the current one being the last; without a
    last one they go on until today.
    """
    days = date_range(asked.parameters, required=not asked.parameters.given("interval"))
    if days.first is None:
        return buckets_of(asked)
    unit = one_of(asked.parameters, "unit", units, "day")
    every = asked.parameters.integer("interval", 1, low=1, high=BUCKETS_LIMIT)
    last = days.last or max(days.first, today(asked.now_ms, asked.zone))
    return Buckets(unit, span_of_days(days.first, last, asked.zone), asked.zone, every)
