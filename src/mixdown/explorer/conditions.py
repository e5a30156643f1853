"""Filters built by hand: rows of a property, an operator and a value, and the expression that they make.

Rows enter and an expression's text leaves, or an expression and its rows: what is no list of such conditions
has none, and stays a text. Pure. The two forms must never say different things: what `text_of` writes,
`rows_of` reads back as the same rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from mixdown.model.expression import PROFILE_ACCESSORS, Expression
from mixdown.model.expression_nodes import (
    Access,
    Binary,
    Call,
    Items,
    Literal,
    Logical,
    Negative,
    Node,
    Not,
    Now,
)

ROWS_LIMIT: Final = 50
DAY_S: Final = 24 * 3600
ALL, ANY = "all", "any"
_NUMBER: Final = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MINUTES: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d", re.ASCII)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII
)
_DAYS: Final = re.compile(r"[0-9]{1,5}")


class Row(msgspec.Struct, frozen=True):
    """A condition: `operator` is a name of `OPERATORS`, `value` what was typed."""

    property: str
    operator: str
    value: str = ""


class Conditions(msgspec.Struct, frozen=True):
    """Rows, of which `ALL` or `ANY` must hold."""

    rows: tuple[Row, ...]
    joined: str = ALL


class Operator(NamedTuple):
    """`label` as people read it, for values of a `kind`; `takes` text, number, time, days, list, nothing."""

    label: str
    kind: str
    takes: str
    text: str


class RowError(ValueError):
    """A row whose value does not fit its operator: which row, and what to do."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


# {p} is the property, {v} its value as the language writes it.
OPERATORS: Final = {
    "is": Operator("is", "Text", "text", "{p} == {v}"),
    "is-not": Operator("is not", "Text", "text", "{p} != {v}"),
    "one-of": Operator("is one of (a, b, …)", "Text", "list", "{p} in {v}"),
    "none-of": Operator("is none of (a, b, …)", "Text", "list", "not {p} in {v}"),
    "contains": Operator("contains", "Text", "text", "{v} in {p}"),
    "lacks": Operator("does not contain", "Text", "text", "not {v} in {p}"),
    "begins": Operator("begins with", "Text", "text", "has_prefix({p}, {v})"),
    "ends": Operator("ends with", "Text", "text", "has_suffix({p}, {v})"),
    "eq": Operator("=", "Number", "number", "{p} == {v}"),
    "ne": Operator("≠", "Number", "number", "{p} != {v}"),
    "gt": Operator(">", "Number", "number", "{p} > {v}"),
    "ge": Operator("≥", "Number", "number", "{p} >= {v}"),
    "lt": Operator("<", "Number", "number", "{p} < {v}"),
    "le": Operator("≤", "Number", "number", "{p} <= {v}"),
    "since": Operator("on or after", "Time", "time", "datetime({p}) >= datetime({v})"),
    "before": Operator("before", "Time", "time", "datetime({p}) < datetime({v})"),
    "within": Operator("in the last … days", "Time", "days", "datetime({p}) > datetime(NOW - {v})"),
    "older": Operator("more than … days ago", "Time", "days", "datetime({p}) <= datetime(NOW - {v})"),
    "true": Operator("is true", "True or false", "nothing", "{p} == true"),
    "false": Operator("is false", "True or false", "nothing", "{p} == false"),
    "has": Operator("has the element", "List", "text", "{v} in list({p})"),
    "has-not": Operator("lacks the element", "List", "text", "not {v} in list({p})"),
    "set": Operator("is set", "Any", "nothing", "defined({p})"),
    "unset": Operator("is not set", "Any", "nothing", "not defined({p})"),
}
KINDS: Final = {
    "string": "Text",
    "number": "Number",
    "datetime": "Time",
    "boolean": "True or false",
    "list": "List",
}
"""Types of properties, and the kind of operators that fits them best."""
_COMPARED: Final = {
    "==": ("is", "eq"),
    "!=": ("is-not", "ne"),
    ">": ("", "gt"),
    ">=": ("", "ge"),
    "<": ("", "lt"),
    "<=": ("", "le"),
}
_NEGATED: Final = {"contains": "lacks", "has": "has-not", "one-of": "none-of", "set": "unset"}


def text_of(conditions: Conditions) -> str:
    """The expression that the rows make; "" where there are none. Raises `RowError`."""
    texts = [_condition(place, row) for place, row in enumerate(conditions.rows)]
    return (" or " if conditions.joined == ANY else " and ").join(texts)


def rows_of(expression: Expression) -> Conditions | None:
    """The rows that an expression is, None where rows cannot say it."""
    if expression.is_blank:
        return Conditions(())
    tree = expression.tree
    joined = ANY if isinstance(tree, Logical) and tree.operator == "or" else ALL
    parts: tuple[Node, ...] = tree.operands if isinstance(tree, Logical) else (tree,)
    if len(parts) > ROWS_LIMIT:
        return None
    found = [_row(part, expression) for part in parts]
    rows = tuple(row for row in found if row is not None)
    return Conditions(rows, joined) if len(rows) == len(parts) else None


