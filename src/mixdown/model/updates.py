"""From a raw record to an `Update` or a `Refusal` (contract ingestion §3, §4.1, §4.4). Pure.

This is the one place where a profile record is judged. What it lets through can be stored by every
store and applied by `operators` without another look.
"""

from __future__ import annotations

from hashlib import blake2b
from math import isinf
from typing import Any, Final

import msgspec
import orjson

from mixdown.model import texts
from mixdown.model.limits import INT_MIN
from mixdown.model.operators import LAST_SEEN, OPERATOR_NAMES, Operator, Properties
from mixdown.model.payloads import PayloadError, Reading, read_payload
from mixdown.model.times import epoch_ms
from mixdown.model.values import clean_text

IGNORE_TIME: Final = 1
IGNORE_ALIAS: Final = 2
KEY_BYTES: Final = 16
_OVERFLOWING: Final = 10**309
_NOTHING: Final = object()

PLACEHOLDER_IDS: Final = frozenset(
    {
        "00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none", "null", "n/a", "na",
        "undefined", "unknown", "<nil>", "0", "-1", "true", "false", "[]", "{}",
    }
)  # fmt: skip


class Refusal(msgspec.Struct, frozen=True):
    """A record that is not stored: its place in the request, the offending field, and why.

    `project` is the project that the record's token names, 0 where no project has it.
    """

    index: int
    field: str
    message: str
    project: int = 0


class Update(msgspec.Struct, array_like=True):
    """A valid profile record, as it goes to the log.

    `group_key` is "" for users; `operations` are [operator, payload] in the order in which they
    apply; `time_ms` is `$time` in milliseconds or 0; `flags` combines IGNORE_TIME and IGNORE_ALIAS;
    `key` is the idempotency key of the record, if it brought one; `geo` what geolocation found.
    """

    project: int
    group_key: str
    id: str
    operations: list[tuple[int, Any]]
    time_ms: int = 0
    flags: int = 0
    key: bytes | None = None
    geo: Properties | None = None


class Unreadable(msgspec.Struct, frozen=True):
    """Stands in a batch for an element that could not be parsed, so that its neighbours live on.

    `text` is the start of what arrived, `message` why it cannot be read, `value` what it would be else.
    """

    text: str
    message: str
    value: Any = None


class RefusedError(Exception):
    """Carries the field and message of a refusal out of the checks below."""

    def __init__(self, field: str, message: str, project: int = 0) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.project = project


def read_update(raw: Any, index: int, reading: Reading) -> Update | Refusal:
    """Judge one raw record: an `Update`, or a `Refusal` with the first thing wrong.

    The order of the checks is that of contract ingestion §6.5: object, token, ids, operator.
    """
    try:
        return _read(raw, reading)
    except RefusedError as refused:
        return Refusal(index, refused.field, refused.message, refused.project)


def _read(raw: Any, reading: Reading) -> Update:
    if type(raw) is not dict:
        raise RefusedError("", raw.message if type(raw) is Unreadable else texts.DATA_NOT_OBJECT)
    token = raw.get("$token")
    if type(token) is not str or not token:
        raise RefusedError("$token", texts.TOKEN_MISSING)
    project = reading.projects.get(token)
    if project is None:
        raise RefusedError("$token", texts.TOKEN_UNKNOWN)
    try:
        group_key, profile_id = (
            _group_ids(raw, reading) if reading.group else ("", _distinct_id(raw, reading))
        )
        flags = 0
        if "$ignore_time" in raw and is_true(raw["$ignore_time"]):
            flags = IGNORE_TIME
        if "$ignore_alias" in raw and is_true(raw["$ignore_alias"]):
            flags |= IGNORE_ALIAS
        operations = _operations(raw, reading, flags & IGNORE_TIME)
    except PayloadError as wrong:
        raise RefusedError(wrong.field, wrong.message, project) from None
    except RefusedError as refused:
        refused.project = project
        raise
    key = None
    if "$insert_id" in raw or "$mp_metadata" in raw:
        key = record_key(raw.get("$insert_id"), raw.get("$mp_metadata"), project, group_key, profile_id)
    time_ms = epoch_ms(raw["$time"]) if "$time" in raw else 0
    return Update(project, group_key, profile_id, operations, time_ms, flags, key)


def _operations(raw: Properties, reading: Reading, keep_last_seen: int) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for name, payload in raw.items():
        code = OPERATOR_NAMES.get(name)
        if code is not None:
            found.append((code, payload))
    if len(found) == 1:
        code, payload = found[0]
        return [(code, read_payload(code, payload, reading, keep_last_seen))]
    if not found:
        raise RefusedError("", texts.OPERATION_MISSING)
    if reading.strict:
        raise RefusedError("", texts.ONE_OPERATION)
    found.sort(key=_code_of)
    read = [(code, read_payload(code, payload, reading, keep_last_seen)) for code, payload in found]
    # a bad container beside $delete still makes the record bad (contract ingestion §3.3)
    return read[:1] if found[0][0] == Operator.DELETE else read


def _code_of(operation: tuple[int, Any]) -> int:
    return operation[0]


def _distinct_id(raw: Properties, reading: Reading) -> str:
    value = raw.get("$distinct_id")
    text = value if type(value) is str else number_text(value)
    if not text:
        raise RefusedError("$distinct_id", texts.DISTINCT_ID_MISSING)
    if reading.strict and text.strip().lower() in PLACEHOLDER_IDS:
        raise RefusedError("$distinct_id", texts.PLACEHOLDER.format(field="$distinct_id"))
    return clean_text(text) if reading.hostile else text


