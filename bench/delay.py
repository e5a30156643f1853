"""`python -m bench.delay SOCKET MS READY`: a proxy before a Unix socket, MS milliseconds away from it.

What comes in either direction is passed on half of MS later, in order and with nothing lost, so that a round
trip takes MS longer. It listens on a free port of the loopback address, and writes that into the file READY.
It delays and does not slow: as much as fits is on its way at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 256 * 1024
_WAITING_CHUNKS: Final = 256
"""No more is on its way in one direction of a connection: 64 MiB."""


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """One direction of a connection, until its end."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WAITING_CHUNKS)

    async def take() -> None:
        data = b"begin"
        while data:
            try:
                data = await reader.read(_READ_BYTES)
            except ConnectionError:
                data = b""
            await waiting.put((loop.time() + delay_s, data))

    taking = asyncio.create_task(take())
    try:
        while True:
            due, data = await waiting.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    finally:
        taking.cancel()


async def _join(
    path: str, delay_s: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One connection, in both directions."""
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        there, back = await asyncio.open_unix_connection(path)
        try:
            both: list[Awaitable[None]] = [_pass_on(reader, back, delay_s), _pass_on(there, writer, delay_s)]
            await asyncio.gather(*both)
        finally:
            back.close()
    writer.close()


async def _serve(path: str, delay_s: float, listening: socket.socket) -> None:
    async with await asyncio.start_server(lambda r, w: _join(path, delay_s, r, w), sock=listening) as server:
        await server.serve_forever()


def main() -> None:
    """Serve until the process is ended."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        Path(sys.argv[3]).write_text(str(listening.getsockname()[1]))
        asyncio.run(_serve(sys.argv[1], float(sys.argv[2]) / 2000, listening))


if __name__ == "__main__":
    main()
