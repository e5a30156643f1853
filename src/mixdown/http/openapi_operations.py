"""Each operation of the API as OpenAPI has it: parameters, bodies, every status, examples that work.

Settings enter, for the limits; operations by path and method leave: those of writing from here, all others
from `openapi_reading`, `openapi_own` and the other files of that kind, each with a function `operations`.
Nothing here decides anything: what a route does stands in its own file, and `tests/hostile/test_openapi.py`
holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from mixdown.http import (
    auxiliary,
    openapi_admin,
    openapi_cohorts,
    openapi_events,
    openapi_figures,
    openapi_history,
    openapi_identity,
    openapi_own,
    openapi_privacy,
    openapi_reading,
    openapi_reports,
    openapi_site,
    openapi_sql,
)
from mixdown.http.auxiliary import Auxiliary
from mixdown.http.ingestion import IDEMPOTENCY_KEY_LIMIT_CHARS
from mixdown.http.openapi_pieces import (
    ENCODING,
    FORM,
    JSON,
    RETRY_AFTER,
    Operation,
    connection,
    content,
    error,
    operation,
    parameter,
    ref,
    request_body,
    response,
)
from mixdown.http.reply import GIF
from mixdown.model import texts
from mixdown.settings import Settings

EXAMPLE_TOKEN: Final = "0123456789abcdef0123456789abcdef"
TAGS: Final = (
    {"name": "Writing", "description": "Profile updates, as SDKs send them."},
    {
        "name": "Auxiliary",
        "description": "Paths that SDKs touch beside ingestion; what they are sent is not stored.",
    },
    {"name": "Reading", "description": "Profiles, by service account or project secret."},
    {
        "name": "Reports",
        "description": "What else Mixpanel's clients read; empty as long as none can be made.",
    },
    {"name": "Events", "description": "Figures, names, raw lines, and what a person or a group did."},
    {"name": "Mixdown", "description": "Mixdown's own API: how far it is, what arrived, what was refused."},
    {
        "name": "Administration",
        "description": "Projects, service accounts and their roles; who asks, as clients look for it.",
    },
    {"name": "Privacy", "description": "Erasing people, and handing out what is kept of them."},
    {"name": "Operations", "description": "Health, metrics, and this description."},
    {"name": "Page", "description": "The page for browsers, with its forms."},
)
_USER: Final = {
    "$token": EXAMPLE_TOKEN,
    "$distinct_id": "ada",
    "$set": {"$name": "Ada Lovelace", "plan": "pro"},
    "$add": {"logins": 1},
}
_GROUP: Final = {
    "$token": EXAMPLE_TOKEN,
    "$group_key": "Company",
    "$group_id": "Acme",
    "$set": {"industry": "tools"},
}


_Family = Callable[[Settings], dict[str, dict[str, Operation]]]


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """Every operation that a server with these settings may serve, by path and lower-case method."""
    families: tuple[_Family, ...] = (
        _writing,
        openapi_reading.operations,
        openapi_events.operations,
        openapi_reports.operations,
        openapi_figures.operations,
        openapi_cohorts.operations,
        openapi_history.operations,
        openapi_identity.operations,
        openapi_own.operations,
        openapi_admin.operations,
        openapi_privacy.operations,
        openapi_sql.operations,
        openapi_site.operations,
    )
    found: dict[str, dict[str, Operation]] = {}
    for family in families:
        for path, item in family(settings).items():
            found.setdefault(path, {}).update(item)
    return found


def _writing(settings: Settings) -> dict[str, dict[str, Operation]]:
    found: dict[str, dict[str, Operation]] = {
        "/engage": _writes("User", settings),
        "/groups": _writes("Group", settings),
    }
    for path in (*auxiliary.PATHS.values(), auxiliary.FIRST_TIME_EVENTS, auxiliary.LOOKUP_TABLE):
        found[path.name] = _auxiliary(path)
    return found


# --- writing

_FLAG_TEXT: Final[Mapping[str, str]] = {
    "verbose": "JSON in place of `1` and `0`.",
    "strict": "Every problem is reported, and what would be dropped or bent refuses its record.",
    "ip": "Off: no location from the request's address. On: locate by it.",
    "img": "The reply is a transparent GIF, whatever came of the records.",
}
_WRITE_PARAMETERS: Final = (
    *(parameter(name, text, ref("Flag")) for name, text in _FLAG_TEXT.items()),
    parameter(
        "callback",
        "A function's name: the reply is JavaScript that calls it. Anything else is ignored.",
        {"type": "string", "maxLength": 128},
    ),
)
_WRITE_HEADERS: Final = (
    parameter(
        "Idempotency-Key",
        "A retry with the same key, path and records is applied once and gets the first reply.",
        {"type": "string", "maxLength": IDEMPOTENCY_KEY_LIMIT_CHARS},
        "header",
    ),
)
_CORS: Final = {"Access_Control_Allow_Origin": "The request's Origin, where it has one."}


def _write_responses(settings: Settings) -> dict[str, Any]:
    failed = {"index": 1, "field": "$distinct_id", "message": texts.DISTINCT_ID_MISSING}
    strict = {
        "code": 200,
        "error": texts.SOME_FAILED,
        "failed_records": [failed],
        "num_good_events": 1,
        "num_records_imported": 1,
        "status": 0,
    }
    good: dict[str, Any] = {
        "text/plain": {"schema": ref("PlainReply"), "example": "1"},
        JSON: {
            "schema": {"anyOf": [ref("VerboseReply"), ref("StrictReply")]},
            "examples": {
                "verbose": {"value": {"error": None, "status": 1}},
                "nothing good": {"value": {"error": texts.TOKEN_UNKNOWN, "status": 0}},
                "strict": {"value": strict},
            },
        },
        "text/javascript": {"schema": {"type": "string"}, "example": "f(1);"},
        "image/gif": {"schema": {"type": "string", "contentEncoding": "base64", "maxLength": 4 * len(GIF)}},
    }
    limit = texts.BODY_TOO_LARGE.format(limit=settings.body_limit_bytes)
    return connection("The body cannot be decompressed, or the Idempotency-Key is too long") | {
        "200": response(
            "The body could be read. What is counted as good is on disk, and so is every refusal.",
            good,
            **_CORS,
        ),
        "413": response(
            "Body, decompressed body or number of records over its limit.",
            content(ref("TooLarge"), {"code": 413, "error": limit, "status": "Request Entity Too Large"}),
            **_CORS,
        ),
        "429": response(
            "The project is past its rate limit, if the server or the project has one.",
            content(
                ref("RateLimited"), {"code": 429, "error": texts.RATE_LIMITED, "status": "Too Many Requests"}
            ),
            Retry_After=RETRY_AFTER,
            **_CORS,
        ),
        "503": error(
            "Backlog, disk, memory, connections or shutdown.",
            texts.OVERLOADED_BACKLOG,
            Retry_After=RETRY_AFTER,
            **_CORS,
        ),
    }


def _writes(kind: str, settings: Settings) -> dict[str, Operation]:
    record = _USER if kind == "User" else _GROUP
    text = orjson.dumps([record]).decode()
    form = {"data": text, "verbose": "1"}
    body: dict[str, Any] = content(ref(f"{kind}Records"), [record])
    for media in (FORM, "multipart/form-data"):
        body |= content(ref("WriteForm"), form, media)
    body |= content({"type": "string"}, text, "text/plain")
    body |= content({"type": "string"}, orjson.dumps(record).decode() + "\n", "application/x-ndjson")
    what = (
        f"At most {settings.records_per_request} records and {settings.body_limit_bytes} bytes, before and "
        "after decompression. A bad record never changes the status: it is kept with its reason, and its "
        "neighbours are stored."
    )
    responses = _write_responses(settings)
    data = parameter("data", "Records: JSON, or base64 of JSON.", {"type": "string"}) | {
        "required": True,
        "example": text,
    }
    name, plural = kind.lower(), f"{kind.lower()} profiles"
    return {
        "post": operation(
            f"write{kind}s",
            "Writing",
            f"Update {plural}",
            what,
            responses,
            parameters=(*_WRITE_PARAMETERS, *_WRITE_HEADERS, ENCODING),
            body=request_body(body),
        ),
        "get": operation(
            f"write{kind}sByUrl",
            "Writing",
            f"Update {plural} by URL",
            f"As POST, with the {name} records in the query.",
            responses,
            parameters=(data, *_WRITE_PARAMETERS, *_WRITE_HEADERS),
        ),
        "options": _preflight(f"preflight{kind}s", "Writing"),
    }


def _preflight(identity: str, tag: str) -> Operation:
    headers: dict[str, str] = {
        "Allow": "The methods of this path.",
        "Access_Control_Allow_Origin": "The request's Origin, where it has one.",
    }
    return operation(
        identity,
        tag,
        "Ask before a request from another site",
        "What a browser asks before it sends. Nobody's credentials are looked at.",
        connection() | {"204": response("What this path takes.", None, **headers)},
    )


# --- auxiliary


def _identity(path: Auxiliary, method: str) -> str:
    words = path.name.replace("-", " ").replace("/", " ").replace("{", " by ").replace("}", " ").split()
    return method.lower() + "".join(word.capitalize() for word in words)


def _auxiliary(path: Auxiliary) -> dict[str, Operation]:
    built = path.reply.status != 501
    example = orjson.loads(path.reply.body)
    schema = {"const": example} if built else ref("Error")
    answer = response(
        "Always this." if built else "Not built yet; nothing is stored.", content(schema, example)
    )
    summary = "Answered so that an SDK goes on" if built else "Not built yet"
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
        if takes_body and built:
            example = {"code": 413, "error": texts.BODY_TOO_LARGE.format(limit=41_943_040)}
            example["status"] = "Request Entity Too Large"
            responses["413"] = response(
                "The body is over four times its limit.", content(ref("TooLarge"), example)
            )
        found[method.lower()] = operation(
            _identity(path, method),
            "Auxiliary",
            summary,
            "What is sent is read, counted and forgotten."
            if takes_body and built
            else "Nothing is looked at.",
            responses,
            body=request_body(content({}, {}), required=False) if takes_body else None,
        )
    preflight = _preflight(_identity(path, "preflight"), "Auxiliary")
    if "{" in path.name:
        preflight["responses"]["404"] = error(
            "The id holds an encoded `/` or `#`: another path.", "Not Found"
        )
    return found | {"options": preflight}
