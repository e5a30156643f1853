"""What contract ingestion §7 and §8 say of one event, written down a second time: slowly and plainly."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

HOUR = 3600 * 1000
DAY = 24 * HOUR
PLACEHOLDERS = {
    "00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none", "null", "n/a", "na",
    "undefined", "unknown", "<nil>", "0", "-1", "true", "false", "[]", "{}",
}  # fmt: skip
VERBS = {"$identify", "$create_alias", "$merge"}
MISSING = object()


@dataclass(frozen=True)
class Setting:
    """How a request is sent, and what its project is set to."""

    now_ms: int
    importing: bool = False
    strict: bool = False
    mode: str = "simplified"
    late: bool = False
    string_limit: int = 255


@dataclass
class Stored:
    """A good event. `insert_id` of None: any; `distinct_id` of None: made of the address."""

    event: str
    time: int
    distinct_id: str | None
    insert_id: str | None
    properties: dict[str, Any]
    link: tuple[str, str, str] | None = None
    ignored: bool = False


@dataclass
class Refused:
    """A bad one: the field that is blamed."""

    field: str = field(default="")


class _BadError(Exception):
    def __init__(self, blamed: str) -> None:
        super().__init__(blamed)
        self.field = blamed


def judge(raw: Any, how: Setting) -> Stored | Refused:
    """What becomes of an event of a project whose token is TOK."""
    try:
        return _judge(raw, how)
    except _BadError as bad:
        return Refused(bad.field)


def _judge(raw: Any, how: Setting) -> Stored:
    if not isinstance(raw, dict):
        raise _BadError("")
    properties = raw.get("properties")
    if not how.importing and (not isinstance(properties, dict) or properties.get("token") != "TOK"):
        raise _BadError("properties.token")
    name = raw.get("event")
    if not isinstance(name, str) or name == "" or (how.importing and how.strict and name.strip() == ""):
        raise _BadError("event")
    name = text_of(name, 0)[:255]
    if not isinstance(properties, dict):
        raise _BadError("properties")
    if properties.get("$ignore"):
        return Stored(name, 0, "", None, {}, ignored=True)
    distinct_id = _owner(name, properties, how)
    time = _time(name, properties, how)
    insert_id = _insert_id(name, properties, how)
    return Stored(name, time, distinct_id, insert_id, _kept(properties, how), _link(name, properties, how))


def id_of(properties: dict[str, Any], name: str) -> str:
    """An id as text."""
    value = properties.get(name)
    if isinstance(value, str):
        return text_of(value, 0)
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _owner(name: str, properties: dict[str, Any], how: Setting) -> str | None:
    given = id_of(properties, "distinct_id")
    if name == "$identify" and given == "":
        given = id_of(properties, "$identified_id")
    if not how.importing and name in ("$identify", "$create_alias") and given == "":
        raise _BadError("properties.distinct_id")
    if how.strict and given.strip().lower() in PLACEHOLDERS:
        raise _BadError("properties.distinct_id")
    if how.mode == "simplified":
        user, device = id_of(properties, "$user_id"), _device(properties)
        if user or device:
            return user or device
    elif how.importing and how.strict and name not in VERBS and properties.get("distinct_id") is None:
        raise _BadError("properties.distinct_id")
    if properties.get("distinct_id") is None and name not in VERBS and not how.importing:
        return None
    return given


def _device(properties: dict[str, Any]) -> str:
    device = id_of(properties, "$device_id")
    device = device.removeprefix("$device:")
    return "$device:" + device if device else ""


def _time(name: str, properties: dict[str, Any], how: Setting) -> int:
    value = properties.get("time")
    if value is None:
        if how.importing and name not in VERBS:
            raise _BadError("properties.time")
        return how.now_ms
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _BadError("properties.time")
    try:
        number = Decimal(value.strip() if isinstance(value, str) else repr(value))
    except InvalidOperation:
        raise _BadError("properties.time") from None
    if not number.is_finite() or (isinstance(value, str) and (not value.isascii() or "_" in value)):
        raise _BadError("properties.time")
    if isinstance(value, str) and abs(number) > Decimal("1e308"):
        raise _BadError("properties.time")  # no double holds it
    ms = number if number >= Decimal(10) ** 11 else number * 1000
    if ms > how.now_ms:
        if how.importing and ms > how.now_ms + HOUR:
            raise _BadError("properties.time")
        return how.now_ms
    if how.importing or how.late:
        if ms < 365 * DAY:
            raise _BadError("properties.time")
    elif ms < how.now_ms - 5 * DAY:
        raise _BadError("properties.time")
    return round(ms)


def _insert_id(name: str, properties: dict[str, Any], how: Setting) -> str | None:
    value = properties.get("$insert_id")
    text = None
    if isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        text = id_of(properties, "$insert_id")
    if how.strict:
        if value is None or value == "":
            if how.importing and name not in VERBS:
                raise _BadError("$insert_id")
        elif not text or not re.fullmatch("[A-Za-z0-9-]{1,36}", text) or text.lower() in PLACEHOLDERS:
            raise _BadError("$insert_id")
    return text or None


def _link(name: str, properties: dict[str, Any], how: Setting) -> tuple[str, str, str] | None:
    if how.mode == "simplified":
        user, device = id_of(properties, "$user_id"), _device(properties)
        return ("device", device, user) if user and device else None
    if name == "$create_alias":
        return "create_alias", id_of(properties, "distinct_id"), id_of(properties, "alias")
    if how.mode == "legacy":
        return None
    if name == "$identify":
        one = id_of(properties, "$identified_id") or id_of(properties, "distinct_id")
        return "identify", one, id_of(properties, "$anon_id") or id_of(properties, "$anon_distinct_id")
    if name == "$merge" and how.importing:
        ids = properties.get("$distinct_ids")
        if isinstance(ids, list) and len(ids) == 2 and all(isinstance(each, str) for each in ids):
            return "merge", text_of(ids[0], 0), text_of(ids[1], 0)
        return "merge", "", ""
    return None


def text_of(text: str, limit: int) -> str:
    """A text as it can be stored."""
    clean = "".join("\ufffd" if ch == "\0" or 0xD800 <= ord(ch) <= 0xDFFF else ch for ch in text)
    if limit:
        while len(clean.encode()) > limit:
            clean = clean[:-1]
    return clean


def _value(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return text_of(value, limit)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return value
        try:
            return float(value)
        except OverflowError:
            raise ValueError from None
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError
        return value
    if isinstance(value, list):
        return [_value(each, limit) for each in value]
    built: dict[str, Any] = {}
    for name, each in value.items():
        clean = text_of(name, 0)[:255]
        built.pop(clean, None)
        built[clean] = _value(each, limit)
    return built


def _too_much(value: Any, depth: int = 0) -> bool:
    if isinstance(value, dict):
        deep = depth >= 3 or len(value) >= 255
        return deep or any(_too_much(each, depth + 1) for each in value.values())
    return isinstance(value, list) and (len(value) >= 255 or any(_too_much(each, depth) for each in value))


def _kept(properties: dict[str, Any], how: Setting) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for raw_name, raw in properties.items():
        if raw_name in ("token", "time", "distinct_id", "$insert_id", "ip"):
            continue
        name = text_of(raw_name, 0)[:255]
        if len(kept) >= 255 and name not in kept:
            if how.strict:
                raise _BadError("properties")
            continue
        kept.pop(name, None)
        try:
            value = _value(raw, how.string_limit)
        except ValueError:
            if how.strict:
                raise _BadError(f"properties.{name}") from None
            continue
        if isinstance(value, (list, dict)):
            if how.strict and _too_much(value):
                raise _BadError(f"properties.{name}")
            if len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) > 8192:
                if how.strict:
                    raise _BadError(f"properties.{name}")
                continue
        kept[name] = value
    if how.importing:
        kept["$import"] = True
    return kept
