"""The same events in other layouts: what each takes on the disk, and what a count by one property costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import apsw
import duckdb

from mixdown.store.duck.lines import COLUMNS
from mixdown.store.duck.sql import literal

_BASE: Final = (
    "event, make_timestamp_ms(time)::TIMESTAMP_MS AS time, distinct_id, insert_id, position, arrived"
)
_BY_TIME: Final = "time"
_BY_ID: Final = "distinct_id, time"
_OF_JSON: Final = "json_extract(properties, '/plan')"
_FORM: Final = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2"


def layouts(lines: Path, folder: Path, events: int) -> list[dict[str, Any]]:
    """Each layout's bytes an event, and microseconds of processor time an event that a count costs."""
    source = f"read_json({literal(str(lines))}, format = 'newline_delimited', columns = {COLUMNS})"
    found = []
    for name, kind, order, plan in (
        ("Parquet, properties as JSON, sorted by time", "VARCHAR", _BY_TIME, _OF_JSON),
        ("Parquet, properties as JSON, sorted by id", "VARCHAR", _BY_ID, _OF_JSON),
        ("Parquet, properties as VARIANT, sorted by id", "VARIANT", _BY_ID, "properties.plan::VARCHAR"),
    ):
        path = folder / "layout.parquet"
        with duckdb.connect(config={"memory_limit": "2GiB", "temp_directory": str(folder)}) as connection:
            select = f"SELECT {_BASE}, properties::{kind} AS properties FROM {source} ORDER BY {order}"  # noqa: S608
            connection.execute(f"COPY ({select}) TO {literal(str(path))} ({_FORM})")
            counted = f"SELECT {plan}, count(*) FROM {literal(str(path))} GROUP BY 1"  # noqa: S608 - ours
            took = _cpu_s(lambda: connection.execute(counted).fetchall())  # noqa: B023 - called at once
        found.append(_told(name, path, events, took))
    path = folder / "layout.db"
    database = apsw.Connection(str(path))
    database.execute("CREATE TABLE events (event, time, distinct_id, insert_id, properties)")
    _fill(database, source)
    database.execute("CREATE INDEX events_by_time ON events (time)")
    sql = "SELECT properties ->> '$.plan', count(*) FROM events GROUP BY 1"
    took = _cpu_s(lambda: database.execute(sql).fetchall())
    database.close()
    found.append(_told("SQLite, properties as JSON, an index on time", path, events, took))
    return found


def _fill(database: apsw.Connection, source: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            f"SELECT event, time, distinct_id, insert_id, properties::VARCHAR FROM {source}"  # noqa: S608 - ours
        )
        database.execute("BEGIN")
        while some := connection.fetchmany(10_000):
            database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", some)
        database.execute("COMMIT")


def _cpu_s(run: Callable[[], Any]) -> float:
    run()
    began = time.process_time()
    run()
    return time.process_time() - began


def _told(name: str, path: Path, events: int, took_s: float) -> dict[str, Any]:
    size = path.stat().st_size
    path.unlink()
    return {
        "name": name,
        "bytes_an_event": round(size / events, 1),
        "count_cpu_us": round(took_s / events * 1e6, 3),
    }
