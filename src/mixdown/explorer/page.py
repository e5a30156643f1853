"""The one page at `/`: how to send a record and, for whoever signs in, what has arrived.

Requests of browsers enter; HTML leaves, under a content security policy that allows no inline script or
style. The page works without JavaScript. Signing in takes a service account; its cookie opens this page
and nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mixdown import __version__
from mixdown.explorer import docs
from mixdown.explorer.attempts import Attempts
from mixdown.explorer.content import Content, content_for
from mixdown.explorer.cookies import (
    COOKIE_NAME,
    COOKIE_TTL_S,
    KEY_BYTES,
    SignedIn,
    is_csrf_token,
    sign,
    verify,
)
from mixdown.explorer.policy import HEADERS, PREFIX
from mixdown.http.auth import READERS, caller_of
from mixdown.http.reading import in_thread
from mixdown.http.services import Services
from mixdown.model.errors import StoreError
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.protocols import Account, Catalog

COOKIE_KEY_FACT: Final = "cookie_key"
FORM_LIMIT_BYTES: Final = 8192
FAILURE_PAUSE_S: Final = 0.5
WRONG_PASSWORD: Final = "No service account has this name and password."
TOO_OFTEN: Final = "Too many failed attempts from your address. Wait a minute, then try again."
MAY_NOT_READ: Final = "This account may only import; it cannot read."
FORM_EXPIRED: Final = "This form has expired. Please try again."
STORE_DOWN: Final = "The data cannot be read at the moment. The server's log says why."
TOKEN_PLACEHOLDER: Final = "YOUR_TOKEN"
_FOLDER: Final = Path(__file__).parent
_STATIC_TYPES: Final = {
    "page.css": "text/css",
    "docs.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_HOST: Final = re.compile(r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")


async def static_file(request: Request) -> Response:
    """A style sheet, script or icon of the page."""
    name = request.path_params["name"]
    if name not in _STATIC_TYPES:
        return Response("Not Found", status_code=404, media_type="text/plain")
    headers = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
    body = await asyncio.to_thread((_FOLDER / "static" / name).read_bytes)
    return Response(body, headers=headers, media_type=_STATIC_TYPES[name])


class Explorer:
    """The page and what belongs to it: `page` goes to `make_app` as its page, `routes()` as extra routes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._attempts = Attempts()
        self._template = _template()

    def routes(self) -> list[Route]:
        """The page's two forms and its static files, and the page that describes the API."""
        return [
            Route(f"{PREFIX}/sign-in", self.sign_in, methods=["POST"]),
            Route(f"{PREFIX}/sign-out", self.sign_out, methods=["POST"]),
            Route(f"{PREFIX}/static/{{name}}", static_file, methods=["GET"]),
            *docs.routes(),
        ]

    async def page(self, request: Request) -> Response:
        """What a browser gets at `/`."""
        return await self._render(request)

    async def sign_in(self, request: Request) -> Response:
        """Check name and password; a cookie for 12 hours, or the page with what was wrong."""
        address = request.client.host if request.client else ""
        if not self._attempts.may_try(address, now_s=self._now_s()):
            return await self._render(request, problem=TOO_OFTEN, status=429)
        form = await _form(request)
        if form is None or not _same_origin(request):
            return await self._render(request, problem=FORM_EXPIRED, status=403)
        name, password = form.get("username", ""), form.get("password", "")

        def look() -> tuple[Account | None, bytes]:
            account = self._services.catalog.current().account(name, password, now_ms=self._services.now_ms())
            return account, cookie_key(self._services.store.catalog)

        account, key = await in_thread(self._services, look)
        if account is None:
            self._attempts.failed(address, now_s=self._now_s())
            await asyncio.sleep(FAILURE_PAUSE_S)
            return await self._render(request, problem=WRONG_PASSWORD, status=401)
        if not caller_of(account).roles & READERS:
            return await self._render(request, problem=MAY_NOT_READ, status=403)
        response = RedirectResponse("/", status_code=303, headers={"Cache-Control": "no-store"})
        response.set_cookie(
            COOKIE_NAME,
            sign(key, account, now_s=self._now_s()),
            max_age=COOKIE_TTL_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def sign_out(self, request: Request) -> Response:
        """Take the cookie back, if the form brings the token that belongs to it."""
        form = await _form(request)
        signed_in, _ = await in_thread(self._services, self._signed_in, _cookie(request))
        if signed_in is not None and (
            form is None or not _same_origin(request) or not is_csrf_token(signed_in, form.get("csrf", ""))
        ):
            return await self._render(request, problem=FORM_EXPIRED, status=403)
        response = RedirectResponse("/", status_code=303, headers={"Cache-Control": "no-store"})
        response.delete_cookie(
            COOKIE_NAME, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return response

    def _now_s(self) -> int:
        return self._services.now_ms() // 1000

    def _signed_in(self, cookie: str) -> tuple[SignedIn | None, CatalogView]:
        view = self._services.catalog.current()
        if not cookie:
            return None, view
        key = cookie_key(self._services.store.catalog)
        found = verify(key, cookie, view.accounts, now_s=self._now_s())
        if found is None or found.account.is_expired(self._services.now_ms()):
            return None, view
        return (found if caller_of(found.account).roles & READERS else None), view

    async def _render(self, request: Request, *, problem: str = "", status: int = 200) -> Response:
        address = server_address(request, self._services)
        cookie = _cookie(request)

        def build() -> str:
            signed_in, view = self._signed_in(cookie)
            content = None
            if signed_in is not None:
                content = content_for(self._services.store, view, signed_in.account)
            return self._template.render(
                _context(address=address, problem=problem, signed_in=signed_in, content=content)
            )

        try:
            html = await in_thread(self._services, build)
        except StoreError:
            html = self._template.render(
                _context(address=address, problem=STORE_DOWN, signed_in=None, content=None)
            )
            status = 503
        return Response(html, status_code=status, headers=HEADERS, media_type="text/html")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _context(
    *, address: str, problem: str, signed_in: SignedIn | None, content: Content | None
) -> Mapping[str, Any]:
    token = content.projects[0].token if content and content.projects else TOKEN_PLACEHOLDER
    return {
        "prefix": PREFIX,
        "version": __version__,
        "address": address,
        "problem": problem,
        "signed_in": signed_in,
        "content": content,
        "token": token,
    }


def cookie_key(catalog: Catalog) -> bytes:
    """The key that signs cookies; made when first needed, shared by all workers through the catalog."""
    key = catalog.fact(COOKIE_KEY_FACT)
    if key is None:
        catalog.set_fact(COOKIE_KEY_FACT, token_bytes(KEY_BYTES))
        key = catalog.fact(COOKIE_KEY_FACT)  # another worker may have been later and won
        assert key is not None
    return key


def server_address(request: Request, services: Services) -> str:
    """The address under which the browser reached the server, for the snippets to paste."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        host = f"{services.settings.host}:{services.settings.port}"
    return f"{request.url.scheme}://{host}"


def _cookie(request: Request) -> str:
    return request.cookies.get(COOKIE_NAME, "")


def _same_origin(request: Request) -> bool:
    """Whether a form was sent from this very page, as far as the browser tells."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of a small form, None where it is too large or no form."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > FORM_LIMIT_BYTES:
            return None
    try:
        fields = parse_qs(body.decode(), max_num_fields=10, keep_blank_values=True)
    except ValueError:
        return None
    return {name: values[-1] for name, values in fields.items()}
