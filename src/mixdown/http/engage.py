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
from mixdown.http.reading import begin_read, in_scan_thread, in_thread, in_time, json_response
from mixdown.http.services import Services
from mixdown.model.errors import QueryError, ReadTimeoutError
from mixdown.model.values import clean_text
from mixdown.query.choosing import SEARCH_LIMIT_CHARS, Filters
from mixdown.query.engage import (
    DEFAULT_PAGE_SIZE,
    IDS_LIMIT,
    PAGE_SIZE_LIMIT,
    ProfileQueries,
    ProfileQuery,
)
from mixdown.query.history import read_time
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
COHORT_ID_LIMIT_CHARS: Final = 16
NOT_BUILT: Final = {
    "behaviors": "behaviors, a filter by what persons did is not built yet",
}
RAW_COHORT: Final = 'filter_by_cohort, raw_cohort is not taken: save a cohort, and name it as {"id": N}'
TOO_LONG: Final = (
    "where, looking through the profiles took longer than {limit} s: make the expressions simpler"
)
SORT_ORDERS: Final = {"": False, "ascending": False, "descending": True}


def routes(services: Services) -> list[Route]:
    """The routes of the profile query (slashes at their end are the application's business)."""
    queries = ProfileQueries(services.store)
    shared: Shared[bytes] = Shared()

    async def answer(query: ProfileQuery) -> bytes:
        thread = in_scan_thread if query.looks_through_all else in_thread
        return await thread(services, queries.answer, query, now_ms=services.now_ms())

    async def answer_in_time(query: ProfileQuery) -> bytes:
        try:
            if query.is_shared:
                return await in_time(services, shared.answer(query, partial(answer, query)))
            return await answer(query)
        except ReadTimeoutError:
            if not query.filters.are_given:
                raise
            limit_s = services.settings.read_timeout_s
            raise QueryError(TOO_LONG.format(limit=f"{limit_s:g}"), status=400) from None

    async def engage(request: Request) -> Response:
        read = await begin_read(request, services, named=_named)
        query = profile_query(read.project.id, read.parameters)
        if read.parameters.given("as_of"):
            time_ms = read_time(read.parameters.text("as_of"), "as_of")
            answer = await in_thread(services, queries.answer_as_of, query, time_ms, now_ms=services.now_ms())
            return json_response(answer, behind=read.behind)
        return json_response(await answer_in_time(query), behind=read.behind)

    return [
        Route(path + slash, answering(engage), methods=["GET", "POST"])
        for path in PATHS
        for slash in ("", "/")
    ]


def profile_query(project_id: int, parameters: Parameters) -> ProfileQuery:
    """What the parameters ask for. Raises `QueryError` (400) naming the parameter that is wrong."""
    for name, text in NOT_BUILT.items():
        if parameters.given(name):
            raise QueryError(text, status=400)
    return ProfileQuery(
        project=project_id,
        filters=filters_of(parameters),
        distinct_ids=_ids(parameters),
        ignore_alias=parameters.boolean("ignore_alias", default=False),
        output_properties=parameters.strings("output_properties", limit=PROPERTIES_LIMIT),
        page=parameters.integer("page", 0, low=0, high=PAGE_LIMIT),
        page_size=parameters.integer("page_size", DEFAULT_PAGE_SIZE, low=1, high=PAGE_SIZE_LIMIT),
        session_id=parameters.text("session_id"),
        limit=parameters.integer("limit", 0, low=1, high=LIMIT_LIMIT),
    )


def filters_of(parameters: Parameters) -> Filters:
    """What narrows and orders a read. Raises `QueryError` (400) naming the parameter that is wrong."""
    search = clean_text(parameters.text("search"))
    if len(search) > SEARCH_LIMIT_CHARS:
        raise QueryError(f"search, must be a text of at most {SEARCH_LIMIT_CHARS} characters", status=400)
    order = parameters.text("sort_order").strip().lower()
    if order not in SORT_ORDERS:
        raise QueryError("sort_order, must be ascending or descending", status=400)
    return Filters(
        data_group_id=parameters.text("data_group_id"),
        where=_expression(parameters.text("where")),
        selector=_expression(parameters.text("selector")),
        search=search,
        cohort=_cohort(parameters),
        include_all_users=parameters.boolean("include_all_users", default=True),
        sort_key=_expression(parameters.text("sort_key")),
        descending=SORT_ORDERS[order],
    )


def _expression(text: str) -> str:
    """An expression as it was sent, so that positions count from its start; "" where it is blank."""
    return text if text.strip() else ""


def _cohort(parameters: Parameters) -> int:
    """The number in `filter_by_cohort`: an object, or the text of one; 0 where it is absent."""
    if not parameters.given("filter_by_cohort"):
        return 0
    asked = parameters.value("filter_by_cohort")
    if type(asked) is dict and "raw_cohort" in asked:
        raise QueryError(RAW_COHORT, status=400)
    number = asked.get("id") if type(asked) is dict else None
    text = str(number).strip() if type(number) in (int, str) else ""
    if not (text.isascii() and text.isdecimal() and 0 < len(text) <= COHORT_ID_LIMIT_CHARS and int(text)):
        raise QueryError('filter_by_cohort, must be {"id": N}, with the number of a cohort', status=400)
    return int(text)


def _named(parameters: Parameters) -> tuple[str, ...] | None:
    """The ids of the only profiles that the answer depends on; of a frozen page they are not known here."""
    return None if parameters.given("session_id") else _ids(parameters)


def _ids(parameters: Parameters) -> tuple[str, ...] | None:
    """The ids asked for: `distinct_id` and `distinct_ids` together mean those in both."""
    many = parameters.strings("distinct_ids", limit=IDS_LIMIT)
    one = clean_text(parameters.text("distinct_id"))
    if not one:
        return many
    return (one,) if many is None or one in many else ()
