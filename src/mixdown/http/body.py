"""The one decoding of writes: any body that any SDK sends becomes raw records and parameters.

Method, two headers, query and body enter; `Decoded` leaves, or `BodyError` (400, 413). The steps are
those of contract ingestion §2.2. It must never raise anything else, whatever the input, and never
judges a record.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from mixdown.http.compression import decompress
from mixdown.http.forms import NO_FIELDS, Fields, Params, form_fields, multipart_fields, read_params
from mixdown.http.jsontext import (
    BOM,
    LARGE_TEXT_BYTES,
    MalformedJsonError,
    Parsed,
    parse_json,
    pieces_of,
    unreadable,
)
from mixdown.model import texts
from mixdown.model.events import Event
from mixdown.model.limits import Limits
from mixdown.model.quick import QuickRecord, read_quickly
from mixdown.model.quick_events import QuickEvents, read_events_quickly, read_lines_quickly
from mixdown.model.updates import Unreadable

_DATA: Final = b"data"
_JSON_STARTS: Final = (b"[", b"{", b'"')
_OF_EVENTS: Final = ("track", "import")
_UNWRAP_LIMIT: Final = 4
_LINE: Final = re.compile(rb"[^\s][^\n]*")
# A space was the `+` of unescaped base64 before the form was read; `-` and `_` are the URL-safe alphabet.
_TO_BASE64: Final = bytes.maketrans(b" -_", b"++/")


class Decoded(msgspec.Struct, frozen=True):
    """What a body says: its records, or in `problem` why it has none.

    `hostile` as in `model.payloads.Reading`; `text` is the body out of its compression (for a GET
    its data); records that cannot be read stand as `Unreadable`. Where every record is plain, `quick`
    has them, `records` is empty, and `reread` decodes the same body the long way. So has `quick_events` the
    events among which some are plain.
    """

    records: list[Any]
    params: Params
    problem: str
    hostile: bool
    text: bytes
    quick: list[QuickRecord] | None = None
    reread: Callable[[], Decoded] | None = None
    quick_events: QuickEvents | None = None

    @property
    def is_quick(self) -> bool:
        """Whether the records were read the quick way."""
        return self.quick is not None or self.quick_events is not None

    @property
    def count(self) -> int:
        """How many records there are."""
        if self.quick_events is not None:
            return len(self.quick_events.events)
        return len(self.records if self.quick is None else self.quick)

    def first(self, name: str) -> Any:
        """What the first record says under `name` ("$token" or "mp_lib"), None where it says nothing."""
        if self.quick is not None:
            return self.quick[0].token if name == "$token" else self.quick[0].lib
        record = self.records[0] if self.records else None
        return record.get(name) if type(record) is dict else None

    def first_property(self, name: str) -> Any:
        """What the first event says under `name` ("token" or "mp_lib"), None where it says nothing."""
        if self.quick_events is not None:
            event = self.quick_events.events[0]
            return None if event is None else event.properties.get(name)
        properties = self.first("properties")
        return properties.get(name) if type(properties) is dict else None


class _Found(NamedTuple):
    """Where the data of a request is, and which reader takes it; no reader where there is none."""

    text: bytes
    reader: Callable[[bytes, bool, int], Parsed] | None
    form: Fields = NO_FIELDS


def decode(
    *,
    method: str,
    content_type: bytes,
    content_encoding: bytes,
    query: bytes,
    body: bytes,
    limits: Limits,
    quick_for: str = "",
) -> Decoded:
    """Decode one write (contract ingestion §2.2). Raises `BodyError`.

    `quick_for` names the endpoint ("engage", "groups", "track" or "import") whose plain records may be read
    the quick way.
    """
    fields = form_fields(query)
    plain = decompress(body, content_encoding.decode("latin-1"), limits.body_limit_bytes) if body else body
    found = _found(method, content_type, fields, plain)
    params = read_params(fields, found.form)
    if found.reader is None:
        return Decoded([], params, texts.DATA_MISSING, hostile=False, text=plain)
    again = partial(
        decode,
        method=method,
        content_type=content_type,
        content_encoding=content_encoding,
        query=query,
        body=body,
        limits=limits,
    )
    if quick_for in _OF_EVENTS:
        events = _events_quickly(found, limits)
        if events is not None:
            return Decoded(
                [],
                params,
                "",
                hostile=False,
                text=plain or found.text,
                quick_events=events,
                reread=again,
            )
    elif quick_for and not params.strict:
        quick = _quickly(found, limits, group=quick_for == "groups")
        if quick is not None:
            return Decoded([], params, "", hostile=False, text=plain or found.text, quick=quick, reread=again)
    try:
        most = limits.records_per_request
        value, hostile = found.reader(found.text, params.strict, most)
        return _unwrapped(value, params, most, hostile=hostile, text=plain or found.text)
    except MalformedJsonError:
        return Decoded([], params, texts.DATA_INVALID, hostile=False, text=plain or found.text)


def _quickly(found: _Found, limits: Limits, *, group: bool) -> list[QuickRecord] | None:
    """The records of a JSON text that is found in one piece, if all of them are plain."""
    text = _json_text(found)
    if text is None:
        return None
    if len(text) <= LARGE_TEXT_BYTES:  # one call on a longer one would stop small requests meanwhile
        return read_quickly(text, limits, group=group)
    records: list[QuickRecord] = []
    for piece in pieces_of(text, limits.records_per_request):
        read = read_quickly(piece, limits, group=group)
        if read is None:
            return None
        records += read
    return records or None


def _events_quickly(found: _Found, limits: Limits) -> QuickEvents | None:
    """The events of a JSON text, or of lines of it, that are plain; None where none is."""
    most = limits.records_per_request
    if found.reader is _parse_lines:
        lines = [line[0] for line in islice(_LINE.finditer(found.text), most + 1)]
        return read_lines_quickly(lines, limits) if len(lines) <= most else None
    text = _json_text(found)
    if text is None:
        return None
    if len(text) <= LARGE_TEXT_BYTES:
        return read_events_quickly(text, limits)
    events: list[Event | None] = []
    flat = True
    for piece in pieces_of(text, most):
        read = read_events_quickly(piece, limits)
        if read is None:
            return None
        events += read.events
        flat = flat and read.flat
    return QuickEvents(events, flat) if events else None


def _json_text(found: _Found) -> bytes | None:
    """The JSON that a request has in one piece, None where it has none, or cannot be read."""
    if found.reader is _parse_json:
        return found.text
    if found.reader is not _parse_string:
        return None
    text = found.text.strip().removeprefix(BOM)
    if text[:1] in _JSON_STARTS:
        return text
    try:
        return _from_base64(text)
    except MalformedJsonError:
        return None


def _found(method: str, content_type: bytes, query: Fields, body: bytes) -> _Found:
    """Step 2: choose by media type. On GET the query's data wins, on POST the body's."""
    in_query = query.get(_DATA, b"").strip()
    if method == "GET" and in_query:
        return _Found(in_query, _parse_string)
    found = _in_body(content_type, body)
    if found.reader is None and in_query:
        return _Found(in_query, _parse_string, found.form)
    return found


def _in_body(content_type: bytes, body: bytes) -> _Found:
    text = body.strip().removeprefix(BOM)
    if not text:
        return _Found(b"", None)
    media = content_type.partition(b";")[0].strip().lower()
    if media == b"application/json":
        return _Found(text, _parse_json)
    if media == b"application/x-www-form-urlencoded":
        return _in_form(text)
    if media in (b"application/x-ndjson", b"application/ndjson", b"application/jsonl"):
        return _Found(text, _parse_lines)
    if media == b"multipart/form-data":
        fields = multipart_fields(body, content_type)
        data = fields.get(_DATA, b"").strip()
        if data:
            return _Found(data, _parse_string, fields)
        return _Found(text, _parse_json if text[:1] in _JSON_STARTS else None, fields)
    if text[:1] in _JSON_STARTS:
        return _Found(text, _parse_json)
    if b"data=" in text:
        return _in_form(text)
    return _Found(text, _parse_string)


def _in_form(text: bytes) -> _Found:
    """A form; or JSON that was sent as one by mistake, as plain `curl -d` does."""
    looks_like_json = text[:1] in _JSON_STARTS
    if looks_like_json and b"data=" not in text:
        return _Found(text, _parse_json)
    fields = form_fields(text)
    if _DATA not in fields and looks_like_json:
        return _Found(text, _parse_json)
    data = fields.get(_DATA, b"").strip()
    return _Found(data, _parse_string if data else None, fields)


def _parse_json(text: bytes, strict: bool, most: int) -> Parsed:  # noqa: FBT001 - the shape all readers share
    return parse_json(text, strict=strict, most=most)


def _parse_string(text: bytes, strict: bool, most: int) -> Parsed:  # noqa: FBT001 - likewise
    """Step 3: the text of `data`, JSON or base64 of JSON."""
    text = text.strip().removeprefix(BOM)
    if text[:1] in _JSON_STARTS or text == b"null":
        return parse_json(text, strict=strict, most=most)
    return parse_json(_from_base64(text), strict=strict, most=most)


def _from_base64(text: bytes) -> bytes:
    bare = text.translate(_TO_BASE64, b"\r\n").rstrip(b"=")
    try:
        return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except binascii.Error:
        raise MalformedJsonError from None


def _parse_lines(text: bytes, strict: bool, most: int) -> Parsed:  # noqa: FBT001 - likewise
    """One value a line; a line that is no JSON fails alone. Stops one record past the limit."""
    records: list[Any] = []
    hostile = False
    for line in _LINE.finditer(text):
        try:
            value, odd = parse_json(line[0], strict=strict)
        except MalformedJsonError:
            value, odd = unreadable(line[0], texts.DATA_INVALID), False
        if odd and type(value) is list:  # it may hold what cannot be read, and is no record anyhow
            value = unreadable(line[0], texts.DATA_NOT_OBJECT)
        records.append(value)
        hostile = hostile or odd
        if len(records) > most:
            break
    return Parsed(records, hostile)


def _unwrapped(value: Any, params: Params, most: int, *, hostile: bool, text: bytes) -> Decoded:
    """Steps 4 and 6: a list is a batch, an object a batch of one, or the wrapping of its `data`."""
    for _ in range(_UNWRAP_LIMIT):
        kind = type(value)
        if kind is list:
            return Decoded(value, params, "" if value else texts.DATA_MISSING, hostile, text)
        if kind is dict:
            if "data" not in value or "event" in value or "$token" in value:
                return Decoded([value], params, "", hostile, text)
            value = value["data"]
        elif kind is Unreadable:
            return Decoded([value], params, "", hostile, text)
        elif kind is str and value.strip():
            value, odd = _parse_string(value.encode("utf-8", "surrogatepass"), params.strict, most)
            hostile = hostile or odd
        else:
            break
    empty = value is None or (type(value) is str and not value.strip())
    problem = texts.DATA_MISSING if empty else texts.DATA_INVALID
    return Decoded([], params, problem, hostile=False, text=text)
