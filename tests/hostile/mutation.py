"""Made-up input that is nearly right: seeds changed by a seeded generator, quickly.

Seeds and a `Random` enter; bytes and requests leave, the same for the same seed. A record is changed token by
token, so that it stays JSON; a body is wrapped as any SDK wraps one, and then broken at random.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from random import Random
from typing import TypeVar
from urllib.parse import quote_from_bytes

from tests.hostile.seeds import Record, Sent, seed_records, sent_requests

_T = TypeVar("_T")

VALUES: tuple[bytes, ...] = (
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"-0.0",
    b"1",
    b"1.0",
    b"-1",
    b"1e5",
    b"0.1",
    b"5e-324",
    b"1e308",
    b"1e309",
    b"-1e400",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"99999999999999999999",
    b"18446744073709551616",
    b"1" + b"0" * 30,
    b"1" + b"0" * 400,
    b"4242.0",
    b"1768478400",
    b"1768478400000",
    b"253402300800000",
    b"1e-400",
    b"123456789e-9",
    b'""',
    b'" "',
    b'"a"',
    b'"1"',
    b'"1e999"',
    b'"-7.5"',
    b'"nan"',
    b'"Infinity"',
    b'"true"',
    b'"undefined"',
    b'"\\u0000"',
    b'"a\\u0000b"',
    b'"\\ud800"',
    b'"\\udc00x"',
    b'"\\ud83d\\ude00"',
    b'"\xf0\x9f\x98\x80"',
    b'"\xff"',
    b'"\xed\xa0\xbd\xed\xb8\x80"',
    b'"\xc3"',
    b'"\xef\xbf\xbf"',
    b'"\\\\\\""',
    b'"\\/"',
    b'"' + b"x" * 255 + b'"',
    b'"' + b"\xc3\xa4" * 128 + b'"',
    b'"' + b"\xf0\x9f\x98\x80" * 64 + b'"',
    b'"' + b"y" * 300 + b'"',
    b'"2026-01-02T03:04:05"',
    b'"2026-01-02T03:04:05.123+14:00"',
    b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59-23:59"',
    b'"2026-W01-1"',
    b'"192.0.2.1"',
    b'"::ffff:192.0.2.1"',
    b'"fe80::1%eth0"',
    b'"\xd9\xa3"',
    b'"\xc2\xb2"',
    b"[]",
    b"{}",
    b"[[]]",
    b"[{}]",
    b'{"":null}',
    b'[1,1.0,true,"1",null]',
    b'{"a":1,"a":2}',
    b'{"a\\u0000":1,"a\xef\xbf\xbd":2}',
    b'[["x",["x"]],{"x":{"x":[]}}]',
    b"[1,2,3]",
    b'["$set","a"]',
    b'{"$set":{}}',
    b'"tok0123456789abcdef"',
)
NAMES: tuple[bytes, ...] = (
    b'"$token"',
    b'"$distinct_id"',
    b'"$group_key"',
    b'"$group_id"',
    b'"$set"',
    b'"$set_once"',
    b'"$add"',
    b'"$append"',
    b'"$union"',
    b'"$remove"',
    b'"$unset"',
    b'"$delete"',
    b'"$merge"',
    b'"$time"',
    b'"$ignore_time"',
    b'"$ignore_alias"',
    b'"$ip"',
    b'"$insert_id"',
    b'"$mp_metadata"',
    b'"$mp_event_id"',
    b'"$last_seen"',
    b'"data"',
    b'"event"',
    b'""',
    b'"a"',
    b'"a\\u0000"',
    b'"\\ud800"',
    b'"\xff"',
    b'"' + b"n" * 255 + b'"',
    b'"' + b"\xc3\xb6" * 256 + b'"',
    b'"__proto__"',
    b'"$city"',
    b'"$SET"',
    b'"x"',
)
PIECES: tuple[bytes, ...] = (
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b",",
        b":",
        b"\\",
        b"&",
        b"=",
        b"%",
        b"+",
        b" ",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
    ),
    *(
        b"data=",
        b"verbose=1",
        b"&strict=1&",
        b"&ip=1",
        b"&img=1",
        b"&callback=f",
        b"%5B",
        b"%7",
        b"%00",
        b"%u0041",
    ),
    *(
        b"NaN",
        b"-Infinity",
        b"nul",
        b"1e999",
        b"-",
        b"9" * 40,
        b"\\u0000",
        b"\\ud800",
        b"\\uZZZZ",
        b"\xef\xbb\xbf",
    ),
    *(
        b"\xed\xa0\xbd",
        b"\xc3",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
        b"W3t9XQ==",
        b"W3t9XQ",
        b"--xx\r\n",
    ),
    *(
        b'name="data"\r\n\r\n',
        b"--xx--",
        b"\r\n\r\n",
        b"//",
        b"/*",
        b"'",
        b"#",
        b";",
        b"\xe2\x80\xa8",
        b"\x85",
    ),
)
CONTENT_TYPES: tuple[bytes, ...] = (
    b"application/json",
    b"application/json; charset=utf-8",
    b"application/x-www-form-urlencoded",
    b"application/x-ndjson",
    b"text/plain;charset=UTF-8",
    b"",
    b"multipart/form-data; boundary=xx",
    b"multipart/form-data",
    b'multipart/form-data; boundary="x\xff',
    b"multipart/form-data; boundary=" + b"b" * 300,
    b"APPLICATION/JSON",
    b";;",
    b"application/jsonl",
    b"image/gif",
    b"multipart/form-data; boundary*=utf-8''%ff%",
)
ENCODINGS: tuple[bytes, ...] = (
    b"",
    b"gzip",
    b"deflate",
    b"identity",
    b"br",
    b"x-gzip, gzip",
    b"\xff",
    b"zlib",
)
READ_NAMES: tuple[bytes, ...] = (
    b"project_id",
    b"distinct_id",
    b"distinct_ids",
    b"data_group_id",
    b"output_properties",
    b"page",
    b"page_size",
    b"session_id",
    b"limit",
    b"where",
    b"sort_key",
    b"ids",
    b"record",
    b"before_id",
    b"event",
    b"name",
    b"values",
    b"type",
    b"unit",
    b"interval",
    b"from_date",
    b"to_date",
    b"bookmark",
    b"sentinel_event",
    b"search_properties",
    b"event_selectors",
    b"timezone_offset",
    b"x",
    b"",
)
READ_VALUES: tuple[bytes, ...] = (
    *VALUES,
    b"ada",
    b"1",
    b"-1",
    b"0x10",
    b"1_000",
    b" 7 ",
    b"\xd9\xa3",
    b"9007199254740993",
    b"[1,2",
    b'["ada","bob"]',
    b"[null]",
    b'["\\ud800"]',
    b"true",
    b'"whole-1-1-1000-1795319639300"',
    b"whole-1-1-1000-1795319639300",
    b"9" * 30,
    b"2026-01-15",
    b"0001-01-01",
    b"9999-12-31",
    b"month",
    b"average",
    b'{"dateRange":{"type":"between","from":"2026-01-01","to":"2026-01-02"}}',
    b'{"dateRange":{"type":"relative_after","window":{"unit":"year","value":1000}}}',
    b'{"time":1,"position":1}',
    b'[{"value":"a"},{"event":"a","selector":"1"}]',
    b"-1e400",
)
_FORM = b"application/x-www-form-urlencoded"


class Mutator:
    """Makes inputs out of a `Random`; reseed it to get an input again."""

    def __init__(self) -> None:
        self.random = Random()
        self.records = seed_records()
        self.requests = sent_requests()
        self._changes = (
            self._cut,
            self._repeat,
            self._insert,
            self._flip,
            self._swap,
            self._splice,
            self._overwrite,
        )

    def reseed(self, seed: int) -> None:
        """Start the sequence that belongs to `seed`."""
        self.random.seed(seed)

    def record(self) -> bytes:
        """A record that is JSON but for broken bytes inside its strings."""
        return self._changed(self.pick(self.records))

    def _changed(self, record: Record) -> bytes:
        chance = self.random.random
        tokens = list(record.tokens)
        for _ in range(1 + int(chance() * 3)):
            kind = chance()
            if kind < 0.45 and record.scalars:
                tokens[self.pick(record.scalars)] = self.pick(VALUES)
            elif kind < 0.7 and record.names:
                tokens[self.pick(record.names)] = self.pick(NAMES)
            elif kind < 0.85 and record.names:
                at = self.pick(record.names)  # one more member before this one
                tokens[at] = b"%b:%b,%b" % (self.pick(NAMES), self.pick(VALUES), tokens[at])
            elif record.scalars:
                at = self.pick(record.scalars)
                tokens[at] = self._nested(tokens[at])
        if chance() < 0.15 and len(record.spans) > 1:
            first, last = self.pick(record.spans[:-1])
            tokens[first : last + 1] = [self.pick(VALUES)]
        return b"".join(tokens)

    def _nested(self, value: bytes) -> bytes:
        chance = self.random.random()
        if chance < 0.02:
            depth = int(self.random.random() * 3000)
        else:
            depth = 1 + int(chance * 70) if chance < 0.3 else 1
        if self.random.random() < 0.5:
            return b"[" * depth + value + b"]" * depth
        return b'{"k":' * depth + value + b"}" * depth

    def request(self) -> Sent:
        """A write: one of the captured ones changed, or made-up records in any wrapping."""
        sent = self.pick(self.requests) if self.random.random() < 0.3 else self._wrapped()
        if self.random.random() < 0.6:
            sent = sent._replace(body=self.broken(sent.body))
        chance = self.random.random()
        if chance < 0.1:
            sent = sent._replace(content_type=self.pick(CONTENT_TYPES))
        elif chance < 0.15:
            sent = sent._replace(content_encoding=self.pick(ENCODINGS))
        elif chance < 0.3:
            sent = sent._replace(query=self.broken(sent.query))
        elif chance < 0.32:
            sent = sent._replace(method="GET" if sent.method == "POST" else "POST")
        return sent

    def _wrapped(self) -> Sent:
        chance = self.random.random
        records = [self.record() for _ in range(1 + int(chance() * 2.5))]
        text = b"[%b]" % b",".join(records) if len(records) > 1 or chance() < 0.7 else records[0]
        wrapping = int(chance() * 11)
        if wrapping == 0:
            return Sent("POST", b"application/x-ndjson", b"", b"", b"\n".join(records))
        if wrapping == 1:
            parts = b'--xx\r\ncontent-disposition: form-data; name="data"\r\n\r\n%b\r\n--xx--\r\n' % text
            return Sent("POST", b"multipart/form-data; boundary=xx", b"", b"", parts)
        if wrapping == 2:
            squeezed = zlib.compressobj(1, zlib.DEFLATED, 31)
            return Sent("POST", b"application/json", b"gzip", b"", squeezed.compress(text) + squeezed.flush())
        if wrapping == 3:
            return Sent("POST", b"application/json", b"deflate", b"strict=1", zlib.compress(text, 1))
        if wrapping == 4:
            return Sent("POST", b"application/json", b"", b"", b'{"data":%b}' % text)
        if wrapping == 5:
            quoted = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            return Sent("POST", b"application/json", b"", b"verbose=1", b'"%b"' % quoted)
        if wrapping == 6:
            return Sent("POST", _FORM, b"", b"", b"data=" + quote_from_bytes(text).encode() + b"&verbose=1")
        if wrapping == 7:
            return Sent("POST", _FORM, b"", b"ip=1", b"data=" + base64.b64encode(text))
        if wrapping == 8:
            return Sent("GET", b"", b"", b"data=" + base64.urlsafe_b64encode(text).rstrip(b"="), b"")
        return Sent("POST", b"application/json" if wrapping == 9 else b"text/plain", b"", b"", text)

    def read(self) -> Sent:
        """A read: parameters in the query, a form or JSON, with values of every kind."""
        chance = self.random.random
        members = [(self.pick(READ_NAMES), self.pick(READ_VALUES)) for _ in range(1 + int(chance() * 4))]
        pairs = b"&".join(b"%b=%b" % (name, quote_from_bytes(value).encode()) for name, value in members)
        kind = chance()
        if kind < 0.35:
            sent = Sent("GET", b"", b"", pairs, b"")
        elif kind < 0.6:
            sent = Sent("POST", _FORM, b"", b"", pairs)
        else:
            text = b"{%b}" % b",".join(b'"%b":%b' % member for member in members)
            sent = Sent("POST", b"application/json", b"", b"page=0", text)
        if chance() < 0.6:
            sent = sent._replace(body=self.broken(sent.body), query=self.broken(sent.query))
        if chance() < 0.1:
            sent = sent._replace(content_type=self.pick(CONTENT_TYPES), content_encoding=self.pick(ENCODINGS))
        return sent

    def broken(self, text: bytes) -> bytes:
        """The text, changed in one to four places, or rarely in so large a way that slowness would show."""
        for _ in range(1 + int(self.random.random() * 4)):
            text = self.pick(self._changes)(text)
        if self.random.random() < 0.0004:
            text = self._amplified(text)
        return text

    def pick(self, items: Sequence[_T]) -> _T:
        """One of `items`."""
        return items[int(self.random.random() * len(items))]

    def _place(self, text: bytes) -> int:
        return int(self.random.random() * (len(text) + 1))

    def _cut(self, text: bytes) -> bytes:
        start = self._place(text)
        return text[:start] + text[start + 1 + int(self.random.random() ** 4 * 64) :]

    def _repeat(self, text: bytes) -> bytes:
        start = self._place(text)
        piece = text[start : start + 1 + int(self.random.random() * 16)]
        return text[:start] + piece * (1 + int(self.random.random() * 4)) + text[start:]

    def _insert(self, text: bytes) -> bytes:
        at = self._place(text)
        return text[:at] + self.pick(PIECES) + text[at:]

    def _flip(self, text: bytes) -> bytes:
        if not text:
            return b"\0"
        at = int(self.random.random() * len(text))
        return text[:at] + bytes((text[at] ^ (1 << int(self.random.random() * 8)),)) + text[at + 1 :]

    def _swap(self, text: bytes) -> bytes:
        a, b = sorted((self._place(text), self._place(text)))
        return text[:a] + text[b : b + 8] + text[a:b] + text[b + 8 :]

    def _splice(self, text: bytes) -> bytes:
        other = self.pick(self.requests).body
        start = self._place(other)
        at = self._place(text)
        return text[:at] + other[start : start + 40] + text[at:]

    def _overwrite(self, text: bytes) -> bytes:
        at = self._place(text)
        piece = self.pick(VALUES)
        return text[:at] + piece + text[at + len(piece) :]

    def _amplified(self, text: bytes) -> bytes:
        start = self._place(text)
        piece = text[start : start + 1 + int(self.random.random() * 8)] or self.pick(PIECES)
        return text[:start] + piece * int(self.random.random() * 20_000) + text[start:]
