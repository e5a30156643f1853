"""Saved reports over HTTP: `/api/mixdown/reports`, and `insights` by the number of one (contract query §5.1).

Requests with a service account or a project secret enter; reports of one project leave. Readers list and run
them, analysts and above save, change and delete. What may be saved is decided by `query.reports.saved`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http import journeys
from mixdown.http.date_ranges import date_range
from mixdown.http.events import Asked
from mixdown.http.journeys import ID_LIMIT, over_saved
from mixdown.http.own import PREFIX
from mixdown.http.parameters import Parameters
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.http.read_errors import answering
from mixdown.http.reading import admitted, in_thread, ok_response
from mixdown.http.reporting import Report, computed_at, report_endpoint
from mixdown.http.saving import Saving, missing
from mixdown.http.segmentation import run_segmentation, saved_query
from mixdown.http.services import Services
from mixdown.model.errors import QueryError, RequestError
from mixdown.model.lookup import Tables
from mixdown.query.events.figures import Series
from mixdown.query.events.reader import EventReads
from mixdown.query.reports.saved import (
    DASHBOARD,
    FUNNELS,
    KINDS,
    checked_definition,
    checked_description,
    checked_name,
    find_report,
    new_report,
    report_view,
)
from mixdown.query.reports.tables import STEP_FIGURES
from mixdown.store.protocols import Project
from mixdown.store.reports import SavedReport
from mixdown.store.zones import zone_of

PATH: Final = f"{PREFIX}/reports"
RUN_PATH: Final = f"{PATH}/run"
NO_BOOKMARK: Final = "bookmark_id, missing: name the saved report"
UNSAVED: Final = "bookmark, a report is taken by the number that it was saved under: name it as bookmark_id"
NOTHING: Final = "name, description, definition: give what is to change"
NO_FIGURES: Final = "{name}, report {number} is a dashboard: it holds reports, and no figures of its own"


def routes(services: Services) -> list[Route]:
    """The routes of this file."""
    by_method: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "GET": _listing(services),
        "POST": _create(services),
        "PATCH": _change(services),
        "DELETE": _delete(services),
    }
    insights = [
        Route(
            f"{prefix}/insights{slash}",
            answering(report_endpoint(services, _insights)),
            methods=["GET", "POST"],
        )
        for prefix in QUERY_PREFIXES
        for slash in ("", "/")
    ]
    return [
        *insights,
        Route(RUN_PATH, answering(report_endpoint(services, _run)), methods=["GET"]),
        *(Route(PATH, answering(endpoint), methods=[method]) for method, endpoint in by_method.items()),
    ]


# --- what is saved


def _listing(services: Services) -> Callable[[Request], Awaitable[Response]]:
    async def listing(request: Request) -> Response:
        project, parameters = await admitted(request, services)
        number = parameters.integer("id", 0, low=1, high=ID_LIMIT)
        if number:
            report = await in_thread(services, services.store.reports.get, project.id, number)
            if report is None:
                raise RequestError(f"report, there is no report {number}", status=404)
            return ok_response(report_view(report))
        kind = parameters.text("kind").strip()
        if kind and kind not in KINDS:
            raise QueryError(f"kind, must be one of {', '.join(KINDS)}", status=400)
        found = await in_thread(services, services.store.reports.listing, project.id, kind)
        return ok_response([report_view(report) for report in found])

    return listing


def _create(services: Services) -> Callable[[Request], Awaitable[Response]]:
    saving = Saving("report", services)

    async def create(request: Request) -> Response:
        caller, project, parameters = await saving.admitted(request)
        now_ms = services.now_ms()

        def call() -> SavedReport:
            made = new_report(
                services.store,
                project.id,
                parameters.text("kind").strip() or FUNNELS,
                parameters.text("name"),
                parameters.value("definition"),
                description=parameters.text("description"),
                creator=caller.name,
                now_ms=now_ms,
            )
            _try(services, project, made, now_ms)
            return services.store.reports.create(made)

        return ok_response(report_view(await saving.changed(call, status=400)))

    return create


def _change(services: Services) -> Callable[[Request], Awaitable[Response]]:
    saving = Saving("report", services)

    async def change(request: Request) -> Response:
        _, project, parameters = await saving.admitted(request)
        number = saving.number(parameters)
        now_ms = services.now_ms()
        if not any(parameters.given(name) for name in ("name", "description", "definition")):
            raise QueryError(NOTHING, status=400)
        held = await in_thread(services, services.store.reports.get, project.id, number)
        if held is None:
            raise RequestError(f"report, there is no report {number}", status=404)

        def call() -> SavedReport:
            given = {name: parameters.given(name) for name in ("name", "description", "definition")}
            definition = None
            if given["definition"]:
                wanted = parameters.value("definition")
                definition = checked_definition(services.store, project.id, held.kind, wanted)
                _try(services, project, SavedReport(project.id, held.kind, held.name, definition), now_ms)
            return services.store.reports.change(
                project.id,
                number,
                name=checked_name(parameters.text("name")) if given["name"] else None,
                description=checked_description(parameters.text("description"))
                if given["description"]
                else None,
                definition=definition,
                now_ms=now_ms,
            )

        return ok_response(report_view(await saving.changed(call, status=400)))

    return change


def _delete(services: Services) -> Callable[[Request], Awaitable[Response]]:
    saving = Saving("report", services)

    async def delete(request: Request) -> Response:
        _, project, parameters = await saving.admitted(request)
        number = saving.number(parameters)
        await saving.changed(lambda: services.store.reports.delete(project.id, number), status=404)
        return ok_response({"id": number})

    return delete


def _try(services: Services, project: Project, report: SavedReport, now_ms: int) -> None:
    about = asked_about(project, {}, services.event_reads, now_ms=now_ms)
    try_report(about, report)


def asked_about(project: Project, parameters: Mapping[str, Any], reads: EventReads, *, now_ms: int) -> Asked:
    """A question about a project's events, with these parameters."""
    return Asked(project.id, zone_of(project.timezone), Parameters(parameters), now_ms, reads)


