"""The one error body of every read and administration endpoint (contract query §1.5).

An error enters, a response leaves: `{"request": path and query, "error": text, "status": "error"}`. It
carries `Retry-After` with 429 alone, since a client takes it for rate limiting whatever the status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from mixdown.model.errors import (
    AuthError,
    OverloadedError,
    RateLimitedError,
    ReadTimeoutError,
    RequestError,
    StoreError,
)

INVALID_ENDPOINT: Final = "Invalid API endpoint"
UNAUTHENTICATED: Final = "Unable to authenticate request"
METHOD_NOT_ALLOWED: Final = "this endpoint does not take the method {method}"
STORE_DOWN: Final = "the data cannot be read at the moment: the server's log says why"
REQUEST_LIMIT_CHARS: Final = 2048
_log = structlog.get_logger(__name__)
_ENDPOINT = Callable[[Request], Awaitable[Response]]


def request_text(scope: Scope) -> str:
    """Path and query of a request as it was sent, cut to 2048 characters."""
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    path = raw_path.partition(b"?")[0]
    query: bytes = scope.get("query_string", b"")
    target = path + b"?" + query if query else path
    return target.decode("utf-8", "replace")[:REQUEST_LIMIT_CHARS]


def read_error(scope: Scope, text: str, *, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An error response in the shape that every reading client understands."""
    body = {"request": request_text(scope), "error": text, "status": "error"}
    return Response(
        orjson.dumps(body),
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def invalid_endpoint(scope: Scope, why: str = "") -> Response:
    """What `/api/query/*` and `/api/2.0/*` answer to a path that they do not know: 400, and why if known."""
    return read_error(scope, why or INVALID_ENDPOINT, status=400)


def error_response(
    scope: Scope, error: RequestError | OverloadedError | RateLimitedError | StoreError
) -> Response:
    """The response to an error that was raised on purpose while a request was answered."""
    if isinstance(error, RateLimitedError):
        headers = {"Retry-After": str(error.retry_after_s)}
        return read_error(scope, error.message, status=429, headers=headers)
    if isinstance(error, RequestError):
        headers = {}
        if isinstance(error, AuthError) and error.status == 401 and not _asked_by_page(scope):
            headers["WWW-Authenticate"] = 'Basic realm="Mixdown", charset="UTF-8"'
        text = f"{error.message}: {error.hint}" if error.hint else error.message
        return read_error(scope, text, status=error.status, headers=headers)
    if isinstance(error, ReadTimeoutError):
        return read_error(scope, error.message, status=503)
    if isinstance(error, StoreError):
        # the error itself names files of this machine: it is for the operator, not for whoever asks
        _log.error("a read failed", exc_info=error)
        return read_error(scope, STORE_DOWN, status=503)
    return read_error(scope, error.message, status=503)


def _asked_by_page(scope: Scope) -> bool:
    """Whether a script of the explorer asks: its browser would pop up a window for name and password."""
    names = {name for name, _ in scope["headers"]}
    return b"x-csrf-token" in names or scope["path"].startswith("/explorer/")


def answering(endpoint: _ENDPOINT) -> _ENDPOINT:
    """`endpoint`, with the errors that it raises on purpose turned into responses."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (RequestError, OverloadedError, RateLimitedError, StoreError) as error:
            return error_response(request.scope, error)

    return answer
