"""Looking at the processes of a server under test: only what `/proc` tells."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

FAULTS: Final = Path(__file__).parent / "faults"
PYTHONPATH: Final = os.pathsep.join((str(FAULTS), str(FAULTS.parents[2])))
"""For a server's environment: its processes then import `faults/sitecustomize.py`."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in {"Z", "X"}


def children(pid: int, word: str) -> list[int]:
    """Process ids of the supervisor's living children of one kind ("worker", "fold")."""
    found = []
    with suppress(OSError):  # whoever has ended meanwhile is none of them
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(OSError):
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if word.encode() in words and alive(int(child)):
                    found.append(int(child))
    return found


def holder_of(port: int, peer_port: int, pids: list[int]) -> int:
    """Which of the processes holds the accepted end of a loopback connection; 0 where none is seen to."""
    ends = f"0100007F:{port:04X} 0100007F:{peer_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if f"{fields[1]} {fields[2]}" == ends:
            wanted = f"socket:[{fields[9]}]"
            return next((pid for pid in pids if wanted in _descriptors(pid)), 0)
    return 0


def unread_bytes(port: int, peer_port: int) -> int:
    """How much of what was sent over a loopback connection the accepted end has not read yet."""
    ends = f"0100007F:{port:04X} 0100007F:{peer_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if f"{fields[1]} {fields[2]}" == ends:
            return int(fields[4].partition(":")[2], 16)
    return 0


def _descriptors(pid: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found.add(str(entry.readlink()))
            except OSError:  # closed meanwhile
                continue
    except OSError:
        return set()
    return found
