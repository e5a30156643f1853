"""Expressions as SQL: the part that every engine's compiler shares (`store/*/expressions.py`).

Enters: an `Expression`, a `Context` and an engine's `Dialect`. Leaves: a `Compiled` condition over `id` and
`document` of the table alias `p`. No value of an expression ever stands in the SQL: all are bindings.

Each part of an expression becomes two conditions: `upper`, which every row meets for which it is true, and
`lower`, which only such rows meet. Where SQL can say exactly what is meant they are one; `not` turns them
round; the rows between them are decided in Python. A condition that is null counts as not met.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from mixdown.model.expression import PROFILE_ACCESSORS, UNDEFINED, Context, Expression
from mixdown.model.expression_nodes import (
    Access,
    Binary,
    Call,
    Instant,
    Logical,
    Lookup,
    Negative,
    Node,
    Not,
    Quantified,
    Undefined,
    Variable,
    parts_of,
)
from mixdown.model.expression_running import build
from mixdown.model.expression_values import instant
from mixdown.store.dialect import ANYTHING, NEVER, Bound, Dialect, every, none_of, some, sure
from mixdown.store.joined import Joins

BINDINGS_LIMIT: Final = 4000
SQL_LIMIT_CHARS: Final = 400_000
"""A condition beyond these is not tried in SQL at all: engines have limits of their own."""
_FLIPPED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ALWAYS_BOOLEAN: Final = ("defined", "boolean")
_CONDITIONS: Final = ("defined", "boolean", "has_prefix", "has_suffix")
_STRICT: Final = ("number", "string", "list", "datetime", "floor", "ceil", "round")
"""Functions that give undefined, or null, for what is undefined or null."""


class Compiled(msgspec.Struct, frozen=True):
    """An expression as a SQL condition.

    `sql` selects every row that matches, and, unless `exact`, perhaps some that do not: those Python
    decides (`document_predicate`), and `undecided` tells which. `undecided` is a SQL column: null for a row
    that `sql` selects and that surely matches, else its document. Bindings stand in the order of the
    placeholders, so that those of `undecided` come first where it stands in the list of columns:

        SELECT p.id, {undecided} FROM profiles AS p WHERE ... AND ({sql})
    """

    sql: str
    bindings: tuple[Any, ...]
    exact: bool
    undecided: str = "NULL"
    undecided_bindings: tuple[Any, ...] = ()


def compile_with(dialect: Dialect, expression: Expression, context: Context) -> Compiled:
    """The condition that selects what `expression` matches, in an engine's dialect."""
    bound = _Compiler(dialect, expression, context).condition(expression.tree)
    both = {bound.upper, bound.lower}
    if (
        sum(len(sql.bindings) for sql in both) > BINDINGS_LIMIT
        or sum(len(sql.text) for sql in both) > SQL_LIMIT_CHARS
    ):
        bound = ANYTHING
    upper, lower = bound
    if upper == lower:
        return Compiled(upper.text, upper.bindings, exact=True)
    document = dialect.document
    undecided = document if lower == NEVER.upper else f"CASE WHEN {lower.text} THEN NULL ELSE {document} END"
    return Compiled(upper.text, upper.bindings, False, undecided, lower.bindings)


class _Range(NamedTuple):
    """Whole seconds from `begin` up to, but without, `end`; None is no limit."""

    begin: int | None
    end: int | None


def _range(operator: str, seconds: int) -> _Range:
    return {
        "==": _Range(seconds, seconds + 1),
        "<": _Range(None, seconds),
        "<=": _Range(None, seconds + 1),
        ">": _Range(seconds + 1, None),
        ">=": _Range(seconds, None),
    }[operator]


