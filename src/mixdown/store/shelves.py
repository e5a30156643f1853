"""Where files of events lie: in a folder, of this machine or one that every node mounts.

Enters: a `Place`. Leaves: where to write a new file, what DuckDB opens to read one. No list is kept here:
which files count is the store's to say (`store.event_listing`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from mixdown.model.errors import StoreError
from mixdown.store.duck import writing
from mixdown.store.event_listing import Place
from mixdown.store.events import Attach

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from duckdb import DuckDBPyConnection


MARK: Final = "mixdown-events"
"""The file that says whose files these are."""


class Shelf(Protocol):
    """Where files of events lie. What only processes on several machines need: a mark to know it again by."""

    @property
    def url(self) -> str:
        """What makes the same shelf in another process (`shelf_of`); "" where there is none."""

    def mark(self) -> str:
        """The mark that was put here; "" where none was."""

    def put_mark(self, mark: str) -> None:
        """Put a mark where none is."""

    def path(self, place: Place) -> str:
        """What DuckDB opens to read a file."""

    @property
    def attach(self) -> Attach | None:
        """What a DuckDB connection needs to open such paths; None where they are files of this machine."""

    def workshop(
        self, *, memory_limit_bytes: int, threads: int
    ) -> AbstractContextManager[DuckDBPyConnection]:
        """A connection that reads files of this shelf and writes drafts of new ones, in bounded memory."""

    def draft(self, place: Place) -> Path:
        """Where to write a new file."""

    def keep(self, place: Place, draft: Path) -> None:
        """Put a file that was written where it belongs; it is on disk when this returns."""

    def remove(self, place: Place, draft: Path | None = None) -> None:
        """Let a file, and its draft, be gone, whether they are there or not."""


class FolderShelf:
    """Files in a folder. What DuckDB spills goes to `scratch` (None: into the folder itself)."""

    def __init__(self, folder: Path, scratch: Path | None = None) -> None:
        self.folder = folder
        self._scratch = scratch

    attach = None

    @property
    def url(self) -> str:
        return str(self.folder)

    def mark(self) -> str:
        try:
            return (self.folder / MARK).read_text("ascii").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be read: {error.strerror}") from error

    def put_mark(self, mark: str) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / MARK).write_text(f"{mark}\n", "ascii")
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written: {error.strerror}") from error

    def path(self, place: Place) -> str:
        return str(self.folder / place.name)

    @contextmanager
    def workshop(self, *, memory_limit_bytes: int, threads: int) -> Iterator[DuckDBPyConnection]:
        with writing.workshop(
            self.folder, memory_limit_bytes=memory_limit_bytes, threads=threads, scratch=self._scratch
        ) as connection:
            yield connection

    def draft(self, place: Place) -> Path:
        return self.folder / place.name

    def keep(self, place: Place, draft: Path) -> None:
        del place, draft  # it was written where it belongs, and flushed with the folders above it

    def remove(self, place: Place, draft: Path | None = None) -> None:
        del draft
        path = self.folder / place.name
        path.unlink(missing_ok=True)
        if place.day is not None:  # its folder is made by the upkeep alone
            with suppress(OSError):  # it is not empty, or gone
                path.parent.rmdir()


class NoShelf:
    """Where nobody said where files are to lie: what is hot can be read and written, and nothing closed."""

    attach = None
    url = ""

    def mark(self) -> str:
        _refuse()

    def put_mark(self, mark: str) -> None:
        del mark
        _refuse()

    def path(self, place: Place) -> str:
        del place
        _refuse()

    @contextmanager
    def workshop(self, *, memory_limit_bytes: int, threads: int) -> Iterator[DuckDBPyConnection]:
        del memory_limit_bytes, threads
        yield _refuse()

    def draft(self, place: Place) -> Path:
        del place
        _refuse()

    def keep(self, place: Place, draft: Path) -> None:
        del place, draft
        _refuse()

    def remove(self, place: Place, draft: Path | None = None) -> None:
        del place, draft
        _refuse()


def shelf_of(events_url: str, scratch: Path | None) -> Shelf:
    """Where a setting says that files lie: a folder, or `s3://bucket/prefix`. Raises `SettingsError`.

    `scratch` is a folder of this machine for what is in the making.
    """
    if "://" not in events_url:
        return FolderShelf(Path(events_url).absolute(), scratch)
    from mixdown.store.s3 import S3Shelf  # noqa: PLC0415 - for those who have a bucket

    return S3Shelf(events_url, scratch)


def _refuse() -> NoReturn:
    raise StoreError(
        "it is not said where files of events lie",
        hint="Set events_url to a folder that every node mounts, or to s3://bucket/prefix.",
    )
