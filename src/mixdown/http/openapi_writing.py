"""Ingestion as OpenAPI has it: /engage, /groups, /track and /import.

Settings enter, for the limits; operations by path and method leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

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
EXAMPLE_SECRET: Final = "a project's secret"
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
_EVENT: Final = {
    "event": "Signed up",
    "properties": {"token": EXAMPLE_TOKEN, "distinct_id": "ada", "plan": "pro"},
}
_IMPORTED: Final = {
    "event": "Signed up",
    "properties": {"time": 1768478400, "distinct_id": "ada", "$insert_id": "5d958f87", "plan": "pro"},
}
_RECORDS: Final[Mapping[str, Any]] = {"User": _USER, "Group": _GROUP, "Event": _EVENT}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of ingestion."""
    return {
        "/engage": _writes("User", settings),
        "/groups": _writes("Group", settings),
        "/track": _writes("Event", settings),
        "/import": _imports(settings),
    }


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
    record = _RECORDS[kind]
    verb, plural = _VERBS[kind]
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
    name = kind.lower()
    return {
        "post": operation(
            f"write{kind}s",
            "Writing",
            f"{verb} {plural}",
            what,
            responses,
            parameters=(*_WRITE_PARAMETERS, *_WRITE_HEADERS, ENCODING),
            body=request_body(body),
        ),
        "get": operation(
            f"write{kind}sByUrl",
            "Writing",
            f"{verb} {plural} by URL",
            f"As POST, with the {name} records in the query.",
            responses,
            parameters=(data, *_WRITE_PARAMETERS, *_WRITE_HEADERS),
        ),
        "options": preflight(f"preflight{kind}s", "Writing"),
    }


_VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "User": ("Update", "user profiles"),
    "Group": ("Update", "group profiles"),
    "Event": ("Store", "events"),
}


def preflight(identity: str, tag: str) -> Operation:
    """What a browser asks of a path before it sends."""
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


_PROJECT: Final = parameter(
    "project_id", "The project; a service account must name it.", {"type": "string", "pattern": "^[0-9]*$"}
) | {"example": "1"}
_API_KEY: Final = parameter("api_key", "The project's secret, where there is no header.", {"type": "string"})


_IMPORTERS: Final[Sequence[Mapping[str, Any]]] = ({"account": []}, {"secret": []})


def _import_responses(settings: Settings) -> dict[str, Any]:
    failed = {
        "index": 1,
        "insert_id": "",
        "$insert_id": "",
        "field": "properties.time",
        "message": texts.TIME_MISSING,
    }
    refused = {
        "code": 400,
        "error": texts.SOME_FAILED,
        "failed_records": [failed],
        "num_records_imported": 1,
        "status": "Bad Request",
    }
    verbose = {"code": 200, "error": None, "num_records_imported": 1, "status": 1}
    good: dict[str, Any] = {
        "text/plain": {"schema": ref("PlainReply"), "example": "1"},
        JSON: {
            "schema": ref("ImportReply"),
            "examples": {
                "strict": {"value": {"code": 200, "num_records_imported": 2, "status": "OK"}},
                "verbose": {"value": verbose},
            },
        },
        "text/javascript": {"schema": {"type": "string"}, "example": "f(1);"},
        "image/gif": {"schema": {"type": "string", "contentEncoding": "base64", "maxLength": 4 * len(GIF)}},
    }
    responses = _write_responses(settings)
    responses["200"] = response("What is counted is on disk, and so is every refusal.", good, **_CORS)
    responses["400"] = response(
        "With `strict`, some events are refused, and the others stored. Or the body is no JSON, cannot be "
        "decompressed, or the request cannot be read.",
        content({"anyOf": [ref("ImportRefused"), ref("Error")]}, refused),
        **_CORS,
    )
    responses["401"] = response(
        "Missing or wrong credentials; nothing is stored.",
        content(ref("Unauthorized"), {"code": 401, "error": texts.NO_CREDENTIALS, "status": "Unauthorized"}),
        **_CORS,
    )
    return responses


def _imports(settings: Settings) -> dict[str, Operation]:
    text = orjson.dumps([_IMPORTED]).decode()
    body: dict[str, Any] = content(ref("ImportRecords"), [_IMPORTED])
    for media in (FORM, "multipart/form-data"):
        body |= content(ref("WriteForm"), {"data": text, "verbose": "1"}, media)
    body |= content({"type": "string"}, text, "text/plain")
    body |= content({"type": "string"}, orjson.dumps(_IMPORTED).decode() + "\n", "application/x-ndjson")
    what = (
        "Events of any time, by a service account that may import, or the project's secret or token. At most "
        f"{settings.records_per_request} events and {settings.body_limit_bytes} bytes, before and after "
        "decompression. A bad event is kept with its reason, and its neighbours are stored."
    )
    responses = _import_responses(settings)
    data = parameter("data", "Events: JSON, or base64 of JSON.", {"type": "string"}) | {
        "required": True,
        "example": text,
    }
    parameters = (*_WRITE_PARAMETERS, _PROJECT, _API_KEY, *_WRITE_HEADERS)
    return {
        "post": operation(
            "importEvents",
            "Writing",
            "Import events",
            what,
            responses,
            parameters=(*parameters, ENCODING),
            body=request_body(body),
            security=_IMPORTERS,
        ),
        "get": operation(
            "importEventsByUrl",
            "Writing",
            "Import events by URL",
            "As POST, with the events in the query.",
            responses,
            parameters=(data, *parameters),
            security=_IMPORTERS,
        ),
        "options": preflight("preflightImports", "Writing"),
    }
