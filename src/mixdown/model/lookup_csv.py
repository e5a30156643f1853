"""Reading a lookup table out of CSV (contract ingestion §9, RFC 4180), in bounded memory. Pure.

Enters: the bytes of a file, in pieces. Leaves: its columns, then its rows one by one; what is wrong is
collected in `failures`, ten rows at most, and the rest of the file is not looked at any more then.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from mixdown.model.errors import LookupTableError
from mixdown.model.values import clean_text

BYTES_LIMIT: Final = 100 * 1024 * 1024
"""How many bytes of CSV a table has at most."""
ROW_LIMIT_BYTES: Final = 1024 * 1024
"""How long a row may be, however many lines it stands on: it is held as a list of its cells."""
CELL_LIMIT_CHARS: Final = 131_072
"""Also what `csv` refuses by itself, unless the process has set another limit for all its readers."""
COLUMNS_LIMIT: Final = 1000
NAME_LIMIT_CHARS: Final = 255
FAILURES_LIMIT: Final = 10

KEY_MISSING: Final = "primary key is required and cannot be blank"
WRONG_COUNT: Final = "invalid row: wrong number of fields"
SAME_KEY: Final = "invalid row: row indexes {first} and {second} have the same primary key"
NOT_UTF8: Final = "invalid row: text must be valid UTF-8"
NOT_CSV: Final = "invalid row: {reason}"
ROW_TOO_LONG: Final = f"invalid row: a row has at most {ROW_LIMIT_BYTES} bytes"
CELL_TOO_LONG: Final = f"invalid row: a field has at most {CELL_LIMIT_CHARS} characters"
HEADER_MISSING: Final = "invalid header: a row with the names of the columns is required"
HEADER_BLANK: Final = "invalid header: the name of column {number} is blank"
HEADER_SAME: Final = "invalid header: columns {first} and {second} have the same name"
HEADER_LONG: Final = f"invalid header: a column's name has at most {NAME_LIMIT_CHARS} characters"
HEADER_MANY: Final = f"invalid header: a lookup table has at most {COLUMNS_LIMIT} columns"

_BOM: Final = b"\xef\xbb\xbf"
Row = tuple[int, list[str]]
"""A row's index (that of the header is 0) and its cells, the key first."""


class Failures:
    """What is wrong with a table: ten rows at most, in order."""

    def __init__(self) -> None:
        self._found: list[tuple[int, str]] = []

    @property
    def is_full(self) -> bool:
        """Whether no more are taken."""
        return len(self._found) >= FAILURES_LIMIT

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, index: int, message: str) -> None:
        """Note what is wrong with a row."""
        if not self.is_full:
            self._found.append((index, message))

    def error(self) -> LookupTableError:
        """All of it, as an error."""
        return LookupTableError(tuple(sorted(self._found)))


class LookupCsv:
    """The CSV of one table. `columns` is there from the start, `rows` may be asked for once.

    `pieces` gives the file's bytes. Raises `LookupTableError` for a header that cannot be used, and whatever
    `pieces` raises.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.failures = Failures()
        self.size_bytes = 0
        self._index = 0
        self._unreadable = False
        self._row_bytes = 0
        self._reader = csv.reader(self._lines(pieces), strict=True)
        self.columns = self._header()

    def rows(self) -> Iterator[Row]:
        """The rows that are good, in order; ends early once `failures` is full."""
        count = len(self.columns)
        while not self.failures.is_full:
            cells = self._next()
            if cells is None:
                return
            if self._unreadable:
                self.failures.add(self._index, NOT_UTF8)
            elif len(cells) != count:
                self.failures.add(self._index, WRONG_COUNT)
            elif not cells[0].strip():
                self.failures.add(self._index, KEY_MISSING)
            else:
                yield self._index, cells

    def _next(self) -> list[str] | None:
        """The next row that can be read at all, None at the end; `_index` is its index."""
        while not self.failures.is_full:
            self._unreadable = False
            self._row_bytes = 0
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                self._index += 1
                self.failures.add(self._index, _told(error))
                continue
            except _RowTooLongError:
                self.failures.add(self._index + 1, ROW_TOO_LONG)
                return None
            if cells is None:
                return None
            if cells:  # else the line is empty
                self._index += 1
                if self._row_bytes > CELL_LIMIT_CHARS and any(len(cell) > CELL_LIMIT_CHARS for cell in cells):
                    self.failures.add(self._index, CELL_TOO_LONG)
                    continue
                return cells
        return None

    def _header(self) -> tuple[str, ...]:
        self._index = -1
        names = self._next()
        if self.failures:
            raise self.failures.error()
        for message in _wrong_with(names, readable=not self._unreadable):
            self.failures.add(0, message)
            raise self.failures.error()
        assert names is not None
        return tuple(names)

    def _lines(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """The file's lines as text; notes where one is no UTF-8."""
        first = True
        for line in _split(self._counted(pieces)):
            self._row_bytes += len(line)
            if self._row_bytes > ROW_LIMIT_BYTES:
                raise _RowTooLongError
            plain = line.removeprefix(_BOM) if first else line
            first = False
            try:
                text = plain.decode()
            except UnicodeDecodeError:
                self._unreadable = True
                text = plain.decode("utf-8", "replace")
            yield clean_text(text) if "\0" in text else text

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.size_bytes += len(piece)
            yield piece


class _RowTooLongError(Exception):
    """A row is longer than may be held."""


def _split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file with their ends."""
    rest = b""
    for piece in pieces:
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        if len(rest) > ROW_LIMIT_BYTES or any(len(line) > ROW_LIMIT_BYTES for line in lines):
            raise _RowTooLongError
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _told(error: csv.Error) -> str:
    reason = str(error)
    return CELL_TOO_LONG if "field limit" in reason else NOT_CSV.format(reason=reason)


def _wrong_with(names: list[str] | None, *, readable: bool) -> Iterator[str]:
    """What keeps a header from being one."""
    if names is None:
        yield HEADER_MISSING
        return
    if not readable:
        yield NOT_UTF8
    if len(names) > COLUMNS_LIMIT:
        yield HEADER_MANY
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name.strip():
            yield HEADER_BLANK.format(number=number)
        if len(name) > NAME_LIMIT_CHARS:
            yield HEADER_LONG
        if name in seen:
            yield HEADER_SAME.format(first=seen[name], second=number)
        seen[name] = number


def csv_lines(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table as CSV again, line by line (RFC 4180)."""
    held: list[str] = []
    write: Callable[[Iterable[str]], object] = csv.writer(_Lines(held)).writerow
    for row in chain([columns], rows):
        write(row)
        yield held.pop()


class _Lines:
    """A file to `csv.writer`: what it writes is a line of a list."""

    def __init__(self, held: list[str]) -> None:
        self._held = held

    def write(self, line: str) -> int:
        """Take a line."""
        self._held.append(line)
        return len(line)
