"""Values as people type them: read by their type, or a sentence that says what is wrong. Pure."""

from __future__ import annotations

from typing import Any, Final

import orjson

from mixdown.model.limits import NAME_LIMIT_CHARS, VALUE_LIMIT_BYTES
from mixdown.model.times import canonical_timestamp, number_of

EDITORS: Final = ("text", "number", "boolean", "date", "list", "object")
BOOLEANS: Final = {"true": True, "false": False}
_NEVER: Final = frozenset({"$token", "$distinct_id", "$ip", "$last_seen"})


class ValueProblem(ValueError):  # noqa: N818 - it is what a person reads beside the field
    """What was typed is no value of the type."""


def editor_for(kind: str) -> str:
    """The editor of a type; null is edited as a text."""
    return kind if kind in EDITORS else "text"


def read_value(kind: str, text: str) -> Any:
    """The value that a text spells in a type. Raises `ValueProblem`."""
    if len(text.encode()) > VALUE_LIMIT_BYTES:
        raise ValueProblem(f"Value: at most {VALUE_LIMIT_BYTES // 1024} KB can be stored.")
    if kind == "text":
        return text.replace("\r\n", "\n")
    if kind == "number":
        number = number_of(text)
        if number is None:
            raise ValueProblem("Value: write a number, such as 12, -3.5 or 1e6.")
        return number
    if kind == "boolean":
        if text not in BOOLEANS:
            raise ValueProblem("Value: choose true or false.")
        return BOOLEANS[text]
    if kind == "date":
        return _date(text)
    if kind in ("list", "object"):
        return _json(kind, text)
    raise ValueProblem(f"Type: choose one of {', '.join(EDITORS)}.")


def _date(text: str) -> str:
    wanted = text.strip().replace(" ", "T", 1)
    told = canonical_timestamp(wanted) if wanted and number_of(wanted) is None else None
    if told is None:
        raise ValueProblem("Value: write a date and time, such as 2026-01-31T12:00:00 (UTC).")
    return told


def _json(kind: str, text: str) -> Any:
    shown = '["red", "blue"]' if kind == "list" else '{"seats": 5}'
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueProblem(f"Value: this is no JSON ({error.msg}, {where}). Write {shown}.") from None
    if type(value) is not (list if kind == "list" else dict):
        what = "a list" if kind == "list" else "an object"
        raise ValueProblem(f"Value: this is JSON, but not {what}. Write {shown}.")
    return value


def editable_text(value: object) -> str:
    """A value as its editor has it."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    indented = orjson.OPT_INDENT_2 if type(value) in (list, dict) else 0
    return orjson.dumps(value, option=indented).decode()


def read_name(text: str, *, is_new: bool) -> str:
    """The name of a property; a new one may not be blank. Raises `ValueProblem`."""
    if not text or (is_new and not text.strip()):
        raise ValueProblem("Property: name it.")
    if len(text) > NAME_LIMIT_CHARS:
        raise ValueProblem(f"Property: a name has at most {NAME_LIMIT_CHARS} characters.")
    if text in _NEVER:
        raise ValueProblem(f"Property: {text} belongs to the record itself and cannot be set.")
    return text
