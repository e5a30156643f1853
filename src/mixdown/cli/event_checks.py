"""What `mixdown doctor` looks at of events: their reader's place in the log, and the files that are listed.

Everything is opened read-only. A file that is there and not listed is no fault: the events reader removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mixdown.cli.findings import reading
from mixdown.query.findings import Finding
from mixdown.settings import Settings
from mixdown.store.duck.sql import parquet
from mixdown.store.sqlite.connection import EVENTS, LOG
from mixdown.store.sqlite.event_files import EVENTS_FOLDER
from mixdown.store.sqlite.events_folder import Listed, fault_of, listed_files

LATE_RECORDS: Final = 100_000
SHOWN: Final = 5
_REPAIR: Final = "Restore the folder from a backup, or see what can be saved: mixdown doctor --repair."


def has_events(folder: Path) -> bool:
    """Whether a folder has events; one of a release before them has not, until a server has started on it."""
    return (folder / EVENTS.file_name).exists() or (folder / EVENTS_FOLDER).exists()


def check_events(settings: Settings) -> Iterator[Finding]:
    """Whether events and log are of one time, and every listed file is there in its size."""
    folder = settings.data_dir
    if not has_events(folder):
        yield Finding("events", "ok", "no events yet: the next start makes events.db")
        return
    if not (folder / EVENTS.file_name).exists():
        message = f"events.db is missing: it lists what lies in {EVENTS_FOLDER}/"
        yield Finding("events", "fail", message, _REPAIR)
        return
    with reading(folder, EVENTS) as connection:
        watermark = int(connection.execute("SELECT watermark FROM reader").get)
        files = listed_files(connection)
        hot = int(connection.execute("SELECT coalesce(sum(count), 0) FROM hot").get)
    with reading(folder, LOG) as connection:
        tail, head = connection.execute(
            "SELECT coalesce((SELECT min(first) FROM chunks), position), position FROM head"
        ).get
    places = f"log head {head}, watermark of events {watermark}"
    broken = [(each, fault) for each in files if (fault := fault_of(folder, each))]
    if watermark > head:
        yield Finding("events", "fail", f"{places}: events.db has taken what the log never held", _REPAIR)
    elif watermark < tail:
        message = f"{places}, and the log begins at {tail}: what lies between is gone"
        yield Finding("events", "fail", message, _REPAIR)
    elif broken:
        told = "; ".join(f"{each.name} is {fault}" for each, fault in broken[:SHOWN])
        lost = sum(each.count for each, _ in broken)
        more = "; …" if len(broken) > SHOWN else ""
        message = f"{len(broken)} of {len(files)} files, with {lost} events: {told}{more}"
        yield Finding("events", "fail", message, _REPAIR)
    elif head - watermark > LATE_RECORDS:
        hint = "If this grows while the server runs, look at its log for the events reader's errors."
        yield Finding("events", "warn", f"{places}: {head - watermark} records wait", hint)
    else:
        held = f"{hot} events in events.db, {sum(each.count for each in files)} in {len(files)} files"
        yield Finding("events", "ok", f"{places}; {held}")


def check_parquet(settings: Settings, tell: Callable[[str], None]) -> Iterator[Finding]:
    """Whether every listed file of events can be read to its end."""
    folder = settings.data_dir
    files: list[Listed] = []
    if (folder / EVENTS.file_name).exists():
        with reading(folder, EVENTS) as connection:
            files = listed_files(connection)
    broken = []
    for number, each in enumerate(files, 1):
        tell(f"reading file {number} of {len(files)} of events")
        fault = fault_of(folder, each) or _content_fault(folder / each.name, each.count)
        if fault:
            broken.append(f"{each.name} is {fault}")
    if broken:
        told = "; ".join(broken[:SHOWN]) + ("; …" if len(broken) > SHOWN else "")
        yield Finding("parquet", "fail", f"{len(broken)} of {len(files)} files of events: {told}", _REPAIR)
    else:
        yield Finding("parquet", "ok", f"{len(files)} files of events, and all of them can be read")


def _content_fault(path: Path, count: int) -> str:
    """What is wrong with a file's content; "" where nothing is, or where it was merged away meanwhile."""
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        try:
            relation = connection.sql(f"SELECT * FROM {parquet([str(path)])}")  # noqa: S608 - a path, quoted
            rows = relation.aggregate(
                "count(*), " + ", ".join(f'count("{_quoted(name)}")' for name in relation.columns)
            )
            found = rows.fetchall()[0][0]
        except duckdb.Error as error:
            return "" if not path.exists() else f"damaged: {str(error).splitlines()[0]}"
    return "" if found == count else f"not whole: it has {found} events, and {count} are listed"


def _quoted(name: str) -> str:
    return name.replace('"', '""')
