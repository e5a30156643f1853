"""The naive reference for profile updates: the contract written down once more, slowly.

One raw record and one stored profile enter; a refusal or the new profile leaves. It is written from the
contract alone (ingestion §3, §4, §5, §10) and must never import the product: the two are held against
each other. Where clear and fast part ways, it is clear.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Document: TypeAlias = dict[str, Json]
Kind: TypeAlias = Literal["engage", "groups"]

#: The order in which the operators of one record apply, whatever their order in the JSON (§3.4).
OPERATORS = ("$delete", "$unset", "$set_once", "$set", "$merge", "$add", "$union", "$append", "$remove")

STRING_BYTES = 255
NAME_CHARACTERS = 255
PROFILE_PROPERTIES = 2000
VALUE_BYTES = 262_144
NESTING_LEVELS = 64
STRICT_OBJECT_KEYS = 255  # "fewer than"
STRICT_OBJECT_DEPTH = 3
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
MILLISECONDS_FROM = 1e11

#: §5.3, complete.
PLACEHOLDER_IDS = (
    "00000000-0000-0000-0000-000000000000",
    "anon",
    "anonymous",
    "nil",
    "none",
    "null",
    "n/a",
    "na",
    "undefined",
    "unknown",
    "<nil>",
    "0",
    "-1",
    "true",
    "false",
    "[]",
    "{}",
)

#: Names that are never a property, in any payload (§5.1).
NEVER_STORED = ("$token", "$distinct_id", "$ip")

DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
BLANKS = " \t\n\r\v\f\x1c\x1d\x1e\x1f"
WHOLE = re.compile(r"[+-]?[0-9]+")
ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Refused:
    """The record is bad: which field, and the text that the reply carries (§6.5)."""

    field: str
    message: str


@dataclass(frozen=True)
class Applied:
    """The record is good: the profile after it, None where there is none."""

    profile: Document | None


def update(
    raw: Json,
    *,
    kind: Kind,
    strict: bool,
    arrival: float,
    geo: Document | None,
    stored: Document | None,
) -> Refused | Applied:
    """Apply one raw record to one stored profile, without changing either."""
    refused = refusal(raw, kind=kind, strict=strict)
    if refused is not None:
        return refused
    assert isinstance(raw, dict)
    return Applied(applied(raw, arrival=arrival, geo=geo, stored=stored))


# --- what a record may look like -----------------------------------------------------------------


def refusal(raw: Json, *, kind: Kind, strict: bool) -> Refused | None:
    """Say why the record is bad, None when it is good. Order: object, token, ids, operators (§6.5)."""
    if not isinstance(raw, dict):
        return Refused("", "data, must be an object")
    token = raw.get("$token")
    if not isinstance(token, str) or token == "":
        return Refused("$token", "$token, missing or empty")
    return _id_refusal(raw, kind=kind, strict=strict) or _operator_refusal(raw, strict=strict)


def profile_key(raw: Document, *, kind: Kind) -> tuple[str, str] | None:
    """The profile that a record speaks of: (group key, id), the group key "" for users; None if bad."""
    if kind == "engage":
        distinct_id = _id_text(raw.get("$distinct_id"), booleans=False)
        return None if distinct_id == "" else ("", distinct_id)
    group_key = raw.get("$group_key")
    group_id = _id_text(raw.get("$group_id"), booleans=True)
    if not isinstance(group_key, str) or group_key == "" or group_id == "":
        return None
    return (clean_text(group_key), group_id)


def _id_refusal(raw: Document, *, kind: Kind, strict: bool) -> Refused | None:
    if kind == "engage":
        distinct_id = _id_text(raw.get("$distinct_id"), booleans=False)
        if distinct_id == "":
            return Refused("$distinct_id", "$distinct_id, missing or empty")
        if strict and distinct_id.strip().lower() in PLACEHOLDER_IDS:
            return Refused("$distinct_id", "'$distinct_id' is invalid: must not be a placeholder value")
        return None
    group_key = raw.get("$group_key")
    if not isinstance(group_key, str) or group_key == "":
        return Refused("$group_key", "$group_key, missing or empty")
    if _id_text(raw.get("$group_id"), booleans=True) == "":
        return Refused("$group_id", "$group_id, missing or empty")
    if strict and "$distinct_id" in raw:
        return Refused("$distinct_id", "$distinct_id, must not be present")
    return None


def _id_text(value: Json, *, booleans: bool) -> str:
    """An id as text, "" when it is none (§3.1, §3.2): 3473 and 3473.0 both become "3473"."""
    if isinstance(value, bool):
        return ("true" if value else "false") if booleans else ""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    return ""


def _operator_refusal(raw: Document, *, strict: bool) -> Refused | None:
    present = [operator for operator in OPERATORS if operator in raw]
    if not present:
        return Refused("", "no operation, missing or empty")
    if strict and len(present) > 1:
        return Refused("", "only one operation is allowed per update")
    for operator in present:
        payload = raw[operator]
        if operator == "$delete":
            continue
        refused = _unset_refusal(payload, strict=strict) if operator == "$unset" else None
        if operator != "$unset" and not isinstance(payload, dict) and payload != []:
            refused = Refused(operator, f"{operator}, must be an object")
        refused = refused or _value_refusal(operator, payload, strict=strict)
        if refused is not None:
            return refused
    return None


def _unset_refusal(payload: Json, *, strict: bool) -> Refused | None:
    if not _is_unset_payload(payload):
        return Refused("$unset", "$unset, must be a list of strings")
    if strict and payload in ([], {}):
        return Refused("$unset", "$unset, must name at least one property")
    return None


def _is_unset_payload(payload: Json) -> bool:
    if isinstance(payload, list):
        return all(isinstance(name, str) for name in payload)
    return isinstance(payload, str | dict)


def _value_refusal(operator: str, payload: Json, *, strict: bool) -> Refused | None:
    """What is wrong with a value that needs no stored state to be seen (§3.3, §4.4, §5.4)."""
    if not isinstance(payload, dict):
        return None
    if any(levels(value) > NESTING_LEVELS for value in payload.values()):
        return Refused(operator, f"{operator}, nested too deeply")
    for raw_name, value in payload.items():
        name = clean_name(raw_name)
        if strict and operator != "$unset" and name not in (*NEVER_STORED, "$last_seen"):
            text = _strict_fault(operator, value)
            if text is not None:
                return Refused(f"{operator}.{name}", f"{operator}.{name}, {text}")
    return None


def _strict_fault(operator: str, value: Json) -> str | None:
    if operator == "$add" and not is_number(value):
        return "must be a number"
    if operator == "$merge" and not isinstance(value, dict):
        return "must be an object"
    if operator == "$union":
        items = value if isinstance(value, list) else []
        if not items or not all(isinstance(item, str) or is_number(item) for item in items):
            return "must be a list of strings or numbers"
    if overflows(value):
        return "number is out of range"
    stored = clean(value)
    if object_depth(stored) > STRICT_OBJECT_DEPTH or widest_object(stored) >= STRICT_OBJECT_KEYS:
        return "objects must have fewer than 255 keys and at most 3 levels"
    if too_large(stored):
        return f"must be at most {VALUE_BYTES} bytes of JSON"
    return None


def levels(value: Json) -> int:
    """How deep lists and objects stand in one another: 0 for a scalar, 1 for [] and {}, 2 for [[]]."""
    deepest = 0
    waiting: list[tuple[Json, int]] = [(value, 1)]
    while waiting:
        one, level = waiting.pop()
        if isinstance(one, list | dict):
            deepest = max(deepest, level)
            inner = one if isinstance(one, list) else one.values()
            waiting.extend((item, level + 1) for item in inner)
    return deepest


def object_depth(value: Json) -> int:
    """How many objects stand in one another; lists do not count."""
    if isinstance(value, dict):
        return 1 + max((object_depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return max((object_depth(item) for item in value), default=0)
    return 0


def widest_object(value: Json) -> int:
    """The most keys that any one object within the value has."""
    if isinstance(value, dict):
        return max([len(value), *(widest_object(item) for item in value.values())])
    if isinstance(value, list):
        return max((widest_object(item) for item in value), default=0)
    return 0


# --- values as they are stored -------------------------------------------------------------------


def clean_text(text: str) -> str:
    """Replace what no store can hold, NUL and lone surrogates, by U+FFFD."""
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def clean_name(name: str) -> str:
    """A property name, or a key inside an object value, as stored (§5.4)."""
    return clean_text(name)[:NAME_CHARACTERS]


def clean_string(text: str) -> str:
    """A string value as stored: at most 255 bytes of UTF-8, whole characters only (§5.4, D16)."""
    text = clean_text(text)
    while len(text.encode()) > STRING_BYTES:
        text = text[:-1]
    return text


def clean(value: Json) -> Json:
    """A value as stored, at every depth. The value holds no number that overflows."""
    if isinstance(value, str):
        return clean_string(value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {clean_name(name): clean(item) for name, item in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        return whole_number(value)
    return value


def whole_number(value: int) -> int | float:
    """An integer as stored: past signed 64 bits it is a double. Raises OverflowError past the doubles."""
    return value if INT64_MIN <= value <= INT64_MAX else float(value)


def is_number(value: Json) -> bool:
    """Whether the value is a JSON number; Python thinks that True is one."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def too_large(value: Json) -> bool:
    """Whether a list or object is more than 256 KB of compact JSON (§5.4)."""
    if not isinstance(value, list | dict):
        return False
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > VALUE_BYTES


