"""Partitions folded side by side: what one waits for, a database far away, the others use.

Enters: the partitions that a process folds. Leaves: a step of each for which something waits. Where it folds
one alone, nothing here starts a thread or looks anything up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

from mixdown.model.errors import NodeDownError, StoreError
from mixdown.store.protocols import Store

AT_ONCE: Final = 4
"""So many steps are taken at the same time: each holds what it folds, and two connections."""


class Stepping(Protocol):
    """One partition as it is folded here."""

    store: Store
    """The store as this partition sees it."""

    def step(self) -> int:
        """Fold once; how many records. Raises `LeaseLostError`."""

    def waits(self, head: int) -> bool:
        """Whether there is something to fold, when the log ends at `head`."""


_Part = TypeVar("_Part", bound=Stepping)
Step = Callable[[], int]


class Steps:
    """Takes a step in each of several partitions. For one thread; `close` waits for what is under way."""

    def __init__(self, store: Store, failed: Callable[[Exception], None]) -> None:
        self._store = store
        self._failed = failed
        self._threads: ThreadPoolExecutor | None = None
        self._blind = False

    def of(self, parts: Sequence[_Part]) -> list[tuple[_Part, Step]]:
        """What gives the records of a step of each; the steps are under way where there are several.

        Whoever asks for one asks for all of them, or closes.
        """
        if len(parts) == 1:
            return [(parts[0], parts[0].step)]
        waiting = list(parts) if self._blind else self._waiting(parts)
        self._blind = waiting is None
        if waiting is None:
            return []
        if len(waiting) < 2:
            return [(part, part.step if part in waiting else no_step) for part in parts]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AT_ONCE, "fold")
        begun = {part.store.number: self._threads.submit(part.step).result for part in waiting}
        return [(part, begun.get(part.store.number, no_step)) for part in parts]

    def _waiting(self, parts: Sequence[_Part]) -> list[_Part] | None:
        """Those for which something waits: one look, however many they are.

        None where a node of a cluster is down, and so the look fails for all. The next round does without:
        each step fails or not. Not this one, which may have taken long: leases are to be renewed between.
        """
        try:
            ends = self._store.ends([part.store.number for part in parts])
        except NodeDownError as error:
            self._failed(error)
            return None
        except StoreError as error:
            self._failed(error)
            return []
        return [part for part in parts if part.waits(ends[part.store.number].head)]

    def close(self) -> None:
        """Wait for the steps that are under way, and end the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)


def no_step() -> int:
    """The step of a partition in which nothing is to be done."""
    return 0
