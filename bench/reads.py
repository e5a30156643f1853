"""`python -m bench.reads`: reads of many profiles, quiet and while updates come in, with indexes and without.

One server, started anew where a setting changes. Reads are timed by a client in a process of its own
(`bench.reader`), the load is this process's. Beside them: what history and indexes cost the fold, how long
an index takes to be built and properties to be counted, and a whole export.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench import machine, parts, report
from bench import server as servers
from bench.disk import Disk
from bench.options import Options
from bench.progress import say

LOAD_RECORDS_S: Final = 20_000
PLAIN: Final = ("by id", "two properties", "next page", "properties", "count", "one company", "one plan")
INDEXED: Final = ("one company", "one plan", "two properties", "by id")
INDEXES: Final = ("company", "plan")
COST_INDEX: Final = "score"
"""An index that many records of the load change: what an index costs at most."""
EXPORTS: Final = ("ndjson", "parquet")
BUILT_LIMIT_S: Final = 900.0
_PLAIN_DISK: Final = Disk("plain", 0.0, {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and keep the result where asked to."""
    chosen = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        options = Options(
            profiles=chosen.profiles, seconds=chosen.seconds, records=chosen.records, keys=("zipf", "uniform")
        )
        result: dict[str, Any] = {
            "machine": machine.facts(folder),
            "options": {"profiles": chosen.profiles, "seconds": chosen.seconds},
        }
        say(f"placing {chosen.profiles:,} profiles")
        servers.place(folder / "data", 0, chosen.profiles)
        measure(folder, options, result)
    print(report.reads(result))
    if chosen.save:
        say(f"kept in {report.save_reads(chosen.save, result)}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.reads", description=__doc__)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=40.0, help="for all reads of a run together (40)")
    parser.add_argument("--records", type=int, default=400_000, help="distinct records of a load (400,000)")
    parser.add_argument("--folder", type=Path, help="where to measure: a temporary folder is made in it")
    parser.add_argument(
        "--save", nargs="?", const="reads", default="", metavar="NAME", help="keep the results"
    )
    return parser.parse_args(arguments)


def measure(folder: Path, options: Options, result: dict[str, Any]) -> None:
    """Measure everything into `result`, on the profiles in `folder`/data."""
    with servers.serving(folder, {}) as running:
        bench = parts.Bench(options, folder, _PLAIN_DISK, running)
        say("counting properties")
        result["counting_s"] = _until(lambda: not running.store.state.uncounted())
        result["reads"] = {"plain": _quiet_and_loaded(bench, PLAIN)}
        say("exports")
        result["exports"] = {form: _export(running, folder / f"users.{form}") for form in EXPORTS}
        say("the fold, with history")
        result["fold"] = {"history": {keys: _fold(bench, keys) for keys in options.keys}}
        say(f"an index on {COST_INDEX}")
        _add_index(running, COST_INDEX)
        result["fold"]["history and index"] = {keys: _fold(bench, keys) for keys in options.keys}
        running.store.state.drop_property_index(servers.PROJECT, "", COST_INDEX)
        result["indexes"] = {}
        for name in INDEXES:
            say(f"an index on {name}")
            result["indexes"][name] = {"built_s": _add_index(running, name)}
        result["reads"]["indexed"] = _quiet_and_loaded(bench, INDEXED)
        for name in INDEXES:
            running.store.state.drop_property_index(servers.PROJECT, "", name)
    with servers.serving(folder, {"MIXDOWN_HISTORY_RETENTION_DAYS": "0"}) as running:
        say("the fold, without history")
        bench = parts.Bench(options, folder, _PLAIN_DISK, running)
        result["fold"]["neither"] = {keys: _fold(bench, keys) for keys in options.keys}


def _until(done: Any) -> float:
    began = time.perf_counter()
    while not done():
        if time.perf_counter() - began > BUILT_LIMIT_S:
            raise RuntimeError("what the fold does beside its work did not end")
        time.sleep(0.05)
    return round(time.perf_counter() - began, 1)


def _add_index(running: servers.Server, name: str) -> float:
    """Ask for an index; seconds until it is used."""
    running.store.state.add_property_index(servers.PROJECT, "", name)

    def complete() -> bool:
        return all(index.complete for index in running.store.state.property_indexes(servers.PROJECT))

    return _until(complete)


def _fold(bench: parts.Bench, keys: str) -> dict[str, Any]:
    return parts.folded(bench, keys)[0]


def _quiet_and_loaded(bench: parts.Bench, kinds: Sequence[str]) -> dict[str, Any]:
    say("reads, quiet")
    quiet = _read(bench, kinds).communicate()[0]
    say(f"reads, while {LOAD_RECORDS_S:,} records/s come in")
    size, connections = parts.SHAPES[1]
    pool = bench.pool(size, "zipf", salt=3)
    with _read(bench, kinds) as reading:
        sent = bench.send(
            pool,
            connections,
            seconds=BUILT_LIMIT_S,
            records_s=LOAD_RECORDS_S,
            stop=lambda: reading.poll() is not None,
        )
        loaded = reading.communicate()[0]
    if reading.returncode:
        raise RuntimeError("the reader failed")
    bench.server.wait_until_folded()
    return {"quiet": json.loads(quiet), "loaded": json.loads(loaded), "load": sent.figures()}


def _read(bench: parts.Bench, kinds: Sequence[str]) -> subprocess.Popen[bytes]:
    options = bench.options
    command = [sys.executable, "-m", "bench.reader", str(bench.server.port), str(options.seconds)]
    return subprocess.Popen([*command, str(options.profiles), *kinds], stdout=subprocess.PIPE)


def _export(running: servers.Server, file: Path) -> dict[str, Any]:
    """A whole export beside the running server."""
    command = [sys.executable, "-m", "mixdown", "profiles", "export", str(file)]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--project", str(servers.PROJECT), "--data-dir", str(running.data)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - began
    figures = {"seconds": round(seconds, 1), "mib": round(file.stat().st_size / 2**20, 1)}
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    return figures


if __name__ == "__main__":
    main()
