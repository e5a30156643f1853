"""`segmentation` and below: an event over time, by a value, by ranges of a number, and sums of one.

Requests enter; series and figures leave, in Mixpanel's shapes (contract query §5.1), made by
`query.reports.segmentation`. Days are those of the project's time zone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.routing import Route

from mixdown.http.events import Asked, limit_of, one_of
from mixdown.http.reporting import Report, computed_at, on_of, report_buckets, report_routes
from mixdown.http.services import Services
from mixdown.model.errors import QueryError
from mixdown.model.expression import parse
from mixdown.model.lookup import Tables
from mixdown.query.events.figures import KINDS, Series
from mixdown.query.group_keys import group_key_of
from mixdown.query.reports.segmentation import (
    Segmentation,
    average_of,
    numeric_segmentation,
    segmentation,
    sum_of,
)

METHODS: Final = ("count", "numeric", "sum", "average")
"""What a saved report of this kind counts: the figures of the endpoint of that name, or of `segmentation`."""
DEFAULT_SEGMENTS: Final = 60
SEGMENTS_LIMIT: Final = 10_000
NO_EVENT: Final = "event, missing: name the event"
NO_ON: Final = 'on, missing: name the number, as properties["amount"]'


def routes(services: Services) -> list[Route]:
    """The routes of this file, each with and without a slash at its end."""
    reports: dict[str, Report] = {
        "segmentation": segmentation_report,
        "segmentation/numeric": _numeric,
        "segmentation/sum": _sum,
        "segmentation/average": _average,
    }
    return report_routes(services, reports)


def run_segmentation(asked: Asked, tables: Tables) -> Series | dict[str, Any]:
    """What a saved report answers, by its `method`. Blocks. Raises as `Report` does."""
    by_method: dict[str, Callable[[Asked, Tables], Series | dict[str, Any]]] = {
        "count": segmentation_report,
        "numeric": _numeric,
        "sum": _sum,
        "average": _average,
    }
    return by_method[one_of(asked.parameters, "method", METHODS)](asked, tables)


def saved_query(asked: Asked, tables: Tables) -> Segmentation:
    """What a saved report asks for. Raises `QueryError` (400) naming what is wrong."""
    method = one_of(asked.parameters, "method", METHODS)
    return segmentation_query(asked, tables, on_required=method != METHODS[0])


def segmentation_report(asked: Asked, tables: Tables) -> Series:
    """An event over time, by the values of `on` where it is given. Blocks. Raises as `Report` does."""
    limit = limit_of(asked.parameters, DEFAULT_SEGMENTS, SEGMENTS_LIMIT)
    return segmentation(asked.reads, segmentation_query(asked, tables, limit=limit), now_ms=asked.now_ms)


def _numeric(asked: Asked, tables: Tables) -> Series:
    question = segmentation_query(asked, tables, on_required=True)
    return numeric_segmentation(asked.reads, question, now_ms=asked.now_ms)


def _sum(asked: Asked, tables: Tables) -> dict[str, Any]:
    return _results(asked, sum_of(asked.reads, _of_events(asked, tables), now_ms=asked.now_ms))


def _average(asked: Asked, tables: Tables) -> dict[str, Any]:
    return _results(asked, average_of(asked.reads, _of_events(asked, tables), now_ms=asked.now_ms))


def _of_events(asked: Asked, tables: Tables) -> Segmentation:
    """A figure of events: each counts once, whoever did it, and of whatever groups."""
    question = segmentation_query(asked, tables, on_required=True)
    return msgspec.structs.replace(question, kind=KINDS[0])


def _results(asked: Asked, found: dict[str, float]) -> dict[str, Any]:
    return {"status": "ok", "computed_at": computed_at(asked.now_ms), "results": found}


# --- parameters


def segmentation_query(
    asked: Asked,
    tables: Tables,
    *,
    limit: int = DEFAULT_SEGMENTS,
    on_required: bool = False,
) -> Segmentation:
    """What the parameters ask for. Raises `QueryError` (400) naming what is wrong."""
    parameters = asked.parameters
    names = parameters.strings("event", limit=1)
    if not names or not names[0]:
        raise QueryError(NO_EVENT, status=400)
    on = on_of(parameters, tables)
    if on is None and on_required:
        raise QueryError(NO_ON, status=400)
    return Segmentation(
        project=asked.project,
        event=names[0],
        where=parse(parameters.text("where"), tables),
        buckets=report_buckets(asked),
        on=on,
        kind=one_of(parameters, "type", KINDS),
        limit=limit,
        group_key=group_key_of(asked.reads.state, asked.project, parameters.text("data_group_id")),
    )