def overflows(value: Json) -> bool:
    """Whether a number anywhere in the value is too large for a double."""
    if isinstance(value, list):
        return any(overflows(item) for item in value)
    if isinstance(value, dict):
        return any(overflows(item) for item in value.values())
    try:
        return isinstance(value, int | float) and not math.isfinite(float(value))
    except OverflowError:
        return True


def named_values(payload: Json) -> Document:
    """The payload's raw values under their clean names; of two names that became one, the last wins."""
    if not isinstance(payload, dict):
        return {}  # [] is PHP's empty object
    named: Document = {}
    for name, value in payload.items():
        named.pop(clean_name(name), None)  # the last one also decides the place
        named[clean_name(name)] = value
    return named


def properties(payload: Json) -> Document:
    """What a payload asks for, as it may be stored; `$last_seen` stays in, for the caller to judge."""
    return {
        name: clean(value)
        for name, value in named_values(payload).items()
        if name not in NEVER_STORED and not overflows(value)
    }


def equal(a: Json, b: Json) -> bool:
    """Equality for `$union` and `$remove` (§4.6): 1 == 1.0, 1 != "1", 1 != true."""
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if isinstance(a, int | float):
        return isinstance(b, int | float) and a == b
    if isinstance(a, list):
        return (
            isinstance(b, list)
            and len(a) == len(b)
            and all(equal(one, other) for one, other in zip(a, b, strict=True))
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


def contains(elements: list[Json], value: Json) -> bool:
    """Whether the list has an element equal to the value."""
    return any(equal(element, value) for element in elements)


# --- time ----------------------------------------------------------------------------------------


def number_from_text(text: str) -> int | float | None:
    """A plain decimal number with blanks around it, None for anything else or past the doubles."""
    text = text.strip(BLANKS)
    if not DECIMAL.fullmatch(text):
        return None
    try:
        number = whole_number(int(text)) if WHOLE.fullmatch(text) else float(text)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def instant(value: Json) -> datetime | None:
    """The instant a unix time names, in seconds below 1e11 and milliseconds from there (§7.2)."""
    if isinstance(value, str):
        value = number_from_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if overflows(value) or value <= 0:
        return None
    seconds = value if value < MILLISECONDS_FROM else value / 1000
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=math.floor(seconds))
    except OverflowError:
        return None


