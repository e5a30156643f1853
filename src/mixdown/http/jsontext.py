"""JSON text into values, forgivingly where it costs nobody anything.

Bytes enter; a value leaves, or `MalformedJsonError`. Nearly every body takes the quick path through
orjson. What orjson refuses and Mixpanel takes is repaired: a byte order mark, the browser SDK's own
way to write emoji, invalid UTF-8, lone surrogates, numbers too large for a double. Where one element
of a batch cannot be read, a marker stands in its place and its neighbours live on. No input may raise
anything else, or take long.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from mixdown.model import texts
from mixdown.model.limits import INT_MIN
from mixdown.model.updates import Unreadable

BOM: Final = b"\xef\xbb\xbf"
KEPT_BYTES: Final = 1024
_NUL_ESCAPE: Final = b"\\u0000"
# As many elements as any setting allows in a request: the rest of such a list need not be looked at.
ELEMENTS_LIMIT: Final = 100_000
LARGE_TEXT_BYTES: Final = 1024 * 1024
"""A longer text is parsed by elements: one call on it could stop every other thread for a second."""
PIECE_BYTES: Final = 262_144
"""A long list of plain records is read in lists of such a size."""
DEAR_BYTES: Final = 262_144
DEAR_PARTS: Final = 50_000
"""Within a long text, an element longer than the one with more lists, objects and names than the other."""
# Marks that are looked at one by one in such a text: a few for each record, and a second at worst.
_MARKS_LIMIT: Final = 2_000_000
_FEW_MARKS: Final = 200_000
# Commas in a text that is sliced in one call: no more than so many slices, in some milliseconds.
_FEW_PARTS: Final = 500_000
_DIGITS_KEPT: Final = 400
_UINT_MAX: Final = 2**64 - 1
_WRAPPED_WITHIN_BYTES: Final = 4096
"""Where a long object that only wraps its `data` must name it."""
# Brackets in a row that all open or all close, or a string: whole where it holds no escape, else its start.
# Possessive repeats stand on single characters alone: on groups, Python before 3.11.5 matches them wrongly.
_MARK: Final = re.compile(rb'[\[{]+|[\]}]+|"(?:[^"\\]*+")?')
_PLAIN: Final = re.compile(rb'[^"\\]*+')
_QUOTE: Final = ord('"')
_OPENING: Final = b"[{"
_SCALAR: Final = re.compile(rb'[^,\]\s"]++')
_BLANK: Final = re.compile(rb"[ \t\r\n]*+")
# A character past U+FFFF as two UTF-16 surrogates of three bytes each (CESU-8), which is no valid UTF-8.
_PAIRS_LIMIT: Final = 100_000
_SURROGATE_PAIR: Final = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")


class MalformedJsonError(ValueError):
    """The text is no JSON, whole or in an element of its list."""


class Parsed(NamedTuple):
    """A value, and whether its text may hold what no store can (NUL, lone surrogates)."""

    value: Any
    hostile: bool


class _TooManyMarksError(MalformedJsonError):
    """The text takes longer to look through than it may."""


class _TooDeepError(Exception):
    """The text is nested deeper than the parsers go."""


def parse_json(text: bytes, *, strict: bool = False, most: int = ELEMENTS_LIMIT) -> Parsed:
    """Parse one JSON text (contract ingestion §2.2).

    A long list ends one element past `most`, which is too many for whoever asked.

    `strict` refuses elements that hold invalid UTF-8, which are repaired otherwise. Elements of a
    list, or a single object, that cannot be read come back as `Unreadable`. NaN and Infinity are
    malformed. Raises `MalformedJsonError`.
    """
    if len(text) > LARGE_TEXT_BYTES:
        return _parse_large(text, strict=strict, most=most)
    return _parse_whole(text, strict=strict)


def _parse_whole(text: bytes, *, strict: bool) -> Parsed:
    try:
        # orjson takes no lone surrogate, so all that can be hostile on this path is an escaped NUL.
        return Parsed(orjson.loads(text), _NUL_ESCAPE in text)
    except orjson.JSONDecodeError:
        return _second_look(_with_pairs_joined(text.removeprefix(BOM)), strict=strict)


class _Wrapper(msgspec.Struct):
    """An object that is no record itself: it only wraps the `data` of a request."""

    data: msgspec.Raw = msgspec.Raw()
    event: msgspec.Raw = msgspec.Raw()
    token: msgspec.Raw = msgspec.field(name="$token", default=msgspec.Raw())


_wrappers: Final = msgspec.json.Decoder(_Wrapper)


def _parse_large(text: bytes, *, strict: bool, most: int) -> Parsed:
    """Parse a long text element by element, so that other threads get their turn in between.

    Small bodies unfold to ten megabytes of brackets: those cost a second and hundreds of megabytes in
    one piece, and next to nothing once there are too many elements, or an element is too dear.
    """
    text = text.removeprefix(BOM)
    if b"\xed" in text:  # a quick look: the search for pairs holds up everybody else for longer
        text = _with_pairs_joined(text)
    first = text[_skip_blank(text, 0) :][:1] if text[:1] not in _OPENING else text[:1]
    if first == b"{":
        return _parse_large_object(text, strict=strict, most=most)
    if first != b"[":
        return _parse_whole(text, strict=strict)
    values = []
    hostile = False
    for part in _elements(text, most + 1):
        if _is_dear(part):
            values.append(_too_dear(part))
            continue
        value, odd = _parse_whole(part, strict=strict)
        values.append(value)
        hostile = hostile or odd
    return Parsed(values, hostile)


def _elements(text: bytes, most: int) -> list[bytes]:
    """The first `most` elements of a long list, or all of them; never in more time than `_split` takes.

    A list of a few elements that are dear to look through is sliced in one call, which takes milliseconds;
    that of very many elements must not be, for each slice takes memory.
    """
    try:
        return _split(text, elements=most, marks=_FEW_MARKS)
    except _TooManyMarksError:
        pass
    try:
        return [bytes(part) for part in _slices(text)[:most]]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _split(text, elements=most)


_slices: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def pieces_of(text: bytes, most: int) -> list[bytes]:
    """A long list as lists of `PIECE_BYTES` or an element more each, so that no call on one takes long.

    None at all where that would be dear itself, the text is no list, or there are more than `most` elements.
    """
    if text[:1] != b"[" or _holds_more(text, (b",",), _FEW_PARTS):
        return []
    try:
        slices = _slices(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return []
    if len(slices) > most:
        return []
    pieces = []
    some: list[memoryview] = []
    size = 0
    for each in slices:
        element = memoryview(each)
        some.append(element)
        size += len(element)
        if size >= PIECE_BYTES:
            pieces.append(b"[%b]" % b",".join(some))
            some = []
            size = 0
    if some:
        pieces.append(b"[%b]" % b",".join(some))
    return pieces


def _parse_large_object(text: bytes, *, strict: bool, most: int) -> Parsed:
    if not _is_dear(text):
        return _parse_whole(text, strict=strict)
    if b'"data"' not in text[:_WRAPPED_WITHIN_BYTES]:  # to look through all of it takes tens of milliseconds
        return Parsed(_too_dear(text), hostile=True)
    try:
        wrapper = _wrappers.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Parsed(_too_dear(text), hostile=True)
    data = bytes(wrapper.data)
    if not data or bytes(wrapper.event) or bytes(wrapper.token):
        return Parsed(_too_dear(text), hostile=True)
    if data[:1] == b'"':
        return _parse_whole(data, strict=strict)
    value, hostile = parse_json(data, strict=strict, most=most)
    return Parsed({"data": value}, hostile)


def _is_dear(text: bytes) -> bool:
    """Whether one call on this text would take longer than small requests can wait."""
    if len(text) <= DEAR_BYTES:
        return False
    # a text of more than `LARGE_TEXT_BYTES` is larger than any record may be: its commas count too
    marks = (b"[", b"{", b":", b",") if len(text) > LARGE_TEXT_BYTES else (b"[", b"{", b":")
    return _holds_more(text, marks, DEAR_PARTS)


def _holds_more(text: bytes, marks: tuple[bytes, ...], most: int) -> bool:
    """Whether there are more than `most` of these marks: a piece at a time, since to count takes long."""
    found = 0
    for start in range(0, len(text), PIECE_BYTES):
        found += sum([text.count(mark, start, start + PIECE_BYTES) for mark in marks])
        if found > most:
            return True
    return False


def _too_dear(text: bytes) -> Unreadable:
    return unreadable(text, texts.RECORD_TOO_DEAR.format(limit=DEAR_PARTS))


def _second_look(text: bytes, *, strict: bool) -> Parsed:
    try:
        return Parsed(orjson.loads(text), _NUL_ESCAPE in text)
    except orjson.JSONDecodeError:
        return Parsed(_repaired(text, strict=strict), True)


def _with_pairs_joined(text: bytes) -> bytes:
    """The text with each CESU-8 pair as the one character it stands for.

    The browser SDK's base64 writes every character past U+FFFF so (`utf8Encode` of mixpanel-browser 2.83),
    and base64 is what it sends to every host but Mixpanel's own. The text is meant, so `strict` takes it too.
    Its batches hold 50 records: pairs past a limit that they never reach count as invalid UTF-8.
    """
    return _SURROGATE_PAIR.sub(_joined_pair, text, count=_PAIRS_LIMIT)


def _joined_pair(pair: re.Match[bytes]) -> bytes:
    halves = pair[0].decode("utf-8", "surrogatepass")
    return halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le").encode()


def _repaired(text: bytes, *, strict: bool) -> Any:
    try:
        return _lenient(text, strict=strict)
    except (_TooDeepError, UnicodeDecodeError):
        pass
    start = _skip_blank(text, 0)
    if text[start : start + 1] == b"[":
        return [_element(part, strict=strict) for part in _split(text)]
    parts = _split(b"[%b]" % text)
    if len(parts) != 1:
        raise MalformedJsonError
    return _element(parts[0], strict=strict)


def _lenient(text: bytes, *, strict: bool) -> Any:
    """Parse with the standard library, which takes what orjson does not; UTF-8 errors raise if `strict`."""
    decoded = text.decode("utf-8", "strict" if strict else "replace")
    try:
        return json.loads(decoded, parse_int=_integer, parse_constant=_refuse_constant)
    except RecursionError:
        raise _TooDeepError from None
    except ValueError:
        raise MalformedJsonError from None


def _element(text: bytes, *, strict: bool) -> Any:
    """One element of a list: its value, or why it alone cannot be read."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return _lenient(text, strict=strict)
    except _TooDeepError:
        return unreadable(text, texts.NESTED_TOO_DEEPLY.format(field="data"))
    except UnicodeDecodeError:
        value = None
        with suppress(MalformedJsonError, _TooDeepError):
            value = _lenient(text, strict=False)
        return Unreadable(_start_of(text), texts.DATA_NOT_UTF8, value)


