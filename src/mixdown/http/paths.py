"""Paths as clients spell them, and the one spelling that is routed (contract ingestion §1.2).

SDKs write paths with and without a trailing slash, with doubled slashes, and with the fragment of
the documentation still on. All of them reach the same handler; nothing is ever redirected.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.convertors import Convertor, register_url_convertor

QUERY_PREFIXES: Final = ("/api/query", "/api/2.0")
"""What every query endpoint stands below (contract query §1.1)."""
ANY_TEXT: Final = "text"
"""The convertor of a part of a path that may be anything: Starlette's own `path` ends at a line break."""
_SLASHES: Final = re.compile("//+")
_FRAGMENT: Final = "#"
_DOCUMENTED_IN_PARTS: Final = frozenset({"engage", "groups", "track", "import"})
"""Paths that the documentation names with a fragment for each operation."""


class TextConvertor(Convertor[str]):
    """The rest of a path, whatever it holds; another `regex` for a part of it that is a text as well."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """Likewise."""
        return value


register_url_convertor(ANY_TEXT, TextConvertor())


def canonical_path(path: str) -> str:
    """A decoded path without fragment, doubled slashes and trailing slash; never empty.

    A `#` right behind a slash begins an id (`/lookup-tables/%23`), but on the paths that are
    documented with fragments: without that, a wrong id would reach the endpoint above it.
    """
    if _FRAGMENT in path:
        before = path.partition(_FRAGMENT)[0]
        if not before.endswith("/") or before.strip("/") in _DOCUMENTED_IN_PARTS:
            path = before
    if "//" in path:
        path = _SLASHES.sub("/", path)
    return path.rstrip("/") or "/"
