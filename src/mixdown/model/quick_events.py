"""The quick way for plain events: text to events in one typed parse. Pure.

As `model.quick` for profiles, with one difference: where one event of a request wants a closer look, its
neighbours go on the quick way, for imports are large and long texts common. It takes nothing that
`events.read_event` would not take, and gives the same events; a test holds both to the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from mixdown.model.events import (
    EARLIEST_MS,
    IDENTITY_EVENTS,
    IMPORT,
    INSERT_ID_LIMIT_BYTES,
    LATE_AFTER_MS,
    Event,
    EventReading,
    Properties,
    Target,
    device_id,
    fits_strict,
)
from mixdown.model.identity import DEVICE_PREFIX, SIMPLIFIED
from mixdown.model.limits import EVENT_PROPERTIES, EVENT_VALUE_LIMIT_BYTES, NAME_LIMIT_CHARS, Limits
from mixdown.model.quick import GROWTH, NUL_ESCAPE, chars_within, plain_values
from mixdown.model.times import MILLISECONDS_FROM
from mixdown.model.updates import PLACEHOLDER_IDS

_BACKSLASH: Final = b"\\"
_SECONDS_BELOW: Final = int(MILLISECONDS_FROM)
_Slices = list[msgspec.Raw]
Many = Callable[[bytes], list[Event]]
One = Callable[[bytes | msgspec.Raw], Event]
_slices: Final = msgspec.json.Decoder(_Slices).decode
_encode: Final = msgspec.json.Encoder().encode


class QuickEvents(msgspec.Struct):
    """The events of a request, None for each that wants a closer look; `flat` where no value is nested.

    Whatever stands beside `event` and `properties` in an `Event` is as it was sent, and means nothing yet.
    """

    events: list[Event | None]
    flat: bool


class QuickJudged(msgspec.Struct):
    """By an event's place in its request: project and event (None: not judged), and its own address.

    `links` are (project, device, user) as they were sent, and which event says so first.
    """

    events: list[tuple[int, Event] | None]
    links: dict[tuple[int, str, str], int]
    ips: dict[int, Any]


def read_events_quickly(text: bytes, limits: Limits) -> QuickEvents | None:
    """The events of a request's JSON text, a list or one object; None where all want a closer look."""
    if _BACKSLASH in text and NUL_ESCAPE in text:  # one byte is found ten times as quickly as more
        return None
    start = text[:1]
    if start == b"{":
        text = b"[%b]" % text
    elif start != b"[":
        return None
    limit_chars = chars_within(text, limits)
    if limit_chars is None:
        return None
    events = _decoded(text, _decoders(limit_chars, any_name=_has_short_strings(text)), limits)
    if not events or (start == b"{" and len(events) != 1):  # objects with a comma between them are no JSON
        return None
    flat = text.count(b"[") == 1 and text.count(b"{") == 2 * len(events)
    return QuickEvents(events, flat)


def read_lines_quickly(lines: Sequence[bytes], limits: Limits) -> QuickEvents | None:
    """The events of a request of which each line is one; None where all want a closer look."""
    text = b"\n".join(lines)
    if _BACKSLASH in text and NUL_ESCAPE in text:
        return None
    limit_chars = chars_within(text, limits)
    if limit_chars is None:
        return None
    decoders = _decoders(limit_chars, any_name=_has_short_strings(text))
    events = _each_decoded(lines, decoders[1], limits)
    flat = b"[" not in text and text.count(b"{") == 2 * len(events)
    return QuickEvents(events, flat) if events else None


def _has_short_strings(text: bytes) -> bool:
    """Whether no name in this JSON can be too long: whether a quote stands in every so many bytes of it.

    It takes a step for so many bytes, where a typed parse would look up every name twice. False wherever a
    string may hold a quote.
    """
    if _BACKSLASH in text and b'\\"' in text:
        return False
    find, at, last = text.rfind, 0, len(text) - NAME_LIMIT_CHARS
    while at < last:
        quote = find(b'"', at, at + NAME_LIMIT_CHARS + 1)
        if quote < 0:
            return False
        at = quote + 1
    return True


