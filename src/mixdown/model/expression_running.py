"""From an expression's tree to a function of a row, made once and run over a million rows. Pure.

Enters: a tree, how many slots its rows have, a `Context`. Leaves: a `Code`. A row is a tuple: the value of
each slot, then the elements that the quantifiers around a node are at. What depends on no row is computed
here, once.
"""

from __future__ import annotations

import operator as operators
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from mixdown.model import expression_values as values
from mixdown.model import lookup
from mixdown.model.expression_nodes import (
    UNDEFINED,
    Access,
    Binary,
    Call,
    Instant,
    Items,
    Literal,
    Logical,
    Lookup,
    Negative,
    Node,
    Not,
    Now,
    Quantified,
    Variable,
)
from mixdown.model.expression_values import Context
from mixdown.model.values import canonical

Row: TypeAlias = tuple[Any, ...]
Run: TypeAlias = Callable[[Row], Any]
_ELEMENTS_BETWEEN_PAUSES: Final = 256
_PLAIN_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


class Code(NamedTuple):
    """A node made runnable; where it depends on no row, `constant` is true and `value` what it gives."""

    run: Run
    constant: bool = False
    value: Any = None


def constant(value: Any) -> Code:
    """The code of a value that is known before any row."""
    return Code(lambda _: value, constant=True, value=value)


def build(node: Node, slots: int, context: Context) -> Code:
    """The code of `node` for rows of `slots` values."""
    return _Builder(slots, context).build(node)


class _Builder:
    def __init__(self, slots: int, context: Context) -> None:
        self._slots = slots
        self._context = context

    def build(self, node: Node) -> Code:  # noqa: PLR0911 - one line for each kind of node
        match node:
            case Literal(value=value):
                return constant(value)
            case Now():
                return constant(self._context.now_s)
            case Access(place=place):
                return Code(operators.itemgetter(place))
            case Lookup():
                return self._lookup(node)
            case Variable(level=level):
                return Code(operators.itemgetter(self._slots + level))
            case Items(items=items):
                return self._items(items)
            case Not(operand=operand):
                return self._unary(_negation, operand)
            case Negative(operand=operand):
                return self._unary(values.negated, operand)
            case Logical():
                return self._logical(node)
            case Binary():
                return self._binary(node)
            case Call():
                return self._call(node)
            case Quantified():
                return self._quantified(node)

    def _lookup(self, node: Lookup) -> Code:
        return self._unary(lookup.reader(node.table, node.column, self._context), node.key)

    def _unary(self, function: Callable[[Any], Any], operand: Node) -> Code:
        inner = self.build(operand)
        if inner.constant:
            return constant(function(inner.value))
        run = inner.run
        return Code(lambda row: function(run(row)))

    def _items(self, items: Sequence[Node]) -> Code:
        codes = [self.build(item) for item in items]
        if all(code.constant for code in codes):
            return constant([code.value for code in codes])
        runs = [code.run for code in codes]
        return Code(lambda row: [run(row) for run in runs])

    def _logical(self, node: Logical) -> Code:
        """Operands in order, as far as needed; those that are constant are settled here."""
        decisive = node.operator == "or"
        runs = []
        for operand in node.operands:
            code = self.build(operand)
            if not code.constant:
                runs.append(code.run)
            elif (code.value is True) == decisive:
                if not runs:
                    return constant(decisive)
                runs.append(code.run)
                break
        if not runs:
            return constant(not decisive)
        return Code(_any_true(runs) if decisive else _all_true(runs))

    def _binary(self, node: Binary) -> Code:
        left, right = self.build(node.left), self.build(node.right)
        function = _two_sided(node.operator, self._context)
        if left.constant and right.constant:
            return constant(function(left.value, right.value))
        if right.constant and isinstance(node.left, Access):
            quick = _quick(node.operator, left.run, right.value, self._context)
            if quick is not None:
                return Code(quick)
        first, second = left.run, right.run
        return Code(lambda row: function(first(row), second(row)))

    def _call(self, node: Call) -> Code:
        codes = [self.build(argument) for argument in node.arguments]
        function = _function(node.function, self._context)
        if all(code.constant for code in codes):
            return constant(function(*[code.value for code in codes]))
        if len(codes) == 1:
            run = codes[0].run
            return Code(lambda row: function(run(row)))
        first, second = codes[0].run, codes[1].run
        return Code(lambda row: function(first(row), second(row)))

    def _quantified(self, node: Quantified) -> Code:
        source, body = self.build(node.source).run, self.build(node.body).run
        decisive = node.function == "any"
        pause = self._context.pause
        # a body that names an outer element still finds it at its level
        wanted = self._slots + node.level

        def run(row: Row) -> Any:
            elements = source(row)
            if type(elements) is not list:
                return UNDEFINED
            outer = row[:wanted]
            for count, element in enumerate(elements):
                if pause is not None and count % _ELEMENTS_BETWEEN_PAUSES == 0:
                    pause()
                if (body((*outer, element)) is True) == decisive:
                    return decisive
            return not decisive

        return Code(run)


