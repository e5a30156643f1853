"""`python -m bench.echo FILE`: Mixdown's HTTP server around an application that reads a body and answers 1.

A free port is written to FILE when it listens. It ends on SIGTERM.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvicorn

from mixdown.http.metrics import Metrics
from mixdown.http.reply import Reply
from mixdown.server.worker import server_config
from mixdown.settings import load

_ONE: Final = Reply(200, [(b"content-type", b"application/json"), (b"content-length", b"1")], b"1")


class Answer:
    """The application: takes whole requests at once, as Mixdown's own does, and all others too."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the body to its end and answer 1."""
        del scope
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": _ONE.status, "headers": _ONE.headers})
        await send({"type": "http.response.body", "body": _ONE.body})

    def take_at_once(self, scope: Any, body: bytes, answer: Callable[[Reply], None]) -> bool:
        """Answer a request that came whole."""
        del scope, body
        answer(_ONE)
        return True


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
    app: Any = Answer()
    config = server_config(load(dict(os.environ), {}), app, Metrics())
    _Echo(config, Path(sys.argv[1])).run(sockets=[listener])


if __name__ == "__main__":
    main()
