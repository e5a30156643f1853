"""The browser's resend rule: which requests are one call (DESIGN G2).

Chromium sends a POST again by itself when a kept-alive connection is reset before an answer came. Such a
pair has the same URL, `_` parameter and body, and so have two calls that a page made in one millisecond.
They differ in one fact: whether the first was answered. So a request whose twin is in hand waits until the
twin's reply is written or can never be; only then is it a call of its own or the same call again. Digests
enter; calls with keys leave, and the fold applies a key once. It never decides whether something was stored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mixdown.store.calls import Call, CallTable, Verdict

_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.05
WAIT_LIMIT_S: Final = 120.0
"""More than any reply takes; past it a request is taken as a call of its own."""


class Resends:
    """One worker's part: twins in this worker take turns; for those in other workers the first one polls."""

    def __init__(self, folder: Path | None, now_ms: Callable[[], int]) -> None:
        self._table = CallTable(folder)
        self._now_ms = now_ms
        self._turns: dict[bytes, deque[asyncio.Future[None]]] = {}

    def close(self) -> None:
        """Give up the table."""
        self._table.close()

    def digest(self, *parts: bytes) -> bytes:
        """What a request with these parts is recognised by."""
        return self._table.digest(*parts)

    async def claim(self, digest: bytes) -> Call | None:
        """Take a request in hand, once its twin is done; None: it cannot be tracked.

        Each `Call` must come back through `settle`.
        """
        came_ms = self._now_ms()
        turns = self._turns.get(digest)
        if turns is not None:
            await self._wait_for_turn(turns, digest)
        else:
            self._turns[digest] = deque()
        try:
            found = self._table.claim(digest, came_ms)
            if found is Verdict.WAIT:
                found = await self._poll(digest, came_ms)
        except BaseException:
            self._pass_on(digest)
            raise
        if isinstance(found, Call):
            return found
        self._pass_on(digest)
        return None

    def settle(self, call: Call, *, answered: bool) -> None:
        """The reply to a call was written to a connection that lived, or was not."""
        self._table.settle(call, answered=answered)
        self._pass_on(call.digest)

    async def _wait_for_turn(self, turns: deque[asyncio.Future[None]], digest: bytes) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on(digest)
            raise

    async def _poll(self, digest: bytes, came_ms: int) -> Call | Verdict:
        """Wait for a twin that another worker has in hand."""
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_LIMIT_S
        pause_s = _FIRST_PAUSE_S
        while loop.time() < until:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            found = self._table.claim(digest, came_ms)
            if found is not Verdict.WAIT:
                return found
        return Verdict.UNTRACKED

    def _pass_on(self, digest: bytes) -> None:
        """The next twin's turn."""
        turns = self._turns[digest]
        while turns:
            turn = turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._turns[digest]
