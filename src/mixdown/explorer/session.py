"""Signing in and out: a service account's name and password for a cookie of twelve hours.

Forms enter; a redirect with a cookie leaves, or the page again with what was wrong. Failures are counted
and answered late. It must never tell whether it was the name or the password that was wrong.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mixdown.explorer.frame import SIGN_IN, Frame, comes_from_elsewhere
from mixdown.explorer.notices import safe_next, secure
from mixdown.explorer.policy import PREFIX, is_tls, page_response, server_address, server_host
from mixdown.explorer.problems import FORM_EXPIRED, STORE_DOWN, Problem
from mixdown.explorer.visit import Form, is_same_origin, read_form
from mixdown.http.auth import READERS, caller_of
from mixdown.http.client_ip import request_ip
from mixdown.http.cookies import (
    COOKIE_NAME,
    COOKIE_TTL_S,
    cookie_key,
    is_csrf_token,
    sign,
    sign_out,
    signed_in,
)
from mixdown.http.reading import to_its_end
from mixdown.model.errors import AuthError, StoreError
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.protocols import Account

SIGN_OUT: Final = f"{PREFIX}/sign-out"
FORM_LIMIT_BYTES: Final = 8192
FAILURE_PAUSE_S: Final = 0.5
WRONG_PASSWORD: Final = "No service account has this name and password."
BUSY: Final = "Too many people sign in at once. Please try again."
TOO_OFTEN: Final = "Too many failed attempts from your address. Wait a minute, then try again."
MAY_NOT_READ: Final = "This account may only import; it cannot read."


def set_cookie(response: Response, value: str) -> None:
    """Give a browser the cookie of a session; `secure` it before it leaves."""
    response.set_cookie(COOKIE_NAME, value, max_age=COOKIE_TTL_S, httponly=True, samesite="strict")


async def pause_after_failure() -> None:
    """What a wrong password costs whoever waits for the answer."""
    await asyncio.sleep(FAILURE_PAUSE_S)


class Session:
    """The routes `/explorer/sign-in` and `/explorer/sign-out`, and where a browser goes from `/`."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._services = frame.services

    def routes(self) -> list[Route]:
        """The routes of this file."""
        return [
            Route(SIGN_IN, self.sign_in_page, methods=["GET"]),
            Route(SIGN_IN, self.sign_in, methods=["POST"]),
            Route(SIGN_OUT, self.sign_out, methods=["POST"]),
        ]

    async def home(self, request: Request) -> Response:
        """What a browser gets at `/`: the first of its projects, or the sign-in page."""
        try:
            visit = await self._frame.visit(request)
        except StoreError:
            return self._page(request, problem=STORE_DOWN, status=503)
        if visit is None:
            return self._frame.once_more(request) if comes_from_elsewhere(request) else self._page(request)
        projects = visit.projects
        target = f"{PREFIX}/{projects[0].id}" if projects else f"{PREFIX}/projects"
        return RedirectResponse(target, 303, {"Cache-Control": "no-store", "Vary": "Accept, Cookie"})

    async def sign_in_page(self, request: Request) -> Response:
        """The form; who has signed in already goes on."""
        wanted = safe_next(request.query_params.get("next", ""))
        try:
            visit = await self._frame.visit(request)
        except StoreError:
            return self._page(request, problem=STORE_DOWN, status=503)
        if visit is not None:
            return RedirectResponse(wanted, 303, {"Cache-Control": "no-store"})
        return self._page(request, wanted=wanted)

    async def sign_in(self, request: Request) -> Response:
        """Check name and password; a cookie for 12 hours, or the page with what was wrong."""
        form = await self._form(request)
        if form is None:
            return self._page(request, problem=FORM_EXPIRED, status=403)
        name, password = form.text("username"), form.text("password")
        wanted = safe_next(form.text("next"))
        try:
            return await self._checked(request, name, password, wanted)
        except Problem as problem:
            return self._page(request, wanted=wanted, problem=problem.text, status=problem.status)
        except StoreError:
            return self._page(request, wanted=wanted, problem=STORE_DOWN, status=503)

    async def _checked(self, request: Request, name: str, password: str, wanted: str) -> Response:
        services = self._services
        address, now_ms = request_ip(request, services.settings), services.now_ms()
        attempts, now_s = services.attempts, now_ms / 1000
        if not attempts.may_try(address, name, now_s=now_s):
            raise Problem(TOO_OFTEN, status=429)
        attempts.failed(address, name, now_s=now_s)

        def look() -> tuple[Account | None, bytes]:
            view = services.catalog.current()
            account = view.account(name, password, now_ms=now_ms)
            if account is None:
                account = services.passwords.account(view, name, password, now_ms=now_ms)
            return account, cookie_key(services.store.catalog)

        try:
            account, key = await to_its_end(services, look)
        except AuthError:
            attempts.forgive(address, name, now_s=now_s)
            raise Problem(BUSY, status=429) from None
        except BaseException:
            attempts.forgive(address, name, now_s=now_s)
            raise
        if account is None:
            await pause_after_failure()
            raise Problem(WRONG_PASSWORD, status=401)
        attempts.forgive(address, name, now_s=now_s)
        if not caller_of(account).roles & READERS:
            raise Problem(MAY_NOT_READ, status=403)
        response = RedirectResponse(wanted, status_code=303, headers={"Cache-Control": "no-store"})
        value = sign(key, account, now_s=now_ms // 1000)
        set_cookie(response, value)
        secure(response, is_tls=is_tls(request, services.settings))
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session and take its cookie back, if the form brings the token that belongs to it."""
        form = await self._form(request)
        cookie = request.cookies.get(COOKIE_NAME, "")

        def look() -> bool:
            view: CatalogView = self._services.catalog.current()
            now_ms = self._services.now_ms()
            catalog = self._services.store.catalog
            found = signed_in(cookie, catalog, view, now_ms=now_ms)
            if found is None:
                return True
            if form is None or not is_csrf_token(found, form.text("csrf")):
                return False
            sign_out(catalog, found, now_ms=now_ms)
            return True

        try:
            may = await to_its_end(self._services, look)
        except StoreError:
            return self._page(request, problem=STORE_DOWN, status=503)
        if not may:
            return self._page(request, problem=FORM_EXPIRED, status=403)
        response = RedirectResponse(SIGN_IN, status_code=303, headers={"Cache-Control": "no-store"})
        response.delete_cookie(COOKIE_NAME, httponly=True, samesite="strict")
        secure(response, is_tls=is_tls(request, self._services.settings))
        return response

    def _page(self, request: Request, *, wanted: str = "/", problem: str = "", status: int = 200) -> Response:
        settings = self._services.settings
        html = self._frame.environment.get_template("sign_in.html").render(
            title="Sign in",
            address=server_address(request, settings),
            next=wanted if wanted != "/" else "",
            problem_text=problem,
        )
        return page_response(html, server_host(request, settings), status=status)

    async def _form(self, request: Request) -> Form | None:
        """The fields of a small form that a page of this server sent; None for anything else."""
        if not is_same_origin(request):
            return None
        try:
            return await read_form(request, limit_bytes=FORM_LIMIT_BYTES, fields_limit=10)
        except Problem:
            return None
