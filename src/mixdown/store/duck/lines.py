"""Hot batches as a table: ndjson in memory, read by DuckDB without a file on a disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROOM_FOR_A_LINE_BYTES: Final = 1024 * 1024
"""DuckDB sets aside a buffer for each thread that holds two lines of the length that it is told of."""

COLUMNS: Final = (
    "{position: 'BIGINT', arrived: 'BIGINT', event: 'VARCHAR', time: 'BIGINT', distinct_id: 'VARCHAR',"
    " insert_id: 'VARCHAR', properties: 'JSON'}"
)
SELECTED: Final = (
    "event, CAST(make_timestamp_ms(time) AS TIMESTAMP_MS) AS time, distinct_id, insert_id, position, arrived,"
    " properties"
)


@contextmanager
def lines_as_source(batches: Iterable[bytes]) -> Iterator[str]:
    """SQL of a table function that reads these batches (`EventBatch.lines`), as long as the block lasts."""
    fd = os.memfd_create("events", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb", buffering=0) as file:
            longest = ROOM_FOR_A_LINE_BYTES
            for batch in batches:
                _write_all(file.fileno(), batch)
                longest = max(longest, *map(len, batch.split(b"\n")))
        yield (
            f"read_json('/proc/self/fd/{fd}', format = 'newline_delimited', columns = {COLUMNS},"
            f" maximum_object_size = {longest + 1})"
        )
    finally:
        os.close(fd)


def load_hot(connection: DuckDBPyConnection, batches: Iterable[bytes]) -> None:
    """Make the table `hot` of these batches."""
    with lines_as_source(batches) as source:
        connection.execute(f"CREATE TEMP TABLE hot AS SELECT {SELECTED} FROM {source}")


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
