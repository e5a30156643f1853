"""The ASGI application of a worker: raw and quick for ingestion, Starlette for all else.

Requests enter; replies leave. A path reaches one handler however it is spelled, and is never
redirected. Rooms above hand in their own routes, because this one may not import them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final, Literal

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as PageRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from mixdown.http import (
    admin,
    app_api,
    backups,
    cohorts,
    dashboards,
    dictionary,
    engage,
    engage_properties,
    engage_stats,
    events,
    events_activity,
    events_export,
    events_own,
    health,
    history,
    identity,
    journeys,
    live,
    notes,
    openapi,
    own,
    own_health,
    own_lookup_tables,
    privacy,
    profiles,
    saved_reports,
    schemas,
    segmentation,
    sql,
    undo,
)
from mixdown.http.auth import CALLER_KEY
from mixdown.http.auxiliary import Auxiliary, AuxiliaryPaths, auxiliary_path
from mixdown.http.cors import preflight_reply
from mixdown.http.exchange import DisconnectedError, Receive, Request, Scope, Send, send_reply
from mixdown.http.ingestion import ALLOW, ENDPOINTS, Ingestion
from mixdown.http.lookup_tables import LookupPath, LookupTablePaths, lookup_path
from mixdown.http.paths import QUERY_PREFIXES, canonical_path
from mixdown.http.read_errors import METHOD_NOT_ALLOWED, invalid_endpoint, read_error
from mixdown.http.reply import INTERNAL, NOT_FOUND, WELCOME_REPLY, Reply, not_allowed
from mixdown.http.resends import send_and_settle
from mixdown.http.services import Services
from mixdown.model import texts

Part = Literal["all", "public", "internal"]
Target = str | Auxiliary | LookupPath
Page = Callable[[PageRequest], Awaitable[Response]]
Handler = Callable[[PageRequest, Exception], Awaitable[Response]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_ENDPOINTS: Final = {path: name for name in ENDPOINTS for path in (f"/{name}", f"/{name}/")}
_OTHER: Final = "other"
APP_KEY: Final = "mixdown.app"
"""Where a request finds the application that it came through: pages ask the API by it, in process."""
_log = structlog.get_logger(__name__)


def make_app(
    services: Services,
    *,
    extra_routes: Sequence[BaseRoute] = (),
    page: Page | None = None,
    part: Part = "all",
) -> App:
    """The application of one worker.

    Args:
        services: what the routes need.
        extra_routes: routes of rooms above this one.
        page: what a browser gets at `/`; all others get Mixpanel's welcome object.
        part: "public" leaves out the API and `page`, "internal" leaves out ingestion
            (for a server whose internal surface has a port of its own).
    """
    routes: list[BaseRoute] = [Route("/", _root(None if part == "public" else page), methods=["GET"])]
    routes += [route for route in health.routes(services) if part != "public" or route.path != "/metrics"]
    routes += openapi.routes()
    if part != "public":
        routes += [*engage.routes(services), *engage_properties.routes(services)]
        routes += [*cohorts.routes(services), *history.routes(services), *identity.routes(services)]
        routes += undo.routes(services)
        routes += engage_stats.routes(services)
        routes += [*events.routes(services), *events_export.routes(services)]
        routes += [*events_activity.routes(services), *events_own.routes(services)]
        routes += [
            *journeys.routes(services),
            *segmentation.routes(services),
            *own.routes(services),
            *extra_routes,
        ]
        routes += [*admin.routes(services), *app_api.routes(services), *privacy.routes(services)]
        routes += live.routes(services)
        routes += [*saved_reports.routes(services), *dashboards.routes(services), *notes.routes(services)]
        routes += [*sql.routes(services), *own_lookup_tables.routes(services), *profiles.routes(services)]
        routes += [*own_health.routes(services), *backups.routes(services)]
        routes += [*schemas.routes(services), *dictionary.routes(services)]
    handlers: dict[int | type[Exception], Handler] = {
        404: _not_found,
        405: _method_not_allowed,
        500: _internal_error,
        ClientDisconnect: _gone,
    }
    rest = Starlette(routes=routes, exception_handlers=handlers)
    rest.router.redirect_slashes = False
    served = openapi.served_paths(routes, takes_writes=part != "internal")
    rest.state.openapi = lambda: openapi.document(services.settings, served)
    known = {route.endpoint: openapi.path_of(route) for route in routes if isinstance(route, Route)}
    return App(services, rest, known, takes_writes=part != "internal")


class App:
    """Chooses between the raw paths and Starlette."""

    def __init__(
        self, services: Services, rest: Asgi, known: Mapping[Any, str], *, takes_writes: bool
    ) -> None:
        self._ingestion = Ingestion(services)
        self._auxiliary = AuxiliaryPaths(services)
        self._lookup_tables = LookupTablePaths(services)
        self._metrics = services.metrics
        self._resends = services.ingest.resends
        self._rest = rest
        self._known = known
        self._takes_writes = takes_writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        path = scope["path"]
        endpoint = _ENDPOINTS.get(path)
        if endpoint is None:
            path = canonical_path(path)
            endpoint = _ENDPOINTS.get(path)
        # what a page asks in process reaches all of the API, whichever port the page stands on
        if self._takes_writes or CALLER_KEY in scope:
            if endpoint is not None:
                await self._write(endpoint, scope, receive, send)
                return
            other = auxiliary_path(path) or lookup_path(path)
            if other is not None:
                await self._write(other, scope, receive, send)
                return
        await self._read(path, scope, receive, send)

    def take_at_once(self, scope: Scope, body: bytes, answer: Callable[[Reply], None]) -> bool:
        """Take a small write without a task of its own; false where it wants the application's call.

        `answer` gets the reply, in this event loop, once the request's records are on disk.
        """
        if scope["method"] != "POST" or not self._takes_writes:
            return False
        endpoint = _ENDPOINTS.get(scope["path"])
        if endpoint is None:
            return False
        began = perf_counter()

        def counted(reply: Reply) -> None:
            self._metrics.request(f"/{endpoint}", reply.status, perf_counter() - began)
            answer(reply)

        return self._ingestion.take_at_once(endpoint, Request.of(scope), body, counted)

    async def _write(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        request = Request.of(scope)
        name = f"/{target}" if isinstance(target, str) else target.name
        try:
            reply, close = await self._reply(target, request, receive)
        except DisconnectedError:
            return
        except Exception:  # noqa: BLE001 - a fault of ours must not cost the connection; it is logged whole
            _log.exception("a request failed", path=name)
            reply, close = INTERNAL, True
        if CALLER_KEY not in scope:  # else it is a part of a page's request, which counts once
            self._metrics.request(name, reply.status, perf_counter() - began)
        sending = send_reply(send, reply, request.headers.get(b"origin", b""), close=close)
        if request.call is None:
            await sending
        else:
            await send_and_settle(self._resends, request.call, scope, sending)

    async def _reply(self, target: Target, request: Request, receive: Receive) -> tuple[Reply, bool]:
        method = request.method
        allow = ALLOW if isinstance(target, str) else target.allow
        if method == "OPTIONS":
            asked = request.headers.get(b"access-control-request-headers", b"")
            return preflight_reply(request.headers.get(b"origin", b""), asked, allow), False
        if isinstance(target, str):
            if method in ("POST", "GET"):
                return await self._ingestion.answer(target, request, receive)
        elif method in target.methods:
            if isinstance(target, LookupPath):
                return await self._lookup_tables.answer(target, request, receive)
            return await self._auxiliary.answer(target, request, receive)
        return not_allowed(allow), False

    async def _read(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "path": path, APP_KEY: self}
        began = perf_counter()

        async def counting_send(message: Scope) -> None:
            if message["type"] == "http.response.start" and CALLER_KEY not in scope:
                # the route found its endpoint, and its name is what stands in the code, not what was sent
                name = self._known.get(scope.get("endpoint"), _OTHER)
                self._metrics.request(name, message["status"], perf_counter() - began)
            await send(message)

        await self._rest(scope, receive, counting_send)


def _root(page: Page | None) -> Page:
    async def root(request: PageRequest) -> Response:
        if page is not None and "text/html" in request.headers.get("accept", ""):
            return await page(request)
        return _response(WELCOME_REPLY, vary="Accept")

    return root


def _response(reply: Reply, **headers: str) -> Response:
    """A Starlette response of a `Reply`."""
    own_headers = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body, reply.status, {**own_headers, **headers})


async def _not_found(request: PageRequest, error: Exception) -> Response:
    """A path that is none: query endpoints answer 400, as Mixpanel does (contract query §1.5)."""
    del error
    path = request.scope["path"] + "/"
    if path.startswith(tuple(f"{prefix}/" for prefix in QUERY_PREFIXES)):
        return invalid_endpoint(request.scope)
    if path.startswith("/api/"):
        return read_error(request.scope, "Not Found", status=404)
    return _response(NOT_FOUND)


async def _gone(request: PageRequest, error: Exception) -> Response:
    """The client left before its body was complete: nobody reads this, and it is no fault to log."""
    del request, error
    return Response(status_code=400)


async def _internal_error(request: PageRequest, error: Exception) -> Response:
    """A fault of ours; Starlette raises it again once this is sent, so that the server logs it."""
    del error
    if request.scope["path"].startswith("/api/"):
        return read_error(request.scope, texts.INTERNAL, status=500)
    return _response(INTERNAL)


async def _method_not_allowed(request: PageRequest, error: Exception) -> Response:
    """A method that a path does not take; `Allow` names those of all routes that the path has."""
    del error
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    path = next(route.path for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    taken = {method for route in routes if route.path == path for method in route.methods or ()}
    allow = ", ".join(sorted(taken))
    if request.scope["path"].startswith("/api/"):
        text = METHOD_NOT_ALLOWED.format(method=request.method)
        return read_error(request.scope, text, status=405, headers={"Allow": allow})
    return _response(not_allowed(allow))