def unreadable(text: bytes, message: str) -> Unreadable:
    """The marker for an element that cannot be read; keeps the start of what arrived."""
    return Unreadable(_start_of(text), message)


def _start_of(text: bytes) -> str:
    return text[:KEPT_BYTES].decode("utf-8", "replace")


def _integer(digits: str) -> int | float:
    """An integer, past 64 bits as a double; the digits of one that overflows anyhow need no counting."""
    if len(digits) <= len("-9223372036854775808"):
        number = int(digits)
        return number if INT_MIN <= number <= _UINT_MAX else float(number)  # as orjson has it
    return float(digits if len(digits) <= _DIGITS_KEPT else digits[:_DIGITS_KEPT])


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _split(text: bytes, *, elements: int = ELEMENTS_LIMIT + 1, marks: int = _MARKS_LIMIT) -> list[bytes]:
    """The first `elements` of a JSON list as slices, found by brackets and strings alone, without recursion.

    Raises `MalformedJsonError` where the list does not close, or takes too long to look through.
    """
    parts: list[bytes] = []
    at = _skip_blank(text, _skip_blank(text, 0) + 1)
    if text[at : at + 1] == b"]":
        return _ended(text, at + 1, parts)
    marks_left = marks
    while len(parts) < elements:
        start = at
        at, marks_left = _skip_element(text, at, marks_left)
        parts.append(text[start:at])
        at = _skip_blank(text, at)
        mark = text[at : at + 1]
        at = _skip_blank(text, at + 1)
        if mark == b"]":
            return _ended(text, at, parts)
        if mark != b",":
            raise MalformedJsonError
    return parts


