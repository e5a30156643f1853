"""Idempotency keys in memory: those of retries and of browsers' calls, each with its own window."""

from __future__ import annotations

from collections.abc import Sequence

from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.store import bounds
from mixdown.store.chunk import Outcome
from mixdown.store.privacy import redact


class MemoryKeys:
    """Keys with their chunk times and outcomes; whoever uses it sees to it that one thread does at a time."""

    def __init__(self) -> None:
        self._keys: dict[bytes, tuple[int, Outcome | None]] = {}

    def take_in(self, other: MemoryKeys) -> None:
        """Keep another's keys as well."""
        self._keys.update(other._keys)

    def find(self, keys: Sequence[bytes], since_ms: int) -> dict[bytes, Outcome | None]:
        """Those of `keys` that were kept at or after chunk time `since_ms`, with their outcomes."""
        return {
            key: self._keys[key][1] for key in keys if key in self._keys and self._keys[key][0] >= since_ms
        }

    def write(self, keys: Sequence[tuple[bytes, int, Outcome | None]], now_ms: int) -> None:
        """Keep (key, chunk time, outcome)s and drop what has left the window."""
        for key, time_ms, outcome in keys:
            self._keys[key] = (time_ms, outcome)
        self._drop(now_ms)

    def redact(self, keys: Sequence[bytes]) -> None:
        """Take from the outcomes of these keys what they quote."""
        for key in keys:
            time_ms, outcome = self._keys.get(key, (0, None))
            if outcome is not None:
                self._keys[key] = (time_ms, redact(outcome))

    def window(self) -> tuple[int, int]:
        """How many keys of retries are held, and the chunk time of the oldest (0 if none)."""
        times = [at for key, (at, _) in self._keys.items() if len(key) != bounds.CALL_KEY_BYTES]
        return len(times), min(times, default=0)

    def _drop(self, now_ms: int) -> None:
        calls = [key for key in self._keys if len(key) == bounds.CALL_KEY_BYTES]
        retries = [key for key in self._keys if len(key) != bounds.CALL_KEY_BYTES]
        for keys, life_ms, bound in (
            (calls, bounds.CALL_KEY_LIFE_MS, bounds.CALL_KEYS_HELD),
            (retries, KEY_WINDOW_MS, bounds.KEYS_HELD),
        ):
            oldest_first = sorted(keys, key=lambda key: self._keys[key][0])
            over = len(oldest_first) - bound
            for place, key in enumerate(oldest_first):
                if place >= over and self._keys[key][0] >= now_ms - life_ms:
                    break
                del self._keys[key]
