"""What an engine's SQL must be able to say of one property of a profile, and how conditions are joined.

Enters: names and values. Leaves: `Bound`s, pairs of SQL conditions (`store/filters.py`). It knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any, Final, NamedTuple, Protocol


class Sql(NamedTuple):
    """A condition and its bindings, in the order of its placeholders."""

    text: str
    bindings: tuple[Any, ...] = ()


class Bound(NamedTuple):
    """`upper` is met by every row that is meant, `lower` only by such rows."""

    upper: Sql
    lower: Sql


_TRUE: Final = Sql("TRUE")
_FALSE: Final = Sql("FALSE")
ALWAYS: Final = Bound(_TRUE, _TRUE)
NEVER: Final = Bound(_FALSE, _FALSE)
ANYTHING: Final = Bound(_TRUE, _FALSE)
"""What SQL says nothing about."""


class Dialect(Protocol):
    """Conditions on one property, in one engine's SQL; each is null or false where it is not met."""

    document: str
    """The stored document as a column for Python to read."""

    def is_absent(self, name: str) -> Bound:
        """There is no such property."""

    def is_null(self, name: str) -> Bound:
        """It is null."""

    def is_boolean(self, name: str, *, value: bool) -> Bound:
        """It is this boolean."""

    def is_no(self, name: str) -> Bound:
        """It is absent, null or false."""

    def is_text(self, name: str) -> Bound:
        """It is a text."""

    def is_list(self, name: str) -> Bound:
        """It is a list or an object; the upper bound may say more."""

    def is_truthy(self, name: str) -> Bound:
        """`boolean(...)` of it is true."""

    def present(self, name: str) -> Bound:
        """It is neither absent nor null."""

    def text_in(self, name: str, values: Sequence[str]) -> Bound:
        """It is one of these texts."""

    def number_in(self, name: str, values: Sequence[float]) -> Bound:
        """It equals one of these numbers."""

    def text_order(self, name: str, operator: str, value: str) -> Bound:
        """It is a text before or behind this one, by code points."""

    def number_order(self, name: str, operator: str, value: float) -> Bound:
        """It is a number below or above this one."""

    def has_part(self, name: str, part: str) -> Bound:
        """It is a text with this part."""

    def has_element(self, name: str, value: Any) -> Bound:
        """It is a list with this text, number, boolean or null in it."""

    def has_affix(self, name: str, affix: str, *, at_end: bool) -> Bound:
        """It is a text that begins, or ends, so, whatever the case."""

    def moment(self, name: str, begin: int | None, end: int | None, zone: tzinfo) -> Bound:
        """`datetime(...)` of it lies in [begin, end), in unix seconds; None is no limit."""


def sure(condition: bool | Sql) -> Bound:  # noqa: FBT001 - one word for both
    """A condition that says exactly what is meant."""
    if isinstance(condition, Sql):
        return Bound(condition, condition)
    return ALWAYS if condition else NEVER


def every(bounds: Sequence[Bound]) -> Bound:
    """All of them are met."""
    return Bound(
        _joined("AND", [bound.upper for bound in bounds]), _joined("AND", [bound.lower for bound in bounds])
    )


def some(bounds: Sequence[Bound]) -> Bound:
    """One of them is met."""
    return Bound(
        _joined("OR", [bound.upper for bound in bounds]), _joined("OR", [bound.lower for bound in bounds])
    )


def none_of(bound: Bound) -> Bound:
    """It is not met."""
    if bound.upper == bound.lower:
        return sure(_negated(bound.upper))
    return Bound(_negated(bound.lower), _negated(bound.upper))


def _negated(sql: Sql) -> Sql:
    if sql == _TRUE:
        return _FALSE
    return _TRUE if sql == _FALSE else Sql(f"({sql.text}) IS NOT TRUE", sql.bindings)


def _joined(word: str, parts: Sequence[Sql]) -> Sql:
    """The parts joined pairwise, not in a chain, for engines limit how deep a condition is."""
    decisive, neutral = (_FALSE, _TRUE) if word == "AND" else (_TRUE, _FALSE)
    if decisive in parts:
        return decisive
    left = [part for part in parts if part != neutral]
    while len(left) > 1:
        pairs = zip(left[::2], left[1::2], strict=False)
        joined = [Sql(f"({a.text} {word} {b.text})", a.bindings + b.bindings) for a, b in pairs]
        left = joined + left[len(joined) * 2 :]
    return left[0] if left else neutral
