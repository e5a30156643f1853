"""What the supervisor and its children say to each other, and how a child notices that it is an orphan.

A child inherits descriptors: the folder's lock, the listening sockets, the read end of a pipe whose other
end only the supervisor holds, and the write end of a pipe by which it says that it is ready or why it cannot
be. Nothing else passes between them but signals.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from mixdown.server import logs

READER_ROLES: Final = ("fold", "events")
"""The roles of the children that read the log."""
READY: Final = b"ready\n"
METRICS_FOLDER: Final = "metrics"
"""The folder, in the data folder, in which all processes of a running server count."""
CANNOT_START: Final = 78
"""Exit status of a child that found settings or data unusable (EX_CONFIG): it told why by its pipe."""
ORPHAN_GRACE_S: Final = 0.3


_DAMAGE_TOLD = 5


def tell_damage(found: Sequence[tuple[int, int, str]]) -> None:
    """Tell of chunks that a reader of the log cannot read, (first, count, reason)s; a few by position."""
    for first, count, reason in found[:_DAMAGE_TOLD]:
        logs.error("a damaged chunk is set aside", first=first, records=count, reason=reason)
    if len(found) > _DAMAGE_TOLD:
        logs.error("more damaged chunks are set aside: see `mixdown doctor`", chunks=len(found))


def reader_names(fold_workers: int) -> list[tuple[str, str]]:
    """(name, role) of the children that read the log: of several folds all but the first have a number."""
    folds = ["fold" if not number else f"fold-{number}" for number in range(fold_workers)]
    return [*((name, "fold") for name in folds), ("events", "events")]


class Inheritance(msgspec.Struct, frozen=True):
    """The descriptors that a child gets. `internal_fd` is -1 without an internal port."""

    name: str
    lock_fd: int
    parent_fd: int
    status_fd: int
    listen_fd: int = -1
    internal_fd: int = -1

    def descriptors(self) -> tuple[int, ...]:
        """All of them, for `pass_fds`."""
        all_fds = (self.lock_fd, self.parent_fd, self.status_fd, self.listen_fd, self.internal_fd)
        return tuple(fd for fd in all_fds if fd >= 0)

    def say_ready(self) -> None:
        """Tell the supervisor that this child does its work."""
        self._say(READY)

    def say_failed(self, reason: str) -> None:
        """Tell the supervisor why this child cannot start."""
        self._say(reason.encode())

    def _say(self, text: bytes) -> None:
        with contextlib.suppress(OSError):  # a supervisor that is gone needs no answer
            os.write(self.status_fd, text)

    def end_with_supervisor(self) -> None:
        """End this process soon after its supervisor, however that died, so that the folder is free again.

        What is committed is safe at any moment, so nothing has to be tidied up first (DESIGN G1, G2).
        """
        threading.Thread(target=self._watch, name="supervisor-watch", daemon=True).start()

    def _watch(self) -> None:
        while os.read(self.parent_fd, 1):
            continue
        time.sleep(ORPHAN_GRACE_S)
        os._exit(1)