def timestamp(value: Json) -> datetime | None:
    """A `$last_seen` that a client gives: ISO text or a unix number."""
    match = ISO.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return instant(value)
    day, clock, zone = match.groups()
    zone = "+00:00" if zone is None or zone in "Zz" else zone
    try:
        return datetime.fromisoformat(f"{day}T{clock or '00:00:00'}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def stamp(moment: datetime) -> str:
    """How `$last_seen` is written (§5.1)."""
    return f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}"


def arrival_stamp(arrival: float) -> str:
    """The arrival time, in seconds, as `$last_seen` writes it: whole seconds, never rounded up."""
    return stamp(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=math.floor(arrival)))


def effective_stamp(raw: Document, *, arrival: float) -> str:
    """`$time` if it names an instant that is not in the future, else the arrival."""
    given = instant(raw.get("$time"))
    if given is None:
        return arrival_stamp(arrival)
    return min(stamp(given), arrival_stamp(arrival))


def ignores_time(raw: Document) -> bool:
    """Whether `$ignore_time` is on: true, 1, "true" or "1"; the text "false" is off (§3.1)."""
    value = raw.get("$ignore_time")
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1")
    return isinstance(value, bool | int | float) and value == 1


# --- the operators -------------------------------------------------------------------------------


def applied(
    raw: Document, *, arrival: float, geo: Document | None, stored: Document | None
) -> Document | None:
    """The profile after a good record (§4.2, §4.3); None where it leaves none."""
    if "$delete" in raw:
        return None
    asked = [operator for operator in OPERATORS if operator in raw]
    if stored is None and asked == ["$remove"]:
        return None
    profile = copy.deepcopy(stored) if stored is not None else {}
    for operator in OPERATORS:
        if operator == "$set":
            _apply_geo(profile, raw, geo)
        if operator in asked:
            _apply_operator(profile, operator, raw)
    if not ignores_time(raw):
        profile["$last_seen"] = effective_stamp(raw, arrival=arrival)
    elif "$last_seen" not in profile:
        profile["$last_seen"] = arrival_stamp(arrival)
    return profile


