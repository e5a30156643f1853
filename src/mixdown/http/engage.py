"""The profile query endpoint, `engage` (contract query §2, §7): GET and POST, with and without slash.

Requests enter; pages of profiles leave, built by `query.engage`. What is not built yet is refused by
name, never ignored: an answer without the filter that was asked for would be a wrong answer.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import begin_read, in_thread, in_time, json_response
from mixdown.http.services import Services
from mixdown.model.errors import QueryError
from mixdown.model.values import clean_text
from mixdown.query.engage import (
    DEFAULT_PAGE_SIZE,
    IDS_LIMIT,
    PAGE_SIZE_LIMIT,
    ProfileQueries,
    ProfileQuery,
)
from mixdown.query.sharing import Shared

PATHS: Final = (
    "/api/query/engage",
    "/api/2.0/engage",
    "/api/query/engage/query",
    "/api/2.0/engage/query",  # mixpanel-import's fallback (contract query §1.1)
)
PAGE_LIMIT: Final = 10**9
LIMIT_LIMIT: Final = 2**53
PROPERTIES_LIMIT: Final = 2000
BUILT: Final = (
    "distinct_id, distinct_ids, data_group_id, output_properties, page, page_size, session_id and limit"
)
NOT_BUILT: Final = (
    "where",
    "selector",
    "behaviors",
    "filter_by_cohort",
    "sort_key",
    "sort_order",
    "search",
    "as_of",
)
NOT_BUILT_TEXT: Final = "{name}, this parameter is not built yet; this version answers " + BUILT


def routes(services: Services) -> list[Route]:
    """The routes of the profile query (slashes at their end are the application's business)."""
    queries = ProfileQueries(services.store)
    shared: Shared[bytes] = Shared()

    async def answer(query: ProfileQuery) -> bytes:
        return await in_thread(services, queries.answer, query, now_ms=services.now_ms())

    async def engage(request: Request) -> Response:
        read = await begin_read(request, services)
        query = profile_query(read.project.id, read.parameters)
        if query.is_shared:
            body = await in_time(services, shared.answer(query, partial(answer, query)))
        else:
            body = await answer(query)
        return json_response(body, behind=read.behind)

    return [
        Route(path + slash, answering(engage), methods=["GET", "POST"])
        for path in PATHS
        for slash in ("", "/")
    ]


def profile_query(project_id: int, parameters: Parameters) -> ProfileQuery:
    """What the parameters ask for. Raises `QueryError` (400) naming the parameter that is wrong."""
    for name in NOT_BUILT:
        if parameters.given(name):
            raise QueryError(NOT_BUILT_TEXT.format(name=name), status=400)
    return ProfileQuery(
        project=project_id,
        data_group_id=parameters.text("data_group_id"),
        distinct_ids=_ids(parameters),
        output_properties=parameters.strings("output_properties", limit=PROPERTIES_LIMIT),
        page=parameters.integer("page", 0, low=0, high=PAGE_LIMIT),
        page_size=parameters.integer("page_size", DEFAULT_PAGE_SIZE, low=1, high=PAGE_SIZE_LIMIT),
        session_id=parameters.text("session_id"),
        limit=parameters.integer("limit", 0, low=1, high=LIMIT_LIMIT),
    )


def _ids(parameters: Parameters) -> tuple[str, ...] | None:
    """The ids asked for: `distinct_id` and `distinct_ids` together mean those in both."""
    many = parameters.strings("distinct_ids", limit=IDS_LIMIT)
    one = clean_text(parameters.text("distinct_id"))
    if not one:
        return many
    return (one,) if many is None or one in many else ()
