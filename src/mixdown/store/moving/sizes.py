"""How much a data folder holds, for an estimate. Nothing is changed, and nothing is waited for."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec

from mixdown.model.errors import StoreError
from mixdown.store.sqlite import connection as sqlite


class Sizes(msgspec.Struct, frozen=True):
    """What there is to copy; `copied_bytes` is the room that it takes on the folder's disk meanwhile."""

    profiles: int
    history_bytes: int
    events: int
    events_bytes: int
    log_records: int
    copied_bytes: int

    def as_dict(self) -> dict[str, int]:
        """The same by name."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


def sizes_of(folder: Path) -> Sizes:
    """How much a folder holds. Raises `StoreError`."""
    if not (folder / sqlite.STATE.file_name).exists():
        raise StoreError(
            f"there is no Mixdown data in {folder}", hint="Name the server's folder: --from DIR."
        )

    def asked(kind: sqlite.Kind, statement: str) -> int:
        path = folder / kind.file_name
        if not path.exists():  # an older version has written the folder
            return 0
        with sqlite.store_errors(str(path)), closing(sqlite.connect(path, kind)) as connection:
            return int(sqlite.value(connection, statement))

    return Sizes(
        profiles=asked(sqlite.STATE, "SELECT count(*) FROM profiles"),
        history_bytes=asked(sqlite.STATE, "SELECT coalesce(sum(bytes), 0) FROM history_segments")
        if asked(sqlite.STATE, "SELECT count(*) FROM sqlite_master WHERE name = 'history_segments'")
        else 0,  # an older version has written it, and the copy will bring its own up to date
        events=asked(
            sqlite.EVENTS,
            "SELECT (SELECT coalesce(sum(count), 0) FROM files) + (SELECT coalesce(sum(count), 0) FROM hot)",
        ),
        events_bytes=asked(sqlite.EVENTS, "SELECT coalesce(sum(size_bytes), 0) FROM files"),
        log_records=asked(
            sqlite.LOG,
            "SELECT position - coalesce((SELECT min(first) FROM chunks), position) FROM head",
        ),
        copied_bytes=sum(
            path.stat().st_size
            for kind in (sqlite.STATE, sqlite.EVENTS)
            if (path := folder / kind.file_name).exists()
        ),
    )
