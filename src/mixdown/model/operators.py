"""The operators: how an update changes a profile (contract ingestion §4). Pure.

A payload that arrives here has been through `updates.read_update`: containers have the right type,
values can be stored, reserved names are gone. What is left is what depends on the stored profile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from enum import IntEnum
from math import isfinite
from typing import Any, Final

import orjson

from mixdown.model.limits import INT_MAX, INT_MIN, PROPERTIES_PER_PROFILE, VALUE_LIMIT_BYTES
from mixdown.model.values import canonical

Properties = dict[str, Any]
LAST_SEEN: Final = "$last_seen"


class Operator(IntEnum):
    """The operators in the order in which one record applies them (contract ingestion §3.4)."""

    DELETE = 0
    UNSET = 1
    SET_ONCE = 2
    SET = 3
    MERGE = 4
    ADD = 5
    UNION = 6
    APPEND = 7
    REMOVE = 8


OPERATOR_NAMES: Final[dict[str, int]] = {f"${operator.name.lower()}": int(operator) for operator in Operator}

SHRINKING: Final = frozenset({Operator.DELETE, Operator.UNSET, Operator.REMOVE})
"""Operators that add nothing to a profile that exists."""

Operation = tuple[int, Any]
_ABSENT: Final = object()


def fits_value_limit(value: Any) -> bool:
    """Whether a list or object is at most 256 KB of compact JSON (contract ingestion §5.4)."""
    kind = type(value)
    return (kind is not list and kind is not dict) or len(orjson.dumps(value)) <= VALUE_LIMIT_BYTES


class Crowd:
    """What is known of the large values of one crowded profile, while records are applied to it in a row.

    Without it each `$append` would measure its whole list again, and each `$union` compare with all of
    it: records on one profile would take time that grows with their square. A value is known by its
    identity, and changed in place through `extend` and `merge` alone.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, tuple[Any, int]] = {}
        self._elements: dict[str, tuple[list[Any], int, set[Hashable]]] = {}

    def elements(self, name: str, stored: list[Any]) -> set[Hashable]:
        """`canonical` of every element of the list that stands under `name`; not to be changed."""
        held, count, keys = self._elements.get(name, (None, 0, set()))
        if held is not stored:
            count, keys = 0, set()
        if held is not stored or count < len(stored):
            keys.update(map(canonical, stored[count:]))
            self._elements[name] = (stored, len(stored), keys)
        return keys

    def extend(self, name: str, stored: list[Any], items: list[Any]) -> None:
        """Append `items` to a stored list, unless it would be larger than 256 KB then."""
        size = self._size(name, stored) + len(orjson.dumps(items)) - len("[]") + bool(stored)
        if size <= VALUE_LIMIT_BYTES:
            stored += items
            self._sizes[name] = (stored, size)

    def without(self, name: str, stored: list[Any], unwanted: Any, key: Hashable) -> list[Any]:
        """A new list without the elements that equal `unwanted`, whose `canonical` is `key`."""
        keys = self.elements(name, stored)
        kept = _without(stored, unwanted, key)
        keys.discard(key)
        self._elements[name] = (kept, len(kept), keys)
        return kept

    def merge(self, name: str, stored: Properties, changes: Properties) -> None:
        """Write `changes` into a stored object, unless it would be larger than 256 KB then."""
        size = self._size(name, stored)
        held = len(stored)
        for key, value in changes.items():
            size += len(orjson.dumps(value))
            if key in stored:
                size -= len(orjson.dumps(stored[key]))
            else:
                size += len(orjson.dumps(key)) + len(":") + (held > 0)
                held += 1
        if size <= VALUE_LIMIT_BYTES:
            stored.update(changes)
            self._sizes[name] = (stored, size)

    def _size(self, name: str, stored: Any) -> int:
        held, size = self._sizes.get(name, (None, 0))
        if held is not stored:
            size = len(orjson.dumps(stored))
            self._sizes[name] = (stored, size)
        return size


def _takes_name(doc: Properties, name: str) -> bool:
    """Whether `doc` may hold `name`: 2000 properties at most, `$last_seen` not counted."""
    if name in doc:
        return True
    held = len(doc) - (LAST_SEEN in doc)
    return held < PROPERTIES_PER_PROFILE or name == LAST_SEEN


def _put(doc: Properties, name: str, value: Any, *, crowd: Crowd | None) -> None:
    """Store a new value unless that would break a limit; only a crowded profile needs the check."""
    if crowd is not None and not (_takes_name(doc, name) and fits_value_limit(value)):
        return
    doc[name] = value


def _set(doc: Properties, payload: Properties, *, crowd: Crowd | None) -> None:
    if crowd is None:
        doc.update(payload)
        return
    for name, value in payload.items():
        _put(doc, name, value, crowd=crowd)


