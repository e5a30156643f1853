"""Mixdown's own reads of events as OpenAPI has them.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mixdown.http import events, events_own
from mixdown.http.openapi_figures import figure_errors
from mixdown.http.openapi_pieces import (
    PROJECT,
    READERS,
    WAIT,
    Operation,
    content,
    operation,
    parameter,
    ref,
    response,
)
from mixdown.query.events.buckets import BUCKETS_LIMIT, UNITS
from mixdown.query.events.figures import CELLS_LIMIT, KINDS
from mixdown.query.events.properties import PROPERTIES_LIMIT
from mixdown.query.events.volumes import SORTS
from mixdown.settings import Settings

_BEHIND: Final = "How many records the answer is behind; absent when it is not."
_TEXT: Final = {"type": "string"}
_FROM: Final = parameter("from_date", "The first day, YYYY-MM-DD, in the project's time zone.", _TEXT)
_TO: Final = parameter("to_date", "The last day, inclusive.", _TEXT)
_NAMES: Final = parameter(
    "event",
    "Only events of these names, as a JSON list or repeated.",
    {"type": "array", "items": _TEXT, "maxItems": events.EVENTS_LIMIT},
)
_WHERE: Final = parameter(
    "where",
    "Only what this expression over the event, and `user[...]` of its person's profile, matches.",
    _TEXT,
)
_TYPE: Final = parameter(
    "type",
    "How often (`general`), by how many persons (`unique`), or how often by each of them (`average`).",
    {"type": "string", "enum": list(KINDS), "default": KINDS[0]},
)
_LINE: Final = {
    "event": "signed up",
    "properties": {
        "time": 1795319639,
        "distinct_id": "ada",
        "$distinct_id": "ada",
        "$insert_id": "7c6c60b235c3cb44",
        "mp_processing_time_ms": 1795319640250,
        "$mp_api_endpoint": "api.mixpanel.com",
        "$mp_api_timestamp_ms": 1795319640250,
        "plan": "pro",
    },
}
_VALUES: Final = {
    "whole": {"total": 8, "count": 8},
    "values": [{"value": "pro", "kind": "string", "total": 5, "count": 5}],
    "other": {"total": 3, "count": 3, "values": 2},
}
_SERIES: Final = {
    "unit": "day",
    "type": "general",
    "timezone": "UTC",
    "by": "plan",
    "series": ["2026-11-21", "2026-11-22"],
    "times": [1795219200, 1795305600],
    "whole": {"figures": [3, 5], "total": 8, "count": 8},
    "values": [{"value": "pro", "kind": "string", "figures": [1, 4], "total": 5, "count": 5}],
    "other": {"figures": [2, 1], "total": 3, "count": 3, "values": 2},
}
_VOLUMES: Final = {
    "timezone": "UTC",
    "series": ["2026-11-21", "2026-11-22"],
    "times": [1795219200, 1795305600],
    "names": 1,
    "total": 8,
    "figures": [3, 5],
    "events": [
        {
            "event": "signed up",
            "total": 8,
            "last_ms": 1795319639250,
            "figures": [3, 5],
            "today": {"count": 5, "before": 2},
            "week": {"count": 8, "before": 0},
            "month": {"count": 8, "before": 0},
        }
    ],
}
_COUNTED: Final = {
    "events": 8,
    "since": 1_792_800_000,
    "names": 1,
    "properties": [{"name": "plan", "count": 8, "kinds": {"string": 8}}],
}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {
        events_own.NEWEST: _newest(),
        events_own.VOLUMES: _volumes(),
        events_own.SERIES: _series(),
        events_own.VALUES: _values(),
        events_own.PROPERTIES: _properties(),
    }


def _read(
    identity: str,
    path: str,
    summary: str,
    description: str,
    answer: Mapping[str, Any],
    parameters: tuple[Mapping[str, Any], ...],
) -> dict[str, Operation]:
    told = operation(
        identity,
        "Events",
        summary,
        f"{description} Without days, the last {events_own.DAYS}."
        if identity != "listNewestEvents"
        else description,
        figure_errors(path) | {"200": response("As asked.", answer, X_Mixdown_Behind=_BEHIND)},
        parameters=(PROJECT | {"example": 1}, *parameters, WAIT),
        security=READERS,
    )
    return {"get": told}


def _limit(most: int, default: int, what: str = "At most so many") -> dict[str, Any]:
    return parameter(
        "limit",
        f"{what}; never more than {most}.",
        {"type": "integer", "minimum": 1, "maximum": events.LIMIT_LIMIT, "default": default},
    )


def _newest() -> dict[str, Operation]:
    return _read(
        "listNewestEvents",
        events_own.NEWEST,
        "List the newest events",
        "Newest first, a page at a time, of all time where no days are given.",
        content(ref("ActivityAnswer"), {"status": "ok", "results": [_LINE], "next": None}),
        (
            _NAMES,
            _WHERE,
            _FROM,
            _TO,
            parameter("before", "`next` of the page before.", _TEXT),
            parameter(
                "limit",
                f"{events_own.DEFAULT_NEWEST} by default.",
                {"type": "integer", "minimum": 1, "maximum": events_own.NEWEST_LIMIT},
            ),
        ),
    )


def _volumes() -> dict[str, Operation]:
    return _read(
        "listEventVolumes",
        events_own.VOLUMES,
        "List how often each event came",
        "Day by day in the span; today, in 7 and in 30 days, each with what came in the days before, up to "
        "the same time of day. Names that came in any of these days.",
        content(ref("EventVolumes"), {"status": "ok", "results": _VOLUMES}),
        (
            parameter(
                "search",
                "Only names with this somewhere, whatever the case.",
                _TEXT | {"maxLength": events_own.SEARCH_LIMIT_CHARS},
            ),
            parameter(
                "sort",
                "By what; `_change` is the difference as a part of the larger of the two.",
                {"type": "string", "enum": list(SORTS), "default": SORTS[0]},
            ),
            parameter(
                "sort_order",
                "`descending`, but for names.",
                {"type": "string", "enum": list(events_own.SORT_ORDERS)},
            ),
            _FROM,
            _TO,
            _limit(events.NAMES_LIMIT, events_own.DEFAULT_VOLUMES),
            parameter(
                "offset",
                "Begin after so many.",
                {"type": "integer", "minimum": 0, "maximum": events.LIMIT_LIMIT, "default": 0},
            ),
        ),
    )


_BY: Final = parameter(
    "by", "The property; an event counts once under each different element of a list.", _TEXT
)


def _series() -> dict[str, Operation]:
    csv = "date,pro,(other),total\n2026-11-21,1,2,3\n2026-11-22,4,1,5\n"
    return _read(
        "countEventsByValue",
        events_own.SERIES,
        "Count events over time by the values of a property",
        "Of the most frequent values, of all others together, and in all (`whole`; it alone where no "
        "property is named). `value` is null for events without the property. Ends with the current unit. At "
        f"{BUCKETS_LIMIT} units, and {CELLS_LIMIT} figures.",
        content(ref("EventBreakdownSeries"), {"status": "ok", "results": _SERIES})
        | content({"type": "string"}, csv, "text/csv"),
        (
            _NAMES,
            _BY,
            _WHERE,
            _TYPE,
            parameter("unit", "How time is cut.", {"type": "string", "enum": list(UNITS), "default": "day"}),
            parameter(
                "interval",
                "The last so many units, the current one included, instead of days.",
                {"type": "integer", "minimum": 1, "maximum": BUCKETS_LIMIT},
            ),
            _FROM,
            _TO,
            _limit(events_own.SERIES_VALUES_LIMIT, events_own.DEFAULT_VALUES, "At most so many values"),
            parameter(
                "format",
                "csv: a line for each unit, a column for each value, no text of it a formula.",
                {"type": "string", "enum": ["json", "csv"]},
            ),
        ),
    )


def _values() -> dict[str, Operation]:
    return _read(
        "countEventValues",
        events_own.VALUES,
        "Count events by the values of a property",
        "The most frequent values, all others together, and in all. `value` is null for events without it.",
        content(
            ref("EventBreakdown"), {"status": "ok", "results": {"type": "general", "by": "plan", **_VALUES}}
        ),
        (
            _BY | {"required": True, "example": "plan"},
            _NAMES,
            _WHERE,
            _TYPE,
            _FROM,
            _TO,
            _limit(events.VALUES_ANSWERED_LIMIT, events_own.DEFAULT_VALUES),
        ),
    )


def _properties() -> dict[str, Operation]:
    return _read(
        "listPropertiesOfEvents",
        events_own.PROPERTIES,
        "List the properties of events with their kinds",
        "In how many events each stands, and of what kind its values are, the most frequent first. Reserved "
        "names that the server gives to each event are left out.",
        content(ref("EventPropertyKinds"), {"status": "ok", "results": _COUNTED}),
        (
            parameter("event", "Only of events of this name.", _TEXT),
            _FROM,
            _TO,
            _limit(PROPERTIES_LIMIT, PROPERTIES_LIMIT),
            parameter(
                "recent",
                "Look at the last days alone that hold so many events at most, and at one of them at least; "
                "`since` tells (0: at all of them).",
                {"type": "integer", "minimum": 0, "maximum": events_own.RECENT_LIMIT, "default": 0},
            ),
        ),
    )
