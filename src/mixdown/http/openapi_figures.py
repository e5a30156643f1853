"""`engage/properties` and `engage/stats` as OpenAPI has them.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from typing import Any

from mixdown.http import engage_properties, engage_stats
from mixdown.http.openapi_pieces import (
    ENCODING,
    FORM,
    PROJECT,
    READERS,
    RETRY_AFTER,
    WAIT,
    Operation,
    content,
    form_of,
    operation,
    parameter,
    read_errors,
    ref,
    request_body,
    response,
)
from mixdown.model import texts
from mixdown.query.choosing import SEARCH_LIMIT_CHARS
from mixdown.query.properties import PROPERTIES_LIMIT
from mixdown.query.stats import SEGMENTS_LIMIT
from mixdown.settings import Settings

_PROPERTIES = {
    "status": "ok",
    "computed_at": "2026-11-22T03:53:59+00:00",
    "complete": True,
    "results": {"plan": {"count": 2, "type": "string"}, "$last_seen": {"count": 2, "type": "datetime"}},
}


_STATS = {
    "status": "ok",
    "computed_at": "2026-11-22T03:53:59+00:00",
    "results": {"max": 8, "min": 1},
}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    described = {path: _properties(path, number) for number, path in enumerate(engage_properties.PATHS)}
    return described | {path: _stats(path, number) for number, path in enumerate(engage_stats.PATHS)}


def figure_errors(path: str) -> dict[str, Any]:
    """The errors of a read that counts as a query."""
    limited = texts.QUERY_RATE_LIMITED.format(project=1, limit=60, seconds=42)
    told = {"request": path, "error": limited, "status": "error"}
    return read_errors(path) | {
        "429": response(
            "The project is past its limit of queries, if the server or the project has one.",
            content(ref("ReadError"), told),
            Retry_After=RETRY_AFTER,
        )
    }


def _properties(path: str, number: int) -> dict[str, Operation]:
    parameters = (
        PROJECT | {"example": 1},
        parameter(
            "data_group_id", "A group key's name or number: groups instead of users.", {"type": "string"}
        ),
        WAIT,
    )
    answer = response(
        "The properties, those that most profiles hold first.",
        content(ref("PropertiesAnswer"), _PROPERTIES),
        X_Mixdown_Behind="How many records the answer is behind; absent when it is not.",
    )
    description = (
        f"In how many profiles each property is, and the type of most of its values; {PROPERTIES_LIMIT} "
        "properties at most, `$last_seen` always. Read from counts that are kept as profiles are written: no "
        "profile is read, and `where` and `limit` change nothing. `complete` is false while profiles that an "
        "older version stored are still being counted. It waits for what was just acknowledged for "
        f"{engage_properties.WAIT_LIMIT_MS} ms at most."
    )
    responses = figure_errors(path) | {"200": answer}
    suffix = str(number or "")
    return {
        "get": operation(
            f"listPropertiesByUrl{suffix}",
            "Reading",
            "List properties",
            description,
            responses,
            parameters=parameters,
            security=READERS,
        ),
        "post": operation(
            f"listProperties{suffix}",
            "Reading",
            "List properties",
            description,
            responses,
            parameters=(*parameters, ENCODING),
            body=request_body(
                content(ref("PropertiesQuery"), {"project_id": 1})
                | content(form_of(parameters), {"project_id": "1"}, FORM),
                required=False,
            ),
            security=READERS,
        ),
    }


def _stats_parameters() -> tuple[dict[str, Any], ...]:
    expression = {"type": "string"}
    return (
        PROJECT | {"example": 1},
        parameter(
            "action",
            'count(), extremes(properties["x"]), percentile(properties["x"], N) or '
            'numeric_summary(properties["x"]).',
            {"type": "string", "default": "count()"},
        ),
        parameter("selector", "Only profiles that this expression is true of.", expression),
        parameter("where", "The same; with both, both must be true.", expression),
        parameter(
            "search", "Only where id or texts contain this.", expression | {"maxLength": SEARCH_LIMIT_CHARS}
        ),
        parameter(
            "data_group_id", "A group key's name or number: groups instead of users.", {"type": "string"}
        ),
        parameter("filter_by_cohort", 'Only members: {"id": N}, as JSON.', {"type": "string"}),
        parameter(
            "segment_by_cohorts",
            f'A figure for each: {{"N": true, ...}}, as JSON, {SEGMENTS_LIMIT} at most.',
            {"type": "string"},
        ),
        parameter(
            "include_all_users",
            "Whether ids in a cohort's list that have no profile count.",
            {"type": "boolean", "default": True},
        ),
        WAIT,
    )


def _stats(path: str, number: int) -> dict[str, Operation]:
    parameters = _stats_parameters()
    answer = response(
        "The figure.",
        content(ref("StatsAnswer"), _STATS),
        X_Mixdown_Behind="How many records the answer is behind; absent when it is not.",
    )
    description = (
        "One figure over all profiles, or those chosen. Only numbers count; `number(...)` in the "
        "action reads them from texts. With `segment_by_cohorts` an object of figures by the cohort's number."
    )
    responses = figure_errors(path) | {"200": answer}
    suffix = str(number or "")
    asked = {"project_id": 1, "action": 'extremes(properties["logins"])'}
    return {
        "get": operation(
            f"computeStatsByUrl{suffix}",
            "Reading",
            "Compute a figure",
            description,
            responses,
            parameters=parameters,
            security=READERS,
        ),
        "post": operation(
            f"computeStats{suffix}",
            "Reading",
            "Compute a figure",
            description,
            responses,
            parameters=(*parameters, ENCODING),
            body=request_body(
                content(ref("StatsQuery"), asked)
                | content(form_of(parameters), {"project_id": "1", "action": "count()"}, FORM),
                required=False,
            ),
            security=READERS,
        ),
    }
