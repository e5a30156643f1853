"""Those who listen to what arrives at one worker, and the task that tells them.

Listeners come and go on one event loop; a thread of their own reads the log for all of them, ten times a
second, and rests when nobody listens. Each has a bounded queue: who does not take what it is sent loses it,
and is told.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from mixdown.model.errors import OverloadedError
from mixdown.query.live.reader import Hearing, Rendering, TailReader
from mixdown.query.live.wanted import Places, Share, Wanted
from mixdown.store.protocols import Store

PAUSE_S: Final = 0.1
LISTENERS_LIMIT: Final = 64
LISTENERS_OF_ONE: Final = 32
"""So many of them are one account's, so that none can keep all others out."""
QUEUE_MESSAGES: Final = 2_000
QUEUE_BYTES: Final = 4 * 1024 * 1024
ALLOWED_EVERY_S: Final = 2.0
TOO_MANY: Final = f"too many listeners at a time, at most {LISTENERS_LIMIT}: close another live view first"
TOO_MANY_OF_ONE: Final = (
    f"too many listeners of this account, at most {LISTENERS_OF_ONE}: close another live view first"
)
CLOSING: Final = "the server is going down"
NOT_ALLOWED: Final = "these credentials do not hold any more"
FAILED: Final = "the data cannot be read at the moment"
_log = structlog.get_logger(__name__)


class Listener:
    """One who listens: what was found for it and not yet taken. For one event loop."""

    def __init__(self, share: Share, rendering: Rendering, allowed: Callable[[], bool], who: str) -> None:
        self.who = who
        self.hearing = Hearing(share, rendering, self._dropped_so_far)
        self.allowed = allowed
        self.cursor = Places()
        self.gap = False
        self.begun = False
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._some = asyncio.Event()
        self._ended = ""

    @property
    def ended(self) -> str:
        """Why there will be no more; "" while there may be."""
        return self._ended

    async def take(self, wait_s: float) -> bytes:
        """What has been found, all of it; b"" where nothing was within `wait_s`, or it has ended."""
        if not self._waiting and not self._ended:
            try:
                await asyncio.wait_for(self._some.wait(), wait_s)
            except TimeoutError:
                return b""
        self._some.clear()
        found = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        return found

    def put(self, messages: list[bytes]) -> None:
        """Keep what was found until it is taken, as far as there is room."""
        for message in messages:
            full = len(self._waiting) >= QUEUE_MESSAGES or self._waiting_bytes + len(message) > QUEUE_BYTES
            if full and self._waiting:
                self._dropped += 1
            else:
                self._waiting.append(message)
                self._waiting_bytes += len(message)
        if messages:
            self._some.set()

    def end(self, why: str) -> None:
        """There will be no more."""
        self._ended = self._ended or why
        self._some.set()

    def _dropped_so_far(self) -> int:
        return self._dropped


class LiveTail:
    """Tells all listeners of one worker what arrives. For one event loop."""

    def __init__(self, store: Store, *, pause_s: float = PAUSE_S) -> None:
        self._reader = TailReader(store)
        self._pause_s = pause_s
        self._listeners: list[Listener] = []
        self._thread = ThreadPoolExecutor(1, "live")
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def listen(
        self,
        wanted: Wanted,
        rendering: Rendering,
        *,
        rate: int,
        after: Places | None,
        allowed: Callable[[], bool],
        who: str,
    ) -> Listener:
        """A new listener, who hears what arrives from now on, or from `after` on; `leave` must follow.

        `allowed` is asked every other second, in a thread, whether it may go on. Raises `OverloadedError`
        where too many listen, of all or of those who are `who`, and `StoreError`.
        """
        if self._closed:
            raise OverloadedError(CLOSING, retry_after_s=1)
        if len(self._listeners) >= LISTENERS_LIMIT:
            raise OverloadedError(TOO_MANY, retry_after_s=1)
        if sum(other.who == who for other in self._listeners) >= LISTENERS_OF_ONE:
            raise OverloadedError(TOO_MANY_OF_ONE, retry_after_s=1)
        listener = Listener(Share(wanted, rate=rate, now_s=time.monotonic()), rendering, allowed, who)
        self._listeners.append(listener)  # its place is taken; it hears nothing before it has begun
        loop = asyncio.get_running_loop()
        try:
            listener.put(await loop.run_in_executor(self._thread, self._begin, listener, after))
        except BaseException:
            self.leave(listener)
            raise
        if self._task is None:
            self._task = loop.create_task(self._tell())  # which does nothing where `close` came meanwhile
        return listener

    def leave(self, listener: Listener) -> None:
        """A listener is gone."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def close(self) -> None:
        """End all listeners, and whoever comes later."""
        self._closed = True
        for listener in self._listeners:
            listener.end(CLOSING)
        self._thread.shutdown(wait=False)

    def _begin(self, listener: Listener, after: Places | None) -> list[bytes]:
        if not any(other.begun for other in tuple(self._listeners)):
            self._reader.rest()
        listener.cursor, listener.gap, found = self._reader.begin(listener.hearing, after)
        listener.begun = True
        return found

    async def _tell(self) -> None:
        """Look again and again, as long as anybody listens."""
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        try:
            while self._listeners and not self._closed:
                ask = loop.time() - asked_s >= ALLOWED_EVERY_S
                if ask:
                    asked_s = loop.time()
                for listener, messages in await loop.run_in_executor(self._thread, self._look, ask):
                    if messages is None:
                        listener.end(NOT_ALLOWED)
                    else:
                        listener.put(messages)
                await asyncio.sleep(self._pause_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who listen must be told
            _log.error("the live view failed", exc_info=error)
            for listener in self._listeners:
                listener.end(FAILED)
        finally:
            self._task = None

    def _look(self, ask: bool) -> list[tuple[Listener, list[bytes] | None]]:  # noqa: FBT001 - of a thread
        """What there is for each listener; None for one who may not listen any more."""
        begun = [listener for listener in tuple(self._listeners) if listener.begun]
        heard = self._reader.look([listener.hearing for listener in begun], time.monotonic())
        return [
            (listener, None if ask and not listener.allowed() else messages)
            for listener, messages in zip(begun, heard, strict=True)
        ]
