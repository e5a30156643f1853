"""`python -m bench.reports`: segmentation, a funnel and retention over events in store, over HTTP.

The events are those of `bench.stored_events`: a day by the store's own path, and further days like it. Each
question is asked with a warm and a cold page cache, and warm while events of the last day come in; beside it
stands the same question in SQL written by hand, in plain DuckDB over the same files (the floor), and in
PostgreSQL over a table with `jsonb`. One run measures all of it. It wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import apsw
import asyncpg
import orjson

from bench import disk, load, machine, records, report, report_questions, report_table
from bench import server as servers
from bench.competitors.databases import MissingError, postgres, versions
from bench.disk import Disk
from bench.event_lines import DAY_MS, FIRST_DAY_MS, imports
from bench.progress import say
from bench.report_questions import QUESTIONS
from bench.stored_events import (
    BYTES_AN_EVENT,
    POSTGRES_BYTES_AN_EVENT,
    add_days,
    place_a_day,
    place_in_postgres,
)
from mixdown.store.events import EventsWrite
from mixdown.store.protocols import FoldResult
from mixdown.store.sqlite.events import SqliteEvents
from mixdown.store.sqlite.state import SqliteState

LOAD_EVENTS_S: Final = 10_000
SIZE: Final = 500
CONNECTIONS: Final = 4
READ_LIMIT_S: Final = 1800.0
READABLE_LIMIT_S: Final = 300.0
_PLAIN_DISK: Final = Disk("plain", 0.0, {})
_WAYS: Final = ("warm", "cold", "loaded")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and keep the result where asked to."""
    chosen = _options(arguments)
    if chosen.built is not None:
        build(chosen.built, chosen.events, chosen.per_day)
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-", dir=chosen.folder or chosen.built) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user, in a folder of its own below this one
        needed = chosen.events * BYTES_AN_EVENT + chosen.postgres_events * POSTGRES_BYTES_AN_EVENT
        disk.refuse_full(folder, needed)
        options = {key: getattr(chosen, key) for key in ("events", "per_day", "postgres_events", "rounds")}
        result: dict[str, Any] = {"machine": machine.facts(folder) | {"databases": versions()}}
        kept = report.kept(chosen.save) if chosen.only_postgres and chosen.save else None
        if kept is not None:
            result, options = kept, kept["options"] | {"postgres_events": chosen.postgres_events}
        result["options"] = options
        measure(folder, chosen, result)
    print(report_table.reports(result))
    if chosen.save:
        say(f"kept in {report_table.save(chosen.save, result)}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.reports", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--per-day", type=int, default=1_000_000)
    parser.add_argument("--postgres-events", type=int, default=20_000_000, help="0: without PostgreSQL")
    parser.add_argument("--only-postgres", action="store_true", help="add PostgreSQL to what --save kept")
    parser.add_argument("--rounds", type=int, default=5, help="how often each question is asked")
    parser.add_argument("--load-s", type=int, default=60, help="seconds of load that are made, to go round")
    parser.add_argument("--folder", type=Path, help="where to measure: a temporary folder is made in it")
    parser.add_argument("--built", type=Path, help="a folder where the events are kept for the next run")
    parser.add_argument(
        "--save", nargs="?", const="reports", default="", metavar="NAME", help="keep the results"
    )
    return parser.parse_args(arguments)


def build(folder: Path, events: int, per_day: int) -> None:
    """Put the events into a folder, where they are not there yet."""
    data, lines = folder / "data", folder / "day.ndjson"
    if (folder / "size.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    say(f"a day of {per_day:,} events, by the store's own path")
    place_a_day(data, lines, per_day)
    say(f"further days, up to {events:,} events")
    size = add_days(data, events, per_day)
    begin_log_at(data, events)
    (folder / "size.json").write_bytes(orjson.dumps(size))


def linked(built: Path, folder: Path) -> None:
    """A copy of events that were built, to be changed: its files are links, for no file is ever changed."""

    def copy(source: str, target: str) -> None:
        os.link(source, target) if source.endswith(".parquet") else shutil.copy2(source, target)

    shutil.copytree(built / "data", folder / "data", copy_function=copy)


def measure(folder: Path, chosen: argparse.Namespace, result: dict[str, Any]) -> None:
    """Measure everything into `result`."""
    built = chosen.built or folder / "built"
    if not chosen.only_postgres:
        build(built, chosen.events, chosen.per_day)
        linked(built, folder)
        result["size"] = orjson.loads((built / "size.json").read_bytes())
        say(f"{chosen.load_s} s of {LOAD_EVENTS_S:,} events/s are made")
        pool = incoming(chosen)
        with servers.serving(folder, {"MIXDOWN_READ_TIMEOUT_S": "600"}) as running:
            ask_all(running, chosen, pool, result)
            result["memory_mib"] = round(servers.memory_mib(running.pids()))
    if chosen.postgres_events:
        say("PostgreSQL")
        lines = built / "day.ndjson"
        try:
            result["postgres"] = in_postgres(folder / "postgres", lines, chosen)
        except MissingError as error:
            result["postgres"] = {"missing": str(error)}


def ask_all(
    running: servers.Server, chosen: argparse.Namespace, pool: records.Pool, result: dict[str, Any]
) -> None:
    """Each question, of the server and by hand, in each way."""
    best: dict[str, int] = {}
    for way in _WAYS:
        for kind in ("http", "floor"):
            say(f"{way}, {'Mixdown' if kind == 'http' else 'plain DuckDB'}")
            how = f"cold-{kind}" if way == "cold" else kind
            if way == "loaded":
                found = loaded(running, chosen, how, best, pool)
            else:
                found = ask(running, chosen, how, best)
            result.setdefault(way, {})[kind] = found
        floor = result[way]["floor"]
        best = best or {name: floor[name]["statement"] for name in QUESTIONS}


def begin_log_at(data: Path, position: int) -> None:
    """Let a log that holds nothing, and its readers, stand behind events that did not come by it."""
    with apsw.Connection(str(data / "log.db")) as connection:
        connection.execute("UPDATE head SET position = ?", (position,))
    events = SqliteEvents(data)
    events.write(EventsWrite(position, [], (), FIRST_DAY_MS))
    events.close()
    state = SqliteState(data, writes=True)
    state.write(FoldResult(position, [], (), FIRST_DAY_MS))
    state.checkpoint()
    state.close()


def incoming(chosen: argparse.Namespace) -> records.Pool:
    """Requests with events of the last day, to be sent round and round."""
    last_ms = FIRST_DAY_MS + chosen.events // chosen.per_day * DAY_MS - 1
    credentials = base64.b64encode(f"{servers.SECRET}:".encode()).decode()
    head = (
        f"POST /import?strict=1&project_id={servers.PROJECT} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Basic {credentials}\r\nContent-Type: application/json\r\n"
    )
    found = imports(
        chosen.load_s * LOAD_EVENTS_S,
        last_ms=last_ms,
        days=1,
        user=lambda number: f"late {number}",
        size=SIZE,
    )
    good = orjson.dumps({"code": 200, "num_records_imported": SIZE, "status": "OK"})
    return records.Pool(
        SIZE, [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in found], good
    )


def ask(
    running: servers.Server, chosen: argparse.Namespace, how: str, best: dict[str, int]
) -> dict[str, Any]:
    """Ask all questions in a process of its own; what it says."""
    answered = _reader(running, chosen, how, best).communicate()[0]
    found: dict[str, Any] = json.loads(answered)
    return found


def loaded(
    running: servers.Server, chosen: argparse.Namespace, how: str, best: dict[str, int], pool: records.Pool
) -> dict[str, Any]:
    """The same while events come in; with what the load met."""
    with _reader(running, chosen, how, best) as reading:
        sent = load.send(
            running.port,
            pool,
            connections=CONNECTIONS,
            seconds=READ_LIMIT_S,
            records_s=LOAD_EVENTS_S,
            stop=lambda: reading.poll() is not None,
        )
        answered = reading.communicate()[0]
    if reading.returncode:
        raise RuntimeError("the reader failed")
    _wait_until_readable(running)
    found: dict[str, Any] = json.loads(answered)
    return found | {"load": sent.figures()}


def _reader(
    running: servers.Server, chosen: argparse.Namespace, how: str, best: dict[str, int]
) -> subprocess.Popen[bytes]:
    """A reader; of the statements by hand it takes the `best` ones, or finds them."""
    first = datetime.fromtimestamp(FIRST_DAY_MS / 1000, UTC).date()
    days = chosen.events // chosen.per_day
    command = [sys.executable, "-m", "bench.report_reader", how, str(running.data), str(running.port)]
    command += [str(chosen.rounds), first.isoformat(), str(days), json.dumps(best)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _wait_until_readable(running: servers.Server) -> None:
    store, began = running.store, time.perf_counter()
    while min(store.state.watermark(), store.events.watermark()) < store.log.head():
        if time.perf_counter() - began > READABLE_LIMIT_S:
            raise RuntimeError("the events could not be read in time")
        time.sleep(0.05)


def in_postgres(folder: Path, lines: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The same questions to PostgreSQL, warm: each once after a look that is not counted."""
    with postgres(folder, _PLAIN_DISK) as dsn:
        return asyncio.run(_in_postgres(dsn, lines, chosen))


async def _in_postgres(dsn: str, lines: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    connection = await asyncpg.connect(dsn)
    await place_in_postgres(connection, lines, chosen.postgres_events, chosen.per_day)
    first = datetime.fromtimestamp(FIRST_DAY_MS / 1000, UTC).date()
    days = report_questions.days_of(first, max(1, chosen.postgres_events // chosen.per_day))
    found: dict[str, Any] = {}
    for name, sql in report_questions.in_postgres(days).items():
        seconds = []
        rows: list[Any] = []
        for _ in range(2):
            began = time.perf_counter()
            rows = [tuple(row) for row in await connection.fetch(sql, timeout=READ_LIMIT_S)]
            seconds.append(time.perf_counter() - began)
        figures = report_questions.counted(name, rows)
        found[name] = {"median_s": round(min(seconds), 3), "figure": sum(map(sum, figures.values()))}
    await connection.close()
    return found


if __name__ == "__main__":
    main()
