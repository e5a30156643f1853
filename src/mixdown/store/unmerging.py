"""The record of the log that takes an id apart from all others.

A project and an id enter; one record leaves for the log. The fold applies it in its place there, so that what
is linked before it is undone, and what comes behind it links anew.
"""

from __future__ import annotations

from mixdown.model.updates import Update
from mixdown.store.chunk import Outcome, Segment, encode_filter, encode_segment
from mixdown.store.identities import UNMERGE
from mixdown.store.places import views_of
from mixdown.store.privacy import SDK
from mixdown.store.protocols import Append, Store


def append_unmerge(store: Store, project: int, one: str, *, key: bytes | None = None, now_ms: int) -> None:
    """Append the record; it is on disk on return. Records with the same `key` are applied once.

    In a large project the links of an id may be in any partition: each gets the record. Raises `StoreError`.
    """
    outcome = None if key is None else Outcome(1, 1)
    segment = encode_segment(Segment(UNMERGE, SDK, key, outcome, [Update(project, "", one, [])]))
    for view in views_of(store, project):
        append = Append(segment, 1, encode_filter([one]), parts=True, partition=view.number)
        with view.log.turn() as turn:
            turn.append([append], now_ms)
