"""What clients read beside profiles before there are events: funnels, event names, annotations, raw export.

Requests enter; answers leave that are empty and true, because this version stores no events, and funnels and
annotations hang on them (contract query §5.1, §5.2). Parameters are checked as if there were data. A report
whose answer would be a figure is no route here: `not_built` names it, for a zero would be taken for a count.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.date_ranges import date_range, refuse_days_to_come
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import admitted, json_response
from mixdown.http.services import Services
from mixdown.model.errors import QueryError
from mixdown.model.expression import parse

PREFIXES: Final = ("/api/query", "/api/2.0")
ANNOTATIONS: Final = "/api/app/projects/{project_id}/annotations"
ANNOTATION_TAGS: Final = f"{ANNOTATIONS}/tags"
EXPORT: Final = "export"
EXPORT_LIMIT: Final = 100_000
EVENTS_LIMIT: Final = 2000
FUNNEL_ID_LIMIT: Final = 2**53
LIMIT_LIMIT: Final = 2**53
LINES: Final = "text/plain; charset=utf-8"
NO_ANNOTATIONS: Final[Mapping[str, Any]] = {"status": "ok", "results": []}

NOT_BUILT_TEXT: Final = "{name}, this report is not built yet: this version stores profiles and no events"
NOT_BUILT: Final = frozenset(
    {
        "arb_funnels",
        "events",
        "events/properties",
        "events/properties/values",
        "events/top",
        "insights",
        "jql",
        "retention",
        "retention/addiction",
        "segmentation",
        "segmentation/average",
        "segmentation/numeric",
        "segmentation/sum",
        "stream/bookmark",
        "stream/query",
    }
)
"""Mixpanel's query endpoints that would answer with figures (contract query §5.1)."""

_Endpoint = Callable[[Request], Awaitable[Response]]


class Report(NamedTuple):
    """An endpoint that is empty for now: what it answers, and how its parameters are checked."""

    answer: Any
    check: Callable[[Parameters], None]


def _nothing(parameters: Parameters) -> None:
    """Takes any parameters."""


def _days(parameters: Parameters) -> None:
    date_range(parameters)


def _days_and_limit(parameters: Parameters) -> None:
    date_range(parameters)
    parameters.integer("limit", 0, low=1, high=LIMIT_LIMIT)


def _funnel(parameters: Parameters) -> None:
    if not parameters.integer("funnel_id", 0, low=1, high=FUNNEL_ID_LIMIT):
        raise QueryError("funnel_id, missing: name the funnel", status=400)
    date_range(parameters)


REPORTS: Final[Mapping[str, Report]] = {
    "funnels/list": Report([], _nothing),
    "funnels": Report({"meta": {"dates": []}, "data": {}}, _funnel),
    "annotations": Report({"annotations": [], "error": False}, _days),
    "events/names": Report([], _days_and_limit),
    "events/properties/top": Report({}, _days_and_limit),
}
"""By the path below `/api/query` and `/api/2.0`; bodies as Mixpanel has them."""


def routes(services: Services) -> list[Route]:
    """The routes of this file, each with and without a slash at its end."""

    async def export(request: Request) -> Response:
        _, parameters = await admitted(request, services)
        check_export(parameters, now_ms=services.now_ms())
        return Response(b"", headers={"Cache-Control": "no-store", "Content-Type": LINES})

    async def annotations(request: Request) -> Response:
        _, parameters = await admitted(request, services)
        date_range(parameters, names=("fromDate", "toDate"))
        return json_response(orjson.dumps(NO_ANNOTATIONS))

    found: list[tuple[str, _Endpoint]] = [(ANNOTATION_TAGS, annotations), (ANNOTATIONS, annotations)]
    for prefix in PREFIXES:
        found.append((f"{prefix}/{EXPORT}", export))
        found += [(f"{prefix}/{name}", _empty(services, report)) for name, report in REPORTS.items()]
    return [
        Route(path + slash, answering(endpoint), methods=["GET"])
        for path, endpoint in found
        for slash in ("", "/")
    ]


def _empty(services: Services, report: Report) -> _Endpoint:
    async def answer(request: Request) -> Response:
        _, parameters = await admitted(request, services)
        report.check(parameters)
        return json_response(orjson.dumps(report.answer))

    return answer


def check_export(parameters: Parameters, *, now_ms: int) -> None:
    """Check the parameters of the raw export (contract query §4). Raises `QueryError` (400)."""
    refuse_days_to_come(date_range(parameters, required=True), now_ms=now_ms)
    parameters.integer("limit", EXPORT_LIMIT, low=1, high=EXPORT_LIMIT)
    parameters.boolean("time_in_ms", default=False)
    parameters.strings("event", limit=EVENTS_LIMIT)
    where = parameters.text("where")
    if where.strip():
        parse(where)


def not_built(path: str) -> str:
    """Why a query endpoint of Mixpanel's cannot answer yet; "" for a path that is none of them."""
    for prefix in PREFIXES:
        name = path.removeprefix(f"{prefix}/").strip("/")
        if path.startswith(f"{prefix}/") and name in NOT_BUILT:
            return NOT_BUILT_TEXT.format(name=name)
    return ""
