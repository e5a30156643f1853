"""The partitions that a process reads: all of them, or those that it holds while others hold the rest.

Enters: a store, who says what is held, and how a partition is begun. Leaves: the partitions of this moment.
What is not held any more is ended before anything else is done, and begun anew from the store when it comes
back: nothing that was known of it is relied on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Generic, Protocol, TypeVar

from mixdown.model.errors import LeaseLostError, NodeDownError, StoreError
from mixdown.store.places import all_views
from mixdown.store.protocols import Store

TEND_EVERY_S: Final = 1.0
"""So often a process renews what it holds, makes room for others, and takes what is free."""

ASIDE_S: Final = 10.0
"""So long nothing is asked of a partition whose node of a cluster was down: others are to go on meanwhile."""


class Holding(Protocol):
    """Which partitions this process reads, where several share them (`store.postgres.leases.Leases`)."""

    def tend(self) -> Collection[int]:
        """Renew, make room for others, take what is free; the partitions held. Raises `StoreError`."""

    def leave(self) -> None:
        """Give all up at once. Raises `StoreError`."""


class Ends(Protocol):
    """What reads one partition."""

    def close(self) -> None:
        """It is read here no more."""


_Part = TypeVar("_Part", bound=Ends)


class Held(Generic[_Part]):
    """The partitions read here, each by what `begin` makes of its view. For one thread."""

    def __init__(
        self,
        store: Store,
        holding: Holding | None,
        begin: Callable[[Store], _Part],
        failed: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._holding = holding
        self._begin = begin
        self._failed = failed
        self._due = 0.0
        self._parts: dict[int, _Part] = {}
        self._aside: dict[int, float] = {}
        if holding is None:
            self._parts = {view.number: begin(view) for view in all_views(store)}
        else:
            self._tend(holding)

    def now(self) -> list[_Part]:
        """Those of this moment, but for those whose node is down; call it between steps."""
        if self._holding is not None and time.monotonic() >= self._due:
            self._tend(self._holding)
        return [part for number, part in self._parts.items() if not self._is_aside(number)]

    @contextmanager
    def unless_lost(self, number: int) -> Iterator[None]:
        """A step in a partition: where another process has it by now, it is read here no more.

        Where its node of a cluster is down, it is not for a while.
        """
        try:
            yield
        except LeaseLostError:
            self._end(number)
            self._due = 0.0
        except NodeDownError as error:
            self._put_aside(number, error)

    def close(self) -> None:
        """End all, and let others have them at once."""
        for number in list(self._parts):
            self._end(number)
        if self._holding is not None:
            with suppress(StoreError):  # a database that is gone: they run out
                self._holding.leave()

    def _tend(self, holding: Holding) -> None:
        """Where that cannot be asked, what was held may be held still: whoever lost it cannot write."""
        try:
            held = holding.tend()
            for number in set(self._parts).difference(held):
                self._end(number)
            new = set(held).difference(self._parts)
            for number in sorted(new, key=lambda each: (each in self._aside, each)):
                if not self._is_aside(number) and not self._begun(number):
                    break  # it may have taken long: the others at the next call, after leases are renewed
        except StoreError as error:
            self._failed(error)
        self._due = time.monotonic() + TEND_EVERY_S

    def _begun(self, number: int) -> bool:
        try:
            self._parts[number] = self._begin(self._store.partition(number))
        except NodeDownError as error:
            self._put_aside(number, error)
            return False
        self._aside.pop(number, None)
        return True

    def _put_aside(self, number: int, error: NodeDownError) -> None:
        self._aside[number] = time.monotonic() + ASIDE_S
        self._failed(error)

    def _is_aside(self, number: int) -> bool:
        return time.monotonic() < self._aside.get(number, 0.0)

    def _end(self, number: int) -> None:
        part = self._parts.pop(number, None)
        if part is not None:
            part.close()
