"""Rows of files and pipes: ndjson, CSV and Parquet, in batches that are the same whenever they are read.

Enters: a stream, its form and a `RowReader`. Leaves: `Batch`es of raw rows, and each raw row as the reader
has it or as an `Unreadable` with the reason. A batch knows a digest of what it holds, so that one that was
imported before is recognised without its rows being read. Memory is bounded by a batch and a row.
"""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import orjson

from mixdown.ingest.rows import BATCH_BYTES, BATCH_ROWS, ROW_LIMIT_BYTES
from mixdown.model.updates import Unreadable
from mixdown.query.files.cells import ABSENT, value_of
from mixdown.query.files.columns import REST_COLUMN, Column
from mixdown.query.files.forms import FormError
from mixdown.query.files.shapes import Lead, RowReader

_KEPT_CHARS: Final = 1024
_REFUSED_SHAPE: Final = frozenset({"row", "field", "message", "record"})


class Batch(msgspec.Struct):
    """Some rows as they were read: their numbers in the source (from 1), and what tells them apart.

    `mark` is for the source alone: what it notes when the batch is on disk.
    """

    numbers: list[int]
    raws: list[Any]
    identity: str = ""
    mark: Any = None


class Source(Protocol):
    """Where rows come from."""

    def batches(self) -> Iterator[Batch]:
        """All rows, in order. Raises `FormError`."""

    def row(self, raw: Any) -> Any:
        """A raw row as what an import judges, or as an `Unreadable`."""

    def hostile(self, raw: Any) -> bool:
        """Whether texts of a raw row may hold NUL or lone surrogates; for speed alone, true when in doubt."""

    def record(self, raw: Any) -> Any:
        """A raw row as JSON, for the file of refused rows."""

    def done(self, batch: Batch) -> None:
        """All rows up to this batch's last are on disk."""


class FileSource(ABC):
    """The part that all files share: rows gathered to batches, each with its digest."""

    def batches(self) -> Iterator[Batch]:
        """All rows, `BATCH_ROWS` at a time, fewer where they are large."""
        batch, size, first = Batch([], []), 0, 0
        texts: list[bytes] = []
        for place, (number, raw, text) in enumerate(self._rows()):
            if not batch.raws:
                first = place
            batch.numbers.append(number)
            batch.raws.append(raw)
            texts.append(text)
            size += len(text)
            if len(batch.raws) == BATCH_ROWS or size >= BATCH_BYTES:
                batch.identity = _identity(first, texts)
                yield batch
                batch, size = Batch([], []), 0
                texts.clear()
        if batch.raws:
            batch.identity = _identity(first, texts)
            yield batch

    def done(self, batch: Batch) -> None:  # noqa: B027 - only a source that is read elsewhere has something to note
        """Nothing to note: a batch is recognised by its digest."""

    @abstractmethod
    def _rows(self) -> Iterator[tuple[int, Any, bytes]]:
        """(number, raw row, the bytes that tell it apart)."""


class Lines(FileSource):
    """ndjson: an object a line."""

    def __init__(self, pieces: Iterator[bytes], reader: RowReader) -> None:
        self._pieces = pieces
        self._reader = reader

    def _rows(self) -> Iterator[tuple[int, Any, bytes]]:
        for number, each in enumerate(_lines(self._pieces), 1):
            if isinstance(each, Unreadable):
                yield number, each, each.text.encode()
            elif line := each.strip():
                if number == 1 and line[:1] == b"[":
                    raise FormError(
                        "line 1 begins a JSON array, and each line must be an object of its own",
                        hint="`jq -c '.[]' FILE` makes lines of an array.",
                    )
                yield number, line, line

    def row(self, raw: Any) -> Any:
        """A line as a row."""
        if isinstance(raw, Unreadable):
            return raw
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            return Unreadable(_start(raw), f"row, no JSON: {error}")
        if type(found) is not dict:
            return Unreadable(_start(raw), "row, must be an object")
        if found.keys() == _REFUSED_SHAPE and type(found["record"]) is dict:
            found = found["record"]
        return self._reader.of_object(found)

    def hostile(self, raw: Any) -> bool:
        """Without an escape, JSON has no such text."""
        return isinstance(raw, Unreadable) or b"\\u" in raw

    def record(self, raw: Any) -> Any:
        """The line, parsed where it can be."""
        if isinstance(raw, Unreadable):
            return raw.text
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            return _start(raw)


