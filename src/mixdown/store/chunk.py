"""Chunks: what one group commit appends to the log, and how it is written down.

A chunk's body is a JSON array of segments, one for each request; a segment is
`[endpoint, sdk, key, outcome, updates]`, of events `[endpoint, sdk, key, outcome, [], links, count, events]`.
The worker encodes a segment once; a chunk only joins them, and is stored compressed where that pays. A reader
decodes the envelope and leaves raw what it does not look into: operator payloads until they are applied,
events always.
"""

from __future__ import annotations

import threading
import zlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec
import zstandard

from mixdown.model.errors import CorruptStoreError
from mixdown.model.updates import Update

PLAIN: Final = 1
"""The format of a chunk whose body is stored as it is."""
PACKED: Final = 2
"""The format of one whose body is a zstd frame."""
CHUNK_VERSION: Final = PACKED
"""The newest format that this version reads."""
PACKED_FROM_BYTES: Final = 128 * 1024
"""Smaller bodies are left as they are: they repeat less, and many of them would be packed in a second."""
_LEVEL: Final = 1
FOR_PROFILES: Final = 1
"""The fold must look at a chunk: it has updates, links of identities or request keys."""
FOR_EVENTS: Final = 2
"""The reader of events must: it has events, or it erases people."""
FOR_ALL: Final = FOR_PROFILES | FOR_EVENTS


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What a request's reply is made of: how many records were good, and which failed and why.

    `failed` holds (index, field, message) in ascending order of index; for an /import, `insert_ids` what each
    of them brought as its insert id.
    """

    total: int
    good: int
    failed: tuple[tuple[int, str, str], ...] = ()
    insert_ids: tuple[str, ...] = ()


class Segment(msgspec.Struct, array_like=True):
    """One request's share of a chunk. `key` is the request's idempotency key; then `outcome` is kept too."""

    endpoint: str
    sdk: str
    key: bytes | None
    outcome: Outcome | None
    updates: list[Update]


class Link(msgspec.Struct, array_like=True, frozen=True):
    """What an event says about identities (contract ingestion §8), in the words of the project's mode then.

    `index` is the event's place in its segment; `verb`, one of `model.identity.VERBS`, says what `one` and
    `other` are: "device" `$device:` with the device id, and the user id; "identify" the identified id and the
    anonymous one; "create_alias" the distinct_id and its alias; "merge" the two ids in their order.
    """

    index: int
    project: int
    mode: str
    verb: str
    one: str
    other: str


class LoggedUpdate(msgspec.Struct, array_like=True, gc=False):
    """An `Update` as the fold reads it: what it does is still raw JSON, `[[operator, payload], …]`."""

    project: int
    group_key: str
    id: str
    content: msgspec.Raw
    time_ms: int
    flags: int
    key: bytes | None
    geo: dict[str, Any] | None  # no Raw: msgspec cannot decode an object into `Raw | None`

    @property
    def operations(self) -> list[tuple[int, msgspec.Raw]]:
        """What it does: (operator, payload) in the order in which they apply."""
        return operations_of(self.content)


class LoggedSegment(msgspec.Struct, array_like=True, gc=False):
    """A `Segment` as the fold reads it: of events it has the links, and how many there are."""

    endpoint: str
    sdk: str
    key: bytes | None
    outcome: Outcome | None
    updates: list[LoggedUpdate]
    links: list[Link] = []
    event_count: int = 0

    @property
    def records(self) -> int:
        """How many positions it takes."""
        return len(self.updates) + self.event_count


LoggedEvent = tuple[int, msgspec.Raw]
"""(project, event): JSON of exactly `event`, `time` (ms), `distinct_id`, `insert_id` and `properties`."""


class WholeSegment(LoggedSegment, array_like=True, gc=False):
    """A `Segment` of which nothing is left out: it can be encoded again."""

    events: list[LoggedEvent] = []

    def ids(self) -> set[str]:
        """The ids that a filter of its chunk must hold: of updates that stand, of events and of links."""
        found = {update.id for update in self.updates if update.project}
        found.update(_owner_decoder.decode(event).distinct_id for project, event in self.events if project)
        for link in self.links:
            found.update((link.one, link.other))
        return found


class _Owner(msgspec.Struct):
    """Of an event, whose it is."""

    distinct_id: str


class EventSegment(msgspec.Struct, array_like=True, gc=False):
    """A `Segment` as the reader of events reads it: updates only count."""

    endpoint: str
    sdk: str
    key: bytes | None
    outcome: Outcome | None
    updates: list[msgspec.Raw]
    links: msgspec.Raw = msgspec.Raw()
    event_count: int = 0
    events: list[LoggedEvent] = []

    @property
    def records(self) -> int:
        """How many positions it takes."""
        return len(self.updates) + self.event_count


class Chunk(msgspec.Struct, frozen=True):
    """A stored chunk: it covers positions `first` to `first + count - 1`; `time_ms` never goes back.

    `kinds` says which readers it is of interest to. Chunks in a row that are of none to whoever reads come as
    one without a body.
    """

    first: int
    count: int
    time_ms: int
    body: bytes
    kinds: int = FOR_PROFILES

    @property
    def end(self) -> int:
        """The position after the chunk's last record."""
        return self.first + self.count


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(list[LoggedSegment])
_whole_decoder: Final = msgspec.json.Decoder(list[WholeSegment])
_event_decoder: Final = msgspec.json.Decoder(list[EventSegment])
_operations_decoder: Final = msgspec.json.Decoder(list[tuple[int, msgspec.Raw]])
_owner_decoder: Final = msgspec.json.Decoder(_Owner)
_Segments = TypeVar("_Segments")


