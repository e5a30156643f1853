"""Texts as parts of DuckDB's SQL, where no parameter can stand: in views and in the names of columns.

The functions of this file are the only ones that put a value into SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

FILE_COLUMN: Final = "(file)"
"""The column with the path of a row's file, where it is asked for."""
_PATTERN: Final = re.compile(r"[*?\[]")


def identifier(name: str) -> str:
    """A name of a table or column, quoted."""
    assert "\0" not in name
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text, quoted."""
    assert "\0" not in text
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """A list of texts, quoted."""
    return "[" + ", ".join(map(literal, texts)) + "]"


def parquet(paths: Iterable[str], *, named: bool = False) -> str:
    """The rows of these files, those alone, with their own columns; if `named`, with `FILE_COLUMN`.

    DuckDB would take a path for a pattern, and a folder called `plan=pro` on the way for a column.
    """
    file = f", filename = {literal(FILE_COLUMN)}" if named else ""
    return f"read_parquet({literals(map(_exact, paths))}, hive_partitioning = false{file})"


def as_allowed(paths: Iterable[str]) -> list[str]:
    """Paths as DuckDB is told that it may open them: as they are, and as `parquet` writes them."""
    return list(dict.fromkeys(written for path in paths for written in (path, _exact(path))))


def _exact(path: str) -> str:
    """A path as a pattern that it alone fits."""
    return _PATTERN.sub(r"[\g<0>]", path)


def pointer(name: str) -> str:
    """A property's place in an object, as a JSON pointer: it stands for every name there is."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
