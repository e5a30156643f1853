"""Profiles or events as rows of a file: from pages to blocks of bytes, and from rows to the finished table.

Enters: pages of rows, and their shape. Leaves: blocks of ndjson or CSV as they stand in the file, or rows for
a table whose columns are known only at the end, and then that table. It holds one page at a time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from mixdown.query.files.cells import cell_of, safe_cell, safe_text
from mixdown.query.files.columns import REST, REST_KEY, Column, Columns
from mixdown.query.files.forms import Form
from mixdown.query.files.shapes import Shape

Rows = Sequence[Any]
BLOCK_BYTES: Final = 1 << 20


class Learnt(Protocol):
    """What is kept of the columns from page to page (`columns.Columns`)."""

    names: list[str]
    bits: list[int]
    rest: bool


class RowWriter:
    """Turns pages into blocks. `direct`: the blocks are the file; otherwise they are rows for `tables`.

    `layout` is "columns" (those that the rows turn out to have, by name), "json", or for CSV "chosen": the
    columns are `properties`, in that order. `safe`: no cell of a CSV is a formula.
    """

    def __init__(
        self,
        shape: Shape,
        form: Form,
        layout: str,
        properties: Sequence[str] | None,
        learnt: Learnt,
        *,
        safe: bool = False,
    ) -> None:
        self._shape = shape
        self._wanted = None if properties is None else frozenset(properties)
        self._chosen = tuple(properties or ())
        self._safe = safe
        self.columns: Columns | None = None
        self.head = b""
        self.direct = form.format != "parquet"
        self._rows: Callable[[Rows], bytes] = self._ndjson
        if form.format == "csv" and layout == "chosen":
            names = [*(column.name for column in shape.lead), *self._chosen]
            self.head = _csv_bytes([_csv_head(names, safe=safe)])
            self._rows = self._csv_of_chosen
        elif form.format != "ndjson" and layout in ("columns", "chosen"):
            self.direct = False
            self.columns = Columns(
                lead=shape.lead,
                fold_case=form.format == "parquet",
                null_apart=form.format == "parquet",
                names=learnt.names,
                bits=learnt.bits,
                rest=learnt.rest,
            )
            self._rows = self._columns
        elif form.format == "csv":
            self.head = _csv_bytes([[column.name for column in (*shape.lead, REST)]])
            self._rows = self._csv
        elif form.format == "parquet":
            self._rows = self._pairs

    def block(self, rows: Rows) -> bytes:
        """These rows as they stand in the file, or in the file of rows."""
        return self._rows(rows)

    def note(self, learnt: Learnt) -> None:
        """Note what was learnt of the columns."""
        if self.columns is not None:
            learnt.names, learnt.bits = self.columns.names, self.columns.bits
            learnt.rest = self.columns.rest

    def table(self) -> list[Column]:
        """The columns of the rows written."""
        return [*self._shape.lead, REST] if self.columns is None else self.columns.found()

    def _ndjson(self, rows: Rows) -> bytes:
        return _lines(self._shape.line(row, self._wanted) for row in rows)

    def _pairs(self, rows: Rows) -> bytes:
        keys = [column.key for column in self._shape.lead]
        found = (self._shape.document(row, self._wanted) for row in rows)
        return _lines(
            orjson.dumps({**dict(zip(keys, lead, strict=True)), REST_KEY: orjson.Fragment(document)})
            for lead, document in found
        )

    def _csv(self, rows: Rows) -> bytes:
        found = (self._shape.document(row, self._wanted) for row in rows)
        return _csv_bytes((*lead, document.decode()) for lead, document in found)

    def _csv_of_chosen(self, rows: Rows) -> bytes:
        cell, plain = _cell_kinds(safe=self._safe)
        parse, names, wanted = self._shape.properties, self._chosen, self._wanted
        found = (parse(row, wanted) for row in rows)
        return _csv_bytes(
            [*map(plain, lead), *[cell(has[name]) if name in has else "" for name in names]]
            for lead, has in found
        )

    def _columns(self, rows: Rows) -> bytes:
        assert self.columns is not None
        row_of, parse, wanted = self.columns.row, self._shape.properties, self._wanted
        return _lines(orjson.dumps(row_of(*parse(row, wanted))) for row in rows)


def _lines(lines: Iterable[bytes]) -> bytes:
    return b"\n".join([*lines, b""])


def _cell_kinds(*, safe: bool) -> tuple[Callable[[Any], str], Callable[[str], str]]:
    """How a value and a plain text become cells."""
    return (safe_cell, safe_text) if safe else (cell_of, _as_it_is)


def _as_it_is(text: str) -> str:
    return text


def _csv_head(names: Sequence[str], *, safe: bool) -> list[str]:
    """The first row."""
    return [*map(safe_text, names)] if safe else [*names]


def csv_table(rows: Path, columns: Sequence[Column], lead: int, *, safe: bool = False) -> Iterator[bytes]:
    """A file of rows as blocks of CSV, the names of the columns first; `lead` of them hold plain text."""
    yield _csv_bytes([_csv_head([column.name for column in columns], safe=safe)])
    cell, plain = _cell_kinds(safe=safe)
    first = [column.key for column in columns[:lead]]
    keys = [column.key for column in columns[lead:]]
    size, held = 0, []
    with rows.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            cells = [cell(row[key]) if key in row else "" for key in keys]
            held.append([plain(row[key]) for key in first] + cells)
            size += len(line)
            if size >= BLOCK_BYTES:
                yield _csv_bytes(held)
                size, held = 0, []
    yield _csv_bytes(held)


def _csv_bytes(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
