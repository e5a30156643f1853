"""How the checks of `mixdown doctor` open the folder's databases: for reading alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

from mixdown.store.sqlite.connection import Kind, store_errors


@contextmanager
def reading(folder: Path, kind: Kind) -> Iterator[apsw.Connection]:
    """A read-only connection to one of the folder's files. Raises `StoreError`."""
    path = folder / kind.file_name
    with (
        store_errors(str(path)),
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection,
    ):
        connection.set_busy_timeout(5000)
        yield connection
