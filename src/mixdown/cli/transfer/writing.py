"""Profiles as rows of a file: from pages to blocks of bytes, and from rows to the finished table.

Enters: pages of (id, document). Leaves: blocks of ndjson or CSV as they stand in the file, or rows for a
table whose columns are known only at the end, and then that table. It holds one page at a time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from mixdown.cli.transfer.cells import cell_of
from mixdown.cli.transfer.columns import ID_COLUMN, JSON_COLUMNS, REST_COLUMN, Column, Columns
from mixdown.cli.transfer.forms import Form
from mixdown.cli.transfer.unfinished import Progress

Profiles = Sequence[tuple[str, bytes]]
BLOCK_BYTES: Final = 1 << 20


class RowWriter:
    """Turns pages into blocks. `direct`: the blocks are the file; otherwise they are rows for `tables`."""

    def __init__(self, form: Form, layout: str, properties: Sequence[str] | None, progress: Progress) -> None:
        self._wanted = None if properties is None else frozenset(properties)
        self.columns: Columns | None = None
        self.head = b""
        self.direct = form.format != "parquet"
        self._rows: Callable[[Profiles], bytes] = self._ndjson
        if form.format != "ndjson" and layout == "columns":
            self.direct = False
            self.columns = Columns(
                fold_case=form.format == "parquet",
                null_apart=form.format == "parquet",
                names=progress.names,
                bits=progress.bits,
                rest=progress.rest,
            )
            self._rows = self._columns
        elif form.format == "csv":
            self.head = _csv_bytes([(ID_COLUMN, REST_COLUMN)])
            self._rows = self._csv
        elif form.format == "parquet":
            self._rows = self._pairs

    def block(self, profiles: Profiles) -> bytes:
        """The rows of these profiles."""
        return self._rows(profiles)

    def note(self, progress: Progress) -> None:
        """Note in `progress` what was learnt of the columns."""
        if self.columns is not None:
            progress.names, progress.bits = self.columns.names, self.columns.bits
            progress.rest = self.columns.rest

    def table(self) -> list[Column]:
        """The columns of the rows written."""
        return list(JSON_COLUMNS) if self.columns is None else self.columns.found()

    def _document(self, document: bytes) -> bytes:
        return document if self._wanted is None else orjson.dumps(self._properties(document))

    def _properties(self, document: bytes) -> dict[str, Any]:
        properties: dict[str, Any] = orjson.loads(document)
        if self._wanted is None:
            return properties
        return {name: value for name, value in properties.items() if name in self._wanted}

    def _ndjson(self, profiles: Profiles) -> bytes:
        lines = [
            b'{"$distinct_id":%b,"$properties":%b}\n' % (orjson.dumps(profile_id), self._document(document))
            for profile_id, document in profiles
        ]
        return b"".join(lines)

    def _pairs(self, profiles: Profiles) -> bytes:
        lines = [
            b'{"i":%b,"p":%b}\n' % (orjson.dumps(profile_id), self._document(document))
            for profile_id, document in profiles
        ]
        return b"".join(lines)

    def _csv(self, profiles: Profiles) -> bytes:
        return _csv_bytes(
            (profile_id, self._document(document).decode()) for profile_id, document in profiles
        )

    def _columns(self, profiles: Profiles) -> bytes:
        assert self.columns is not None
        row, parse = self.columns.row, self._properties
        lines = [orjson.dumps(row(profile_id, parse(document))) for profile_id, document in profiles]
        lines.append(b"")
        return b"\n".join(lines)


def csv_table(rows: Path, columns: Sequence[Column]) -> Iterator[bytes]:
    """A file of rows as blocks of CSV, the names of the columns first."""
    yield _csv_bytes([[column.name for column in columns]])
    keys = [column.key for column in columns[1:]]
    size, held = 0, []
    with rows.open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            held.append([row["i"], *[cell_of(row[key]) if key in row else "" for key in keys]])
            size += len(line)
            if size >= BLOCK_BYTES:
                yield _csv_bytes(held)
                size, held = 0, []
    yield _csv_bytes(held)


def _csv_bytes(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
