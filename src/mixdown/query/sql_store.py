"""SQL over one project of a store that is no folder of files: the guard, fed by the store's protocols.

The query runs in SQLite, on virtual tables that hold one project's rows and nothing else: no text of a query
ever reaches the database, which is asked fixed statements with values. So what a query may do, and how it is
kept from doing more, is the same as over files (`store/sqlite/guarded.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from mixdown.query.sql_history import TABLE, add_history
from mixdown.query.sql_rows import add_records, add_rows
from mixdown.store.protocols import Store
from mixdown.store.sqlite import guarded
from mixdown.store.sqlite.guarded import Guard

RECORDS_VIEW: Final = """
CREATE TEMP VIEW records AS
SELECT position, strftime('%Y-%m-%dT%H:%M:%S', time_ms / 1000, 'unixepoch') AS time, project_id,
       endpoint, sdk, group_key, id, operations
FROM main.records_stored"""


def open_rows(store: Store, projects: Sequence[int]) -> apsw.Connection:
    """A connection with the views of these projects, of all refusals and of the log's records: unguarded."""
    connection = apsw.Connection(":memory:")
    names = {name: f"{name}_stored" for name in guarded.VIEWS}
    add_rows(connection, store, projects, names, refused_of=None, hide=guarded.hiding(None))
    add_records(connection, store, "records_stored")
    for sql in guarded.VIEW_SQL:
        connection.execute(sql.format(tag="stored", schema="main"))
    connection.execute(RECORDS_VIEW)
    return connection


class StoreGuard(Guard):
    """A connection that sees the views of one project of a store, and nothing else."""

    def __init__(
        self,
        store: Store,
        project: int,
        *,
        timeout_s: float,
        memory_bytes: int,
        hidden: Sequence[str] | None = None,
    ) -> None:
        self._store = store
        self._fields_hidden = hidden
        super().__init__(Path(os.devnull), project, timeout_s=timeout_s, memory_bytes=memory_bytes)

    def _open(self, folder: Path) -> frozenset[str]:
        del folder
        names = {name: f"{name}_{self._tag}" for name in guarded.VIEWS}
        hide = guarded.hiding(self._fields_hidden)
        add_history(self.connection, self._store.state, {self._project})
        own = [self._project]
        rows = add_rows(self.connection, self._store, own, names, refused_of=own, hide=hide)
        return frozenset((TABLE, *rows))

    def _open_descriptors(self) -> int:
        return _fill_descriptors()

    def _is_searched_by_project(self, query: str, params: Sequence[Any] | dict[str, Any]) -> bool:
        super()._is_searched_by_project(query, params)  # sees that it is one query
        return True  # there are no other rows

    def _make_views(self, *, apart: bool) -> None:
        del apart
        for sql in guarded.VIEW_SQL:
            self.connection.execute(sql.format(tag=self._tag, schema="main"))


def _fill_descriptors() -> int:
    """How many descriptors are open, once none is free below the highest: with that bound none can be opened.

    The bound itself cannot be 0 here: `poll` refuses to watch more than may be open, and what is connected
    is watched.
    """
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    while (last := os.open(os.devnull, os.O_RDONLY)) < highest:
        pass
    return last + 1
