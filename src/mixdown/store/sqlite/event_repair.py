"""Repairs of events: a list that is gone, files that are gone or cut off, a place that does not fit the log.

Enters: a folder whose lock the caller holds. Leaves: `Repair`s, as `store.sqlite.repair` makes them. No file
of events is ever deleted here: what no list names any more is kept beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mixdown.model.times import iso_seconds
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.event_files import EVENTS_FOLDER
from mixdown.store.sqlite.events_folder import Listed, fault_of, listed_files
from mixdown.store.sqlite.folder import FOLDER_MODE, sync_folder
from mixdown.store.sqlite.repairing import Repair, new_file, reading, remains, tail_and_head, writing

SHOWN = 5


def missing_list(folder: Path) -> Iterator[Repair]:
    """`events.db` is gone, and files that it listed are there."""
    path = folder / sqlite.EVENTS.file_name
    files = folder / EVENTS_FOLDER
    if (path.exists() and path.stat().st_size > 0) or not files.exists():
        return
    with reading(folder, sqlite.LOG) as log:
        tail, _ = tail_and_head(log)
    count = sum(1 for _ in files.rglob("*.parquet"))
    old = ", keep what there is of the old one" if remains(path) else ""
    yield Repair(
        "files",
        f"{path.name} is missing or empty: it listed the {count} files in {EVENTS_FOLDER}/",
        f"make a new one{old}, take events from the log again as far as that reaches back (position {tail}),"
        f" and keep the files as {_beside(folder).name}/, from which they can be imported",
        "the list, so that reads see nothing of these files; and events before that position that were in no"
        " file yet",
        make=lambda: _begin_anew(folder, tail),
    )


def _begin_anew(folder: Path, tail: int) -> None:
    (folder / EVENTS_FOLDER).rename(_beside(folder))
    new_file(folder, sqlite.EVENTS)
    (folder / EVENTS_FOLDER).mkdir(mode=FOLDER_MODE)
    sync_folder(folder)
    with writing(folder, sqlite.EVENTS) as events:
        sqlite.rows(events, "UPDATE reader SET watermark = ?", (tail,))


def _beside(folder: Path) -> Path:
    """Where files go that no list names."""
    number = 1
    while (folder / f"{EVENTS_FOLDER}.damaged-{number}").exists():
        number += 1
    return folder / f"{EVENTS_FOLDER}.damaged-{number}"


def broken_files(folder: Path) -> Iterator[Repair]:
    """Files that are listed, and missing or not what they were."""
    if not (folder / sqlite.EVENTS.file_name).exists():
        return
    with reading(folder, sqlite.EVENTS) as events:
        broken = [(each, fault) for each in listed_files(events) if (fault := fault_of(folder, each))]
    if not broken:
        return
    told = "; ".join(f"{each.name} is {fault}" for each, fault in broken[:SHOWN])
    more = "; …" if len(broken) > SHOWN else ""
    yield Repair(
        "events",
        f"{len(broken)} listed files of events are not whole: {told}{more}",
        f"take them from the list, and keep what is there of them in {_beside(folder).name}/",
        "; ".join(map(_lost, (each for each, _ in broken[:SHOWN]))) + more,
        make=lambda: _unlist(folder, [each for each, _ in broken]),
    )


def _lost(listed: Listed) -> str:
    first, last = iso_seconds(listed.first_ms), iso_seconds(listed.last_ms)
    return f"{listed.count} events of project {listed.project} from {first} to {last}"


def _unlist(folder: Path, broken: list[Listed]) -> None:
    kept = _beside(folder)
    for each in broken:
        if (folder / each.name).exists():
            kept.mkdir(mode=FOLDER_MODE, exist_ok=True)
            (folder / each.name).rename(kept / Path(each.name).name)
    if kept.exists():
        sync_folder(kept)
        sync_folder(folder)
    with writing(folder, sqlite.EVENTS) as events:
        numbers = [(each.number,) for each in broken]
        events.executemany("DELETE FROM dead WHERE file = ?", numbers)
        events.executemany("DELETE FROM files WHERE number = ?", numbers)


def watermark(folder: Path) -> Iterator[Repair]:
    """The log has dropped what the events reader had not taken."""
    if not (folder / sqlite.EVENTS.file_name).exists():
        return
    place = events_watermark(folder)
    with reading(folder, sqlite.LOG) as log:
        tail, _ = tail_and_head(log)
    if place < tail:
        yield Repair(
            "events",
            f"events.db has taken the log up to position {place}, and log.db begins at {tail}",
            f"let the events reader go on at {tail}",
            f"the events at positions {place} to {tail - 1}, if there were any",
            make=lambda: _move(folder, tail),
        )


def events_watermark(folder: Path) -> int:
    """How far the events reader had come; 0 where a folder has no events."""
    path = folder / sqlite.EVENTS.file_name
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with reading(folder, sqlite.EVENTS) as events:
        return int(sqlite.value(events, "SELECT watermark FROM reader"))


def _move(folder: Path, position: int) -> None:
    with writing(folder, sqlite.EVENTS) as events:
        sqlite.rows(events, "UPDATE reader SET watermark = ?", (position,))
