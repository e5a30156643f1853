"""Folders beside a file that is being written: private, and used by one command at a time.

Enters: the path of the file to be. Leaves: a folder that nobody else can write to, locked. It never follows
a link, and removes or fills nothing in a folder that others may have made.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mixdown.cli.output import Failure


def beside(target: Path) -> Path:
    """The folder that belongs to `target` while it is unfinished."""
    return target.with_name(f".{target.name}.unfinished")


@contextlib.contextmanager
def locked_folder(workspace: Path, what: str) -> Iterator[int]:
    """Make the folder or take the one that is there, and hold it alone; yields its descriptor.

    `what` names the command in errors. Raises `Failure` where the folder is another user's, open to others,
    or in use. The caller removes the folder, or leaves it for a later command.
    """
    with contextlib.suppress(FileExistsError):
        workspace.mkdir(mode=0o700)
    try:
        fd = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
            raise
        raise _not_ours(workspace, what) from error
    try:
        own = os.fstat(fd)
        if own.st_uid != os.geteuid() or own.st_mode & 0o022:
            raise _not_ours(workspace, what)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = workspace.name.removeprefix(".").removesuffix(".unfinished")
            raise Failure(
                f"another {what} writes {workspace.with_name(name)}",
                hint="Wait until it has ended, or name another file.",
            ) from None
        yield fd
    finally:
        os.close(fd)


def _not_ours(workspace: Path, what: str) -> Failure:
    article = "an" if what[0] in "aeiou" else "a"
    return Failure(
        f"{workspace} is no folder of this user's alone, and {article} {what} would work in it",
        hint="See who made it and take it away, or name a file in a folder that is closed to others.",
    )
