"""Links of devices and users that stand in the log already, so that they are not appended with every event.

SDKs name a device and its user on each event. A pair that this worker appended a moment ago is left out: the
fold would step over it, and a chunk of events without links it need not read at all. What parts ids again
(an unmerge, an erasure) makes all pairs unknown, in the turn at the log that follows it; and none is known
for longer than two minutes, so that a link that was lost with a damaged chunk comes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

HELD: Final = 65_536
"""Pairs that are remembered, twice as many at most."""
CHARS: Final = 200
"""Longer pairs are appended each time: the memory has a bound."""
HELD_S: Final = 60.0
"""So long a pair is young; then it is old for as long."""


class Known(NamedTuple):
    """The pairs that stand in the log behind position `parted`: look there before leaving one out."""

    parted: int
    young: set[str]
    old: set[str]


class SentLinks:
    """What one worker knows of the links in the log. Its commit thread changes it, any thread reads it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s = clock()
        self.known = Known(-1, set(), set())
        """One value, replaced as a whole: whoever prepares a request holds on to one."""

    def as_of(self, parted: int) -> None:
        """In a turn at the log: ids were last parted at this position (`Turn.parted`)."""
        if self.known.parted != parted:
            self._renew(Known(parted, set(), set()))
        elif self._clock() - self._since_s >= HELD_S or len(self.known.young) >= HELD:
            self._renew(Known(parted, set(), self.known.young))

    def appended(self, names: Iterable[str]) -> None:
        """In the same turn, once they are on disk: these links stand in the log."""
        self.known.young.update([name for name in names if len(name) <= CHARS])

    def _renew(self, known: Known) -> None:
        self._since_s = self._clock()
        self.known = known


def link_name(project: int, device: str, user: str) -> str:
    """What tells a link from others; no id holds a NUL."""
    return f"{project}\0{device}\0{user}"
