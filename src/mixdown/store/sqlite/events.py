"""Events in a data folder: what `store.filed_events` does, over `events.db` and the folder `events`."""

from __future__ import annotations

from pathlib import Path

from mixdown.store.filed_events import FiledEvents
from mixdown.store.shelves import FolderShelf
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.event_files import EVENTS_FOLDER
from mixdown.store.sqlite.event_listing import SqliteListing


class SqliteEvents(FiledEvents):
    """`Events` in a data folder. Any process may open it; one alone may write."""

    listing: SqliteListing

    def __init__(self, folder: Path) -> None:
        path, files = folder / sqlite.EVENTS.file_name, folder / EVENTS_FOLDER
        super().__init__(SqliteListing(path, files, self.committing), FolderShelf(files))

    def begin(self, tail: int) -> int:
        """Begin at the log's tail where nothing was ever stored; the watermark."""
        return self.listing.begin(tail)
