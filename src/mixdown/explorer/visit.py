"""One request of somebody who has signed in, as the pages of the explorer see it.

The request, its caller and a view of the catalog enter; parameters, addresses and the API's answers leave.
What the caller may not see is not found here; what they may do is the API's to decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from mixdown.explorer.asking import Answer, Inside, inside, query_string
from mixdown.explorer.policy import PREFIX, data_headers, server_address
from mixdown.explorer.problems import FORM_EXPIRED, FORM_TOO_LARGE, NOT_FOUND, Problem
from mixdown.http.auth import Caller
from mixdown.http.cookies import CSRF_HEADER, SignedIn, is_csrf_token
from mixdown.http.forms import multipart_fields
from mixdown.http.services import Services
from mixdown.model.values import clean_text
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.protocols import Account, Project

FORM_LIMIT_BYTES: Final = 1024 * 1024
FORM_FIELDS_LIMIT: Final = 5000
GRACE_S: Final = 15
_INTEGER_LIMIT_CHARS: Final = 19
_WITH_PROJECT: Final = ("/api/", "/lookup-tables", "/import")
_WRITES: Final = ("/engage", "/groups", "/track", "/import")


class Form:
    """The fields of a form that was sent: the last of a name, or all of it."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def text(self, name: str, default: str = "") -> str:
        """The last value of a field."""
        return self._fields.get(name, [default])[-1]

    def texts(self, name: str) -> list[str]:
        """All values of a field, in the order of the form."""
        return list(self._fields.get(name, ()))

    def names(self) -> list[str]:
        """The names of the fields that were sent."""
        return list(self._fields)


