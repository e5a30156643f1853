"""What persons and groups did: `stream/query`, `stream/bookmark`, and `/api/mixdown/activity`.

Requests enter; pages of events leave (contract query §5.1). Mixpanel's two have a page in the order of time,
and go back in time from page to page; Mixdown's own has the newest first throughout.
"""

from __future__ import annotations

from datetime import date, tzinfo
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.date_ranges import date_range
from mixdown.http.own import PREFIX
from mixdown.http.parameters import Parameters
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.http.read_errors import answering
from mixdown.http.reading import Read, begin_read, in_event_thread, json_response
from mixdown.http.services import Services
from mixdown.model.errors import QueryError
from mixdown.model.values import clean_text
from mixdown.query.events.activity import (
    PAGE_LIMIT,
    ActivityQuery,
    Page,
    Place,
    Search,
    activity_page,
    place_of,
    place_text,
)
from mixdown.query.events.buckets import Span, days_before, span_of_days, today
from mixdown.query.events.lines import ascii_lines
from mixdown.query.group_keys import group_key_of
from mixdown.store.chunk import FOR_ALL
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.zones import zone_of

STREAMS: Final = ("stream/query", "stream/bookmark")
ACTIVITY: Final = f"{PREFIX}/activity"
IDS_LIMIT: Final = 1000
NAMES_LIMIT: Final = 2000
SEARCH_LIMIT_CHARS: Final = 1000
DEFAULT_LIMIT: Final = 100
ACTIVITY_LIMIT: Final = 1000
RECENT_DAYS: Final = 30
WINDOW_LIMIT: Final = 1000
WINDOW_UNITS: Final = {"day": 1, "week": 7, "month": 30, "year": 365}
RANGE_TYPES: Final = "between, since or relative_after"
_PLACE_LIMIT: Final = 2**53


def routes(services: Services) -> list[Route]:
    """The routes of this file, Mixpanel's each with and without a slash at its end."""
    reads = services.event_reads

    async def page_of(query: ActivityQuery) -> Page:
        return await in_event_thread(services, activity_page, reads, query)

    async def stream(request: Request) -> Response:
        read = await begin_read(request, services, kinds=FOR_ALL)
        group_key = await in_event_thread(services, _group_key, services, read)
        page = await page_of(_stream_query(read, group_key, services.now_ms()))
        return json_response(_stream_answer(page), behind=read.behind)

    async def activity(request: Request) -> Response:
        read = await begin_read(request, services, kinds=FOR_ALL)
        group_key = await in_event_thread(services, _group_key, services, read)
        page = await page_of(_activity_query(read, group_key, services.now_ms()))
        following = orjson.dumps(None if page.following is None else place_text(page.following))
        body = b'{"status":"ok","results":[%b],"next":%b}' % (_listed(page.lines), following)
        return json_response(body, behind=read.behind)

    found = [Route(ACTIVITY, answering(activity), methods=["GET"])]
    methods = {"stream/query": ["GET", "POST"], "stream/bookmark": ["POST"]}
    for prefix in QUERY_PREFIXES:
        for name in STREAMS:
            found += [
                Route(f"{prefix}/{name}{slash}", answering(stream), methods=methods[name])
                for slash in ("", "/")
            ]
    return found


def _group_key(services: Services, read: Read) -> str:
    """The group key that the ids are of; "" for persons. Raises `QueryError` (400)."""
    parameters = read.parameters
    named = parameters.text("data_group_id") or clean_text(parameters.text("group_key"))
    return group_key_of(services.store.state, read.project.id, named)


def _activity_query(read: Read, group_key: str, now_ms: int) -> ActivityQuery:
    parameters, zone = read.parameters, zone_of(read.project.timezone)
    name = "group_id" if group_key else "distinct_id"
    one = clean_text(parameters.text(name))
    if not one:
        raise QueryError(
            "distinct_id, missing: name a person by distinct_id, or a group by group_key and group_id",
            status=400,
        )
    before = parameters.text("before")
    return ActivityQuery(
        project=read.project.id,
        span=_days(parameters, now_ms, zone) or Span(FIRST_MS, LAST_MS),
        ids=(one,),
        group_key=group_key,
        include=parameters.strings("event", limit=NAMES_LIMIT) or None,
        search=_activity_search(parameters),
        before=place_of(before, "before") if before else None,
        limit=parameters.integer("limit", DEFAULT_LIMIT, low=1, high=ACTIVITY_LIMIT),
    )


