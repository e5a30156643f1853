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
LONGEST_PAUSE_S: Final = 0.010
PAUSE_GROWTH: Final = 1.6


async def wait_for_fold(store: Store, executor: Executor, *, bound_ms: int) -> int:
    """Wait until the fold has passed the log's head as it stands now; how many records it is behind.

    Returns 0 as soon as the watermark reaches that head, or what is still missing once `bound_ms`
    have passed (0: looks once and does not wait). Raises `StoreError`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + bound_ms / 1000
    head, watermark = await loop.run_in_executor(executor, _places, store)
    pause = FIRST_PAUSE_S
    while watermark < head:
        left = deadline - loop.time()
        if left <= 0:
            break
        await asyncio.sleep(min(pause, left))
        pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_S)
        watermark = await loop.run_in_executor(executor, store.state.watermark)
    return max(0, head - watermark)


def _places(store: Store) -> tuple[int, int]:
    """The log's head and the fold's watermark, in this order."""
    return store.log.head(), store.state.watermark()