def _decoded(text: bytes, decoders: tuple[Many, One], limits: Limits) -> list[Event | None]:
    """The plain ones among the events of a list; none at all where it is no list, or no event is plain."""
    small = len(text) <= limits.record_limit_bytes
    if small:
        try:
            return list(decoders[0](text))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
    try:
        slices = _slices(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    return _each_decoded(slices, decoders[1], limits)


def _each_decoded(
    texts: Sequence[bytes] | Sequence[msgspec.Raw], decode: One, limits: Limits
) -> list[Event | None]:
    most_bytes = limits.record_limit_bytes // GROWTH
    events: list[Event | None] = []
    plain = 0
    for each in texts:
        event = None
        if len(memoryview(each)) <= most_bytes:
            try:
                event = decode(each)
                plain += 1
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass
        events.append(event)
    return events if plain else []


@lru_cache(maxsize=16)
def _decoders(limit_chars: int, *, any_name: bool) -> tuple[Many, One]:
    """Decoders of a list of plain events, and of one, whose strings have at most so many characters (0: any).

    `any_name` takes names of any length: three times as quick.
    """
    plain = plain_values(limit_chars, any_name=any_name)
    values: Any = Annotated[plain, Meta(max_length=EVENT_PROPERTIES)]
    name = Annotated[str, Meta(min_length=1, max_length=NAME_LIMIT_CHARS)]
    fields: list[Any] = [("event", name), ("properties", values)]
    fields += [(sent, Any, None) for sent in ("time", "distinct_id", "insert_id")]
    shape: Any = msgspec.defstruct("PlainEvent", fields, bases=(Event,), gc=False, kw_only=True)
    return msgspec.json.Decoder(list[shape]).decode, msgspec.json.Decoder(shape).decode


def judge_quickly(quick: QuickEvents, reading: EventReading) -> QuickJudged:
    """What becomes of plain events; those that want a closer look after all are left out.

    It makes what is stored of the very events: `quick` is of no use afterwards.
    """
    judged = QuickJudged([None] * len(quick.events), {}, {})
    judge = _Judge(reading, judged, flat=quick.flat)
    for index, event in enumerate(quick.events):
        if event is not None:
            judge.take(event, index)
    return judged


class _Judge:
    """Judges the plain events of one request, as `events.read_event` does."""

    __slots__ = ("_earliest_ms", "_flat", "_imports", "_judged", "_reading", "_strict", "_target", "_token")

    def __init__(self, reading: EventReading, judged: QuickJudged, *, flat: bool) -> None:
        self._reading = reading
        self._judged = judged
        self._flat = flat
        self._strict = reading.strict
        self._imports = reading.target is not None
        self._target = reading.target
        self._token = ""
        self._earliest_ms = EARLIEST_MS

    def take(self, event: Event, index: int) -> None:  # noqa: C901, PLR0912 - a call costs as much as a check
        """Judge one event; it is left out where it wants a closer look."""
        properties, name = event.properties, event.event
        reading, target, strict = self._reading, self._target, self._strict
        pop = properties.pop
        token = pop("token", None)
        if not self._imports and token != self._token:
            target = self._found(token)
        if target is None or (not name[0].isalnum() and not self._is_plain_name(name)):
            return
        time = pop("time", None)
        if type(time) is int:
            if time < _SECONDS_BELOW:
                time *= 1000
        elif type(time) is float:
            time = round(time * 1000 if -MILLISECONDS_FROM < time < MILLISECONDS_FROM else time)
        elif time is None and not self._imports:
            time = reading.now_ms
        else:
            return
        insert_id = pop("$insert_id", None)
        if type(insert_id) is str:
            if not insert_id or (strict and not _is_plain_id(insert_id)):
                insert_id = self._insert_id(insert_id, index)
        else:
            insert_id = self._insert_id(insert_id, index)
        owner = pop("distinct_id", None)
        if owner is not None and (type(owner) is not str or (strict and _is_placeholder(owner))):
            return
        device = user = None
        if target.mode == SIMPLIFIED:
            user, device = properties.get("$user_id"), properties.get("$device_id")
            if user is not None or device is not None:
                if (user is not None and type(user) is not str) or (
                    device is not None and type(device) is not str
                ):
                    return
                owner = user or (device and device_id(device)) or owner
        if (
            not self._earliest_ms <= time <= reading.now_ms
            or owner is None
            or insert_id is None
            or "$ignore" in properties
            or not (self._flat or _all_fit(properties, strict=strict))
        ):
            return
        judged = self._judged
        if user and device and device != DEVICE_PREFIX:
            judged.links.setdefault((target.id, device, user), index)
        if "ip" in properties:
            judged.ips[index] = pop("ip")
        if self._imports:
            properties[IMPORT] = True
        event.time, event.distinct_id, event.insert_id = time, owner, insert_id
        judged.events[index] = target.id, event

    def _insert_id(self, sent: Any, index: int) -> str | None:
        """The insert id as it is stored, None where the one that was sent wants a closer look."""
        reading = self._reading
        if sent is None:
            return None if reading.strict and self._imports else f"{reading.fresh}-{index}"
        if type(sent) is not str or not sent or (reading.strict and not _is_strict_id(sent)):
            return None
        return sent

    def _found(self, token: Any) -> Target | None:
        """The project of a token that is another than that of the event before."""
        self._token, self._target = "", None
        if type(token) is str and token:
            self._token = token
            self._target = target = self._reading.find(token)
            if target is not None:
                self._earliest_ms = EARLIEST_MS if target.late else self._reading.now_ms - LATE_AFTER_MS
        return self._target

    def _is_plain_name(self, name: str) -> bool:
        return name not in IDENTITY_EVENTS and not (self._strict and self._imports and name.isspace())


def _is_placeholder(text: str) -> bool:
    """Whether an id is one of the placeholders: none is longer than nine characters but the nil UUID."""
    return (len(text) < 10 or text[0] == "0" or not (text[0].isalnum() and text[-1].isalnum())) and (
        text.strip().lower() in PLACEHOLDER_IDS
    )


_is_plain_id: Final = re.compile(r"[A-Za-z0-9]{10,36}").fullmatch  # none of the placeholders is like that


def _is_strict_id(text: str) -> bool:
    return (
        len(text) <= INSERT_ID_LIMIT_BYTES
        and text.isascii()
        and (text.isalnum() or text.replace("-", "").isalnum())
        and not _is_placeholder(text)
    )


def _all_fit(properties: Properties, *, strict: bool) -> bool:
    """Whether every nested value can be stored as it is."""
    for value in properties.values():
        if type(value) is list or type(value) is dict:
            if strict and not fits_strict(value):
                return False
            if len(_encode(value)) * GROWTH > EVENT_VALUE_LIMIT_BYTES and not _is_small(value):
                return False
    return True


def _is_small(value: Any) -> bool:
    """Whether a value is surely within its limit, however its numbers are written."""
    return len(_encode(value)) + 20 * _numbers(value) <= EVENT_VALUE_LIMIT_BYTES


def _numbers(value: Any) -> int:
    if type(value) is list:
        return sum(map(_numbers, value))
    if type(value) is dict:
        return sum(map(_numbers, value.values()))
    return int(type(value) is float)
