"""Bodies out of their compression, in bounded memory and time.

Bytes as they came enter; plain bytes leave, or `BodyError`: 413 past the limit (bombs included), 400
for what is broken or in an encoding that nobody here knows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO, Any, Final

from mixdown.model import texts
from mixdown.model.errors import BodyError

GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_BITS: Final = 31
_ZLIB_BITS: Final = 15
_RAW_BITS: Final = -15
_SLICE_BYTES: Final = 65536
_PIECE_BYTES: Final = 256 * 1024
# A gzip file may hold many members, and each costs a new decoder: tiny ones would take minutes.
_MEMBER_LIMIT: Final = 1000
_IDENTITY: Final = frozenset({"", "identity"})
_DEFLATE: Final = frozenset({"deflate", "zlib"})


def decompress(body: bytes, content_encoding: str, limit_bytes: int) -> bytes:
    """The plain body, at most `limit_bytes` long (contract ingestion §2.2 step 1).

    gzip is known by its header or by its first bytes; an empty header means identity.
    Raises `BodyError`.
    """
    encoding = content_encoding.strip().lower()
    if "gzip" in encoding or body[:2] == GZIP_MAGIC:
        return _gunzip(body, limit_bytes) if body else body
    if encoding in _IDENTITY:
        return body
    if encoding in _DEFLATE:
        return _inflate(body, limit_bytes) if body else body
    raise BodyError(texts.ENCODING_UNKNOWN.format(encoding=encoding[:64]), status=400)


def too_large(limit_bytes: int) -> BodyError:
    """The error for a body past the limit (contract ingestion §6.2)."""
    return BodyError(texts.BODY_TOO_LARGE.format(limit=limit_bytes), status=413)


def _broken() -> BodyError:
    return BodyError(texts.BODY_NOT_GZIP, status=400)


def _gunzip(body: bytes, limit_bytes: int) -> bytes:
    plain: list[bytes] = []
    size = at = members = 0
    decoder = None
    rest = b""
    while at < len(body) or rest:
        if not rest:
            rest = body[at : at + _SLICE_BYTES]
            at += _SLICE_BYTES
        if decoder is None:
            rest = rest.lstrip(b"\0") if members else rest  # zeros may pad a file after its last member
            if not rest:
                continue
            members += 1
            if members > _MEMBER_LIMIT:
                raise _broken()
            decoder = zlib.decompressobj(_GZIP_BITS)
        try:
            piece = decoder.decompress(rest, limit_bytes - size + 1)
        except zlib.error:
            raise _broken() from None
        size += len(piece)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        plain.append(piece)
        rest = decoder.unused_data
        if decoder.eof:
            decoder = None
    if decoder is not None:
        raise _broken()
    return plain[0] if len(plain) == 1 else b"".join(plain)


def _inflate(body: bytes, limit_bytes: int) -> bytes:
    for bits in (_ZLIB_BITS, _RAW_BITS):  # "deflate" means zlib by the book, and raw deflate for some clients
        decoder = zlib.decompressobj(bits)
        try:
            plain = decoder.decompress(body, limit_bytes + 1)
        except zlib.error:
            continue
        if len(plain) > limit_bytes:
            raise too_large(limit_bytes)
        if decoder.eof:
            return plain
    raise _broken()


def pieces_of(file: IO[bytes], limit_bytes: int, *, zipped: bool = False) -> Iterator[bytes]:
    """What a file holds, unzipped where it is zipped, a piece at a time. Raises `BodyError` (400, 413)."""
    file.seek(0)
    first = file.read(len(GZIP_MAGIC))
    file.seek(0)
    size = 0
    plain = iter(lambda: file.read(_PIECE_BYTES), b"")
    for piece in _unzipped(plain) if first == GZIP_MAGIC or (zipped and first) else plain:
        size += len(piece)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        yield piece


def _unzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What is in a gzip file of one member or several; a piece of it at a time."""
    decoder: Any = None
    members = 0
    for piece in pieces:
        rest = piece
        while rest:
            if decoder is None:
                members += 1
                if members > _MEMBER_LIMIT:
                    raise _broken()
                decoder = zlib.decompressobj(_GZIP_BITS)
            try:
                yield decoder.decompress(rest, _PIECE_BYTES)
            except zlib.error:
                raise _broken() from None
            rest = decoder.unconsumed_tail
            if decoder.eof:
                rest, decoder = decoder.unused_data.lstrip(b"\0"), None
    if decoder is not None:
        raise _broken()
