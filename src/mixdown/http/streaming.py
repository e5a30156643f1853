"""Answers that are sent while they are made: pieces of bytes from a thread, in bounded memory.

An iterator that blocks enters, a response leaves. What goes wrong before the first bytes is an error like any
other; what goes wrong later breaks the connection without its last chunk, so that no client takes a part for
the whole (contract query §4). Clients that have gone, or take nothing any more, end the work.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mixdown.http.reading import BEHIND_HEADER, TOO_MUCH_MEMORY, in_time_of_thread
from mixdown.http.services import Services
from mixdown.model.errors import OverloadedError, QueryError, TooMuchAtOnceError

GZIP_FROM_BYTES: Final = 1400
"""A larger body is compressed where the client allows it (contract query §4)."""
STALLED_S: Final = 120.0
"""How long a client may take to take a piece."""
TOO_MANY: Final = "too many exports at a time: try again when one is done"
_GZIP_BITS: Final = 31
_GZIP_LEVEL: Final = 1


class _Pieces:
    """An iterator whose steps run in threads, one at a time, each for `read_timeout_s` at most.

    Once `compress` was called, what it gives is gzip.
    """

    def __init__(self, services: Services, iterator: Iterator[bytes]) -> None:
        self._services = services
        self._iterator = iterator
        self._step: asyncio.Future[bytes | None] | None = None
        self._zip: zlib._Compress | None = None

    async def next(self) -> bytes | None:
        """The next piece, which may be empty; None at the end."""
        assert self._step is None or self._step.done()
        loop = asyncio.get_running_loop()
        self._step = loop.run_in_executor(self._executor, in_time_of_thread(self._services, self._advance))
        return await asyncio.shield(self._step)

    def compress(self, head: bytes) -> bytes:
        """Compress from here on; `head`, which was given out as it was, comes first."""
        self._zip = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_BITS)
        return self._zip.compress(head)

    async def close(self) -> None:
        """Give back what the iterator holds, once its step is done."""
        if self._step is not None:
            with suppress(Exception):  # whoever asked for the piece was told
                await asyncio.shield(self._step)
        close: Callable[[], None] | None = getattr(self._iterator, "close", None)
        if close is not None:
            await asyncio.get_running_loop().run_in_executor(self._executor, close)

    @property
    def _executor(self) -> Executor:
        return self._services.export_threads or self._services.executor

    def _advance(self) -> bytes | None:
        piece = next(self._iterator, None)
        if self._zip is None:
            return piece
        if piece is not None:
            return self._zip.compress(piece)
        rest, self._zip = self._zip.flush(), None
        return rest


async def streamed(
    request: Request,
    services: Services,
    pieces: Iterator[bytes],
    media_type: str,
    *,
    behind: int = 0,
    headers: Mapping[str, str] | None = None,
    compresses: bool = True,
) -> Response:
    """The response that sends these pieces; it has taken the first of them, and has a place among exports.

    `headers` come besides. `compresses`: where the client allows it.
    Raises what the pieces raise before their first byte, and `OverloadedError` where there is no place.
    """
    headers = {"Cache-Control": "no-store", "Content-Type": media_type, **(headers or {})}
    if compresses:
        headers["Vary"] = "Accept-Encoding"
    if behind:
        headers[BEHIND_HEADER] = str(behind)
    if request.method == "HEAD":
        return Response(headers=headers)
    places = services.export_places
    try:
        await asyncio.wait_for(places.acquire(), services.settings.read_timeout_s)
    except TimeoutError:
        raise OverloadedError(TOO_MANY, retry_after_s=1) from None
    source = _Pieces(services, pieces)
    begun = False
    try:
        head, begun = await _head(request, source)
        gzip = compresses and len(head) > GZIP_FROM_BYTES and takes_gzip(request)
        if gzip:
            headers["Content-Encoding"] = "gzip"
        if begun:
            return _Streaming(source, source.compress(head) if gzip else head, headers, places)
    except TooMuchAtOnceError:
        raise QueryError(TOO_MUCH_MEMORY, status=400) from None
    finally:
        if not begun:
            places.release()
            await source.close()
    return Response(zlib.compress(head, _GZIP_LEVEL, _GZIP_BITS) if gzip else head, headers=headers)


async def _head(request: Request, source: _Pieces) -> tuple[bytes, bool]:
    """The first bytes, enough to know whether to compress; and whether there may be more."""
    head = b""
    while len(head) <= GZIP_FROM_BYTES:
        piece = await source.next()
        if piece is None:
            return head, False
        head += piece
        if not piece and await request.is_disconnected():
            raise ClientDisconnect
    return head, True


def takes_gzip(request: Request) -> bool:
    """Whether `Accept-Encoding` names gzip, and not with a quality of 0."""
    for given in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = given.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return quality.replace(" ", "").rstrip("0") not in ("q=", "q=0.")
    return False


class _Streaming(Response):
    """Sends what it has and then piece after piece; its length is not known."""

    def __init__(
        self, source: _Pieces, head: bytes, headers: dict[str, str], places: asyncio.Semaphore
    ) -> None:
        super().__init__(headers=headers)
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._source = source
        self._head = head
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Raises what the pieces raise; the server then breaks the connection."""
        del scope
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            piece: bytes | None = self._head
            while piece is not None and not gone.done():
                if piece:
                    body = {"type": "http.response.body", "body": piece, "more_body": True}
                    await asyncio.wait_for(send(body), STALLED_S)
                piece = await self._source.next()
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            try:
                await self._source.close()
            finally:
                self._places.release()


async def until_gone(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