def try_report(about: Asked, report: SavedReport) -> None:
    """Read a report's parameters as a question with it would. Raises `QueryError` (400)."""
    tables = about.reads.store.lookup_tables.tables(about.project)
    asked = over_saved(about, report)
    checks: dict[str, Callable[[Asked, Tables], object]] = {
        FUNNELS: journeys.funnel_query,
        "retention": journeys.retention_query,
        "addiction": journeys.addiction_query,
        "segmentation": saved_query,
    }
    if report.kind in checks:
        checks[report.kind](asked, tables)


# --- what a saved report answers


def _bookmark(asked: Asked, name: str, unnamed: str) -> SavedReport:
    number = asked.parameters.integer(name, 0, low=1, high=ID_LIMIT)
    if not number:
        raise QueryError(unnamed, status=400)
    report = find_report(asked.reads.store, asked.project, "", number, name)
    if report.kind == DASHBOARD:
        raise QueryError(NO_FIGURES.format(name=name, number=number), status=400)
    return report


def _run(asked: Asked, tables: Tables) -> Any:
    """A saved report, as its own endpoint answers."""
    report = _bookmark(asked, "id", missing("report"))
    return answer_of(report.kind, over_saved(asked, report), tables)


def answer_of(kind: str, asked: Asked, tables: Tables) -> Any:
    """What a report of a kind answers, as its own endpoint does. Blocks. Raises as `Report` does."""
    run: Report = {
        FUNNELS: journeys.run_funnel,
        "retention": journeys.run_retention,
        "addiction": journeys.run_addiction,
    }.get(kind, run_segmentation)
    return run(asked, tables)


def _insights(asked: Asked, tables: Tables) -> dict[str, Any]:
    """A saved report in the shape of Mixpanel's Insights."""
    if asked.parameters.given("bookmark"):
        raise QueryError(UNSAVED, status=400)
    report = _bookmark(asked, "bookmark_id", NO_BOOKMARK)
    asked = over_saved(asked, report)
    answer = answer_of(report.kind, asked, tables)
    headers, series = _INSIGHTS[report.kind](asked, report, answer)
    days = date_range(asked.parameters)
    assert days.first is not None
    assert days.last is not None
    return {
        "computed_at": computed_at(asked.now_ms),
        "date_range": {
            "from_date": _moment(asked, days.first),
            "to_date": _moment(asked, days.last, last=True),
        },
        "headers": headers,
        "series": series,
        "meta": {"report_id": report.id, "name": report.name, "type": report.kind},
    }


