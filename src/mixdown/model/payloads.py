"""Operator payloads: right container, storable names and values (contract ingestion §4.1, §4.4).

Non-strict, a value that an operator cannot use drops its key; strict, it refuses the record. A
payload in which nothing has to change comes back as the very same object: that is the quick path,
taken by nearly every record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import orjson

from mixdown.model import texts
from mixdown.model.limits import INT_MAX, INT_MIN, NAME_LIMIT_CHARS, VALUE_LIMIT_BYTES, Limits
from mixdown.model.operators import LAST_SEEN, OPERATOR_NAMES, Operator, Properties
from mixdown.model.times import canonical_timestamp, number_of
from mixdown.model.values import (
    NumberOverflowError,
    clean_name,
    clean_value,
    fits_strict_nesting,
    nested_too_deeply,
)

NAME_OF: Final[dict[int, str]] = {code: name for name, code in OPERATOR_NAMES.items()}
DROPPED_NAMES: Final = frozenset({"$token", "$distinct_id", "$ip", LAST_SEEN})
PLAIN_LEVELS: Final = 8
_UNUSABLE: Final = object()
_UNSET: Final = int(Operator.UNSET)
_MERGE: Final = int(Operator.MERGE)
_ADD: Final = int(Operator.ADD)
_UNION: Final = int(Operator.UNION)
_SEEN_BY: Final = (int(Operator.SET), int(Operator.SET_ONCE))


class Reading(msgspec.Struct, frozen=True):
    r"""How a request's records are to be read: `projects` maps tokens to project ids.

    `group` chooses /groups over /engage; `hostile` says that text may hold NUL or lone surrogates
    (the body had `\u` escapes or was repaired), which the quick path does not look for.
    """

    projects: Mapping[str, int]
    group: bool = False
    strict: bool = False
    hostile: bool = False
    limits: Limits = Limits()


class PayloadError(ValueError):
    """A payload that refuses its record; `field` is `$set` or `$set.name`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def read_payload(operator: int, raw: Any, reading: Reading, keep_last_seen: int) -> Any:
    """The payload of `operator` as it goes to the log: a dict, for `$unset` a list, for `$delete` None.

    `keep_last_seen` lets `$set` and `$set_once` bring a `$last_seen` of their own.
    Raises `PayloadError`.
    """
    if operator <= _UNSET:
        return None if operator < _UNSET else _unset_names(raw, strict=reading.strict)
    if type(raw) is not dict:
        if type(raw) is list and not raw:
            return {}
        field = NAME_OF[operator]
        raise PayloadError(field, texts.NOT_AN_OBJECT.format(field=field))
    limit_bytes = reading.limits.string_limit_bytes
    if (
        not reading.strict
        and not reading.hostile
        and _is_plain(
            operator, raw, limit_bytes, keep_last_seen=bool(keep_last_seen) and operator in _SEEN_BY
        )
    ):
        return raw
    return _Rebuild(
        Operator(operator), limit_bytes, strict=reading.strict, keep_last_seen=bool(keep_last_seen)
    ).payload(raw)


def _is_plain(operator: int, payload: Properties, limit_bytes: int, *, keep_last_seen: bool) -> bool:
    """Whether a payload can be stored as it is (its text is known to hold no NUL or surrogate).

    Says no where it would have to look closely: the way through `_Rebuild` gives the same payload.
    """
    if operator == _MERGE:
        return False
    short = limit_bytes // 4 if limit_bytes else 1 << 62
    for name, value in payload.items():
        if len(name) > NAME_LIMIT_CHARS:
            return False
        if name in DROPPED_NAMES:
            if keep_last_seen and name == LAST_SEEN and is_canonical(value):
                continue
            return False
        kind = type(value)
        if operator == _UNION:
            if kind is not list or not _are_plain(value, short, PLAIN_LEVELS):
                return False
        elif kind is str:
            if operator == _ADD or (
                len(value) > short and not (len(value) <= limit_bytes and value.isascii())
            ):
                return False
        elif kind is int:
            if not INT_MIN <= value <= INT_MAX:
                return False
        elif kind is float:
            if value - value != 0:
                return False
        elif operator == _ADD or not _are_plain((value,), short, PLAIN_LEVELS):
            return False
    return True


def is_canonical(value: Any) -> bool:
    """Whether a given `$last_seen` stands in the form in which it is stored."""
    return type(value) is str and canonical_timestamp(value) == value