def _apply_operator(profile: Document, operator: str, raw: Document) -> None:
    payload = raw[operator]
    if operator == "$unset":
        for name in _unset_names(payload):
            if name != "$last_seen":
                profile.pop(name, None)
        return
    for name, value in properties(payload).items():
        if name == "$last_seen":
            _apply_given_last_seen(profile, operator, value, raw)
        else:
            CHANGES[operator](profile, name, value)


def put(profile: Document, name: str, value: Json) -> None:
    """Store a property within the limits of §5.4: past them, nothing changes."""
    others = len([known for known in profile if known != "$last_seen"])
    if name not in profile and others >= PROFILE_PROPERTIES:
        return
    if too_large(value):
        return
    profile[name] = copy.deepcopy(value)


def _unset_names(payload: Json) -> list[str]:
    if isinstance(payload, str):
        payload = [payload]
    if isinstance(payload, list | dict):
        return [clean_name(str(name)) for name in payload]
    return []


def _apply_geo(profile: Document, raw: Document, geo: Document | None) -> None:
    """Location goes in with `$set` and `$set_once` alone; what the record itself names beats it (§10)."""
    if geo is None or not ("$set" in raw or "$set_once" in raw):
        return
    named = properties(raw.get("$set", {})) | properties(raw.get("$set_once", {}))
    for name, value in geo.items():
        if name not in named:
            put(profile, name, value)


def _apply_given_last_seen(profile: Document, operator: str, value: Json, raw: Document) -> None:
    """A client's own `$last_seen` counts only under `$ignore_time`, in `$set` and `$set_once` (§5.1)."""
    if not ignores_time(raw) or operator not in ("$set", "$set_once"):
        return
    if operator == "$set_once" and "$last_seen" in profile:
        return
    moment = timestamp(value)
    if moment is not None:
        profile["$last_seen"] = stamp(moment)


def _set_once(profile: Document, name: str, value: Json) -> None:
    if name not in profile:
        put(profile, name, value)


def _merge(profile: Document, name: str, value: Json) -> None:
    if name not in profile:
        put(profile, name, value)
        return
    current = profile[name]
    if isinstance(current, dict) and isinstance(value, dict):
        put(profile, name, {**current, **value})


def _add(profile: Document, name: str, value: Json) -> None:
    if isinstance(value, str):
        value = number_from_text(value)
    current = profile.get(name, 0)
    for number in (current, value):
        if isinstance(number, bool) or not isinstance(number, int | float):
            return
    assert isinstance(current, int | float)
    assert isinstance(value, int | float)
    total = current + value
    if isinstance(total, int):
        total = whole_number(total)
    if math.isfinite(total):
        put(profile, name, total)


def _union(profile: Document, name: str, value: Json) -> None:
    current = profile.get(name, [])
    if not isinstance(current, list):
        return
    union = list(current)
    for item in value if isinstance(value, list) else [value]:
        if not contains(union, item):
            union.append(item)
    put(profile, name, union)


def _append(profile: Document, name: str, value: Json) -> None:
    current = profile.get(name, [])
    if isinstance(current, list):
        put(profile, name, [*current, value])


def _remove(profile: Document, name: str, value: Json) -> None:
    current = profile.get(name)
    if isinstance(current, list):
        profile[name] = [element for element in current if not equal(element, value)]


#: What each operator but `$delete` and `$unset` does with one name and value of its payload.
CHANGES: dict[str, Callable[[Document, str, Json], None]] = {
    "$set_once": _set_once,
    "$set": put,
    "$merge": _merge,
    "$add": _add,
    "$union": _union,
    "$append": _append,
    "$remove": _remove,
}
