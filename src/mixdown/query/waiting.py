"""Read your writes (DESIGN §1.5, G4): a read waits until the fold has passed the log's head.

What enters: a store and a bound in milliseconds. What leaves: how many records the answer is still
behind, 0 nearly always. It must never wait past its bound, nor hold a thread while it waits.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from mixdown.store.protocols import Store

FIRST_PAUSE_S: Final = 0.0005
LONGEST_PAUSE_S: Final = 0.003
PAUSE_GROWTH: Final = 1.4


class FoldWatch:
    """Waits for the fold on behalf of all reads of one worker: however many wait, one looks.

    Belongs to one event loop; `executor` runs what blocks.
    """

    def __init__(self, store: Store, executor: Executor) -> None:
        self._store = store
        self._executor = executor
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._looking: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE_S

    async def wait(self, bound_ms: int) -> int:
        """Wait until the fold has passed the log's head as it stands now; how many records it is behind.

        Returns 0 as soon as the watermark reaches that head, or what is still missing once `bound_ms`
        have passed (0: looks once and does not wait). Raises `StoreError`.
        """
        loop = asyncio.get_running_loop()
        head, watermark = await loop.run_in_executor(self._executor, self._places)
        if watermark >= head or bound_ms <= 0:
            return max(0, head - watermark)
        passed = loop.create_future()
        self._waiting[passed] = head
        self._pause = FIRST_PAUSE_S  # whoever came last is most likely served next
        if self._looking is None:
            self._looking = loop.create_task(self._look())
        try:
            await asyncio.wait_for(passed, bound_ms / 1000)
        except TimeoutError:
            watermark = await loop.run_in_executor(self._executor, self._store.state.watermark)
            return max(0, head - watermark)
        finally:
            self._waiting.pop(passed, None)
            if not self._waiting and self._looking is not None:
                self._looking.cancel()
                self._looking = None
        return 0

    async def _look(self) -> None:
        """Look at the watermark as long as anybody waits, at growing intervals."""
        loop = asyncio.get_running_loop()
        try:
            while True:  # the last read that waited ends it
                await asyncio.sleep(self._pause)
                self._pause = min(self._pause * PAUSE_GROWTH, LONGEST_PAUSE_S)
                watermark = await loop.run_in_executor(self._executor, self._store.state.watermark)
                self._settle([passed for passed, head in self._waiting.items() if head <= watermark])
        except Exception as error:  # noqa: BLE001 - whatever it is, each read that waits must be told
            self._looking = None
            self._settle(list(self._waiting), error)

    def _settle(self, those: list[asyncio.Future[None]], error: Exception | None = None) -> None:
        for passed in those:
            del self._waiting[passed]
            if passed.done():
                continue
            if error is None:
                passed.set_result(None)
            else:
                passed.set_exception(error)

    def _places(self) -> tuple[int, int]:
        """The log's head and the fold's watermark, in this order."""
        return self._store.log.head(), self._store.state.watermark()
