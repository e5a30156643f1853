"""CORS for the paths that browsers write to, ingestion and auxiliary, and no other (contract ingestion §6.6).

The browser SDK sends credentials with every request, so the Origin is echoed, on errors as well:
without these headers the SDK cannot read a reply, and drops or repeats its batch.
"""

from __future__ import annotations

from typing import Final

from mixdown.http.reply import Headers, Reply

ALLOW_METHODS: Final = b"GET, POST, PUT, OPTIONS"
DEFAULT_ALLOW_HEADERS: Final = b"Content-Type, Content-Encoding, Authorization, traceparent, X-Requested-With"
_CREDENTIALS: Final = (b"access-control-allow-credentials", b"true")
_EXPOSE: Final = (b"access-control-expose-headers", b"Retry-After")
_VARY: Final = (b"vary", b"Origin")
_METHODS: Final = (b"access-control-allow-methods", ALLOW_METHODS)
_MAX_AGE: Final = (b"access-control-max-age", b"1728000")


def cors_headers(origin: bytes) -> Headers:
    """What a reply to a page from `origin` needs; none without an Origin."""
    if not origin:
        return []
    return [(b"access-control-allow-origin", origin), _CREDENTIALS, _EXPOSE, _VARY]


def preflight_reply(origin: bytes, asked_headers: bytes, allow: str) -> Reply:
    """The reply to OPTIONS: 204, empty; `allow` lists the methods of the path."""
    headers: Headers = [(b"allow", allow.encode())]
    if origin:
        asked = (b"access-control-allow-headers", asked_headers or DEFAULT_ALLOW_HEADERS)
        headers += [_METHODS, asked, _MAX_AGE]
    return Reply(204, headers, b"")
