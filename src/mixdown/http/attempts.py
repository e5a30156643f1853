"""How often somebody may fail to sign in: buckets of failures that all workers share. No clock of its own.

An address and a name enter; whether another attempt may be made leaves. Ten failures a minute are allowed
for one name from one address, so that who mistypes behind a shared proxy locks out nobody else; a hundred
for an address as a whole, and three hundred calls of the API with wrong credentials. An address of IPv6 is
its /64, of which one subscriber has all. It must never keep more than a fixed number of buckets.
"""

from __future__ import annotations

import ipaddress
import mmap
import os
import secrets
from hashlib import blake2b
from pathlib import Path
from typing import Final

from mixdown.http.rates import alone

FAILURES_ALLOWED: Final = 10
ADDRESS_FAILURES_ALLOWED: Final = 100
CALL_FAILURES_ALLOWED: Final = 300
WINDOW_S: Final = 60
BUCKETS: Final = 65_536
"""So many of each kind; a key's own is found by a hash that nobody outside can compute."""
_NAMED: Final = (0, FAILURES_ALLOWED)
_ADDRESS: Final = (1, ADDRESS_FAILURES_ALLOWED)
_CALLS: Final = (2, CALL_FAILURES_ALLOWED)
_KINDS: Final = 3
_SALT_BYTES: Final = 16
_FILE_BYTES: Final = _SALT_BYTES + _KINDS * BUCKETS * 8
_Kind = tuple[int, int]


class Attempts:
    """Counts failures, each bucket as the time at which it is full again.

    With a file, all processes that open it share them, one at a time.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._fd = -1
        memory: mmap.mmap | bytearray = bytearray(0)
        if file is None:
            memory = bytearray(_FILE_BYTES)
        else:
            self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._fd).st_size < _FILE_BYTES:
                os.ftruncate(self._fd, _FILE_BYTES)
            memory = mmap.mmap(self._fd, _FILE_BYTES)
        view = memoryview(memory)
        with alone(self._fd):
            if not any(view[:_SALT_BYTES]):
                view[:_SALT_BYTES] = secrets.token_bytes(_SALT_BYTES)
        self._salt = bytes(view[:_SALT_BYTES])
        self._full_at = view[_SALT_BYTES:].cast("d")

    def may_try(self, address: str, name: str, *, now_s: float) -> bool:
        """Whether this name, and this address, have failed seldom enough within the last minute."""
        where = network_of(address)
        with alone(self._fd):
            return self._has_room(_NAMED, now_s, where, name) and self._has_room(_ADDRESS, now_s, where)

    def failed(self, address: str, name: str, *, now_s: float) -> None:
        """Count a failure; of an attempt under way, before it is known, so that many at once are counted."""
        where = network_of(address)
        with alone(self._fd):
            self._put(_NAMED, now_s, 1, where, name)
            self._put(_ADDRESS, now_s, 1, where)

    def forgive(self, address: str, name: str, *, now_s: float) -> None:
        """Take a failure back: the attempt was none."""
        where = network_of(address)
        with alone(self._fd):
            self._put(_NAMED, now_s, -1, where, name)
            self._put(_ADDRESS, now_s, -1, where)

    def may_call(self, address: str, *, now_s: float) -> bool:
        """Whether calls of the API from this address have failed seldom enough."""
        with alone(self._fd):
            return self._has_room(_CALLS, now_s, network_of(address))

    def call_failed(self, address: str, *, now_s: float) -> None:
        """Count a call whose credentials were wrong."""
        with alone(self._fd):
            self._put(_CALLS, now_s, 1, network_of(address))

    def _has_room(self, kind: _Kind, now_s: float, *key: str) -> bool:
        return self._filled(self._index(kind, key), now_s) + WINDOW_S / kind[1] <= now_s + WINDOW_S + 1e-6

    def _put(self, kind: _Kind, now_s: float, count: int, *key: str) -> None:
        index = self._index(kind, key)
        self._full_at[index] = self._filled(index, now_s) + count * WINDOW_S / kind[1]

    def _filled(self, index: int, now_s: float) -> float:
        """Since when a bucket is full again, or when it will be; a clock that was put back costs a minute."""
        return min(max(self._full_at[index], now_s), now_s + WINDOW_S)

    def _index(self, kind: _Kind, key: tuple[str, ...]) -> int:
        text = "\0".join(key).encode("utf-8", "replace")
        digest = blake2b(text, digest_size=8, key=self._salt).digest()
        return kind[0] * BUCKETS + int.from_bytes(digest, "big") % BUCKETS


def network_of(address: str) -> str:
    """What failures of an address count for: the address, or of IPv6 its /64."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((known, 64), strict=False))
