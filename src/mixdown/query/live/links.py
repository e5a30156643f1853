"""Which links of a stretch say something new: SDKs name a device and its user again with each event.

Items of a stretch enter, those without repetitions leave. A link that repeats one that is in force, or one
just before it, is left out; one that was undone meanwhile comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from mixdown.query.live.pieces import LINK, Item
from mixdown.store.chunk import Link
from mixdown.store.identities import IdentityReads

ASKED_LIMIT: Final = 1_000
"""Of so many different links at once it is asked whether they are in force."""
_KNOWN_LIMIT: Final = 5_000
_Name = tuple[int, str, str, str, str]


def without_repeats(state: IdentityReads, items: Sequence[Item]) -> list[Item]:
    """The items, in their order, without links that are known already. Raises `StoreError`."""
    first: dict[_Name, int] = {}
    for item in items:
        if item.kind == LINK:
            first.setdefault(_name(item), item.position)
    if not first:
        return list(items)
    known = _in_force(state, islice(first, ASKED_LIMIT))
    return [
        item
        for item in items
        if item.kind != LINK
        or (item.position == first[_name(item)] and known.get(_name(item), item.position) >= item.position)
    ]


def _in_force(state: IdentityReads, names: Iterable[_Name]) -> dict[_Name, int]:
    """Where in the log the links of these names came that are in force."""
    asked: dict[int, set[str]] = {}
    for project, _, _, one, _ in names:
        asked.setdefault(project, set()).add(one)
    return {
        (project, link.mode, link.verb, link.one, link.other): link.position
        for project, ids in asked.items()
        for link in state.links(project, sorted(ids), limit=_KNOWN_LIMIT)
    }


def _name(item: Item) -> _Name:
    link = item.source
    assert isinstance(link, Link)
    return item.project, link.mode, link.verb, link.one, link.other
