"""Reads of events as OpenAPI has them: figures, names, the raw export, activity and the scripts of JQL.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mixdown.http import events, events_activity, events_export
from mixdown.http.openapi_figures import figure_errors
from mixdown.http.openapi_pieces import (
    ENCODING,
    FORM,
    PROJECT,
    READERS,
    WAIT,
    Operation,
    content,
    form_of,
    operation,
    parameter,
    ref,
    request_body,
    response,
)
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.query.events import activity, jql
from mixdown.query.events.buckets import BUCKETS_LIMIT, UNITS
from mixdown.query.events.figures import CELLS_LIMIT, KINDS
from mixdown.settings import Settings

_TAG: Final = "Events"
_BEHIND: Final = "How many records the answer is behind; absent when it is not."
_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_FROM: Final = parameter("from_date", "The first day, YYYY-MM-DD.", _TEXT)
_TO: Final = parameter("to_date", "The last day, inclusive.", _TEXT)
_TYPE: Final = parameter(
    "type",
    "How often (`general`), by how many persons (`unique`), or how often by each of them (`average`).",
    {"type": "string", "enum": list(KINDS), "default": KINDS[0]},
)
_UNIT: Final = parameter(
    "unit", "How time is cut.", {"type": "string", "enum": list(UNITS), "default": "day"}
)
_INTERVAL: Final = parameter(
    "interval",
    "The last so many units, the current one included, where there is no `from_date`.",
    {"type": "integer", "minimum": 1, "maximum": BUCKETS_LIMIT},
)
_FORMAT: Final = parameter(
    "format", "csv: a line for each key, a column for each name.", {"type": "string", "enum": ["json", "csv"]}
)
_EVENT: Final = parameter("event", "The name of an event.", _TEXT)
_NAME: Final = parameter("name", "The name of a property.", _TEXT) | {"required": True, "example": "plan"}
_LINE: Final[dict[str, Any]] = {
    "event": "signed up",
    "properties": {
        "time": 1795319639,
        "distinct_id": "ada",
        "$insert_id": "7c6c60b235c3cb44",
        "mp_processing_time_ms": 1795319640250,
        "$mp_api_endpoint": "api.mixpanel.com",
        "$mp_api_timestamp_ms": 1795319640250,
        "plan": "pro",
    },
}
_SERIES: Final[dict[str, Any]] = {
    "data": {
        "series": ["2026-11-21", "2026-11-22"],
        "values": {"signed up": {"2026-11-21": 3, "2026-11-22": 5}},
    },
    "legend_size": 1,
}
_CSV: Final = "date,signed up\n2026-11-21,3\n2026-11-22,5\n"
_SERIES_NOTE: Final = f"Every name has every key. At most {BUCKETS_LIMIT} keys, and {CELLS_LIMIT} figures."
_SERIES_CONTENT: Final = content(ref("EventSeries"), _SERIES) | content({"type": "string"}, _CSV, "text/csv")
_DAYS: Final = (_FROM | {"example": "2026-11-21"}, _TO | {"example": "2026-11-22"})


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    found: dict[str, dict[str, Operation]] = {events_activity.ACTIVITY: _activity()}
    for number, prefix in enumerate(QUERY_PREFIXES):
        suffix = str(number or "")
        for name, told in _figures(prefix, suffix).items():
            found[f"{prefix}/{name}"] = {"get": told}
        found[f"{prefix}/{events_export.EXPORT}"] = {"get": _export(prefix, suffix)}
        found[f"{prefix}/{events_export.JQL}"] = {"post": _jql(prefix, suffix)}
        found |= _streams(prefix, suffix)
    return found


def _limit(most: int, default: int) -> dict[str, Any]:
    return parameter(
        "limit",
        f"At most so many; never more than {most}.",
        {"type": "integer", "minimum": 1, "maximum": events.LIMIT_LIMIT, "default": default},
    )


def _read(
    identity: str,
    path: str,
    summary: str,
    description: str,
    body: Mapping[str, Any],
    parameters: tuple[Mapping[str, Any], ...],
) -> Operation:
    return operation(
        identity,
        _TAG,
        summary,
        description,
        figure_errors(path) | {"200": response("The answer.", body, X_Mixdown_Behind=_BEHIND)},
        parameters=(PROJECT | {"example": 1}, *parameters, WAIT),
        security=READERS,
    )


def _figures(prefix: str, suffix: str) -> dict[str, Operation]:
    names = parameter(
        "event", "Names, as a JSON list or repeated.", _TEXTS | {"maxItems": events.EVENTS_LIMIT}
    )
    return {
        "events": _read(
            f"countEvents{suffix}",
            f"{prefix}/events",
            "Count events over time",
            _SERIES_NOTE,
            _SERIES_CONTENT,
            (
                names | {"required": True, "example": '["signed up"]'},
                _TYPE,
                _UNIT,
                _INTERVAL,
                *_DAYS,
                _FORMAT,
            ),
        ),
        "events/names": _read(
            f"listEventNames{suffix}",
            f"{prefix}/events/names",
            "List the names of events",
            "The most frequent first, of the last 31 days where no days are given.",
            content(ref("Texts"), ["page view", "signed up"]),
            (_TYPE, _FROM, _TO, _limit(events.NAMES_LIMIT, events.DEFAULT_NAMES)),
        ),
        "events/top": _read(
            f"listTopEvents{suffix}",
            f"{prefix}/events/top",
            "List the events of today",
            "With the change since yesterday: the difference, as a part of the larger of the two.",
            content(
                ref("TopEvents"),
                {"events": [{"event": "signed up", "amount": 5, "percent_change": 0.4}], "type": "general"},
            ),
            (_TYPE, _limit(events.NAMES_LIMIT, events.DEFAULT_TOP)),
        ),
    } | _property_figures(prefix, suffix)


def _property_figures(prefix: str, suffix: str) -> dict[str, Operation]:
    values = parameter("values", "Only these values.", _TEXTS | {"maxItems": events.VALUES_LIMIT})
    recent = "Without days, the 31 that end with the newest event."
    return {
        "events/properties": _read(
            f"countEventsByProperty{suffix}",
            f"{prefix}/events/properties",
            "Count an event by the values of a property",
            f"The most frequent values. An event without one counts as `undefined`, one with a list under "
            f"each different element of it. {_SERIES_NOTE}",
            _SERIES_CONTENT,
            (
                _EVENT | {"required": True, "example": "signed up"},
                _NAME,
                values,
                _TYPE,
                _UNIT,
                _INTERVAL,
                *_DAYS,
                _FORMAT,
                _limit(events.VALUES_ANSWERED_LIMIT, events.DEFAULT_VALUES),
            ),
        ),
        "events/properties/top": _read(
            f"listEventProperties{suffix}",
            f"{prefix}/events/properties/top",
            "List the properties of events",
            f"In how many events each stands, the most frequent first. {recent}",
            content(ref("EventProperties"), {"plan": {"count": 5}}),
            (_EVENT, _FROM, _TO, _limit(events.PROPERTIES_LIMIT, events.PROPERTIES_LIMIT)),
        ),
        "events/properties/values": _read(
            f"listEventPropertyValues{suffix}",
            f"{prefix}/events/properties/values",
            "List the values of a property",
            f"As text, the most frequent first. {recent}",
            content(ref("Texts"), ["pro", "free"]),
            (_NAME, _EVENT, _FROM, _TO, _limit(events.VALUES_ANSWERED_LIMIT, events.DEFAULT_VALUES)),
        ),
    }


def _export(prefix: str, suffix: str) -> Operation:
    names = parameter(
        "event", "Names, as a JSON list or repeated.", _TEXTS | {"maxItems": events_export.EVENTS_LIMIT}
    )
    lines = events_export.LINES.partition(";")[0]
    return _read(
        f"exportEvents{suffix}",
        f"{prefix}/{events_export.EXPORT}",
        "Export raw events",
        "An event a line, in the order of time, each once; no bytes where there are none. Days are UTC days; "
        "one that has begun nowhere on Earth is refused. Sent while it is made, with gzip where accepted; "
        "if it cannot be finished the connection breaks.",
        content({"type": "string"}, None, lines),
        (
            _FROM | {"required": True, "example": "2026-01-01"},
            _TO | {"required": True, "example": "2026-01-31"},
            names,
            parameter(
                "where", "An expression over the event, and `user[...]` of its person's profile.", _TEXT
            ),
            parameter(
                "limit",
                "At most so many.",
                {"type": "integer", "minimum": 1, "maximum": events_export.EXPORT_LIMIT},
            ),
            parameter("time_in_ms", "Times in milliseconds, not seconds.", {"type": "boolean"}),
        ),
    )


def _jql(prefix: str, suffix: str) -> Operation:
    path = f"{prefix}/{events_export.JQL}"
    script = parameter("script", "One of the three scripts that mixpanel-utils sends itself.", _TEXT)
    params = parameter("params", "Its parameters, a JSON object.", _TEXT)
    form = form_of((PROJECT, script, params, parameter("format", "json.", _TEXT)))
    asked = {"project_id": "1", "script": jql.SCRIPTS[jql.PEOPLE], "params": "{}"}
    return operation(
        f"runScript{suffix}",
        _TAG,
        "Answer a script of mixpanel-utils",
        "JQL is not run: the constant scripts of mixpanel-utils are known by text, any other is refused.",
        figure_errors(path)
        | {
            "200": response(
                "What the script gives.", content({"type": "array"}, []), X_Mixdown_Behind=_BEHIND
            )
        },
        parameters=(WAIT, ENCODING),
        body=request_body(content(form, asked, FORM)),
        security=READERS,
    )


def _streams(prefix: str, suffix: str) -> dict[str, dict[str, Operation]]:
    answer = response(
        "A page, in the order of time.",
        content(
            ref("StreamAnswer"),
            {"status": "ok", "results": {"events": [_LINE], "sentinel_event": None}},
        ),
        X_Mixdown_Behind=_BEHIND,
    )
    description = (
        "The newest events of these persons, with those of all ids that are linked to theirs, at most "
        f"{activity.PAGE_LIMIT}; of groups with `data_group_id`. Of the last 30 days where none are given."
    )
    ids = parameter(
        "distinct_ids",
        "Ids, as a JSON list or repeated.",
        _TEXTS | {"maxItems": events_activity.IDS_LIMIT},
    )
    group = parameter("data_group_id", "A group key's name or number: the ids are of its groups.", _TEXT)
    body = request_body(content(ref("StreamQuery"), {"project_id": 1, "distinct_ids": ["ada"]}))
    found: dict[str, dict[str, Operation]] = {}
    for name, identity in zip(events_activity.STREAMS, ("readStream", "readStreamByBookmark"), strict=True):
        path = f"{prefix}/{name}"
        found[path] = {
            "post": operation(
                f"{identity}{suffix}",
                _TAG,
                "Read what persons did",
                description,
                figure_errors(path) | {"200": answer},
                parameters=(WAIT, ENCODING),
                body=body,
                security=READERS,
            )
        }
    found[f"{prefix}/stream/query"]["get"] = _read(
        f"readStreamByUrl{suffix}",
        f"{prefix}/stream/query",
        "Read what persons did",
        description,
        answer["content"],
        (ids | {"required": True, "example": '["ada"]'}, _FROM, _TO, group),
    )
    return found


def _activity() -> dict[str, Operation]:
    told = _read(
        "getActivity",
        events_activity.ACTIVITY,
        "Read what a person or a group did",
        "Newest first, a page at a time. A person's events are those of all linked ids; a group's those that "
        "name it in the property of its group key, by the value or in a list.",
        content(ref("ActivityAnswer"), {"status": "ok", "results": [_LINE], "next": None}),
        (
            parameter("distinct_id", "The person.", _TEXT) | {"example": "ada"},
            parameter("group_key", "Or the name of a group key.", _TEXT),
            parameter("group_id", "And the group.", _TEXT),
            parameter("event", "Only events of these names.", _TEXTS),
            parameter(
                "search",
                "Only events that have this text in their name or a value, whatever the case.",
                _TEXT | {"maxLength": events_activity.SEARCH_LIMIT_CHARS},
            ),
            parameter(
                "property",
                "Search in the values of these properties alone; without `search`: events that have one.",
                _TEXTS,
            ),
            _FROM,
            _TO,
            parameter("before", "`next` of the page before.", _TEXT),
            parameter(
                "limit",
                f"{events_activity.DEFAULT_LIMIT} by default.",
                {"type": "integer", "minimum": 1, "maximum": events_activity.ACTIVITY_LIMIT},
            ),
        ),
    )
    return {"get": told}