def _group_ids(raw: Properties, reading: Reading) -> tuple[str, str]:
    key = raw.get("$group_key")
    if type(key) is not str or not key:
        raise RefusedError("$group_key", texts.GROUP_KEY_MISSING)
    value = raw.get("$group_id")
    if type(value) is bool:
        value = "true" if value else "false"
    text = value if type(value) is str else number_text(value)
    if not text:
        raise RefusedError("$group_id", texts.GROUP_ID_MISSING)
    if reading.strict and "$distinct_id" in raw:
        raise RefusedError("$distinct_id", texts.DISTINCT_ID_ON_GROUP)
    return clean_text(key), clean_text(text)


def number_text(value: Any) -> str:
    """A number as an id: integers in decimal, integral floats without `.0`; "" for anything else."""
    if type(value) is int:
        return str(value) if value.bit_length() <= 1100 else ""
    if type(value) is float and value - value == 0:
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    return ""


def is_true(value: Any) -> bool:
    """`$ignore_time` and `$ignore_alias`: true, 1, "true", "1"; Go sends the text "false"."""
    if type(value) is str:
        return value.strip().lower() in ("true", "1")
    return value is True or (type(value) in (int, float) and value == 1)


def record_key(insert_id: Any, metadata: Any, project: int, group_key: str, profile_id: str) -> bytes | None:
    """The idempotency key of a record from its `$insert_id` or else its `$mp_metadata` (DESIGN G2).

    None where it brings no key that can be used.
    """
    if insert_id is None:
        if type(metadata) is not dict:
            return None
        insert_id = metadata.get("$mp_event_id")
    # One way of reading keeps such an integer, the other makes a double of it: their keys must be the same.
    if type(insert_id) is int and (insert_id.bit_length() > 64 or insert_id < INT_MIN):
        insert_id = float(insert_id) if insert_id.bit_length() < 1024 else None
    text = insert_id if type(insert_id) is str else number_text(insert_id)
    if not text:
        return None
    return digest_key("record", str(project), group_key, profile_id, text)


def digest_key(*parts: str) -> bytes:
    """A 16-byte idempotency key over `parts`, in order and without ambiguity (DESIGN G2)."""
    state = blake2b(digest_size=KEY_BYTES)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        state.update(len(encoded).to_bytes(4, "big"))
        state.update(encoded)
    return state.digest()


def geo_names_left(update: Update) -> frozenset[str] | None:
    """The names that a lookup must leave alone, or None where the record wants no lookup.

    Geolocation belongs to `$set` and `$set_once` alone, and never overrides a value that the
    record itself names (contract ingestion §10.5, §10.6).
    """
    wants = [payload for code, payload in update.operations if code in (Operator.SET, Operator.SET_ONCE)]
    if not wants:
        return None
    return frozenset(name for payload in wants for name in payload)


def record_ip(raw: Properties) -> Any:
    """The record's own `$ip`: beside the operator, else inside `$set` or `$set_once`, else None.

    (contract ingestion §5.1: Go leaves it inside `$set`)
    """
    own = raw.get("$ip")
    if own is not None:
        return own
    for name in ("$set", "$set_once"):
        payload = raw.get(name)
        if type(payload) is dict and payload.get("$ip") is not None:
            return payload["$ip"]
    return None


def record_text(raw: Any, limit_bytes: int) -> tuple[str, bool]:
    """A refused record as JSON text to keep, and whether it is whole (so that it can be sent again)."""
    if type(raw) is Unreadable:
        return clean_text(raw.text)[:1024], False
    try:
        text = orjson.dumps(raw).decode()
        if "null" in text:  # which is also how orjson writes a number that overflowed
            text = orjson.dumps(_with_overflow(raw)).decode()
    except (TypeError, ValueError, RecursionError):
        text = _awkward_text(raw)
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode("utf-8", "replace"), True
    return encoded[:1024].decode("utf-8", "ignore"), False


def _with_overflow(value: Any) -> Any:
    """`value` with each infinite number as an integer that overflows again when it is read."""
    if type(value) is float and isinf(value):
        return _OVERFLOWING if value > 0 else -_OVERFLOWING
    if type(value) is list:
        return [_with_overflow(item) for item in value]
    if type(value) is dict:
        return {name: _with_overflow(item) for name, item in value.items()}
    return value


def _awkward_text(raw: Any) -> str:
    """JSON of what orjson cannot write: lone surrogates, huge numbers, nesting. Never goes deep itself."""
    import json  # noqa: PLC0415 - for few records

    parts: list[str] = []
    left: list[tuple[str, Any]] = [("", raw)]  # what is still to be written: a text, then a value
    while left:
        text, value = left.pop()
        parts.append(text)
        if type(value) is list:
            left.append(("]", _NOTHING))
            left += [(", ", item) for item in value[:0:-1]]
            left += [("[", value[0] if value else _NOTHING)]
        elif type(value) is dict:
            left.append(("}", _NOTHING))
            members = [(json.dumps(name) + ": ", item) for name, item in value.items()]
            left += [(", " + name, item) for name, item in members[:0:-1]]
            left += [("{" + members[0][0], members[0][1]) if members else ("{", _NOTHING)]
        elif value is not _NOTHING:
            parts.append(json.dumps(_with_overflow(value)))
    return "".join(parts)


__all__ = [
    "IGNORE_ALIAS",
    "IGNORE_TIME",
    "KEY_BYTES",
    "LAST_SEEN",
    "PLACEHOLDER_IDS",
    "Reading",
    "Refusal",
    "Unreadable",
    "Update",
    "digest_key",
    "geo_names_left",
    "is_true",
    "number_text",
    "read_update",
    "record_ip",
    "record_key",
    "record_text",
]
