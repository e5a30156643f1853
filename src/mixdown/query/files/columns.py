"""A column for each property: which there are, and of what type each is, learnt while rows pass by.

Enters: properties, row by row. Leaves: rows with one member for each column, and in the end the
columns with their types. What no column can say goes into one object, the column `$properties`. It holds
names and a few bits for each, never a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

REST_COLUMN: Final = "$properties"
REST_KEY: Final = "p"
COLUMN_LIMIT: Final = 2000

_TEXT, _INT, _FLOAT, _BOOL, _JSON, _BIG = 1, 2, 4, 8, 16, 32
_BITS: Final[dict[type, int]] = {str: _TEXT, int: _INT, float: _FLOAT, bool: _BOOL}
_EXACT: Final = 2**53
_TYPES: Final = {
    _TEXT: "VARCHAR",
    _INT: "BIGINT",
    _INT | _BIG: "BIGINT",
    _FLOAT: "DOUBLE",
    _INT | _FLOAT: "DOUBLE",
    _BOOL: "BOOLEAN",
}

Row = dict[str, Any]
"""`REST_KEY` where something is left over, and a key for each column that has a value."""


class Column(msgspec.Struct, frozen=True):
    """`key` is its member in a `Row`, `name` what it is called, `type` DuckDB's: JSON for mixed values."""

    key: str
    name: str
    type: str


class Columns(msgspec.Struct):
    """Learns the columns of properties. `fold_case`: names that differ only by case share no table.

    `lead` are the columns that each row has, in front of those. `null_apart`: a null is left over, since the
    column would say "no value". `names` and `bits` are what it has learnt so far, column by column: to be
    kept, and gone on with.
    """

    lead: tuple[Column, ...]
    fold_case: bool
    null_apart: bool
    names: list[str] = []
    bits: list[int] = []
    rest: bool = False
    known: dict[str, int] = {}
    taken: set[str] = set()

    def __post_init__(self) -> None:
        self.known = {name: at for at, name in enumerate(self.names)}
        own = [column.name for column in self.lead]
        self.taken = {self._folded(name) for name in (*own, REST_COLUMN, "", *self.names)}

    def row(self, lead: Sequence[Any], properties: dict[str, Any]) -> Row:
        """What each row has, and properties, as a row; columns and their types are noted."""
        row: Row = {column.key: value for column, value in zip(self.lead, lead, strict=True)}
        rest: dict[str, Any] = {}
        known, bits = self.known, self.bits
        for name, value in properties.items():
            at = known.get(name)
            if at is None:
                at = self._add(name)
            if at < 0 or (value is None and self.null_apart):
                rest[name] = value
                continue
            kind = type(value)
            if kind is int and not -_EXACT <= value <= _EXACT:
                bits[at] |= _INT | _BIG
            else:
                bits[at] |= _BITS.get(kind, _JSON)
            row[str(at)] = value
        if rest:
            row[REST_KEY] = rest
            self.rest = True
        return row

    def found(self) -> list[Column]:
        """The columns in the order of their names, behind those that each row has."""
        properties = sorted(
            (Column(str(at), name, _TYPES.get(self.bits[at], "JSON")) for at, name in enumerate(self.names)),
            key=lambda column: column.name,
        )
        return [*self.lead, *properties, *([REST] if self.rest else [])]

    def _add(self, name: str) -> int:
        """The number of a new column, or -1 where it gets none."""
        folded = self._folded(name)
        if len(self.names) >= COLUMN_LIMIT or folded in self.taken:
            return -1
        self.taken.add(folded)
        self.known[name] = len(self.names)
        self.names.append(name)
        self.bits.append(0)
        return len(self.names) - 1

    def _folded(self, name: str) -> str:
        return name.casefold() if self.fold_case else name


REST: Final = Column(REST_KEY, REST_COLUMN, "JSON")
"""What no column can say; in the layout with one column, all properties."""
