"""What a test and the processes of its server share: a page of memory, and notes in a folder.

The test sets the clock, fills the disk and arms deaths; the processes look, at the cost of a byte, at
each place where they may die. Nothing here kills another process: whoever meets an armed place ends itself.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
from pathlib import Path
from typing import Final

import msgspec

PLACES: Final = (
    "fold transaction",
    "log.db-wal write",
    "log.db-wal sync",
    "log.db write",
    "log.db sync",
    "state.db-wal write",
    "state.db-wal sync",
    "state.db write",
    "state.db sync",
    "events transaction",
    "events.db-wal write",
    "events.db-wal sync",
    "events.db write",
    "events.db sync",
    "events file",
    "worker reply",
)
"""Where a process may be told to die: before the COMMIT of fold or events reader, in writes and syncs of
these databases, between the steps of what happens to files of events, and between commit and replies."""

ROLES: Final = ("worker", "fold", "events")
_SIZE: Final = 16
_CLOCK: Final = struct.Struct("<q")
_FULL_AT: Final = 8
_ARMED_AT: Final = {"worker": 9, "fold": 10, "events": 11}
_CODES: Final = {place: code for code, place in enumerate(PLACES, start=1)}
_CHANCE: Final = 0.25  # of dying at an armed place: not always at its first visit


class Death(msgspec.Struct, frozen=True):
    """What a process noted just before it ended itself; `how` is before, within or after the call."""

    pid: int
    place: str
    how: str


class Control:
    """The shared page of one server under test, seen from the test or from one of the server's processes."""

    def __init__(self, folder: Path, *, role: str = "") -> None:
        self.folder = folder
        self._role = role
        self._random = random.Random()
        path = folder / "control"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < _SIZE:
                os.ftruncate(fd, _SIZE)
            self._page = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)

    # --- for the test ---

    def set_clock(self, offset_ms: int) -> None:
        """Move the clock of the server's processes so far from the true time."""
        _CLOCK.pack_into(self._page, 0, offset_ms * 1_000_000)

    def set_disk_full(self, *, full: bool, only_at_checkpoints: bool = False) -> None:
        """Let no database file grow any more (or all but their WALs), or let them grow again."""
        self._page[_FULL_AT] = full + only_at_checkpoints

    def arm(self, role: str, place: str) -> None:
        """The next process of this role that comes to the place dies there, soon if not at once."""
        self._note(role, "armed").write_text(place)
        self._note(role, "died").unlink(missing_ok=True)
        self._page[_ARMED_AT[role]] = _CODES[place]

    def disarm(self, role: str) -> None:
        """Nobody of this role dies by itself any more."""
        self._page[_ARMED_AT[role]] = 0
        self._note(role, "armed").unlink(missing_ok=True)

    def death(self, role: str) -> Death | None:
        """The death that an `arm` has brought about, None while there is none."""
        try:
            return msgspec.json.decode(self._note(role, "died").read_bytes(), type=Death)
        except FileNotFoundError:
            return None

    # --- for the server's processes ---

    @property
    def clock_offset_ns(self) -> int:
        """How far this process's clock is from the true time."""
        offset: int = _CLOCK.unpack_from(self._page, 0)[0]
        return offset

    def disk_full(self, file_name: str) -> bool:
        """Whether this file must not grow."""
        full = self._page[_FULL_AT]
        return full == 1 or (full == 2 and not file_name.endswith("-wal"))

    def doomed(self, place: str) -> str:
        """How this process must die at a place: "before", "within" or "after" it; "" if it lives on."""
        if not self._role or self._page[_ARMED_AT[self._role]] != _CODES.get(place):
            return ""
        if self._random.random() > _CHANCE:
            return ""
        try:
            self._note(self._role, "armed").rename(self._note(self._role, f"claimed-{os.getpid()}"))
        except FileNotFoundError:  # another process was quicker
            return ""
        self._page[_ARMED_AT[self._role]] = 0
        return self._random.choice(("before", "within", "after"))

    def die(self, place: str, how: str) -> None:
        """End this process as kill -9 would, with a note for the test."""
        unfinished = self._note(self._role, f"dying-{os.getpid()}")
        unfinished.write_bytes(msgspec.json.encode(Death(os.getpid(), place, how)))
        unfinished.rename(self._note(self._role, "died"))
        os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, role: str, word: str) -> Path:
        return self.folder / f"{role}-{word}"
