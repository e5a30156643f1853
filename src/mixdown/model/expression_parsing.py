"""Reading an expression: text in, tree and slots out (contract query §3.1 to §3.3). Pure.

Precedence climbing over a list of tokens. Whatever is wrong is an `ExpressionError` with the place; nothing
here recurses deeper than `EXPRESSION_NESTING_LIMIT`, nor takes longer than the text is long.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NamedTuple

from mixdown.model.errors import ExpressionError
from mixdown.model.expression_nodes import (
    ACCESSORS,
    COMPARISONS,
    FUNCTIONS,
    LOOKUP,
    QUANTIFIERS,
    UNDEFINED,
    Access,
    Binary,
    Call,
    Items,
    Literal,
    Logical,
    Lookup,
    Negative,
    Node,
    Not,
    Now,
    Quantified,
    Slot,
    Variable,
)
from mixdown.model.limits import (
    EXPRESSION_LIMIT_CHARS,
    EXPRESSION_NESTING_LIMIT,
    EXPRESSION_PROPERTIES_LIMIT,
    EXPRESSION_SUMS_LIMIT,
    INT_MAX,
)
from mixdown.model.lookup import Table, Tables
from mixdown.model.values import clean_text

_TOKEN: Final = re.compile(
    r"""(?P<blank>\s+)
      | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<word>[^\W\d]\w*)
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<sign>==|!=|<=|>=|[<>+\-*/%()\[\],])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED: Final = {
    '"': '"', "'": "'", "\\": "\\", "/": "/", "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"
}  # fmt: skip
_CONSTANTS: Final = {
    "true": True, "TRUE": True, "false": False, "FALSE": False, "null": None, "undefined": UNDEFINED
}  # fmt: skip
_RESERVED: Final = frozenset(
    [*_CONSTANTS, "NOW", "and", "or", "not", "in", *FUNCTIONS, *QUANTIFIERS, *ACCESSORS, "group", LOOKUP]
)
_COLUMNS_NAMED: Final = 20
_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT = range(6)
_LEVELS: Final = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys((*COMPARISONS, "in", "not"), _COMPARISON),
    "+": _SUM,
    "-": _SUM,
    "*": _PRODUCT,
    "/": _PRODUCT,
    "%": _PRODUCT,
}


class _Token(NamedTuple):
    """`kind` is number, word, text, sign or end; `value` what it says, `position` where."""

    kind: str
    value: Any
    position: int


def read(text: str, tables: Tables, *, lenient: bool = False) -> tuple[Node, tuple[Slot, ...]]:
    """The tree of a text that is not blank, and its slots, which `Access` names.

    Lookup tables and columns that are not there are refused, or, where it is `lenient`, undefined.
    Raises `ExpressionError`.
    """
    if len(text) > EXPRESSION_LIMIT_CHARS:
        raise ExpressionError(
            f"an expression has at most {EXPRESSION_LIMIT_CHARS} characters", EXPRESSION_LIMIT_CHARS
        )
    parser = _Parser(_tokens(text), tables, lenient=lenient)
    node = parser.whole()
    return node, tuple(parser.slots)


def _tokens(text: str) -> list[_Token]:
    tokens = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(_unreadable(text[at]), at)
        kind, found = str(match.lastgroup), match[0]
        if kind == "number":
            if text[match.end() : match.end() + 1].isalnum() or text[match.end() : match.end() + 1] == "_":
                raise ExpressionError("a number runs into a letter", match.end())
            tokens.append(_Token(kind, _number(found, at), at))
        elif kind == "text":
            tokens.append(_Token(kind, _text(found, at), at))
        elif kind != "blank":
            tokens.append(_Token(kind, found, at))
        at = match.end()
    tokens.append(_Token("end", "", at))
    return tokens


def _unreadable(character: str) -> str:
    if character in "\"'":
        return "a text without its closing quote"
    if character == "=":
        return "`=` is no operator: compare with `==`"
    return f"unexpected character {json.dumps(character)}"


