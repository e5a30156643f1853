"""One request and its reply on the raw ASGI interface, for the paths that must be quick.

A scope, `receive` and `send` enter. Bodies are read in bounded memory, replies are sent whole, with
CORS headers. Nothing here knows what a body means.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from mixdown.http.cors import cors_headers
from mixdown.http.reply import Reply
from mixdown.model import texts
from mixdown.model.errors import OverloadedError
from mixdown.store.calls import Call

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

KEPT_BYTES: Final = 1024
READ_ON_FACTOR: Final = 4
HELD_LIMIT_BYTES: Final = 256 * 1024 * 1024
_CLOSE: Final = (b"connection", b"close")


class DisconnectedError(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


class Request(msgspec.Struct):
    """A request's head. `headers` holds the last of each name; `scope` has them all.

    `call` is set for a request that a browser may send again (`http.resends`).
    """

    method: str
    query: bytes
    headers: dict[bytes, bytes]
    scope: Scope
    call: Call | None = None

    @classmethod
    def of(cls, scope: Scope) -> Request:
        """The head of the request that a scope describes."""
        return cls(scope["method"], scope["query_string"], dict(scope["headers"]), scope)

    @property
    def peer(self) -> str:
        """The address of the socket's other end, "" where it has none."""
        client = self.scope.get("client")
        return client[0] if client else ""


class Body(msgspec.Struct, frozen=True):
    """A body as far as it was kept: whole, or its first kilobyte where it was `oversized`.

    `size_bytes` counts what arrived; `complete` is false where the rest was not waited for.
    """

    data: bytes
    size_bytes: int
    oversized: bool = False
    complete: bool = True


class BodyReader:
    """Reads bodies, and knows how many bytes of them this worker holds (DESIGN G7).

    Bytes are held from `read` until `release`.
    """

    def __init__(self, limit_bytes: int, held_limit_bytes: int = HELD_LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._held_limit_bytes = held_limit_bytes

    async def read(self, receive: Receive) -> Body:
        """A body up to the limit. A larger one is read on for a while, so that its sender sees the reply.

        Raises `DisconnectedError`, and `OverloadedError` where too many bodies are held already.
        """
        message = await receive()
        data = _piece(message)
        if not message.get("more_body", False) and len(data) <= self.limit_bytes:
            self._hold(len(data))
            return Body(data, len(data))
        return await self._read_on(receive, message, data)

    async def _read_on(self, receive: Receive, message: MutableMapping[str, Any], data: bytes) -> Body:
        pieces = [data]
        size = len(data)
        held = 0
        try:
            while True:
                if size > self.limit_bytes:
                    start = b"".join(pieces)[:KEPT_BYTES]
                    pieces.clear()
                    self.held_bytes -= held
                    held = 0
                    more = bool(message.get("more_body", False))
                    limit = READ_ON_FACTOR * self.limit_bytes
                    size, complete = await _discard(receive, size, limit, more=more)
                    return Body(start, size, oversized=True, complete=complete)
                self._hold(size - held)
                held = size
                if not message.get("more_body", False):
                    held = 0  # the caller's from here on
                    return Body(b"".join(pieces), size)
                message = await receive()
                data = _piece(message)
                pieces.append(data)
                size += len(data)
        finally:
            self.held_bytes -= held

    def _hold(self, size_bytes: int) -> None:
        if self.held_bytes + size_bytes > self._held_limit_bytes:
            raise OverloadedError(texts.OVERLOADED_BODIES, retry_after_s=1)
        self.held_bytes += size_bytes

    def try_hold(self, size_bytes: int) -> bool:
        """Hold a body that was read elsewhere, until `let_go`; whether there is room."""
        if self.held_bytes + size_bytes > self._held_limit_bytes:
            return False
        self.held_bytes += size_bytes
        return True

    def let_go(self, size_bytes: int) -> None:
        """So many bytes of `try_hold` are not needed any more."""
        self.held_bytes -= size_bytes

    def release(self, body: Body) -> None:
        """The body that `read` returned is not needed any more."""
        if not body.oversized:
            self.held_bytes -= body.size_bytes


async def discard_body(receive: Receive, limit_bytes: int) -> Body:
    """Read a body and forget it, in constant memory, up to the limit. Raises `DisconnectedError`."""
    size, complete = await _discard(receive, 0, limit_bytes, more=True)
    return Body(b"", size, oversized=not complete, complete=complete)


async def _discard(receive: Receive, size: int, limit_bytes: int, *, more: bool) -> tuple[int, bool]:
    while more:
        if size > limit_bytes:
            return size, False
        message = await receive()
        size += len(_piece(message))
        more = message.get("more_body", False)
    return size, True


def _piece(message: MutableMapping[str, Any]) -> bytes:
    if message["type"] == "http.disconnect":
        raise DisconnectedError
    body: bytes = message.get("body", b"")
    return body


async def send_reply(send: Send, reply: Reply, origin: bytes, *, close: bool = False) -> None:
    """Send a reply whole, with CORS headers; `close` ends the connection after it."""
    headers = reply.headers
    if origin:
        headers = headers + cors_headers(origin)
    if close:
        headers = [*headers, _CLOSE]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
