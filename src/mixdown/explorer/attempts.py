"""How often somebody may fail to sign in: bounded tables of recent failures. No clock of its own.

An address and a name enter; whether another attempt may be made leaves. Ten failures a minute are allowed
for one name from one address, so that who mistypes behind a shared proxy locks out nobody else; a hundred
for an address as a whole. It must never keep more than a fixed number of either.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import Final

FAILURES_ALLOWED: Final = 10
ADDRESS_FAILURES_ALLOWED: Final = 100
WINDOW_S: Final = 60
ADDRESSES_LIMIT: Final = 4096


class Attempts:
    """Counts failures; who failed longest ago is forgotten first."""

    def __init__(self) -> None:
        self._named = _Failures(FAILURES_ALLOWED)
        self._addresses = _Failures(ADDRESS_FAILURES_ALLOWED)

    def may_try(self, address: str, name: str, *, now_s: int) -> bool:
        """Whether this name, and this address, have failed seldom enough within the last minute."""
        return self._named.may_try(_key(address, name), now_s) and self._addresses.may_try(
            _key(address), now_s
        )

    def failed(self, address: str, name: str, *, now_s: int) -> None:
        """Count a failure; of an attempt under way, before it is known, so that many at once are counted."""
        self._named.failed(_key(address, name), now_s)
        self._addresses.failed(_key(address), now_s)

    def forgive(self, address: str, name: str) -> None:
        """Take a failure back: the attempt was none."""
        self._named.forgive(_key(address, name))
        self._addresses.forgive(_key(address))


class _Failures:
    """The times of the last failures of each key, `allowed` of them at most."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._times: OrderedDict[bytes, list[int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def may_try(self, key: bytes, now_s: int) -> bool:
        recent = [at for at in self._times.get(key, ()) if now_s - at < WINDOW_S]
        return len(recent) < self._allowed

    def failed(self, key: bytes, now_s: int) -> None:
        times = self._times.setdefault(key, [])
        times.append(now_s)
        del times[: -self._allowed]
        self._times.move_to_end(key)
        if len(self._times) > ADDRESSES_LIMIT:
            self._times.popitem(last=False)

    def forgive(self, key: bytes) -> None:
        times = self._times.get(key, [])
        del times[-1:]
        if not times:
            self._times.pop(key, None)


def _key(*parts: str) -> bytes:
    """A short key of texts that may be long: names come from whoever asks."""
    return sha256("\0".join(parts).encode("utf-8", "replace")).digest()[:16]