class Visit:
    """One request of someone who has signed in."""

    def __init__(
        self,
        request: Request,
        services: Services,
        view: CatalogView,
        *,
        caller: Caller,
        account: Account,
        signed_in: SignedIn | None,
    ) -> None:
        self.request = request
        self.services = services
        self.view = view
        self.caller = caller
        self.account = account
        self.group_keys: list[tuple[str, int]] = []
        self._signed_in = signed_in
        self._form: Form | None = None
        number = request.path_params.get("project", "")
        self._number = int(number) if number else 0
        self._project = view.projects.get(self._number) if caller.sees(self._number) else None

    # --- who, and where ---------------------------------------------------------------------------

    @property
    def csrf_token(self) -> str:
        """The token that forms bring back; "" for a caller without a cookie, who has no forms."""
        return self._signed_in.csrf_token if self._signed_in else ""

    @property
    def is_htmx(self) -> bool:
        """Whether htmx asks, for a part of a page."""
        return self.request.headers.get("hx-request", "") == "true"

    @property
    def address(self) -> str:
        """The server's address, `http://host:port`, as the browser reached it."""
        return server_address(self.request, self.services.settings)

    @property
    def has_project(self) -> bool:
        """Whether the path names a project that the caller may see."""
        return self._project is not None

    @property
    def project(self) -> Project:
        """The project of the path. Raises `Problem` (404) where there is none that the caller may see."""
        if self._project is None:
            raise Problem(NOT_FOUND, status=404)
        return self._project

    @property
    def near_project(self) -> Project | None:
        """The project whose pages the navigation leads to: that of the path, else the caller's only one."""
        projects = self.projects
        return self._project or (projects[0] if len(projects) == 1 else None)

    @property
    def role(self) -> str:
        """The caller's role here: in the project of the path, or anywhere."""
        if self._project is not None:
            return self.caller.role_in(self._project.id)
        return ", ".join(sorted(self.caller.roles))

    @property
    def projects(self) -> list[Project]:
        """The projects that the caller may see, in the order of their ids."""
        return [project for project in self.view.projects.values() if self.caller.sees(project.id)]

    def may(self, roles: frozenset[str]) -> bool:
        """Whether the caller has one of these roles in this project (on a server-wide page: anywhere)."""
        if self._number:
            return self.caller.role_in(self._number) in roles
        return bool(self.caller.roles & roles)

    # --- parameters -------------------------------------------------------------------------------

    def text(self, name: str, default: str = "") -> str:
        """A query parameter; the last of a repeated one counts."""
        values = self.request.query_params.getlist(name)
        return clean_text(values[-1]) if values else default

    def texts(self, name: str) -> list[str]:
        """All values of a query parameter."""
        return [clean_text(value) for value in self.request.query_params.getlist(name)]

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        """A query parameter as an integer. Raises `Problem` (400) where it is none from `low` to `high`."""
        text = self.text(name).strip()
        if not text:
            return default
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdecimal() and len(text) <= _INTEGER_LIMIT_CHARS:
            number = int(text)
            if low <= number <= high:
                return number
        raise Problem(f"{name}: must be an integer from {low} to {high}.", status=400)

    def with_query(self, params: Mapping[str, Any]) -> Visit:
        """The same visit, as if these had been its query parameters."""
        other = copy(self)
        query = path_of("", "", params).removeprefix("?")
        other.request = Request({**self.request.scope, "query_string": query.encode()})
        return other

    def path(self, rest: str = "", /, **params: Any) -> str:
        """The address of a page of this project: `path("users", q="ada")`. None leaves a parameter out.

        A list repeats its parameter.
        """
        return path_of(f"{PREFIX}/{self.project.id}", rest, params)

    def server_path(self, rest: str = "", /, **params: Any) -> str:
        """The address of a server-wide page."""
        return path_of(PREFIX, rest, params)

    # --- the API ----------------------------------------------------------------------------------

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = 0,
    ) -> Answer:
        """Ask this server's own API as the caller, and have the whole answer (of `limit_bytes`, or 32 MB).

        `body` is bytes, or anything that JSON has. The project of the page goes along as `project_id`, unless
        `params` says otherwise (None: without); what is written is not located by the caller's address.
        Where a form is expected, take it first. Raises `Problem` where there can be no answer.
        """
        limit_s = self.services.settings.read_timeout_s + GRACE_S if method in ("GET", "HEAD") else 0
        asked = self._inside(method, path, params, body, headers)
        return await asked.answer(limit_s=limit_s, limit_bytes=limit_bytes)

    def relay(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        filename: str = "",
        streamed: bool = False,
    ) -> Response:
        """A response that passes the API's answer on as it comes: for downloads (`filename`) and streams.

        `streamed` sends the body of this request on as it comes: for uploads, whose CSRF token is a header.
        """
        sent = dict(headers or {})
        own = data_headers()
        if filename:
            plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in filename)
            own["Content-Disposition"] = f'attachment; filename="{plain}"'
        if streamed:
            given = self.request.headers
            kept = ("content-type", "content-length", "content-encoding")
            sent = {**{name: given[name] for name in kept if name in given}, **sent}
        return self._inside(method, path, params, body, sent).relay(own, streamed=streamed)

    def _inside(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None,
    ) -> Inside:
        asked = dict(params or {})
        if self._project is not None and path.startswith(_WITH_PROJECT):
            asked.setdefault("project_id", self._project.id)
        if path in _WRITES:
            asked.setdefault("ip", 0)
        return inside(self.request, self.caller, method, path, params=asked, body=body, headers=headers)

    # --- forms ------------------------------------------------------------------------------------

    async def form(self) -> Form:
        """The fields of the form that was sent, 1 MB at most. Raises `Problem` (413)."""
        if self._form is None:
            self._form = await read_form(self.request, limit_bytes=FORM_LIMIT_BYTES)
        return self._form

    async def check_form(self) -> None:
        """Raises `Problem` (403) unless the request comes from a page of this caller's own."""
        token = self.request.headers.get(CSRF_HEADER, "")
        if not token:
            token = (await self.form()).text("csrf")
        if (
            self._signed_in is None
            or not is_same_origin(self.request)
            or not is_csrf_token(self._signed_in, token)
        ):
            raise Problem(FORM_EXPIRED, status=403)


def path_of(before: str, rest: str, params: Mapping[str, Any]) -> str:
    """A path with parameters, each encoded."""
    path = f"{before}/{rest.lstrip('/')}" if rest else before
    parts = [
        query_string({name: one})
        for name, value in params.items()
        for one in (value if isinstance(value, (list, tuple)) else (value,))
    ]
    query = "&".join(part for part in parts if part)
    return f"{path}?{query}" if query else path


def is_same_origin(request: Request) -> bool:
    """Whether a form was sent from a page of this server, as far as the browser tells."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:  # the browser knows better than a `Host` that a proxy may have changed
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")


async def read_form(request: Request, *, limit_bytes: int, fields_limit: int = FORM_FIELDS_LIMIT) -> Form:
    """The fields of a form. Raises `Problem`: 413 where it is too large, 403 where it is no form."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit_bytes:
            raise Problem(FORM_TOO_LARGE, status=413)
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        fields = multipart_fields(bytes(body), content_type.encode("latin-1"))
        return Form({_text(name): [_text(value)] for name, value in fields.items()})
    try:
        pairs = parse_qsl(body.decode(), max_num_fields=fields_limit, keep_blank_values=True)
    except ValueError:
        raise Problem(FORM_EXPIRED, status=403) from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(clean_text(name), []).append(clean_text(value))
    return Form(found)


def _text(raw: bytes) -> str:
    return clean_text(raw.decode("utf-8", "replace"))
