"""What the processes of a server hold in memory, as the kernel tells it; Linux alone."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Final, Self

_KIB: Final = 1024
_FIELDS: Final = {"Pss": "pss", "Pss_Anon": "anon", "Pss_File": "file", "Rss": "rss"}


def family(pid: int) -> dict[int, str]:
    """A supervisor and its living children: what each is called, by process id."""
    found = {pid: "supervisor"}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                words = (folder / "cmdline").read_text().split("\0")
                at = words.index("mixdown.server.child")
                found[int(folder.name)] = words[at + 1]
    return found


def memory(pid: int) -> dict[str, int]:
    """Bytes of one process: `pss` (shared pages by their share), `anon`, `file` (mapped files), `rss`."""
    sizes = dict.fromkeys(_FIELDS.values(), 0)
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            if name in _FIELDS:
                sizes[_FIELDS[name]] = int(rest.split()[0]) * _KIB
    return sizes


class Watch:
    """Looks at a server's memory a few times a second and keeps the largest sum; a context manager."""

    def __init__(self, pid: int, *, every_s: float = 0.25) -> None:
        self._pid = pid
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.most: dict[str, int] = dict.fromkeys(_FIELDS.values(), 0)
        self.at_most: dict[str, dict[str, int]] = {}  # by process, when the sum of PSS was largest
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.look()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self.look()

    def look(self) -> dict[str, int]:
        """Look once; the sums now."""
        each = {f"{role} {pid}": memory(pid) for pid, role in family(self._pid).items()}
        total = {name: sum(sizes[name] for sizes in each.values()) for name in self.most}
        if total["pss"] >= self.most["pss"]:
            self.at_most = each
        self.most = {name: max(self.most[name], total[name]) for name in self.most}
        self.looks += 1
        return total

    def report(self) -> dict[str, object]:
        """The largest sums in MB (of 10^6 bytes), and the processes at that moment."""
        return {
            **{f"{name}_mb": _mb(size) for name, size in self.most.items()},
            "processes": {
                role: {f"{name}_mb": _mb(size) for name, size in sizes.items()}
                for role, sizes in self.at_most.items()
            },
            "looks": self.looks,
        }


def settled(pid: int, *, seconds: float = 1.0) -> dict[str, float]:
    """The sums in MB after a moment of rest."""
    time.sleep(seconds)
    return {f"{name}_mb": _mb(size) for name, size in Watch(pid).look().items()}


def _mb(size: int) -> float:
    return round(size / 1e6, 1)
