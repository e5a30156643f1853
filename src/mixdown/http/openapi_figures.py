"""`engage/properties` as OpenAPI has it.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from typing import Any

from mixdown.http import engage_properties
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
from mixdown.query.properties import PROPERTIES_LIMIT
from mixdown.settings import Settings

_PROPERTIES = {
    "status": "ok",
    "computed_at": "2026-11-22T03:53:59+00:00",
    "complete": True,
    "results": {"plan": {"count": 2, "type": "string"}, "$last_seen": {"count": 2, "type": "datetime"}},
}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {path: _properties(path, number) for number, path in enumerate(engage_properties.PATHS)}


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