def _stream_query(read: Read, group_key: str, now_ms: int) -> ActivityQuery:
    parameters, zone = read.parameters, zone_of(read.project.timezone)
    ids = parameters.strings("distinct_ids", limit=IDS_LIMIT)
    if not ids:
        raise QueryError("distinct_ids, missing: name at least one, as a JSON list", status=400)
    include = parameters.strings("include_events", limit=NAMES_LIMIT)
    exclude = parameters.strings("exclude_events", limit=NAMES_LIMIT)
    if include and exclude:
        raise QueryError("include_events, give this or exclude_events, not both", status=400)
    span = _bookmark_days(parameters, now_ms, zone) or _days(parameters, now_ms, zone)
    return ActivityQuery(
        project=read.project.id,
        span=span or _recent(now_ms, zone),
        ids=ids,
        group_key=group_key,
        include=include or None,
        exclude=exclude or (),
        search=_search(parameters),
        before=_sentinel(parameters),
        limit=parameters.integer("limit", PAGE_LIMIT, low=1, high=PAGE_LIMIT),
    )


def _days(parameters: Parameters, now_ms: int, zone: tzinfo) -> Span | None:
    days = date_range(parameters)
    if days.first is None and days.last is None:
        return None
    last = days.last or today(now_ms, zone)
    return span_of_days(days.first or days_before(last, RECENT_DAYS), last, zone)


def _recent(now_ms: int, zone: tzinfo) -> Span:
    day = today(now_ms, zone)
    return span_of_days(days_before(day, RECENT_DAYS), day, zone)


def _bookmark_days(parameters: Parameters, now_ms: int, zone: tzinfo) -> Span | None:
    """The days that `bookmark.dateRange` names; None where it names none."""
    bookmark = parameters.value("bookmark")
    if bookmark is None:
        return None
    if type(bookmark) is not dict or type(bookmark.get("dateRange", {})) is not dict:
        raise QueryError("bookmark, must be an object with dateRange", status=400)
    told = bookmark.get("dateRange")
    if not told:
        return None
    kind = told.get("type")
    if kind in ("between", "since"):
        days = date_range(
            Parameters({"from_date": told.get("from"), "to_date": told.get("to")}), required=kind == "between"
        )
        if days.first is not None:
            return span_of_days(days.first, days.last or today(now_ms, zone), zone)
    elif kind in ("relative_after", "in_the_last"):
        return _window(told.get("window"), today(now_ms, zone), zone)
    raise QueryError(f"bookmark, dateRange must be of the type {RANGE_TYPES}, with its days", status=400)


def _window(window: Any, day: date, zone: tzinfo) -> Span:
    value = window.get("value") if type(window) is dict else None
    unit = WINDOW_UNITS.get(str(window.get("unit"))) if type(window) is dict else None
    if type(value) is not int or not 0 < value <= WINDOW_LIMIT or unit is None:
        units = ", ".join(WINDOW_UNITS)
        raise QueryError(f"bookmark, window must have a value up to {WINDOW_LIMIT} of {units}", status=400)
    return span_of_days(days_before(day, value * unit), day, zone)


def _activity_search(parameters: Parameters) -> Search | None:
    text = _search_text(parameters)
    names = parameters.strings("property", limit=NAMES_LIMIT) or ()
    return Search(text, names) if text or names else None


def _search_text(parameters: Parameters) -> str:
    text = clean_text(parameters.text("search"))
    if len(text) > SEARCH_LIMIT_CHARS:
        raise QueryError(f"search, must be a text of at most {SEARCH_LIMIT_CHARS} characters", status=400)
    return text


def _search(parameters: Parameters) -> Search | None:
    text = _search_text(parameters)
    given = parameters.value("search_properties")
    named = [] if given is None else given
    if type(named) is not list or len(named) > NAMES_LIMIT:
        raise QueryError("search_properties, must be a list of properties", status=400)
    names = []
    for each in named:
        if type(each) is not dict or type(each.get("value")) is not str:
            raise QueryError('search_properties, each must be {"value": name}', status=400)
        if each.get("resourceType", "event") not in ("event", "Event", "events"):
            raise QueryError("search_properties, only properties of events are searched", status=400)
        names.append(each["value"])
    return Search(text, tuple(names)) if text else None


def _sentinel(parameters: Parameters) -> Place | None:
    """Where the page before ended, as it was given back with it."""
    told = parameters.value("sentinel_event")
    if told is None:
        return None
    time_ms, position = (told.get("time"), told.get("position")) if type(told) is dict else (None, None)
    if type(time_ms) is not int or type(position) is not int:
        raise QueryError("sentinel_event, must be what the page before gave", status=400)
    if not (abs(time_ms) <= _PLACE_LIMIT and 0 <= position <= _PLACE_LIMIT):
        raise QueryError("sentinel_event, must be what the page before gave", status=400)
    return Place(time_ms, position)


def _listed(lines: list[str]) -> bytes:
    return ascii_lines(lines).rstrip(b"\n").replace(b"\n", b",")


def _stream_answer(page: Page) -> bytes:
    """A page in the order of time, and the place where the one before it in time ends (null: none is)."""
    following = page.following
    sentinel = None if following is None else {"time": following.time_ms, "position": following.position}
    return b'{"status":"ok","results":{"events":[%b],"sentinel_event":%b}}' % (
        _listed(page.lines[::-1]),
        orjson.dumps(sentinel),
    )
