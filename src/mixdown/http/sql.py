"""`/api/mixdown/sql`: SQL over the views of one project, for every role that reads.

A query with its parameters enters; rows leave as JSON, lines of JSON, or CSV. What a query may see and do is
decided in `query.sql` and the process that it starts: nothing of SQL is looked at here. GET tells of the
views and the limits. A client that hangs up ends its query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.auth import READERS, mask_of, project_of, refuse_other_sites, require
from mixdown.http.own import PREFIX
from mixdown.http.parameters import Parameters, read_parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import (
    BEHIND_HEADER,
    admitted_caller,
    authenticated,
    ok_response,
    project_id_of,
    wait_bound_ms,
)
from mixdown.http.services import Services
from mixdown.http.streaming import until_gone
from mixdown.model.errors import QueryError
from mixdown.query.sql import FORMATS, SqlAnswer, SqlLimits, SqlProcesses, SqlQuery, source_of
from mixdown.query.sql_schema import schema_view
from mixdown.store.chunk import FOR_ALL, FOR_PROFILES

PATH: Final = f"{PREFIX}/sql"
MORE_HEADER: Final = "X-Mixdown-More"
PARAMS_LIMIT: Final = 1000
QUERY_LIMIT_BYTES: Final = 64 * 1024
MEDIA: Final = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}
ROWS_LIMIT: Final = 10_000_000
_SCALARS: Final = (str, int, float, bool, type(None))
_T = TypeVar("_T")


def routes(services: Services) -> list[Route]:
    """The routes of this file."""
    settings = services.settings
    source = source_of(services.store)
    limits = SqlLimits(settings.sql_timeout_s, settings.sql_memory_bytes, settings.sql_rows)
    processes = None if source is None else SqlProcesses(source, limits, at_once=settings.sql_processes)

    async def sql(request: Request) -> Response:
        refuse_other_sites(request)
        caller, project, parameters = await admitted_caller(request, services)
        query = sql_query(project.id, parameters)._replace(mask=mask_of(caller, [project]))
        bound_ms = wait_bound_ms(request, settings.read_wait_ms)
        kinds = FOR_ALL if query.over_events else FOR_PROFILES
        behind = await services.watch.wait(bound_ms, kinds, project=project.id)
        if processes is None:
            raise QueryError("query, this server's data is in its memory alone", status=400)
        answer = await while_there(request, processes.answer(query))
        return _response(answer, query.form, behind)

    async def schema(request: Request) -> Response:
        caller, view = await authenticated(request, services)  # it is no query, and counts as none
        require(caller, READERS, "read")
        parameters = await read_parameters(request, body_limit_bytes=services.settings.body_limit_bytes)
        project_of(caller, project_id_of(parameters), view, roles=READERS, what="read")
        return ok_response(schema_view(limits, available=processes is not None))

    return [
        Route(PATH, answering(sql), methods=["POST"]),
        Route(PATH, answering(schema), methods=["GET"]),
    ]


async def while_there(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """What `work` gives; it is cancelled when the client hangs up. Its body must have been read.

    Raises what `work` raises, and `ClientDisconnect`.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(until_gone(request.receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


def sql_query(project_id: int, parameters: Parameters) -> SqlQuery:
    """What the parameters ask for. Raises `QueryError` (400)."""
    text = parameters.text("query")
    if not text.strip():
        raise QueryError("query, missing: send a SELECT", status=400)
    if len(text.encode("utf-8", "replace")) > QUERY_LIMIT_BYTES:
        raise QueryError(f"query, must be at most {QUERY_LIMIT_BYTES} bytes", status=400)
    form = parameters.text("format") or FORMATS[0]
    if form not in FORMATS:
        raise QueryError(f"format, must be one of {', '.join(FORMATS)}", status=400)
    return SqlQuery(
        project_id,
        text.encode("utf-8", "replace").decode(),
        _params(parameters),
        form,
        over_events=parameters.boolean("events", default=False),
        rows=parameters.integer("limit", 0, low=1, high=ROWS_LIMIT) or None,
        spreadsheet=parameters.boolean("spreadsheet", default=False),
    )


def _params(parameters: Parameters) -> list[Any] | dict[str, Any]:
    """The values of `?` as a list, or of `:name` as an object."""
    given = parameters.value("params")
    if given is None:
        return []
    values = given.values() if type(given) is dict else given if type(given) is list else None
    if values is None or len(given) > PARAMS_LIMIT or not all(isinstance(each, _SCALARS) for each in values):
        raise QueryError(f"params, must be a list or an object of at most {PARAMS_LIMIT} scalars", status=400)
    found: list[Any] | dict[str, Any] = given
    return found


def _response(answer: SqlAnswer, form: str, behind: int) -> Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if behind:
        headers[BEHIND_HEADER] = str(behind)
    if answer.more:
        headers[MORE_HEADER] = "true"
    body = answer.body
    if form == "json":
        head = {"status": "ok", "columns": answer.columns, **({"more": True} if answer.more else {})}
        body = orjson.dumps(head)[:-1] + b',"results":' + body + b"}"
    return Response(body, headers=headers, media_type=MEDIA[form])
