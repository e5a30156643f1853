"""History as it is kept: a line for what a step of the fold did to a profile, lines in compressed blocks.

A line is a compact JSON array: id, whether there was a profile, what was taken from it (`Taken` of
`model.history`), the records as they stood in the log, and which values stand elsewhere. The lines of a block
belong to one group key, in the order of ids, those of an id from old to new. Each stands between newlines,
which compact JSON never holds: an id is found without decoding the others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
import orjson
import zstandard

from mixdown.model.errors import CorruptStoreError
from mixdown.model.history import Applied, Change, Taken
from mixdown.model.operators import Properties
from mixdown.store.chunk import operations_of

BLOCK_BYTES: Final = 32 * 1024
"""A block is closed when its lines are so long."""
BLOCK_LIMIT_BYTES: Final = 256 * 1024 * 1024
"""No block is longer: a step takes 64 MB of records at most, or one request."""
LARGE_VALUE_BYTES: Final = 8192
"""A longer value stands apart, and once, however often it comes and goes."""
_LEVEL: Final = 1

ProfileKey = tuple[int, str, str]


class HistoryRecord(msgspec.Struct, array_like=True, gc=False):
    """A record within a line: its place in the log, its chunk's time, "endpoint SDK", and what it says.

    `content` is what a `LoggedUpdate` has: the JSON of its operations.
    """

    position: int
    time_ms: int
    source: str
    record_ms: int
    flags: int
    geo: Properties | None
    content: msgspec.Raw

    @property
    def operations(self) -> list[tuple[int, msgspec.Raw]]:
        """What it does: (operator, payload) in the order in which they apply."""
        return operations_of(self.content)


class Span(msgspec.Struct, frozen=True):
    """The records that a step folds: positions `first` to `end - 1`, chunk times `first_ms` to `last_ms`."""

    first: int
    end: int
    first_ms: int
    last_ms: int


class Block(msgspec.Struct, frozen=True):
    """Lines of one group key, compressed; `first_id` is the id of the first."""

    project: int
    group_key: str
    first_id: str
    data: bytes


class LargeValue(msgspec.Struct, frozen=True):
    """A value that stands apart from the lines of its profile, compressed, under its digest in hex."""

    project: int
    group_key: str
    id: str
    digest: str
    data: bytes


class HistorySize(msgspec.Struct, frozen=True):
    """How much history there is: bytes, segments, and since when it is whole (ms; None: none is kept)."""

    size_bytes: int
    segments: int
    since_ms: int | None


class HistoryReach(msgspec.Struct, frozen=True):
    """What of `HistorySize` is known without a look at all that is kept."""

    segments: int
    since_ms: int | None


class HistoryRange(msgspec.Struct, frozen=True):
    """Profiles whose ids stand before `end` (None: all that are left), and their changes, newest first.

    Ids of `changes` without a document are those of profiles that are gone.
    """

    end: str | None
    documents: dict[str, bytes]
    changes: dict[str, list[Change]]


class _Line(msgspec.Struct, array_like=True):
    id: str
    existed: bool
    taken: tuple[dict[str, Any], list[str], list[tuple[str, str, Any]]]
    records: list[HistoryRecord]
    apart: list[tuple[int, int, str, str]] = []


class _LineHead(msgspec.Struct, array_like=True):
    id: str


_encoder: Final = msgspec.json.Encoder()
_encode_into: Final = _encoder.encode_into
_decode_line: Final = msgspec.json.Decoder(_Line).decode
_decode_head: Final = msgspec.json.Decoder(_LineHead).decode
_TAKEN: Final = -1
_OF_THREAD: Final = threading.local()


class HistoryFeed:
    """The lines of one step, on their way from the thread that folds to the one that writes.

    The first calls `add` for each profile, in the order of project, group key and id, then `close`; the other
    takes `blocks` now and then, and what is left, with the large values, at the end.
    """

    def __init__(self, span: Span) -> None:
        self.span = span
        self._full: deque[tuple[int, str, str, bytes]] = deque()
        self._values: deque[LargeValue] = deque()
        self._project = 0
        self._group_key = ""
        self._first_id = ""
        self._buffer = bytearray()

    def add(
        self, key: ProfileKey, taken: Taken | None, records: Sequence[HistoryRecord], *, large: bool
    ) -> None:
        """Add what `records` did to a profile (`taken` None: there was none).

        `large` says whether there may be values above `LARGE_VALUE_BYTES` among them.
        """
        line: tuple[object, ...]
        if not records:
            return
        if large:
            line = self._apart(key, taken, records)
        else:
            line = (key[2], taken is not None, taken or _NONE, records)
        buffer = self._buffer
        if not buffer or key[1] != self._group_key or key[0] != self._project:
            self.close()
            self._project, self._group_key, self._first_id = key
        buffer += b"\n"
        _encode_into(line, buffer, -1)
        if len(buffer) >= BLOCK_BYTES:
            self.close()

    def close(self) -> None:
        """Close the block: to be called when all is added."""
        if self._buffer:
            self._buffer += b"\n"
            self._full.append((self._project, self._group_key, self._first_id, bytes(self._buffer)))
            self._buffer.clear()

    def blocks(self) -> Iterator[Block]:
        """The blocks that are full by now."""
        while self._full:
            project, group_key, first_id, lines = self._full.popleft()
            yield Block(project, group_key, first_id, _compress(lines))

    def values(self) -> Iterator[LargeValue]:
        """The values that stand apart."""
        while self._values:
            yield self._values.popleft()

    def _apart(
        self, key: ProfileKey, taken: Taken | None, records: Sequence[Any]
    ) -> tuple[str, bool, Taken, Sequence[Any], list[tuple[int, int, str, str]]]:
        """A line whose large values stand apart: null stands for them, and where, in the line."""
        where: list[tuple[int, int, str, str]] = []
        kept = taken or _NONE
        values = dict(kept.values)
        for name, value in kept.values.items():
            values[name] = self._keep_apart(key, where, (_TAKEN, 0, name), value)
        shortened = []
        for number, record in enumerate(records):
            content = record.content
            if len(memoryview(content)) > LARGE_VALUE_BYTES:
                content = self._without_large(key, where, number, content)
            shortened.append(msgspec.structs.replace(record, content=content))
        return key[2], taken is not None, kept._replace(values=values), shortened, where

    def _without_large(
        self, key: ProfileKey, where: list[tuple[int, int, str, str]], number: int, content: msgspec.Raw
    ) -> msgspec.Raw:
        """What record `number` of a line does, with null for its large values."""
        operations = orjson.loads(memoryview(content))
        for place, operation in enumerate(operations):
            if type(operation[1]) is dict:
                operation[1] = {
                    name: self._keep_apart(key, where, (number, place, name), value)
                    for name, value in operation[1].items()
                }
        return msgspec.Raw(_encoder.encode(operations))

    def _keep_apart(
        self, key: ProfileKey, where: list[tuple[int, int, str, str]], place: tuple[int, int, str], value: Any
    ) -> Any:
        encoded = _encoder.encode(value)
        if len(encoded) <= LARGE_VALUE_BYTES:
            return value
        digest = blake2b(encoded, digest_size=16).hexdigest()
        self._values.append(LargeValue(*key, digest, _compress(encoded)))
        where.append((*place, digest))
        return None


_NONE: Final = Taken({}, [], [])


def lines_of(data: bytes) -> list[bytes]:
    """The lines of a block. Raises `CorruptStoreError`."""
    return _decompressed(data)[1:-1].split(b"\n")


def lines_with(data: bytes, profile_id: str) -> list[bytes]:
    """The lines of a block that are about one profile, from old to new. Raises `CorruptStoreError`."""
    lines = _decompressed(data)
    found = []
    begin = b"\n[%b," % _encoder.encode(profile_id)
    at = lines.find(begin)
    while at >= 0:
        end = lines.index(b"\n", at + 1)
        found.append(lines[at + 1 : end])
        at = lines.find(begin, end)
    return found


def id_of(line: bytes) -> str:
    """The id of the profile that a line is about."""
    end = line.index(b'"', 2)
    start = line[2:end]
    return _decode_head(line).id if b"\\" in start else start.decode()


def pack(project: int, group_key: str, lines: Sequence[bytes]) -> Block:
    """A block of lines."""
    data = _compress(b"\n%b\n" % b"\n".join(lines))
    return Block(project, group_key, id_of(lines[0]), data)


def change_of(line: bytes, value: Callable[[str], bytes]) -> Change:
    """What a line says; `value` gives a value that stands apart, compressed. Raises `CorruptStoreError`."""
    try:
        decoded = _decode_line(line)
        records = [
            (record, [(code, payload) for code, payload in orjson.loads(memoryview(record.content))])
            for record in decoded.records
        ]
        for number, place, name, digest in decoded.apart:
            content = orjson.loads(_decompressed(value(digest)))
            target = decoded.taken[0] if number == _TAKEN else records[number][1][place][1]
            target[name] = content
    except (msgspec.MsgspecError, ValueError, LookupError, TypeError) as error:
        raise CorruptStoreError(f"a line of the history cannot be read: {error}") from error
    return Change(
        decoded.existed, Taken(*decoded.taken), tuple(_applied(record, ops) for record, ops in records)
    )


def span_of(line: bytes) -> tuple[int, int]:
    """The positions of a line's first and last record. Raises `CorruptStoreError`."""
    try:
        records = _decode_line(line).records
    except msgspec.MsgspecError as error:
        raise CorruptStoreError(f"a line of the history cannot be read: {error}") from error
    return records[0].position, records[-1].position


