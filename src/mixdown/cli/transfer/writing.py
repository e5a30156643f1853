"""Profiles or events as rows of a file: from pages to blocks of bytes, and from rows to the finished table.

Enters: pages of rows, and their shape. Leaves: blocks of ndjson or CSV as they stand in the file, or rows for
a table whose columns are known only at the end, and then that table. It holds one page at a time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from mixdown.cli.transfer.cells import cell_of
from mixdown.cli.transfer.columns import REST, REST_KEY, Column, Columns
from mixdown.cli.transfer.forms import Form
from mixdown.cli.transfer.shapes import Shape
from mixdown.cli.transfer.unfinished import Progress

Rows = Sequence[Any]
BLOCK_BYTES: Final = 1 << 20


class RowWriter:
    """Turns pages into blocks. `direct`: the blocks are the file; otherwise they are rows for `tables`."""

    def __init__(
        self,
        shape: Shape,
        form: Form,
        layout: str,
        properties: Sequence[str] | None,
        progress: Progress,
    ) -> None:
        self._shape = shape
        self._wanted = None if properties is None else frozenset(properties)
        self.columns: Columns | None = None
        self.head = b""
        self.direct = form.format != "parquet"
        self._rows: Callable[[Rows], bytes] = self._ndjson
        if form.format != "ndjson" and layout == "columns":
            self.direct = False
            self.columns = Columns(
                lead=shape.lead,
                fold_case=form.format == "parquet",
                null_apart=form.format == "parquet",
                names=progress.names,
                bits=progress.bits,
                rest=progress.rest,
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

    def note(self, progress: Progress) -> None:
        """Note in `progress` what was learnt of the columns."""
        if self.columns is not None:
            progress.names, progress.bits = self.columns.names, self.columns.bits
            progress.rest = self.columns.rest

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

    def _columns(self, rows: Rows) -> bytes:
        assert self.columns is not None
        row_of, parse, wanted = self.columns.row, self._shape.properties, self._wanted
        return _lines(orjson.dumps(row_of(*parse(row, wanted))) for row in rows)


def _lines(lines: Iterable[bytes]) -> bytes:
    return b"\n".join([*lines, b""])


def csv_table(rows: Path, columns: Sequence[Column], lead: int) -> Iterator[bytes]:
    """A file of rows as blocks of CSV, the names of the columns first; `lead` of them hold plain text."""
    yield _csv_bytes([[column.name for column in columns]])
    first = [column.key for column in columns[:lead]]
    keys = [column.key for column in columns[lead:]]
    size, held = 0, []
    with rows.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            cells = [cell_of(row[key]) if key in row else "" for key in keys]
            held.append([row[key] for key in first] + cells)
            size += len(line)
            if size >= BLOCK_BYTES:
                yield _csv_bytes(held)
                size, held = 0, []
    yield _csv_bytes(held)


def _csv_bytes(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
