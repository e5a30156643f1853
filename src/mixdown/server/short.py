"""The short way of small writes: from the parser to the application and back without a task.

A task, its coroutines and events cost more than the work itself where a request holds a record or two. A
request that came whole in one read is offered to the application at once; what that does not take goes the
way of every request. Bytes enter and leave; nothing here knows what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, ClassVar, cast

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from mixdown.http.reply import INTERNAL, Reply
from mixdown.server.protocol import BoundedProtocol

_log = structlog.get_logger(__name__)

Take = Callable[[MutableMapping[str, Any], bytes, Callable[[Reply], None]], bool]
"""Scope, body, and what takes the reply; whether the request was taken."""


class ShortProtocol(BoundedProtocol):
    """Offers whole requests to `take` before it makes a task of them."""

    take: ClassVar[Take]
    # The last reply as bytes: nearly all are the same, and the headers beside it change once a second.
    _written: ClassVar[tuple[list[tuple[bytes, bytes]], Reply | None, bytes]] = ([], None, b"")

    _held: tuple[RequestResponseCycle, Any] | None = None
    _feeding = False

    def data_received(self, data: bytes) -> None:
        self._feeding = True
        super().data_received(data)
        self._feeding = False
        if self._held is not None:  # the rest of it is still to come
            held, self._held = self._held, None
            super()._start_asgi_task(*held)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._held is not None:
            held, self._held = self._held, None
            self._start_asgi_task(*held)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.more_body and self._feeding:
            self._held = (cycle, app)
        elif cycle.more_body or app is not self.config.loaded_app or not self._offer(cycle):
            super()._start_asgi_task(cycle, app)

    def _offer(self, cycle: RequestResponseCycle) -> bool:
        if self.flow.write_paused or cycle.disconnected:
            return False
        scope = cast("MutableMapping[str, Any]", cycle.scope)
        try:
            taken = type(self).take(scope, bytes(cycle.body), lambda reply: self._answer(cycle, reply))
        except Exception:  # noqa: BLE001 - a fault of ours must not leave a client without an answer
            _log.exception("a request failed")  # its path may say what a client wrote
            cycle.keep_alive = False
            self.loop.call_soon(self._answer, cycle, INTERNAL)
            taken = True
        if taken:
            cycle.body = bytearray()  # the cycle stays until the connection's next request
        return taken

    def _answer(self, cycle: RequestResponseCycle, reply: Reply) -> None:
        if cycle.response_complete:
            return
        cycle.response_started = cycle.response_complete = True
        if cycle.disconnected or self.transport.is_closing():
            return
        if cycle.keep_alive:
            self.transport.write(self._bytes_of(reply))
        else:
            self.transport.write(self._head_of(reply) + b"connection: close\r\n\r\n" + reply.body)
            self.transport.close()
        self.on_response_complete()

    def _bytes_of(self, reply: Reply) -> bytes:
        headers = self.server_state.default_headers
        kept_headers, kept, written = ShortProtocol._written
        if kept is reply and kept_headers is headers:
            return written
        written = self._head_of(reply) + b"\r\n" + reply.body
        ShortProtocol._written = (headers, reply, written)
        return written

    def _head_of(self, reply: Reply) -> bytes:
        headers = [*self.server_state.default_headers, *reply.headers]
        return b"".join([STATUS_LINE[reply.status], *[b"%b: %b\r\n" % header for header in headers]])


def with_short_way(protocol: type[BoundedProtocol], take: Take) -> type[BoundedProtocol]:
    """A worker's protocol class that offers whole requests to `take` first."""
    return type("Protocol", (ShortProtocol, protocol), {"take": staticmethod(take)})
