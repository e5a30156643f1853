"""What the functions and operators of an expression make of two values (contract query §3.4, §3.5). Pure.

Values are JSON's, `UNDEFINED` and `Instant`. Integers of 64 bits are exact; what grows past them becomes a
double, and what a double cannot hold is undefined. Nothing here raises, whatever the values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

from mixdown.model.expression_nodes import UNDEFINED, Instant
from mixdown.model.limits import INT_MAX, INT_MIN, VALUE_LIMIT_BYTES
from mixdown.model.times import number_of

SECONDS_UP_TO: Final = 4_294_967_295
"""A number up to this is a time in seconds, a larger one in milliseconds (contract query §3.7, D4)."""
TEXT_LIMIT_CHARS: Final = VALUE_LIMIT_BYTES
"""`+` makes no longer text than this."""
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?)?",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - only ever subtracted from others without a zone
_SECOND: Final = timedelta(seconds=1)
_PLAIN_CHARS: Final = 19


@dataclass(frozen=True, slots=True)
class Context:
    """What an expression's answer depends on beside the row.

    `now_s` is `NOW`, in unix seconds; `zone` reads times without an offset; with `ci_strings`, texts are
    equal whatever their case (contract query §3.7, D1). `pause` is called now and then in loops over
    elements, and before what looks through a list or a long text: it may raise, to end an evaluation that
    takes too long.
    """

    now_s: int
    zone: tzinfo = UTC
    ci_strings: bool = False
    pause: Callable[[], None] | None = None


def _pause(context: Context) -> None:
    """Called where one operation may take milliseconds: an expression may hold thousands of them."""
    if context.pause is not None:
        context.pause()


def equal(left: Any, right: Any, context: Context) -> bool:
    """`==`: same type and equal value (contract query §3.5)."""
    kind, other = type(left), type(right)
    if kind is Instant or other is Instant:
        left, right = instant(left, context), instant(right, context)
        return left is not UNDEFINED and left == right
    if kind is str:
        if other is not str:
            return False
        return left == right or (context.ci_strings and left.casefold() == right.casefold())
    if kind is int or kind is float:
        return (other is int or other is float) and bool(left == right)
    if kind is list:
        if other is not list or len(left) != len(right):
            return False
        _pause(context)
        return all(equal(a, b, context) for a, b in zip(left, right, strict=True))
    if kind is dict:
        if other is not dict or len(left) != len(right):
            return False
        _pause(context)
        return all(name in right and equal(item, right[name], context) for name, item in left.items())
    return left is right


def ordered(operator: str, left: Any, right: Any, context: Context) -> Any:
    """`<`, `<=`, `>`, `>=`: two numbers, two texts by code point, or two times; else undefined."""
    kind, other = type(left), type(right)
    if kind is Instant or other is Instant:
        left, right = instant(left, context), instant(right, context)
        if left is UNDEFINED or right is UNDEFINED:
            return UNDEFINED
        left, right = left.seconds, right.seconds
    elif kind is str:
        if other is not str:
            return UNDEFINED
    elif kind not in (int, float) or other not in (int, float):
        return UNDEFINED
    if operator == "<":
        return left < right
    if operator == "<=":
        return left <= right
    return left > right if operator == ">" else left >= right


def contains(needle: Any, haystack: Any, context: Context) -> Any:
    """`needle in haystack`: a part of a text, an element of a list; else undefined."""
    if needle is UNDEFINED:
        return UNDEFINED
    if type(haystack) is list:
        _pause(context)
        return any(equal(needle, item, context) for item in haystack)
    if type(haystack) is str and type(needle) is str:
        if context.ci_strings:
            return needle in haystack or needle.casefold() in haystack.casefold()
        return needle in haystack
    return UNDEFINED


def arithmetic(operator: str, left: Any, right: Any) -> Any:
    """`+ - * / %` of numbers, `+` of texts; undefined for all else.

    So it is past the range of a double, and for a text longer than `TEXT_LIMIT_CHARS`.
    """
    kind, other = type(left), type(right)
    if kind is str and other is str and operator == "+":
        return left + right if len(left) + len(right) <= TEXT_LIMIT_CHARS else UNDEFINED
    if kind not in (int, float) or other not in (int, float):
        return UNDEFINED
    if operator == "+":
        return _kept(left + right)
    if operator == "-":
        return _kept(left - right)
    if operator == "*":
        return _kept(left * right)
    if right == 0:
        return UNDEFINED
    if operator == "/":
        return _kept(float(left) / float(right))
    if kind is int and other is int:
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    return _kept(math.fmod(left, right))


def negated(value: Any) -> Any:
    """Unary `-`: of a number; else undefined."""
    return _kept(-value) if type(value) in (int, float) else UNDEFINED


def _kept(value: float) -> Any:
    """A number as it can be stored: integers past 64 bits become doubles; no infinity, no NaN."""
    if type(value) is int:
        return value if INT_MIN <= value <= INT_MAX else float(value)
    return value if math.isfinite(value) else UNDEFINED


def truth(value: Any) -> bool:
    """`boolean(x)`: false for undefined, null, "", "false", 0 and false, true for all else."""
    kind = type(value)
    if kind is str:
        return value not in {"", "false"}
    if kind is bool or kind is int or kind is float:
        return bool(value)
    return value is not None and value is not UNDEFINED


def number(value: Any) -> Any:
    """`number(x)`."""
    kind = type(value)
    if kind is int or kind is float:
        return value
    if kind is bool:
        return int(value)
    if kind is str:
        found = number_of(value)
        return UNDEFINED if found is None else found
    return seconds_of(value) if kind is Instant else UNDEFINED


def seconds_of(value: Instant) -> Any:
    """The unix seconds of a time as a number that can be stored."""
    return _kept(value.seconds)


def string(value: Any) -> Any:
    """`string(x)`: numbers in plain decimals, integers without `.0`."""
    kind = type(value)
    if kind is str or value is None:
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value)
    if kind is float:
        digits = format(Decimal(repr(value)), "f")
        plain = digits.rstrip("0").rstrip(".") if "." in digits else digits
        return "0" if plain == "-0" else plain
    return UNDEFINED


def listed(value: Any) -> Any:
    """`list(x)`: a list as it is, any other value alone in one; undefined for null and undefined."""
    if type(value) is list:
        return value
    if value is None or value is UNDEFINED or type(value) is dict:
        return UNDEFINED
    return [value]


def instant(value: Any, context: Context) -> Any:
    """`datetime(x)`: an `Instant`, or undefined where x is no time."""
    kind = type(value)
    if kind is Instant:
        return value
    if kind is str:
        return _moment(value, context.zone)
    if kind is int or kind is float:
        if value < 1:
            return UNDEFINED
        return Instant(int(value) if value <= SECONDS_UP_TO else int(value) // 1000)
    return UNDEFINED


def _moment(text: str, zone: tzinfo) -> Any:
    match = _MOMENT.fullmatch(text)
    if match is None:
        return UNDEFINED
    try:
        moment = datetime.fromisoformat(text[:_PLAIN_CHARS])  # a fraction is cut off
        if match[2] and match[2] != "Z":
            offset = timedelta(hours=int(match[2][1:3]), minutes=int(match[2][4:6]))
            if offset.days or int(match[2][4:6]) >= 60:
                return UNDEFINED
            seconds = (moment - _EPOCH) // _SECOND
            return Instant(seconds + (offset // _SECOND if match[2][0] == "-" else -(offset // _SECOND)))
        if match[2] or zone is UTC:
            return Instant((moment - _EPOCH) // _SECOND)
        shift = zone.utcoffset(moment.replace(tzinfo=zone)) or timedelta()
        return Instant((moment - _EPOCH - shift) // _SECOND)
    except (ValueError, OverflowError):
        return UNDEFINED


def rounded(function: str, value: Any) -> Any:
    """`floor(x)`, `ceil(x)`, `round(x)` (half away from zero) of a number, else undefined."""
    if type(value) is int:
        return value
    if type(value) is not float:
        return UNDEFINED
    if function == "floor":
        return _kept(math.floor(value))
    if function == "ceil":
        return _kept(math.ceil(value))
    size = abs(value)
    whole = math.floor(size)
    whole += size - whole >= 0.5
    return _kept(-whole if value < 0 else whole)


def affixed(function: str, text: Any, affix: Any, context: Context) -> Any:
    """`has_prefix(text, affix)`, `has_suffix(...)`: whatever the case; undefined unless both are texts."""
    if type(text) is not str or type(affix) is not str:
        return UNDEFINED
    _pause(context)
    if function == "has_prefix":
        return text.casefold().startswith(affix.casefold())
    return text.casefold().endswith(affix.casefold())