def _negation(value: Any) -> Any:
    if type(value) is bool:
        return not value
    return True if value is None or value is UNDEFINED else UNDEFINED


def _any_true(runs: Sequence[Run]) -> Run:
    if len(runs) == 2:
        first, second = runs
        return lambda row: first(row) is True or second(row) is True

    def run(row: Row) -> bool:
        for operand in runs:  # noqa: SIM110 - a generator costs more than the loop
            if operand(row) is True:
                return True
        return False

    return run


def _all_true(runs: Sequence[Run]) -> Run:
    if len(runs) == 2:
        first, second = runs
        return lambda row: first(row) is True and second(row) is True

    def run(row: Row) -> bool:
        for operand in runs:  # noqa: SIM110 - likewise
            if operand(row) is not True:
                return False
        return True

    return run


def _two_sided(operator: str, context: Context) -> Callable[[Any, Any], Any]:
    if operator == "==":
        return lambda left, right: values.equal(left, right, context)
    if operator == "!=":
        return lambda left, right: not values.equal(left, right, context)
    if operator == "in":
        return lambda left, right: values.contains(left, right, context)
    if operator in _PLAIN_ORDER:
        return lambda left, right: values.ordered(operator, left, right, context)
    return lambda left, right: values.arithmetic(operator, left, right)


def _function(name: str, context: Context) -> Callable[..., Any]:
    if name == "defined":
        return lambda value: value is not None and value is not UNDEFINED
    if name == "datetime":
        return lambda value: values.instant(value, context)
    if name in ("floor", "ceil", "round"):
        return lambda value: values.rounded(name, value)
    if name in ("has_prefix", "has_suffix"):
        return lambda text, affix: values.affixed(name, text, affix, context)
    return {
        "boolean": values.truth,
        "number": values.number,
        "string": values.string,
        "list": values.listed,
    }[name]


def _quick(operator: str, run: Run, value: Any, context: Context) -> Run | None:
    """A comparison of what is stored with a known value, without the general rules; None where they count."""
    kind = type(value)
    is_text, is_number = kind is str, kind is int or kind is float
    if operator in _PLAIN_ORDER and (is_text or is_number):
        return _quick_order(_PLAIN_ORDER[operator], run, value)
    if operator in ("==", "!="):
        if is_text and not context.ci_strings:
            return _quick_text(operator, run, value)
        return _quick_number(operator, run, value) if is_number else None
    if operator == "in" and kind is list and not context.ci_strings:
        return _quick_member(run, value, context.pause)
    return None


def _quick_order(compare: Callable[[Any, Any], bool], run: Run, value: Any) -> Run:
    fitting = (str,) if type(value) is str else (int, float)

    def quick(row: Row) -> Any:
        found = run(row)
        return compare(found, value) if type(found) in fitting else UNDEFINED

    return quick


def _quick_text(operator: str, run: Run, value: str) -> Run:
    if operator == "==":
        return lambda row: bool(run(row) == value)
    return lambda row: bool(run(row) != value)


def _quick_number(operator: str, run: Run, value: float) -> Run:
    wanted = operator == "=="

    def quick(row: Row) -> bool:
        found = run(row)
        return (found == value and type(found) is not bool) is wanted

    return quick


def _quick_member(run: Run, items: Sequence[Any], pause: Callable[[], None] | None) -> Run | None:
    """Membership in a list of plain values, by a lookup."""
    if any(type(item) in (Instant, list) for item in items):
        return None
    keys = frozenset([canonical(item) for item in items])

    def quick(row: Row) -> Any:
        found = run(row)
        if pause is not None and type(found) in (list, dict):
            pause()
        return UNDEFINED if found is UNDEFINED else canonical(found) in keys

    return quick
