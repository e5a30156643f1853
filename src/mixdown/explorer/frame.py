"""What the explorer's pages are built on: routes for people who have signed in, rendering, error pages.

Pages hand in a path, a template and a function that gathers values; out come routes: HTML under a strict
policy, and the same values as JSON at `.json`. Roles and CSRF are checked here, before a page's own code.
A page must never be answered to somebody who has not signed in.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson
import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.convertors import register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mixdown import __version__
from mixdown.explorer import notices
from mixdown.explorer.asking import Answer, route_of
from mixdown.explorer.navigation import entries
from mixdown.explorer.policy import PREFIX, data_headers, is_tls, page_response, server_host
from mixdown.explorer.problems import (
    INTERNAL,
    NOT_ALLOWED,
    NOT_FOUND,
    STORE_DOWN,
    Problem,
    title_of,
)
from mixdown.explorer.static_files import asset
from mixdown.explorer.visit import Form, Visit
from mixdown.http.auth import READERS, Caller, caller_of
from mixdown.http.client_ip import request_ip
from mixdown.http.cookies import COOKIE_NAME, signed_in
from mixdown.http.paths import ANY_TEXT, TextConvertor
from mixdown.http.read_errors import error_response, read_error
from mixdown.http.reading import in_thread
from mixdown.http.services import Services
from mixdown.model.errors import (
    AuthError,
    OverloadedError,
    RateLimitedError,
    ReadTimeoutError,
    RequestError,
    StoreError,
)
from mixdown.store.protocols import Account

__all__ = ["Answer", "Build", "Form", "Frame", "Problem", "Visit", "see_other"]

Build = Callable[[Visit], Awaitable[Mapping[str, Any]]]
Do = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]
SIGN_IN: Final = f"{PREFIX}/sign-in"
PROJECT: Final = f"{PREFIX}/{{project:project}}"
_ROLES_IN_ORDER: Final = ("consumer", "analyst", "admin", "owner")
_GROUP_KEYS_SHOWN: Final = 12
_PROJECTS_SHOWN: Final = 20
_RAISED = (Problem, RequestError, OverloadedError, RateLimitedError, StoreError)


class _ProjectConvertor(TextConvertor):
    """A project's id in a path: nothing else is one, so that `/explorer/projects` is another page."""

    regex = "[1-9][0-9]{0,15}"


class _ElsewhereConvertor(TextConvertor):
    """Any path but one that takes no GET at all, which has an answer of its own for that."""

    regex = "(?!sign-out$)(?s:.*)"


register_url_convertor("project", _ProjectConvertor())
register_url_convertor("elsewhere", _ElsewhereConvertor())
_log = structlog.get_logger(__name__)


def see_other(url: str, notice: str = "", *, problem: str = "") -> Response:
    """Go on at `url` (a path of this server), where a message is shown once. It must hold no secret."""
    assert url.startswith("/")
    assert not url.startswith("//")
    response = RedirectResponse(url, status_code=303, headers={"Cache-Control": "no-store"})
    notices.keep(response, notice, problem)
    return response


