"""The connections of one worker, so that ten thousand of them cost a busy client nothing.

Connections enter and leave; their time limits are looked at a part at a time, so that no look takes
long; and when there are too many, those that have been idle longest make room. It answers nobody.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import Final, Protocol

PARTS: Final = 10
"""A look at one part each tenth of a second sees every connection once a second."""
SPARED_S: Final = 1.0
"""A connection that was used within so many seconds is not closed to make room."""
LOOK_EVERY_S: Final = 0.5
_LOOK_SHARE: Final = 20


class Connection(Protocol):
    """One client's connection, as `server.protocol.BoundedProtocol` is."""

    part: int

    def expire(self, now: float) -> None:
        """End it if the client has taken too long."""

    def idle_since(self) -> float:
        """Since when it waits for a request to begin; infinity where it does not."""

    def make_room(self) -> None:
        """Close it without a word."""


class Crowd:
    """All connections of a worker's event loop, and nothing else; times are the loop's."""

    def __init__(self) -> None:
        self._parts: tuple[set[Connection], ...] = tuple(set() for _ in range(PARTS))
        self._joined = 0
        self._idlest: deque[Connection] = deque()
        self._looked = -math.inf

    def join(self, connection: Connection) -> None:
        """A connection was made."""
        connection.part = self._joined % PARTS
        self._joined += 1
        self._parts[connection.part].add(connection)

    def leave(self, connection: Connection) -> None:
        """A connection is gone."""
        self._parts[connection.part].discard(connection)

    def expire(self, turn: int, now: float) -> None:
        """Look at the time limits of the part whose turn it is."""
        for connection in list(self._parts[turn % PARTS]):
            connection.expire(now)

    def make_room(self, now: float) -> bool:
        """Close one of the connections that are idle longest; False where none has been idle for a while."""
        if not self._idlest and now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            everyone = [connection for part in self._parts for connection in part]
            some = max(1, len(everyone) // _LOOK_SHARE)
            self._idlest.extend(heapq.nsmallest(some, everyone, key=_idle_since))
        while self._idlest:
            connection = self._idlest.popleft()
            if now - connection.idle_since() >= SPARED_S:
                connection.make_room()
                return True
        return False


def _idle_since(connection: Connection) -> float:
    return connection.idle_since()
