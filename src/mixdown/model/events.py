"""From a raw event to an `Event` or a `Refusal` (contract ingestion §6.5, §7 and, as it arrives, §8).

One raw value, the moment of its arrival and the project's settings enter. What leaves can be stored by every
store, and says what it means for identities in the words of `model.identity`. Pure: no clock, no chance; what
an id must be made of comes in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from math import isfinite
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from mixdown.model import texts
from mixdown.model.identity import CREATE_ALIAS, DEVICE, DEVICE_PREFIX, IDENTIFY, LEGACY, MERGE, SIMPLIFIED
from mixdown.model.limits import (
    EVENT_ITEMS,
    EVENT_PROPERTIES,
    EVENT_VALUE_LIMIT_BYTES,
    NAME_LIMIT_CHARS,
    Limits,
)
from mixdown.model.times import MILLISECONDS_FROM, number_of
from mixdown.model.updates import PLACEHOLDER_IDS, Refusal, RefusedError, Unreadable, number_text
from mixdown.model.values import (
    REPLACEMENT,
    NumberOverflowError,
    clean_name,
    clean_text,
    clean_value,
    fits_strict_nesting,
    nested_too_deeply,
)

Properties = dict[str, Any]

DAY_MS: Final = 24 * 3600 * 1000
LATE_AFTER_MS: Final = 5 * DAY_MS
FUTURE_MS: Final = 3600 * 1000
EARLIEST_MS: Final = 365 * DAY_MS
"""1971-01-01: what says it is older has the wrong unit, or no clock."""
IDENTIFY_EVENT: Final = "$identify"
ALIAS_EVENT: Final = "$create_alias"
MERGE_EVENT: Final = "$merge"
IDENTITY_EVENTS: Final = frozenset({IDENTIFY_EVENT, ALIAS_EVENT, MERGE_EVENT})
ENVELOPE: Final = frozenset({"token", "time", "distinct_id", "$insert_id", "ip"})
"""What is no property of the stored event: it stands beside them, or is not kept."""
IMPORT: Final = "$import"
INSERT_ID_LIMIT_BYTES: Final = 36
_INSERT_ID: Final = re.compile(r"[A-Za-z0-9-]+")
_LEVELS: Final = 64
_NOTHING: Final = object()


class Target(msgspec.Struct, frozen=True):
    """A project as far as its events are judged by it.

    `late` lets /track take events of any age. `salt` makes ids out of addresses that only this project gets.
    """

    id: int
    mode: str = SIMPLIFIED
    late: bool = False
    salt: bytes = b""


class EventReading(msgspec.Struct, frozen=True):
    """How a request's events are to be read.

    `target` is the project of an /import, None on /track, where `find` says whose a token is. `now_ms` is the
    moment of arrival, `fresh` what new insert ids begin with, `address` the client's where it may be used.
    """

    now_ms: int
    fresh: str
    find: Callable[[str], Target | None]
    target: Target | None = None
    strict: bool = False
    hostile: bool = False
    address: str = ""
    limits: Limits = Limits()


class Event(msgspec.Struct, gc=False):
    """A valid event, as its JSON stands in the log; `time` is in ms since 1970."""

    event: str
    time: int
    distinct_id: str
    insert_id: str
    properties: Properties


class LinkAsked(NamedTuple):
    """Two ids that an event wants to be one person, in the words of `model.identity`."""

    mode: str
    verb: str
    one: str
    other: str


class Judged(msgspec.Struct, gc=False):
    """An event and its project; `event` is None where it asked to be ignored. `ip` is its own address."""

    project: int
    event: Event | None
    link: LinkAsked | None = None
    ip: Any = None


def read_event(raw: Any, index: int, reading: EventReading) -> Judged | Refusal:
    """Judge one raw event: what is stored, or a `Refusal` with the first thing wrong.

    The order of the checks is object, token, event, ids, time, insert id, properties.
    """
    try:
        return _read(raw, index, reading)
    except RefusedError as refused:
        project = refused.project
        if not project and reading.target is not None:
            project = reading.target.id
        return Refusal(index, refused.field, refused.message, project)


def _read(raw: Any, index: int, reading: EventReading) -> Judged:
    if type(raw) is not dict:
        raise _unreadable(raw)
    properties = raw.get("properties")
    target = reading.target or _target_of(properties, reading)
    try:
        name = _name(raw, reading)
        properties = _object(properties)
        if properties.get("$ignore"):
            return Judged(target.id, None)
        owner = _owner(name, properties, target, reading)
        time = _time(name, properties, target, reading)
        insert_id = _insert_id(name, properties, index, reading)
        link = _link(name, properties, target, reading)
        kept = _kept(properties, reading)
    except RefusedError as refused:
        refused.project = target.id
        raise
    return Judged(target.id, Event(name, time, owner, insert_id, kept), link, properties.get("ip"))


def _unreadable(raw: Any) -> RefusedError:
    if type(raw) is not Unreadable:
        return RefusedError("", texts.DATA_NOT_OBJECT)
    if raw.message == texts.DATA_NOT_UTF8 and type(raw.value) is dict:
        properties = raw.value.get("properties")
        for name, value in properties.items() if type(properties) is dict else ():
            if REPLACEMENT in f"{name}{value}":
                field = f"properties.{name}"
                return RefusedError(field, texts.PROPERTY_NOT_UTF8.format(field=field))
    return RefusedError("", raw.message)


def _target_of(properties: Any, reading: EventReading) -> Target:
    token = properties.get("token") if type(properties) is dict else None
    if type(token) is not str or not token:
        raise RefusedError("properties.token", texts.EVENT_TOKEN_MISSING)
    target = reading.find(token)
    if target is None:
        raise RefusedError("properties.token", texts.TOKEN_UNKNOWN)
    return target


def _name(raw: Properties, reading: EventReading) -> str:
    name = raw.get("event")
    missing = type(name) is not str or not name
    if reading.target is None:
        if missing:
            raise RefusedError("event", texts.EVENT_MISSING)
    elif missing or (reading.strict and not name.strip()):  # type: ignore[union-attr]
        raise RefusedError("event", texts.EVENT_BLANK)
    assert type(name) is str
    return clean_name(name) if reading.hostile or len(name) > NAME_LIMIT_CHARS else name


def _object(properties: Any) -> Properties:
    if type(properties) is not dict:
        raise RefusedError("properties", texts.PROPERTIES_MISSING)
    return properties


# --- who


def id_text(value: Any) -> str:
    """An id of any JSON type as text: numbers as profiles have them, true and false, other values as JSON."""
    if type(value) is str:
        return value
    if value is True or value is False:
        return "true" if value else "false"
    text = number_text(value)
    if text or value is None:
        return text
    if type(value) in (list, dict) and not nested_too_deeply(value, _LEVELS):
        try:
            return orjson.dumps(value).decode()
        except (TypeError, ValueError):
            return ""
    return ""


def _id(properties: Properties, name: str, reading: EventReading) -> str:
    value = properties.get(name)
    text = value if type(value) is str else id_text(value)
    return clean_text(text) if reading.hostile else text


def _owner(name: str, properties: Properties, target: Target, reading: EventReading) -> str:
    """The distinct_id as §7.3 and §8.3 resolve it."""
    verb = name in IDENTITY_EVENTS
    given = properties.get("distinct_id")
    sent = _id(properties, "distinct_id", reading)
    if name == IDENTIFY_EVENT and not sent:
        sent = _id(properties, "$identified_id", reading)
    if reading.target is None and name in (IDENTIFY_EVENT, ALIAS_EVENT) and not sent:
        raise RefusedError("properties.distinct_id", texts.EVENT_DISTINCT_ID_MISSING)
    if reading.strict and sent.strip().lower() in PLACEHOLDER_IDS:
        raise RefusedError("properties.distinct_id", texts.PLACEHOLDER.format(field="properties.distinct_id"))
    if target.mode == SIMPLIFIED:
        user = _id(properties, "$user_id", reading)
        if user:
            return user
        device = device_id(_id(properties, "$device_id", reading))
        if device:
            return device
    elif reading.strict and reading.target is not None and given is None and not verb:
        raise RefusedError("properties.distinct_id", texts.IMPORT_DISTINCT_ID_MISSING)
    if given is None and not verb and reading.target is None and reading.address:
        return address_id(reading.address, target)
    return sent


def device_id(device: str) -> str:
    """The distinct_id of a device: one leading prefix is no part of its id (contract ingestion §8.3)."""
    bare = device.removeprefix(DEVICE_PREFIX)
    return DEVICE_PREFIX + bare if bare else ""


def address_id(address: str, target: Target) -> str:
    """The distinct_id of whoever sends none: always the same for an address, and telling nobody of it."""
    return blake2b(address.encode(), key=target.salt, digest_size=16).hexdigest()


def _link(name: str, properties: Properties, target: Target, reading: EventReading) -> LinkAsked | None:
    """What an event wants to be linked; whether it is, the fold decides."""
    if target.mode == SIMPLIFIED:
        user = _id(properties, "$user_id", reading)
        device = device_id(_id(properties, "$device_id", reading)) if user else ""
        return LinkAsked(SIMPLIFIED, DEVICE, device, user) if device else None
    if name == ALIAS_EVENT:
        one, other = _id(properties, "distinct_id", reading), _id(properties, "alias", reading)
        return LinkAsked(target.mode, CREATE_ALIAS, one, other)
    if target.mode == LEGACY:
        return None
    if name == IDENTIFY_EVENT:
        one = _id(properties, "$identified_id", reading) or _id(properties, "distinct_id", reading)
        other = _id(properties, "$anon_id", reading) or _id(properties, "$anon_distinct_id", reading)
        return LinkAsked(target.mode, IDENTIFY, one, other)
    if name == MERGE_EVENT and reading.target is not None:
        ids = properties.get("$distinct_ids")
        if type(ids) is list and len(ids) == 2 and all(type(each) is str for each in ids):
            one, other = map(clean_text, ids)
            return LinkAsked(target.mode, MERGE, one, other)
        return LinkAsked(target.mode, MERGE, "", "")
    return None


# --- when


def _time(name: str, properties: Properties, target: Target, reading: EventReading) -> int:
    value = properties.get("time")
    if value is None:
        if reading.target is None or name in IDENTITY_EVENTS:
            return reading.now_ms
        raise _wrong_time(texts.TIME_MISSING)
    ms = milliseconds(value)
    if ms is None:
        raise _wrong_time(texts.TIME_NOT_SECONDS)
    if ms > reading.now_ms:
        if reading.target is not None and ms > reading.now_ms + FUTURE_MS:
            raise _wrong_time(texts.TIME_IN_FUTURE)
        return reading.now_ms
    if reading.target is None and not target.late:
        if ms < reading.now_ms - LATE_AFTER_MS:
            raise _wrong_time(texts.TIME_TOO_OLD)
    elif ms < EARLIEST_MS:
        raise _wrong_time(texts.TIME_TOO_EARLY)
    return ms


def milliseconds(value: Any) -> int | None:
    """A number or the text of one, seconds below 1e11 and milliseconds from there on (contract §7.2)."""
    if type(value) is str:
        value = number_of(value)
    if type(value) is int:
        return value * 1000 if value < MILLISECONDS_FROM else value
    if type(value) is float and isfinite(value):
        # what lies so far back is refused in any unit, and times 1000 it might be no finite number any more
        return round(value * 1000 if -MILLISECONDS_FROM < value < MILLISECONDS_FROM else value)
    return None


def _wrong_time(message: str) -> RefusedError:
    return RefusedError("properties.time", message)


# --- once


def _insert_id(name: str, properties: Properties, index: int, reading: EventReading) -> str:
    value = properties.get("$insert_id")
    text = value if type(value) is str else number_text(value)
    if reading.strict:
        _check_insert_id(name, value, text, reading)
    if not text:
        return f"{reading.fresh}-{index}"
    return clean_text(text) if reading.hostile else text


def _check_insert_id(name: str, value: Any, text: str, reading: EventReading) -> None:
    if value is None or value == "":
        if reading.target is not None and name not in IDENTITY_EVENTS:
            raise RefusedError("$insert_id", texts.INSERT_ID_MISSING)
    elif not _INSERT_ID.fullmatch(text):
        raise RefusedError("$insert_id", texts.INSERT_ID_CHARACTERS)
    elif len(text) > INSERT_ID_LIMIT_BYTES:
        raise RefusedError("$insert_id", texts.INSERT_ID_LONG)
    elif text.lower() in PLACEHOLDER_IDS:
        raise RefusedError("$insert_id", texts.PLACEHOLDER.format(field="$insert_id"))


# --- what


def _kept(properties: Properties, reading: EventReading) -> Properties:
    """The properties that are stored, each as it can be (contract ingestion §5.4)."""
    kept: Properties = {}
    for raw_name, raw_value in properties.items():
        if raw_name in ENVELOPE:
            continue
        name = clean_name(raw_name)
        if len(kept) >= EVENT_PROPERTIES and name not in kept:
            if reading.strict:
                raise RefusedError("properties", texts.EVENT_PROPERTIES.format(limit=EVENT_PROPERTIES))
            continue
        value = _value(name, raw_value, reading)
        kept.pop(name, None)
        if value is not _NOTHING:
            kept[name] = value
    if reading.target is not None:
        kept[IMPORT] = True
    return kept


def _value(name: str, raw: Any, reading: EventReading) -> Any:
    field = f"properties.{name}"
    nested = type(raw) is list or type(raw) is dict
    if nested and nested_too_deeply(raw):
        raise RefusedError(field, texts.NESTED_TOO_DEEPLY.format(field=field))
    try:
        value = clean_value(raw, reading.limits.string_limit_bytes)
    except NumberOverflowError:
        if reading.strict:
            raise RefusedError(field, texts.STRICT_OVERFLOW.format(field=field)) from None
        return _NOTHING
    if nested:
        if reading.strict and not fits_strict(value):
            raise RefusedError(field, texts.STRICT_EVENT_NESTED.format(field=field))
        if len(orjson.dumps(value)) > EVENT_VALUE_LIMIT_BYTES:
            if reading.strict:
                text = texts.STRICT_TOO_LARGE.format(field=field, limit=EVENT_VALUE_LIMIT_BYTES)
                raise RefusedError(field, text)
            return _NOTHING
    return value


def fits_strict(value: Any) -> bool:
    """Whether a nested value is within what `strict` takes: lists have fewer than 255 elements too."""
    return fits_strict_nesting(value) and _lists_fit(value)


def _lists_fit(value: Any) -> bool:
    if type(value) is list:
        return len(value) <= EVENT_ITEMS and all(map(_lists_fit, value))
    return type(value) is not dict or all(map(_lists_fit, value.values()))
