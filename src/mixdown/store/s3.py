"""Files of events in a bucket of an object store that speaks S3.

Enters: an address such as `s3://bucket/prefix`, credentials by the environment that all of AWS's tools read
(`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …) or by the machine's role.
Leaves: a `Shelf`. A file is written on this machine, then sent: it is there as a whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mixdown.model.errors import SettingsError, StoreDownError, StoreError
from mixdown.store.duck import writing
from mixdown.store.event_listing import Place
from mixdown.store.shelves import MARK
from mixdown.store.spilling import SpillFolder, spill_folder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SCHEME: Final = "s3"
_TIMEOUT: Final = "30s"
_HINT: Final = "See the bucket's name, the variables AWS_… and what the object store logs."


class S3Shelf:
    """A `Shelf` in a bucket. What is in the making lies below `scratch` (None: among temporary files)."""

    def __init__(self, url: str, scratch: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != SCHEME or not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
            raise SettingsError(
                "events_url must be a folder, or s3://bucket or s3://bucket/prefix",
                hint="Credentials come from the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )
        self.url = url
        prefix = parts.path.strip("/")
        self._root = f"{SCHEME}://{parts.netloc}/{prefix}{'/' if prefix else ''}"
        try:
            import obstore  # noqa: PLC0415 - an extra, for those who have a bucket
            from obstore import exceptions  # noqa: PLC0415
            from obstore.store import S3Store  # noqa: PLC0415

            from mixdown.store.duck import remote  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"events_url is a bucket, and {error.name} is not installed",
                hint="Install Mixdown with what it takes: pip install 'mixdown[s3]'.",
            ) from error
        self._client: Any = obstore
        self._missing: type[Exception] = exceptions.NotFoundError
        self._failed: type[Exception] = exceptions.BaseError
        self._tails = remote.Tails()
        self._remote = remote
        self._bucket: Any = S3Store(
            parts.netloc,
            prefix=prefix or None,
            client_options={
                "allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"),
                "timeout": _TIMEOUT,
            },
        )
        self._spill: SpillFolder = spill_folder(scratch)

    def mark(self) -> str:
        with self._errors():
            try:
                return bytes(self._client.get(self._bucket, MARK).bytes()).decode("ascii").strip()
            except (FileNotFoundError, self._missing):
                return ""

    def put_mark(self, mark: str) -> None:
        with self._errors():
            self._client.put(self._bucket, MARK, f"{mark}\n".encode())

    def path(self, place: Place) -> str:
        return self._root + place.name

    def attach(self, connection: DuckDBPyConnection) -> None:
        """Let a DuckDB connection read files of this bucket."""
        files = self._remote.RemoteFiles(SCHEME, self._size, self._fetch, self._tails)
        connection.register_filesystem(files)

    @contextmanager
    def workshop(self, *, memory_limit_bytes: int, threads: int) -> Iterator[DuckDBPyConnection]:
        self._spill.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with writing.workshop(
            self._spill.path,
            memory_limit_bytes=memory_limit_bytes,
            threads=threads,
            attach=self.attach,
            readable=[self._root],
        ) as connection:
            yield connection

    def draft(self, place: Place) -> Path:
        self._spill.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._spill.path / place.name

    def keep(self, place: Place, draft: Path) -> None:
        with self._errors():
            self._client.put(self._bucket, place.name, draft)
        draft.unlink()

    def remove(self, place: Place, draft: Path | None = None) -> None:
        if draft is not None:
            draft.unlink(missing_ok=True)
        with self._errors(), suppress(FileNotFoundError, self._missing):
            self._client.delete(self._bucket, place.name)

    def close(self) -> None:
        """Remove what was in the making."""
        self._spill.close()

    def _size(self, address: str) -> int:
        with self._errors():
            return int(self._client.head(self._bucket, self._name(address))["size"])

    def _fetch(self, address: str, begin: int, end: int) -> bytes:
        with self._errors():
            return bytes(self._client.get_range(self._bucket, self._name(address), start=begin, end=end))

    def _name(self, address: str) -> str:
        assert address.startswith(self._root), "only what is listed is read"
        return address.removeprefix(self._root)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the client raises into `StoreError`s, with the first line of what it says."""
        try:
            yield
        except (FileNotFoundError, self._missing) as error:
            raise StoreError(f"{self._root}: a file of events is not there", hint=_HINT) from error
        except (self._failed, OSError) as error:
            first = str(error).strip().split("\n", 1)[0]
            raise StoreDownError(f"{self._root} cannot be used: {first}", hint=_HINT) from error
