"""The expression language of reads: `where`, `selector`, `sort_key` and the filters of cohorts and exports.

Enters: a text, then rows (contract query §3). Leaves: an `Expression`, and for each row a value or whether it
matches. Refused texts are `ExpressionError`s with the position. Pure: `NOW` and the time zone come with the
`Context`. Stores compile an `Expression` to SQL (`store/*/expressions.py`); where SQL cannot say it exactly,
what is here decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson

from mixdown.model.errors import ExpressionError
from mixdown.model.expression_nodes import UNDEFINED, Instant, Literal, Node, Slot, Undefined
from mixdown.model.expression_parsing import read
from mixdown.model.expression_running import Code, Run, build
from mixdown.model.expression_values import Context, seconds_of
from mixdown.model.lookup import Table, Tables

__all__ = [
    "ID_NAMES",
    "UNDEFINED",
    "Context",
    "Expression",
    "ExpressionError",
    "Slot",
    "Undefined",
    "document_predicate",
    "document_rows",
    "document_values",
    "evaluate",
    "matches",
    "no_tables",
    "parse",
    "row_of",
]

ID_NAMES: Final = ("$distinct_id", "distinct_id")
"""Names that read a profile's id where it has no property of that name (contract query §3.3)."""
PROFILE_ACCESSORS: Final = ("properties", "user")
"""Accessors that read a profile's properties on a row that is a profile."""
# The fields of a struct cannot be called so.
_UNNAMEABLE: Final = re.compile(r'["\\\x00-\x1f]')


class Expression(msgspec.Struct, frozen=True):
    """An expression that has been read: its text, its tree, and what it reads of a row.

    A row is a tuple with a value for each of `slots`, in order, `UNDEFINED` where it has none.
    """

    text: str
    tree: Node
    slots: tuple[Slot, ...] = ()

    @property
    def is_blank(self) -> bool:
        """Whether the text was empty or blank: no filter, every row matches."""
        return not self.text.strip()

    def names(self) -> frozenset[str]:
        """The names of the profile properties that it reads; `ID_NAMES` may be among them."""
        return frozenset(slot.name for slot in self.slots if slot.accessor in PROFILE_ACCESSORS)

    def code(self, context: Context) -> Code:
        """The expression made runnable; constant where no row matters."""
        return build(self.tree, len(self.slots), context)

    def value(self, context: Context) -> Run:
        """A function from a row to the expression's value: JSON, `UNDEFINED`, or unix seconds of a time."""
        run = self.code(context).run
        return lambda row: _shown(run(row))

    def predicate(self, context: Context) -> Callable[[tuple[Any, ...]], bool]:
        """A function from a row to whether it matches: whether the value is true (contract query §3.5)."""
        run = self.code(context).run
        return lambda row: run(row) is True


def no_tables(_name: str) -> Table | None:
    """The lookup tables of what has none."""
    return None


def parse(text: str, tables: Tables = no_tables, *, lenient: bool = False) -> Expression:
    """Read an expression; a blank one matches every row.

    `tables` finds a lookup table by its name. One that is missing, and a missing column, is refused, or
    undefined where the reading is `lenient`: a saved expression may outlive the tables that it names.
    Raises `ExpressionError` (400, with position).
    """
    if not text.strip():
        return Expression(text, Literal(True))
    tree, slots = read(text, tables, lenient=lenient)
    return Expression(text, tree, slots)


def row_of(
    expression: Expression,
    properties: Mapping[str, Any],
    profile_id: str,
    behaviors: Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """The expression's row for one profile (contract query §3.3); `event` is undefined on profiles."""
    return tuple([_slot_value(slot, properties, profile_id, behaviors) for slot in expression.slots])


def _slot_value(
    slot: Slot, properties: Mapping[str, Any], profile_id: str, behaviors: Mapping[str, Any] | None
) -> Any:
    name = slot.name
    if slot.accessor in PROFILE_ACCESSORS:
        return properties.get(name, profile_id if name in ID_NAMES else UNDEFINED)
    if slot.accessor == "behaviors" and behaviors is not None:
        return behaviors.get(name, UNDEFINED)
    return UNDEFINED


def evaluate(expression: Expression, properties: Mapping[str, Any], profile_id: str, context: Context) -> Any:
    """The expression's value for one profile: JSON, `UNDEFINED`, or the unix seconds of a `datetime(...)`."""
    return expression.value(context)(row_of(expression, properties, profile_id))


def matches(expression: Expression, properties: Mapping[str, Any], profile_id: str, context: Context) -> bool:
    """Whether one profile matches. For many, make a `predicate` or `document_predicate` once."""
    return expression.predicate(context)(row_of(expression, properties, profile_id))


def document_predicate(expression: Expression, context: Context) -> Callable[[str, bytes], bool]:
    """A function from a profile's id and its stored document (JSON bytes) to whether it matches.

    It decodes only the properties that the expression names: the quick way over many documents.
    """
    run, row = expression.code(context).run, document_rows(expression)
    return lambda profile_id, document: run(row(profile_id, document)) is True


def document_values(expression: Expression, context: Context) -> Callable[[str, bytes], Any]:
    """As `document_predicate`, to the expression's value: for sorting and selecting."""
    run, row = expression.code(context).run, document_rows(expression)
    return lambda profile_id, document: _shown(run(row(profile_id, document)))


def document_rows(expression: Expression) -> Callable[[str, bytes], tuple[Any, ...]]:
    """A function that makes the expression's row from a profile's id and document, all else skipped."""
    places = [place for place, slot in enumerate(expression.slots) if slot.accessor in PROFILE_ACCESSORS]
    names = list(dict.fromkeys(expression.slots[place].name for place in places))
    if not names:
        nothing = (UNDEFINED,) * len(expression.slots)
        return lambda _id, _document: nothing
    if any(_UNNAMEABLE.search(name) for name in names):
        return lambda profile_id, document: row_of(expression, orjson.loads(document), profile_id)
    decode = _decoder(tuple(names)).decode
    astuple = msgspec.structs.astuple
    if len(names) == len(expression.slots) and not set(names) & set(ID_NAMES):
        return lambda _id, document: astuple(decode(document))

    def row(profile_id: str, document: bytes) -> tuple[Any, ...]:
        found = dict(zip(names, astuple(decode(document)), strict=True))
        present = {name: value for name, value in found.items() if value is not UNDEFINED}
        return row_of(expression, present, profile_id)

    return row


@lru_cache(maxsize=256)
def _decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[msgspec.Struct]:
    fields = [f"p{number}" for number in range(len(names))]
    shape = msgspec.defstruct(
        "Row",
        [(field, Any, UNDEFINED) for field in fields],
        rename=dict(zip(fields, names, strict=True)),
        gc=False,
    )
    return msgspec.json.Decoder(shape)


def _shown(value: Any) -> Any:
    """A value as it leaves: times as unix seconds, also within lists."""
    if type(value) is Instant:
        return seconds_of(value)
    if type(value) is list:
        return [None if item is UNDEFINED else _shown(item) for item in value]
    return value
