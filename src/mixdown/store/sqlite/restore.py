"""Restoring: a backup's archive becomes a data folder that a server goes on with.

Enters: a stream with an archive, and a new or an empty folder. Leaves: a folder whose files are those of the
backup, verified and on disk. Until all is verified the files lie in `.restoring` within the folder, and no
server starts on a folder that has it: a restore that is cut off leaves nothing that looks whole.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec

from mixdown.model.errors import CorruptStoreError, SchemaTooNewError, StoreError
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.backup import (
    FORMAT,
    KINDS,
    MANIFEST,
    PIECE_BYTES,
    Hashing,
    Manifest,
    Member,
    Progress,
)
from mixdown.store.sqlite.connection import migrations
from mixdown.store.sqlite.event_files import EVENTS_FOLDER
from mixdown.store.sqlite.events_folder import is_event_file, make_event_folder
from mixdown.store.sqlite.folder import (
    FILE_MODE,
    FOLDER_MODE,
    RESTORING,
    FolderLock,
    make_folder,
    sync_folder,
)

_TOP_NAMES: Final = (*(kind.file_name for kind in KINDS), EVENTS_FOLDER)
_GZIP_MAGIC: Final = b"\x1f\x8b"
_MANIFEST_LIMIT_BYTES: Final = 1024 * 1024
_UNHEEDED: Final = frozenset(
    {"lock", "log.lock", "setup.lock", "backup.lock", "lost+found", RESTORING}  # locks hold no data
)
_AGAIN: Final = "Take another backup, or copy the file again: its bytes are not those that were written."


def restore_backup(source: IO[bytes], folder: Path, *, progress: Progress) -> Manifest:
    """Make `folder` the data folder that the archive in `source` holds; it is on disk on return.

    An unfinished restore in the folder is begun anew. Raises `StoreError` where the folder holds anything
    else or the disk is full, `CorruptStoreError` where the archive is damaged or cut off, and
    `SchemaTooNewError`; what was unpacked is taken away again.
    """
    _refuse_filled(folder)
    with FolderLock(folder).acquire(0):
        _refuse_filled(folder)
        unpacked = folder / RESTORING
        _clear(folder)
        unpacked.mkdir(mode=FOLDER_MODE)
        sync_folder(folder)
        try:
            with _archive_errors(), _opened(source) as archive:
                manifest = _unpack(archive, unpacked, progress)
            _check_schemas(manifest)
            for name in _TOP_NAMES:
                if (unpacked / name).exists():
                    (unpacked / name).rename(folder / name)
            sync_folder(folder)
        except BaseException:
            _clear(folder)
            raise
        unpacked.rmdir()
        sync_folder(folder)
    return manifest


def _refuse_filled(folder: Path) -> None:
    """Only a new folder, an empty one, or one with an unfinished restore is written to."""
    try:
        names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be restored into: {error.strerror}",
            hint="Name a folder that this user may write.",
        ) from error
    if RESTORING in names:
        return
    if names - _UNHEEDED:
        raise StoreError(
            f"the folder {folder} is not empty: a backup is restored into a new or an empty one",
            hint="Name another with --data-dir, or move what is there away.",
        )
    make_folder(folder)


def _clear(folder: Path) -> None:
    """Take away what an unfinished restore has left."""
    unpacked = folder / RESTORING
    if not unpacked.exists():
        return
    for kind in KINDS:
        for suffix in ("", "-wal", "-shm"):
            (folder / (kind.file_name + suffix)).unlink(missing_ok=True)
    shutil.rmtree(folder / EVENTS_FOLDER, ignore_errors=True)
    shutil.rmtree(unpacked)


@contextmanager
def _archive_errors() -> Iterator[None]:
    """What a damaged archive raises, in words for people."""
    try:
        yield
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise CorruptStoreError(f"the file is no whole backup: {error}", hint=_AGAIN) from error
        raise StoreError(
            f"the backup cannot be unpacked: {error.strerror or error}",
            hint="Free some space, or restore to another disk with --data-dir.",
        ) from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CorruptStoreError(
            f"the file is no whole backup: {str(error) or type(error).__name__}", hint=_AGAIN
        ) from error


@contextmanager
def _opened(source: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """The archive, read in one pass; compressed or not."""
    buffered = io.BufferedReader(cast("Any", source), PIECE_BYTES)
    plain: Any = buffered
    if buffered.peek(2)[:2] == _GZIP_MAGIC:
        plain = gzip.GzipFile(fileobj=buffered, mode="rb")
    try:
        with tarfile.open(fileobj=plain, mode="r|") as archive:
            yield archive
    finally:
        buffered.detach()


def _unpack(archive: tarfile.TarFile, target: Path, progress: Progress) -> Manifest:
    found: list[Member] = []
    manifest: Manifest | None = None
    for entry in archive:
        file = archive.extractfile(entry) if entry.isfile() else None
        if file is None or not _may_follow(entry.name, [member.name for member in found[-1:]]):
            raise CorruptStoreError(
                "the file is no backup of Mixdown", hint="Name a file that `mixdown backup` has written."
            )
        if entry.name == MANIFEST:
            manifest = _read_manifest(file, entry.size)
            break
        found.append(_unpack_member(file, entry, target, progress))
    if manifest is None:
        raise CorruptStoreError(
            "the backup was cut off before its end", hint="Take another backup, or copy the file again."
        )
    wrong = [member.name for member in found if member not in manifest.members]
    if wrong or len(manifest.members) != len(found):
        raise CorruptStoreError(f"{', '.join(wrong)} in the backup does not match its checksum", hint=_AGAIN)
    for folder in sorted({(target / member.name).parent for member in found}, reverse=True):
        sync_folder(folder)
    return manifest


def _may_follow(name: str, before: list[str]) -> bool:
    """Whether a file of this name may come next in an archive, in which events are or are not."""
    last = before[0] if before else ""
    file = is_event_file(name)
    if last == sqlite.EVENTS.file_name or is_event_file(last):
        return file or name == sqlite.CATALOG.file_name
    following = {
        "": (sqlite.STATE.file_name,),
        sqlite.STATE.file_name: (sqlite.EVENTS.file_name, sqlite.CATALOG.file_name),
        sqlite.CATALOG.file_name: (sqlite.LOG.file_name,),
        sqlite.LOG.file_name: (MANIFEST,),
    }
    return name in following.get(last, ())


def _unpack_member(file: IO[bytes], entry: tarfile.TarInfo, target: Path, progress: Progress) -> Member:
    free = shutil.disk_usage(target).free
    if entry.size > free:
        raise StoreError(
            f"{entry.name} has {entry.size} bytes, and {free} are free on the disk of {target.parent}",
            hint="Free some space, or restore to another disk with --data-dir.",
        )
    if is_event_file(entry.name):
        make_event_folder(target, entry.name)
    reader = Hashing(file, lambda done: progress(f"restoring {entry.name}", done, entry.size))
    fd = os.open(target / entry.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(fd, "wb") as unpacked:
        while piece := reader.read(PIECE_BYTES):
            unpacked.write(piece)
        unpacked.flush()
        os.fsync(unpacked.fileno())
    return Member(entry.name, entry.size, reader.sha256())


def _read_manifest(file: IO[bytes], size: int) -> Manifest:
    if size > _MANIFEST_LIMIT_BYTES:
        raise CorruptStoreError(f"the backup's {MANIFEST} has {size} bytes", hint=_AGAIN)
    try:
        manifest = msgspec.json.decode(file.read(), type=Manifest)
    except msgspec.DecodeError as error:
        raise CorruptStoreError(f"the backup's {MANIFEST} cannot be read: {error}", hint=_AGAIN) from error
    if manifest.format > FORMAT:
        raise SchemaTooNewError(
            f"the backup has format {manifest.format}, and this Mixdown knows formats up to {FORMAT}",
            hint=f"It was written by Mixdown {manifest.version}: restore it with that version.",
        )
    return manifest


def _check_schemas(manifest: Manifest) -> None:
    """See that this Mixdown knows the files, before a server refuses them."""
    for kind in KINDS:
        version = manifest.schemas.get(kind.name, 0)
        known = len(migrations(kind))
        if version > known:
            raise SchemaTooNewError(
                f"{kind.file_name} in the backup has schema {version}, and this Mixdown knows up to {known}",
                hint=f"It was written by Mixdown {manifest.version}: restore it with that version.",
            )
