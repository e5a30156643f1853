"""Backups: one archive of a data folder, taken while a server works on it, and its way back.

Enters: a folder and a stream to write to. Leaves: a tar archive of `state.db`, `events.db` and the files that
it lists, `catalog.db`, `log.db` and, last, `manifest.json`, which tells their sizes and checksums: an archive
without it was cut off. State and events are copied before the log, and the log is not trimmed meanwhile, so
that the copies fit together: what they miss the log gives again. It never changes the folder's data, migrates
nothing, and makes no server wait for a copy, but for two things: the fold waits where state.db's WAL would
grow past `BACKUP_WAL_BYTES`, and files of events are closed, merged and unlinked only after the copy.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, Final

import apsw
import msgspec

from mixdown import __version__
from mixdown.model.errors import CorruptStoreError, SchemaTooNewError, StoreError
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.event_files import EVENTS_FOLDER
from mixdown.store.sqlite.events_folder import EVENTS_SUFFIX, listed_files
from mixdown.store.sqlite.folder import (
    FILE_MODE,
    RESTORING,
    BackupLock,
    FileLock,
    make_file,
    unfinished_restore,
)

FORMAT: Final = 2
"""1 had no events."""
MANIFEST: Final = "manifest.json"
KINDS: Final = (sqlite.STATE, sqlite.EVENTS, sqlite.CATALOG, sqlite.LOG)
"""The databases of a backup, in the order in which they are copied; files of events follow `events.db`."""
KINDS_WITHOUT_EVENTS: Final = (sqlite.STATE, sqlite.CATALOG, sqlite.LOG)
PIECE_BYTES: Final = 1024 * 1024
_STEP_PAGES: Final = 2048

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many bytes of how many are."""


class Member(msgspec.Struct, frozen=True):
    """One file of a backup."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds: positions of its log and its readers, the schemas of its files, their checksums.

    `watermark` is the fold's, `events_watermark` that of the events reader.
    """

    format: int
    version: str
    created: str
    watermark: int
    tail: int
    head: int
    schemas: dict[str, int]
    members: list[Member]
    events_watermark: int = 0


class Places(msgspec.Struct):
    """The positions of the copies, gathered while they are made."""

    watermark: int = 0
    events_watermark: int = 0
    tail: int = 0
    head: int = 0


def folder_bytes(folder: Path) -> tuple[int, int]:
    """How many bytes the files of a backup have at most, all together and the largest alone."""
    sizes = []
    for kind in _held(folder):
        path = folder / kind.file_name
        wal = path.with_name(path.name + "-wal")
        sizes.append(path.stat().st_size + (wal.stat().st_size if wal.exists() else 0))
    events = sum(path.stat().st_size for path in (folder / EVENTS_FOLDER).rglob(f"*{EVENTS_SUFFIX}"))
    return sum(sizes) + events, max(sizes)


def _held(folder: Path) -> tuple[sqlite.Kind, ...]:
    """What a folder has; one of a release before events has none of these."""
    without = not (folder / EVENTS_FOLDER).exists() and not (folder / sqlite.EVENTS.file_name).exists()
    return KINDS_WITHOUT_EVENTS if without else KINDS


def write_backup(
    folder: Path, out: IO[bytes], workspace: Path, *, created: str, progress: Progress
) -> Manifest:
    """Write an archive of `folder` to `out`; the copy of one file at a time lies in `workspace`.

    Raises `StoreError` where a file is missing or a disk is full, `CorruptStoreError` where the files do not
    fit together, `SchemaTooNewError`, and `FolderBusyError` while another backup runs.
    """
    _refuse_incomplete(folder)
    lock = BackupLock(folder)
    schemas: dict[str, int] = {}
    places = Places()
    members: list[Member] = []
    with closing(lock), _archive(out) as archive:
        lock.acquire()
        copy = workspace / "copy.db"
        with _snapshot(folder, sqlite.STATE) as state:
            lock.say_snapshot(held=True)
            schemas["state"] = _known_schema(state, sqlite.STATE)
            places.watermark = sqlite.value(
                state, "SELECT position FROM watermarks WHERE reader = 'profiles'"
            )
            _copy(state, copy, sqlite.STATE, progress)
        lock.say_snapshot(held=False)
        members.append(_pack(archive, copy, sqlite.STATE.file_name, progress))
        if sqlite.EVENTS in _held(folder):
            members += _events(folder, archive, copy, places, schemas, progress)
        catalog_copy = workspace / "catalog-copy.db"
        with _instant(folder) as (catalog, log):
            schemas["catalog"] = _known_schema(catalog, sqlite.CATALOG)
            schemas["log"] = _known_schema(log, sqlite.LOG)
            places.tail, places.head = sqlite.value(
                log, "SELECT coalesce((SELECT min(first) FROM chunks), position), position FROM head"
            )
            _refuse_misfits(folder, places)
            _copy(catalog, catalog_copy, sqlite.CATALOG, progress)
            _copy(log, copy, sqlite.LOG, progress)
        members.append(_pack(archive, catalog_copy, sqlite.CATALOG.file_name, progress))
        members.append(_pack(archive, copy, sqlite.LOG.file_name, progress))
        manifest = Manifest(
            FORMAT,
            __version__,
            created,
            places.watermark,
            places.tail,
            places.head,
            schemas,
            members,
            places.events_watermark,
        )
        content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        archive.addfile(_entry(MANIFEST, len(content)), io.BytesIO(content))
    return manifest