class Frame:
    """Makes the routes of pages, and renders what they answer."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.environment = _environment()

    # --- what pages declare -----------------------------------------------------------------------

    def view(
        self,
        path: str,
        template: str,
        build: Build,
        *,
        roles: frozenset[str] = READERS,
        title: str,
        section: str,
        server: bool = False,
    ) -> list[Route]:
        """A page below the project (`server`: below /explorer), and its twin at `.json`."""

        async def page(visit: Visit) -> Response:
            values = await build(visit)
            return await self._page(visit, template, {"title": title, "section": section, **values})

        async def twin(visit: Visit) -> Response:
            body = await asyncio.to_thread(_json_bytes, await build(visit))
            return Response(body, headers=data_headers(), media_type="application/json")

        below = PREFIX if server else PROJECT
        return [
            self._route(
                f"{below}{path}.json", self._guarded(twin, roles, server=server, is_data=True), "GET"
            ),
            self._route(f"{below}{path}", self._guarded(page, roles, server=server), "GET"),
        ]

    def fragment(
        self,
        path: str,
        template: str,
        build: Build,
        *,
        roles: frozenset[str] = READERS,
        server: bool = False,
    ) -> Route:
        """A part of a page, for htmx."""

        async def part(visit: Visit) -> Response:
            values = await build(visit)
            html = await asyncio.to_thread(self._html, visit, template, values)
            return self._respond(visit.request, html)

        guarded = self._guarded(part, roles, server=server, is_part=True)
        return self._route(f"{PREFIX if server else PROJECT}{path}", guarded, "GET")

    def action(self, path: str, do: Do, *, roles: frozenset[str], server: bool = False) -> Route:
        """A POST of a form; CSRF token and roles are checked before `do`."""

        async def checked(visit: Visit) -> Response:
            await visit.check_form()
            return self._settled(visit, await do(visit))

        guarded = self._guarded(checked, roles, server=server, is_action=True)
        return self._route(f"{PREFIX if server else PROJECT}{path}", guarded, "POST")

    def raw(
        self,
        path: str,
        answer: Do,
        *,
        roles: frozenset[str] = READERS,
        server: bool = False,
    ) -> Route:
        """A GET whose response is the page's own: streams, downloads."""
        guarded = self._guarded(answer, roles, server=server, is_data=True)
        return self._route(f"{PREFIX if server else PROJECT}{path}", guarded, "GET")

    def render(self, visit: Visit, template: str, *, status: int = 200, **context: Any) -> Response:
        """HTML with all headers."""
        return self._respond(visit.request, self._html(visit, template, context), status=status)

    # --- who visits -------------------------------------------------------------------------------

    async def visit(self, request: Request, *, takes_header: bool = False) -> Visit | None:
        """The visit of a request, None where nobody has signed in.

        `takes_header`: an `Authorization` header counts too; wrong credentials raise `AuthError`.
        """
        cookie = request.cookies.get(COOKIE_NAME, "")
        header = request.headers.get("authorization", "") if takes_header else ""
        now_ms = self.services.now_ms()
        address = request_ip(request, self.services.settings)

        def look() -> Visit | None:
            view = self.services.catalog.current()
            found = None
            if header:
                caller = self.services.gate.caller(header, view, address=address, now_ms=now_ms)
                account = view.accounts.get(caller.name) or _account_of(caller)
            else:
                found = signed_in(cookie, self.services.store.catalog, view, now_ms=now_ms)
                if found is None:
                    return None
                caller, account = caller_of(found.account), found.account
            if not caller.roles & READERS:
                return None
            visit = Visit(request, self.services, view, caller=caller, account=account, signed_in=found)
            near = visit.near_project
            if near is not None:
                visit.group_keys = sorted(self.services.store.state.group_keys(near.id).items())
            return visit

        return await in_thread(self.services, look)

    def _guarded(
        self,
        answer: Do,
        roles: frozenset[str],
        *,
        server: bool,
        is_data: bool = False,
        is_part: bool = False,
        is_action: bool = False,
    ) -> Endpoint:
        """`answer` for those who may, and everything else in the form that fits what was asked for."""

        async def endpoint(request: Request) -> Response:
            visit = None
            try:
                visit = await self.visit(request, takes_header=is_data)
                if visit is None:
                    return self._signed_out(request, is_data=is_data, is_action=is_action)
                _require(visit, roles, server=server)
                return await answer(visit)
            except ClientDisconnect:
                raise
            except Exception as error:  # noqa: BLE001 - a page's fault is shown as a page, and logged
                if not isinstance(error, _RAISED):
                    _log.exception("a page failed", path=route_of(request))
                if is_data:
                    return _data_error(request, error)
                problem = problem_of(error)
                if visit is not None and visit.is_htmx and is_action:
                    return _told_by_event(problem)
                if is_part or (visit is not None and visit.is_htmx):
                    return self._part_error(request, problem)
                return await self.error_page(request, visit, problem)

        return endpoint

    def _signed_out(self, request: Request, *, is_data: bool, is_action: bool) -> Response:
        """Where somebody goes who has not signed in, or whose session has ended."""
        is_htmx = request.headers.get("hx-request") == "true"
        if is_data and not is_htmx and "text/html" not in request.headers.get("accept", ""):
            return error_response(request.scope, AuthError("sign in, or send a service account", status=401))
        if not is_action and comes_from_elsewhere(request):
            return self.once_more(request)
        current = request.headers.get("hx-current-url", "") if is_htmx else ""
        wanted = "/" + current.partition("://")[2].partition("/")[2] if current else _path_and_query(request)
        target = SIGN_IN if is_action and not is_htmx else notices.sign_in_path(wanted)
        if is_htmx:
            return Response(status_code=401, headers={**data_headers(), "HX-Redirect": target})
        return RedirectResponse(target, status_code=303, headers={"Cache-Control": "no-store"})

    def once_more(self, request: Request) -> Response:
        """Who follows a link of another site brings no cookie: this page asks again, and brings it."""
        html = self.environment.get_template("once_more.html").render(
            title="Opening", next=notices.safe_next(_path_and_query(request))
        )
        return self._respond(request, html)

    # --- answers ----------------------------------------------------------------------------------

    async def error_page(self, request: Request, visit: Visit | None, problem: Problem) -> Response:
        """What went wrong, as a page."""
        values = {
            "title": title_of(problem.status),
            "section": "",
            "problem_text": problem.text,
            "problem_status": problem.status,
        }
        if visit is not None:
            try:
                return await self._page(visit, "error.html", values, status=problem.status)
            except Exception:  # noqa: BLE001 - what is wrong may be wrong with the navigation too
                _log.exception("the page of an error failed", path=route_of(request))
        html = self.environment.get_template("error_bare.html").render(values)
        return self._respond(request, html, status=problem.status)

    async def _page(
        self, visit: Visit, template: str, values: Mapping[str, Any], *, status: int = 200
    ) -> Response:
        """A whole page, with navigation and the message that was kept for it."""
        kept = notices.kept(visit.request)
        html = await asyncio.to_thread(self._html, visit, template, {**values, **kept})
        response = self._respond(visit.request, html, status=status)
        if kept["notice"] or kept["kept_problem"]:
            notices.forget(response)
        return response

    def _html(self, visit: Visit, template: str, values: Mapping[str, Any]) -> str:
        section = values.get("section", "")
        context = {
            "title": "",
            "notice": "",
            "kept_problem": "",
            **values,
            "section": section,
            "visit": visit,
            "navigation": entries(visit, str(section), keys_limit=_GROUP_KEYS_SHOWN),
            "switchable": visit.projects[:_PROJECTS_SHOWN],
            "more_projects": max(0, len(visit.projects) - _PROJECTS_SHOWN),
        }
        return self.environment.get_template(template).render(context)

    def _respond(self, request: Request, html: str, *, status: int = 200) -> Response:
        return page_response(html, server_host(request, self.services.settings), status=status)

    def _part_error(self, request: Request, problem: Problem) -> Response:
        html = self.environment.get_template("problem.html").render(text=problem.text)
        return self._respond(request, html, status=problem.status)

    def _settled(self, visit: Visit, response: Response) -> Response:
        """A redirect as htmx takes it; cookies of this room marked `Secure` under TLS."""
        notices.secure(response, is_tls=is_tls(visit.request, self.services.settings))
        if visit.is_htmx and response.status_code == 303:
            response.status_code = 200
            response.headers["HX-Redirect"] = response.headers["location"]
            del response.headers["location"]
        return response

    def _route(self, path: str, endpoint: Endpoint, method: str) -> Route:
        return Route(path, endpoint, methods=[method], include_in_schema=False)


