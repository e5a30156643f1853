"""What the tests of operations share: starts that fail, processes as the system sees them, raw sockets."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

DEADLINE_S = 60.0


def environment(**variables: str) -> dict[str, str]:
    """The environment of a server, without settings of whoever runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIXDOWN_")}
    return {**inherited, **variables}


def serve_command(*arguments: str) -> list[str]:
    """`mixdown serve` as this interpreter runs it."""
    return [sys.executable, "-m", "mixdown", "serve", *arguments]


def failed_start(
    *arguments: str, variables: Mapping[str, str] | None = None, timeout_s: float = 100.0
) -> list[str]:
    """Start a server that cannot start; what it says on stderr, line by line."""
    ended = subprocess.run(
        serve_command(*arguments),
        env=environment(**(variables or {})),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ended.returncode != 0, ended.stdout
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.stderr.splitlines()


def wait_until(what: Callable[[], object], *, timeout_s: float = DEADLINE_S) -> None:
    """Wait until `what` says yes; fail after a while."""
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def children(pid: int) -> dict[int, str]:
    """The living children of a process: command lines by pid."""
    found = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = (folder / "stat").read_text()
            state, parent = stat.rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


def child(pid: int, role: str) -> int:
    """The pid of the one child of a server with this role ("worker" or "fold"); waits until there is one."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [
            own for own, command in children(pid).items() if f"mixdown.server.child {role} " in command
        ]
        return len(found) == 1

    wait_until(look)
    return found[0]


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Wire:
    """A raw connection to a server."""

    def __init__(self, base_url: str) -> None:
        address = urlsplit(base_url)
        assert address.hostname is not None
        self.began = time.monotonic()
        self.socket = socket.create_connection((address.hostname, address.port or 80), timeout=DEADLINE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @property
    def age_s(self) -> float:
        """Seconds since the connection was made."""
        return time.monotonic() - self.began

    def send(self, *pieces: bytes) -> None:
        """Send bytes; a connection that the server has closed meanwhile is no error here."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                self.socket.sendall(piece)

    def read_until(self, mark: bytes) -> bytes:
        """What comes until `mark` has come, or the server closes."""
        received = b""
        while mark not in received and (piece := self.socket.recv(65536)):
            received += piece
        return received

    def read_to_end(self) -> bytes:
        """Everything until the server closes."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.socket.recv(1 << 20):
                received += piece
        return received


def statuses(received: bytes) -> list[int]:
    """The status of each response in a stream of bytes."""
    pieces = received.split(b"HTTP/1.1 ")[1:]
    return [int(piece[:3]) for piece in pieces]
