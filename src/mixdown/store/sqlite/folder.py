"""The data folder: its modes, the lock that guards it, and the sockets that wake the log's readers.

Enters: the folder's path. Leaves: held locks and wake-ups. It never opens a database.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mixdown.model.errors import CorruptStoreError, FolderBusyError, StoreError
from mixdown.store.chunk import FOR_ALL, FOR_EVENTS, FOR_PROFILES

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
RESTORING: Final = ".restoring"
"""A folder in a data folder that is being restored; while it is there, the data is not whole."""
BACKUP_WAL_BYTES: Final = 1024 * 1024 * 1024
"""How far state.db's WAL may grow while a backup copies the file; then the fold waits for the copy."""
_OUR_FILES: Final = frozenset({"lock", "setup.lock", "log.db", "catalog.db", "state.db"})
_POLL_S: Final = 0.05
_BACKUP_NAME: Final = "backup.lock"
# A watcher holds the lock for some microseconds at a time; a backup holds it for as long as it copies.
_BACKUP_PATIENCE_S: Final = 0.2
_BACKUP_POLL_S: Final = 0.005
_SNAPSHOT_HELD: Final = b"s"
FOLD_SOCKET: Final = "wake.sock"
EVENTS_SOCKET: Final = "events.sock"
"""The sockets at which the fold and the events reader are woken."""
_WAKE_BUFFER_BYTES: Final = 64
_WAKES_AT_ONCE: Final = 1000


def make_folder(folder: Path) -> None:
    """Make the data folder and its parents, 0700 from the first moment, and on disk when it returns.

    Raises `StoreError` when it cannot be made or is no folder, or is open to others and holds their things:
    to close `/tmp` or a home folder would lock them out.
    """
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            sync_folder(folder.parent)
        if folder.stat().st_mode & 0o077:
            if _holds_other_things(folder):
                raise StoreError(
                    f"the data folder {folder} holds other things, and would be closed to other users",
                    hint="Name an empty or a new folder with --data-dir, or close this one: chmod 700.",
                )
            folder.chmod(FOLDER_MODE)
    except OSError as error:
        raise StoreError(
            f"the data folder {folder} cannot be made: {error.strerror or error}",
            hint="Name a folder that this user may write, with --data-dir or MIXDOWN_DATA_DIR.",
        ) from error


def _holds_other_things(folder: Path) -> bool:
    """Whether others use a folder; hidden files and a fresh disk's `lost+found` do not count."""
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")} - {"lost+found"}
    return bool(names) and not names & _OUR_FILES


