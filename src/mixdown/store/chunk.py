"""Chunks: what one group commit appends to the log, and how it is written down.

A chunk's body is a JSON array of segments, one for each request; a segment is
`[endpoint, sdk, key, outcome, updates]`. The worker encodes a segment once; a chunk only joins
them. The fold decodes the envelope and leaves operator payloads raw until it applies them.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from mixdown.model.errors import CorruptStoreError
from mixdown.model.updates import Update

CHUNK_VERSION: Final = 1


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What a request's reply is made of: how many records were good, and which failed and why.

    `failed` holds (index, field, message) in ascending order of index.
    """

    total: int
    good: int
    failed: tuple[tuple[int, str, str], ...] = ()


class Segment(msgspec.Struct, array_like=True):
    """One request's share of a chunk. `key` is the request's idempotency key; then `outcome` is kept too."""

    endpoint: str
    sdk: str
    key: bytes | None
    outcome: Outcome | None
    updates: list[Update]


class LoggedUpdate(msgspec.Struct, array_like=True, gc=False):
    """An `Update` as the fold reads it: payloads still raw JSON."""

    project: int
    group_key: str
    id: str
    operations: list[tuple[int, msgspec.Raw]]
    time_ms: int
    flags: int
    key: bytes | None
    geo: dict[str, Any] | None  # no Raw: msgspec cannot decode an object into `Raw | None`


class LoggedSegment(msgspec.Struct, array_like=True, gc=False):
    """A `Segment` as the fold reads it."""

    endpoint: str
    sdk: str
    key: bytes | None
    outcome: Outcome | None
    updates: list[LoggedUpdate]


class Chunk(msgspec.Struct, frozen=True):
    """A stored chunk: it covers positions `first` to `first + count - 1`; `time_ms` never goes back."""

    first: int
    count: int
    time_ms: int
    body: bytes

    @property
    def end(self) -> int:
        """The position after the chunk's last record."""
        return self.first + self.count


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(list[LoggedSegment])


def encode_segment(segment: Segment) -> bytes:
    """A segment as bytes, ready to be joined into a chunk."""
    return _encoder.encode(segment)


def join_segments(segments: Iterable[bytes]) -> bytes:
    """The body of a chunk made of encoded segments."""
    return b"[" + b",".join(segments) + b"]"


def decode_body(body: bytes) -> list[LoggedSegment]:
    """The segments of a chunk's body. Raises `CorruptStoreError`."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptStoreError(f"a chunk cannot be decoded: {error}") from error


def checksum(first: int, count: int, time_ms: int, version: int, id_filter: bytes, body: bytes) -> int:
    """The checksum kept beside a chunk (CRC-32): over its place, its time and format, filter and body."""
    return zlib.crc32(
        body, zlib.crc32(id_filter, zlib.crc32(b"%d %d %d %d" % (first, count, time_ms, version)))
    )


def encode_filter(ids: Iterable[str]) -> bytes:
    """The filter kept beside a chunk, or a request's share of it: 32-bit hashes of its ids, in no order."""
    return array("I", set(map(zlib.crc32, map(str.encode, ids)))).tobytes()


def filter_may_hold(encoded: bytes, ids: Sequence[str]) -> bool:
    """Whether a chunk with this filter may hold one of `ids` (false positives happen, misses do not)."""
    held = array("I")
    held.frombytes(encoded)
    return not set(map(zlib.crc32, map(str.encode, ids))).isdisjoint(held)
