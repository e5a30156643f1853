"""Which requests a browser may send again by itself, and whether their replies were written (DESIGN G2).

The browser SDK puts the time of a call into the query as `_` (contract wire §1); only requests with it pay.
Requests and their connections enter; calls leave, and are settled once the reply is out.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Final, Protocol

from mixdown.http.exchange import Request, Scope
from mixdown.ingest.resends import Resends
from mixdown.store.calls import Call

CONNECTION: Final = "connection"
"""Where `scope["state"]` has the `Connection` that a request came by."""
_STAMPED: Final = re.compile(rb"(?:^|&)_=")


class Connection(Protocol):
    """What a connection knows of its other end (`server.protocol.BoundedProtocol`)."""

    def is_cut(self) -> bool:
        """Whether the client has closed or reset the connection, noticed or not."""

    async def has_written(self) -> bool:
        """Wait until all that was sent is with the system; false where the connection was lost before."""


def is_stamped(query: bytes) -> bool:
    """Whether a query has the parameter `_`, as every request of the browser SDK."""
    return b"_=" in query and _STAMPED.search(query) is not None


def digest_of(resends: Resends, request: Request, body: bytes) -> bytes:
    """What a stamped request is recognised by: method, URL, body and credentials, byte for byte.

    The credentials of an /import name its project: the same body for another one is another request.
    """
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    host = request.headers.get(b"host", b"")
    credentials = request.headers.get(b"authorization", b"")
    return resends.digest(request.method.encode(), host, path, request.query, credentials, body)


def caller_is_gone(scope: Scope) -> bool:
    """Whether the client that sent a request has closed or reset the connection it came by."""
    connection: Connection | None = scope.get("state", {}).get(CONNECTION)
    return connection is not None and connection.is_cut()


async def send_and_settle(resends: Resends, call: Call, scope: Scope, sending: Awaitable[None]) -> None:
    """Send the reply to a call, and settle the call by whether its client can have got it."""
    connection: Connection | None = scope.get("state", {}).get(CONNECTION)
    answered = False
    try:
        gone = caller_is_gone(scope)
        await sending
        answered = not gone and (connection is None or await connection.has_written())
    finally:
        resends.settle(call, answered=answered)
