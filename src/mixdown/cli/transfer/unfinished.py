"""A file that is being written: its rows so far, and how far they go, kept so that a later command goes on.

Enters: rows, and what is known at a point where all of them are on disk. Leaves: the finished file under its
name, whole; or a folder beside it, from which the same command continues. Rows behind the last saved point
are cut off: after a crash they may be torn.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from mixdown.cli.output import Failure, note
from mixdown.cli.workspace import beside, locked_folder

_ROWS: Final = "rows"
_STATE: Final = "state.json"
_MADE: Final = "made"


class Progress(msgspec.Struct):
    """How far an export is: where it goes on, and what it has written.

    `asked` says what was asked for: only the same question is gone on with. `columns` is what
    `columns.Columns` has learnt: names, bits, whether something is left over. `size_bytes` of the rows' file
    are good. `read` says that all rows are there; `now_s` is what a filter calls NOW.
    """

    asked: dict[str, Any]
    now_s: int = 0
    after: str = ""
    looked_at: int = 0
    rows: int = 0
    size_bytes: int = 0
    names: list[str] = []
    bits: list[int] = []
    rest: bool = False
    read: bool = False


class Unfinished:
    """The folder of an unfinished file; `opened` makes it."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.progress = progress
        self.rows = folder / _ROWS
        self.made = folder / _MADE
        self.saved = progress.looked_at > 0
        self._file: IO[bytes] | None = None

    def rows_to_write(self) -> IO[bytes]:
        """The rows' file, open behind the last row that counts."""
        fd = os.open(self.rows, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(fd, "r+b", buffering=0)
        self._file.truncate(self.progress.size_bytes)
        self._file.seek(self.progress.size_bytes)
        return self._file

    def save(self) -> None:
        """Put the rows on disk, then the progress: all that was written until now counts."""
        if self._file is not None:
            os.fdatasync(self._file.fileno())
            self.progress.size_bytes = self._file.tell()
        new = self.folder / (_STATE + ".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(self.progress))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.folder / _STATE)
        self.saved = True

    def close(self) -> None:
        """Close the rows' file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def publish(self, source: Path, target: Path, *, force: bool) -> None:
        """Give a file of this folder the name that was asked for, on disk when it returns."""
        from mixdown.store.sqlite.folder import sync_folder

        self.close()
        source.chmod(0o600)
        with source.open("rb") as file:
            os.fsync(file.fileno())
        if target.exists() and not force:
            raise already_there(target)
        source.replace(target)
        sync_folder(target.parent)
        shutil.rmtree(self.folder, ignore_errors=True)


def already_there(target: Path) -> Failure:
    """What is said where a file would be written over."""
    return Failure(f"{target} is there already", hint="Name another file, or write over it with --force.")


@contextlib.contextmanager
def opened(target: Path, asked: dict[str, Any], noun: str) -> Iterator[Unfinished]:
    """The unfinished file behind `target`, gone on with where it was begun by the same question.

    `noun` are its rows: "profiles". Held alone meanwhile, and left where it is: `Unfinished.publish` takes it
    away. Raises `Failure`.
    """
    folder = beside(target)
    with locked_folder(folder, "export"):
        progress = Progress(asked)
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode((folder / _STATE).read_bytes(), type=Progress)
            if found.asked == asked and (folder / _ROWS).stat().st_size >= found.size_bytes:
                progress = found
                note(f"going on with an unfinished export: {found.rows} {noun} were written before")
            else:
                note(f"an unfinished export of something else to {target.name} is begun anew")
        unfinished = Unfinished(folder, progress)
        try:
            yield unfinished
        finally:
            unfinished.close()
            if not (folder / _STATE).exists():
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def temporary() -> Iterator[Unfinished]:
    """The same for what goes to a pipe: in a folder that is gone at the end."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mixdown-export-", ignore_cleanup_errors=True) as folder:
        unfinished = Unfinished(Path(folder), Progress({}))
        try:
            yield unfinished
        finally:
            unfinished.close()
