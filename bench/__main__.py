"""`make bench`: load a server over HTTP; print its figures beside the floors of the same run."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench import floors, load, machine, records
from mixdown.store.protocols import Store
from mixdown.store.sqlite import open_store

TOKEN = "bench0000000000000000000000token"
RESULTS = Path(__file__).parent / "results"
START_LIMIT_S = 30.0
CATCH_UP_LIMIT_S = 600.0


@dataclass(frozen=True)
class Server:
    """A running `mixdown serve` on a folder of its own; `store` looks at the same files."""

    port: int
    folder: Path
    store: Store

    def behind(self) -> int:
        """How many records wait to be folded."""
        return self.store.log.head() - self.store.state.watermark()

    def wait_until_folded(self) -> float:
        """Wait until the fold has caught up; seconds waited."""
        began = time.perf_counter()
        while time.perf_counter() - began < CATCH_UP_LIMIT_S:
            if not self.behind():
                return time.perf_counter() - began
            time.sleep(0.005)
        raise RuntimeError("the fold did not catch up")


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server on a free port, ended by its own process id."""
    environment = os.environ | {
        "MIXDOWN_TOKEN": TOKEN,
        "MIXDOWN_DISK_RESERVE_BYTES": "0",
        "MIXDOWN_DISK_RESERVE_PERCENT": "0",
    }
    data = folder / "data"
    command = [sys.executable, "-m", "mixdown", "serve", "--port", "0", "--data-dir", str(data)]
    with (folder / "serve.log").open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        began = time.perf_counter()
        ready = data / "server.json"
        while not ready.exists():
            if process.poll() is not None or time.perf_counter() - began > START_LIMIT_S:
                raise RuntimeError((folder / "serve.log").read_text())
            time.sleep(0.05)
        store = open_store(data, role="cli", create=False)
        try:
            yield Server(int(json.loads(ready.read_text())["address"].rsplit(":", 1)[1]), data, store)
        finally:
            store.close()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _cell(server: Server, *, size: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One cell: `size` records a request for `options.seconds`, then until the fold has caught up."""
    count = max(24, 120_000 // size // 10)
    bodies = records.bodies(
        token=TOKEN,
        size=size,
        count=count,
        profiles=options.profiles,
        keys=options.keys,
        seed=options.seed,
    )
    requests = [load.request_bytes(body, server.port) for body in bodies]
    before = server.store.state.watermark()
    began = time.perf_counter()
    result = load.send(server.port, requests, size=size, connections=8, seconds=options.seconds)
    folded_meanwhile = server.store.state.watermark() - before
    server.wait_until_folded()
    whole_s = time.perf_counter() - began
    floor = floors.decode_and_append(folder, bodies, size=size, seconds=min(3.0, options.seconds))
    acknowledged = result.records / result.elapsed_s
    return {
        "records_a_request": size,
        "acknowledged_records_s": round(acknowledged),
        "folded_meanwhile_records_s": round(folded_meanwhile / result.elapsed_s),
        "sustained_records_s": round(result.records / whole_s),
        "floor_append_records_s": round(floor),
        "acknowledged_to_floor": round(acknowledged / floor, 3),
        "p50_ms": round(result.percentile_ms(50), 2),
        "p99_ms": round(result.percentile_ms(99), 2),
        "bytes_a_record": round(sum(map(len, bodies)) / (size * count)),
    }


def _floor_upsert(server: Server, options: argparse.Namespace, folder: Path) -> float:
    source = random.Random(options.seed + 1)
    choose = records.key_chooser(options.keys, options.profiles, source)
    batches = ([f"user-{choose():08d}" for _ in range(100_000)] for _ in range(5))
    return floors.upsert(folder, server.store.state, batches)


def _fold_alone(server: Server, options: argparse.Namespace) -> float:
    """Records/s of the fold with nothing else to do: the rest of a backlog after the load has stopped."""
    size = 2000
    keys, seed = options.keys, options.seed + 2
    bodies = records.bodies(token=TOKEN, size=size, count=60, profiles=options.profiles, keys=keys, seed=seed)
    requests = [load.request_bytes(body, server.port) for body in bodies] * 4
    load.send(server.port, requests, size=size, connections=8, seconds=0)
    behind = server.behind()
    waited = server.wait_until_folded()
    return float(behind / waited) if waited and behind else 0.0


COLUMNS = {
    "records a request": "records_a_request",
    "acknowledged/s": "acknowledged_records_s",
    "sustained/s (folded too)": "sustained_records_s",
    "floor: decode + append + fsync": "floor_append_records_s",
    "acknowledged : floor": "acknowledged_to_floor",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
}


def _table(result: dict[str, Any]) -> str:
    rows = [list(COLUMNS), ["---"] * len(COLUMNS)]
    rows += [[f"{cell[field]:,}" for field in COLUMNS.values()] for cell in result["cells"]]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    fold = f"fold alone {result['fold_alone_records_s']:,} records/s"
    floor = f"the same documents upserted with no logic {result['floor_upsert_records_s']:,} records/s"
    return "\n".join([*lines, "", f"{fold}; floor: {floor}; ratio {result['fold_to_floor']}"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each load (default 10)")
    parser.add_argument("--profiles", type=int, default=200_000, help="profiles in place (default 200,000)")
    parser.add_argument("--keys", choices=("zipf", "uniform"), default="zipf")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", action="store_true", help="write the raw result into bench/results/")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark and print it."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-") as name:
        folder = Path(name)
        result: dict[str, Any] = {"machine": machine.facts(folder), "options": vars(options)}
        with serving(folder) as server:
            print(f"making {options.profiles:,} profiles …", file=sys.stderr)
            makers = [
                load.request_bytes(body, server.port)
                for body in records.first_bodies(token=TOKEN, profiles=options.profiles, size=2000)
            ]
            began = time.perf_counter()
            load.send(server.port, makers, size=2000, connections=4, seconds=0)
            server.wait_until_folded()
            result["import_records_s"] = round(options.profiles / (time.perf_counter() - began))
            result["cells"] = []
            for size in (2000, 50):
                print(f"{options.seconds:g} s of {size}-record requests …", file=sys.stderr)
                result["cells"].append(_cell(server, size=size, options=options, folder=folder))
            print("the fold alone, and its floor …", file=sys.stderr)
            result["fold_alone_records_s"] = round(_fold_alone(server, options))
            result["floor_upsert_records_s"] = round(_floor_upsert(server, options, folder))
            result["fold_to_floor"] = round(
                result["fold_alone_records_s"] / max(1, result["floor_upsert_records_s"]), 3
            )
    print(_table(result))
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"first-{options.keys}.json"
        path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
        print(f"written to {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
