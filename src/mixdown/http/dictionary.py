"""`/api/mixdown/dictionary`: the data dictionary with what is observed of the data beside what people wrote.

Requests with a service account or a project's secret enter; rows of one project leave, by `query.dictionary`.
Writing is for `http.schemas`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.own import PREFIX
from mixdown.http.read_errors import answering
from mixdown.http.reading import Read, begin_read, in_event_thread, in_thread, json_response
from mixdown.http.services import Services
from mixdown.model.errors import QueryError
from mixdown.model.values import clean_text
from mixdown.query.dictionary import (
    Row,
    described_events,
    described_profiles,
    described_properties,
    only_written,
)
from mixdown.query.events import names
from mixdown.query.events.buckets import Span, days_before, span_of_days, today
from mixdown.query.events.described import days_with
from mixdown.query.group_keys import group_key_of
from mixdown.store.chunk import FOR_EVENTS, FOR_PROFILES
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.zones import zone_of

PATH: Final = f"{PREFIX}/dictionary"
WORDS: Final = ("users", "groups", "events", "event_properties")
RECENT_DAYS: Final = 31
"""Properties of events are looked for in so many days, the last with events..."""
RECENT_EVENTS: Final = 300_000
"""... or in as many of them as hold so many events, so that the answer comes in about a second."""
WAIT_LIMIT_MS: Final = 20
_EVER: Final = Span(FIRST_MS, LAST_MS)


def routes(services: Services) -> list[Route]:
    """The routes of this family."""

    async def answer(request: Request) -> Response:
        read = await begin_read(
            request, services, wait_limit_ms=WAIT_LIMIT_MS, kinds=FOR_PROFILES | FOR_EVENTS
        )
        what = read.parameters.text("of").strip() or WORDS[0]
        if what not in WORDS:
            raise QueryError(f"of, must be one of {', '.join(WORDS)}", status=400)
        complete, days = True, None
        if what in ("users", "groups"):
            rows, complete = await in_thread(services, _profiles(services, read, what))
        else:
            rows, days = await in_event_thread(services, _events(services, read, what))
        body = orjson.dumps({"status": "ok", "complete": complete, "days": days, "results": rows})
        return json_response(body, behind=read.behind)

    return [Route(PATH, answering(answer), methods=["GET"])]


def _profiles(services: Services, read: Read, what: str) -> Callable[[], tuple[list[Row], bool]]:
    asked = read.parameters.text("data_group_id")
    if (what == "groups") != bool(asked):
        raise QueryError("data_group_id, name the group key of groups, and none of users", status=400)

    def find() -> tuple[list[Row], bool]:
        group_key = group_key_of(services.store.state, read.project.id, asked)
        return described_profiles(services.store, read.project.id, group_key)

    return find


def _events(services: Services, read: Read, what: str) -> Callable[[], tuple[list[Row], int | None]]:
    event = clean_text(read.parameters.text("event")) or None
    store, reads, project = services.store, services.event_reads, read.project

    def find() -> tuple[list[Row], int | None]:
        with reads.open(project.id, _EVER, persons=False) as table:
            if what == "events":
                return described_events(store, project.id, table), None
            newest_ms = names.newest_ms(table, event)
        if newest_ms is None:
            return only_written(store, project.id, event), RECENT_DAYS
        span = _recent(newest_ms, project.timezone, RECENT_DAYS)
        with reads.open(project.id, span, persons=False) as table:
            days = days_with(table, event, span, RECENT_EVENTS)
            span = _recent(newest_ms, project.timezone, days)
            return described_properties(store, project.id, table, event, span), days

    return find


def _recent(newest_ms: int, timezone: str, days: int) -> Span:
    zone: Any = zone_of(timezone)
    day = today(newest_ms, zone)
    return span_of_days(days_before(day, days - 1), day, zone)
