"""SQL over HTTP as OpenAPI has it.

Settings enter, for the limits; the operations leave.
"""

from __future__ import annotations

from typing import Any

from mixdown.http import sql
from mixdown.http.openapi_pieces import (
    ENCODING,
    FORM,
    PROJECT,
    READERS,
    RETRY_AFTER,
    WAIT,
    Operation,
    content,
    operation,
    read_errors,
    ref,
    request_body,
    response,
)
from mixdown.model import texts
from mixdown.query.sql import ANSWER_LIMIT_BYTES
from mixdown.settings import Settings


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    query = {
        "query": "select distinct_id from users where distinct_id = ?",
        "params": ["ada"],
        "project_id": 1,
    }
    form = {"query": "select count(*) as users from users", "format": "csv", "project_id": "1"}
    answer = {"status": "ok", "columns": ["distinct_id"], "results": [{"distinct_id": "ada"}]}
    fields = {"type": "object", "properties": {name: {"type": "string"} for name in form}}
    rows = {
        **content(ref("SqlAnswer"), answer),
        **content({"type": "string"}, '{"distinct_id":"ada"}\n', "application/x-ndjson"),
        **content({"type": "string"}, "distinct_id\r\nada\r\n", "text/csv"),
    }
    limited = texts.QUERY_RATE_LIMITED.format(project=1, limit=60, seconds=42)
    told = operation(
        "sql",
        "Reading",
        "Ask in SQL",
        "One SELECT over `users`, `groups`, `refusals` and `history` of a project, or with `events` over its "
        "events, in a process of its own. "
        f"It may take {settings.sql_timeout_s} s and {settings.sql_memory_bytes} bytes of memory, and answer "
        f"{settings.sql_rows} rows of {ANSWER_LIMIT_BYTES} bytes together. To hang up ends it.",
        read_errors(sql.PATH)
        | {
            "200": response(
                "The rows.",
                rows,
                X_Mixdown_Behind="How many records the answer is behind; absent when it is not.",
                X_Mixdown_More="true where there were more rows than an answer may have.",
            ),
            "429": _limited(limited),
        },
        parameters=(PROJECT, WAIT, ENCODING),
        body=request_body(content(ref("SqlQuery"), query) | content(fields, form, FORM)),
        security=READERS,
    )
    return {sql.PATH: {"post": told, "get": _schema()}}


def _schema() -> Operation:
    """What an editor of queries shows beside them."""
    return operation(
        "sqlSchema",
        "Reading",
        "What a query in SQL may name",
        "The views with their columns, for profiles (SQLite) and for events (DuckDB), and the limits.",
        read_errors(sql.PATH) | {"200": response("As asked.", content(_envelope("SqlSchema")))},
        parameters=({**PROJECT, "example": 1},),
        security=READERS,
    )


def _envelope(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"status": {"const": "ok"}, "results": ref(name)},
        "required": ["status", "results"],
    }


def _limited(text: str) -> dict[str, Any]:
    return response(
        "The project is past its limit of queries, if the server or the project has one.",
        content(ref("ReadError"), {"request": sql.PATH, "error": text, "status": "error"}),
        Retry_After=RETRY_AFTER,
    )
