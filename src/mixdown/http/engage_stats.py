"""`engage/stats`: figures over profiles (contract query §2.5). GET and POST.

Requests enter; one figure, or one for each cohort, leaves, computed by `query.stats`.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.engage import COHORT_ID_LIMIT_CHARS, TOO_LONG, counts_events, filters_of, kinds_of
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import begin_read, in_event_thread, in_scan_thread, json_response
from mixdown.http.services import Services
from mixdown.model.errors import QueryError, ReadTimeoutError
from mixdown.query.stats import SEGMENTS_LIMIT, StatsQuery, stats_answer

PATHS: Final = ("/api/query/engage/stats", "/api/2.0/engage/stats")
_SEGMENTS: Final = (
    'segment_by_cohorts, must be {{"N": true, ...}} with the numbers of at most {limit} cohorts'
)


def routes(services: Services) -> list[Route]:
    """The routes of the figures (slashes at their end are the application's business)."""

    async def stats(request: Request) -> Response:
        read = await begin_read(request, services, kinds_of=kinds_of)
        query = stats_query(read.project.id, read.parameters)
        try:
            counts = await counts_events(services, query.project, query.filters, query.segments or ())
            thread = in_event_thread if counts else in_scan_thread
            body = await thread(
                services,
                stats_answer,
                services.store,
                query,
                now_ms=services.now_ms(),
                reads=services.event_reads,
            )
        except ReadTimeoutError:
            limit_s = services.settings.read_timeout_s
            raise QueryError(TOO_LONG.format(limit=f"{limit_s:g}"), status=400) from None
        return json_response(body, behind=read.behind)

    return [
        Route(path + slash, answering(stats), methods=["GET", "POST"])
        for path in PATHS
        for slash in ("", "/")
    ]


def stats_query(project_id: int, parameters: Parameters) -> StatsQuery:
    """What the parameters ask for. Raises `QueryError` (400) naming the parameter that is wrong."""
    return StatsQuery(
        project=project_id,
        action=parameters.text("action") or "count()",
        filters=filters_of(parameters),
        segments=_segments(parameters),
    )


def _segments(parameters: Parameters) -> tuple[int, ...] | None:
    """The cohorts to split by: those that are true in an object, or a list; None where it is absent."""
    if not parameters.given("segment_by_cohorts"):
        return None
    asked = parameters.value("segment_by_cohorts")
    wrong = QueryError(_SEGMENTS.format(limit=SEGMENTS_LIMIT), status=400)
    if type(asked) is dict:
        if not all(type(chosen) is bool for chosen in asked.values()):
            raise wrong
        asked = [cohort for cohort, chosen in asked.items() if chosen]
    if type(asked) is not list or len(asked) > SEGMENTS_LIMIT:
        raise wrong
    texts = [str(cohort) if type(cohort) in (int, str) else "" for cohort in asked]
    if not all(
        text.isascii() and text.isdecimal() and len(text) <= COHORT_ID_LIMIT_CHARS and int(text)
        for text in texts
    ):
        raise wrong
    return tuple(dict.fromkeys(map(int, texts)))
