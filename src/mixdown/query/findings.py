"""What a look at a server finds: a sentence for each thing, for `mixdown doctor` and the health page.

Settings enter; findings leave. Here stand the checks that both make: of versions, of the folder's modes, of
the disk. Nothing is opened, changed or mended.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Iterator
from typing import Final, Literal

import apsw
import msgspec

from mixdown.settings import Settings
from mixdown.store.sqlite.folder import FILE_MODE, FOLDER_MODE

OLDEST_SQLITE: Final = (3, 51, 3)
"""Before it, two connections at a WAL that starts anew could damage the database."""
Status = Literal["ok", "warn", "fail"]
_GRAVITY: Final[tuple[Status, ...]] = ("ok", "warn", "fail")


class Finding(msgspec.Struct, frozen=True):
    """What one check found; `hint` says what to do where something is wrong."""

    check: str
    status: Status
    message: str
    hint: str = ""


def worst(findings: list[Finding]) -> Status:
    """The gravest status of several findings."""
    return max((finding.status for finding in findings), key=_GRAVITY.index, default="ok")


def check_versions() -> Iterator[Finding]:
    """Python's and SQLite's versions."""
    sqlite = apsw.sqlite_lib_version()
    message = f"Python {platform.python_version()}, SQLite {sqlite}, apsw {apsw.apsw_version()}"
    if tuple(int(part) for part in sqlite.split(".")[:3]) < OLDEST_SQLITE:
        oldest = ".".join(str(part) for part in OLDEST_SQLITE)
        hint = f"Mixdown needs SQLite {oldest} or newer: install a newer apsw."
        yield Finding("versions", "fail", message, hint)
    else:
        yield Finding("versions", "ok", message)


def check_modes(settings: Settings) -> Iterator[Finding]:
    """Whether the folder is this user's to write, and nobody else's to read."""
    folder = settings.data_dir
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            "modes", "fail", f"this user may not write to {folder}", f"sudo chown -R $USER {folder}"
        )
        return
    wrong = [] if stat.S_IMODE(folder.stat().st_mode) == FOLDER_MODE else [folder.name or str(folder)]
    wrong += [
        path.name
        for path in sorted(folder.iterdir())
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) & ~FILE_MODE & 0o077
    ]
    if wrong:
        yield Finding(
            "modes",
            "warn",
            f"open to other users: {', '.join(wrong)}",
            f"chmod 700 {folder} && chmod 600 {folder}/*.db*",
        )
    else:
        yield Finding("modes", "ok", f"{folder} is closed to other users")


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Whether there is more free space than the reserve, below which writes are refused."""
    usage = shutil.disk_usage(settings.data_dir)
    reserve = max(settings.disk_reserve_bytes, usage.total * settings.disk_reserve_percent // 100)
    message = f"{_gib(usage.free)} free, and writes stop below {_gib(reserve)}"
    if usage.free < reserve:
        hint = "Free some space, or lower disk_reserve_bytes and disk_reserve_percent: writes get 503."
        yield Finding("disk", "fail", message, hint)
    elif usage.free < 2 * reserve:
        yield Finding("disk", "warn", message, "Free some space before it gets short.")
    else:
        yield Finding("disk", "ok", message)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
