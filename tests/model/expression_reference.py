"""A second evaluator of expressions, written from the contract (query §3.1 to §3.5) and nothing else.

It works on trees of plain tuples, never on text, shares no code with the product, and is as plain and as slow
as it may be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple


class Absent:
    """The type of undefined."""

    def __repr__(self) -> str:
        return "undefined"


ABSENT = Absent()


class Moment(NamedTuple):
    """What datetime() gives."""

    seconds: int


class World(NamedTuple):
    """One row and what surrounds it."""

    properties: Mapping[str, Any]
    profile_id: str
    now_s: int
    zone: tzinfo
    variables: tuple[tuple[str, Any], ...] = ()
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = {}
    ci_strings: bool = False


def kind(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    if value is None:
        return "null"
    return "datetime" if isinstance(value, Moment) else names.get(type(value), "undefined")


def truth_of(tree: Any, world: World) -> bool:
    """Whether the row matches: the value is boolean true."""
    return value_of(tree, world) is True


def value_of(tree: Any, world: World) -> Any:
    name, *rest = tree
    if name in FORMS:
        return FORMS[name](rest, world)
    return OPERATORS[name](*[value_of(part, world) for part in rest], world)


def _property(rest: list[Any], world: World) -> Any:
    accessor, name = rest
    if accessor not in ("properties", "user"):
        return ABSENT
    if name in world.properties:
        return world.properties[name]
    return world.profile_id if name in ("$distinct_id", "distinct_id") else ABSENT


def _lookup(rest: list[Any], world: World) -> Any:
    """A cell of the row whose key is string() of the key; times are texts alone in a tuple."""
    table, column, key = rest
    text = to_string(value_of(key, world), world)
    if kind(text) != "string":
        return ABSENT
    value = world.tables.get(table, {}).get(text, {}).get(column, ABSENT)
    return to_datetime(value[0], world) if isinstance(value, tuple) else value


def _variable(rest: list[Any], world: World) -> Any:
    return [value for name, value in world.variables if name == rest[0]][-1]


def _and(rest: list[Any], world: World) -> bool:
    return truth_of(rest[0], world) and truth_of(rest[1], world)


def _or(rest: list[Any], world: World) -> bool:
    return truth_of(rest[0], world) or truth_of(rest[1], world)


def _quantified(test: Any) -> Any:
    def run(rest: list[Any], world: World) -> Any:
        name, source, body = rest
        elements = value_of(source, world)
        if kind(elements) != "list":
            return ABSENT
        worlds = [world._replace(variables=(*world.variables, (name, element))) for element in elements]
        return test([truth_of(body, inner) for inner in worlds])

    return run


FORMS: dict[str, Any] = {
    "literal": lambda rest, _: rest[0],
    "now": lambda _, world: world.now_s,
    "list": lambda rest, world: [value_of(item, world) for item in rest[0]],
    "property": _property,
    "lookup": _lookup,
    "variable": _variable,
    "and": _and,
    "or": _or,
    "any": _quantified(any),
    "all": _quantified(all),
}


# --- operators -----------------------------------------------------------------------------------


def same(left: Any, right: Any, world: World) -> bool:
    if [kind(left), kind(right)].count("datetime") == 1:
        left, right = to_datetime(left, world), to_datetime(right, world)
    if kind(left) != kind(right):
        return False
    if kind(left) == "number":
        return Fraction(left) == Fraction(right)
    if kind(left) == "list":
        return len(left) == len(right) and all(same(a, b, world) for a, b in zip(left, right, strict=True))
    if kind(left) == "object":
        return left.keys() == right.keys() and all(same(left[name], right[name], world) for name in left)
    if kind(left) == "string":
        return folded(left, world) == folded(right, world)
    return kind(left) in ("undefined", "null") or bool(left == right)


def folded(text: str, world: World) -> str:
    """What of a text `==` and `in` look at."""
    return text.casefold() if world.ci_strings else text


def less(left: Any, right: Any, world: World) -> Any:
    if [kind(left), kind(right)].count("datetime") == 1:
        left, right = to_datetime(left, world), to_datetime(right, world)
    kinds = {kind(left), kind(right)}
    if kinds == {"number"}:
        return Fraction(left) < Fraction(right)
    if kinds == {"string"}:
        return [ord(character) for character in left] < [ord(character) for character in right]
    return left.seconds < right.seconds if kinds == {"datetime"} else ABSENT


def not_after(left: Any, right: Any, world: World) -> Any:
    after = less(right, left, world)
    return ABSENT if after is ABSENT else not after


def within(needle: Any, haystack: Any, world: World) -> Any:
    if ABSENT in (needle, haystack):
        return ABSENT
    if kind(haystack) == "list":
        return any(same(needle, item, world) for item in haystack)
    if kind(needle) == kind(haystack) == "string":
        return folded(needle, world) in folded(haystack, world)
    return ABSENT


def storable(number: Any) -> Any:
    """64-bit integers, else doubles; no infinity."""
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        number = float(number)
    return ABSENT if isinstance(number, float) and not math.isfinite(number) else number


def numeric(compute: Any) -> Any:
    def run(left: Any, right: Any, _: World) -> Any:
        if kind(left) == kind(right) == "number":
            try:
                return storable(compute(left, right))
            except (ZeroDivisionError, OverflowError, ValueError):
                return ABSENT
        return ABSENT

    return run


def plus(left: Any, right: Any, world: World) -> Any:
    if kind(left) == kind(right) == "string":
        return left + right
    return numeric(lambda a, b: a + b)(left, right, world)


def remainder(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        return int(math.copysign(1, left)) * (abs(left) % abs(right))
    return math.fmod(left, right)


def negation(value: Any, _: World) -> Any:
    if kind(value) == "boolean":
        return not value
    return True if kind(value) in ("undefined", "null") else ABSENT


# --- functions -----------------------------------------------------------------------------------


def to_boolean(value: Any, _: World) -> bool:
    if kind(value) == "number":
        return bool(value != 0)
    if kind(value) == "string":
        return value not in ("", "false")
    return kind(value) in ("list", "object", "datetime") or value is True


def to_number(value: Any, _: World) -> Any:
    if kind(value) == "boolean":
        return 1 if value else 0
    if kind(value) == "string" and re.fullmatch(
        r"[ \t\r\n\f\v]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t\r\n\f\v]*", value
    ):
        plain = value.strip()
        return storable(int(plain) if re.fullmatch("[+-]?[0-9]+", plain) else float(plain))
    if kind(value) == "datetime":
        return value.seconds
    return value if kind(value) == "number" else ABSENT


def to_string(value: Any, _: World) -> Any:
    if kind(value) == "boolean":
        return "true" if value else "false"
    if kind(value) == "number":
        if value == int(value):
            return str(int(Decimal(repr(value))))
        return f"{Decimal(repr(value)):f}"
    return value if kind(value) in ("string", "null") else ABSENT


def to_list(value: Any, _: World) -> Any:
    if kind(value) == "list":
        return value
    return ABSENT if kind(value) in ("undefined", "null", "object") else [value]


TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"([T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?(Z|([+-])([0-9]{2}):([0-9]{2}))?)?"
)


def to_datetime(value: Any, world: World) -> Any:
    if kind(value) == "number":
        if value < 1:
            return ABSENT
        return Moment(math.floor(value) if value <= 4294967295 else math.floor(value) // 1000)
    if kind(value) == "string":
        return from_text(value, world.zone)
    return value if kind(value) == "datetime" else ABSENT


def from_text(text: str, zone: tzinfo) -> Any:
    match = TIME.fullmatch(text)
    if match is None:
        return ABSENT
    numbers = [int(part or 0) for part in match.group(1, 2, 3, 5, 6, 7)]
    try:
        moment = datetime(*numbers, tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return ABSENT
    shift = timedelta()
    if match[10]:
        hours, minutes = int(match[11]), int(match[12])
        if hours > 23 or minutes > 59:
            return ABSENT
        shift = timedelta(hours=hours, minutes=minutes) * (1 if match[10] == "+" else -1)
    elif match[9] is None:
        shift = zone.utcoffset(moment.replace(tzinfo=None)) or timedelta()
    since = moment - datetime(1970, 1, 1, tzinfo=UTC) - shift
    return Moment(since.days * 86400 + since.seconds)


def rounding(compute: Any) -> Any:
    def run(value: Any, _: World) -> Any:
        return storable(compute(Fraction(value))) if kind(value) == "number" else ABSENT

    return run


def half_away(value: Fraction) -> int:
    whole = math.floor(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


def affix(compare: Any) -> Any:
    def run(text: Any, part: Any, _: World) -> Any:
        if kind(text) == kind(part) == "string":
            return compare(text.casefold(), part.casefold())
        return ABSENT

    return run


OPERATORS: dict[str, Any] = {
    "==": same,
    "!=": lambda left, right, world: not same(left, right, world),
    "<": less,
    "<=": not_after,
    ">": lambda left, right, world: less(right, left, world),
    ">=": lambda left, right, world: not_after(right, left, world),
    "in": within,
    "+": plus,
    "-": numeric(lambda a, b: a - b),
    "*": numeric(lambda a, b: a * b),
    "/": numeric(lambda a, b: float(a) / float(b)),
    "%": numeric(remainder),
    "not": negation,
    "negative": lambda value, _: storable(-value) if kind(value) == "number" else ABSENT,
    "defined": lambda value, _: kind(value) not in ("undefined", "null"),
    "boolean": to_boolean,
    "number": to_number,
    "string": to_string,
    "list_of": to_list,
    "datetime": to_datetime,
    "floor": rounding(math.floor),
    "ceil": rounding(math.ceil),
    "round": rounding(half_away),
    "has_prefix": affix(lambda text, part: text.startswith(part)),
    "has_suffix": affix(lambda text, part: text.endswith(part)),
}
