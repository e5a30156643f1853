"""Each operation of the API as OpenAPI has it: parameters, bodies, every status, examples that work.

Settings enter, for the limits; operations by path and method leave: those of auxiliary paths from here, all
others from `openapi_writing`, `openapi_reading` and the other files of that kind, each with `operations`.
Nothing here decides anything: what a route does stands in its own file, and `tests/hostile/test_openapi.py`
holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from mixdown.http import (
    auxiliary,
    openapi_admin,
    openapi_annotations,
    openapi_cohorts,
    openapi_dashboards,
    openapi_events,
    openapi_events_own,
    openapi_figures,
    openapi_health,
    openapi_history,
    openapi_identity,
    openapi_lexicon,
    openapi_live,
    openapi_lookup_tables,
    openapi_own,
    openapi_privacy,
    openapi_profiles,
    openapi_reading,
    openapi_reports,
    openapi_segmentation,
    openapi_site,
    openapi_sql,
    openapi_writing,
)
from mixdown.http.auxiliary import Auxiliary
from mixdown.http.openapi_pieces import (
    RETRY_AFTER,
    Operation,
    connection,
    content,
    error,
    operation,
    ref,
    request_body,
    response,
)
from mixdown.http.openapi_writing import EXAMPLE_TOKEN, preflight
from mixdown.model import texts
from mixdown.settings import Settings

__all__ = ["EXAMPLE_TOKEN", "TAGS", "operations"]

TAGS: Final = (
    {"name": "Writing", "description": "Events and profile updates, as SDKs send them."},
    {
        "name": "Auxiliary",
        "description": "Paths that SDKs touch beside ingestion; what they are sent is not stored.",
    },
    {"name": "Lookup tables", "description": "Tables of CSV that expressions join to properties."},
    {"name": "Reading", "description": "Profiles, by service account or project secret."},
    {
        "name": "Reports",
        "description": "Figures of events over time; what nobody can make yet is empty.",
    },
    {"name": "Events", "description": "Figures, names, raw lines, and what a person or a group did."},
    {"name": "Mixdown", "description": "Mixdown's own API: how far it is, what arrived, what was refused."},
    {
        "name": "Administration",
        "description": "Projects, service accounts and their roles; who asks, as clients look for it.",
    },
    {
        "name": "Data dictionary",
        "description": "What properties and events mean: Mixpanel's Lexicon schemas, and what is observed.",
    },
    {"name": "Privacy", "description": "Erasing people, and handing out what is kept of them."},
    {"name": "Operations", "description": "Health, metrics, and this description."},
    {"name": "Page", "description": "The page for browsers, with its forms."},
)

_Family = Callable[[Settings], dict[str, dict[str, Operation]]]


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """Every operation that a server with these settings may serve, by path and lower-case method."""
    families: tuple[_Family, ...] = (
        openapi_writing.operations,
        _auxiliaries,
        openapi_reading.operations,
        openapi_events.operations,
        openapi_events_own.operations,
        openapi_segmentation.operations,
        openapi_reports.operations,
        openapi_annotations.operations,
        openapi_figures.operations,
        openapi_cohorts.operations,
        openapi_dashboards.operations,
        openapi_history.operations,
        openapi_identity.operations,
        openapi_lookup_tables.operations,
        openapi_own.operations,
        openapi_live.operations,
        openapi_health.operations,
        openapi_admin.operations,
        openapi_privacy.operations,
        openapi_profiles.operations,
        openapi_lexicon.operations,
        openapi_sql.operations,
        openapi_site.operations,
    )
    found: dict[str, dict[str, Operation]] = {}
    for family in families:
        for path, item in family(settings).items():
            found.setdefault(path, {}).update(item)
    return found


def _auxiliaries(settings: Settings) -> dict[str, dict[str, Operation]]:
    del settings
    found: dict[str, dict[str, Operation]] = {}
    for path in (*auxiliary.PATHS.values(), auxiliary.FIRST_TIME_EVENTS):
        found[path.name] = _auxiliary(path)
    return found


# --- auxiliary


def _identity(path: Auxiliary, method: str) -> str:
    words = path.name.replace("-", " ").replace("/", " ").replace("{", " by ").replace("}", " ").split()
    return method.lower() + "".join(word.capitalize() for word in words)


def _auxiliary(path: Auxiliary) -> dict[str, Operation]:
    example = orjson.loads(path.reply.body)
    answer = response("Always this.", content({"const": example}, example))
    found: dict[str, Operation] = {}
    for method in path.methods:
        takes_body = method != "GET"
        responses = connection() | {str(path.reply.status): answer}
        # the connection's busy answer is the only 503 here, and it too says when to try again
        responses["503"] = error(
            "Too many open connections.", "the server has too many open connections", Retry_After=RETRY_AFTER
        )
        if "{" in path.name:
            responses["404"] = error("The id holds an encoded `/` or `#`: another path.", "Not Found")
        if takes_body:
            example = {"code": 413, "error": texts.BODY_TOO_LARGE.format(limit=41_943_040)}
            example["status"] = "Request Entity Too Large"
            responses["413"] = response(
                "The body is over four times its limit.", content(ref("TooLarge"), example)
            )
        found[method.lower()] = operation(
            _identity(path, method),
            "Auxiliary",
            "Answered so that an SDK goes on",
            "What is sent is read, counted and forgotten." if takes_body else "Nothing is looked at.",
            responses,
            body=request_body(content({}, {}), required=False) if takes_body else None,
        )
    asked = preflight(_identity(path, "preflight"), "Auxiliary")
    if "{" in path.name:
        asked["responses"]["404"] = error("The id holds an encoded `/` or `#`: another path.", "Not Found")
    return found | {"options": asked}
