"""`python -m bench.competitors.serve MODULE PROCESSES FILE`: an application behind uvicorn on a free port.

The port is written to FILE when it answers. It ends, with its processes, on SIGTERM.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn
from uvicorn.supervisors import Multiprocess


def main() -> None:
    """Serve until SIGTERM."""
    module, processes, ready = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        f"bench.competitors.{module}:app",
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        workers=processes,
        fd=listener.fileno(),
    )
    threading.Thread(target=_announce, args=(port, ready), daemon=True).start()
    if processes == 1:
        uvicorn.Server(config).run(sockets=[listener])
    else:
        Multiprocess(config, sockets=[listener]).run()


def _announce(port: int, ready: Path) -> None:
    """Write the port once the application answers anything at all."""
    while True:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /none HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            if client.recv(12).startswith(b"HTTP/1.1"):
                break
        time.sleep(0.05)
    unfinished = ready.with_suffix(".new")
    unfinished.write_text(str(port))
    unfinished.replace(ready)


if __name__ == "__main__":
    main()
