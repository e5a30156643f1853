"""Lookup tables: what every store must do with them, and what the stores have in common.

Enters: CSV that is being read (`model.lookup_csv`). Leaves: tables by name, their rows by key.
A table's content never changes: a replacement is a new content, which the table names from one moment on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, Protocol

import msgspec

from mixdown.model.errors import CatalogError
from mixdown.model.lookup import Table, Tables
from mixdown.model.lookup_csv import FAILURES_LIMIT, SAME_KEY, LookupCsv
from mixdown.store.sorting import Keyed, Sorter

TABLES_PER_PROJECT: Final = 100
REPLACEMENTS_A_DAY: Final = 100
"""How often the tables of a project may be replaced over HTTP within 24 hours (contract ingestion §9)."""
KEPT_UNUSED_MS: Final = 3600 * 1000
"""A content that was replaced is kept for so long: reads that began before go on with it."""
SMALL_ROWS: Final = 10_000
SMALL_BYTES: Final = 1024 * 1024
"""A table up to these is held in memory whole while it is asked for, and looked through for each query."""
_TABLES_HELD: Final = 16
_CELLS_HELD: Final = 4096
_CELLS_HELD_CHARS: Final = 1024 * 1024
_PLACE_BYTES: Final = 8
_SORTED_AT_ONCE: Final = 1000
_SORTED_CHARS_AT_ONCE: Final = 1024 * 1024
cells_of: Final = msgspec.json.Decoder(list[str]).decode


class LookupTable(msgspec.Struct, frozen=True):
    """A lookup table of a project. `id` is a UUID; `columns` is empty until it is filled.

    `size_bytes` is that of the CSV; times are in ms; `content` is the number of what it holds (0: nothing).
    """

    id: str
    project: int
    name: str
    columns: tuple[str, ...] = ()
    rows: int = 0
    size_bytes: int = 0
    created_ms: int = 0
    replaced_ms: int = 0
    content: int = 0


class StoredRow(msgspec.Struct, frozen=True, gc=False):
    """A row as it is kept: `cells` is a JSON array of texts, the key first, `place` its index in the CSV."""

    key: str
    place: int
    cells: str


class LookupTables(Protocol):
    """A project's lookup tables: at most `TABLES_PER_PROJECT`, 100 MiB of CSV each."""

    def listing(self, project: int) -> list[LookupTable]:
        """A project's tables, by name."""

    def create(self, table: LookupTable) -> LookupTable:
        """Make an empty table. Raises `CatalogError`: no such project, a name that is taken, too many."""

    def delete(self, project: int, table_id: str) -> None:
        """Raises `CatalogError` where the project has no such table."""

    def replace(self, project: int, table_id: str, source: LookupCsv, *, now_ms: int) -> LookupTable:
        """Put the rows of `source` in the place of what a table holds: all of them, or none.

        On disk when it returns; tables are replaced one after the other. Raises `LookupTableError`, and
        `CatalogError` where there is no such table.
        """

    def replacements(self, project: int, *, since_ms: int) -> tuple[int, int]:
        """How often tables of a project were replaced since then, and when first (ms; 0: never)."""

    def rows(self, table: LookupTable) -> Iterator[list[str]]:
        """The cells of a table's rows, in the order in which they were sent."""

    def first_rows(self, table: LookupTable, limit: int) -> list[list[str]]:
        """The cells of the first rows that were sent, `limit` at most."""

    def tables(self, project: int) -> Tables:
        """A project's tables for expressions, each as it stands when it is asked for."""

    def tidy(self, now_ms: int) -> bool:
        """Take away a little of what no table holds any more; whether there was anything to do."""

    def close(self) -> None:
        """Release files."""


def no_table(table_id: str) -> CatalogError:
    """The error about a table that a project does not have (contract ingestion §9)."""
    return CatalogError(f"Lookup table with id '{table_id}' was not found.")


def check_tables(held: int) -> None:
    """Raises `CatalogError` where a project that holds so many tables may not have one more."""
    if held >= TABLES_PER_PROJECT:
        raise CatalogError(
            f"a project has at most {TABLES_PER_PROJECT} lookup tables", hint="Delete one that is not used."
        )


