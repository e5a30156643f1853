"""Lookup tables as OpenAPI has them: Mixpanel's two paths, and Mixdown's own.

Settings enter unused; operations leave.
"""

from __future__ import annotations

from typing import Any, Final

from mixdown.http import lookup_tables as theirs
from mixdown.http import own_lookup_tables as own
from mixdown.http.openapi_figures import figure_errors
from mixdown.http.openapi_pieces import (
    ENCODING,
    FORM,
    PROJECT,
    READERS,
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
from mixdown.http.openapi_writing import preflight
from mixdown.model import texts
from mixdown.model.lookup_csv import BYTES_LIMIT, WRONG_COUNT
from mixdown.query.lookup_tables import NAME_LIMIT_CHARS
from mixdown.settings import Settings
from mixdown.store.lookup_tables import REPLACEMENTS_A_DAY, TABLES_PER_PROJECT, no_table

_TAG: Final = "Lookup tables"
_ID: Final = "55b4fb2b-e8de-466c-930f-8b36640b9b5e"
_VIEW: Final = {
    "id": _ID,
    "project_id": 1,
    "name": "plans",
    "key": "plan",
    "columns": ["plan", "price"],
    "rows": 2,
    "size_bytes": 29,
    "created": "2026-01-15T12:00:00",
    "replaced": "2026-01-15T12:00:00",
}
_CSV: Final = "plan,price\r\nfree,0\r\npro,12.5\r\n"
_THEIR_PROJECT: Final = {
    **parameter("project_id", "The project; a service account names it.", PROJECT["schema"]),
    "example": 1,
}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {
        theirs.LIST_PATH: {"get": _list(), "options": _preflight("LookupTables")},
        theirs.ONE_PATH: {
            "put": _replace("replaceLookupTable"),
            "post": _replace("replaceLookupTableByPost"),
            "options": _preflight("LookupTable", one=True),
        },
        own.PATH: {"get": _own_list(), "post": _create()},
        own.ONE_PATH: {"get": _fetch(), "delete": _delete()},
    }


def _failure(status: int, message: str, phrase: str) -> dict[str, Any]:
    return {"code": status, "error": message, "status": phrase}


def _errors() -> dict[str, Any]:
    found = connection()
    found["401"] = response(
        "No credentials, wrong ones, or ones without this right.",
        content(ref("LookupFailure"), _failure(401, texts.ACCOUNT_INVALID, "Unauthorized")),
    )
    return found


def _preflight(what: str, *, one: bool = False) -> Operation:
    told = preflight(f"preflight{what}", _TAG)
    if one:
        told["responses"]["404"] = error("The id holds an encoded `/` or `#`: another path.", "Not Found")
    return told


def _list() -> Operation:
    answer = {"code": 200, "status": "OK", "results": [{"id": _ID, "name": "plans"}]}
    found = _errors() | {"200": response("The tables, by name.", content(ref("LookupTables"), answer))}
    return operation(
        "listLookupTables",
        _TAG,
        "List lookup tables",
        "For service accounts alone, those with the role ingest among them.",
        found,
        parameters=(_THEIR_PROJECT,),
        security=[{"account": []}],
    )


def _replace(identity: str) -> Operation:
    failed = _failure(400, "Some data points in the request failed validation.", "Bad Request")
    failed["failed_records"] = [{"index": 2, "message": WRONG_COUNT}]
    too_large = texts.BODY_TOO_LARGE.format(limit=BYTES_LIMIT)
    often = texts.LOOKUP_REPLACED_OFTEN.format(limit=REPLACEMENTS_A_DAY)
    found = _errors()
    found["503"] = error(texts.OVERLOADED_DISK, texts.OVERLOADED_DISK, Retry_After=RETRY_AFTER)
    found |= {
        "200": response(
            "The table holds these rows and no others.",
            content(ref("LookupReplaced"), {"code": 200, "status": "OK"}),
        ),
        "400": response(
            "Rows are wrong (ten are named at most) or the body cannot be unzipped: the table is as it was. "
            "Or the request cannot be read as HTTP.",
            content({"anyOf": [ref("LookupFailure"), ref("Error")]}, failed),
        ),
        "404": response(
            "The project has no such table.",
            content(
                {"anyOf": [ref("LookupFailure"), ref("Error")]},
                _failure(404, no_table(_ID).message, "Not Found"),
            ),
        ),
        "413": response(
            "The CSV is too long.",
            content(ref("LookupFailure"), _failure(413, too_large, "Request Entity Too Large")),
        ),
        "429": response(
            f"The project's tables were replaced {REPLACEMENTS_A_DAY} times in 24 hours.",
            content(ref("LookupFailure"), _failure(429, often, "Too Many Requests")),
            Retry_After=RETRY_AFTER,
        ),
    }
    return operation(
        identity,
        _TAG,
        "Replace the rows of a lookup table",
        "All of them, or none. The first row names the columns, the first column is the key. Needs the "
        "project's secret, or the role ingest, admin or owner.",
        found,
        parameters=(_THEIR_PROJECT, ENCODING),
        body=request_body(content({"type": "string", "maxLength": BYTES_LIMIT}, _CSV, "text/csv")),
        security=READERS,
    )


def _own_list() -> Operation:
    answer = content(ref("OwnLookupTables"), {"status": "ok", "results": [_VIEW]})
    return operation(
        "listOwnLookupTables",
        _TAG,
        "List lookup tables with their columns",
        "For every role that reads.",
        figure_errors(own.PATH) | {"200": response("The tables, by name.", answer)},
        parameters=(PROJECT | {"example": 1},),
        security=READERS,
    )


def _create() -> Operation:
    name = {"type": "string", "minLength": 1, "maxLength": NAME_LIMIT_CHARS}
    body = {"type": "object", "properties": {"name": name}, "required": ["name"]}
    answer = _VIEW | {"key": None, "columns": [], "rows": 0, "size_bytes": 0, "replaced": None}
    made = content(ref("OwnLookupTable"), {"status": "ok", "results": answer})
    return operation(
        "createLookupTable",
        _TAG,
        "Make an empty lookup table",
        f"A project has at most {TABLES_PER_PROJECT}. Needs the role admin or owner.",
        figure_errors(own.PATH) | {"201": response("The table that was made.", made)},
        parameters=(PROJECT | {"example": 1}, ENCODING),
        body=request_body(
            content(body, {"name": "plans"}) | content(body, {"name": "products"}, FORM), required=True
        ),
        security=[{"account": []}],
    )


def _fetch() -> Operation:
    found = figure_errors(own.ONE_PATH) | _missing()
    found["200"] = response(
        "The rows as they were sent; nothing where none were.", content({"type": "string"}, _CSV, "text/csv")
    )
    first = {"type": "integer", "minimum": 1, "maximum": own.FIRST_ROWS_LIMIT}
    return operation(
        "fetchLookupTable",
        _TAG,
        "Fetch a lookup table as CSV",
        "For every role that reads.",
        found,
        parameters=(PROJECT | {"example": 1}, parameter("limit", "The first rows alone, so many.", first)),
        security=READERS,
    )


def _delete() -> Operation:
    gone = content(ref("OwnLookupTableGone"), {"status": "ok", "results": {"id": _ID, "deleted": True}})
    return operation(
        "deleteLookupTable",
        _TAG,
        "Delete a lookup table",
        "In cohorts that name it, its columns are undefined from then on. Needs the role admin or owner.",
        figure_errors(own.ONE_PATH) | _missing() | {"200": response("It is gone.", gone)},
        parameters=(PROJECT | {"example": 1},),
        security=[{"account": []}],
    )


def _missing() -> dict[str, Any]:
    text = {"request": own.ONE_PATH, "error": no_table(_ID).message, "status": "error"}
    return {"404": response("The project has no such table.", content(ref("ReadError"), text))}
