"""What can be stored, decided once for every store, and when two values are equal. Pure.

Text: NUL and lone surrogates become U+FFFD, strings are cut to the limit on a character boundary.
Numbers: signed 64-bit integers or finite doubles; a number that overflows a double takes its
property with it. Sources: contract ingestion §4.6, §5.4.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from math import isfinite
from typing import Any, Final

from mixdown.model.limits import (
    INT_MAX,
    INT_MIN,
    NAME_LIMIT_CHARS,
    NESTING_LIMIT,
    STRICT_NESTED_DEPTH,
    STRICT_NESTED_KEYS,
)

_HOSTILE: Final = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT: Final = "�"


class NumberOverflowError(ValueError):
    """A number does not fit a double."""


def clean_text(text: str) -> str:
    """`text` with each NUL and lone surrogate replaced by U+FFFD."""
    return _HOSTILE.sub(REPLACEMENT, text)


def cut_text(text: str, limit_bytes: int) -> str:
    """`text` cut to `limit_bytes` of UTF-8 on a character boundary; 0 means no limit."""
    if not limit_bytes or len(text) * 4 <= limit_bytes:
        return text
    encoded = text.encode()
    if len(encoded) <= limit_bytes:
        return text
    return encoded[:limit_bytes].decode("utf-8", "ignore")


def clean_name(name: str) -> str:
    """A property name as it is stored: cleaned, then cut to 255 characters (contract ingestion §5.4)."""
    return clean_text(name)[:NAME_LIMIT_CHARS]


def nested_too_deeply(value: Any, room: int = NESTING_LIMIT) -> bool:
    """Whether lists and objects in `value` stand more than `room` levels deep in one another."""
    kind = type(value)
    if kind is list:
        return not room or any(nested_too_deeply(item, room - 1) for item in value)
    if kind is dict:
        return not room or any(nested_too_deeply(item, room - 1) for item in value.values())
    return False


def clean_value(value: Any, limit_bytes: int) -> Any:
    """`value` as it is stored; the very same object where nothing had to change.

    The value must not be `nested_too_deeply`. Raises `NumberOverflowError`.
    """
    kind = type(value)
    if kind is str:
        return cut_text(clean_text(value), limit_bytes)
    if kind is int:
        return value if INT_MIN <= value <= INT_MAX else _as_double(value)
    if kind is float:
        if not isfinite(value):
            raise NumberOverflowError
        return value
    if kind is list:
        return _clean_list(value, limit_bytes)
    if kind is dict:
        return _clean_dict(value, limit_bytes)
    return value


def _as_double(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise NumberOverflowError from None


def _clean_list(value: list[Any], limit_bytes: int) -> list[Any]:
    cleaned = [clean_value(item, limit_bytes) for item in value]
    return value if all(a is b for a, b in zip(cleaned, value, strict=True)) else cleaned


def _clean_dict(value: dict[str, Any], limit_bytes: int) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    same = True
    for name, item in value.items():
        new_name = clean_name(name)
        new_item = clean_value(item, limit_bytes)
        same = same and new_item is item and new_name == name
        cleaned.pop(new_name, None)
        cleaned[new_name] = new_item
    return value if same else cleaned


def canonical(value: Any) -> Hashable:
    """A key that two values share exactly when they are equal as JSON (contract ingestion §4.6).

    Numbers compare by value (1 == 1.0); a bool is no number, a numeric string is no number;
    lists compare in order, objects regardless of the order of their keys.
    """
    kind = type(value)
    if kind is str or kind is int or kind is float:
        return value  # type: ignore[no-any-return]
    if kind is list:
        return ("list", *[canonical(item) for item in value])
    if kind is dict:
        return ("dict", frozenset([(name, canonical(item)) for name, item in value.items()]))
    return (value,)


def fits_strict_nesting(value: Any, depth: int = 0) -> bool:
    """Whether objects in `value` have fewer than 255 keys and at most 3 levels (contract §5.4)."""
    kind = type(value)
    if kind is dict:
        if depth >= STRICT_NESTED_DEPTH or len(value) > STRICT_NESTED_KEYS:
            return False
        return all(fits_strict_nesting(item, depth + 1) for item in value.values())
    if kind is list:
        return all(fits_strict_nesting(item, depth) for item in value)
    return True
