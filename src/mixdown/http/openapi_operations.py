"""Each operation of the API as OpenAPI has it: parameters, bodies, every status, examples that work.

Settings enter, for the limits; operations by path and method leave. Nothing here decides anything: what a
route does stands in its own file, and `tests/hostile/test_openapi.py` holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from mixdown.http import auxiliary, engage, own
from mixdown.http.auxiliary import Auxiliary
from mixdown.http.ingestion import IDEMPOTENCY_KEY_LIMIT_CHARS
from mixdown.http.openapi_pieces import (
    FORM,
    JSON,
    Operation,
    connection,
    content,
    error,
    operation,
    parameter,
    read_errors,
    ref,
    request_body,
    response,
)
from mixdown.http.reply import GIF, WELCOME
from mixdown.model import texts
from mixdown.query.engage import DEFAULT_PAGE_SIZE, IDS_LIMIT, PAGE_SIZE_LIMIT
from mixdown.settings import Settings

EXAMPLE_TOKEN: Final = "0123456789abcdef0123456789abcdef"
TAGS: Final = (
    {"name": "Writing", "description": "Profile updates, as SDKs send them."},
    {
        "name": "Auxiliary",
        "description": "Paths that SDKs touch beside ingestion; what they are sent is not stored.",
    },
    {"name": "Reading", "description": "Profiles, by service account or project secret."},
    {"name": "Mixdown", "description": "Mixdown's own API: how far it is, what arrived, what was refused."},
    {"name": "Operations", "description": "Health, metrics, and this description."},
    {"name": "Page", "description": "The page for browsers, with its forms."},
)
_READERS: Final[Sequence[Mapping[str, Any]]] = [{"account": []}, {"secret": []}]
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


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """Every operation that a server with these settings may serve, by path and lower-case method."""
    found: dict[str, dict[str, Operation]] = {
        "/engage": _writes("User", settings),
        "/groups": _writes("Group", settings),
    }
    for path in (*auxiliary.PATHS.values(), auxiliary.FIRST_TIME_EVENTS, auxiliary.LOOKUP_TABLE):
        found[path.name] = _auxiliary(path)
    for number, name in enumerate(engage.PATHS):
        found[name] = _profile_query(number)
    return found | _own() | _health() | _page()


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
_ENCODING: Final = parameter(
    "Content-Encoding",
    "How the body is compressed; gzip is known by its first bytes as well.",
    {"type": "string", "enum": ["gzip", "deflate", "identity"]},
    "header",
)
_CORS: Final = {"Access_Control_Allow_Origin": "The request's Origin, where it has one."}
_RETRY: Final = "Try again after so many seconds."


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
            Retry_After=_RETRY,
            **_CORS,
        ),
        "503": error(
            "Backlog, disk, memory, connections or shutdown.",
            texts.OVERLOADED_BACKLOG,
            Retry_After=_RETRY,
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
            parameters=(*_WRITE_PARAMETERS, *_WRITE_HEADERS, _ENCODING),
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
            "Too many open connections.", "the server has too many open connections", Retry_After=_RETRY
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


# --- reading

_PROJECT: Final = parameter(
    "project_id",
    "The project; needed by owners alone.",
    {"type": "integer", "minimum": 0, "maximum": 2**53},
)
_WAIT: Final = parameter(
    "X-Mixdown-Wait",
    "Wait at most so many milliseconds for what was just written; 0 does not wait.",
    {"type": "integer", "minimum": 0},
    "header",
)


def _profile_parameters() -> tuple[dict[str, Any], ...]:
    listed = {"type": "array", "items": {"type": "string"}}
    return (
        _PROJECT | {"example": 1},
        parameter("distinct_id", "One profile.", {"type": "string"}),
        parameter("distinct_ids", "A JSON list, or repeated.", listed | {"maxItems": IDS_LIMIT}),
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
        _WAIT,
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
            Retry_After=_RETRY,
        ),
        "200": response(
            "A page of profiles, in the order of their ids.",
            content(ref("ProfilePage"), _PAGE),
            X_Mixdown_Behind="How many records the answer is behind; absent when it is not.",
        ),
    }
    parameters = _profile_parameters()
    query = {"project_id": 1, "distinct_ids": ["ada"], "output_properties": ["plan"]}
    form = {"project_id": "1", "distinct_ids": '["ada"]'}
    description = "A read waits until everything that was acknowledged before it is visible, within a bound."
    if number:
        description += f" The same as `{engage.PATHS[0]}`."
    not_built = f" Not built yet, and refused by name: {', '.join(engage.NOT_BUILT)}."
    return {
        "get": operation(
            f"queryProfilesByUrl{number or ''}",
            "Reading",
            "Read profiles",
            description + not_built,
            responses,
            parameters=parameters,
            security=_READERS,
        ),
        "post": operation(
            f"queryProfiles{number or ''}",
            "Reading",
            "Read profiles",
            description + " JSON wins over the form, and the form over the query." + not_built,
            responses,
            parameters=(*parameters, _ENCODING),
            body=request_body(
                content(ref("ProfileQuery"), query) | content(_form_of(parameters), form, FORM),
                required=False,
            ),
            security=_READERS,
        ),
    }


def _form_of(parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    fields = {told["name"]: {"type": "string"} for told in parameters if told["in"] == "query"}
    return {"type": "object", "properties": fields}


# --- Mixdown's own API


def _own() -> dict[str, dict[str, Operation]]:
    limit = parameter(
        "limit",
        f"{own.DEFAULT_LIMIT} by default.",
        {"type": "integer", "minimum": 1, "maximum": own.RECORDS_LIMIT},
    )
    before = parameter(
        "before_id", "Only older ones.", {"type": "integer", "minimum": 1, "maximum": own.ID_LIMIT}
    )
    listings = (
        ("status", "How far log and fold are, and what each project holds", "StatusAnswer", (_PROJECT,)),
        ("records", "The last records that were stored, newest first", "RecordsAnswer", (_PROJECT, limit)),
        (
            "refusals",
            "Refused records with their reasons, newest first",
            "RefusalsAnswer",
            (_PROJECT, limit, before),
        ),
    )
    found: dict[str, dict[str, Operation]] = {}
    for name, summary, schema, parameters in listings:
        path = f"{own.PREFIX}/{name}"
        answer = response("As asked.", content(ref(schema)))
        found[path] = {
            "get": operation(
                name,
                "Mixdown",
                summary,
                "A caller meets its own project; an owner meets all of them.",
                read_errors(path) | {"200": answer},
                parameters=parameters,
                security=_READERS,
            )
        }
    path = f"{own.PREFIX}/refusals/resend"
    missing = {"request": path, "error": "ids, no refusal has the id 7", "status": "error"}
    sent = {"status": "ok", "results": [{"id": 1, "stored": True, "error": None}]}
    form = {"type": "object", "properties": {"ids": {"type": "string"}, "record": {"type": "string"}}}
    found[path] = {
        "post": operation(
            "resendRefusals",
            "Mixdown",
            "Send refused records again",
            f"Up to {own.RESEND_LIMIT} of them; or one with `record`, the mended one. What is stored leaves "
            "the refusals. Needs the role admin or owner.",
            read_errors(path)
            | {
                "200": response("What came of each.", content(ref("ResendAnswer"), sent)),
                "404": response("One of the ids is no refusal of yours.", content(ref("ReadError"), missing)),
            },
            parameters=(_PROJECT, _ENCODING),
            body=request_body(content(ref("ResendQuery"), {"ids": [1]}) | content(form, {"ids": "1"}, FORM)),
            security=[{"account": []}],
        )
    }
    return found


# --- health, metrics, descriptions


def _health() -> dict[str, dict[str, Operation]]:
    def get(
        identity: str, summary: str, text: str, responses: Mapping[str, Any], **more: Any
    ) -> dict[str, Operation]:
        return {"get": operation(identity, "Operations", summary, text, responses, **more)}

    ready = {"status": "unavailable", "reasons": [texts.OVERLOADED_DISK]}
    metrics = read_errors("/metrics")
    for status in ("403", "413"):
        del metrics[status]
    return {
        "/livez": get(
            "livez",
            "Whether the process answers",
            "For a supervisor that restarts what hangs.",
            connection() | {"200": response("It does.", content(ref("Alive"), {"status": "ok"}))},
        ),
        "/readyz": get(
            "readyz",
            "Whether records can be appended",
            "For a load balancer.",
            connection()
            | {
                "200": response("They can.", content(ref("Ready"), {"status": "ok", "reasons": []})),
                "503": response(
                    "They cannot, and why. Or too many connections are open.",
                    content({"anyOf": [ref("Ready"), ref("Error")]}, ready),
                ),
            },
        ),
        "/metrics": get(
            "metrics",
            "Prometheus metrics",
            "Without credentials where it is asked from the machine itself and through no proxy.",
            metrics
            | {"200": response("Prometheus' text format.", content({"type": "string"}, media="text/plain"))},
            security=[{}, *_READERS],
        ),
        "/openapi.json": get(
            "openapi",
            "This document",
            "Built from the server's own declarations and settings.",
            connection() | {"200": response("OpenAPI 3.1.", content({"type": "object"}))},
        ),
        "/docs": get(
            "docs",
            "This document as a page",
            "It loads nothing from elsewhere and needs no JavaScript.",
            connection() | {"200": response("HTML.", content({"type": "string"}, media="text/html"))},
        ),
    }


# --- the page


def _static_file() -> Operation:
    files = {
        media: {"schema": {"type": "string"}} for media in ("text/css", "text/javascript", "image/svg+xml")
    }
    return operation(
        "staticFile",
        "Page",
        "Style sheet, script and icon of the page",
        "Nothing is loaded from elsewhere.",
        connection()
        | {
            "200": response("The file.", files),
            "404": response("There is none of that name.", content({"type": "string"}, media="text/plain")),
        },
    )


def _page() -> dict[str, dict[str, Operation]]:
    html = content({"type": "string"}, media="text/html")
    down = {JSON: {"schema": ref("Error")}, **html}
    went = response("To the page.", Location="Always `/`.", Set_Cookie="The page's cookie.")
    page = connection() | {"503": response("The data cannot be read, or too many connections.", down)}

    def post(
        identity: str, summary: str, text: str, form: str, responses: Mapping[str, Any], **more: Any
    ) -> Operation:
        body = content(ref(form), media=FORM)
        return operation(
            identity, "Page", summary, text, {**page, **responses}, body=request_body(body), **more
        )

    signed = {
        "303": went,
        "401": response("Wrong name or password.", html),
        "403": response("The form came from elsewhere, is too large, or the account may not read.", html),
        "429": response("Too many failed attempts from this address.", html),
    }
    return {
        "/": {
            "get": operation(
                "root",
                "Page",
                "The page, or Mixpanel's welcome object",
                "A browser, whose `Accept` names `text/html`, gets the page; everyone else the object.",
                page
                | {"200": response("By `Accept`.", {**content(ref("Welcome"), {"error": WELCOME}), **html})},
            )
        },
        "/explorer/sign-in": {
            "post": post(
                "signIn",
                "Sign in to the page",
                "With a service account's name and password.",
                "SignInForm",
                signed,
            )
        },
        "/explorer/sign-out": {
            "post": post(
                "signOut",
                "Sign out",
                "With the token that the page's form has.",
                "SignOutForm",
                {"303": went, "403": response("The form was not the page's own.", html)},
                security=[{}, {"cookie": []}],
            )
        },
        "/explorer/static/{name}": {"get": _static_file()},
    }
