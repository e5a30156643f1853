"""The profile query and what stands beside it, as OpenAPI has it.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from typing import Any, Final

from mixdown.http import engage
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
from mixdown.query.engage import DEFAULT_PAGE_SIZE, IDS_LIMIT, PAGE_SIZE_LIMIT
from mixdown.query.history import NAMED_LIMIT
from mixdown.settings import Settings


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {name: _profile_query(number) for number, name in enumerate(engage.PATHS)}


FILTERS: Final = (
    parameter("where", "Profiles for which this expression is true.", {"type": "string"}),
    parameter("selector", "An older name of `where`; with both, both hold.", {"type": "string"}),
    parameter(
        "search",
        "Profiles whose id, or a text among their values, contains this in any case.",
        {"type": "string", "maxLength": SEARCH_LIMIT_CHARS},
    ),
    parameter(
        "filter_by_cohort",
        'Members of a cohort: `{"id": 1}`, as an object or as its text.',
        {"type": "string"},
    ),
    parameter(
        "include_all_users",
        "Also those without a profile, of a cohort that lists ids and of those who did what is asked for; "
        "true by default with a cohort, false with `behaviors`.",
        {"type": "boolean"},
    ),
    parameter(
        "behaviors",
        'Counts of what persons did, which `where` reads as `behaviors["name"]`: a JSON list of objects with '
        "`name`, `event_selectors` (a list of `event` and `selector`) and `window`, as 30d, 12h or 4w, or "
        "`from_date` and `to_date`.",
        {"type": "string"},
    ),
    parameter(
        "as_of_timestamp",
        "The time in unix seconds that the windows of `behaviors` end with; now by default.",
        {"type": "integer", "minimum": 0, "maximum": engage.AS_OF_LIMIT_S},
    ),
)
"""The parameters that narrow a read of profiles."""


def _profile_parameters() -> tuple[dict[str, Any], ...]:
    listed = {"type": "array", "items": {"type": "string"}}
    return (
        PROJECT | {"example": 1},
        parameter("distinct_id", "One profile, by any id of the person.", {"type": "string"}),
        parameter("distinct_ids", "A JSON list, or repeated.", listed | {"maxItems": IDS_LIMIT}),
        parameter(
            "ignore_alias",
            "The profile under this very id, even where the id is linked to a person with another.",
            {"type": "boolean"},
        ),
        parameter(
            "data_group_id", "A group key's name or number: groups instead of users.", {"type": "string"}
        ),
        parameter("output_properties", "Only these.", listed | {"maxItems": engage.PROPERTIES_LIMIT}),
        parameter("page", "From 0.", {"type": "integer", "minimum": 0, "maximum": engage.PAGE_LIMIT}),
        parameter(
            "page_size",
            f"{DEFAULT_PAGE_SIZE} by default; more than the limit is refused, not cut.",
            {"type": "integer", "minimum": 1, "maximum": PAGE_SIZE_LIMIT},
        ),
        parameter("session_id", "Of an earlier answer: pages of that same result.", {"type": "string"}),
        parameter(
            "limit",
            "At most so many in all.",
            {"type": "integer", "minimum": 1, "maximum": engage.LIMIT_LIMIT},
        ),
        *FILTERS,
        parameter(
            "as_of",
            f"Profiles as they stood at this time, ISO 8601 or seconds since 1970: {NAMED_LIMIT} at most, "
            "named by `distinct_id` or `distinct_ids`, and no filter beside.",
            {"type": "string"},
        ),
        parameter(
            "sort_key",
            "Rows go by the value of this expression; those without one come last.",
            {"type": "string"},
        ),
        parameter(
            "sort_order",
            "Of `sort_key`; ascending by default.",
            {"type": "string", "enum": ["ascending", "descending"]},
        ),
        WAIT,
    )


_PAGE: Final = {
    "status": "ok",
    "computed_at": "2026-11-22T03:53:59+00:00",
    "page": 0,
    "page_size": 1000,
    "total": 1,
    "session_id": "whole-1-1-1000-1795319639300",
    "results": [
        {
            "$distinct_id": "ada",
            "$properties": {"plan": "pro", "logins": 1, "$last_seen": "2026-11-22T03:53:59"},
        }
    ],
}


def _profile_query(number: int) -> dict[str, Operation]:
    path = engage.PATHS[number]
    limited = texts.QUERY_RATE_LIMITED.format(project=1, limit=60, seconds=42)
    told = {"request": f"{path}?page=x", "error": limited, "status": "error"}
    responses = read_errors(f"{path}?page=x") | {
        "429": response(
            "The project is past its limit of queries, if the server or the project has one.",
            content(ref("ReadError"), told),
            Retry_After=RETRY_AFTER,
        ),
        "200": response(
            "A page of profiles, in the order of their ids or of `sort_key`.",
            content(ref("ProfilePage"), _PAGE),
            X_Mixdown_Behind="How many records the answer is behind; absent when it is not.",
        ),
    }
    parameters = _profile_parameters()
    query = {
        "project_id": 1,
        "where": 'properties["plan"] == "pro" and properties["logins"] > 0',
        "sort_key": 'properties["logins"]',
        "sort_order": "descending",
        "output_properties": ["plan"],
    }
    form = {"project_id": "1", "distinct_ids": '["ada"]'}
    description = "A read waits until everything that was acknowledged before it is visible, within a bound."
    if number:
        description += f" The same as `{engage.PATHS[0]}`."
    description += (
        " An expression with an error is refused with the position of it; one that takes longer than "
        "`read_timeout_s` as well."
    )
    return {
        "get": operation(
            f"queryProfilesByUrl{number or ''}",
            "Reading",
            "Read profiles",
            description,
            responses,
            parameters=parameters,
            security=READERS,
        ),
        "post": operation(
            f"queryProfiles{number or ''}",
            "Reading",
            "Read profiles",
            description + " JSON wins over the form, and the form over the query.",
            responses,
            parameters=(*parameters, ENCODING),
            body=request_body(
                content(ref("ProfileQuery"), query) | content(form_of(parameters), form, FORM),
                required=False,
            ),
            security=READERS,
        ),
    }
