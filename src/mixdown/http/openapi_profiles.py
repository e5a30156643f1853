"""The list of profiles and their file, as OpenAPI has them.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from typing import Any, Final

from mixdown.http import engage, profiles
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
from mixdown.http.openapi_reading import FILTERS
from mixdown.query.listing import DEFAULT_LIMIT, DEFAULT_LOOK_MS, LIMIT_LIMIT, LOOK_LIMIT_MS
from mixdown.query.profiles_file import FORMATS
from mixdown.settings import Settings

_BEHIND: Final = "How many records the answer is behind; absent when it is not."
_TEXT: Final = {"type": "string"}
_PAGE: Final[dict[str, Any]] = {
    "status": "ok",
    "looked_at": 2,
    "next": None,
    "results": [
        {
            "$distinct_id": "ada",
            "$properties": {"plan": "pro", "logins": 1, "$last_seen": "2026-11-22T03:53:59"},
        }
    ],
}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {profiles.PATH: {"get": _listing()}, profiles.FILE_PATH: {"get": _file()}}


def _shared() -> tuple[dict[str, Any], ...]:
    listed = {"type": "array", "items": _TEXT, "maxItems": engage.PROPERTIES_LIMIT}
    return (
        PROJECT | {"example": 1},
        parameter("group_key", "A group key's name or number: its groups instead of users.", _TEXT),
        parameter("data_group_id", "The same, as the query API calls it.", _TEXT),
        *FILTERS,
        parameter("output_properties", "Only these.", listed),
    )


def _listing() -> Operation:
    answer = response(
        "A page of profiles, in the order of their ids.",
        content(ref("ProfileList"), _PAGE),
        X_Mixdown_Behind=_BEHIND,
    )
    own = (
        parameter("after", "`next` of the page before.", _TEXT),
        parameter(
            "limit",
            f"So many profiles; {DEFAULT_LIMIT} by default.",
            {"type": "integer", "minimum": 1, "maximum": LIMIT_LIMIT},
        ),
        parameter(
            "look_ms",
            f"How long to look for them, in milliseconds; {DEFAULT_LOOK_MS} by default.",
            {"type": "integer", "minimum": 1, "maximum": LOOK_LIMIT_MS},
        ),
    )
    return operation(
        "listProfiles",
        "Mixdown",
        "List profiles a page at a time",
        "Quick however many there are: it looks through profiles in the order of their ids until the page is "
        "full or the time is over, and keeps nothing. `next` is where the following page begins: null when "
        "all were looked at. A page may be short, or empty, and yet have a next.",
        figure_errors(profiles.PATH) | {"200": answer},
        parameters=(*_shared(), *own, WAIT),
        security=READERS,
    )


def _file() -> Operation:
    media = {
        mime.partition(";")[0]: {
            "schema": {"type": "string"} | ({} if name != "parquet" else {"format": "binary"})
        }
        for name, mime in profiles.TYPES.items()
    }
    own = (
        parameter("format", f"{FORMATS[0]} by default.", {"type": "string", "enum": list(FORMATS)}),
        parameter("sort_key", "Rows go by the value of this expression; those without one come last.", _TEXT),
        parameter(
            "sort_order",
            "Of `sort_key`; ascending by default.",
            {"type": "string", "enum": ["ascending", "descending"]},
        ),
    )
    answer = response("The file.", media, Content_Disposition="Its name.", X_Mixdown_Behind=_BEHIND)
    return operation(
        "exportProfiles",
        "Mixdown",
        "Export profiles as a file",
        "CSV, lines of JSON, or Parquet. With `output_properties` a CSV has these columns in this order; "
        "without it, a column for each property, by name. A text that a spreadsheet would run as a formula "
        "gets an apostrophe in front, in CSV alone. Sent while it is made, with gzip where accepted; if it "
        "cannot be finished the connection breaks.",
        figure_errors(profiles.FILE_PATH) | {"200": answer},
        parameters=(*_shared(), *own, WAIT),
        security=READERS,
    )