_Shaped = tuple[list[str], dict[str, Any]]
_ALL: Final = "all"
"""Everybody, beside the values of a step of a funnel, as Mixpanel's Insights call it."""


def _moment(asked: Asked, day: date, *, last: bool = False) -> str:
    """A day's first or last moment in the project's zone, with its offset."""
    local = datetime(day.year, day.month, day.day, tzinfo=asked.zone)
    if last:
        local = local.replace(hour=23, minute=59, second=59, microsecond=999000)
    return local.isoformat()


def _key(asked: Asked, key: str) -> str:
    return datetime.fromisoformat(key).replace(tzinfo=asked.zone).isoformat()


def _segmentation_view(asked: Asked, report: SavedReport, found: Series | dict[str, Any]) -> _Shaped:
    del report
    if not isinstance(found, Series):  # a figure for each key: a sum or an average
        told = {_key(asked, key): figure for key, figure in found["results"].items()}
        return ["$event"], {asked.parameters.text("event"): told}
    return _headers(asked, "$event")[-1:], {
        name: {_key(asked, key): figure for key, figure in figures.items()}
        for name, figures in found.values.items()
    }


def _headers(asked: Asked, whole: str) -> list[str]:
    """What the nested keys are: what is counted and, where values are told apart, by what."""
    return [whole, asked.parameters.text("on")] if asked.parameters.given("on") else [whole]


def _beside(reserved: str, value: str) -> str:
    """What a value is called beside all of them together: its name must not hide these."""
    return f'"{value}"' if value == reserved else value


def _funnel_view(asked: Asked, report: SavedReport, found: dict[str, Any]) -> _Shaped:
    told: dict[str, Any] = {}
    for key, row in found["data"].items():
        is_told = journeys.OVERALL in row
        whole = row[journeys.OVERALL] if is_told else row["steps"]
        values = {_beside(_ALL, name): row[name] for name in row if is_told and name != journeys.OVERALL}
        for figure in STEP_FIGURES:
            told.setdefault(key, {})[figure] = {
                f"{place}. {step['step_label']}": {
                    _ALL: step[figure],
                    **{value: steps[place - 1][figure] for value, steps in values.items()},
                }
                for place, step in enumerate(whole, 1)
            }
    return _headers(asked, "$funnel"), {report.name: told}


def _retention_view(asked: Asked, report: SavedReport, found: dict[str, Any]) -> _Shaped:
    def rows(value: str | None) -> dict[str, Any]:
        return {_key(asked, key): _retention_row(row, value) for key, row in found.items()}

    told = rows(None)
    if asked.parameters.given("on"):
        values = dict.fromkeys(value for row in found.values() for value in row["segments"])
        told = {journeys.OVERALL: told, **{_beside(journeys.OVERALL, value): rows(value) for value in values}}
    return _headers(asked, "$retention"), {report.name: told}


def _retention_row(row: Mapping[str, Any], value: str | None) -> dict[str, Any]:
    """Who began, and who came back, with a value or at all."""
    first, counts = row["first"], row["counts"] if value is None else row["segments"][value]
    return {"first": first, "counts": counts, "rates": [count / first if first else 0.0 for count in counts]}


def _addiction_view(asked: Asked, report: SavedReport, found: dict[str, Any]) -> _Shaped:
    def rows(counts: dict[str, list[int]]) -> dict[str, Any]:
        return {_key(asked, key): row for key, row in counts.items()}

    told = rows(found["data"])
    if "segments" in found:
        by_value = {_beside(journeys.OVERALL, value): rows(own) for value, own in found["segments"].items()}
        told = {journeys.OVERALL: told, **by_value}
    return _headers(asked, "$frequency"), {report.name: told}


_INSIGHTS: Final[dict[str, Callable[[Asked, SavedReport, Any], _Shaped]]] = {
    "segmentation": _segmentation_view,
    FUNNELS: _funnel_view,
    "retention": _retention_view,
    "addiction": _addiction_view,
}
