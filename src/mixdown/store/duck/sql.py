"""Texts as parts of DuckDB's SQL, where no parameter can stand: in views and in the names of columns.

These two functions are the only ones that put a value into SQL.
"""

from __future__ import annotations

from collections.abc import Iterable


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


def pointer(name: str) -> str:
    """A property's place in an object, as a JSON pointer: it stands for every name there is."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
