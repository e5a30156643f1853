"""What an expression is made of once it has been read: a small tree, and the values only it has. Pure.

`UNDEFINED` is the value of what is absent, `Instant` that of `datetime(...)`. A property is named by the
place of its `Slot` in the expression's row, so that a row is one tuple, made once and read often.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from mixdown.model.lookup import Table


class Undefined(enum.Enum):
    """The type of `UNDEFINED`, the value of an absent property (contract query §3.4)."""

    UNDEFINED = "undefined"


UNDEFINED: Final = Undefined.UNDEFINED


class Instant(msgspec.Struct, frozen=True, order=True, gc=False):
    """A time in whole seconds since 1970: what `datetime(...)` gives."""

    seconds: int


class Slot(msgspec.Struct, frozen=True):
    """One thing that an expression reads of a row: `accessor["name"]` (contract query §3.3)."""

    accessor: str
    name: str


class Literal(msgspec.Struct, frozen=True):
    """A text, number, boolean, null or undefined."""

    value: Any


class Now(msgspec.Struct, frozen=True):
    """`NOW`: the server's time in whole unix seconds."""


class Items(msgspec.Struct, frozen=True):
    """`[a, b, ...]`."""

    items: tuple[Node, ...]


class Access(msgspec.Struct, frozen=True):
    """A property: the place of its `Slot` among the expression's slots."""

    place: int


class Lookup(msgspec.Struct, frozen=True):
    """`lookup["table", key]["column"]`: a cell of the row that `key` finds in a lookup table."""

    table: Table
    column: int
    key: Node


class Variable(msgspec.Struct, frozen=True):
    """The element that `any` or `all` is at; `level` counts the quantifiers around it, from the outermost."""

    level: int


class Not(msgspec.Struct, frozen=True):
    """`not a`."""

    operand: Node


class Negative(msgspec.Struct, frozen=True):
    """`-a`."""

    operand: Node


class Logical(msgspec.Struct, frozen=True):
    """`a and b and ...` or `a or b or ...`, flattened."""

    operator: str
    operands: tuple[Node, ...]


class Binary(msgspec.Struct, frozen=True):
    """A comparison (`== != < <= > >=`), `in`, or arithmetic (`+ - * / %`)."""

    operator: str
    left: Node
    right: Node


class Call(msgspec.Struct, frozen=True):
    """A call of a function with values, such as `number(x)`."""

    function: str
    arguments: tuple[Node, ...]


class Quantified(msgspec.Struct, frozen=True):
    """`any(name, list, body)` or `all(...)`; `level` is that of the variables it binds."""

    function: str
    level: int
    source: Node
    body: Node


Node: TypeAlias = (
    Literal | Now | Items | Access | Lookup | Variable | Not | Negative | Logical | Binary | Call | Quantified
)


def parts_of(node: Node) -> tuple[Node, ...]:
    """The nodes that a node is made of."""
    match node:
        case Not(operand=operand) | Negative(operand=operand):
            return (operand,)
        case Binary(left=left, right=right):
            return (left, right)
        case Logical(operands=parts) | Items(items=parts) | Call(arguments=parts):
            return parts
        case Quantified(source=source, body=body):
            return (source, body)
        case Lookup(key=key):
            return (key,)
    return ()


FUNCTIONS: Final = {
    "defined": 1,
    "boolean": 1,
    "number": 1,
    "string": 1,
    "list": 1,
    "datetime": 1,
    "floor": 1,
    "ceil": 1,
    "round": 1,
    "has_prefix": 2,
    "has_suffix": 2,
}
"""Functions of values and how many they take (contract query §3.4)."""
QUANTIFIERS: Final = ("any", "all")
LOOKUP: Final = "lookup"
"""The word before a lookup table's name and column."""
ACCESSORS: Final = ("properties", "event", "user", "behaviors")
COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
