"""Indexes on chosen properties: what every engine keeps of a value, and which values a condition may meet.

Enters: documents as they are written, or the conditions of a read. Leaves: bytes that compare as values do,
cut; and bounds of them. What lies within holds every match, and perhaps more: the filter itself still
decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from mixdown.model.errors import CatalogError
from mixdown.model.expression import PROFILE_ACCESSORS, Expression
from mixdown.model.expression_nodes import Access, Binary, Items, Literal, Logical, Node
from mixdown.store.bounds import INDEXES_PER_PROJECT
from mixdown.store.selection import value_bytes

Bounds = tuple[bytes, bytes]
"""Of values as they are stored: the least and the greatest that may match."""
CUT_BYTES: Final = 64
BYTES_AT_ONCE: Final = 8 * 1024 * 1024
DROPPED_AT_ONCE: Final = 5000
_VALUES_LIMIT: Final = 200
_LAST: Final = b"\xff"
_MIRRORED: Final = {"==": "==", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def check_new(held: Sequence[tuple[Any, str]], kind: Any, name: str) -> None:
    """Raises `CatalogError` where a project that holds these (kind, property) may not have one more."""
    if (kind, name) in held:
        raise CatalogError(f"there is an index on {name!r} already", hint="`mixdown index list` shows all.")
    if len(held) >= INDEXES_PER_PROJECT:
        raise CatalogError(
            f"a project has {INDEXES_PER_PROJECT} indexes at most: each makes every write dearer",
            hint="Remove one that no query uses: mixdown index remove.",
        )


def no_group_key(group_key: str) -> CatalogError:
    """The error about an index on groups of a key that no group has."""
    return CatalogError(
        f"there is no group key {group_key!r}", hint="A group key is made by its first group."
    )


def no_index(name: str) -> CatalogError:
    """The error about an index that there is not."""
    return CatalogError(f"there is no index on {name!r}", hint="`mixdown index list` shows all.")


@lru_cache(maxsize=256)
def reader(name: str) -> Callable[[bytes], bytes]:
    """A function from a document to the bytes of its value of this property; b"" where none is indexed."""
    shape = msgspec.defstruct("Row", [("value", Any, None)], rename={"value": name}, gc=False)
    decode = msgspec.json.Decoder(shape).decode

    def read(document: bytes) -> bytes:
        try:
            return stored_value(decode(document).value)  # type: ignore[attr-defined]
        except msgspec.DecodeError:  # a damaged document, which no filter matches
            return b""

    return read


def stored_value(value: Any) -> bytes:
    """A value as it is stored: texts, numbers and booleans, cut; b"" for all else."""
    if type(value) is str or type(value) is int or type(value) is float or type(value) is bool:
        return value_bytes(value, descending=False)[:CUT_BYTES]
    return b""


def conditions(expression: Expression, node: Node) -> Iterator[tuple[str, list[Bounds]]]:
    """(property, bounds of its value) for each condition that every match must meet."""
    if isinstance(node, Logical) and node.operator == "and":
        for operand in node.operands:
            yield from conditions(expression, operand)
    elif isinstance(node, Binary):
        for operator, left, right in (
            (node.operator, node.left, node.right),
            (_MIRRORED.get(node.operator, ""), node.right, node.left),
        ):
            if isinstance(left, Access) and expression.slots[left.place].accessor in PROFILE_ACCESSORS:
                bounds = _bounds(operator, right)
                if bounds is not None:
                    yield expression.slots[left.place].name, bounds


def _bounds(operator: str, node: Node) -> list[Bounds] | None:
    """Within what a value must be that stands so to `node`; None where that cannot be told."""
    if operator == "in" and isinstance(node, Items):
        items = [item.value if isinstance(item, Literal) else None for item in node.items]
        stored = sorted({stored_value(item) for item in items})
        if len(stored) > _VALUES_LIMIT or b"" in stored:
            return None
        return [(value, value) for value in stored]
    if not isinstance(node, Literal):
        return None
    value = stored_value(node.value)
    if not value or (operator != "==" and type(node.value) is bool):
        return None
    kind = value[:1]
    if operator == "==":
        return [(value, value)]
    if operator in (">", ">="):
        return [(value, kind + _LAST * CUT_BYTES)]
    if operator in ("<", "<="):
        return [(kind, value)]
    return None
