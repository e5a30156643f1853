"""Expressions and profiles that meet each other: few names, and values that are nearly, but not quite, equal.

A tree is a tuple as `expression_reference` takes it; `text_of` writes it down with as few parentheses as the
grammar allows (contract query §3.2), so that the parser's precedence is under test as well.
"""

from __future__ import annotations

import json
import random
from datetime import tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tests.model.expression_reference import ABSENT

Tree = Any
Rules = tuple[tzinfo, bool]
"""A project's zone, and whether its texts are equal whatever their case."""

NAMES = ("a", "b", "$distinct_id", 'a"b\\', "", "ключ", "a.b", "x[0]")
TEXTS = (
    "",
    "a",
    "A",
    "ab",
    "pro",
    "36",
    " 36 ",
    "12.5",
    "1e3",
    "true",
    "false",
    "null",
    "[",
    "{",
    '["a"]',
    '{"a":1}',
    "Straße",
    "STRASSE",
    "\u212a",
    "k",
    "ключ",
    "\U0001f600",
    "\uffff",
    'say "hi"',
    "back\\slash",
    "tab\there",
    "user-1",
    "2026-03-11T00:00:00",
    "2026-03-11T00:00:01",
    "2026-03-10T23:59:59",
    "2026-03-11",
    "2026-03-11 00:00:00",
    "2026-03-11T00:00:00Z",
    "2026-03-11T02:00:00+02:00",
    "2026-03-10T22:30:00-01:30",
    "2026-03-11T00:00:00.5",
    "2026-02-29T00:00:00",
    "2024-02-29T00:00:00",
    "2026-04-31T00:00:00",
    "2026-03-11T24:00:00",
    "0000-01-01T00:00:00",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59",
    "2026-03-11T00:00",
    "2026-03-11T00:00:00+24:00",
    "2026-03-08T02:30:00",
    "2026-11-01T01:30:00",
    "now",
)  # fmt: skip
NUMBERS = (
    0,
    -0.0,
    1,
    1.0,
    -1,
    2,
    36,
    36.0,
    35.5,
    0.5,
    -0.5,
    0.1,
    12.5,
    1000,
    5e-324,
    1e308,
    -1e308,
    0.49999999999999994,
    2**53,
    2**53 + 1,
    float(2**53),
    2**62,
    4.611686018427388e18,
    2**63 - 1,
    -(2**63),
    9.223372036854776e18,
    1e23,
    1773187200,
    1773187199.5,
    1773187200000,
    1773187200000.5,
    1772955000,
    1793511000,
    4294967295,
    4294967295.5,
    4294967296,
)  # fmt: skip
SCALARS: tuple[Any, ...] = (*TEXTS, *NUMBERS, True, False, None)
COMPOUNDS: tuple[Any, ...] = (
    [],
    ["a"],
    ["pro", "a"],
    [1],
    [1.0, True],
    [False],
    [None],
    ["2026-03-11T00:00:00"],
    [["a"]],
    [36, "36"],
    [2**53 + 1],
    [4.611686018427388e18],
    ['say "hi"', "ключ"],
    {},
    {"a": 1},
    {"a": 1.0},
    [{"a": 1}],
    ["false"],
)
VALUES = SCALARS + COMPOUNDS
NOW_S = 1773187200
"""11 March 2026; New York puts its clocks forward on the 8th, and back on the 1st of November."""
ZONES = (
    "America/New_York",
    "Asia/Kolkata",
    "Europe/Berlin",
    "America/St_Johns",
    "Etc/GMT-14",
)
NEW_YORK: Rules = (ZoneInfo("America/New_York"), True)
rules = st.tuples(st.sampled_from(ZONES).map(ZoneInfo), st.booleans())


def population() -> list[tuple[str, dict[str, Any]]]:
    """Profiles in which each value stands under `a`, and all the names and values meet."""
    dice = random.Random(20260311)
    rows: list[tuple[str, dict[str, Any]]] = [("user-0", {})]
    for number, value in enumerate(VALUES, 1):
        row = {"a": value}
        for name in NAMES[1:]:
            if dice.random() < (0.8 if name == "b" else 0.3):
                row[name] = dice.choice(VALUES)
        rows.append((f"user-{number}", row))
    return rows


# --- trees ---------------------------------------------------------------------------------------


def literal(value: Any) -> Tree:
    """A known value as a tree: negative numbers are negated ones."""
    if isinstance(value, list):
        return ("list", [literal(item) for item in value])
    if type(value) in (int, float) and (value < 0 or str(value) == "-0.0"):
        return ("negative", ("literal", -value))
    return ("literal", value)


properties = st.builds(
    lambda accessor, name: ("property", accessor, name),
    st.sampled_from(["properties"] * 8 + ["user", "event", "behaviors"]),
    st.sampled_from(["a"] * 6 + ["b"] * 3 + [*NAMES]),
)
WRITABLE = [value for value in VALUES if "{" not in repr(value) or isinstance(value, str)]
"""Values that an expression can spell: there are no objects in it."""
literals = st.builds(literal, st.sampled_from(WRITABLE))
lookups = st.builds(
    lambda table, column, key: ("lookup", table, column, key),
    st.sampled_from(["plans"] * 3 + ["large"]),
    st.sampled_from(["price"] * 3 + ["a", "since", "tags", "on"]),
    st.one_of(
        properties,
        st.just(("property", "properties", "a")),
        st.just(("property", "properties", "a")),
        st.builds(literal, st.sampled_from(["pro", 36, True, "none"])),
        st.just(("lookup", "plans", "next", ("property", "properties", "a"))),
        st.just(("string", ("property", "properties", "b"))),
    ),
)
leaves = st.one_of(
    properties,
    properties,
    lookups,
    literals,
    literals,
    st.just(("literal", ABSENT)),
    st.just(("now",)),
    st.builds(lambda items: ("list", items), st.lists(literals | properties, max_size=3)),
)
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in")
CASTS = ("defined", "boolean", "number", "string", "list_of", "datetime", "floor", "ceil", "round")


