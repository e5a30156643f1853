"""The parts that load one server: what is acknowledged, sustained, folded, read back, and imported."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import floors, load, records
from bench import server as servers
from bench.disk import Disk
from bench.options import Options
from bench.progress import say

SHAPES: Final = ((2000, 8), (50, 32), (1, 64))
"""Records in a request, and connections that send at a time."""
FLOOR_S: Final = 3.0
READABLE_FACTOR: Final = 3
"""The readable part takes so many times `seconds`, so that checkpoints fall into it."""
IMPORT_SHARE: Final = 0.3


@dataclass
class Bench:
    """One disk's run: the server that is measured, and a folder for what the measuring needs."""

    options: Options
    folder: Path
    disk: Disk
    server: servers.Server

    def pool(self, size: int, keys: str, *, insert_ids: bool = False, salt: int = 0) -> records.Pool:
        """A pool of requests as the options want it; another `salt` draws other records."""
        return records.pool(
            size=size,
            records=self.options.records if size > 1 else self.options.records // 4,
            profiles=self.options.profiles,
            keys=keys,
            seed=self.options.seed + salt,
            insert_ids=insert_ids,
        )

    def send(self, pool: records.Pool, connections: int, **options: Any) -> load.Load:
        """Load the server; `options` as `load.send` takes them."""
        return load.send(self.server.port, pool, connections=connections, **options)


def acknowledged(bench: Bench, keys: str, shapes: Sequence[tuple[int, int]] = SHAPES) -> list[dict[str, Any]]:
    """A burst at each shape, and on until the fold has caught up; beside it the floors of the same bytes."""
    return [_cell(bench, keys, size, connections) for size, connections in shapes]


def keyed(bench: Bench, keys: str) -> dict[str, Any]:
    """As `acknowledged` at 50 records a request, with an `$insert_id` on every record."""
    size, connections = SHAPES[1]
    say(f"{keys}: {size}-record requests, a key on every record")
    return _burst(bench, bench.pool(size, keys, insert_ids=True), connections)


def _cell(bench: Bench, keys: str, size: int, connections: int) -> dict[str, Any]:
    say(f"{keys}: {size}-record requests, {connections} connections")
    pool = bench.pool(size, keys)
    cell = _burst(bench, pool, connections)
    seconds = min(FLOOR_S, bench.options.seconds)
    appended = floors.decode_and_append(
        bench.folder, pool, together=connections, seconds=seconds, disk=bench.disk
    )
    echo = floors.echo(bench.folder, pool, connections=connections, seconds=seconds).figures()
    cell["floor_append_records_s"] = round(appended)
    cell["floor_echo_records_s"] = echo["records_s"]
    cell["floor_echo_p99_ms"] = echo["p99_ms"]
    return cell


def _burst(bench: Bench, pool: records.Pool, connections: int) -> dict[str, Any]:
    server = bench.server
    pids = server.pids()
    watermark, written, cpu = server.store.state.watermark(), servers.written_bytes(pids), servers.cpu_s(pids)
    began = time.perf_counter()
    sent = bench.send(pool, connections, seconds=bench.options.seconds)
    folded = server.store.state.watermark() - watermark
    server.wait_until_folded()
    whole_s = time.perf_counter() - began
    cpu_after = servers.cpu_s(pids)
    return {
        "records_a_request": pool.size,
        "connections": connections,
        **sent.figures(),
        "folded_meanwhile_records_s": round(folded / sent.elapsed_s),
        "sustained_records_s": round(sent.records / whole_s),
        "written_bytes_a_record": round((servers.written_bytes(pids) - written) / sent.records),
        **{f"{role}_cpu_us_a_record": _us(cpu, cpu_after, role, sent.records) for role in _roles(server)},
        "request_bytes_a_record": round(sum(map(len, pool.requests)) / len(pool) / pool.size),
    }


def _roles(server: servers.Server) -> tuple[str, ...]:
    return ("worker", "fold", "database") if server.database_pid else ("worker", "fold")


def _us(before: dict[str, float], after: dict[str, float], role: str, records: int) -> float:
    return round(1e6 * (after[role] - before[role]) / records, 2)


def fold_alone(bench: Bench, keys: str, floor: floors.UpsertFloor) -> dict[str, Any]:
    """The fold with nothing else to do, beside its floor: the documents of the same records upserted."""
    figures, sent = folded(bench, keys)
    say(f"{keys}: its floor")
    ids = [row["$distinct_id"] for request in sent for row in records.parsed(request)]
    floor_s, floor_cpu_us = floor.records_s(ids)
    return {
        **figures,
        "profiles": len(set(ids)),
        "floor_records_s": round(floor_s),
        "of_floor": round(figures["records_s"] / floor_s, 3),
        "floor_cpu_us_a_record": floor_cpu_us,
        "of_floor_cpu": round(floor_cpu_us / figures["cpu_us_a_record"], 3),
    }


def folded(bench: Bench, keys: str) -> tuple[dict[str, Any], list[bytes]]:
    """The fold on a backlog that was made while it was held still; its figures, and the requests."""
    say(f"{keys}: the fold alone")
    pool = bench.pool(SHAPES[0][0], keys, salt=1)
    server = bench.server
    server.wait_until_folded()
    pids = server.pids()
    with server.fold_stopped():
        bench.send(pool, SHAPES[0][1])
        waiting, cpu, written = server.behind(), servers.cpu_s(pids), servers.written_bytes(pids)
    seconds = server.wait_until_folded()
    cpu_after = servers.cpu_s(pids)
    figures = {
        "records": waiting,
        "records_s": round(waiting / seconds),
        "cpu_us_a_record": _us(cpu, cpu_after, "fold", waiting),
        **(
            {"database_cpu_us_a_record": _us(cpu, cpu_after, "database", waiting)}
            if server.database_pid
            else {}
        ),
        "written_bytes_a_record": round((servers.written_bytes(pids) - written) / waiting),
    }
    return figures, pool.requests


def readable(bench: Bench, keys: str, sustained_s: float) -> dict[str, Any]:
    """From acknowledged to readable, while half of `sustained_s` comes in."""
    size, connections = SHAPES[1]
    seconds = READABLE_FACTOR * bench.options.seconds
    say(f"{keys}: from acknowledged to readable, at {sustained_s / 2:,.0f} records/s for {seconds:g} s")
    pool = bench.pool(size, keys, salt=2)
    command = [sys.executable, "-m", "bench.probe", str(bench.server.port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as probe:
        sent = bench.send(
            pool,
            connections,
            seconds=seconds + 5,
            records_s=sustained_s / 2,
            stop=lambda: probe.poll() is not None,
        )
        said, _ = probe.communicate(timeout=60)
    bench.server.wait_until_folded()
    if probe.returncode:
        raise RuntimeError("the probe failed")
    probed: dict[str, Any] = json.loads(said)
    return {"offered_records_s": round(sustained_s / 2), "load": sent.figures(), **probed}


def imported(bench: Bench) -> dict[str, Any]:
    """New profiles in no order, beside those in place, until they are folded."""
    count = int(bench.options.profiles * IMPORT_SHARE)
    say(f"importing {count:,} new profiles")
    size, connections = SHAPES[0]
    # beyond the numbers that loads draw from; elsewhere each time, where the data is kept
    start = bench.options.profiles + int(time.time()) % 100_000 * 1000
    pool = records.new_profiles(start, start + count, size=size)
    began = time.perf_counter()
    bench.send(pool, connections)
    bench.server.wait_until_folded()
    return {"profiles": count, "profiles_s": round(count / (time.perf_counter() - began))}