def problem_of(error: Exception) -> Problem:
    """An error in words for the person who sees the page."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RateLimitedError):
        return Problem(error.message, status=429)
    if isinstance(error, RequestError):
        return Problem(f"{error.message}: {error.hint}" if error.hint else error.message, status=error.status)
    if isinstance(error, (OverloadedError, ReadTimeoutError)):
        return Problem(error.message, status=503)
    if isinstance(error, StoreError):
        _log.error("a page could not be read", exc_info=error)
        return Problem(STORE_DOWN, status=503)
    return Problem(INTERNAL, status=500)


def comes_from_elsewhere(request: Request) -> bool:
    """Whether a browser follows another site's link, and so may hold back a cookie that it has."""
    site = request.headers.get("sec-fetch-site", "none")
    is_page = request.headers.get("sec-fetch-dest", "") == "document"
    return is_page and site in ("cross-site", "same-site") and COOKIE_NAME not in request.cookies


def _data_error(request: Request, error: Exception) -> Response:
    """As the API answers an error."""
    if isinstance(error, (RequestError, OverloadedError, RateLimitedError, StoreError)):
        return error_response(request.scope, error)
    problem = problem_of(error)
    return read_error(request.scope, problem.text, status=problem.status)


def _told_by_event(problem: Problem) -> Response:
    """An error of a form that htmx sent: nothing is swapped, and app.js shows the text."""
    event = json.dumps({"mixdown:problem": {"text": problem.text}})
    headers = {**data_headers(), "HX-Reswap": "none", "HX-Trigger": event}
    return Response(status_code=problem.status, headers=headers)


