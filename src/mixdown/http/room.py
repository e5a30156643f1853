"""How much decoded text one worker holds at a time (DESIGN G7).

Ten kilobytes of gzip may unfold to ten megabytes of JSON, and those to hundreds of megabytes of
values, which stay until their records are on disk. Requests that find no room wait their turn before
they are decoded; nothing is refused here. Small requests have room of their own, so that they never
wait for large ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

DECODED_LIMIT_BYTES: Final = 16 * 1024 * 1024
SMALL_BYTES: Final = 65_536
_WOKEN_AT_ONCE: Final = 4


class Room:
    """Counts decoded bytes: `wait`, decode, `take`, and `leave` in any case. For one event loop.

    A request that may unfold to `SMALL_BYTES` at most may pass the limit once over.
    """

    def __init__(self, limit_bytes: int = DECODED_LIMIT_BYTES) -> None:
        self.held_bytes = 0
        self._limit_bytes = limit_bytes
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._small: deque[asyncio.Future[None]] = deque()

    async def wait(self, weight_bytes: int = SMALL_BYTES + 1) -> None:
        """Return while less than the limit is held: what is decoded then may pass it by one body.

        `weight_bytes` is what the request may unfold to, at most and roughly.
        """
        small = weight_bytes <= SMALL_BYTES
        limit = 2 * self._limit_bytes if small else self._limit_bytes
        while self.held_bytes >= limit:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._small if small else self._waiting).append(turn)
            await turn

    @property
    def has_some(self) -> bool:
        """Whether a small request may be decoded at once."""
        return self.held_bytes < self._limit_bytes

    def take(self, size_bytes: int) -> None:
        """So much was decoded."""
        self.held_bytes += size_bytes

    def leave(self, size_bytes: int) -> None:
        """So much is not needed any more (0 where nothing was taken)."""
        self.held_bytes -= size_bytes
        for waiting in (self._small, self._waiting):
            for _ in range(min(_WOKEN_AT_ONCE, len(waiting))):
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
