"""`make bench` and `make bench-full`: see `python -m bench --help`."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import disk as disks
from bench import floors, machine, options, parts, report, server
from bench.competitors.databases import versions
from bench.competitors.part import competitors
from bench.growth import growth
from bench.progress import say

ASSUMED_SUSTAINED_S = 40_000.0
"""Where no sustained rate was measured in the run, the readable part takes this one."""


def main(arguments: list[str] | None = None) -> None:
    """Measure what the command line asks for, print it as tables, and keep it where asked to."""
    chosen = options.read(arguments)
    with _folder(chosen) as folder:
        disks.refuse_full(folder, chosen.needed_bytes())
        result: dict[str, Any] = {"machine": machine.facts(folder), "options": chosen.as_json(), "disks": {}}
        if "competitors" in chosen.parts:
            result["machine"]["databases"] = versions()
        if result["machine"]["file_system"] in ("tmpfs", "ramfs"):
            say("this folder is in memory, where a flush costs nothing: name one on a disk with --folder")
        measured = [disks.disk_of(name, folder) for name in chosen.disks]
        result["disks"] = {disk.name: {"added_ms": disk.added_ms} for disk in measured}
        for disk, part, figures in _measure(chosen, folder, measured):
            _keep(result["disks"][disk.name], part, figures)
            if chosen.save:
                report.save(chosen.save, result)
    print(report.markdown(result))
    if chosen.save:
        say(f"kept in {report.save(chosen.save, result)}")


def _keep(measured: dict[str, Any], part: str, figures: Any) -> None:
    """Put a part's figures to those that it has given before, by keys or in a list."""
    if isinstance(measured.get(part), dict):
        measured[part] |= figures
    elif isinstance(measured.get(part), list):
        measured[part] += figures
    else:
        measured[part] = figures


def _measure(
    chosen: options.Options, folder: Path, measured: list[disks.Disk]
) -> Iterator[tuple[disks.Disk, str, Any]]:
    """Measure all parts on all disks; figures as they come."""
    for disk in measured:
        if any(part in options.QUICK for part in chosen.parts):
            with _place(folder, chosen.data) as place:
                for part, figures in _one_server(chosen, place, disk):
                    yield disk, part, figures
        if "competitors" in chosen.parts:
            for figures in competitors(chosen, folder, disk):
                yield disk, "competitors", [figures]
    if "growth" in chosen.parts:
        with _place(folder) as place:
            for disk, figures in growth(chosen, place, measured):
                yield disk, "growth", [figures]


@contextmanager
def _folder(chosen: options.Options) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user, in a folder of its own below this one
        yield folder


@contextmanager
def _place(folder: Path, kept: Path | None = None) -> Iterator[Path]:
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


def _end(signum: int, frame: object) -> None:
    """End as after Ctrl-C: servers ended, folders removed."""
    del frame
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    main()
