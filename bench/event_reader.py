"""A read of stored events in a process of its own: `python -m bench.event_reader FOLDER KIND SINCE UNTIL`.

`counts` counts by one property through the store's table, `floor` does it in plain DuckDB over the same
files, `export` makes a line of JSON of every event. Prints seconds and memory as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import duckdb

from mixdown.store.duck import open_events
from mixdown.store.duck.sql import literals
from mixdown.store.events import Parts
from mixdown.store.sqlite.events import SqliteEvents

PROJECT: Final = 1
MEMORY_LIMIT_BYTES: Final = 256 * 1024 * 1024
THREADS: Final = 2
ROUNDS: Final = 3


def main() -> None:
    """Read as the arguments say."""
    folder, kind, since_ms, until_ms = sys.argv[1:]
    store = SqliteEvents(Path(folder))
    before_mib = peak_mib()
    began = time.perf_counter()
    parts = store.parts(PROJECT, int(since_ms), int(until_ms))
    listed_s = time.perf_counter() - began
    result = {"counts": counts, "floor": floor, "export": export}[kind](parts)
    store.close()
    print(
        json.dumps(
            {"listed_s": round(listed_s, 4), "before_mib": before_mib, **result, "peak_mib": peak_mib()}
        )
    )


def peak_mib() -> int:
    """The most memory that this process has had. What `getrusage` tells may be its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def counts(parts: Parts) -> dict[str, Any]:
    """Counts by one property; opening the table is part of it."""
    seconds = []
    groups: list[Any] = []
    for _ in range(ROUNDS):
        began, cpu = time.perf_counter(), time.process_time()
        with (
            tempfile.TemporaryDirectory() as scratch,
            open_events(
                parts, memory_limit_bytes=MEMORY_LIMIT_BYTES, threads=THREADS, temp_directory=Path(scratch)
            ) as table,
        ):
            plan = table.value("plan")
            sql = f"SELECT {plan}, count(*) FROM events GROUP BY 1"  # noqa: S608 - a quoted name
            groups = [row for some in table.batches(sql) for row in some]
        seconds.append((time.perf_counter() - began, time.process_time() - cpu))
    return _told(seconds, sum(count for _, count in groups))


def floor(parts: Parts) -> dict[str, Any]:
    """The same in plain DuckDB over the same files."""
    seconds = []
    groups: list[Any] = []
    paths = literals(file.path for file in parts.files)
    for _ in range(ROUNDS):
        began, cpu = time.perf_counter(), time.process_time()
        with duckdb.connect(config={"threads": THREADS}) as connection:
            sql = f"SELECT plan, count(*) FROM read_parquet({paths}) GROUP BY 1"  # noqa: S608 - quoted
            groups = connection.execute(sql).fetchall()
        seconds.append((time.perf_counter() - began, time.process_time() - cpu))
    return _told(seconds, sum(count for _, count in groups))


def export(parts: Parts) -> dict[str, Any]:
    """Every event as a line of JSON; memory after a tenth of them beside that at the end."""
    began, cpu = time.perf_counter(), time.process_time()
    events = size = early_mib = 0
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_events(
            parts, memory_limit_bytes=MEMORY_LIMIT_BYTES, threads=THREADS, temp_directory=Path(scratch)
        ) as table,
    ):
        sql = (
            "SELECT to_json(event)::VARCHAR, epoch_ms(time), to_json(distinct_id)::VARCHAR,"  # noqa: S608 - ours
            f" to_json(insert_id)::VARCHAR, {table.whole}::VARCHAR FROM events"
        )
        for some in table.batches(sql):
            size += sum(
                len(
                    f'{{"event":{event},"properties":{{"time":{time_ms // 1000},"distinct_id":{distinct_id},'
                    f'"$insert_id":{insert_id},{whole[1:]}}}\n'.encode()
                )
                for event, time_ms, distinct_id, insert_id, whole in some
            )
            events += len(some)
            if events <= parts.files[0].count // 10:
                early_mib = peak_mib()
    took = [(time.perf_counter() - began, time.process_time() - cpu)]
    return _told(took, events) | {"bytes": size, "early_mib": early_mib}


def _told(seconds: list[tuple[float, float]], events: int) -> dict[str, Any]:
    best, cpu = min(seconds)
    return {"seconds": round(best, 3), "cpu_s": round(cpu, 3), "events": events}


if __name__ == "__main__":
    main()
