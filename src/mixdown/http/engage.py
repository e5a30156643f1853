"""The profile query endpoint, `engage` (contract query §2, §7): GET and POST, with and without slash.

Requests enter; pages of profiles leave, built by `query.engage`. What is not taken is refused by name, never
ignored: an answer without the filter that was asked for would be a wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import (
    begin_read,
    in_event_thread,
    in_scan_thread,
    in_thread,
    in_time,
    json_response,
)
from mixdown.http.services import Services
from mixdown.model.errors import QueryError, ReadTimeoutError
from mixdown.model.values import clean_text
from mixdown.query.choosing import ONE_OF_BOTH, SEARCH_LIMIT_CHARS, Filters
from mixdown.query.engage import (
    DEFAULT_PAGE_SIZE,
    IDS_LIMIT,
    PAGE_SIZE_LIMIT,
    ProfileQueries,
    ProfileQuery,
)
from mixdown.query.history import read_time
from mixdown.query.sharing import Shared
from mixdown.store.chunk import FOR_ALL, FOR_PROFILES

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
AS_OF_LIMIT_S: Final = 253_402_300_799
"""The last second that a date can name."""
RAW_COHORT: Final = 'filter_by_cohort, raw_cohort is not taken: save a cohort, and name it as {"id": N}'
TOO_LONG: Final = (
    "where, looking through the profiles took longer than {limit} s: make the expressions simpler"
)
SORT_ORDERS: Final = {"": False, "ascending": False, "descending": True}


def routes(services: Services) -> list[Route]:
    """The routes of the profile query (slashes at their end are the application's business)."""
    queries = ProfileQueries(services.store, services.event_reads)
    shared: Shared[bytes] = Shared()

    async def answer(query: ProfileQuery) -> bytes:
        thread = in_scan_thread if query.looks_through_all else in_thread
        if query.looks_through_all and await counts_events(services, query.project, query.filters):
            thread = in_event_thread
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
        read = await begin_read(request, services, named=_named, kinds_of=kinds_of)
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
        include_all_users=parameters.boolean("include_all_users", default=None),
        sort_key=_expression(parameters.text("sort_key")),
        descending=SORT_ORDERS[order],
        behaviors=_behaviors(parameters),
        as_of_ms=1000 * parameters.integer("as_of_timestamp", 0, low=0, high=AS_OF_LIMIT_S),
    )


def _behaviors(parameters: Parameters) -> str:
    """What persons did, as JSON; "" where nothing is said of it."""
    if not parameters.given("behaviors"):
        return ""
    if parameters.given("filter_by_cohort"):
        raise QueryError(ONE_OF_BOTH, status=400)
    return orjson.dumps(parameters.value("behaviors")).decode()


def kinds_of(parameters: Parameters) -> int:
    """The readers that a read of profiles waits for: that of events too, where it may count them."""
    counts = any(map(parameters.given, ("behaviors", "filter_by_cohort", "segment_by_cohorts")))
    return FOR_ALL if counts else FOR_PROFILES


async def counts_events(
    services: Services, project: int, filters: Filters, cohorts: Iterable[int] = ()
) -> bool:
    """Whether a read counts events: it runs where these are read, in the memory that such reads have."""
    if filters.behaviors:
        return True
    numbers = [number for number in (filters.cohort, *cohorts) if number]

    def look() -> bool:
        found = [services.store.cohorts.get(project, number) for number in numbers]
        return any(cohort is not None and cohort.behaviors for cohort in found)

    return bool(numbers) and await in_thread(services, look)


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
    depends_on_all = parameters.given("session_id") or kinds_of(parameters) == FOR_ALL
    return None if depends_on_all else _ids(parameters)


def _ids(parameters: Parameters) -> tuple[str, ...] | None:
    """The ids asked for: `distinct_id` and `distinct_ids` together mean those in both."""
    many = parameters.strings("distinct_ids", limit=IDS_LIMIT)
    one = clean_text(parameters.text("distinct_id"))
    if not one:
        return many
    return (one,) if many is None or one in many else ()
