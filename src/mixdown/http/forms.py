"""Fields of query strings and form bodies, as bytes, and the parameters of writes that are read from them.

Bytes enter; fields and `Params` leave. Nothing here raises on any input, or keeps more than
`FIELD_LIMIT` fields.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

FIELD_LIMIT: Final = 100
_PART_HEADERS_LIMIT_BYTES: Final = 65_536
_FLAG_DIGITS: Final = 18
_BROKEN_ESCAPES_LIMIT: Final = 100_000

Fields = Mapping[bytes, bytes]


class Params(msgspec.Struct, frozen=True):
    """The parameters of a write (contract ingestion §2.3); `ip` is None where it is absent."""

    verbose: bool = False
    strict: bool = False
    img: bool = False
    ip: bool | None = None
    callback: str = ""
    lib: str = ""
    project_id: str = ""
    api_key: str = ""


NO_FIELDS: Final[Fields] = {}
_NO_PARAMS: Final = Params()


def unquote(quoted: bytes) -> bytes:
    """Undo percent-encoding; escapes that are none stay as they are. `+` is left alone.

    The quoted-printable decoder does the same at ten times the speed of the one in urllib, with `=`
    for `%`. It treats broken escapes in its own way: then the result has the wrong length, and urllib's
    decides. That one needs seconds where there are millions, so such text stays as it is.
    """
    count = quoted.count(b"%")
    if not count:
        return quoted
    if b"%\n" not in quoted and b"%\r" not in quoted:
        plain = binascii.a2b_qp(quoted.replace(b"=", b"%3D").replace(b"%", b"="))
        if len(plain) == len(quoted) - 2 * count:
            return plain
    return unquote_to_bytes(quoted) if count <= _BROKEN_ESCAPES_LIMIT else quoted


def form_fields(body: bytes) -> Fields:
    """The fields of a query string or a form-urlencoded body; the last of a repeated name wins."""
    if not body:
        return NO_FIELDS
    found: dict[bytes, bytes] = {}
    for part in body.split(b"&", FIELD_LIMIT)[:FIELD_LIMIT]:
        name, _, value = part.partition(b"=")
        found[_plain(name)] = value
    for name, value in found.items():
        found[name] = _plain(value)
    return found


def _plain(quoted: bytes) -> bytes:
    return unquote(quoted.replace(b"+", b" "))


def multipart_fields(body: bytes, content_type: bytes) -> Fields:
    """The fields of a multipart/form-data body, files included; what cannot be parsed is left out."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        return NO_FIELDS
    reader = _MultipartReader()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.on_part_begin,
                "on_part_data": reader.on_part_data,
                "on_part_end": reader.on_part_end,
                "on_header_field": reader.on_header_field,
                "on_header_value": reader.on_header_value,
                "on_header_end": reader.on_header_end,
            },
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, _TooManyPartsError):
        pass
    return reader.fields


class _TooManyPartsError(Exception):
    """A multipart body has more parts, or longer headers, than any client sends."""


class _MultipartReader:
    """Gathers the parts that the parser reports."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._field = b""
        self._value = b""
        self._name: bytes | None = None
        self._parts = 0

    def on_part_begin(self) -> None:
        """A part begins."""
        self._parts += 1
        if self._parts > FIELD_LIMIT:
            raise _TooManyPartsError
        self._name = None
        self._pieces = []

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._value += data[start:end]
        if len(self._value) > _PART_HEADERS_LIMIT_BYTES:
            raise _TooManyPartsError

    def on_header_end(self) -> None:
        """A header is complete."""
        if self._field.lower() == b"content-disposition":
            self._name = parse_options_header(self._value)[1].get(b"name")
        self._field = self._value = b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """A piece of a part's content."""
        self._pieces.append(data[start:end])

    def on_part_end(self) -> None:
        """A part is complete."""
        if self._name is not None:
            self.fields[self._name] = b"".join(self._pieces)


def is_on(value: bytes | None) -> bool:
    """Whether a flag is on: an integer from 1, or `true` in any case (contract ingestion §2.4)."""
    if value is None:
        return False
    text = value.strip()
    if text.isdigit():
        return len(text) > _FLAG_DIGITS or int(text) >= 1
    return text.lower() == b"true"


def _ip_flag(value: bytes | None) -> bool | None:
    """`ip`: only `0` and `false` switch it off; empty is as good as absent (contract ingestion §10.1)."""
    if not value:
        return None
    return value.strip().lower() not in (b"0", b"false")


def read_params(query: Fields, form: Fields) -> Params:
    """The parameters of a write; the query wins, the form fills the gaps (contract ingestion §2.4)."""
    if not query and not form:
        return _NO_PARAMS
    merged = {**form, **query} if form else query
    return Params(
        verbose=is_on(merged.get(b"verbose")),
        strict=is_on(merged.get(b"strict")),
        img=is_on(merged.get(b"img")),
        ip=_ip_flag(merged.get(b"ip")),
        callback=merged.get(b"callback", b"").decode("utf-8", "replace"),
        lib=merged.get(b"mp_lib", b"").decode("utf-8", "replace"),
        project_id=merged.get(b"project_id", b"").decode("utf-8", "replace"),
        api_key=merged.get(b"api_key", b"").decode("utf-8", "replace"),
    )
