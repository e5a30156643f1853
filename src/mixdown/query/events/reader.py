"""Opening events for a read: one project, one span of time, each event with the canonical id of its person.

A store, a project and a span enter; an `OpenEvents` leaves, on which SQL runs in DuckDB, in bounded memory
and for as long as the calling thread may read (`store.patience`). It must never give out events of another
project, nor keep a table open when the block that asked for it has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mixdown.query.events.buckets import Span
from mixdown.query.events.persons import ALONE, add_persons
from mixdown.store import patience
from mixdown.store.spilling import spill_folder

if TYPE_CHECKING:
    from mixdown.store.duck import EventTable
    from mixdown.store.protocols import State, Store

ROWS_AT_ONCE: Final = 2000
THREADS: Final = 2
_AT: Final = "CAST(make_timestamp_ms(?) AS TIMESTAMP_MS)"
WITHIN: Final = f"time >= {_AT} AND time < {_AT}"
"""SQL for events of a span: its parameters are the span's two ends."""


class EventReads:
    """Opens events of a store; safe to use from many threads. `close` takes what reads spilt to disk."""

    def __init__(self, store: Store, *, memory_limit_bytes: int) -> None:
        self.store = store
        self._memory_limit_bytes = memory_limit_bytes
        folder: Path | None = getattr(store, "folder", None)
        self._spill = spill_folder(folder)

    @property
    def state(self) -> State:
        """Where profiles and identities are read."""
        return self.store.state

    @contextmanager
    def open(
        self,
        project: int,
        span: Span,
        *,
        persons: bool = True,
        ids: Sequence[str] | None = None,
        ordered: bool = False,
    ) -> Iterator[OpenEvents]:
        """The events of a project in a span, as long as the block lasts. Raises `StoreError`.

        Without `persons`, ids are left as they were sent: for what does not depend on who somebody is. With
        `ids`, so are all but these. `ordered` is as `open_events` has it.
        """
        from mixdown.store.duck import open_events  # noqa: PLC0415 - DuckDB is for those who read events

        parts = self.store.events.parts(project, *span)
        with open_events(
            parts,
            memory_limit_bytes=self._memory_limit_bytes,
            threads=THREADS,
            temp_directory=self._spill.path,
            ordered=ordered,
        ) as table:
            opened = OpenEvents(table)
            if persons:
                self.add_persons(opened, project, ids)
            yield opened

    def add_persons(self, table: OpenEvents, project: int, ids: Sequence[str] | None = None) -> None:
        """Put canonical ids beside the ids of a table that was opened without. Raises `StoreError`."""
        table.relation = add_persons(table, self.state, project, ids)

    def close(self) -> None:
        """Remove the folder of what reads spilt."""
        self._spill.close()


class OpenEvents:
    """An open table of events. `relation` stands in FROM: `events`, and `person` beside its columns."""

    within: Final = WITHIN

    def __init__(self, table: EventTable) -> None:
        self.columns = table
        self.relation = ALONE
        self._table = table

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a statement, one by one."""
        for batch in self.batches(sql, parameters):
            yield from batch

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that gives nothing."""
        for _ in self.batches(sql, parameters):
            pass

    def batches(
        self, sql: str, parameters: Sequence[Any] = (), *, rows: int = ROWS_AT_ONCE
    ) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a statement, some at a time. Raises `ReadTimeoutError`, `StoreError`."""
        found = self._table.batches(sql, parameters, rows=rows)
        while (batch := self._next(found)) is not None:
            yield batch

    def _next(self, found: Iterator[list[tuple[Any, ...]]]) -> list[tuple[Any, ...]] | None:
        """The next batch, ended by force where this thread's time is over."""
        patience.check()
        with self._table.in_time():
            return next(found, None)
