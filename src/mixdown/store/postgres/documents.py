"""Documents as PostgreSQL's `jsonb` must be given them, so that no number changes.

`jsonb` keeps decimals, and forgets how they were written: 1e23 comes back as an integer of 24 digits, which
is not the double. So a double from 2**53 on is written to its last digit, with `.0`: it then compares by its
very value, also with integers, and comes back as the double it was. Smaller ones sort in their shortest form
as they do as doubles.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

_WHOLE_FROM: Final = 2.0**53
_PERHAPS_LARGE: Final = re.compile(rb"[0-9]{15}|[0-9][eE]\+?[0-9]")


def jsonb_of(document: bytes) -> str:
    """A stored document as the text to give to `jsonb`."""
    if _PERHAPS_LARGE.search(document) is None:
        return document.decode()
    return written(orjson.loads(document))


def written(value: Any) -> str:
    """A JSON value as the text to give to `jsonb`."""
    kind = type(value)
    if kind is float and abs(value) >= _WHOLE_FROM:
        return f"{int(value)}.0"
    if kind is list:
        return f"[{','.join(map(written, value))}]"
    if kind is dict:
        return "{" + ",".join(f"{written(name)}:{written(item)}" for name, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
