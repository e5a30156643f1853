"""`python -m bench.stored_events`: events in store: size, counts, exports, beside what else one would take.

The first day's events go through the store's own path: written by steps, split and merged. The other days
are that day's file written again with other ids, times and positions, since only their size is of interest.
Beside it: the same query in plain DuckDB over the same files (the floor), in PostgreSQL (a table with
`jsonb`), and the first day in other layouts. Reads are made by processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import duckdb

from bench import disk, machine, report
from bench.competitors.databases import MissingError, postgres, versions
from bench.disk import Disk
from bench.event_layouts import layouts
from bench.event_lines import DAY_MS, FIRST_DAY_MS, batches
from bench.progress import say
from mixdown.store.duck.sql import literal
from mixdown.store.duck.writing import DAY_FORM, FORM, Written
from mixdown.store.events import FIRST_MS, LAST_MS, EventFile, EventsWrite
from mixdown.store.sqlite import event_files, open_store
from mixdown.store.sqlite.events import SqliteEvents

PROJECT: Final = 1
STEP_EVENTS: Final = 100_000
HOUR_MS: Final = 3_600_000
BYTES_AN_EVENT: Final = 250
"""What a run takes of the disk for an event of Mixdown's, with room."""
POSTGRES_BYTES_AN_EVENT: Final = 1000
_PLAIN_DISK: Final = Disk("plain", 0.0, {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and keep the result where asked to."""
    chosen = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user, in a folder of its own below this one
        needed = chosen.events * BYTES_AN_EVENT + chosen.postgres_events * POSTGRES_BYTES_AN_EVENT
        disk.refuse_full(folder, needed)
        result: dict[str, Any] = {
            "machine": machine.facts(folder) | {"databases": versions()},
            "options": {
                "events": chosen.events,
                "per_day": chosen.per_day,
                "postgres_events": chosen.postgres_events,
            },
        }
        measure(folder, chosen, result)
    print(report.stored_events(result))
    if chosen.save:
        say(f"kept in {report.save_stored_events(chosen.save, result)}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.stored_events", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--per-day", type=int, default=1_000_000)
    parser.add_argument("--postgres-events", type=int, default=20_000_000, help="0: without PostgreSQL")
    parser.add_argument("--folder", type=Path, help="where to measure: a temporary folder is made in it")
    parser.add_argument(
        "--save", nargs="?", const="stored-events", default="", metavar="NAME", help="keep the results"
    )
    return parser.parse_args(arguments)


def measure(folder: Path, chosen: argparse.Namespace, result: dict[str, Any]) -> None:
    """Measure everything into `result`."""
    lines = folder / "day.ndjson"
    data = folder / "data"
    say(f"a day of {chosen.per_day:,} events, by the store's own path")
    result["write"] = place_a_day(data, lines, chosen.per_day)
    say(f"further days, up to {chosen.events:,} events")
    result["size"] = add_days(data, chosen.events, chosen.per_day)
    say("counts by one property")
    result["counts"] = {
        "mixdown": read(data, "counts", FIRST_MS, LAST_MS),
        "floor": read(data, "floor", FIRST_MS, LAST_MS),
    }
    say("one day exported")
    result["export"] = read(data, "export", FIRST_DAY_MS, FIRST_DAY_MS + DAY_MS)
    say("other layouts")
    result["layouts"] = layouts(lines, folder, chosen.per_day)
    if chosen.postgres_events:
        say("PostgreSQL")
        try:
            result["postgres"] = in_postgres(folder / "postgres", lines, chosen)
        except MissingError as error:
            result["postgres"] = {"missing": str(error)}


def place_a_day(data: Path, lines: Path, events: int) -> dict[str, Any]:
    """Write a day's events in steps and tend until nothing is left; what both cost."""
    open_store(data, role="fold", create=True).close()
    store = SqliteEvents(data)
    wrote_s = tended_s = worst_s = 0.0
    wrote_cpu_s = tended_cpu_s = 0.0
    written = size = 0
    with lines.open("wb") as kept:
        for batch in batches(events, project=PROJECT, per_batch=STEP_EVENTS, per_day=events):
            written += batch.count
            size += len(batch.lines)
            kept.write(batch.lines)
            began, cpu = time.perf_counter(), time.process_time()
            store.write(EventsWrite(written, [batch], (), batch.last_ms))
            wrote_s += time.perf_counter() - began
            wrote_cpu_s += time.process_time() - cpu
    # the day is quiet at the end, and then files that were removed go
    for now_ms in (FIRST_DAY_MS + 2 * DAY_MS, FIRST_DAY_MS + 3 * DAY_MS):
        done = True
        while done:
            began, cpu = time.perf_counter(), time.process_time()
            done = store.tend(busy=False, now_ms=now_ms)
            worst_s = max(worst_s, time.perf_counter() - began)
            tended_s += time.perf_counter() - began
            tended_cpu_s += time.process_time() - cpu
    store.close()
    return {
        "bytes_an_event": round(size / events, 1),
        "written_s": round(events / wrote_s),
        "written_cpu_us": round(wrote_cpu_s / events * 1e6, 2),
        "tended_s": round(events / tended_s),
        "tended_cpu_us": round(tended_cpu_s / events * 1e6, 2),
        "longest_piece_s": round(worst_s, 2),
    }


def add_days(data: Path, events: int, per_day: int) -> dict[str, Any]:
    """Write the first day's files again for each further day, and list them; what all take on the disk."""
    store = SqliteEvents(data)
    first = store.parts(PROJECT, FIRST_MS, LAST_MS).files
    assert all(file.day is not None for file in first)
    for day in range(1, events // per_day):
        for file in first:
            _copy(data, store, file, day, per_day)
    size = store.size(PROJECT)
    store.close()
    return {
        "files": size.files,
        "bytes": size.file_bytes,
        "bytes_an_event": round(size.file_bytes / size.file_events, 1),
    }


def _copy(data: Path, store: SqliteEvents, file: EventFile, days: int, per_day: int) -> None:
    assert file.day is not None
    place = store.listing.place(PROJECT, file.day + days)
    path = data / event_files.EVENTS_FOLDER / place.name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    changed = (
        f"time + INTERVAL {days:d} DAY AS time, position + {days * per_day:d} AS position,"
        f" arrived + {days * DAY_MS:d} AS arrived, left(md5(insert_id || '{days:d}'), 16) AS insert_id"
    )
    with duckdb.connect(config={"memory_limit": "1GiB", "threads": 2}) as connection:  # it keeps the order
        connection.execute(
            f"COPY (SELECT * REPLACE ({changed}) FROM read_parquet({literal(file.path)}))"  # noqa: S608 - quoted
            f" TO {literal(str(path))} ({FORM}, {DAY_FORM})"
        )
    written = Written(
        file.count,
        path.stat().st_size,
        file.first_ms + days * DAY_MS,
        file.last_ms + days * DAY_MS,
        file.columns,
        file.rest,
    )
    with store.listing.changes() as changes:  # it lists what the store did not make
        changes.add(place, written, written.last_ms)


def read(data: Path, kind: str, since_ms: int, until_ms: int) -> dict[str, Any]:
    """Read in a process of its own; what it says."""
    command = [sys.executable, "-m", "bench.event_reader", str(data), kind, str(since_ms), str(until_ms)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def in_postgres(folder: Path, lines: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The same in PostgreSQL: a table with `jsonb`, an index on time."""
    with postgres(folder, _PLAIN_DISK) as dsn:
        return asyncio.run(_in_postgres(dsn, lines, chosen))


async def place_in_postgres(connection: asyncpg.Connection, lines: Path, events: int, per_day: int) -> float:
    """Fill the table `events` with the events of a day, and again for each further one; seconds it took."""
    run = connection.execute
    await run("CREATE UNLOGGED TABLE lines (line jsonb)", timeout=3600)
    with lines.open("rb") as source:
        # the text format: a backslash of JSON is to be doubled
        await connection.copy_to_table("lines", source=_Escaped(source), timeout=3600)
    columns = "event text, time timestamptz, distinct_id text, insert_id text, properties jsonb"
    await run(f"CREATE UNLOGGED TABLE events ({columns})")
    began = time.perf_counter()
    for day in range(max(1, events // per_day)):
        await run(
            "INSERT INTO events SELECT line->>'event',"
            " to_timestamp((line->>'time')::bigint / 1000.0) + make_interval(days => $1),"
            " line->>'distinct_id', left(md5((line->>'insert_id') || $1::text), 16), line->'properties'"
            " FROM lines",
            day,
            timeout=3600,
        )
    await run("CREATE INDEX ON events (time)", timeout=3600)
    await run("VACUUM (ANALYZE) events", timeout=3600)
    return time.perf_counter() - began


async def _in_postgres(dsn: str, lines: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    connection = await asyncpg.connect(dsn)
    placed_s = await place_in_postgres(connection, lines, chosen.postgres_events, chosen.per_day)
    events = await connection.fetchval("SELECT count(*) FROM events", timeout=3600)
    size = await connection.fetchval("SELECT pg_total_relation_size('events')")
    counted = []
    for _ in range(2):
        began = time.perf_counter()
        await connection.fetch("SELECT properties->'plan', count(*) FROM events GROUP BY 1", timeout=3600)
        counted.append(time.perf_counter() - began)
    began = time.perf_counter()
    await connection.copy_from_query(
        "SELECT jsonb_build_object('event', event, 'properties', properties || jsonb_build_object('time',"
        " extract(epoch FROM time)::bigint, 'distinct_id', distinct_id, '$insert_id', insert_id))"
        " FROM events WHERE time >= to_timestamp($1) AND time < to_timestamp($2)",
        FIRST_DAY_MS / 1000,
        (FIRST_DAY_MS + DAY_MS) / 1000,
        output="/dev/null",
        timeout=3600,
    )
    exported_s = time.perf_counter() - began
    await connection.close()
    return {
        "events": events,
        "bytes_an_event": round(size / events, 1),
        "placed_s": round(placed_s, 1),
        "counts_s": round(min(counted), 2),
        "export_s": round(exported_s, 2),
    }


class _Escaped:
    """A file whose backslashes are doubled, for COPY."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        data: bytes = self._source.read(size)
        return data.replace(b"\\", b"\\\\")


if __name__ == "__main__":
    main()
