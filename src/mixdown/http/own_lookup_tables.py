"""`/api/mixdown/lookup-tables`: lookup tables made, listed, fetched as CSV and deleted.

Requests with a service account or a project's secret enter. Readers list and fetch, admins make and delete;
to fill one is `/lookup-tables/{id}`.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from mixdown.http.auth import ADMINS, refuse_other_sites
from mixdown.http.own import PREFIX
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import admitted, in_thread, ok_response, to_its_end
from mixdown.http.services import Services
from mixdown.model.errors import CatalogError, RequestError
from mixdown.query.lookup_tables import csv_of, new_table, table_view
from mixdown.store.lookup_tables import LookupTable, no_table
from mixdown.store.protocols import Project

PATH: Final = f"{PREFIX}/lookup-tables"
ONE_PATH: Final = f"{PATH}/{{table_id}}"
FIRST_ROWS_LIMIT: Final = 1000
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def routes(services: Services) -> list[Route]:
    """The routes of this family."""
    tables = services.store.lookup_tables

    async def listing(request: Request) -> Response:
        project, _ = await admitted(request, services)
        found = await in_thread(services, tables.listing, project.id)
        return ok_response([table_view(table) for table in found])

    async def create(request: Request) -> Response:
        project, parameters = await _writing(request, services)
        table = new_table(project.id, parameters.text("name"), now_ms=services.now_ms())
        try:
            made = await to_its_end(services, lambda: tables.create(table))
        except CatalogError as error:
            raise RequestError(f"name, {error.message}", status=400, hint=error.hint) from None
        return ok_response(table_view(made), status=201)

    async def fetch(request: Request) -> Response:
        project, parameters = await admitted(request, services)
        limit = parameters.integer("limit", 0, low=1, high=FIRST_ROWS_LIMIT)
        found = await in_thread(services, tables.listing, project.id)
        table = _named(found, request.path_params["table_id"])
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{_UNSAFE.sub("_", table.name)}.csv"',
            "X-Content-Type-Options": "nosniff",
        }
        pieces = csv_of(services.store, table, limit=limit)
        return StreamingResponse(pieces, media_type="text/csv; charset=utf-8", headers=headers)

    async def delete(request: Request) -> Response:
        project, _ = await _writing(request, services)
        table_id: str = request.path_params["table_id"]
        try:
            await to_its_end(services, lambda: tables.delete(project.id, table_id))
        except CatalogError as error:
            raise RequestError(error.message, status=404) from None
        return ok_response({"id": table_id, "deleted": True})

    return [
        Route(PATH, answering(listing), methods=["GET"]),
        Route(PATH, answering(create), methods=["POST"]),
        Route(ONE_PATH, answering(fetch), methods=["GET"]),
        Route(ONE_PATH, answering(delete), methods=["DELETE"]),
    ]


async def _writing(request: Request, services: Services) -> tuple[Project, Parameters]:
    refuse_other_sites(request)
    return await admitted(request, services, roles=ADMINS, what="make and delete lookup tables")


def _named(tables: list[LookupTable], table_id: str) -> LookupTable:
    for table in tables:
        if table.id == table_id:
            return table
    raise RequestError(no_table(table_id).message, status=404)
