"""Funnels, retention and addiction: `funnels` and their list, `arb_funnels`, `retention` and below.

Requests enter; figures leave, in Mixpanel's shapes (contract query §5.1), made by `query.reports`. What a
saved report says counts where the request does not. Days are those of the project's time zone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.date_ranges import date_range
from mixdown.http.events import Asked, limit_of, one_of
from mixdown.http.parameters import Parameters
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.http.read_errors import answering
from mixdown.http.reading import admitted, in_thread, json_response
from mixdown.http.reporting import computed_at, on_of, report_buckets, report_endpoint
from mixdown.http.services import Services
from mixdown.model.errors import QueryError
from mixdown.model.lookup import Tables
from mixdown.model.values import clean_text
from mixdown.query.choosing import group_key_of, read_expression
from mixdown.query.events.buckets import Buckets, days_before, span_of_days, today
from mixdown.query.events.where import Selector
from mixdown.query.reports.addiction import PART_UNITS, UNITS, Addiction, AddictionQuery, addiction
from mixdown.query.reports.funnels import ORDERS, FunnelFigures, FunnelQuery, Order, Reached, Step, funnel
from mixdown.query.reports.retention import INTERVALS_LIMIT, UNIT_MS, RetentionQuery, Row, retention
from mixdown.query.reports.saved import (
    DEFAULT_LENGTH,
    FUNNELS,
    LENGTH_MS,
    LONGEST_MS,
    find_report,
    read_steps,
    steps_of,
    window_of,
)
from mixdown.store.reports import SavedReport

ID_LIMIT: Final = 2**53
DEFAULT_VALUES: Final = 255
VALUES_LIMIT: Final = 10_000
DAYS_LIMIT: Final = 36_500
"""More days than any event is old."""
DEFAULT_DAYS: Final = 30
RETENTION_TYPES: Final = ("birth", "compounded")
SAVED_OF_FUNNELS: Final = ("steps", "length", "length_unit", "order", "data_group_id", "days")
"""What `funnels` takes of a saved one as it is: no more, so that its answer is of the shape that is asked."""
STRETCHES: Final = ("unit", "interval")
OVERALL: Final = "$overall"
_STEPS: Final = "steps"
NO_FUNNEL: Final = "funnel_id, missing: name the funnel"
NO_BORN: Final = "born_event, missing: name the event that everybody begins with"
FLOWS: Final = "query_type, flows are not built: give the steps of a funnel as `steps`"


def routes(services: Services) -> list[Route]:
    """The routes of this file, each with and without a slash at its end."""
    getting, both = ["GET"], ["GET", "POST"]
    named = {
        "funnels/list": (_listing(services), getting),
        "funnels": (report_endpoint(services, saved_funnel), getting),
        "arb_funnels": (report_endpoint(services, any_funnel), both),
        "retention": (report_endpoint(services, retention_report), getting),
        "retention/addiction": (report_endpoint(services, addiction_report), getting),
    }
    return [
        Route(f"{prefix}/{name}{slash}", answering(endpoint), methods=methods)
        for name, (endpoint, methods) in named.items()
        for prefix in QUERY_PREFIXES
        for slash in ("", "/")
    ]


def _listing(services: Services) -> Callable[[Request], Awaitable[Response]]:
    async def listing(request: Request) -> Response:
        project, _ = await admitted(request, services)
        found = await in_thread(services, services.store.reports.listing, project.id, FUNNELS)
        return json_response(orjson.dumps([{"funnel_id": each.id, "name": each.name} for each in found]))

    return listing


# --- what a saved report says


def number_of(parameters: Parameters, name: str) -> int:
    """The number of a saved report; 0 where none is named."""
    return parameters.integer(name, 0, low=1, high=ID_LIMIT)


def over_saved(asked: Asked, report: SavedReport | None) -> Asked:
    """A question with what a saved report says where it says nothing itself, its days included.

    How days are taken together is one thing, though two parameters say it: of one is asked, so is all of it.
    """
    return _over(asked, {} if report is None else orjson.loads(report.definition))


def _over(asked: Asked, definition: Mapping[str, Any]) -> Asked:
    if any(asked.parameters.given(name) for name in STRETCHES):
        definition = {name: value for name, value in definition.items() if name not in STRETCHES}
    parameters = asked.parameters.over(definition)
    days = parameters.integer("days", DEFAULT_DAYS, low=1, high=DAYS_LIMIT)
    given = date_range(parameters)
    last = given.last or today(asked.now_ms, asked.zone)
    first = given.first or days_before(last, days - 1)
    dates = {"from_date": first.isoformat(), "to_date": last.isoformat()}
    return asked._replace(parameters=parameters.over(dates))


# --- funnels


def saved_funnel(asked: Asked, tables: Tables) -> dict[str, Any]:
    """`funnels`: one that was saved, over the days and by the values that are asked for.

    Clients that copy a project ask for days and take `steps` and `analysis` of each, whatever people had it
    drawn by when they saved it.
    """
    number = number_of(asked.parameters, "funnel_id")
    if not number:
        raise QueryError(NO_FUNNEL, status=400)
    report = find_report(asked.reads.store, asked.project, FUNNELS, number, "funnel_id")
    saved = orjson.loads(report.definition)
    where = _both(str(saved.get("where", "")), asked.parameters.text("where"), tables)
    definition = {name: saved[name] for name in SAVED_OF_FUNNELS if name in saved}
    if where:
        asked = asked._replace(parameters=asked.parameters.saying("where", where))
    return run_funnel(_over(asked, definition), tables)


def _both(saved: str, asked: str, tables: Tables) -> str:
    """A filter that was saved and one that is asked for. Raises `QueryError` (400): the latter is wrong."""
    read_expression("where", asked, tables)
    texts = [text for text in (saved, asked) if text.strip()]
    return " and ".join(f"({text})" for text in texts) if len(texts) > 1 else "".join(texts)


def any_funnel(asked: Asked, tables: Tables) -> dict[str, Any]:
    """`arb_funnels`: one that was saved, or the steps that are sent."""
    parameters = asked.parameters
    if parameters.given("bookmark") or "flows" in parameters.text("query_type"):
        raise QueryError(FLOWS, status=400)
    number = number_of(parameters, "bookmark_id") or number_of(parameters, "funnel_id")
    report = None
    if number:
        report = find_report(asked.reads.store, asked.project, FUNNELS, number, "bookmark_id")
    return run_funnel(over_saved(asked, report), tables)


def run_funnel(asked: Asked, tables: Tables) -> dict[str, Any]:
    """A funnel as its parameters say. Blocks. Raises `QueryError` (400), `StoreError`."""
    query = funnel_query(asked, tables)
    found = funnel(asked.reads, query, now_ms=asked.now_ms)
    return {"computed_at": computed_at(asked.now_ms), **funnel_view(query, found)}


def funnel_query(asked: Asked, tables: Tables) -> FunnelQuery:
    """What the parameters of a funnel ask for. Raises `QueryError` (400) naming what is wrong."""
    parameters = asked.parameters
    name = "steps" if parameters.given("steps") else "events"
    steps = steps_of(read_steps(parameters.value(name)), parameters.text("where"), tables)
    unit = one_of(parameters, "length_unit", tuple(LENGTH_MS))
    length = parameters.integer("length", DEFAULT_LENGTH, low=1, high=LONGEST_MS)
    order: Order = "any" if one_of(parameters, "order", ORDERS) == "any" else "loose"
    return FunnelQuery(
        project=asked.project,
        steps=steps,
        window_ms=window_of(length, unit),
        buckets=report_buckets(asked, units=UNITS),
        order=order,
        on=on_of(parameters, tables),
        limit=limit_of(parameters, DEFAULT_VALUES, VALUES_LIMIT),
        group_key=group_key_of(asked.reads.store, asked.project, parameters.text("data_group_id")),
    )


def funnel_view(query: FunnelQuery, found: FunnelFigures) -> dict[str, Any]:
    """A funnel as Mixpanel answers it."""
    data: dict[str, Any] = {}
    for place, key in enumerate(found.keys):
        steps = _steps_view(query.steps, found.overall[place])
        if query.on is None:
            data[key] = {_STEPS: steps, "analysis": _analysis_view(steps)}
            continue
        data[key] = {OVERALL: steps}
        for label, reached in found.segments.items():
            # a value must neither hide what all are together nor look like it
            name = f'"{label}"' if label in (OVERALL, _STEPS) else label
            data[key][name] = _steps_view(query.steps, reached[place])
    return {"meta": {"dates": found.keys}, "data": data}


def _steps_view(steps: tuple[Step, ...], reached: Reached) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, (step, count) in enumerate(zip(steps, reached.counts, strict=True)):
        before, first = (reached.counts[number - 1], reached.counts[0]) if number else (count, count)
        found.append(
            {
                "count": count,
                "step_conv_ratio": _ratio(count, before, number),
                "overall_conv_ratio": _ratio(count, first, number),
                "avg_time": _seconds(reached.from_before_ms[number], count, number),
                "avg_time_from_start": _seconds(reached.from_start_ms[number], count, number),
                "goal": step.event,
                "event": step.event,
                "step_label": step.label or step.event,
            }
        )
    return found


def _ratio(count: int, of: int, number: int) -> float:
    """What part of those before came on; the first step is whole even where nobody came."""
    return count / of if of else float(number == 0)


def _seconds(sum_ms: int, count: int, number: int) -> int | None:
    """A mean of times in whole seconds, rounded half up."""
    return (2 * sum_ms + 1000 * count) // (2000 * count) if number and count else None


def _analysis_view(steps: list[dict[str, Any]]) -> dict[str, int]:
    """The whole funnel; `worst` is the step, from 0, that most did not reach from the one before."""
    later = range(1, len(steps))
    return {
        "completion": steps[-1]["count"],
        "starting_amount": steps[0]["count"],
        "steps": len(steps),
        "worst": min(later, key=lambda number: steps[number]["step_conv_ratio"], default=0),
    }


def _over_bookmark(asked: Asked, kind: str) -> Asked:
    """A question over the report of a kind that `bookmark_id` names, if it names one. Raises `QueryError`."""
    number = number_of(asked.parameters, "bookmark_id")
    if not number:
        return over_saved(asked, None)
    return over_saved(asked, find_report(asked.reads.store, asked.project, kind, number, "bookmark_id"))


# --- retention


def retention_report(asked: Asked, tables: Tables) -> dict[str, Any]:
    """`retention`, by its parameters or saved."""
    return run_retention(_over_bookmark(asked, "retention"), tables)


def run_retention(asked: Asked, tables: Tables) -> dict[str, Any]:
    """Retention as its parameters say. Blocks. Raises `QueryError` (400), `StoreError`."""
    query = retention_query(asked, tables)
    found = retention(asked.reads, query, now_ms=asked.now_ms)
    return {key: _row_view(query, row) for key, row in found.items()}


def _row_view(query: RetentionQuery, row: Row) -> dict[str, Any]:
    told: dict[str, Any] = {"first": row.first, "counts": row.counts}
    return told if query.on is None else {**told, "segments": row.segments}


def retention_query(asked: Asked, tables: Tables) -> RetentionQuery:
    """What the parameters of retention ask for. Raises `QueryError` (400) naming what is wrong."""
    parameters = asked.parameters
    compounded = one_of(parameters, "retention_type", RETENTION_TYPES) == "compounded"
    returning = _selector(parameters, tables, "event", "where")
    born = returning if compounded else _selector(parameters, tables, "born_event", "born_where")
    if born.events is None and not compounded:
        raise QueryError(NO_BORN, status=400)
    buckets = report_buckets(asked, units=UNITS)
    intervals = parameters.integer("interval_count", 1, low=1, high=INTERVALS_LIMIT) + 1
    return RetentionQuery(
        project=asked.project,
        born=born,
        returning=returning,
        buckets=buckets,
        interval_ms=buckets.every * UNIT_MS[buckets.unit],
        intervals=intervals,
        compounded=compounded,
        unbounded=parameters.boolean("unbounded_retention", default=False),
        on=on_of(parameters, tables),
        limit=limit_of(parameters, DEFAULT_VALUES, VALUES_LIMIT),
        group_key=group_key_of(asked.reads.store, asked.project, parameters.text("data_group_id")),
    )


def _selector(parameters: Parameters, tables: Tables, event: str, where: str) -> Selector:
    name = clean_text(parameters.text(event))
    expression = read_expression(where, parameters.text(where), tables)
    return Selector(expression, (name,) if name else None)


# --- addiction


def addiction_report(asked: Asked, tables: Tables) -> dict[str, Any]:
    """`retention/addiction`, by its parameters or saved."""
    return run_addiction(_over_bookmark(asked, "addiction"), tables)


def run_addiction(asked: Asked, tables: Tables) -> dict[str, Any]:
    """Addiction as its parameters say. Blocks. Raises `QueryError` (400), `StoreError`."""
    query = addiction_query(asked, tables)
    found: Addiction = addiction(asked.reads, query, now_ms=asked.now_ms)
    return (
        {"data": found.overall} if query.on is None else {"data": found.overall, "segments": found.segments}
    )


def addiction_query(asked: Asked, tables: Tables) -> AddictionQuery:
    """What the parameters of addiction ask for. Raises `QueryError` (400) naming what is wrong."""
    parameters = asked.parameters
    unit = one_of(parameters, "unit", UNITS)
    days = date_range(parameters, required=True)
    assert days.first is not None
    assert days.last is not None
    return AddictionQuery(
        project=asked.project,
        selector=_selector(parameters, tables, "event", "where"),
        buckets=Buckets(unit, span_of_days(days.first, days.last, asked.zone), asked.zone),
        part=one_of(parameters, "addiction_unit", PART_UNITS),
        on=on_of(parameters, tables),
        limit=limit_of(parameters, DEFAULT_VALUES, VALUES_LIMIT),
        group_key=group_key_of(asked.reads.store, asked.project, parameters.text("data_group_id")),
    )
