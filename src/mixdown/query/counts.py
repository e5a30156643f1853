"""How many profiles there are, without counting millions again for each look at a page.

A state, a project and a group key enter; a count leaves. It is exact as of the watermark that it was
counted at, or a little older where counting takes long: at most 20 times what counting took.
"""

from __future__ import annotations

import threading
import time
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from mixdown.store.protocols import State

KEPT_TIMES: Final = 20
COUNTS_KEPT: Final = 10_000


class _Counted(msgspec.Struct, frozen=True):
    """A count, at which watermark and when it was begun, and how long it took."""

    profiles: int
    watermark: int
    at_s: float
    took_s: float


_guard: Final = threading.Lock()
_counted: Final[WeakKeyDictionary[State, dict[tuple[int, str], _Counted]]] = WeakKeyDictionary()


def profiles_of(state: State, project: int, group_key: str) -> int:
    """How many users ("") or groups of a key a project has. Blocks. Raises `StoreError`."""
    with _guard:
        known = _counted.setdefault(state, {})
    watermark, now = state.watermark(), time.monotonic()
    last = known.get((project, group_key))
    if last is not None and (last.watermark == watermark or now - last.at_s < KEPT_TIMES * last.took_s):
        return last.profiles
    profiles = state.count(project, group_key)
    if len(known) >= COUNTS_KEPT:
        known.clear()
    known[project, group_key] = _Counted(profiles, watermark, now, time.monotonic() - now)
    return profiles