def _is_plain_object(value: Properties, short: int, levels: int) -> bool:
    return max(map(len, value), default=0) <= NAME_LIMIT_CHARS and _are_plain(value.values(), short, levels)


def _are_plain(items: Iterable[Any], short: int, levels: int) -> bool:
    for item in items:
        kind = type(item)
        if kind is str:
            if len(item) > short:
                return False
        elif kind is int:
            if not INT_MIN <= item <= INT_MAX:
                return False
        elif kind is float:
            if item - item != 0:
                return False
        elif kind is dict:
            if not levels or not _is_plain_object(item, short, levels - 1):
                return False
        elif kind is list and not (levels and _are_plain(item, short, levels - 1)):
            return False
    return True


def _unset_names(raw: Any, *, strict: bool) -> list[str]:
    if type(raw) is str:
        raw = [raw]
    elif type(raw) is dict:
        _check_nesting("$unset", raw)
        raw = list(raw)
    if type(raw) is not list or not all(type(name) is str for name in raw):
        raise PayloadError("$unset", texts.UNSET_NOT_LIST)
    if strict and not raw:
        raise PayloadError("$unset", texts.STRICT_UNSET_EMPTY)
    return [name for name in map(clean_name, raw) if name != LAST_SEEN]


def _check_nesting(operator_name: str, payload: Properties) -> None:
    for value in payload.values():
        if (type(value) is list or type(value) is dict) and nested_too_deeply(value):
            raise PayloadError(operator_name, texts.NESTED_TOO_DEEPLY.format(field=operator_name))


class _Rebuild:
    """Builds a payload anew, name by name; `payload` is its one way in."""

    def __init__(self, operator: Operator, limit_bytes: int, *, strict: bool, keep_last_seen: bool) -> None:
        self.operator = operator
        self.limit_bytes = limit_bytes
        self.strict = strict
        self.keep_last_seen = keep_last_seen and operator in (Operator.SET, Operator.SET_ONCE)

    def payload(self, raw: Properties) -> Properties:
        """A payload in which every name and value can be stored; raises `PayloadError`."""
        _check_nesting(NAME_OF[self.operator], raw)
        built: Properties = {}
        for raw_name, raw_value in raw.items():
            name = clean_name(raw_name)
            if name in DROPPED_NAMES and not (name == LAST_SEEN and self.keep_last_seen):
                continue
            value = self._value(name, raw_value)
            built.pop(name, None)
            if value is not _UNUSABLE:
                built[name] = value
        return built

    def _value(self, name: str, raw: Any) -> Any:
        field = f"{NAME_OF[self.operator]}.{name}"
        if name == LAST_SEEN:
            text = canonical_timestamp(raw)
            return _UNUSABLE if text is None else text
        try:
            value = clean_value(self._shape(raw, field), self.limit_bytes)
        except NumberOverflowError:
            if self.strict:
                raise PayloadError(field, texts.STRICT_OVERFLOW.format(field=field)) from None
            return _UNUSABLE
        if self.strict and type(value) in (list, dict):
            self._check_strict(value, field)
        return value

    def _shape(self, raw: Any, field: str) -> Any:
        """The value in the shape that the operator needs, or `_UNUSABLE`; strict, a `PayloadError`."""
        if self.operator == Operator.ADD:
            return self._number(raw, field)
        if self.operator == Operator.UNION:
            return self._list(raw, field)
        if self.operator == Operator.MERGE and self.strict and type(raw) is not dict:
            raise PayloadError(field, texts.NOT_AN_OBJECT.format(field=field))
        return raw

    def _number(self, raw: Any, field: str) -> Any:
        if type(raw) is int or type(raw) is float:
            return raw
        if self.strict:
            raise PayloadError(field, texts.STRICT_NUMBER.format(field=field))
        number = number_of(raw) if type(raw) is str else None
        return _UNUSABLE if number is None else number

    def _list(self, raw: Any, field: str) -> Any:
        if type(raw) is not list or not raw or not all(type(item) in (str, int, float) for item in raw):
            if self.strict:
                raise PayloadError(field, texts.STRICT_UNION_LIST.format(field=field))
            return raw if type(raw) is list else [raw]
        return raw

    def _check_strict(self, value: Any, field: str) -> None:
        if not fits_strict_nesting(value):
            raise PayloadError(field, texts.STRICT_NESTED.format(field=field))
        if len(orjson.dumps(value)) > VALUE_LIMIT_BYTES:
            raise PayloadError(field, texts.STRICT_TOO_LARGE.format(field=field, limit=VALUE_LIMIT_BYTES))
