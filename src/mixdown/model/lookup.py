"""Lookup tables as expressions read them: cells of CSV by type, joined by a key (contract ingestion §9).

Enters: a `Table`, which a store implements, and the value that it is joined by. Leaves: the value of a cell:
JSON, an `Instant` for a time, `UNDEFINED` where there is no row or the cell is empty. Pure, but for what a
`Table` reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import orjson

from mixdown.model.expression_nodes import UNDEFINED
from mixdown.model.expression_values import Context, instant, string
from mixdown.model.times import number_of

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})?",
    re.ASCII,
)
_BOOLEANS: Final = {"true": True, "false": False}
_LONGEST_BOOLEAN: Final = 5
_SHORTEST_MOMENT: Final = 19
_KEPT_VALUES: Final = 4096
_KEPT_CHARS: Final = 1024 * 1024


class Table(Protocol):
    """A lookup table as it stood when an expression was read: a later replacement does not change it.

    Keys are texts, the cells of the first column as they were sent. All methods may read from a disk.
    """

    @property
    def name(self) -> str:
        """Its name, by which expressions call it."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of its columns, that of the key first; none before it has been filled."""

    def cell(self, key: str, column: int) -> str:
        """The text of a cell; "" where there is no such row."""

    def keys(self) -> Sequence[str] | None:
        """All keys, where the table is small enough to be looked through for each query, else None."""


Tables = Callable[[str], "Table | None"]
"""A project's lookup tables by name; None where there is none of it."""


def typed(cell: str, context: Context) -> Any:
    """What a cell says: a number, a time, a boolean, a list of texts or a text; undefined where it is empty.

    Numbers are written as in JSON, so that `007` stays a text.
    """
    first = cell[:1]
    if not first:
        return UNDEFINED
    if first in "-0123456789":
        return _number_or_moment(cell, context)
    if first == "[":
        return _list_of_texts(cell)
    if len(cell) <= _LONGEST_BOOLEAN:
        return _BOOLEANS.get(cell.lower(), cell)
    return cell


def _number_or_moment(cell: str, context: Context) -> Any:
    if _NUMBER.fullmatch(cell):
        found = number_of(cell)
        return cell if found is None else found
    if len(cell) >= _SHORTEST_MOMENT and _MOMENT.fullmatch(cell):
        moment = instant(cell, context)
        return cell if moment is UNDEFINED else moment
    return cell


def _list_of_texts(cell: str) -> Any:
    try:
        found = orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell
    return found if all(type(item) is str for item in found) else cell


def reader(table: Table, column: int, context: Context) -> Callable[[Any], Any]:
    """A function from the value that a table is joined by to the value of one of its columns.

    A value finds the row whose key is `string(value)`. Values that were found are kept, within bounds.
    """
    known: dict[str, Any] = {}
    chars = 0

    def read(value: Any) -> Any:
        nonlocal chars
        key = value if type(value) is str else string(value)
        if type(key) is not str:
            return UNDEFINED
        if key in known:
            return known[key]
        cell = table.cell(key, column)
        chars += len(key) + len(cell)
        if len(known) >= _KEPT_VALUES or chars > _KEPT_CHARS:
            known.clear()
            chars = len(key) + len(cell)
        found = known[key] = typed(cell, context)
        return found

    return read


def numbers_with_key(key: str) -> list[int | float]:
    """The numbers whose `string(...)` is this text, so that they find the same row as it."""
    found = number_of(key)
    if found is None:
        return []
    candidates = [found] if type(found) is float else [found, float(found)]
    return [number for number in candidates if string(number) == key]
