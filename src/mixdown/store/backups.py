"""A note in the data folder of the last backup that was made of it.

Who makes a backup notes it once it is whole; who shows how a server does reads the note. A note that is
missing, or cannot be read, says nothing of backups made by other means.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

NOTE: Final = "last-backup.json"
_MODE: Final = 0o600
_LIMIT_BYTES: Final = 4096


class LastBackup(msgspec.Struct, frozen=True):
    """When a backup was whole, how large it is, up to which position of the log it goes, by which version."""

    finished_ms: int
    size_bytes: int
    head: int
    version: str


def note_backup(folder: Path, made: LastBackup) -> None:
    """Note that a backup was made. Where the folder cannot be written to, nothing is noted."""
    unfinished = folder / f"{NOTE}.{os.getpid()}"
    with suppress(OSError):
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(made))
        unfinished.replace(folder / NOTE)


def last_backup(folder: Path) -> LastBackup | None:
    """The last backup that was noted, None where there is none."""
    try:
        with (folder / NOTE).open("rb") as file:
            return msgspec.json.decode(file.read(_LIMIT_BYTES), type=LastBackup)
    except (OSError, msgspec.DecodeError):
        return None
