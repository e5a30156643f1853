"""The files of events in a data folder, as `events.db` lists them: where each lies, how large it must be.

Enters: a connection to `events.db`, or a name. Leaves: names within the data folder. It opens no file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import apsw
import msgspec

from mixdown.store.event_listing import Place
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.event_files import EVENTS_FOLDER
from mixdown.store.sqlite.folder import FOLDER_MODE

EVENTS_SUFFIX: Final = ".parquet"
_MAGIC: Final = b"PAR1"
_FILE: Final = re.compile(r"events/\d+/[\w -]+/\d+\.parquet", re.ASCII)


class Listed(msgspec.Struct, frozen=True):
    """A file that is listed: its name within the data folder, its size, and what is gone without it."""

    name: str
    number: int
    project: int
    size_bytes: int
    count: int
    first_ms: int
    last_ms: int


def file_name(project: int, day: int | None, number: int) -> str:
    """Where a file lies within the data folder; `day` counts from 1970, None for a recent file."""
    return f"{EVENTS_FOLDER}/{Place(number, project, day).name}"


def listed_files(events: apsw.Connection) -> list[Listed]:
    """All files that `events.db` lists."""
    found = sqlite.rows(
        events, "SELECT number, project, day, size_bytes, count, first_ms, last_ms FROM files ORDER BY number"
    )
    return [
        Listed(file_name(project, day, number), number, project, *rest)
        for number, project, day, *rest in found
    ]


def is_event_file(name: str) -> bool:
    """Whether a file of events may have this name within a data folder."""
    return _FILE.fullmatch(name) is not None


def make_event_folder(folder: Path, name: str) -> None:
    """Make the folders, closed to others, in which a file of this name is to lie."""
    at = folder
    for part in Path(name).parts[:-1]:
        at /= part
        at.mkdir(mode=FOLDER_MODE, exist_ok=True)


def fault_of(folder: Path, listed: Listed) -> str:
    """What is wrong with a listed file, by its size and its ends; "" where nothing is."""
    try:
        with (folder / listed.name).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - len(_MAGIC)))
            end = file.read()
            file.seek(0)
            begin = file.read(len(_MAGIC))
    except FileNotFoundError:
        return "missing"
    if size != listed.size_bytes:
        return f"of {size} bytes where {listed.size_bytes} are listed"
    return "" if begin == end == _MAGIC else "no Parquet file"