def encode_segment(segment: Segment) -> bytes:
    """A segment as bytes, ready to be joined into a chunk."""
    return _encoder.encode(segment)


def encode_events(
    endpoint: str,
    sdk: str,
    key: bytes | None,
    outcome: Outcome | None,
    links: Sequence[Link],
    events: Sequence[bytes],
) -> bytes:
    """A segment of events as bytes; each of `events` is the JSON of a `LoggedEvent`."""
    head = _encoder.encode((endpoint, sdk, key, outcome, (), links, len(events)))
    return b"%b,[%b]]" % (head[:-1], b",".join(events))


def encode_event_segment(
    endpoint: str,
    sdk: str,
    key: bytes | None,
    outcome: Outcome | None,
    links: Sequence[Link],
    events: Sequence[tuple[int, Any]],
) -> bytes:
    """The same of (project, event) pairs; an event is encoded as it is."""
    segment = bytearray(_encoder.encode((endpoint, sdk, key, outcome, (), links, len(events))))
    segment[-1:] = b","
    _encoder.encode_into(events, segment, -1)
    segment += b"]"
    return bytes(segment)


def join_segments(segments: Iterable[bytes]) -> bytes:
    """The body of a chunk made of encoded segments."""
    return b"[" + b",".join(segments) + b"]"


class _Packers(threading.local):
    """zstd's contexts, which belong to one thread each."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_packers: Final = _Packers()


def pack_body(body: bytes) -> tuple[int, bytes]:
    """The format in which a body is stored, and what is stored. The checksum is over that."""
    if len(body) < PACKED_FROM_BYTES:
        return PLAIN, body
    packed = _packers.compress(body)
    return (PACKED, packed) if len(packed) < len(body) else (PLAIN, body)


def unpack_body(version: int, stored: bytes) -> bytes:
    """The body that `pack_body` was given. Its checksum was looked at. Raises `CorruptStoreError`."""
    if version != PACKED:
        return stored
    try:
        return _packers.decompress(stored)
    except (zstandard.ZstdError, MemoryError) as error:
        raise CorruptStoreError(f"a chunk cannot be unpacked: {error}") from error


def operations_of(content: msgspec.Raw) -> list[tuple[int, msgspec.Raw]]:
    """What a logged update does: (operator, payload) in the order in which they apply."""
    return _operations_decoder.decode(content)


def decode_body(body: bytes) -> list[LoggedSegment]:
    """The segments of a chunk's body, without its events. Raises `CorruptStoreError`."""
    return _decoded(_decoder, body)


def decode_whole(body: bytes) -> list[WholeSegment]:
    """The segments of a chunk's body, to be changed and encoded again. Raises `CorruptStoreError`."""
    return _decoded(_whole_decoder, body)


def decode_events(body: bytes) -> list[EventSegment]:
    """The segments of a chunk's body for whoever wants its events. Raises `CorruptStoreError`."""
    return _decoded(_event_decoder, body)


def _decoded(decoder: msgspec.json.Decoder[_Segments], body: bytes) -> _Segments:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptStoreError(f"a chunk cannot be decoded: {error}") from error


def owner_of(event: msgspec.Raw) -> str:
    """Whose an event of the log is, as it was sent."""
    return _owner_decoder.decode(event).distinct_id


def checksum(
    first: int,
    count: int,
    time_ms: int,
    version: int,
    id_filter: bytes,
    body: bytes,
    kinds: int = FOR_PROFILES,
) -> int:
    """The checksum kept beside a chunk (CRC-32): over its place, its time and format, kinds, filter and body.

    Chunks of profiles alone have what they had before there were kinds.
    """
    place = b"%d %d %d %d" % (first, count, time_ms, version)
    if kinds != FOR_PROFILES:
        place += b" %d" % kinds
    return zlib.crc32(body, zlib.crc32(id_filter, zlib.crc32(place)))


def encode_filter(ids: Iterable[str]) -> bytes:
    """The filter kept beside a chunk, or a request's share of it: 32-bit hashes of its ids, in no order."""
    return array("I", set(map(zlib.crc32, map(str.encode, ids)))).tobytes()
