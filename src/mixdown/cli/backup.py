"""`mixdown backup` and `mixdown restore`: one archive of a data folder, and its way back.

Enters: a file's name. Leaves: the file, whole and on disk, or none at all; a folder, likewise.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

import click
import msgspec

from mixdown.cli.flags import data_dir_flag, json_flag, settings_from
from mixdown.cli.folder import of_folder_alone
from mixdown.cli.output import Failure, emit, note, printable
from mixdown.cli.progress import ProgressLine, size_text
from mixdown.cli.workspace import beside, locked_folder

if TYPE_CHECKING:
    from mixdown.store.sqlite.backup import Manifest

STANDARD: Final = "-"
SYNC_EVERY_BYTES: Final = 8 * 1024 * 1024
_GZIP_LEVEL: Final = 1
_COMPRESSED: Final = (".gz", ".tgz")

_INSTEAD: Final = "Use pg_dump, or PostgreSQL's own backups to a point in time."


@click.command()
@click.argument("file")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@json_flag
@data_dir_flag
def backup(*, file: str, force: bool, as_json: bool, data_dir: str | None) -> None:
    """Write one archive of all data to FILE, while the server runs or not.

    What was acknowledged before the command is in it. The archive is a tar of the folder's databases; it is
    compressed where FILE ends in .gz or .tgz. FILE appears when it is whole and on disk; until then the
    copies lie beside it. `-` writes to standard output. The server goes on meanwhile; trimming of its log
    waits.

    \b
    Examples:
      mixdown backup /backups/mixdown-monday.tar.gz
      mixdown backup - | ssh store 'cat > mixdown.tar'
    """
    from mixdown.store.backups import LastBackup, note_backup
    from mixdown.store.sqlite.backup import folder_bytes, write_backup

    settings = settings_from({"data_dir": data_dir})
    of_folder_alone(settings, "mixdown backup", _INSTEAD)
    folder = settings.data_dir.absolute()
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = ProgressLine()
    to_stdout = file == STANDARD
    if to_stdout and sys.stdout.isatty():
        raise Failure("an archive is not for a terminal", hint="Name a file, or send it on: backup - | …")
    target = Path(file).absolute()
    if not to_stdout:
        _check_target(target, folder, force=force)
    with contextlib.ExitStack() as stack:
        workspace = stack.enter_context(_temporary() if to_stdout else _workspace(target))
        plain = not to_stdout and not target.name.endswith(_COMPRESSED)
        with contextlib.suppress(FileNotFoundError):  # `write_backup` says it in better words
            _check_room(workspace, folder_bytes(folder), plain=plain)
        stack.callback(line.clear)
        unfinished = workspace / "archive"
        with contextlib.ExitStack() as file_stack:
            out: Any = sys.stdout.buffer
            if not to_stdout:
                out = file_stack.enter_context(contextlib.closing(_SteadyFile(unfinished)))
            with _write_errors(file), _compressed(out, target.name) as archive:
                manifest = write_backup(folder, archive, workspace, created=created, progress=line.bytes)
            out.flush()
        if not to_stdout:
            _publish(unfinished, target, force=force)
    line.clear()
    size = sum(member.size_bytes for member in manifest.members) if to_stdout else target.stat().st_size
    note_backup(folder, LastBackup(time.time_ns() // 1_000_000, size, manifest.head, manifest.version))
    _tell(manifest, file, size, to_stdout=to_stdout, as_json=as_json)


def _tell(manifest: Manifest, file: str, size: int, *, to_stdout: bool, as_json: bool) -> None:
    waiting = manifest.head - manifest.watermark
    told = (
        f"{size_text(size)}: the log up to position {manifest.head}, {waiting} records of it not yet folded"
    )
    if to_stdout:
        note(f"backed up {told}")
    elif as_json:
        emit({"file": file, "size_bytes": size, **msgspec.to_builtins(manifest)})
    else:
        click.echo(f"{printable(file)}: {told}")


@click.command()
@click.argument("file")
@json_flag
@data_dir_flag
def restore(*, file: str, as_json: bool, data_dir: str | None) -> None:
    """Make a data folder of the backup in FILE.

    The folder that --data-dir names must be new or empty. Every file is checked against the checksum in the
    archive. Then start the server on the folder: it folds what waits and goes on. `-` reads standard input.

    \b
    Example:
      mixdown restore /backups/mixdown-monday.tar.gz --data-dir /var/lib/mixdown
      mixdown serve --data-dir /var/lib/mixdown
    """
    from mixdown.store.sqlite.restore import restore_backup

    settings = settings_from({"data_dir": data_dir})
    of_folder_alone(settings, "mixdown restore", "Use pg_restore, or PostgreSQL's way back in time.")
    folder = settings.data_dir.absolute()
    line = ProgressLine()
    with contextlib.ExitStack() as stack:
        source = sys.stdin.buffer if file == STANDARD else stack.enter_context(Path(file).open("rb"))
        stack.callback(line.clear)
        raw = getattr(source, "raw", source)
        manifest = restore_backup(raw, folder, progress=line.bytes)
    if as_json:
        emit({"data_dir": str(folder), **msgspec.to_builtins(manifest)})
        return
    waiting = manifest.head - manifest.watermark
    click.echo(
        f"{printable(folder)} is as Mixdown {manifest.version} had it at {manifest.created}: the log up to"
        f" position {manifest.head}, {waiting} records of it not yet folded"
    )
    note(f"Start the server on it: mixdown serve --data-dir {printable(folder)}")


def _check_target(target: Path, folder: Path, *, force: bool) -> None:
    if target.is_dir():
        raise Failure(f"{target} is a folder", hint="Name the file that the backup is to be.")
    if target.exists() and not force:
        raise Failure(f"{target} is there already", hint="Name another file, or write over it with --force.")
    if not target.parent.is_dir():
        raise Failure(f"there is no folder {target.parent}", hint="Make it first, or name another file.")
    if target.parent.resolve().is_relative_to(folder.resolve()):
        raise Failure(
            f"{target} is inside the data folder",
            hint="A backup belongs elsewhere, on another disk if there is one.",
        )


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    """A folder of a name that nobody can guess, where others may write too; gone at the end."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mixdown-backup-", ignore_cleanup_errors=True) as workspace:
        yield Path(workspace)


