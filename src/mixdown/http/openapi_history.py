"""History as OpenAPI has it. Settings enter; operations by path and method leave."""

from __future__ import annotations

from typing import Any, Final

from mixdown.http import history
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
from mixdown.query.history import PAGE_LIMIT
from mixdown.settings import Settings

_ENTRY: Final[dict[str, Any]] = {
    "position": 1207,
    "time": "2026-11-22T03:53:59",
    "time_ms": 1795319639250,
    "property": "plan",
    "operator": "$set",
    "endpoint": "engage",
    "sdk": "python",
    "old": "free",
    "new": "pro",
}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    answer = response(
        "A page of what changed, newest first; `next` begins the page after it.",
        content(ref("HistoryAnswer"), {"status": "ok", "results": [_ENTRY], "next": None}),
    )
    listed = {"type": "array", "items": {"type": "string"}, "maxItems": history.NAMES_LIMIT}
    parameters = (
        PROJECT | {"example": 1},
        parameter("distinct_id", "The user, or the id of the group.", {"type": "string"})
        | {"required": True, "example": "alice"},
        parameter(
            "data_group_id", "A group key's name or number: a group instead of a user.", {"type": "string"}
        ),
        parameter(
            "ignore_alias",
            "The profile under this very id, even where the id is linked to a person with another.",
            {"type": "boolean"},
        ),
        parameter("property", "Only changes of these properties.", listed),
        parameter("before", "`next` of the page before.", {"type": "string"}),
        parameter(
            "limit",
            f"{history.DEFAULT_LIMIT} by default.",
            {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT},
        ),
        WAIT,
    )
    told = operation(
        "getHistory",
        "Mixdown",
        "Read what changed in a profile",
        "Each entry is what one record changed in one property: `old` and `new` are missing where there was "
        "no value; for lists and objects `added` and `removed` say it in short. `profile` is there where the "
        "profile came to be or went. Kept for `history_retention_days`.",
        figure_errors(history.PATH) | {"200": answer},
        parameters=parameters,
        security=READERS,
    )
    return {history.PATH: {"get": told}}
