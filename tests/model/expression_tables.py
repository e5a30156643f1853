"""Lookup tables that the profiles of `expression_strategies` meet: as CSV has them, and as what it means."""

from __future__ import annotations

import random
from typing import Any

from tests.model.expression_reference import ABSENT
from tests.model.expression_strategies import TEXTS

LOOKUP_KEYS = [text for text in TEXTS if text.strip()] + [
    "1", "-1", "35.5", "0.5", "9007199254740993", "9007199254740992", "1e+23", "100000000000000000000000",
    "4611686018427388000", "4611686018427387904", "9223372036854775807", "-9223372036854775808", "1773187200",
    "-0", "1.0", "user-3", "user-30",
]  # fmt: skip
LOOKUP_COLUMNS = ("a", "price", "since", "tags", "on", "next")
_CELLS: list[tuple[str, Any]] = [
    ("", ABSENT), ("0", 0), ("12.5", 12.5), ("36", 36), ("-3", -3), ("1e3", 1000.0), ("007", "007"),
    ("TRUE", True), ("False", False), ("true", True), ('["a", "pro"]', ["a", "pro"]), ("[]", []),
    ("pro", "pro"), ("[1]", "[1]"), ("2026-03-11T00:00:00", ("2026-03-11T00:00:00",)),
    ("2026-03-10T20:00:00-04:00", ("2026-03-10T20:00:00-04:00",)),
    ("2026-03-11", "2026-03-11"), ("2026-02-30T00:00:00", "2026-02-30T00:00:00"), ('{"a":1}', '{"a":1}'),
    ("9007199254740993", 9007199254740993), ("1e400", "1e400"), (" 36", " 36"),
]  # fmt: skip


class StandIn:
    """A lookup table of the product, over rows that are known; a large one does not give its keys."""

    def __init__(self, name: str, rows: dict[str, list[str]], *, large: bool) -> None:
        self.name = name
        self.columns = LOOKUP_COLUMNS
        self._rows = rows
        self._large = large

    def cell(self, key: str, column: int) -> str:
        return self._rows[key][column] if key in self._rows else ""

    def keys(self) -> list[str] | None:
        return None if self._large else list(self._rows)


def _made_tables() -> tuple[dict[str, StandIn], dict[str, dict[str, dict[str, Any]]]]:
    """The same tables for the product, as texts, and for the reference, as values."""
    dice = random.Random(20260312)
    given: dict[str, StandIn] = {}
    meant: dict[str, dict[str, dict[str, Any]]] = {}
    for name, keys in (("plans", LOOKUP_KEYS), ("large", LOOKUP_KEYS[::2])):
        texts: dict[str, list[str]] = {}
        meant[name] = {}
        for key in keys:
            cells = [dice.choice(_CELLS) for _ in LOOKUP_COLUMNS[1:]]
            cells[-1] = ((text := dice.choice(LOOKUP_KEYS)), _key_value(text))
            texts[key] = [key, *(text for text, _ in cells)]
            values = [_key_value(key), *(value for _, value in cells)]
            meant[name][key] = dict(zip(LOOKUP_COLUMNS, values, strict=True))
        given[name] = StandIn(name, texts, large=name == "large")
    return given, meant


def _key_value(text: str) -> Any:
    """What a cell with the text of a key is, said key by key: a number, a boolean, a time or a text."""
    if text in ("true", "false"):
        return text == "true"
    if text in ("36", "1", "-1", "9007199254740993", "9007199254740992", "9223372036854775807", "1773187200"):
        return int(text)
    if text in ("-9223372036854775808", "-0", "4611686018427388000", "4611686018427387904"):
        return int(text)
    if text in ("12.5", "1e3", "35.5", "0.5", "1e+23", "100000000000000000000000", "1.0"):
        return float(text)
    if text == '["a"]':
        return ["a"]
    return (text,) if text in _TIMES else text


_TIMES = (
    "2026-03-11T00:00:00", "2026-03-11T00:00:01", "2026-03-10T23:59:59", "2026-03-11 00:00:00",
    "2026-03-11T00:00:00Z", "2026-03-11T02:00:00+02:00", "2026-03-10T22:30:00-01:30", "2026-03-11T00:00:00.5",
    "2024-02-29T00:00:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59",
    "2026-03-08T02:30:00", "2026-11-01T01:30:00",
)  # fmt: skip
GIVEN_TABLES, MEANT_TABLES = _made_tables()