def _require(visit: Visit, roles: frozenset[str], *, server: bool) -> None:
    """Raises `Problem`: 404 for a project that the caller may not see, 403 without one of the roles."""
    if not server:
        assert visit.project is not None
    if not visit.may(roles):
        named = ", ".join(role for role in _ROLES_IN_ORDER if role in roles)
        raise Problem(NOT_ALLOWED.format(roles=named), status=403)


def _account_of(caller: Caller) -> Account:
    """A stand-in for the account that a project's secret is not."""
    ((project_id, role),) = caller.grants.items()
    return Account(caller.name, bytes(32), project_id, role)


def _path_and_query(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")
    path = quote(request.scope["path"])
    return f"{path}?{query}" if query else path


def _json_bytes(values: Mapping[str, Any]) -> bytes:
    return orjson.dumps(dict(values), option=orjson.OPT_NON_STR_KEYS)


def not_found(frame: Frame) -> list[Route]:
    """What every other path below /explorer gets: the page that says so. They come last."""

    async def answer(visit: Visit) -> Response:
        del visit
        raise Problem(NOT_FOUND, status=404)

    def route(path: str) -> Route:
        guarded = frame._guarded(answer, READERS, server=True)  # noqa: SLF001 - these are the frame's own
        return Route(path, guarded, methods=["GET"], include_in_schema=False)

    return [route(f"{PROJECT}/{{rest:{ANY_TEXT}}}"), route(f"{PREFIX}/{{rest:elsewhere}}"), route(PREFIX)]


@cache
def _environment() -> Environment:
    """The templates, read and compiled once."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {"asset": asset, "version": __version__, "prefix": PREFIX}
    environment.filters |= {"pretty": pretty, "compact": compact, "number": number, "iso": iso, "kind": kind}
    environment.filters["named"] = named
    return environment


def pretty(value: object) -> str:
    """A JSON value as indented text."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode()


def compact(value: object) -> str:
    """A JSON value as one line of text."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=str).decode()


def number(value: object) -> str:
    """A number with its thousands apart; other values as text."""
    if type(value) is int:
        return f"{value:,}"
    if type(value) is float:
        return f"{value:,.2f}"
    return str(value)


def named(name: str) -> str:
    """A name as something that one sees and can click: some are empty or blank."""
    return name if name.strip() else "(no name)" if not name else "(a blank name)"


def iso(at_ms: int) -> str:
    """A time in milliseconds as `2026-01-15 12:00:00` in UTC; its number where it is out of range."""
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return str(at_ms)


def kind(value: object) -> str:
    """The type of a JSON value in a word: text, number, boolean, list, object, null."""
    words = {str: "text", bool: "boolean", int: "number", float: "number", list: "list", dict: "object"}
    return words.get(type(value), "null")