class _Compiler:
    """One expression in one dialect; each method gives the `Bound` of one kind of node."""

    def __init__(self, dialect: Dialect, expression: Expression, context: Context) -> None:
        self._dialect = dialect
        self._slots = expression.slots
        self._context = context
        self._varying: dict[int, bool] = {}
        self._joins = Joins(expression, context)

    # --- what a node is ---------------------------------------------------------------------------

    def _name(self, node: Node) -> str | None:
        """The property that the node is, if it is one of a profile."""
        if isinstance(node, Access) and self._slots[node.place].accessor in PROFILE_ACCESSORS:
            return self._slots[node.place].name
        return None

    def _argument(self, node: Node, *functions: str) -> str | None:
        """The property whose `function(...)` the node is, if it is that."""
        if isinstance(node, Call) and node.function in functions:
            return self._name(node.arguments[0])
        return None

    def _constant(self, node: Node) -> tuple[Any] | None:
        """The node's value if no row matters, alone in a tuple."""
        if isinstance(node, Access):
            return (UNDEFINED,) if self._name(node) is None else None
        if self._varies(node):
            return None
        code = build(node, len(self._slots), self._context)
        return (code.value,) if code.constant else None

    def _varies(self, node: Node) -> bool:
        """Whether the node reads a property or an element; told once of each node, however deep it stands."""
        known = self._varying.get(id(node))
        if known is None:
            known = isinstance(node, Access | Variable | Quantified) or any(map(self._varies, parts_of(node)))
            self._varying[id(node)] = known
        return known

    def _present(self, node: Node) -> Bound:
        """What must be there for the node's value to be neither undefined nor null: an upper bound."""
        name = self._name(node)
        if name is not None:
            return Bound(self._dialect.present(name).upper, NEVER.lower)
        if isinstance(node, Negative):
            return self._present(node.operand)
        if isinstance(node, Call) and node.function in _STRICT:
            return self._present(node.arguments[0])
        if isinstance(node, Lookup):
            return self._present(node.key)
        if isinstance(node, Binary) and node.operator in ("+", "-", "*", "/", "%"):
            return every([self._present(node.left), self._present(node.right)])
        return ANYTHING

    # --- conditions -------------------------------------------------------------------------------

    def condition(self, node: Node) -> Bound:
        """Whether the node's value is true."""
        joined = self._joins.condition(self._dialect, node, lambda value: value is True)
        if joined is not None:
            return joined
        if isinstance(node, Logical):
            join = every if node.operator == "and" else some
            bounds = [self.condition(operand) for operand in node.operands]
            # their order means nothing, and engines go from left to right: what asks little goes first
            return join(sorted(bounds, key=lambda bound: len(bound.upper.bindings)))
        if isinstance(node, Not):
            return self.negation(node.operand)
        known = self._constant(node)
        if known is not None:
            return sure(known[0] is True)
        name = self._name(node)
        if name is not None:
            return self._dialect.is_boolean(name, value=True)
        if isinstance(node, Binary):
            return self._comparison(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, Quantified):
            source = self._name(node.source)
            return ANYTHING if source is None else _at_most(self._dialect.is_list(source))
        return ANYTHING

    def negation(self, node: Node) -> Bound:
        """Whether the node's value is false, null or undefined: whether `not` makes it true."""
        joined = self._joins.condition(self._dialect, node, _is_no)
        if joined is not None:
            return joined
        if isinstance(node, Logical | Not | Quantified) or (
            isinstance(node, Call) and node.function in _CONDITIONS
        ):
            return none_of(self.condition(node))
        if isinstance(node, Binary) and node.operator not in ("+", "-", "*", "/", "%"):
            return none_of(self.condition(node))
        known = self._constant(node)
        if known is not None:
            return sure(_is_no(known[0]))
        name = self._name(node)
        return ANYTHING if name is None else self._dialect.is_no(name)

    def _comparison(self, node: Binary) -> Bound:
        operator, left, right = node.operator, node.left, node.right
        if operator == "in":
            return self._membership(left, right)
        if operator in ("+", "-", "*", "/", "%"):
            return sure(False)  # a number or a text, never true
        known = self._constant(right)
        if known is None:
            known = self._constant(left)
            if known is not None:
                left, operator = right, _FLIPPED.get(operator, operator)
        if operator == "==":
            return self._equality(left, known)
        if operator == "!=":
            return none_of(self._equality(left, known))
        if known is None:
            return every([self._present(left), self._present(right)])
        return self._order(operator, left, known[0])

    def _equality(self, left: Node, known: tuple[Any] | None) -> Bound:
        if known is None:
            return ANYTHING
        value = known[0]
        name = self._name(left)
        if name is not None:
            return self._equals(name, value)
        if self._is_always_boolean(left):
            if type(value) is not bool:
                return sure(False)
            return self.condition(left) if value else none_of(self.condition(left))
        if value is None or value is UNDEFINED:
            return ANYTHING
        return self._cast("==", left, value)

    @staticmethod
    def _is_always_boolean(node: Node) -> bool:
        if isinstance(node, Call):
            return node.function in _ALWAYS_BOOLEAN
        return isinstance(node, Logical) or (isinstance(node, Binary) and node.operator in ("==", "!="))

    def _equals(self, name: str, value: Any) -> Bound:
        """Whether a property equals a known value."""
        dialect = self._dialect
        kind = type(value)
        if kind is bool:
            return dialect.is_boolean(name, value=value)
        if kind is str:
            exact = dialect.text_in(name, [value])
            return Bound(dialect.is_text(name).upper, exact.lower) if self._context.ci_strings else exact
        if kind is int or kind is float:
            return dialect.number_in(name, [value])
        if kind is Instant:
            return dialect.moment(name, *_range("==", value.seconds), self._context.zone)
        if kind is Undefined:
            return dialect.is_absent(name)
        return dialect.is_null(name) if value is None else _at_most(dialect.is_list(name))

    def _order(self, operator: str, left: Node, value: Any) -> Bound:
        name = self._name(left)
        kind = type(value)
        if name is None:
            return self._cast(operator, left, value)
        if kind is str:
            return self._dialect.text_order(name, operator, value)
        if kind is int or kind is float:
            return self._dialect.number_order(name, operator, value)
        if kind is Instant:
            return self._dialect.moment(name, *_range(operator, value.seconds), self._context.zone)
        return sure(False)

    def _cast(self, operator: str, left: Node, value: Any) -> Bound:
        """`datetime(p)`, `number(p)` or `string(p)` against a known value, no null and not undefined."""
        name = self._argument(left, "datetime")
        if name is not None:
            moment = instant(value, self._context)
            if moment is UNDEFINED:
                return sure(False)
            return self._dialect.moment(name, *_range(operator, moment.seconds), self._context.zone)
        name = self._argument(left, "number")
        if name is not None and type(value) in (int, float):
            stored = (
                self._dialect.number_in(name, [value])
                if operator == "=="
                else self._dialect.number_order(name, operator, value)
            )
            others = some([self._dialect.is_text(name), *self._booleans(name)])
            return some([stored, _at_most(others)])
        name = self._argument(left, "string")
        if name is not None and type(value) is str and operator == "==":
            text = self._equals(name, value)
            number = every([self._dialect.present(name), none_of(self._dialect.is_text(name))])
            return some([text, _at_most(number)])
        return self._present(left)

    def _booleans(self, name: str) -> list[Bound]:
        return [self._dialect.is_boolean(name, value=True), self._dialect.is_boolean(name, value=False)]

    # --- in ---------------------------------------------------------------------------------------

    def _membership(self, needle: Node, haystack: Node) -> Bound:
        known = self._constant(haystack)
        if known is not None:
            return self._in_known(needle, known[0])
        wanted = self._constant(needle)
        if wanted is None:
            return every([self._present(haystack), ANYTHING])
        value = wanted[0]
        if value is UNDEFINED:
            return sure(False)
        name = self._name(haystack)
        if name is not None:
            return some([self._part(name, value), self._element(name, value)])
        name = self._argument(haystack, "list")
        if name is not None:
            scalar = sure(False) if value is None else self._equals(name, value)
            return some([scalar, self._element(name, value)])
        return self._present(haystack)

    def _part(self, name: str, value: Any) -> Bound:
        if type(value) is not str:
            return sure(False)
        if self._context.ci_strings:
            return _at_most(self._dialect.is_text(name))
        return self._dialect.has_part(name, value)

    def _element(self, name: str, value: Any) -> Bound:
        """Whether a property is a list with an element that equals a known value."""
        if type(value) in (str, int, float, bool) or value is None:
            found = self._dialect.has_element(name, value)
            if not (type(value) is str and self._context.ci_strings):
                return found
        return _at_most(self._dialect.is_list(name))

    def _in_known(self, needle: Node, haystack: Any) -> Bound:
        """Whether a node is in a known list, or a part of a known text."""
        if type(haystack) is str:
            name = self._name(needle)
            return self._present(needle) if name is None else _at_most(self._dialect.is_text(name))
        if type(haystack) is not list:
            return sure(False)
        name = self._name(needle)
        if name is None:
            return ANYTHING
        texts = [item for item in haystack if type(item) is str]
        numbers = [item for item in haystack if type(item) in (int, float)]
        bounds = []
        if self._context.ci_strings:
            bounds += [self._equals(name, text) for text in texts[:1]]
        elif texts:
            bounds.append(self._dialect.text_in(name, texts))
        if numbers:
            bounds.append(self._dialect.number_in(name, numbers))
        rest = [item for item in haystack if type(item) not in (str, int, float, Undefined)]
        return some([*bounds, *[self._equals(name, item) for item in rest]])

    # --- functions --------------------------------------------------------------------------------

    def _call(self, node: Call) -> Bound:
        argument = node.arguments[0]
        name = self._name(argument)
        if node.function == "boolean":
            if name is not None:
                return self._dialect.is_truthy(name)
            return self.condition(argument) if self._is_always_boolean(argument) else ANYTHING
        if node.function == "defined":
            return _at_most(self._present(argument)) if name is None else self._dialect.present(name)
        if node.function in ("has_prefix", "has_suffix"):
            affix = self._constant(node.arguments[1])
            if name is None or affix is None:
                return ANYTHING
            if type(affix[0]) is not str:
                return sure(False)
            return self._dialect.has_affix(name, affix[0], at_end=node.function == "has_suffix")
        return sure(False)  # numbers, texts, lists and times are never true


def _is_no(value: Any) -> bool:
    return value is False or value is None or value is UNDEFINED


def _at_most(bound: Bound) -> Bound:
    """The same upper bound, and nothing certain."""
    return Bound(bound.upper, NEVER.lower)
