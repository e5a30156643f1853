"""Limits on what a record may hold (contract ingestion §5.4, §5.5).

Constants are fixed for every store, because a re-fold must give what the first fold gave. What a
user may set (`Limits`) is applied before a record reaches the log.
"""

from __future__ import annotations

from typing import Final

import msgspec

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
NAME_LIMIT_CHARS: Final = 255
PROPERTIES_PER_PROFILE: Final = 2000
VALUE_LIMIT_BYTES: Final = 262_144
PROFILE_LIMIT_BYTES: Final = 4 * 1024 * 1024
NESTING_LIMIT: Final = 64
STRICT_NESTED_KEYS: Final = 254
STRICT_NESTED_DEPTH: Final = 3
KEY_WINDOW_MS: Final = 7 * 24 * 3600 * 1000
EVENT_PROPERTIES: Final = 255
EVENT_ITEMS: Final = 254
EVENT_VALUE_LIMIT_BYTES: Final = 8192
EXPRESSION_LIMIT_CHARS: Final = 262_144
EXPRESSION_NESTING_LIMIT: Final = 100
"""How deep parentheses, operators, lists and calls of an expression may stand in one another."""
EXPRESSION_PROPERTIES_LIMIT: Final = 1000
"""How many different properties one expression may name."""
EXPRESSION_SUMS_LIMIT: Final = 250
"""How many `+` one expression may hold: each may make a text as long as a value may be."""


class Limits(msgspec.Struct, frozen=True):
    """Limits applied while a request is read; `string_limit_bytes=0` keeps strings whole."""

    string_limit_bytes: int = 255
    record_limit_bytes: int = 1_048_576
    records_per_request: int = 2000
    body_limit_bytes: int = 10_485_760
