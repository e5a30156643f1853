"""Ids as keys of PostgreSQL's indexes, and arrays of many values as one parameter.

Ids have no bound, but what an index holds has one, of 2,700 bytes. A longer id than `KEY_BYTES` has a key
that no other id can have: its first kilobyte, then a digest. Ids are sorted by their keys, which is by code
point, but for ids that are alike in their first kilobyte. What PostgreSQL cannot hold (NUL, lone
surrogates) no stored id has: it has no key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Final

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

KEY_BYTES: Final = 1024
"""Ids up to this length are their own keys; all other keys are longer."""
_SHORT_CHARS: Final = KEY_BYTES // 4
_KEPT_BYTES: Final = KEY_BYTES - 8
_DIGEST_BYTES: Final = 16
_LENGTH: Final = Struct(">i").pack
_HEAD: Final = Struct(">iiIii").pack
_TEXT_OID: Final = 25
_TEXT_ARRAY_OID: Final = 1009
_BYTEA_OID: Final = 17
_BYTEA_ARRAY_OID: Final = 1001


def key_of(one: str) -> str | None:
    """The key of an id; None of one that cannot be stored."""
    if one.isascii() and len(one) <= KEY_BYTES and "\0" not in one:
        return one
    if "\0" in one:
        return None
    try:
        encoded = one.encode()
    except UnicodeEncodeError:
        return None
    return one if len(encoded) <= KEY_BYTES else _long_key(encoded)


def keys_of(ids: Sequence[str]) -> Sequence[str | None]:
    """The keys of ids: of nearly all of them one look tells that they are their own."""
    together = "".join(ids)
    if together.isascii() and "\0" not in together and max(map(len, ids), default=0) <= KEY_BYTES:
        return ids
    return [key_of(one) for one in ids]


def key_for_write(one: str) -> str:
    """The key of an id that the model has cleaned."""
    if len(one) <= _SHORT_CHARS:
        return one
    encoded = one.encode()
    return one if len(encoded) <= KEY_BYTES else _long_key(encoded)


def long_of(one: str) -> str | None:
    """What stands beside the key: the id, where it is not its own key."""
    return one if len(one) > _SHORT_CHARS and len(one.encode()) > KEY_BYTES else None


def cut(one: str) -> str:
    """The beginning of an id, of at most a kilobyte: never behind that of an id that is behind it."""
    encoded = one.encode("utf-8", "replace")
    return one if len(encoded) <= _KEPT_BYTES else encoded[:_KEPT_BYTES].decode("utf-8", "ignore")


def _long_key(encoded: bytes) -> str:
    digest = blake2b(encoded, digest_size=_DIGEST_BYTES).hexdigest()
    key = encoded[:_KEPT_BYTES].decode("utf-8", "ignore") + digest
    assert len(key.encode()) > KEY_BYTES, "it could be an id"
    return key


class _Array:
    """Many values as the server reads them. No `bytes`: to make one of a kind of its own copies all again."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class TextArray(_Array):
    """A `text[]`."""

    __slots__ = ()

    @classmethod
    def of(cls, items: Sequence[bytes]) -> TextArray:
        """Of texts in UTF-8."""
        return cls(_array(_TEXT_OID, items))

    @classmethod
    def of_texts(cls, items: Iterable[str]) -> TextArray:
        """Of texts that can be stored."""
        return cls(_array(_TEXT_OID, [item.encode() for item in items]))


class ByteaArray(_Array):
    """A `bytea[]`."""

    __slots__ = ()

    @classmethod
    def of(cls, items: Sequence[bytes]) -> ByteaArray:
        """Of any bytes."""
        return cls(_array(_BYTEA_OID, items))


def _array(oid: int, items: Sequence[bytes]) -> bytes:
    # psycopg's own lists cost a call in Python for each item
    if not items:
        return _LENGTH(0) * 2 + _LENGTH(oid)
    parts = [_HEAD(1, 0, oid, len(items), 1)] * (2 * len(items) + 1)
    parts[1::2] = map(_LENGTH, map(len, items))
    parts[2::2] = items
    return b"".join(parts)


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: _Array) -> bytes:
        return obj.data


class _TextArrayDumper(_ArrayDumper):
    oid = _TEXT_ARRAY_OID


class _ByteaArrayDumper(_ArrayDumper):
    oid = _BYTEA_ARRAY_OID


psycopg.adapters.register_dumper(TextArray, _TextArrayDumper)
psycopg.adapters.register_dumper(ByteaArray, _ByteaArrayDumper)