def make_file(path: Path) -> bool:
    """Make an empty file with mode 0600 unless it is there; its directory entry is on disk on return.

    SQLite gives a database's -wal and -shm the mode of the database itself, so this settles theirs too.
    Returns whether the file is new. A file that others may read is closed to them.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            path.chmod(FILE_MODE)
        return False
    os.close(fd)
    sync_folder(path.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Put the folder's entries on disk, so that a file made in it is still there after a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unfinished_restore(folder: Path) -> CorruptStoreError:
    """The error of a folder in which a restore was cut off (`RESTORING` is in it)."""
    return CorruptStoreError(
        f"a restore into the data folder {folder} has not finished",
        hint="Run `mixdown restore` with the same file again: it starts anew.",
    )


class FileLock:
    """An exclusive `flock` on a file of the folder: waiting costs nothing and no poll.

    It holds between processes, and between two `FileLock`s of one process, but not between two
    threads that share one. The lock is made for a short time and is not inherited.
    """

    def __init__(self, path: Path) -> None:
        make_file(path)
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def acquire(self) -> None:
        """Wait for the lock and take it."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def try_acquire(self) -> bool:
        """Take the lock if it is free; whether it was."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let the next one have it."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release the lock, if held, and the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextmanager
def setting_up(folder: Path) -> Iterator[None]:
    """Hold the lock under which files are made and migrated, one process at a time."""
    lock = FileLock(folder / "setup.lock")
    try:
        lock.acquire()
        yield
    finally:
        lock.close()


class BackupLock:
    """Held by a backup while it copies (`backup.lock`); it falls with the process, however that ends.

    The fold asks for it through `BackupWatch`: meanwhile the log is not trimmed, so that what is copied
    after the state begins no later than where the state ends.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / _BACKUP_NAME
        make_file(path)
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def acquire(self) -> None:
        """Take the lock. Raises `FolderBusyError` while another backup holds it.

        It tries for a moment: a `BackupWatch` that asks holds the lock too, for as long as it takes to ask.
        """
        deadline = time.monotonic() + _BACKUP_PATIENCE_S
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise FolderBusyError(
                        f"another backup of {self._folder} is under way", hint="Wait until it has ended."
                    ) from None
                time.sleep(_BACKUP_POLL_S)
            else:
                break
        self.say_snapshot(held=False)

    def say_snapshot(self, *, held: bool) -> None:
        """Tell whether a snapshot of state.db is held, which keeps its WAL from starting anew."""
        os.pwrite(self._fd, _SNAPSHOT_HELD if held else b"-", 0)

    def close(self) -> None:
        """Release the lock and the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class BackupWatch:
    """What the fold asks about backups: nothing is waited for, and a dead backup counts as none."""

    def __init__(self, folder: Path, *, wal_bytes: int = BACKUP_WAL_BYTES) -> None:
        self._path = folder / _BACKUP_NAME
        self._wal = folder / "state.db-wal"
        self._wal_bytes = wal_bytes

    def running(self) -> bool:
        """Whether a backup copies: then the log must not be trimmed.

        Asked before a trim and not held during it: a trim that began before the backup did drops only what
        lies below a watermark that the backup's copy of the state, which it takes later, has passed too.
        """
        return self._state() is not None

    def presses(self) -> bool:
        """Whether the fold should wait: a backup holds a snapshot, and state.db's WAL has grown too far."""
        try:
            if self._wal.stat().st_size < self._wal_bytes:
                return False
        except FileNotFoundError:
            return False
        return self._state() == _SNAPSHOT_HELD

    def _state(self) -> bytes | None:
        """What the backup that holds the lock says; None where none does."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(fd, 1, 0)
        else:
            return None
        finally:
            os.close(fd)


class HeldFolder:
    """The folder's lock, held by this process and by every child that inherits `fd`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        """The descriptor that carries the lock; children that inherit it hold the lock too."""
        return self.fd

    def release(self) -> None:
        """Close this process's descriptor; the lock is free when no child holds it either."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class FolderLock:
    """The lock that lets one server at a time use a data folder (`lock` in it, with the holder's pid)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "lock"

    def acquire(self, wait_s: float) -> HeldFolder:
        """Take the lock, waiting up to `wait_s` seconds for a server that is going down.

        Raises `FolderBusyError`, naming the process that holds it, and `StoreError` where the folder
        cannot be made or written.
        """
        make_folder(self.folder)
        try:
            make_file(self.path)
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(
                f"the data folder {self.folder} cannot be used: {error.strerror or error}",
                hint="It must be writable by this user; name another with --data-dir or MIXDOWN_DATA_DIR.",
            ) from error
        try:
            self._lock(fd, time.monotonic() + wait_s)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            os.set_inheritable(fd, True)
        except BaseException:
            os.close(fd)
            raise
        return HeldFolder(fd)

    def holder(self) -> int | None:
        """The pid of the process that holds the lock, or None when it is free."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._written_pid(fd)
        else:
            return None
        finally:
            os.close(fd)

    def _lock(self, fd: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    pid = self._written_pid(fd)
                    who = f"process {pid}" if pid else "another process"
                    raise FolderBusyError(
                        f"the data folder {self.folder} is in use by {who}",
                        hint="Stop that server first, or give this one a folder of its own with --data-dir.",
                    ) from None
                time.sleep(_POLL_S)
            else:
                return

    @staticmethod
    def _written_pid(fd: int) -> int:
        text = os.pread(fd, 32, 0).strip()
        return int(text) if text.isdigit() else 0


class _FolderAddress:
    """Addresses of sockets in the folder, short enough for `sun_path` however long the folder's path is.

    The folder stays open while they are used: it is named by its descriptor.
    """

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        own = Path(f"/proc/self/fd/{self._fd}")
        self._folder = own if own.exists() else folder

    def of(self, name: str) -> str:
        """The address of the socket with this name."""
        return str(self._folder / name)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._fd)


def fold_socket(number: int) -> str:
    """The name of the wake socket of one of a node's folds."""
    return f"fold-{number}.sock" if number else FOLD_SOCKET


class WakeSender:
    """Tells the log's readers that it has grown. A lost wake costs a little latency, never a record."""

    def __init__(self, folder: Path, folds: int = 1) -> None:
        self._target = _FolderAddress(folder)
        self._addresses = (
            *((FOR_PROFILES, self._target.of(fold_socket(number))) for number in range(folds)),
            (FOR_EVENTS, self._target.of(EVENTS_SOCKET)),
        )
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def wake(self, kinds: int = FOR_ALL) -> None:
        """Wake the readers that these kinds of chunks are for, if they listen; never raises, never blocks."""
        for kind, address in self._addresses:
            if kinds & kind:
                with contextlib.suppress(OSError):
                    self._socket.sendto(b"w", address)

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()
        self._target.close()


class WakeReceiver:
    """A reader's end of its wake socket: wait on `fileno()`, then `drain()`, then look at the log."""

    def __init__(self, folder: Path, name: str = FOLD_SOCKET) -> None:
        target = _FolderAddress(folder)
        self._path = folder / name
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            self._socket.bind(target.of(name))
            self._path.chmod(FILE_MODE)
        finally:
            target.close()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def drain(self) -> int:
        """Take all wake-ups that have come; how many there were."""
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while taken < _WAKES_AT_ONCE and self._socket.recv(_WAKE_BUFFER_BYTES):
                taken += 1
        return taken

    def close(self) -> None:
        """Release the socket and take it off the folder."""
        self._socket.close()
        self._path.unlink(missing_ok=True)