class Table(FileSource):
    """What CSV and Parquet share: first columns, others, perhaps one with properties as JSON."""

    columns: Sequence[str] = ()
    lead_at: tuple[int, ...] = ()
    rest_at: int = -1

    def __init__(self, reader: RowReader) -> None:
        self._reader = reader

    def take_columns(self, names: Sequence[str]) -> None:
        """Find the first columns. Raises `FormError`."""
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise FormError(f"two columns are called {doubled[0]!r}")
        self.columns = tuple(names)
        found: list[int] = []
        for place, wanted in enumerate(self._reader.ids):
            name = next((name for name in wanted if name in names), None)
            if name is None and place < self._reader.needed:
                names_wanted, what = " or ".join(wanted), self._reader.what[place]
                raise FormError(
                    f"no column is called {names_wanted}: that is where {what} are looked for",
                    hint=self._reader.hint,
                )
            found.append(-1 if name is None else self.columns.index(name))
        self.lead_at = tuple(found)
        self.rest_at = self.columns.index(REST_COLUMN) if REST_COLUMN in self.columns else -1

    def gather(self, lead: Lead, values: Iterator[tuple[int, Any]], rest: Any) -> Any:
        """A row of its first columns, (place, value) pairs and the object in the column `$properties`."""
        if rest is not ABSENT and rest is not None and type(rest) is not dict:
            return Unreadable(str(rest)[:_KEPT_CHARS], f"{REST_COLUMN}, must be an object")
        properties: dict[str, Any] = dict(rest) if type(rest) is dict else {}
        for at, value in values:
            if value is not ABSENT and at != self.rest_at and at not in self.lead_at:
                properties[self.columns[at]] = value
        return self._reader.of_cells(lead, properties)


class CsvTable(Table):
    """CSV in UTF-8, the names of the columns in its first row; cells as `cells` has them."""

    def __init__(self, pieces: Iterator[bytes], reader: RowReader) -> None:
        super().__init__(reader)
        csv.field_size_limit(ROW_LIMIT_BYTES)
        text = io.TextIOWrapper(
            io.BufferedReader(_Stream(pieces), 1 << 16), "utf-8-sig", "surrogateescape", newline=""
        )
        self._cells = csv.reader(text)
        head = self._next()
        if head is None:
            raise FormError("the file is empty: the names of the columns belong into its first row")
        self.take_columns(head)

    def _next(self) -> list[str] | None:
        try:
            return next(self._cells, None)
        except csv.Error as error:
            raise FormError(f"line {self._cells.line_num}: {error}") from error

    def _rows(self) -> Iterator[tuple[int, Any, bytes]]:
        while (cells := self._next()) is not None:
            if cells:
                text = "\0".join(cells).encode("utf-8", "surrogateescape")
                yield self._cells.line_num, cells, text

    def row(self, raw: Any) -> Any:
        """A row of cells; of the first columns those that a row need not have may be empty."""
        if len(raw) != len(self.columns):
            message = f"row, has {len(raw)} cells, and the first row {len(self.columns)}"
            return Unreadable(_joined(raw), message)
        if not all(map(_is_text, raw)):
            return Unreadable(_joined(raw), "row, must be valid UTF-8")
        rest = ABSENT if self.rest_at < 0 else value_of(raw[self.rest_at])
        needed = self._reader.needed
        lead = tuple(
            raw[at] if at >= 0 and (raw[at] or place < needed) else None
            for place, at in enumerate(self.lead_at)
        )
        return self.gather(lead, enumerate(map(value_of, raw)), rest)

    def hostile(self, raw: Any) -> bool:
        """A cell may hold such a text as it is, or JSON with an escape."""
        return any("\0" in cell or "\\u" in cell for cell in raw)

    def record(self, raw: Any) -> Any:
        """The cells by the names of their columns; as a list where they do not fit."""
        cells = [cell.encode("utf-8", "replace").decode() for cell in raw]
        if len(cells) != len(self.columns):
            return cells
        return dict(zip(self.columns, cells, strict=True))


