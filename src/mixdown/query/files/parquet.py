"""Parquet files, through DuckDB in a sandbox: it sees one folder, takes bounded memory and loads nothing.

Enters: a file of rows as ndjson and their columns, or a Parquet file. Leaves: a Parquet file, or its rows.
No text from outside becomes part of a statement: names and paths go through DuckDB's own interface.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mixdown.query.files.columns import Column
from mixdown.query.files.forms import FormError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_LIMIT_MIB: Final = 512
ROW_LIMIT_BYTES: Final = 16 * 1024 * 1024
_GROUP_BYTES: Final = 64 * 1024 * 1024
_GROUP_ROWS: Final = (2048, 122_880)
_ROWS_AT_ONCE: Final = 2000
_CODECS: Final = {"zst": "zstd", "gz": "gzip", "none": "uncompressed"}


def write_parquet(
    rows: Path, columns: Sequence[Column], target: Path, *, count: int, compression: str
) -> None:
    """Write the `count` rows of an ndjson file as a Parquet file; both lie in one private folder."""
    import duckdb

    average = max(1, rows.stat().st_size // max(1, count))
    group = min(max(_GROUP_BYTES // average, _GROUP_ROWS[0]), _GROUP_ROWS[1])
    with _sandbox(target.parent) as database:
        relation = database.read_json(
            str(rows),
            columns={column.key: column.type for column in columns},
            format="newline_delimited",
            maximum_object_size=ROW_LIMIT_BYTES,
        )
        named = [duckdb.ColumnExpression(column.key).alias(column.name) for column in columns]
        relation.select(*named).to_parquet(
            str(target), compression=_CODECS[compression], row_group_size=group, overwrite=True
        )


def read_parquet(path: Path, scratch: Path) -> Iterator[tuple[list[Column], list[tuple[Any, ...]]]]:
    """The rows of a Parquet file, some at a time, with its columns. Raises `FormError`.

    `scratch` is a private folder for what does not fit into memory.
    """
    import duckdb

    try:
        with _sandbox(scratch, path) as database:
            found = database.execute("SELECT * FROM read_parquet(?)", [str(path)])
            columns = [Column("", name, str(kind)) for name, kind, *_ in found.description or ()]
            while some := found.fetchmany(_ROWS_AT_ONCE):
                yield columns, some
    except duckdb.Error as error:
        raise FormError(f"this Parquet file cannot be read: {error}") from error


def json_like(value: Any) -> Any:
    """A value of a Parquet column as JSON has it: times as text in ISO 8601, decimals as numbers."""
    if value is None or type(value) in (str, int, bool):
        return value
    if type(value) is float:
        return value if isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [json_like(item) for item in value]
    if isinstance(value, dict):
        return {str(name): json_like(item) for name, item in value.items()}
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(dt.UTC).replace(tzinfo=None)
        return value.isoformat(timespec="microseconds" if value.microsecond else "seconds")
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (dt.date, dt.time, uuid.UUID, dt.timedelta)):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    return str(value)


def _sandbox(folder: Path, *files: Path) -> DuckDBPyConnection:
    """A database in memory that may touch this folder and these files alone."""
    import duckdb

    database = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{MEMORY_LIMIT_MIB}MiB",
            "threads": 2,
            "temp_directory": str(folder / "duckdb"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    database.execute("SET allowed_directories = ?", [[str(folder)]])
    database.execute("SET allowed_paths = ?", [[str(file) for file in files]])
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    return database
