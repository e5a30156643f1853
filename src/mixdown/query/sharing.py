"""Equal questions that come while one is being answered share the next answer.

A key and a way to begin enter; the answer leaves. An answer that was begun before a question came is
never given to it, so whoever asks sees all that he could have seen alone. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """At most one answer to each question is being made, and at most one more waits to be begun."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[T]] = {}
        self._next: dict[Hashable, asyncio.Task[T]] = {}

    async def answer(self, key: Hashable, begin: Callable[[], Awaitable[T]]) -> T:
        """What `begin` gives, called now or once the answer to `key` that is being made is done."""
        task = self._next.get(key)
        if task is None:
            before = self._running.get(key)
            task = asyncio.ensure_future(self._make(key, begin, before))
            (self._running if before is None else self._next)[key] = task
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    async def _make(
        self, key: Hashable, begin: Callable[[], Awaitable[T]], before: asyncio.Task[T] | None
    ) -> T:
        if before is not None:
            with suppress(Exception):  # its own askers are told
                await asyncio.shield(before)
            self._running[key] = self._next.pop(key)
        own = self._running[key]
        try:
            return await begin()
        finally:
            if self._running.get(key) is own:
                del self._running[key]


def _retrieve(task: asyncio.Task[T]) -> None:
    """So that nothing is logged where all who asked went away."""
    task.cancelled() or task.exception()