@contextlib.contextmanager
def _workspace(target: Path) -> Iterator[Path]:
    """A folder beside the file, gone at the end; what a killed backup to the same file left is taken away.

    Others may write beside the file: nothing is removed from, or copied to, a folder that they may have made.
    """
    with locked_folder(beside(target), "backup") as fd:
        workspace = beside(target)
        for left in os.listdir(fd):  # noqa: PTH208 - the folder that was looked at, whatever its name leads to now
            os.unlink(left, dir_fd=fd)
        try:
            yield workspace
        finally:
            shutil.rmtree(workspace, ignore_errors=True)


def _check_room(workspace: Path, sizes: tuple[int, int], *, plain: bool) -> None:
    """Refuse a disk on which the largest copy, and a plain archive beside it, have no room."""
    together, largest = sizes
    wanted = largest + (together if plain else 0)
    free = shutil.disk_usage(workspace).free
    if free < wanted:
        raise Failure(
            f"the backup needs up to {size_text(wanted)}, and {size_text(free)} are free there",
            hint="Free some space, or name a file on another disk.",
        )


class _SteadyFile:
    """A new file, put on disk a piece at a time: no flood of writes delays a server's commits."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._synced = self._written = 0

    def write(self, piece: bytes, /) -> int:
        """Write all of a piece."""
        view = memoryview(piece)
        while view:
            view = view[os.write(self._fd, view) :]
        self._written += len(piece)
        if self._written - self._synced >= SYNC_EVERY_BYTES:
            self.sync()
        return len(piece)

    def flush(self) -> None:
        """Nothing is held back."""

    def sync(self) -> None:
        """Put on disk what was written, and let the system forget it: it is not read again."""
        os.fdatasync(self._fd)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, self._synced, self._written - self._synced, os.POSIX_FADV_DONTNEED)
        self._synced = self._written

    def close(self) -> None:
        """Close the file; all of it is on disk."""
        os.fsync(self._fd)
        os.close(self._fd)


@contextlib.contextmanager
def _compressed(out: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    """`out`, through gzip where the file's name says so."""
    if not name.endswith(_COMPRESSED):
        yield out
        return
    packed = gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0)
    yield cast("Any", packed)
    packed.close()


@contextlib.contextmanager
def _write_errors(file: str) -> Iterator[None]:
    """What a full disk raises without naming the file that it was for."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failure(
            f"{error.filename or file} cannot be written: {error.strerror}",
            hint="Free some space, or name a file on another disk.",
        ) from error


def _publish(unfinished: Path, target: Path, *, force: bool) -> None:
    """Give the finished archive its name."""
    from mixdown.store.sqlite.folder import sync_folder

    if target.exists() and not force:
        raise Failure(f"{target} is there already", hint="Name another file, or write over it with --force.")
    unfinished.replace(target)
    sync_folder(target.parent)
