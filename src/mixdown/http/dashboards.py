"""Dashboards over HTTP: `/api/mixdown/dashboards`.

Requests with a service account or a project secret enter; dashboards of one project leave. Readers list them,
analysts and above make, replace and delete. What one may hold is decided by `query.reports.dashboards`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.journeys import ID_LIMIT
from mixdown.http.own import PREFIX
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import admitted, in_thread, ok_response
from mixdown.http.saving import Saving
from mixdown.http.services import Services
from mixdown.model.errors import RequestError
from mixdown.query.reports.dashboards import dashboards_of, new_dashboard
from mixdown.query.reports.saved import DAYS_LIMIT
from mixdown.store.protocols import Project
from mixdown.store.reports import SavedReport

PATH: Final = f"{PREFIX}/dashboards"
_Endpoint = Callable[[Request], Awaitable[Response]]


def routes(services: Services) -> list[Route]:
    """The routes of this file."""
    by_method: dict[str, _Endpoint] = {
        "GET": _listing(services),
        "POST": _create(services),
        "PUT": _replace(services),
        "DELETE": _delete(services),
    }
    return [Route(PATH, answering(endpoint), methods=[method]) for method, endpoint in by_method.items()]


def _listing(services: Services) -> _Endpoint:
    async def listing(request: Request) -> Response:
        project, parameters = await admitted(request, services)
        number = parameters.integer("id", 0, low=1, high=ID_LIMIT)
        if number:
            return ok_response(await _shown(services, project, number))
        return ok_response(await in_thread(services, dashboards_of, services.store, project.id))

    return listing


def _create(services: Services) -> _Endpoint:
    saving = Saving("dashboard", services)

    async def create(request: Request) -> Response:
        caller, project, parameters = await saving.admitted(request)

        def call() -> SavedReport:
            return services.store.reports.create(_asked(services, project, parameters, caller.name))

        made = await saving.changed(call, status=400)
        return ok_response(await _shown(services, project, made.id))

    return create


def _replace(services: Services) -> _Endpoint:
    saving = Saving("dashboard", services)

    async def replace(request: Request) -> Response:
        caller, project, parameters = await saving.admitted(request)
        number = saving.number(parameters)
        await _shown(services, project, number)

        def call() -> SavedReport:
            wanted = _asked(services, project, parameters, caller.name)
            return services.store.reports.change(
                project.id,
                number,
                name=wanted.name,
                description=wanted.description,
                definition=wanted.definition,
                now_ms=wanted.changed_ms,
            )

        await saving.changed(call, status=400)
        return ok_response(await _shown(services, project, number))

    return replace


def _delete(services: Services) -> _Endpoint:
    saving = Saving("dashboard", services)

    async def delete(request: Request) -> Response:
        _, project, parameters = await saving.admitted(request)
        number = saving.number(parameters)
        await _shown(services, project, number)
        await saving.changed(lambda: services.store.reports.delete(project.id, number), status=404)
        return ok_response({"id": number})

    return delete


async def _shown(services: Services, project: Project, number: int) -> dict[str, Any]:
    """The dashboard with this number. Raises `RequestError` (404)."""
    for each in await in_thread(services, dashboards_of, services.store, project.id):
        if each["id"] == number:
            return each
    raise RequestError(f"dashboard, there is no dashboard {number}", status=404)


def _asked(services: Services, project: Project, parameters: Parameters, creator: str) -> SavedReport:
    """The dashboard that the parameters describe. Blocks. Raises `QueryError` (400)."""
    return new_dashboard(
        services.store,
        project.id,
        parameters.text("title"),
        parameters.value("reports") if parameters.given("reports") else None,
        description=parameters.text("description"),
        days=parameters.integer("days", 0, low=1, high=DAYS_LIMIT) or None,
        creator=creator,
        now_ms=services.now_ms(),
    )
