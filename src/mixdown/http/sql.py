"""`POST /api/mixdown/sql`: SQL over the views of one project, for every role that reads.

A query with its parameters enters; rows leave as JSON, lines of JSON, or CSV. What a query may see and do is
decided in `query.sql` and the process that it starts: nothing of SQL is looked at here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.auth import refuse_other_sites
from mixdown.http.own import PREFIX
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import BEHIND_HEADER, admitted, wait_bound_ms
from mixdown.http.services import Services
from mixdown.model.errors import QueryError
from mixdown.query.sql import FORMATS, SqlAnswer, SqlLimits, SqlProcesses, SqlQuery
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
_SCALARS: Final = (str, int, float, bool, type(None))


def routes(services: Services) -> list[Route]:
    """The route of this file."""
    settings = services.settings
    folder: Path | None = getattr(services.store, "folder", None)
    limits = SqlLimits(settings.sql_timeout_s, settings.sql_memory_bytes, settings.sql_rows)
    processes = None if folder is None else SqlProcesses(folder, limits, at_once=settings.sql_processes)

    async def sql(request: Request) -> Response:
        refuse_other_sites(request)
        project, parameters = await admitted(request, services)
        query = sql_query(project.id, parameters)
        bound_ms = wait_bound_ms(request, settings.read_wait_ms)
        behind = await services.watch.wait(bound_ms, FOR_ALL if query.over_events else FOR_PROFILES)
        if processes is None:
            raise QueryError("query, this server's data is not in files", status=400)
        return _response(await processes.answer(query), query.form, behind)

    return [Route(PATH, answering(sql), methods=["POST"])]


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
    over_events = parameters.boolean("events", default=False)
    return SqlQuery(
        project_id, text.encode("utf-8", "replace").decode(), _params(parameters), form, over_events
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
