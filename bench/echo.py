"""`python -m bench.echo FILE`: Mixdown's HTTP server around an application that reads a body and answers 1.

A free port is written to FILE when it listens. It ends on SIGTERM.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn

from mixdown.http.metrics import Metrics
from mixdown.server.worker import server_config
from mixdown.settings import load

_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"1")],
}
_BODY = {"type": "http.response.body", "body": b"1"}


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Read the body to its end and answer 1."""
    del scope
    while (await receive()).get("more_body"):
        pass
    await send(_HEAD)
    await send(_BODY)


class _Echo(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Path) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        unfinished = self._ready.with_suffix(".new")
        unfinished.write_text(str(sockets[0].getsockname()[1]))
        unfinished.replace(self._ready)


def main() -> None:
    """Serve until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = server_config(load(dict(os.environ), {}), answer, Metrics())
    _Echo(config, Path(sys.argv[1])).run(sockets=[listener])


if __name__ == "__main__":
    main()