def copy_readers(folder: Path, into: Path, *, progress: Progress) -> Places:
    """Copy `state.db`, `events.db` and the files that it lists into an empty folder; where the log was then.

    What they miss the log of `folder` holds when this returns. Files of events, which never change, are
    linked where that can be. Raises as `write_backup` does.
    """
    _refuse_incomplete(folder)
    lock = BackupLock(folder)
    places = Places()
    with closing(lock):
        lock.acquire()
        with _snapshot(folder, sqlite.STATE) as state:
            lock.say_snapshot(held=True)
            _known_schema(state, sqlite.STATE)
            places.watermark = sqlite.value(
                state, "SELECT position FROM watermarks WHERE reader = 'profiles'"
            )
            _copy(state, into / sqlite.STATE.file_name, sqlite.STATE, progress)
        lock.say_snapshot(held=False)
        with _snapshot(folder, sqlite.EVENTS) as events:
            _known_schema(events, sqlite.EVENTS)
            places.events_watermark = sqlite.value(events, "SELECT watermark FROM reader")
            listed = listed_files(events)
            _copy(events, into / sqlite.EVENTS.file_name, sqlite.EVENTS, progress)
        for number, each in enumerate(listed):
            _link(folder / each.name, into / each.name)
            progress("linking files of events", number + 1, len(listed))
        with _instant(folder) as (_, log):
            places.tail, places.head = sqlite.value(
                log, "SELECT coalesce((SELECT min(first) FROM chunks), position), position FROM head"
            )
            _refuse_misfits(folder, places)
    return places


def _link(path: Path, copy: Path) -> None:
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        copy.hardlink_to(path)
    except FileNotFoundError as error:
        raise CorruptStoreError(
            f"{path} is listed and missing", hint="`mixdown doctor` says what can be done about it."
        ) from error
    except OSError:  # another disk, or one without links
        shutil.copyfile(path, copy)


def _events(
    folder: Path,
    archive: tarfile.TarFile,
    copy: Path,
    places: Places,
    schemas: dict[str, int],
    progress: Progress,
) -> list[Member]:
    """Copy `events.db` and pack the files that it lists: nobody unlinks those while the lock is held."""
    with _snapshot(folder, sqlite.EVENTS) as events:
        schemas["events"] = _known_schema(events, sqlite.EVENTS)
        places.events_watermark = sqlite.value(events, "SELECT watermark FROM reader")
        listed = listed_files(events)
        _copy(events, copy, sqlite.EVENTS, progress)
    members = [_pack(archive, copy, sqlite.EVENTS.file_name, progress)]
    for each in listed:
        path = folder / each.name
        try:
            size = path.stat().st_size
            members.append(_add(archive, path, each.name, size, progress))
        except FileNotFoundError:
            size = -1
        if size != each.size_bytes:
            raise CorruptStoreError(
                f"{each.name} in the data folder {folder} is {'missing' if size < 0 else 'not of its size'}",
                hint="`mixdown doctor` says what can be done about it.",
            )
    return members


def _refuse_incomplete(folder: Path) -> None:
    if (folder / RESTORING).exists():
        raise unfinished_restore(folder)
    held = _held(folder)
    missing = [kind.file_name for kind in held if not (folder / kind.file_name).exists()]
    if len(missing) == len(held):
        raise StoreError(
            f"there is no Mixdown data in {folder}",
            hint="Name the server's folder with --data-dir or MIXDOWN_DATA_DIR.",
        )
    if missing:
        raise CorruptStoreError(
            f"{', '.join(missing)} is missing from the data folder {folder}",
            hint="`mixdown doctor` says what can be done about it.",
        )


def _refuse_misfits(folder: Path, places: Places) -> None:
    watermarks = [(sqlite.STATE, places.watermark)]
    if sqlite.EVENTS in _held(folder):
        watermarks.append((sqlite.EVENTS, places.events_watermark))
    for kind, watermark in watermarks:
        if not places.tail <= watermark <= places.head:
            raise CorruptStoreError(
                f"{kind.file_name} in {folder} has taken the log up to position {watermark},"
                f" and log.db holds positions {places.tail} to {places.head}: the two are not of one time",
                hint="A backup of them would not start. `mixdown doctor` says what can be done about it.",
            )


