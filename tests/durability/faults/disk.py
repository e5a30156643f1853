"""A disk that loses unsynced writes in a power cut, fills up, and kills whoever writes at an armed place.

`LossyVfs` stands between SQLite and the real files in each process of a server. Before a write changes a
file, what it overwrites goes to an undo log beside it, so that all processes see each other's writes, synced
or not, as they would in a page cache; a sync forgets the undo log. When every process is dead, `power_cut`
takes back what was never synced: all of it, all but a beginning, or a random part, one write perhaps torn
between sectors, as a disk that reorders its writes leaves it. A deleted WAL may come back, since SQLite does
not sync that either, until it syncs the folder for the next new one. New databases count as made durably.

Files of events do not come through SQLite: `note_syncs` notes which of them, and which entries of folders, a
process has put on disk, and the power cut cuts off or takes away those that it has not.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from tests.durability.faults.control import Control

BASE: Final = "unix"
SECTOR_BYTES: Final = 512
WRITE, TRUNCATE, DELETE = b"w", b"t", b"d"
_SPAN: Final = struct.Struct("<QQ")  # where the changes that count begin and end
_HEAD: Final = struct.Struct("<cQQQQ")
_FILES: Final = tuple(
    f"{name}.db{suffix}"
    for name in ("log", "state", "events", "catalog", "scratch")
    for suffix in ("", "-wal", "-journal")
)


class Change(msgspec.Struct, frozen=True):
    """One change of a file since its last sync: where, how many bytes, its size before, what stood there."""

    sort: bytes
    offset: int
    count: int
    size_before: int
    old: bytes


class UndoLog:
    """The changes of one file since its last sync, shared by all processes that write the file."""

    def __init__(self, folder: Path, name: str) -> None:
        self._fd = os.open(folder / f"{name}.undo", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A write or sync and its note in the log are one step to other processes; a dead holder lets go."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def note(self, change: Change) -> None:
        """Keep a change that is about to be made; whole or not at all, however this process ends."""
        begin, end = self._span()
        head = _HEAD.pack(change.sort, change.offset, change.count, change.size_before, len(change.old))
        os.pwrite(self._fd, head + change.old, end)
        os.pwrite(self._fd, _SPAN.pack(begin, end + len(head) + len(change.old)), 0)

    def forget(self) -> None:
        """All changes are on disk."""
        if self._span()[1] > _SPAN.size:
            os.pwrite(self._fd, _SPAN.pack(_SPAN.size, _SPAN.size), 0)
            os.ftruncate(self._fd, _SPAN.size)

    def forget_deletion(self) -> None:
        """The folder is on disk: a file that was deleted does not come back, nor what was in it."""
        begin, end = self._span()
        for change, behind in self._read():
            begin = behind if change.sort == DELETE else begin
        os.pwrite(self._fd, _SPAN.pack(begin, end), 0)

    def changes(self) -> list[Change]:
        """The changes since the last sync, oldest first."""
        return [change for change, _ in self._read()]

    def _read(self) -> Iterator[tuple[Change, int]]:
        """Each change, and where the next one begins."""
        at, end = self._span()
        data = os.pread(self._fd, end, 0)
        while at < len(data):
            sort, offset, count, size_before, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            old = data[at : at + length]
            at += length
            yield Change(sort, offset, count, size_before, old), at

    def close(self) -> None:
        """Let go of the log; it stays where it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _span(self) -> tuple[int, int]:
        stored = os.pread(self._fd, _SPAN.size, 0)
        if len(stored) < _SPAN.size:
            return _SPAN.size, _SPAN.size
        begin, end = _SPAN.unpack(stored)
        return begin, end