def _values(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    binary = st.tuples(st.sampled_from(("+", "-", "*", "/", "%")), inner, inner)
    return st.one_of(st.tuples(st.sampled_from(CASTS), inner), binary, st.tuples(st.just("negative"), inner))


values = st.one_of(leaves, st.recursive(leaves, _values, max_leaves=3))
variables = st.sampled_from([("variable", "X")])
elements = st.tuples(st.sampled_from(COMPARISONS), variables, values)
comparisons = st.tuples(st.sampled_from(COMPARISONS), values, values)
conditions = st.one_of(
    comparisons,
    comparisons,
    comparisons,
    properties,
    st.tuples(st.sampled_from(("defined", "boolean")), values),
    st.tuples(st.sampled_from(("has_prefix", "has_suffix")), values, values),
    st.tuples(st.sampled_from(("any", "all")), st.just("X"), values, elements),
    st.tuples(st.sampled_from(("==", "!=")), comparisons, st.builds(literal, st.booleans())),
)
trees = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(("and", "or")), inner, inner), st.tuples(st.just("not"), inner)
    ),
    max_leaves=4,
)


# --- text ----------------------------------------------------------------------------------------

LEVELS = {
    "or": 0,
    "and": 1,
    "not": 2,
    **dict.fromkeys(COMPARISONS, 3),
    "+": 4,
    "-": 4,
    "*": 5,
    "/": 5,
    "%": 5,
}
TIGHTEST = 7


def text_of(tree: Tree, level: int = 0) -> str:
    """The tree as an expression; in parentheses where it binds less tightly than `level`."""
    name, *rest = tree
    if name in LEVELS and name != "not":
        own = LEVELS[name]
        text = f"{text_of(rest[0], own)} {name} {text_of(rest[1], own + 1)}"
    elif name == "not":
        own = 2
        text = f"not {text_of(rest[0], own)}"
    elif name == "negative":
        own = 6
        text = f"-{text_of(rest[0], own)}"
    else:
        own, text = TIGHTEST, _tight(name, rest)
    return f"({text})" if own < level else text


def _tight(name: str, rest: list[Any]) -> str:
    if name == "literal":
        return "undefined" if rest[0] is ABSENT else json.dumps(rest[0])
    if name == "now":
        return "NOW"
    if name == "list":
        return f"[{', '.join(map(text_of, rest[0]))}]"
    if name == "property":
        return f"{rest[0]}[{json.dumps(rest[1], ensure_ascii=False)}]"
    if name == "variable":
        return str(rest[0])
    if name == "lookup":
        table, column, key = rest
        given = "" if key == ("property", "properties", "a") else f", {text_of(key)}"
        return f'lookup["{table}"{given}]["{column}"]'
    if name in ("any", "all"):
        return f"{name}({rest[0]}, {text_of(rest[1])}, {text_of(rest[2])})"
    return f"{'list' if name == 'list_of' else name}({', '.join(map(text_of, rest))})"


# --- one of each ---------------------------------------------------------------------------------

A: Tree = ("property", "properties", "a")
ID: Tree = ("property", "properties", "$distinct_id")


def one_of_each() -> list[Tree]:
    """Each comparison of a property with each value, in the forms that SQL says in its own way."""
    found: list[Tree] = [("defined", A), ("not", A), ("boolean", A), A, ("==", A, ("literal", ABSENT))]
    for value in WRITABLE:
        known = literal(value)
        found += [(operator, A, known) for operator in COMPARISONS]
        found += [
            ("not", ("<", known, A)),
            ("in", known, A),
            ("in", A, ("list", [known, ("literal", "pro")])),
        ]
        found += [("in", known, ("list_of", A)), ("==", ("number", A), known), ("==", ("string", A), known)]
        found += [(operator, ("datetime", A), known) for operator in ("==", "<", ">=")]
        found += [("!=", A, ("datetime", known)), ("==", ("boolean", A), known), ("==", ID, known)]
        if isinstance(value, str):
            found += [("has_prefix", A, known), ("not", ("has_suffix", A, known)), ("in", known, ID)]
    for value in WRITABLE[::3]:
        known, cell = literal(value), ("lookup", "plans", "price", A)
        found += [("==", cell, known), ("not", (">", cell, known)), ("in", known, cell), ("<=", known, cell)]
    for table in ("plans", "large"):
        for column in ("a", "price", "since", "tags", "on", "next"):
            cell = ("lookup", table, column, A)
            found += [
                cell,
                ("not", cell),
                ("defined", cell),
                ("==", cell, A),
                ("!=", cell, ("lookup", table, "a", ID)),
            ]
            found += [
                (">", cell, ("datetime", literal("2026-03-11"))),
                ("any", "X", cell, ("==", ("variable", "X"), A)),
            ]
    return found
