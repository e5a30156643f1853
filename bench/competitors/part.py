"""The part that measures competitors: the same requests, by the same generator, on the same disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import load, records, server
from bench.competitors import databases
from bench.disk import Disk
from bench.options import Options
from bench.parts import SHAPES
from bench.progress import say


@dataclass(frozen=True)
class Competitor:
    """An application, the database that it needs, and how many processes of the application do best."""

    name: str
    module: str
    variable: str
    start: Callable[[Path, Disk], AbstractContextManager[str]]
    fill: Callable[[str, int], None]
    workers: int


COMPETITORS: Final = (
    Competitor(
        "FastAPI + asyncpg + PostgreSQL, an upsert a record",
        "naive",
        "BENCH_DSN",
        databases.postgres,
        databases.fill_postgres,
        1,
    ),
    Competitor(
        "FastAPI + asyncpg + PostgreSQL, batched",
        "batched",
        "BENCH_DSN",
        databases.postgres,
        databases.fill_postgres,
        1,
    ),
    Competitor(
        "FastAPI + Redis, Lua, appendfsync always",
        "with_redis",
        "BENCH_REDIS",
        databases.redis_server,
        databases.fill_redis,
        1,
    ),
)


def competitors(options: Options, folder: Path, disk: Disk) -> list[dict[str, Any]]:
    """Each competitor at 50 and at 1 record a request, zipf keys; or why it could not be measured."""
    return [_measured(competitor, options, folder, disk) for competitor in COMPETITORS]


def _measured(competitor: Competitor, options: Options, folder: Path, disk: Disk) -> dict[str, Any]:
    say(f"{competitor.name}: placing {options.profiles:,} profiles")
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o711)
    try:
        with competitor.start(place / "database", disk) as address:
            competitor.fill(address, options.profiles)
            with application(competitor, place, address) as port:
                return {
                    "name": competitor.name,
                    "processes": competitor.workers,
                    "cells": [_cell(competitor, port, options, *shape) for shape in SHAPES[1:]],
                }
    except databases.MissingError as reason:
        say(f"{competitor.name}: not measured: {reason}")
        return {"name": competitor.name, "missing": str(reason)}
    finally:
        shutil.rmtree(place)


def _cell(competitor: Competitor, port: int, options: Options, size: int, connections: int) -> dict[str, Any]:
    say(f"{competitor.name}: {size}-record requests")
    pool = records.pool(
        size=size,
        records=options.records // 2 if size > 1 else options.records // 8,
        profiles=options.profiles,
        keys="zipf",
        seed=options.seed,
    )
    sent = load.send(port, pool, connections=connections, seconds=options.seconds)
    return {"records_a_request": size, "connections": connections, **sent.figures()}


@contextlib.contextmanager
def application(competitor: Competitor, folder: Path, address: str) -> Iterator[int]:
    """The competitor's application, served by uvicorn on a free port."""
    ready = folder / "app.port"
    with (folder / "app.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.competitors.serve", competitor.module, str(competitor.workers), str(ready)],
            env=os.environ | {competitor.variable: address},
            stdout=log,
            stderr=log,
        )
    try:
        server.wait_for(ready, process, folder / "app.log")
        yield int(ready.read_text())
    finally:
        server.end(process)
