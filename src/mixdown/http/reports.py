"""Reports that are not built: funnels and annotations, which are empty and valid, and those that are figures.

Requests enter; answers leave that are empty and true, because no funnel and no annotation can be made yet
(contract query §5.1, §5.2). Parameters are checked as if there were data. A report whose answer would be a
figure is no route here: `not_built` names it, for a zero would be taken for a count.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.date_ranges import date_range
from mixdown.http.parameters import Parameters
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.http.read_errors import answering
from mixdown.http.reading import admitted, json_response
from mixdown.http.services import Services
from mixdown.model.errors import QueryError

ANNOTATIONS: Final = "/api/app/projects/{project_id}/annotations"
ANNOTATION_TAGS: Final = f"{ANNOTATIONS}/tags"
FUNNEL_ID_LIMIT: Final = 2**53
NO_ANNOTATIONS: Final[Mapping[str, Any]] = {"status": "ok", "results": []}

NOT_BUILT_TEXT: Final = (
    "{name}, this report is not built yet: of events there are counts, names, properties and the raw export"
)
NOT_BUILT: Final = frozenset(
    {
        "arb_funnels",
        "insights",
        "retention",
        "retention/addiction",
        "segmentation",
        "segmentation/average",
        "segmentation/numeric",
        "segmentation/sum",
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


def _funnel(parameters: Parameters) -> None:
    if not parameters.integer("funnel_id", 0, low=1, high=FUNNEL_ID_LIMIT):
        raise QueryError("funnel_id, missing: name the funnel", status=400)
    date_range(parameters)


REPORTS: Final[Mapping[str, Report]] = {
    "funnels/list": Report([], _nothing),
    "funnels": Report({"meta": {"dates": []}, "data": {}}, _funnel),
    "annotations": Report({"annotations": [], "error": False}, _days),
}
"""By the path below `/api/query` and `/api/2.0`; bodies as Mixpanel has them."""


def routes(services: Services) -> list[Route]:
    """The routes of this file, each with and without a slash at its end."""

    async def annotations(request: Request) -> Response:
        _, parameters = await admitted(request, services)
        date_range(parameters, names=("fromDate", "toDate"))
        return json_response(orjson.dumps(NO_ANNOTATIONS))

    found: list[tuple[str, _Endpoint]] = [(ANNOTATION_TAGS, annotations), (ANNOTATIONS, annotations)]
    for prefix in QUERY_PREFIXES:
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


def not_built(path: str) -> str:
    """Why a query endpoint of Mixpanel's cannot answer yet; "" for a path that is none of them."""
    for prefix in QUERY_PREFIXES:
        name = path.removeprefix(f"{prefix}/").strip("/")
        if path.startswith(f"{prefix}/") and name in NOT_BUILT:
            return NOT_BUILT_TEXT.format(name=name)
    return ""
