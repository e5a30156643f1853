"""Where reads of events put what does not fit into their memory: a folder of this process, gone with it.

A data folder enters, or None for a store in memory; a folder leaves. What processes that were killed left
behind is removed by the next that makes one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

SPILL: Final = "spill"
"""The folder in a data folder; it may be deleted whenever the server does not run."""


class SpillFolder:
    """A private folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def spill_folder(data_folder: Path | None) -> SpillFolder:
    """A folder for this process, made when something is spilt; the one that it stands in is made here."""
    if data_folder is None:
        return SpillFolder(Path(tempfile.gettempdir()) / f"mixdown-spill-{os.getpid()}-{os.urandom(4).hex()}")
    parent = data_folder / SPILL
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in parent.iterdir():
        owner = left.name.partition("-")[0]
        if owner.isdecimal() and not _lives(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    return SpillFolder(parent / f"{os.getpid()}-{os.urandom(4).hex()}")


def _lives(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