class LossyFile(apsw.VFSFile):
    """One of the data folder's database files, or its WAL or journal."""

    def __init__(self, vfs: LossyVfs, file_name: str, name: Any, flags: list[int]) -> None:
        self._vfs = vfs
        self._name = file_name
        # as SQLite's own VFS does: the first sync of a new WAL or journal syncs the folder too
        new = flags[0] & apsw.SQLITE_OPEN_CREATE
        self._syncs_folder = new and flags[0] & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL)
        self._undo = UndoLog(vfs.undo_folder, file_name)
        self._control = vfs.control
        self._on_write = f"{file_name} write"
        self._on_sync = f"{file_name} sync"
        super().__init__(BASE, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        """Write, once what is overwritten is noted."""
        how = self._control.doomed(self._on_write)
        if how == "before":
            self._control.die(self._on_write, how)
        with self._undo.held():
            size = self.xFileSize()
            if self._control.disk_full(self._name) and offset + len(data) > size:
                raise apsw.FullError("the disk is full, says the test")
            old = self.xRead(min(len(data), size - offset), offset) if offset < size else b""
            self._undo.note(Change(WRITE, offset, len(data), size, old))
            super().xWrite(data[: len(data) // 2] if how == "within" else data, offset)
        if how:
            self._control.die(self._on_write, how)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        """Cut the file off, once what goes is noted."""
        with self._undo.held():
            size = self.xFileSize()
            old = self.xRead(size - newsize, newsize) if newsize < size else b""
            self._undo.note(Change(TRUNCATE, newsize, 0, size, old))
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """Nothing can be lost any more. No real sync: it is the undo log that decides here."""
        del flags
        how = self._control.doomed(self._on_sync)
        if how in {"before", "within"}:
            self._control.die(self._on_sync, how)
        with self._undo.held():
            self._undo.forget()
        if self._syncs_folder:
            self._syncs_folder = 0
            self._vfs.sync_folder()
        if how:
            self._control.die(self._on_sync, how)

    def xClose(self) -> None:  # noqa: N802 - SQLite's name
        """Close the file and its log."""
        self._undo.close()
        super().xClose()


class LossyVfs(apsw.VFS):
    """The default file system of a process, lossy for the database files of one data folder."""

    def __init__(self, data_folder: Path, control: Control) -> None:
        self.control = control
        self.undo_folder = control.folder
        self._names = {str(data_folder / name): name for name in _FILES}
        super().__init__("lossy", BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        """Open a file; one that is not of the data folder as always."""
        text = name if isinstance(name, str) or name is None else name.filename()
        own = self._names.get(text or "")
        if own is None:
            return apsw.VFSFile(BASE, name, flags)
        return LossyFile(self, own, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        """Delete a file, once its content is noted: until the next sync it may come back."""
        own = self._names.get(filename)
        path = Path(filename)
        if own is None or not path.exists():
            super().xDelete(filename, syncdir)
            return
        undo = UndoLog(self.undo_folder, own)
        with undo.held():
            content = path.read_bytes()
            undo.note(Change(DELETE, 0, 0, len(content), content))
            super().xDelete(filename, syncdir)
        undo.close()
        if syncdir:
            self.sync_folder()

    def sync_folder(self) -> None:
        """What was deleted so far stays deleted."""
        for name in _FILES:
            undo = UndoLog(self.undo_folder, name)
            with undo.held():
                undo.forget_deletion()
            undo.close()


class Synced:
    """Which files of events are on disk, and which entries of their folders, by name and inode."""

    def __init__(self, data_folder: Path, notes_folder: Path) -> None:
        self._events = data_folder / "events"
        self._notes = notes_folder / "synced"

    def note(self, fd: int) -> None:
        """A file or folder was synced."""
        path = Path(f"/proc/self/fd/{fd}").resolve()
        if not path.is_relative_to(self._events):
            return
        made = path.iterdir() if path.is_dir() else [path]
        word = "entry" if path.is_dir() else "bytes"
        lines = "".join(f"{word} {each.name} {each.stat().st_ino}\n" for each in made)
        with self._notes.open("a") as notes:  # one write: whole or not at all
            notes.write(lines)

    def lose_others(self, chance: random.Random) -> int:
        """Cut off files whose bytes were never synced, and remove those whose entries were not; how many."""
        known = set(self._notes.read_text().splitlines()) if self._notes.exists() else set()
        lost = 0
        for path in self._events.rglob("*.parquet"):
            name = f"{path.name} {path.stat().st_ino}"
            if f"entry {name}" not in known:
                path.unlink()
            elif f"bytes {name}" not in known:
                os.truncate(path, chance.randrange(path.stat().st_size))
            else:
                continue
            lost += 1
        return lost


def note_syncs(synced: Synced) -> None:
    """Note each `os.fsync` of this process."""
    sync = os.fsync

    def fsync(fd: Any) -> None:
        number = fd if isinstance(fd, int) else fd.fileno()
        sync(number)
        synced.note(number)

    os.fsync = fsync


def power_cut(data_folder: Path, undo_folder: Path, chance: random.Random) -> int:
    """Take back what was written and not synced, when all processes are dead; how many changes were lost.

    Each file is treated apart: a disk may have written much of one and nothing of another.
    """
    lost = 0
    for name in _FILES:
        undo = UndoLog(undo_folder, name)
        changes = undo.changes()
        if changes:
            kept = _kept(changes, chance)
            _replay(data_folder / name, changes, kept, chance)
            lost += len(changes) - len(kept)
        undo.forget()
        undo.close()
    for path in data_folder.glob("*.db-shm"):  # memory that the processes shared
        path.unlink()
    return lost + Synced(data_folder, undo_folder).lose_others(chance)


def _kept(changes: list[Change], chance: random.Random) -> list[int]:
    """Which changes had reached the disk by themselves: none, a beginning, or any."""
    mode = chance.choice(("none", "none", "beginning", "some"))
    if mode == "none":
        return []
    if mode == "beginning":
        return list(range(chance.randrange(len(changes) + 1)))
    # a new file's writes are kept only with the deletion of the old one before them
    deletions = [at for at, change in enumerate(changes) if change.sort == DELETE]
    begin = chance.choice([-1, *deletions])
    end = next((at for at in deletions if at > begin), len(changes))
    some = [at for at in range(begin + 1, end) if chance.random() < 0.5]
    return [*range(begin + 1), *some] if begin >= 0 else some


def _replay(path: Path, changes: list[Change], kept: list[int], chance: random.Random) -> None:
    """Undo all changes, newest first, and make those again that are kept."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        new: dict[int, bytes] = {}
        for at in range(len(changes) - 1, -1, -1):
            change = changes[at]
            if change.sort == WRITE:
                new[at] = os.pread(fd, change.count, change.offset)
            os.ftruncate(fd, change.size_before)
            os.pwrite(fd, change.old, change.offset)
        for at in kept:
            change = changes[at]
            if change.sort == DELETE:
                os.ftruncate(fd, 0)
            elif change.sort == TRUNCATE:
                os.ftruncate(fd, change.offset)
            else:
                os.pwrite(fd, new[at] if at != kept[-1] else _torn(new[at], chance), change.offset)
        empty = os.fstat(fd).st_size == 0
    finally:
        os.close(fd)
    if empty and not path.name.endswith(".db"):
        path.unlink()


def _torn(data: bytes, chance: random.Random) -> bytes:
    """The first sectors of a write: the last one before the lights went out."""
    return data[: SECTOR_BYTES * chance.randint(0, -(-len(data) // SECTOR_BYTES))]
