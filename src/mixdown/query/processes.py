"""The processes of the server that this one belongs to, as the system tells of them.

Nothing enters but the process itself; names, pids and memory leave. Where the system has no `/proc`, or this
process has no supervisor, it tells of this process alone.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

import msgspec

CHILD_MODULE: Final = "mixdown.server.child"
SUPERVISOR: Final = "supervisor"
ALONE: Final = "server"
_PROC: Final = Path("/proc")


class ServerProcess(msgspec.Struct, frozen=True):
    """A living process; `memory_bytes` is what it has in memory, None where the system does not tell."""

    process: str
    pid: int
    memory_bytes: int | None


def server_processes() -> list[ServerProcess]:
    """All processes of this server, the supervisor first. Blocks for a moment."""
    own = os.getpid()
    if not _child_name(own):
        return [ServerProcess(ALONE, own, _memory_bytes(own))]
    parent = os.getppid()
    found = [ServerProcess(SUPERVISOR, parent, _memory_bytes(parent))]
    for pid in _children(parent):
        name = _child_name(pid)
        if name:
            found.append(ServerProcess(name, pid, _memory_bytes(pid)))
    return [found[0], *sorted(found[1:], key=lambda each: each.process)]


def _children(parent: int) -> list[int]:
    """The pids of a process's children; those that end meanwhile are left out."""
    try:
        entries = [entry for entry in _PROC.iterdir() if entry.name.isdecimal()]
    except OSError:
        return []
    return [int(entry.name) for entry in entries if _parent_of(entry) == parent]


def _parent_of(entry: Path) -> int:
    try:
        # the name of a program may hold blanks and brackets: what counts stands behind the last one
        fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[1])
    except (OSError, ValueError, IndexError):
        return 0


def _child_name(pid: int) -> str:
    """The name that the supervisor gave a child; "" for any other process."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        at = words.index(CHILD_MODULE.encode())
        told = msgspec.json.decode(words[at + 2])
        return str(told["name"])
    except (OSError, ValueError, IndexError, KeyError, TypeError, msgspec.DecodeError):
        return ""


def _memory_bytes(pid: int) -> int | None:
    try:
        return int((_PROC / str(pid) / "statm").read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None
