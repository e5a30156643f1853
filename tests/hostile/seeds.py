"""What the fuzzer starts from: requests that real SDKs sent, and the records in them as tokens of JSON.

`tests/data/captures.jsonl` and `tests/data/documented` enter. A record leaves as its tokens with the
places of its names, scalars and containers, so that it can be changed without being parsed again.
"""

from __future__ import annotations

import base64
import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from mixdown.http.body import decode
from mixdown.model.errors import BodyError
from mixdown.model.limits import Limits

DATA = Path(__file__).parents[1] / "data"
TOKEN = b"tok0123456789abcdef"
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+\-]*|true|false|null|[\[\]{},:]')


class Sent(NamedTuple):
    """A write as it stood on the wire."""

    method: str
    content_type: bytes
    content_encoding: bytes
    query: bytes
    body: bytes


class Record(NamedTuple):
    """A record as tokens: where its names, its scalars and its containers (first and last token) are."""

    tokens: tuple[bytes, ...]
    names: tuple[int, ...]
    scalars: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    @property
    def text(self) -> bytes:
        """The record as JSON."""
        return b"".join(self.tokens)


def tokenized(text: bytes) -> Record:
    """A valid JSON text as tokens."""
    tokens = tuple(_TOKENS.findall(text))
    names: list[int] = []
    scalars: list[int] = []
    spans: list[tuple[int, int]] = []
    open_at: list[int] = []
    for at, token in enumerate(tokens):
        if token in b"[{":
            open_at.append(at)
        elif token in b"]}":
            spans.append((open_at.pop(), at))
        elif token not in b",:":
            is_name = tokens[at + 1 : at + 2] == (b":",)
            (names if is_name else scalars).append(at)
    return Record(tokens, tuple(names), tuple(scalars), tuple(spans))


@cache
def sent_requests() -> tuple[Sent, ...]:
    """Every write that was captured, to whichever path."""
    found = []
    for line in (DATA / "captures.jsonl").read_text().splitlines():
        captured = json.loads(line)
        if captured["method"] not in ("GET", "POST"):
            continue
        headers = captured["headers"]
        found.append(
            Sent(
                captured["method"],
                headers.get("content-type", "").encode(),
                headers.get("content-encoding", "").encode(),
                urlsplit(captured["target"]).query.encode(),
                base64.b64decode(captured["body_b64"]),
            )
        )
    return tuple(found)


# What the captured clients do not send, but the contract lets others send.
_MORE_RECORDS = (
    b'{"$token":"T","$distinct_id":"u","$merge":{"address":{"city":"Ulm","zip":89073},"x":1}}',
    b'{"$token":"T","$distinct_id":4242.0,"$append":{"list":[1,"a",{"b":null}]},"$remove":{"list":"a"}}',
    (
        b'{"$token":"T","$distinct_id":"u","$set":{"$last_seen":"2026-01-02T03:04:05Z","n":null},'
        b'"$ignore_time":true,"$time":1768478400000,"$ip":"192.0.2.1","$insert_id":"i-1"}'
    ),
    (
        b'{"$token":"T","$distinct_id":"u","$unset":["a","b"],"$union":{"l":["x",1,1.0,true]},"$add":{"n":"7"},'
        b'"$mp_metadata":{"$mp_event_id":"e1"},"$set_once":{"first":1},"$ignore_alias":"false"}'
    ),
    b'{"$token":"T","$group_key":"Company","$group_id":true,"$set":{"deep":{"a":{"b":{"c":[[[]]]}}}}}',
    b'{"$token":"T","$distinct_id":"u","$delete":null,"$set":{"a":1}}',
)


@cache
def seed_records() -> tuple[Record, ...]:
    """The records of all captures and of the documented requests, each once."""
    texts: dict[bytes, None] = {}
    for sent in sent_requests():
        try:
            decoded = decode(**sent._asdict(), limits=Limits())
        except BodyError:
            continue
        for record in decoded.records:
            texts.setdefault(json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode())
    for path in sorted((DATA / "documented").glob("*.json")):
        for record in json.loads(path.read_bytes()):
            texts.setdefault(json.dumps(record, separators=(",", ":")).encode())
    tokens = {b'"T"', b'"YOUR_PROJECT_TOKEN"'}
    return tuple(
        tokenized(b"".join(b'"%b"' % TOKEN if token in tokens else token for token in tokenized(text).tokens))
        for text in (*texts, *_MORE_RECORDS)
    )