def _skip_element(text: bytes, at: int, marks_left: int) -> tuple[int, int]:
    """The place after the element that begins at `at`, and how many more marks may be looked at."""
    first = text[at : at + 1]
    if first in (b"[", b"{"):
        return _skip_nested(text, at, marks_left)
    if first == b'"':
        return _skip_string(text, at + 1, marks_left)
    scalar = _SCALAR.match(text, at)
    if scalar is None:
        raise MalformedJsonError
    return scalar.end(), marks_left


def _skip_nested(text: bytes, at: int, marks_left: int) -> tuple[int, int]:
    """The place after the list or object that begins at `at`, and how many more marks may be looked at."""
    depth = 0
    while marks_left > 0 and (found := _MARK.search(text, at)):
        marks_left -= 1
        at = found.end()
        marks = found[0]
        if marks[0] == _QUOTE:
            if len(marks) == 1:
                at, marks_left = _skip_string(text, at, marks_left)
        elif marks[0] in _OPENING:
            depth += len(marks)
        elif len(marks) >= depth:
            return found.start() + depth, marks_left
        else:
            depth -= len(marks)
    raise MalformedJsonError if marks_left > 0 else _TooManyMarksError


def _skip_string(text: bytes, at: int, marks_left: int) -> tuple[int, int]:
    """The place after the string whose text begins at `at`, and how many more marks may be looked at."""
    while marks_left > 0 and (plain := _PLAIN.match(text, at)):
        at = plain.end()
        if text[at : at + 1] == b'"':
            return at + 1, marks_left
        if at + 1 >= len(text):
            break
        at += 2  # an escape
        marks_left -= 1
    raise MalformedJsonError if marks_left > 0 else _TooManyMarksError


def _skip_blank(text: bytes, at: int) -> int:
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()


def _ended(text: bytes, at: int, parts: list[bytes]) -> list[bytes]:
    if _skip_blank(text, at) != len(text):
        raise MalformedJsonError
    return parts
