"""How far the log's readers have come, as everybody else sees it.

Enters: a store. Leaves: positions. A reader writes its watermark when there was something for it, else now
and then: it has come up to the next chunk that is for it, so what a watermark does not tell, the log does.
"""

from __future__ import annotations

from mixdown.store.chunk import FOR_EVENTS, FOR_PROFILES
from mixdown.store.protocols import Store


def fold_place(store: Store) -> int:
    """The position up to which all that concerns profiles is folded."""
    return store.log.next_of(store.state.watermark(), FOR_PROFILES)


def events_place(store: Store) -> int:
    """The position up to which all events are taken from the log."""
    return store.log.next_of(store.events.watermark(), FOR_EVENTS)


def slowest_place(store: Store) -> int:
    """The position up to which every reader has come."""
    return min(fold_place(store), events_place(store))
