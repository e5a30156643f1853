"""Parse trees as PostgreSQL prints them (`debug_print_parse`): what it has understood of a statement.

Enters: the text of a tree. Leaves: nodes with fields, whose names are those of PostgreSQL's own sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

_TOKEN: Final = re.compile(r"[(){}]|(?:\\.|[^\s(){}\\])+")
_NAMES: Final = {
    "RTE": "RANGETBLENTRY",
    "COALESCE": "COALESCEEXPR",
    "CASE": "CASEEXPR",
    "MINMAX": "MINMAXEXPR",
}
"""What versions of PostgreSQL name otherwise."""


class Node:
    """A node of a tree. A field that is not there is None."""

    def __init__(self, kind: str, fields: dict[str, Any]) -> None:
        self.kind = kind
        self.fields = fields

    def __getitem__(self, name: str) -> Any:
        return self.fields.get(name)

    def number(self, name: str) -> int:
        """A field that is a number."""
        return int(self.fields[name])

    def true(self, name: str) -> bool:
        """A field that is a boolean."""
        return self.fields.get(name) == "true"

    def listed(self, name: str) -> list[Any]:
        """A field that is a list."""
        found = self.fields.get(name)
        return found if isinstance(found, list) else []


def parsed(text: str) -> Node:
    """The node that a text is."""
    tokens = _TOKEN.findall(text)
    node, end = _item(tokens, 0)
    assert isinstance(node, Node), text[:100]
    assert end == len(tokens), tokens[end : end + 5]
    return node


def _item(tokens: list[str], at: int) -> tuple[Any, int]:
    token = tokens[at]
    if token == "{":
        return _node(tokens, at + 1)
    if token == "(":
        found = []
        at += 1
        while tokens[at] != ")":
            item, at = _item(tokens, at)
            found.append(item)
        return found, at + 1
    return None if token == "<>" else re.sub(r"\\(.)", r"\1", token), at + 1


def _node(tokens: list[str], at: int) -> tuple[Node, int]:
    kind = tokens[at]
    fields: dict[str, Any] = {}
    at += 1
    while tokens[at] != "}":
        name = tokens[at][1:]
        values = []
        at += 1
        while tokens[at] != "}" and not tokens[at].startswith(":"):
            value, at = _item(tokens, at)
            values.append(value)
        # a datum is several words: its length, and its bytes in brackets
        fields[name] = values[0] if len(values) == 1 else values
    return Node(_NAMES.get(kind, kind), fields), at + 1


def children(node: Any) -> Iterator[Any]:
    """What a node, or a list of them, is made of."""
    if isinstance(node, Node):
        yield from node.fields.values()
    elif isinstance(node, list):
        yield from node


def within(node: Any, *, into_queries: bool = True) -> Iterator[Node]:
    """All nodes from this one down; without `into_queries` those of queries below it are left out."""
    if isinstance(node, Node):
        yield node
    for each in children(node):
        if isinstance(each, (Node, list)) and (into_queries or not _is_query(each)):
            yield from within(each, into_queries=into_queries)


def _is_query(node: Any) -> bool:
    return isinstance(node, Node) and node.kind == "QUERY"


def queries_below(node: Any) -> list[Node]:
    """The queries directly below a node: those of its sublinks, of its FROM and WITH."""
    found: list[Node] = []
    for each in children(node):
        if _is_query(each):
            found.append(each)
        elif isinstance(each, (Node, list)):
            found += queries_below(each)
    return found