def _known_schema(connection: apsw.Connection, kind: sqlite.Kind) -> int:
    version = int(connection.pragma("user_version"))
    known = len(sqlite.migrations(kind))
    if version > known:
        raise SchemaTooNewError(
            f"{kind.file_name} has schema {version}, and this Mixdown knows schemas up to {known}",
            hint="It was written by a newer Mixdown: take the backup with that version.",
        )
    return version


@contextmanager
def _snapshot(folder: Path, kind: sqlite.Kind) -> Iterator[apsw.Connection]:
    """A read-only connection that sees one moment of a file for as long as it is held.

    Without the transaction, SQLite's backup would begin anew each time that somebody writes: under load
    it would never end. With it the WAL cannot start anew until the copy is done.
    """
    path = folder / kind.file_name
    with (
        sqlite.store_errors(str(path)),
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection,
    ):
        connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
        sqlite.rows(connection, "BEGIN")
        sqlite.value(connection, "SELECT count(*) FROM sqlite_schema")
        yield connection


@contextmanager
def _instant(folder: Path) -> Iterator[tuple[apsw.Connection, apsw.Connection]]:
    """Snapshots of catalog and log between two group commits.

    Workers judge by the catalog within their turn at the log, so that a log of this instant holds no record
    of a project that the catalog of this instant does not know, and whose number it would give away again.
    """
    lock = FileLock(folder / "log.lock")
    try:
        lock.acquire()
        with _snapshot(folder, sqlite.CATALOG) as catalog, _snapshot(folder, sqlite.LOG) as log:
            lock.release()
            yield catalog, log
    finally:
        lock.close()


def _copy(source: apsw.Connection, target: Path, kind: sqlite.Kind, progress: Progress) -> None:
    """Copy a snapshot page by page into a new file."""
    target.unlink(missing_ok=True)
    make_file(target)
    what = f"copying {kind.file_name}"
    with (
        sqlite.store_errors(str(target)),
        closing(apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)) as copy,
    ):
        sqlite.rows(copy, "PRAGMA journal_mode = OFF")
        sqlite.rows(copy, "PRAGMA synchronous = OFF")  # the archive is put on disk, not the copy
        page_bytes = int(source.pragma("page_size"))
        with copy.backup("main", source, "main") as backup, target.open("rb") as written:
            while not backup.done:
                backup.step(_STEP_PAGES)
                # a step at a time: on ext4 a flood of unwritten pages would hold up every commit's fsync
                os.fdatasync(written.fileno())
                done = backup.page_count - backup.remaining
                progress(what, done * page_bytes, backup.page_count * page_bytes)


@contextmanager
def _archive(out: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """A tar archive that is written in one pass; left without its end where the block raises."""
    counted: Any = _Counted(out)
    archive = tarfile.TarFile(fileobj=counted, mode="w", format=tarfile.PAX_FORMAT)
    yield archive
    archive.close()


class _Counted:
    """A stream that knows how far it is, which is all that `tarfile` asks of a file to write to."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._done = 0

    def write(self, piece: bytes, /) -> int:
        """Write all of a piece."""
        self._out.write(piece)
        self._done += len(piece)
        return len(piece)

    def tell(self) -> int:
        """How many bytes were written."""
        return self._done


def _pack(archive: tarfile.TarFile, copy: Path, name: str, progress: Progress) -> Member:
    """Move a copy into the archive."""
    member = _add(archive, copy, name, copy.stat().st_size, progress)
    copy.unlink()
    return member


def _add(archive: tarfile.TarFile, path: Path, name: str, size: int, progress: Progress) -> Member:
    """Put a file that does not change into the archive."""
    with path.open("rb") as file:
        reader = Hashing(file, lambda done: progress(f"packing {name}", done, size))
        archive.addfile(_entry(name, size), reader)
    return Member(name, size, reader.sha256())


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = FILE_MODE
    return entry


class Hashing(io.RawIOBase):
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes], tell: Callable[[int], None]) -> None:
        super().__init__()
        self._file = file
        self._tell = tell
        self._digest = hashlib.sha256()
        self._done = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        piece = self._file.read(size)
        self._digest.update(piece)
        self._done += len(piece)
        self._tell(self._done)
        return piece

    def readinto(self, buffer: Any, /) -> int:
        """The next bytes, into a buffer."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def sha256(self) -> str:
        """The checksum of all that was read."""
        return self._digest.hexdigest()