def _condition(place: int, row: Row) -> str:
    operator = OPERATORS.get(row.operator)
    if operator is None:
        raise RowError(place, "choose what is to be compared")
    try:
        value = _WRITTEN[operator.takes](row.value)
    except ValueError as error:
        raise RowError(place, f"{row.property}: {error}") from None
    return operator.text.format(p=f"properties[{_quoted(row.property)}]", v=value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _number_written(text: str) -> str:
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError("this is no number: write one such as 12.5")
    return text.strip()


def _time_written(text: str) -> str:
    wanted = text.strip()
    whole = f"{wanted}:00" if _MINUTES.fullmatch(wanted) else wanted
    if not _TIME.fullmatch(whole) or not _is_time(whole):
        raise ValueError("this is no time: write one such as 2026-01-31 or 2026-01-31T12:00:00")
    return _quoted(whole)


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _days_written(text: str) -> str:
    if not _DAYS.fullmatch(text.strip()):
        raise ValueError("this is no number of days: write one such as 30")
    return str(int(text) * DAY_S)


def _list_written(text: str) -> str:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items:
        raise ValueError("name at least one value")
    return f"[{', '.join(map(_quoted, items))}]"


_WRITTEN: Final[dict[str, Callable[[str], str]]] = {
    "text": _quoted,
    "number": _number_written,
    "time": _time_written,
    "days": _days_written,
    "list": _list_written,
    "nothing": lambda _: "",
}


def _row(node: Node, expression: Expression) -> Row | None:
    if isinstance(node, Not):
        row = _row(node.operand, expression)
        negated = _NEGATED.get(row.operator) if row else None
        return Row(row.property, negated, row.value) if row and negated else None
    if isinstance(node, Call):
        return _call_row(node, expression)
    if not isinstance(node, Binary):
        name = _name(node, expression)
        return None if name is None else Row(name, "true")
    if node.operator == "in":
        return _membership_row(node, expression)
    name = _name(node.left, expression)
    if name is not None:
        return _comparison_row(name, node)
    return _time_row(node, expression)


def _name(node: Node, expression: Expression) -> str | None:
    """The property that a node is."""
    if isinstance(node, Access):
        slot = expression.slots[node.place]
        return slot.name if slot.accessor in PROFILE_ACCESSORS and slot.name.strip() else None
    return None


def _argument(node: Node, function: str, expression: Expression) -> str | None:
    """The property whose `function(…)` a node is."""
    if isinstance(node, Call) and node.function == function:
        return _name(node.arguments[0], expression)
    return None


def _literal(node: Node) -> Any:
    """A text, number or boolean that stands there, else None."""
    if isinstance(node, Negative) and isinstance(node.operand, Literal):
        value = node.operand.value
        return -value if type(value) in (int, float) else None
    if isinstance(node, Literal) and type(node.value) in (str, int, float, bool):
        return node.value
    return None


def _comparison_row(name: str, node: Binary) -> Row | None:
    value = _literal(node.right)
    if type(value) is bool:
        return Row(name, "true" if value else "false") if node.operator == "==" else None
    of_text, of_number = _COMPARED.get(node.operator, ("", ""))
    if type(value) is str:
        return Row(name, of_text, value) if of_text else None
    if value is None or not of_number:
        return None
    return Row(name, of_number, json.dumps(value))


def _membership_row(node: Binary, expression: Expression) -> Row | None:
    wanted = _literal(node.left)
    if type(wanted) is str:
        name = _name(node.right, expression)
        if name is not None:
            return Row(name, "contains", wanted)
        name = _argument(node.right, "list", expression)
        return None if name is None else Row(name, "has", wanted)
    name = _name(node.left, expression)
    if name is None or not isinstance(node.right, Items):
        return None
    items = [_literal(item) for item in node.right.items]
    plain = all(type(item) is str and item and item == item.strip() and "," not in item for item in items)
    return Row(name, "one-of", ", ".join(items)) if items and plain else None


def _call_row(node: Call, expression: Expression) -> Row | None:
    name = _name(node.arguments[0], expression)
    if name is None:
        return None
    if node.function == "defined":
        return Row(name, "set")
    if node.function in ("has_prefix", "has_suffix"):
        affix = _literal(node.arguments[1])
        operator = "begins" if node.function == "has_prefix" else "ends"
        return Row(name, operator, affix) if type(affix) is str else None
    return None


def _time_row(node: Binary, expression: Expression) -> Row | None:
    name = _argument(node.left, "datetime", expression)
    if name is None or not isinstance(node.right, Call) or node.right.function != "datetime":
        return None
    (moment,) = node.right.arguments
    known = _literal(moment)
    if type(known) is str and _TIME.fullmatch(known) and node.operator in ("<", ">="):
        return Row(name, "before" if node.operator == "<" else "since", known)
    if isinstance(moment, Binary) and moment.operator == "-" and isinstance(moment.left, Now):
        seconds = _literal(moment.right)
        whole = type(seconds) is int and seconds >= 0 and seconds % DAY_S == 0
        if whole and node.operator in (">", "<=") and _DAYS.fullmatch(str(seconds // DAY_S)):
            return Row(name, "within" if node.operator == ">" else "older", str(seconds // DAY_S))
    return None


def given_rows(properties: Sequence[str], operators: Sequence[str], values: Sequence[str]) -> tuple[Row, ...]:
    """The rows of a form whose fields repeat; one without a property says nothing."""
    filled = [*values, *[""] * max(0, len(properties) - len(values))]
    found = [
        Row(name, operator, value)
        for name, operator, value in zip(properties, operators, filled, strict=False)
        if name.strip()
    ]
    return tuple(found[:ROWS_LIMIT])
