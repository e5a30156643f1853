"""What every page of this room tells the browser: a strict content security policy, and no framing.

The host under which the browser reached the server enters; headers leave. Scripts come from `/static/` of
this host and from nowhere else: not from `'self'`, since answers with a callback live on this origin too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Final

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from mixdown.http.client_ip import is_proxy
from mixdown.settings import Settings

PREFIX: Final = "/explorer"
STATIC: Final = "/static"
_NAMED_HOST: Final = re.compile(r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?")
_IPV6_HOST: Final = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src {scripts}; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept, Cookie",
}


def server_host(request: Request, settings: Settings) -> str:
    """The host and port under which the browser reached the server; the setting's where it sent none."""
    host = request.headers.get("host", "")
    if _NAMED_HOST.fullmatch(host) or _IPV6_HOST.fullmatch(host):
        return host
    return (
        f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
    )


def server_address(request: Request, settings: Settings) -> str:
    """The address under which the browser reached the server, for snippets to paste."""
    return f"{'https' if is_tls(request, settings) else 'http'}://{server_host(request, settings)}"


def is_tls(request: Request, settings: Settings) -> bool:
    """Whether the browser uses TLS: to this server, or to a proxy that is believed (`trusted_proxies`)."""
    if request.url.scheme == "https":
        return True
    said = request.headers.get("x-forwarded-proto", "").strip().lower() == "https"
    peer = request.client.host if request.client else ""
    return said and is_proxy(peer, settings.trusted_networks())


def page_response(
    html: str, host: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """HTML under the policy. `html` comes from a template of this room.

    A policy cannot name an IPv6 address: there each script has the page's nonce, which is put on the tags
    here. Texts of clients cannot hold a tag, for templates escape them.
    """
    scripts = f"{host}{STATIC}/"
    if not _NAMED_HOST.fullmatch(host):
        nonce = token_urlsafe(16)
        scripts = f"'nonce-{nonce}'"
        html = html.replace("<script ", f'<script nonce="{nonce}" ')
    own = {**_HEADERS, "Content-Security-Policy": _POLICY.format(scripts=scripts), **(headers or {})}
    return Response(html, status_code=status, headers=own, media_type="text/html")


def data_headers() -> dict[str, str]:
    """What goes with an answer of this room that is no page."""
    return {**_HEADERS, "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}


def as_html(text: str) -> Markup:
    """What a template of this room rendered, to be put into another."""
    return Markup(text)  # noqa: S704 - the template has escaped what came from outside
