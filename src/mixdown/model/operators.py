"""The operators: how an update changes a profile (contract ingestion §4). Pure.

A payload that arrives here has been through `updates.read_update`: containers have the right type,
values can be stored, reserved names are gone. What is left is what depends on the stored profile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

Operation = tuple[int, Any]
_ABSENT: Final = object()


def fits_value_limit(value: Any) -> bool:
    """Whether a list or object is at most 256 KB of compact JSON (contract ingestion §5.4)."""
    kind = type(value)
    return (kind is not list and kind is not dict) or len(orjson.dumps(value)) <= VALUE_LIMIT_BYTES


def _takes_name(doc: Properties, name: str) -> bool:
    """Whether `doc` may hold `name`: 2000 properties at most, `$last_seen` not counted."""
    if name in doc:
        return True
    held = len(doc) - (LAST_SEEN in doc)
    return held < PROPERTIES_PER_PROFILE or name == LAST_SEEN


def _put(doc: Properties, name: str, value: Any, *, crowded: bool) -> None:
    """Store a new value unless that would break a limit; only a crowded profile needs the check."""
    if crowded and not (_takes_name(doc, name) and fits_value_limit(value)):
        return
    doc[name] = value


def _set(doc: Properties, payload: Properties, *, crowded: bool) -> None:
    if not crowded:
        doc.update(payload)
        return
    for name, value in payload.items():
        _put(doc, name, value, crowded=True)


def _set_once(doc: Properties, payload: Properties, *, crowded: bool) -> None:
    for name, value in payload.items():
        if name not in doc:
            _put(doc, name, value, crowded=crowded)


def _merge(doc: Properties, payload: Properties, *, crowded: bool) -> None:
    for name, changes in payload.items():
        stored = doc.get(name, _ABSENT)
        if stored is _ABSENT:
            _put(doc, name, changes, crowded=crowded)
        elif type(stored) is dict and type(changes) is dict:
            _put(doc, name, {**stored, **changes}, crowded=crowded)


def _add(doc: Properties, payload: Properties, *, crowded: bool) -> None:
    for name, delta in payload.items():
        stored = doc.get(name, _ABSENT)
        if stored is _ABSENT:
            _put(doc, name, delta, crowded=crowded)
            continue
        if type(stored) is not int and type(stored) is not float:
            continue
        total = stored + delta
        if type(total) is int and not INT_MIN <= total <= INT_MAX:
            total = float(total)
        if isfinite(total):
            doc[name] = total


def _new_elements(known: Iterable[Any], payload: list[Any]) -> list[Any]:
    seen = {canonical(item) for item in known}
    new = []
    for item in payload:
        key = canonical(item)
        if key not in seen:
            seen.add(key)
            new.append(item)
    return new


def _union(doc: Properties, payload: dict[str, list[Any]], *, crowded: bool) -> None:
    for name, items in payload.items():
        stored = doc.get(name, _ABSENT)
        if stored is _ABSENT:
            _put(doc, name, _new_elements((), items), crowded=crowded)
        elif type(stored) is list:
            new = _new_elements(stored, items)
            if new:
                _put(doc, name, stored + new, crowded=crowded)


def _append(doc: Properties, payload: Properties, *, crowded: bool) -> None:
    for name, item in payload.items():
        stored = doc.get(name, _ABSENT)
        if stored is _ABSENT:
            _put(doc, name, [item], crowded=crowded)
        elif type(stored) is list:
            if crowded:
                _put(doc, name, [*stored, item], crowded=True)
            else:
                stored.append(item)


def _remove(doc: Properties, payload: Properties, *, crowded: bool) -> None:
    del crowded
    for name, unwanted in payload.items():
        stored = doc.get(name)
        if type(stored) is list:
            key = canonical(unwanted)
            doc[name] = [item for item in stored if canonical(item) != key]


def _unset(doc: Properties, payload: list[str], *, crowded: bool) -> None:
    del crowded
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
    crowded: bool,
) -> Properties | None:
    """Apply one record to a profile, changing `doc` in place; None stands for "no profile".

    `operations` are (operator, payload) in the order of `Operator`; `geo` the properties that
    geolocation found; `seen` the value of `$last_seen`, or None where the record says
    `$ignore_time`; `arrival` what a profile without any `$last_seen` gets (all in
    `YYYY-MM-DDTHH:MM:SS`). `crowded` must be true when the profile might come near 256 KB or 2000
    properties: only then are those limits checked.
    """
    for operator, payload in operations:
        if operator == Operator.DELETE:
            return None
        if doc is None:
            if operator == Operator.REMOVE:
                continue
            doc = {}
        if geo and operator >= Operator.SET:
            _set(doc, geo, crowded=crowded)
            geo = None
        APPLY[operator](doc, payload, crowded=crowded)
    if doc is None:
        return None
    if geo:
        _set(doc, geo, crowded=crowded)
    if seen is not None:
        doc[LAST_SEEN] = seen
    elif LAST_SEEN not in doc:
        doc[LAST_SEEN] = arrival
    return doc