def _set_once(doc: Properties, payload: Properties, *, crowd: Crowd | None) -> None:
    for name, value in payload.items():
        if name not in doc:
            _put(doc, name, value, crowd=crowd)


def _merge(doc: Properties, payload: Properties, *, crowd: Crowd | None) -> None:
    for name, changes in payload.items():
        stored = doc.get(name, _ABSENT)
        if stored is _ABSENT:
            _put(doc, name, changes, crowd=crowd)
        elif type(stored) is dict and type(changes) is dict:
            if crowd is None:
                stored.update(changes)
            else:
                crowd.merge(name, stored, changes)


def _add(doc: Properties, payload: Properties, *, crowd: Crowd | None) -> None:
    for name, delta in payload.items():
        stored = doc.get(name, _ABSENT)
        if stored is _ABSENT:
            _put(doc, name, delta, crowd=crowd)
            continue
        if type(stored) is not int and type(stored) is not float:
            continue
        total = stored + delta
        if type(total) is int and not INT_MIN <= total <= INT_MAX:
            total = float(total)
        if isfinite(total):
            doc[name] = total


def _new_elements(known: Collection[Hashable], payload: list[Any]) -> list[Any]:
    """The elements of `payload`, each once, whose `canonical` is not among `known`."""
    added = set()
    new = []
    for item in payload:
        key = canonical(item)
        if key not in known and key not in added:
            added.add(key)
            new.append(item)
    return new


def _union(doc: Properties, payload: dict[str, list[Any]], *, crowd: Crowd | None) -> None:
    for name, items in payload.items():
        stored = doc.get(name, _ABSENT)
        if stored is _ABSENT:
            _put(doc, name, _new_elements((), items), crowd=crowd)
        elif type(stored) is list:
            if crowd is None:
                stored += _new_elements({canonical(item) for item in stored}, items)
            elif new := _new_elements(crowd.elements(name, stored), items):
                crowd.extend(name, stored, new)


def _append(doc: Properties, payload: Properties, *, crowd: Crowd | None) -> None:
    for name, item in payload.items():
        stored = doc.get(name, _ABSENT)
        if stored is _ABSENT:
            _put(doc, name, [item], crowd=crowd)
        elif type(stored) is list:
            if crowd is None:
                stored.append(item)
            else:
                crowd.extend(name, stored, [item])


def _remove(doc: Properties, payload: Properties, *, crowd: Crowd | None) -> None:
    for name, unwanted in payload.items():
        stored = doc.get(name)
        if type(stored) is list:
            key = canonical(unwanted)
            if crowd is None:
                doc[name] = _without(stored, unwanted, key)
            elif key in crowd.elements(name, stored):
                doc[name] = crowd.without(name, stored, unwanted, key)


def _without(stored: list[Any], unwanted: Any, key: Hashable) -> list[Any]:
    """The elements of `stored` that do not equal `unwanted`, whose `canonical` is `key`."""
    if type(unwanted) is str:
        return [item for item in stored if item != unwanted]
    return [item for item in stored if canonical(item) != key]


def _unset(doc: Properties, payload: list[str], *, crowd: Crowd | None) -> None:
    del crowd
    for name in payload:
        doc.pop(name, None)


APPLY: Final[dict[int, Callable[..., None]]] = {
    Operator.UNSET: _unset,
    Operator.SET_ONCE: _set_once,
    Operator.SET: _set,
    Operator.MERGE: _merge,
    Operator.ADD: _add,
    Operator.UNION: _union,
    Operator.APPEND: _append,
    Operator.REMOVE: _remove,
}


def apply_operations(
    doc: Properties | None,
    operations: Iterable[Operation],
    *,
    geo: Properties | None,
    seen: str | None,
    arrival: str,
    crowd: Crowd | None,
) -> Properties | None:
    """Apply one record to a profile, changing `doc` in place; None stands for "no profile".

    `operations` are (operator, payload) in the order of `Operator`; `geo` the properties that
    geolocation found; `seen` the value of `$last_seen`, or None where the record says
    `$ignore_time`; `arrival` what a profile without any `$last_seen` gets (all in
    `YYYY-MM-DDTHH:MM:SS`). `crowd` must be given when the profile might come near 256 KB or 2000
    properties, the same for the records that follow one another: only then are those limits checked.
    """
    for operator, payload in operations:
        if operator == Operator.DELETE:
            return None
        if doc is None:
            if operator == Operator.REMOVE:
                continue
            doc = {}
        if geo and operator >= Operator.SET:
            _set(doc, geo, crowd=crowd)
            geo = None
        APPLY[operator](doc, payload, crowd=crowd)
    if doc is None:
        return None
    if geo:
        _set(doc, geo, crowd=crowd)
    if seen is not None:
        doc[LAST_SEEN] = seen
    elif LAST_SEEN not in doc:
        doc[LAST_SEEN] = arrival
    return doc