def line_since(line: bytes, position: int) -> bytes | None:
    """What is left of a line without the records below a position; None where that is nothing.

    What stood below is to be forgotten: the profile begins with what is left. Raises `CorruptStoreError`.
    """
    try:
        decoded = _decode_line(line)
    except msgspec.MsgspecError as error:
        raise CorruptStoreError(f"a line of the history cannot be read: {error}") from error
    gone = sum(record.position < position for record in decoded.records)
    if not gone:
        return line
    if gone == len(decoded.records):
        return None
    apart = [
        (number - gone, place, name, digest)
        for number, place, name, digest in decoded.apart
        if number >= gone
    ]
    return _encoder.encode(_Line(decoded.id, False, ({}, [], []), decoded.records[gone:], apart))


def digests_of(line: bytes) -> set[str]:
    """The digests of the values of a line that stand apart. Raises `CorruptStoreError`."""
    try:
        return {digest for _, _, _, digest in _decode_line(line).apart}
    except msgspec.MsgspecError as error:
        raise CorruptStoreError(f"a line of the history cannot be read: {error}") from error


def _applied(record: HistoryRecord, operations: list[tuple[int, Any]]) -> Applied:
    endpoint, _, sdk = record.source.partition(" ")
    return Applied(
        position=record.position,
        time_ms=record.time_ms,
        endpoint=endpoint,
        sdk=sdk,
        operations=tuple(operations),
        record_ms=record.record_ms,
        flags=record.flags,
        geo=record.geo,
    )


def _compress(data: bytes) -> bytes:
    """By a compressor of this thread's own: to make one takes two to three times as long as a small block."""
    compressor: zstandard.ZstdCompressor | None = getattr(_OF_THREAD, "compressor", None)
    if compressor is None:
        compressor = _OF_THREAD.compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    return compressor.compress(data)


def _decompressed(data: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=BLOCK_LIMIT_BYTES)
    except zstandard.ZstdError as error:
        raise CorruptStoreError(f"a block of the history cannot be read: {error}") from error
