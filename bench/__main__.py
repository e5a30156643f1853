"""`make bench` and `make bench-full`: see `python -m bench --help`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import disk as disks
from bench import floors, machine, options, parts, report, server
from bench.competitors.part import competitors
from bench.progress import say

ASSUMED_SUSTAINED_S = 40_000.0
"""Where no sustained rate was measured in the run, the readable part takes this one."""


def main(arguments: list[str] | None = None) -> None:
    """Measure what the command line asks for, print it as tables, and keep it where asked to."""
    chosen = options.read(arguments)
    with _folder(chosen) as folder:
        disks.refuse_full(folder, chosen.needed_bytes())
        result: dict[str, Any] = {
            "machine": machine.facts(folder),
            "options": chosen.as_json(),
            "disks": {},
        }
        if result["machine"]["file_system"] in ("tmpfs", "ramfs"):
            say("this folder is in memory, where a flush costs nothing: name one on a disk with --folder")
        for name in chosen.disks:
            disk = disks.PLAIN if name == "plain" else disks.slow_disk(folder, vfs=chosen.vfs)
            measured: dict[str, Any] = {"added_ms": disk.added_ms, "how": disk.how}
            result["disks"][name] = measured
            for part, figures in measure(chosen, folder, disk):
                if isinstance(figures, dict) and isinstance(measured.get(part), dict):
                    measured[part] |= figures
                else:
                    measured[part] = figures
                if chosen.save:
                    report.save(chosen.save, result)
    print(report.markdown(result))
    if chosen.save:
        say(f"kept in {report.save(chosen.save, result)}")


@contextmanager
def _folder(chosen: options.Options) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user, in a folder of its own below this one
        yield folder


def measure(chosen: options.Options, folder: Path, disk: disks.Disk) -> Iterator[tuple[str, Any]]:
    """Measure on one disk; each part's figures as they come."""
    if any(part in options.QUICK for part in chosen.parts):
        with _fresh(folder, chosen.data) as place:
            yield from _one_server(chosen, place, disk)
    if "competitors" in chosen.parts:
        yield "competitors", competitors(chosen, folder, disk)


@contextmanager
def _fresh(folder: Path, kept: Path | None = None) -> Iterator[Path]:
    """A folder for one server, removed afterwards unless it is to be kept."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def _one_server(chosen: options.Options, place: Path, disk: disks.Disk) -> Iterator[tuple[str, Any]]:
    if not (place / "data").exists():
        say(f"{disk.name} disk: placing {chosen.profiles:,} profiles")
        server.place(place / "data", 0, chosen.profiles)
    with server.serving(place, disk.server) as running, ExitStack() as stack:
        bench = parts.Bench(chosen, place, disk, running)
        sustained: dict[str, float] = {}
        if "import" in chosen.parts:
            yield "import", parts.imported(bench)
        if "ack" in chosen.parts:
            for keys in chosen.keys:
                cells = parts.acknowledged(bench, keys)
                sustained[keys] = cells[1]["sustained_records_s"]
                yield "ack", {keys: cells}
        if "keyed" in chosen.parts:
            for keys in chosen.keys:
                yield "keyed", {keys: parts.keyed(bench, keys)}
        if "fold" in chosen.parts:
            say("a copy of the documents, for the fold's floor")
            shutil.rmtree(place / "floor", ignore_errors=True)
            floor = floors.UpsertFloor(place, running.store.state)
            stack.callback(shutil.rmtree, place / "floor")
            stack.callback(floor.close)
            for keys in chosen.keys:
                yield "fold", {keys: parts.fold_alone(bench, keys, floor)}
        if "readable" in chosen.parts:
            keys = chosen.keys[0]
            yield "readable", {keys: parts.readable(bench, keys, sustained.get(keys, ASSUMED_SUSTAINED_S))}


if __name__ == "__main__":
    main()
