"""The short way's part of a connection, without a server: what it keeps, and what a fault does."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from mixdown.http.reply import PLAIN_GOOD
from mixdown.server.protocol import ConnectionLimits, bounded_protocol
from mixdown.server.short import Take, with_short_way

REQUEST = b"POST /engage HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
LIMITS = ConnectionLimits(header_bytes=8192, header_s=9, body_s=9, idle_s=9, connections=9)


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Never asked here."""
    raise AssertionError((scope, receive, send))


async def fed(take: Take) -> tuple[Any, Transport]:
    kind = with_short_way(bounded_protocol(LIMITS, application, lambda _: None), take)
    config = uvicorn.Config(application, http=kind, log_config=None, interface="asgi3")
    config.load()
    protocol: Any = kind(config, ServerState(), {}, asyncio.get_running_loop())
    transport = Transport()
    protocol.connection_made(transport)
    protocol.data_received(REQUEST)
    await asyncio.sleep(0.01)
    return protocol, transport


def test_an_answered_connection_keeps_no_body() -> None:
    def take(_: object, body: bytes, answer: Any) -> bool:
        assert body == b"hello"
        asyncio.get_running_loop().call_soon(answer, PLAIN_GOOD)
        return True

    protocol, transport = asyncio.run(fed(take))
    assert transport.written.endswith(b"\r\n\r\n1")
    assert not protocol.cycle.body
    assert not transport.closed


def test_a_fault_is_answered_with_500_and_the_connection_closed() -> None:
    def take(*_: object) -> bool:
        raise RuntimeError

    _, transport = asyncio.run(fed(take))
    assert transport.written.startswith(b"HTTP/1.1 500 ")
    assert transport.closed