def _number(digits: str, position: int) -> int | float:
    if digits.isdigit() and len(digits) <= len(str(INT_MAX)):
        whole = int(digits)
        return whole if whole <= INT_MAX else float(whole)
    value = float(digits)
    if not math.isfinite(value):
        raise ExpressionError("a number too large for a double", position)
    return value


def _text(quoted: str, position: int) -> str:
    """What a quoted text says; as stored texts are, without NUL and lone surrogates."""

    def meant(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        if match[2] not in _ESCAPED:
            raise ExpressionError(
                f"unknown escape {json.dumps(match[0])} in a text", position + 1 + match.start()
            )
        return _ESCAPED[match[2]]

    inner = quoted[1:-1]
    if "\\" in inner:
        inner = _ESCAPE.sub(meant, inner).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return clean_text(inner)


class _Parser:
    """One pass over the tokens; `slots` collects what the expression reads, each once."""

    def __init__(self, tokens: list[_Token], tables: Tables, *, lenient: bool) -> None:
        self._tokens = tokens
        self._tables = tables
        self._lenient = lenient
        self._opened: dict[str, Table | None] = {}
        self._at = 0
        self._depth = 0
        self._sums = 0
        self._bound: list[str] = []
        self.slots: dict[Slot, int] = {}

    def whole(self) -> Node:
        node, _ = self._expression(_OR)
        if self._now.kind != "end":
            raise self._refused("expected an operator or the end")
        return node

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _refused(self, wanted: str) -> ExpressionError:
        token = self._now
        found = "the end" if token.kind == "end" else json.dumps(token.value, ensure_ascii=False)
        return ExpressionError(f"{wanted}, found {found}", token.position)

    def _next(self) -> _Token:
        token = self._now
        self._at += 1
        return token

    def _is_sign(self, sign: str) -> bool:
        return self._now.kind == "sign" and self._now.value == sign

    def _is_word(self, word: str) -> bool:
        return self._now.kind == "word" and self._now.value == word

    def _expect(self, sign: str, what: str) -> None:
        if not self._is_sign(sign):
            raise self._refused(f"expected `{sign}` {what}")
        self._at += 1

    def _deeper(self, below: int = 0) -> None:
        if self._depth + below >= EXPRESSION_NESTING_LIMIT:
            raise ExpressionError(
                f"an expression is nested at most {EXPRESSION_NESTING_LIMIT} levels deep", self._now.position
            )

    def _expression(self, level: int) -> tuple[Node, int]:
        """An expression of operators of `level` or tighter, and how deep its tree is."""
        self._deeper()
        self._depth += 1
        begin = self._now.position
        node, height = self._prefixed(level)
        while (operator := self._operator(level)) is not None:
            own = _LEVELS[operator]
            if own <= _AND:
                node, height = self._logical(operator, own, node, height, begin)
                continue
            if operator == "+":
                self._one_more_sum()
            right, right_height = self._expression(own + 1)
            height = max(height, right_height) + 1
            self._deeper(height)
            node = self._binary(operator, node, right)
        self._depth -= 1
        return node, height

    def _one_more_sum(self) -> None:
        self._sums += 1
        if self._sums > EXPRESSION_SUMS_LIMIT:
            raise ExpressionError(
                f"an expression has at most {EXPRESSION_SUMS_LIMIT} `+`", self._now.position
            )

    def _prefixed(self, level: int) -> tuple[Node, int]:
        if level <= _NOT and self._is_word("not"):
            self._at += 1
            node, height = self._expression(_NOT)
            return Not(node), height + 1
        if self._is_sign("-"):
            self._at += 1
            # tighter than any operator of two sides
            node, height = self._expression(_PRODUCT + 1)
            return Negative(node), height + 1
        return self._primary()

    def _operator(self, level: int) -> str | None:
        """Take the operator that stands here, if it binds at `level` or tighter."""
        token = self._now
        if token.kind not in ("sign", "word"):
            return None
        operator: str = token.value
        if operator == "not":
            following = self._tokens[self._at + 1]
            if following.kind != "word" or following.value != "in":
                return None
        if _LEVELS.get(operator, -1) < level:
            return None
        self._at += 2 if operator == "not" else 1
        return operator

    @staticmethod
    def _binary(operator: str, left: Node, right: Node) -> Node:
        return Not(Binary("in", left, right)) if operator == "not" else Binary(operator, left, right)

    def _logical(self, operator: str, level: int, first: Node, height: int, begin: int) -> tuple[Node, int]:
        """All operands of a run of `and`, or of `or`: a list, so that a long one is not deep."""
        operands = [_condition(first, operator, begin)]
        while True:
            position = self._now.position
            operand, its_height = self._expression(level + 1)
            operands.append(_condition(operand, operator, position))
            height = max(height, its_height)
            if not self._is_word(operator):
                break
            self._at += 1
        flat: list[Node] = []
        for node in operands:
            flat += node.operands if isinstance(node, Logical) and node.operator == operator else (node,)
        return Logical(operator, tuple(flat)), height + 1

    def _primary(self) -> tuple[Node, int]:
        token = self._now
        if token.kind in ("number", "text"):
            self._at += 1
            return Literal(token.value), 1
        if self._is_sign("("):
            self._at += 1
            node, height = self._expression(_OR)
            self._expect(")", "to close a parenthesis")
            return node, height
        if self._is_sign("["):
            self._at += 1
            items, height = self._listed("]", "to close a list")
            return Items(tuple(items)), height + 1
        if token.kind == "word":
            return self._word()
        raise self._refused("expected a value")

    def _listed(self, closing: str, what: str) -> tuple[list[Node], int]:
        """Expressions with commas between them, up to the closing sign."""
        items: list[Node] = []
        height = 0
        if self._is_sign(closing):
            self._at += 1
            return items, height
        while True:
            item, its_height = self._expression(_OR)
            items.append(item)
            height = max(height, its_height)
            if not self._is_sign(","):
                break
            self._at += 1
        self._expect(closing, what)
        return items, height

    def _word(self) -> tuple[Node, int]:
        token = self._next()
        word: str = token.value
        if word in self._bound:
            return Variable(len(self._bound) - 1 - self._bound[::-1].index(word)), 1
        if word in _CONSTANTS:
            return Literal(_CONSTANTS[word]), 1
        if word == "NOW":
            return Now(), 1
        if word in QUANTIFIERS:
            return self._quantified(word)
        if word in FUNCTIONS:
            return self._call(word)
        if word in ACCESSORS:
            return self._access(word), 1
        if word == LOOKUP:
            return self._lookup()
        self._at -= 1
        if word in ("and", "or", "in", "not"):
            raise self._refused("expected a value")
        after = self._tokens[self._at + 1]
        if after.kind == "sign" and after.value in ("(", "["):
            kind = "function" if after.value == "(" else "accessor"
            raise ExpressionError(f"unknown {kind} {json.dumps(word, ensure_ascii=False)}", token.position)
        raise ExpressionError(
            f"unknown word {json.dumps(word, ensure_ascii=False)}: a property is"
            f' `properties["{word}"]`, a text stands in quotes',
            token.position,
        )

    def _access(self, accessor: str) -> Node:
        self._expect("[", f"after `{accessor}`")
        if self._now.kind != "text":
            raise self._refused(f"expected a name in quotes: `{accessor}['name']`")
        name: str = self._next().value
        self._expect("]", "after a property's name")
        return self._slot(accessor, name)

    def _slot(self, accessor: str, name: str) -> Node:
        slot = Slot(accessor, name)
        if slot not in self.slots and len(self.slots) == EXPRESSION_PROPERTIES_LIMIT:
            raise ExpressionError(
                f"an expression names at most {EXPRESSION_PROPERTIES_LIMIT} properties", self._now.position
            )
        return Access(self.slots.setdefault(slot, len(self.slots)))

    def _lookup(self) -> tuple[Node, int]:
        """`lookup["table"]["column"]`, or `lookup["table", key]["column"]`."""
        self._expect("[", f"after `{LOOKUP}`")
        if self._now.kind != "text":
            raise self._refused("expected a lookup table's name in quotes")
        table = self._table(self._next())
        key: Node | None = None
        height = 0
        if self._is_sign(","):
            self._at += 1
            key, height = self._expression(_OR)
        self._expect("]", "after a lookup table")
        self._expect("[", "before the name of its column")
        if self._now.kind != "text":
            raise self._refused("expected a column's name in quotes")
        column = self._next()
        self._expect("]", "after a column's name")
        place = self._column(table, column)
        if table is None or place is None:
            return Literal(UNDEFINED), 1
        if key is None:
            key = self._slot("properties", table.columns[0])
        return Lookup(table, place, key), height + 1

    def _table(self, token: _Token) -> Table | None:
        name: str = token.value
        if name not in self._opened:
            self._opened[name] = self._tables(name)
        found = self._opened[name]
        if found is None and not self._lenient:
            quoted = json.dumps(name, ensure_ascii=False)
            raise ExpressionError(f"there is no lookup table {quoted} in this project", token.position)
        return found

    def _column(self, table: Table | None, token: _Token) -> int | None:
        """The place of a column; None where a lenient reading takes it for undefined."""
        if table is not None and token.value in table.columns:
            return table.columns.index(token.value)
        if table is None or self._lenient:
            return None
        some = ", ".join(json.dumps(name, ensure_ascii=False) for name in table.columns[:_COLUMNS_NAMED])
        known = f"its columns: {some}" if some else "it has not been filled yet"
        quoted = json.dumps(token.value, ensure_ascii=False)
        raise ExpressionError(
            f"the lookup table {json.dumps(table.name, ensure_ascii=False)} has no column {quoted}; {known}",
            token.position,
        )

    def _call(self, function: str) -> tuple[Node, int]:
        if function == "defined" and not self._is_sign("("):
            self._deeper(1)
            self._depth += 1
            node, height = self._primary()
            self._depth -= 1
            return Call(function, (node,)), height + 1
        self._expect("(", f"after `{function}`")
        position = self._now.position
        arguments, height = self._listed(")", f"to close `{function}(`")
        if len(arguments) != FUNCTIONS[function]:
            count = FUNCTIONS[function]
            raise ExpressionError(
                f"{function} takes {count} value{'s' * (count > 1)}, not {len(arguments)}", position
            )
        return Call(function, tuple(arguments)), height + 1

    def _quantified(self, function: str) -> tuple[Node, int]:
        self._expect("(", f"after `{function}`")
        if self._now.kind != "word" or self._now.value in _RESERVED:
            raise self._refused(f"expected a name of your own: `{function}(name, list, condition)`")
        name: str = self._next().value
        self._expect(",", "after the name")
        source, source_height = self._expression(_OR)
        self._expect(",", "after the list")
        level = len(self._bound)
        self._bound.append(name)
        body, body_height = self._expression(_OR)
        self._bound.pop()
        self._expect(")", f"to close `{function}(`")
        return Quantified(function, level, source, body), max(source_height, body_height) + 1


def _condition(node: Node, operator: str, position: int) -> Node:
    """A side of `and` or `or`; a literal that can be no condition is refused (contract query §3.5)."""
    inner = node.operand if isinstance(node, Negative) else node
    if isinstance(inner, Literal):
        value = inner.value
        wrong = not (value is None or value is UNDEFINED or type(value) is bool)
    else:
        wrong = isinstance(inner, Now | Items)
    if wrong:
        raise ExpressionError(f"`{operator}` joins conditions, and a bare value is none", position)
    return node
