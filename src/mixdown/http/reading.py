"""What every read has in common: who asks, about which project, with which parameters, how fresh.

A request and the services enter; a `Read` leaves once the fold has passed what was stored before, or
the bound on waiting is reached. Reads are authenticated before a byte of their body is taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, ParamSpec, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mixdown.http.auth import READERS, Caller, caller_inside, project_of, require
from mixdown.http.client_ip import request_ip
from mixdown.http.cookies import caller_of_cookie
from mixdown.http.parameters import Parameters, read_parameters
from mixdown.http.services import Services
from mixdown.model.errors import QueryError, RateLimitedError, ReadTimeoutError, TooMuchAtOnceError
from mixdown.query.waiting import Named
from mixdown.store import patience
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.chunk import FOR_PROFILES
from mixdown.store.protocols import Project

WAIT_HEADER: Final = "x-mixdown-wait"
BEHIND_HEADER: Final = "X-Mixdown-Behind"
COOKIE_PREFIX: Final = "/api/mixdown/"
PROJECT_ID_LIMIT: Final = 2**53
TOO_MUCH_MEMORY: Final = (
    "this read of events takes more memory than it may: ask for fewer days (or raise event_read_memory_bytes)"
)
TOO_MUCH_TIME: Final = (
    "this report took longer than {limit_s:g} s: ask for fewer days, or for fewer events by a filter "
    "(or raise read_timeout_s)"
)
_LEAVE_AGAIN_S: Final = 0.1
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Read(NamedTuple):
    """A read that may be answered; `behind` is how many records the answer still lacks."""

    project: Project
    parameters: Parameters
    behind: int


async def in_thread(services: Services, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run a blocking read in the read executor, for `read_timeout_s` at most: waiting for a thread counts.

    Raises `ReadTimeoutError`.
    """
    bounded = in_time_of_thread(services, partial(call, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(services.executor, bounded)


async def in_scan_thread(
    services: Services, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """As `in_thread`, for a read that looks through all profiles of a kind. Raises `ReadTimeoutError`."""
    bounded = in_time_of_thread(services, partial(call, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(services.scans or services.executor, bounded)


async def in_event_thread(
    services: Services, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """As `in_thread`, for a read of events. Raises `ReadTimeoutError`, and `QueryError` (400): memory."""
    bounded = in_time_of_thread(services, partial(call, *args, **kwargs))
    try:
        threads = services.event_threads or services.executor
        return await asyncio.get_running_loop().run_in_executor(threads, bounded)
    except TooMuchAtOnceError:
        raise QueryError(TOO_MUCH_MEMORY, status=400) from None


async def in_report_thread(request: Request, services: Services, call: Callable[[], _T]) -> _T:
    """As `in_event_thread`, for a report: ended when whoever asked is gone, refused when it takes too long.

    Raises `QueryError` (400): time, or memory.
    """
    caller = patience.Caller()
    watch = asyncio.create_task(_leave_with(request, caller))
    try:
        threads = services.event_threads or services.executor
        bounded = in_time_of_thread(services, call, caller)
        return await asyncio.get_running_loop().run_in_executor(threads, bounded)
    except TooMuchAtOnceError:
        raise QueryError(TOO_MUCH_MEMORY, status=400) from None
    except ReadTimeoutError:
        limit_s = services.settings.read_timeout_s
        raise QueryError(TOO_MUCH_TIME.format(limit_s=limit_s), status=400) from None
    finally:
        watch.cancel()


async def _leave_with(request: Request, caller: patience.Caller) -> None:
    """Tell the threads of a caller to end once the connection is gone: again and again, until they have."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    while True:
        caller.leave()
        await asyncio.sleep(_LEAVE_AGAIN_S)


def in_time_of_thread(
    services: Services, call: Callable[[], _T], caller: patience.Caller | None = None
) -> Callable[[], _T]:
    """`call`, for a thread, with a deadline that begins now. It raises `ReadTimeoutError`."""
    limit_s = services.settings.read_timeout_s
    deadline_s = time.monotonic() + limit_s

    def bounded() -> _T:
        with patience.until(deadline_s, limit_s, caller):
            return call()

    return bounded


async def to_its_end(services: Services, call: Callable[[], _T]) -> _T:
    """Run what is no mere read in a thread: a change under way is not cut off at `read_timeout_s`."""
    return await asyncio.get_running_loop().run_in_executor(services.executor, call)


async def in_time(services: Services, answer: Awaitable[_T]) -> _T:
    """Wait for an answer that others may share, as long as for one's own. Raises `ReadTimeoutError`."""
    limit_s = services.settings.read_timeout_s
    try:
        return await asyncio.wait_for(answer, limit_s)
    except TimeoutError:
        raise ReadTimeoutError.after(limit_s) from None


async def authenticated(request: Request, services: Services) -> tuple[Caller, CatalogView]:
    """The caller, by the catalog as it stands now. Raises `AuthError` (401).

    What a page of this server asks in process names its caller in the scope. The explorer's cookie counts
    for Mixdown's own API alone, and only beside its CSRF token (DESIGN §7).
    """
    return await in_thread(services, sender_of(request, services))


def sender_of(request: Request, services: Services) -> Callable[[], tuple[Caller, CatalogView]]:
    """What finds the caller, by the catalog as it stands when that is called. Blocks; raises as above."""
    header = request.headers.get("authorization", "")
    inside = caller_inside(request.scope)
    address = request_ip(request, services.settings)

    def look() -> tuple[Caller, CatalogView]:
        view = services.catalog.current()
        now_ms = services.now_ms()
        caller = inside
        if caller is None and not header and request.scope["path"].startswith(COOKIE_PREFIX):
            caller = caller_of_cookie(request, services.store.catalog, view, now_ms=now_ms)
        return caller or services.gate.caller(header, view, address=address, now_ms=now_ms), view

    return look


async def begin_read(
    request: Request,
    services: Services,
    *,
    wait_limit_ms: int | None = None,
    kinds: int = FOR_PROFILES,
    named: Callable[[Parameters], Sequence[str] | None] | None = None,
    kinds_of: Callable[[Parameters], int] | None = None,
) -> Read:
    """Authenticate, decode, and wait for the readers of `kinds`, `wait_limit_ms` at most where it is given.

    `named` tells the ids of the profiles that the answer depends on, None where it depends on all; `kinds_of`
    the readers that it depends on, where that is a matter of parameters.
    Raises `AuthError`, `QueryError`, `BodyError`, `RateLimitedError`.
    """
    project, parameters = await admitted(request, services)
    setting_ms = services.settings.read_wait_ms
    limit_ms = setting_ms if wait_limit_ms is None else min(wait_limit_ms, setting_ms)
    bound = wait_bound_ms(request, limit_ms)
    kinds = kinds if kinds_of is None else kinds_of(parameters)
    ids = None if named is None else named(parameters)
    wanted = None if ids is None else Named(project.id, ids)
    behind = await services.watch.wait(bound, kinds, wanted, project=project.id)
    return Read(project, parameters, behind)


async def admitted(
    request: Request,
    services: Services,
    *,
    roles: frozenset[str] = READERS,
    what: str = "read",
    read_body: Callable[[], Awaitable[None]] | None = None,
) -> tuple[Project, Parameters]:
    """As `admitted_caller`, for those to whom it is no matter who asks."""
    _, project, parameters = await admitted_caller(
        request, services, roles=roles, what=what, read_body=read_body
    )
    return project, parameters


async def admitted_caller(
    request: Request,
    services: Services,
    *,
    roles: frozenset[str] = READERS,
    what: str = "read",
    read_body: Callable[[], Awaitable[None]] | None = None,
) -> tuple[Caller, Project, Parameters]:
    """Authenticate, decode and count a query, without waiting: for answers that no profile is part of.

    A project that the path names decides over the parameter `project_id`. Where a body is no parameters,
    `read_body` takes it, once the caller is known.
    Raises `AuthError`, `QueryError`, `BodyError`, `RateLimitedError`.
    """
    caller, view = await authenticated(request, services)
    require(caller, roles, what)
    if read_body is None:
        parameters = await read_parameters(request, body_limit_bytes=services.settings.body_limit_bytes)
    else:
        await read_body()
        parameters = Parameters({})
    wanted = project_in_path(request) if "project_id" in request.path_params else project_id_of(parameters)
    project = project_of(caller, wanted, view, roles=roles, what=what)
    try:
        services.rates.admit_query(project.id)
    except RateLimitedError as error:
        services.metrics.rate_limited(error.limit, error.project)
        raise
    return caller, project, parameters


def project_id_of(parameters: Parameters) -> int:
    """The parameter `project_id`, 0 when absent."""
    return parameters.integer("project_id", 0, low=0, high=PROJECT_ID_LIMIT)


def project_in_path(request: Request) -> int:
    """The project that a path below `/api/app/projects` names. Raises `QueryError` (404)."""
    text: str = request.path_params["project_id"]
    if text.isascii() and text.isdecimal() and len(text) <= len(str(PROJECT_ID_LIMIT)) and int(text):
        return int(text)
    raise QueryError("Not Found", status=404)


def wait_bound_ms(request: Request, setting_ms: int) -> int:
    """How long this read may wait: the setting, or less where `X-Mixdown-Wait` says so."""
    asked = request.headers.get(WAIT_HEADER, "").strip()
    if not asked.isdecimal() or len(asked) > 9:
        return setting_ms
    return min(int(asked), setting_ms)


def json_response(body: bytes, *, behind: int = 0, status: int = 200) -> Response:
    """An answer of JSON bytes; says how far behind the fold it is."""
    headers = {"Cache-Control": "no-store"}
    if behind:
        headers[BEHIND_HEADER] = str(behind)
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def ok_response(results: object, *, behind: int = 0, status: int = 200) -> Response:
    """An answer in the envelope of Mixpanel's app API and of Mixdown's own."""
    return json_response(orjson.dumps({"status": "ok", "results": results}), behind=behind, status=status)
