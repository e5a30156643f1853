"""Messages that are shown once, on the page after a redirect, and the way back after signing in.

They travel in a cookie of a minute, as text that a template escapes: they must never hold a secret.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mixdown.explorer.policy import PREFIX

COOKIE_NAME: Final = "mixdown_notice"
TTL_S: Final = 60
TEXT_LIMIT_CHARS: Final = 600
COOKIE_LIMIT_CHARS: Final = 3500
NEXT_LIMIT_CHARS: Final = 2000


def keep(response: Response, notice: str, problem: str) -> None:
    """Keep messages for the next page."""
    if not notice and not problem:
        return
    raw = orjson.dumps([notice[:TEXT_LIMIT_CHARS], problem[:TEXT_LIMIT_CHARS]])
    value = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    if len(value) <= COOKIE_LIMIT_CHARS:
        response.set_cookie(COOKIE_NAME, value, max_age=TTL_S, httponly=True, samesite="strict")


def kept(request: Request) -> dict[str, str]:
    """The messages that were kept for this page: `notice` and `kept_problem`."""
    value = request.cookies.get(COOKIE_NAME, "")
    found: Any = None
    if value and len(value) <= COOKIE_LIMIT_CHARS:
        try:
            found = orjson.loads(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
        except (binascii.Error, ValueError):
            found = None
    if type(found) is list and len(found) == 2 and all(type(text) is str for text in found):
        return {"notice": found[0][:TEXT_LIMIT_CHARS], "kept_problem": found[1][:TEXT_LIMIT_CHARS]}
    return {"notice": "", "kept_problem": ""}


def forget(response: Response) -> None:
    """Take the messages back, once they were shown."""
    response.delete_cookie(COOKIE_NAME, httponly=True, samesite="strict")


def secure(response: Response, *, is_tls: bool) -> None:
    """Mark the cookies of a response `Secure` under TLS."""
    if not is_tls:
        return
    marked = []
    for name, value in response.raw_headers:
        if name == b"set-cookie" and b"secure" not in value.lower():
            marked.append((name, value + b"; Secure"))
        else:
            marked.append((name, value))
    response.raw_headers = marked


def safe_next(wanted: str) -> str:
    """Where to go after signing in: a path of the explorer on this server, else `/`."""
    plain = wanted.isascii() and wanted.isprintable() and "\\" not in wanted
    if (
        plain
        and len(wanted) <= NEXT_LIMIT_CHARS
        and wanted.startswith(f"{PREFIX}/")
        and "//" not in wanted.partition("?")[0]
    ):
        return wanted
    return "/"


def sign_in_path(wanted: str) -> str:
    """The address of the sign-in page that comes back to `wanted`."""
    target = safe_next(wanted)
    return f"{PREFIX}/sign-in" if target == "/" else f"{PREFIX}/sign-in?{urlencode({'next': target})}"
