"""Texts in parameters that PostgreSQL cannot hold: NUL, and lone surrogates, as in half an emoji.

What is kept of records was cleaned when it was read (`model.values.clean_text`). An id or a name that
somebody asks for may not have been: it is cleaned here, so that it finds what it was stored as, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import psycopg

from mixdown.model.values import clean_text


class TextCursor(psycopg.Cursor[tuple[Any, ...]]):
    """A cursor that cleans the texts among its parameters, where they cannot be sent as they are."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """As psycopg's."""
        try:
            return super().execute(query, params, **options)
        except (psycopg.DataError, UnicodeEncodeError) as error:
            if isinstance(error, psycopg.DataError) and error.sqlstate is not None:
                raise  # the server's, not of the parameters' form
            cleaned = _clean(params)
            if cleaned == params:
                raise
        return super().execute(query, cleaned, **options)


def _clean(value: Any) -> Any:
    """A value with all texts in it cleaned."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_clean(each) for each in value]
    if isinstance(value, tuple):
        return tuple(map(_clean, value))
    if isinstance(value, Mapping):
        return {name: _clean(each) for name, each in value.items()}
    return value
