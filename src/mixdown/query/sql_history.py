"""`history` as a table of SQL: what each record changed in each property, read out of the kept history.

A state and the projects that may be seen enter; a table of a connection leaves. It shows those projects' rows
and no others, whatever a query asks of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import SimpleNamespace
from typing import Any, Final, cast

import apsw
import apsw.ext
import msgspec
import orjson

from mixdown.model.times import iso_seconds
from mixdown.query.history import HistoryEntry, history_rows
from mixdown.store.protocols import State, Store

TABLE: Final = "history"
COLUMNS: Final = (
    "project_id",
    "group_key",
    "id",
    "time",
    "position",
    "property",
    "operator",
    "old",
    "new",
    "added",
    "removed",
    "whole",
    "endpoint",
    "sdk",
)


def add_history(connection: apsw.Connection, state: State, projects: Collection[int]) -> None:
    """Give a connection the table `history` over these projects.

    `of_project`, `of_group_key` and `of_id`, compared by `=`, choose what is read at all.
    """
    store = cast("Store", SimpleNamespace(state=state))  # of a store, history takes the state alone

    def rows(
        of_project: Any = None, of_group_key: Any = None, of_id: Any = None
    ) -> Iterator[tuple[Any, ...]]:
        for project in sorted(projects):
            if of_project is not None and of_project != project:
                continue
            for key in ("", *sorted(state.group_keys(project))):
                if of_group_key is not None and of_group_key != key:
                    continue
                ids = None if of_id is None else [str(of_id)]
                for profile_id, entry in history_rows(store, project, key, ids):
                    yield _row(project, key, profile_id, entry)

    table = cast("Any", rows)
    table.columns = COLUMNS
    table.column_access = apsw.ext.VTColumnAccess.By_Index
    apsw.ext.make_virtual_module(connection, TABLE, table, eponymous=True, eponymous_only=True)


def _row(project: int, group_key: str, profile_id: str, entry: HistoryEntry) -> tuple[Any, ...]:
    return (
        project,
        group_key,
        profile_id,
        iso_seconds(entry.time_ms),
        entry.position,
        entry.property,
        entry.operator,
        _json(entry.old),
        _json(entry.new),
        _json(entry.added),
        _json(entry.removed),
        entry.whole,
        entry.endpoint,
        entry.sdk,
    )


def _json(value: Any) -> str | None:
    """A value as JSON text; None where there is none."""
    return None if value is None or value is msgspec.UNSET else orjson.dumps(value).decode()
