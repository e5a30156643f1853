"""Values as cells of CSV: JSON where a cell can be read as JSON, plain text otherwise.

So text stays readable (`amber`, `02139`), and nothing is lost: a text that would be read as something else
(`36`, `true`, the empty text) is written as JSON, in quotes. An empty cell is no value at all.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

ABSENT: Final = object()
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_MAY_BE_JSON: Final = frozenset('-0123456789tfn"[{ \t\n\r')


def cell_of(value: Any) -> str:
    """A value as the text of a cell."""
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is str and not _reads_as_json(value):
        return value  # type: ignore[no-any-return]
    return orjson.dumps(value).decode()


def safe_cell(value: Any) -> str:
    """The same for a spreadsheet: a text that it would run as a formula gets an apostrophe in front."""
    return safe_text(cell_of(value)) if type(value) is str else cell_of(value)


def safe_text(text: str) -> str:
    """A plain text likewise."""
    return "'" + text if text.startswith(_FORMULA) else text


def safe_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of figures for a spreadsheet: no text of it is a formula; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (header, *rows):
        writer.writerow([safe_text(each) if type(each) is str else each for each in row])
    return text.getvalue()


def value_of(cell: str) -> Any:
    """The value of a cell; `ABSENT` for an empty one."""
    if not cell:
        return ABSENT
    if cell[0] not in _MAY_BE_JSON:
        return cell
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell


def _reads_as_json(text: str) -> bool:
    if not text:
        return True
    if text[0] not in _MAY_BE_JSON:
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