class ParquetTable(Table):
    """A Parquet file: columns of type JSON hold JSON, all others values; an empty one is no value."""

    def __init__(self, path: Path, scratch: Path, reader: RowReader) -> None:
        super().__init__(reader)
        self._path = path
        self._scratch = scratch
        self._json: frozenset[int] = frozenset()

    def _rows(self) -> Iterator[tuple[int, Any, bytes]]:
        from mixdown.query.files.parquet import read_parquet

        number = 0
        for columns, rows in read_parquet(self._path, self._scratch):
            if not self.columns:
                self._take(columns)
            for row in rows:
                number += 1
                yield number, row, repr(row).encode("utf-8", "surrogatepass")

    def _take(self, columns: Sequence[Column]) -> None:
        self.take_columns([column.name for column in columns])
        self._json = frozenset(
            at
            for at, column in enumerate(columns)
            if column.type == "JSON" or (at == self.rest_at and column.type == "VARCHAR")
        )

    def row(self, raw: Any) -> Any:
        """A row of values."""
        from mixdown.query.files.parquet import json_like

        values: list[Any] = []
        try:
            for at, value in enumerate(raw):
                if value is None:
                    values.append(ABSENT)
                else:
                    values.append(orjson.loads(value) if at in self._json else json_like(value))
        except orjson.JSONDecodeError as error:
            return Unreadable(_joined(map(str, raw)), f"row, no JSON in a column of that type: {error}")
        rest = ABSENT if self.rest_at < 0 else values[self.rest_at]
        lead = tuple(None if at < 0 or values[at] is ABSENT else values[at] for at in self.lead_at)
        return self.gather(lead, enumerate(values), rest)

    def hostile(self, raw: Any) -> bool:
        """Python escapes NUL when it shows a value, and shows an escape in JSON."""
        return "\\" in repr(raw)

    def record(self, raw: Any) -> Any:
        """The values by the names of their columns."""
        from mixdown.query.files.parquet import json_like

        return {name: json_like(value) for name, value in zip(self.columns, raw, strict=True)}


def _identity(first: int, texts: list[bytes]) -> str:
    """What tells a batch apart: where it begins among the rows, and all that is in it."""
    digest = blake2b(f"{first}:{list(map(len, texts))}:".encode(), digest_size=16)
    digest.update(b"".join(texts))
    return digest.hexdigest()


class _Stream(io.RawIOBase):
    """Pieces of bytes as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = memoryview(piece)
        size = min(len(buffer), len(self._held))
        buffer[:size] = self._held[:size]
        self._held = self._held[size:]
        return size


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes | Unreadable]:
    """Lines without their ends; of one that is longer than a row may be, its start and the reason."""
    held: list[bytes] = []
    size = 0
    first = True
    for each in pieces:
        piece = each
        if first and piece:
            piece, first = piece.removeprefix(b"\xef\xbb\xbf"), False
        head, *lines = piece.split(b"\n")
        size += len(head)
        if size <= ROW_LIMIT_BYTES:
            held.append(head)
        if lines:
            yield _line(held, size)
            yield from (_line([line], len(line)) for line in lines[:-1])
            held, size = [lines[-1]], len(lines[-1])
    if size:
        yield _line(held, size)


def _line(held: list[bytes], size: int) -> bytes | Unreadable:
    line = b"".join(held)
    if size > ROW_LIMIT_BYTES:
        return Unreadable(_start(line), f"row, must be at most {ROW_LIMIT_BYTES} bytes")
    return line


def _start(line: bytes) -> str:
    return line[:_KEPT_CHARS].decode("utf-8", "replace")


def _joined(cells: Any) -> str:
    return ",".join(cells)[:_KEPT_CHARS].encode("utf-8", "replace").decode()


def _is_text(cell: str) -> bool:
    if cell.isascii():
        return True
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True
