"""What tests of history are written in."""

from __future__ import annotations

from typing import Any

from mixdown.query.history import HistoryEntry, all_as_of, entry_view, history_page
from mixdown.store.protocols import Store
from tests.fold.conftest import Way

U1 = (1, "", "u1")


def entries(store: Store, profile_id: str = "u1", **asked: Any) -> list[HistoryEntry]:
    """A page of what changed in a user."""
    return history_page(store, (1, "", profile_id), **asked)[0]


def told(store: Store, profile_id: str = "u1", **asked: Any) -> list[tuple[Any, ...]]:
    """Likewise, as (property, operator, old, new); None where there was, or is, no value."""
    shown = map(entry_view, entries(store, profile_id, **asked))
    return [(one["property"], one["operator"], one.get("old"), one.get("new")) for one in shown]


def all_at(store: Store, time_ms: int) -> dict[str, Any]:
    """All users as they stood, by id."""
    return dict(all_as_of(store, 1, "", time_ms))


def tend(store: Store, *, keep_from_ms: int = 0, limit_bytes: int = 0) -> int:
    """Tend history until nothing is left to do; how many pieces that took."""
    pieces = 0
    while store.state.tend_history(keep_from_ms=keep_from_ms, limit_bytes=limit_bytes):
        pieces += 1
    return pieces


def step(way: Way, *records: Any) -> int:
    """Send records, a second after the last, and fold them in a step of their own; when they came (ms)."""
    way.now_ms += 1000
    way.submit(*records)
    way.fold_all()
    return way.now_ms
