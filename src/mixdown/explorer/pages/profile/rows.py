"""A profile's properties as rows: labelled, typed, found by a search, compared with another time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mixdown.explorer.reserved import label_of, order_of
from mixdown.model.kinds import kind_of

TYPES: Final = {
    "string": "text",
    "datetime": "date",
    "number": "number",
    "boolean": "boolean",
    "list": "list",
    "object": "object",
    "unknown": "null",
}
"""What people call the kinds of values."""
NOT_EDITED: Final = frozenset({"$last_seen"})
"""What the server itself writes."""
_ABSENT: Final = object()
_SEARCHED_CHARS: Final = 10_000


def type_of(value: object) -> str:
    """The type of a value in a word."""
    return TYPES[kind_of(value)]


def is_edited(name: str) -> bool:
    """Whether a person may change a property here: one that is not the server's own, and that has a name."""
    return bool(name) and name not in NOT_EDITED


def property_rows(
    properties: Mapping[str, Any], changed: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """A row for each property, the known reserved ones first; `changed` as `history/moments` tells it."""
    return [
        {
            "name": name,
            "label": label_of(name),
            "type": type_of(properties[name]),
            "value": properties[name],
            "editable": is_edited(name),
            **({} if changed is None else {"changed": changed.get(name)}),
        }
        for name in sorted(properties, key=order_of)
    ]


def compared_rows(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each property that was there then or is there now.

    `difference` is "" (the same), "changed", "new since" (`then` it was not there) or "gone since"; `value`
    is missing where there was none then, `now` where there is none now.
    """
    rows = []
    for name in sorted({*then, *now}, key=order_of):
        was, stands = then.get(name, _ABSENT), now.get(name, _ABSENT)
        row: dict[str, Any] = {"name": name, "label": label_of(name), "editable": is_edited(name)}
        shown = stands if was is _ABSENT else was
        row["type"] = type_of(shown)
        if was is not _ABSENT:
            row["value"] = was
        if stands is not _ABSENT:
            row["now"] = stands
        row["difference"] = difference_of(was, stands)
        rows.append(row)
    return rows


def difference_of(was: object, now: object) -> str:
    """How a value then differs from the one now."""
    if was is _ABSENT:
        return "new since"
    if now is _ABSENT:
        return "gone since"
    return "" if same(was, now) else "changed"


def same(one: object, other: object) -> bool:
    """Whether nobody can tell two JSON values apart, but for the order of an object's names."""
    if type(one) is not type(other):
        return False
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)


def found(rows: list[dict[str, Any]], wanted: str) -> list[dict[str, Any]]:
    """The rows whose name, label or value has a text somewhere, whatever the case."""
    text = wanted.strip().casefold()
    return [row for row in rows if _has(row, text)] if text else rows


def _has(row: Mapping[str, Any], text: str) -> bool:
    if text in row["name"].casefold() or text in row["label"].casefold():
        return True
    return any(text in searchable(row[name]) for name in ("value", "now") if name in row)


def searchable(value: object) -> str:
    """A value as it is searched: texts as they are, others as JSON; the first of very long ones."""
    text = value if type(value) is str else orjson.dumps(value).decode()
    return text[:_SEARCHED_CHARS].casefold()
