"""Which profiles of a kind a read wants, and in which order: what every engine has to answer alike.

Enters: a profile's id and properties. Leaves: whether it is wanted, and the bytes that its place is sorted
by. Pure; `store/memory.py` answers by it alone, other engines where their own language cannot tell.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import orjson

from mixdown.model.expression import (
    UNDEFINED,
    Context,
    Expression,
    document_predicate,
    document_values,
)

Judge = Callable[[str, bytes], bool]
_DOUBLE: Final = struct.Struct(">d")
_SIGN: Final = 1 << 63
_ALL_BITS: Final = (1 << 64) - 1
_REST_OFFSET: Final = 1 << 15
_EXACT: Final = 1 << 53
_NO_REST: Final = _REST_OFFSET.to_bytes(2)
_INVERTED: Final = bytes(255 - byte for byte in range(256))
_FALSE, _TRUE, _NUMBER, _TEXT, _OTHER, _NONE = b"\x10", b"\x11", b"\x20", b"\x30", b"\x40", b"\xff"


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """A filter over the profiles of one kind, and their order.

    `where` holds them all to be true; `search` is a text that id or values must contain ("": none).
    Without `sort_key` rows ascend by id; with it rows that have no such value come last, either way. `most`,
    where it is not 0, says that only so many of the first are asked for: a store may leave out the others.
    """

    context: Context
    where: tuple[Expression, ...] = ()
    search: str = ""
    sort_key: Expression | None = None
    descending: bool = False
    most: int = 0

    @property
    def takes_all(self) -> bool:
        """Whether every profile is wanted."""
        return not self.where and not self.search


class Looked(msgspec.Struct, frozen=True):
    """What a look through some profiles found: (id, document) of those that are wanted, ascending by id.

    `looked_at` is how many there were to look at, `last` the id of the last of them: None where there are no
    more behind it.
    """

    profiles: list[tuple[str, bytes]]
    looked_at: int
    last: str | None


def judge(selection: Selection) -> Judge:
    """A function from a profile's id and stored document to whether it is wanted; made once for many."""
    context = selection.context
    predicates = [document_predicate(expression, context) for expression in selection.where]
    if selection.search:
        predicates.append(_finder(selection.search))
    if len(predicates) == 1:
        return predicates[0]
    return lambda profile_id, document: all(wants(profile_id, document) for wants in predicates)


def _finder(search: str) -> Judge:
    """Whether the id or a text among the values, in lists and objects too, contains `search` in any case."""
    wanted = search.lower()

    def found(profile_id: str, document: bytes) -> bool:
        return wanted in profile_id.lower() or _any_text(wanted, msgspec.json.decode(document).values())

    return found


def _any_text(wanted: str, values: Iterable[Any]) -> bool:
    left = list(values)
    while left:  # a loop, since values may be nested deeply
        value = left.pop()
        if type(value) is str:
            if wanted in value.lower():
                return True
        elif type(value) is dict:
            left.extend(value.values())
        elif type(value) is list:
            left.extend(value)
    return False


def sort_key_of(selection: Selection) -> Callable[[str, bytes], bytes]:
    """A function from a profile's id and stored document to what it is sorted by; ties go by id."""
    assert selection.sort_key is not None
    value_of = document_values(selection.sort_key, selection.context)
    descending = selection.descending
    return lambda profile_id, document: value_bytes(value_of(profile_id, document), descending=descending)


def value_bytes(value: Any, *, descending: bool) -> bytes:
    """A value as bytes that compare as values do: booleans, numbers, texts, then lists and objects.

    Texts go by code point, lists and objects by their JSON. What is not set (undefined, null) comes last,
    ascending and descending.
    """
    key = _ascending(value)
    if key == _NONE:
        return key
    return key.translate(_INVERTED) if descending else key


def _ascending(value: Any) -> bytes:
    if type(value) is int and 0 <= value < _EXACT:  # most numbers, and quicker so
        near = _DOUBLE.pack(value)
        return _NUMBER + (near[0] | 128).to_bytes(1) + near[1:] + _NO_REST
    if value is None or value is UNDEFINED:
        return _NONE
    if value is True:
        return _TRUE
    if value is False:
        return _FALSE
    if isinstance(value, int | float):
        return _NONE if math.isnan(value) else _NUMBER + _number_bytes(value)
    if isinstance(value, str):
        # no stored text contains a NUL, which therefore ends it
        return _TEXT + value.encode("utf-8", "replace") + b"\0"
    return _OTHER + orjson.dumps(value, option=orjson.OPT_SORT_KEYS) + b"\0"


def _number_bytes(value: float) -> bytes:
    """Ten bytes: the nearest double in an order that bytes have, then what an integer has beyond it."""
    near = float(value) + 0.0  # the one zero
    rest = value - int(near) if isinstance(value, int) else 0  # 64-bit integers are within 1024 of theirs
    bits = int.from_bytes(_DOUBLE.pack(near))
    ordered = bits ^ _ALL_BITS if bits & _SIGN else bits | _SIGN
    return ordered.to_bytes(8) + (rest + _REST_OFFSET).to_bytes(2)
