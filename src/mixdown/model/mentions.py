"""Whether a refused record names one of some people or groups. Pure.

A record that was refused was never read into an update, so it may be anything: JSON of any shape, the start
of a body, or a body that is still encoded. What can be parsed is looked through for the names under which
SDKs send ids; the rest is searched as text. In doubt it says yes: what it is asked for is to be erased.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson

from mixdown.model.identity import DEVICE_PREFIX
from mixdown.model.updates import number_text
from mixdown.model.values import clean_text

USER_NAMES: Final = frozenset(
    {
        "$distinct_id", "distinct_id", "$user_id", "user_id", "$device_id", "device_id", "$identified_id",
        "$anon_id", "$anon_distinct_id", "$alias", "alias", "$distinct_ids", "distinct_ids",
    }
)  # fmt: skip
_DEVICE_NAMES: Final = frozenset({"$device_id", "device_id"})
"""Whose ids are `$device:` and what stands there (contract ingestion §8.3)."""
GROUP_NAMES: Final = frozenset({"$group_id", "group_id"})
_GROUP_KEY_NAMES: Final = ("$group_key", "group_key")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}")
_SURE_CHARS: Final = 6


def mentions(record: str, ids: Collection[str], group_key: str) -> bool:
    """Whether the kept text of a refused record names one of `ids`, of users ("") or of a group key."""
    parsed = _parsed(record)
    if parsed is None:
        return any(_in_text(text, ids) for text in _readings(record))
    return any(each in ids for each in _named(parsed, group_key))


def _parsed(text: str) -> Any:
    """The JSON value, or None where it is none that could name anybody."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, (dict, list)) else None


def _named(value: Any, group_key: str) -> Iterator[str]:
    """The ids that stand in a JSON value under names for ids, however deep."""
    names = GROUP_NAMES if group_key else USER_NAMES
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += value.values()
            about = [value[name] for name in _GROUP_KEY_NAMES if name in value]
            if group_key and about and group_key not in map(_text, about):
                continue
            for name in names.intersection(value):
                held = value[name]
                texts = list(map(_text, held if isinstance(held, list) else (held,)))
                yield from texts
                if name in _DEVICE_NAMES:
                    yield from (DEVICE_PREFIX + text.removeprefix(DEVICE_PREFIX) for text in texts)


def _text(value: Any) -> str:
    """An id as it would have been stored."""
    return clean_text(value) if isinstance(value, str) else number_text(value)


def _readings(text: str) -> Iterator[str]:
    """The text, and what it says where it is still encoded as a form or in base64."""
    yield text
    plain = unquote_plus(text)
    if plain != text:
        yield plain
    for piece in _BASE64.findall(plain):
        whole = piece[: len(piece) // 4 * 4].replace("-", "+").replace("_", "/")
        try:
            yield base64.b64decode(whole).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            continue


def _in_text(text: str, ids: Collection[str]) -> bool:
    """Whether a text holds one of the ids: alone where it is long, in quotation marks where it is short."""
    for each in ids:
        for quoted in {orjson.dumps(each).decode(), json.dumps(each)}:
            bare = quoted[1:-1]
            if (bare if len(bare) >= _SURE_CHARS else quoted) in text:
                return True
    return False