def sorted_rows(source: LookupCsv, folder: Path | None) -> Generator[StoredRow]:
    """The rows of a table by key; what does not fit in memory is sorted in a file without a name.

    Raises `LookupTableError` at the end, or before the first row, where any row is wrong: what came before is
    to be forgotten then.
    """
    sorter = Sorter[Keyed](Keyed, folder)
    with closing(sorter):
        held: list[Keyed] = []
        chars = 0
        for place, row in source.rows():
            sorted_by = row[0].encode() + b"\0" + place.to_bytes(_PLACE_BYTES)
            cells = msgspec.json.encode(row).decode()
            held.append((sorted_by, cells))
            chars += len(cells)
            if len(held) >= _SORTED_AT_ONCE or chars >= _SORTED_CHARS_AT_ONCE:
                sorter.add(held)
                held.clear()
                chars = 0
        sorter.add(held)
        twice: list[tuple[int, str]] = []
        last, first = b"", 0
        for joined, cells in sorter:
            key, place = joined[: -_PLACE_BYTES - 1], int.from_bytes(joined[-_PLACE_BYTES:])
            if key == last:
                twice.append((place, SAME_KEY.format(first=first, second=place)))
                twice = sorted(twice)[:FAILURES_LIMIT]
                continue
            last, first = key, place
            if not twice and not source.failures:
                yield StoredRow(key.decode(), place, cells)
    for place, message in twice:
        source.failures.add(place, message)
    if source.failures:
        raise source.failures.error()


def in_sent_order(rows: Iterable[tuple[int, str]], folder: Path | None) -> Iterator[list[str]]:
    """The cells of (place, cells) pairs, by place."""
    sorter = Sorter[Keyed](Keyed, folder)
    with closing(sorter):
        for place, cells in rows:
            sorter.add([(place.to_bytes(_PLACE_BYTES), cells)])
        for _, cells in sorter:
            yield cells_of(cells)


class OpenTable:
    """`Table` of one content: small ones in memory, of large ones the cells that were asked for last."""

    def __init__(
        self,
        table: LookupTable,
        find: Callable[[int, str], str | None],
        scan: Callable[[int], Iterable[tuple[str, str]]],
    ) -> None:
        """`find` gives the cells of a key, `scan` all keys and cells, of the content with this number."""
        self.name = table.name
        self.columns = table.columns
        self._content = table.content
        self._find = find
        self._scan = scan
        self._guard = threading.Lock()
        self._is_small = table.rows <= SMALL_ROWS and table.size_bytes <= SMALL_BYTES
        self._all: dict[str, list[str]] | None = None
        self._some: dict[tuple[str, int], str] = {}
        self._chars = 0

    def cell(self, key: str, column: int) -> str:
        """The text of a cell; "" where there is no such row."""
        if self._is_small:
            cells = self._whole().get(key)
            return cells[column] if cells is not None else ""
        known = self._some.get((key, column))
        if known is not None:
            return known
        found = self._find(self._content, key)
        cell = "" if found is None else cells_of(found)[column]
        with self._guard:
            self._chars += len(key) + len(cell)
            if len(self._some) >= _CELLS_HELD or self._chars > _CELLS_HELD_CHARS:
                self._some.clear()
                self._chars = len(key) + len(cell)
            self._some[key, column] = cell
        return cell

    def keys(self) -> Sequence[str] | None:
        """All keys of a small table, None of a large one."""
        return tuple(self._whole()) if self._is_small else None

    def _whole(self) -> dict[str, list[str]]:
        if self._all is None:
            self._all = {key: cells_of(cells) for key, cells in self._scan(self._content)}
        return self._all


class OpenTables:
    """The tables that were asked for last: a content is read once for many queries."""

    def __init__(
        self,
        find: Callable[[int, str], str | None],
        scan: Callable[[int], Iterable[tuple[str, str]]],
    ) -> None:
        self._find = find
        self._scan = scan
        self._guard = threading.Lock()
        self._held: OrderedDict[tuple[int, str], OpenTable] = OrderedDict()

    def open(self, table: LookupTable) -> Table:
        """A table for expressions."""
        asked = (table.content, table.name)
        with self._guard:
            held = self._held.get(asked)
            if held is None:
                held = self._held[asked] = OpenTable(table, self._find, self._scan)
                if len(self._held) > _TABLES_HELD:
                    self._held.popitem(last=False)
            self._held.move_to_end(asked)
            return held
