"""All profiles of a kind, in the order of their ids: what an export reads.

Enters: which profiles, and the id to go on from. Leaves: pages of (id, document), already filtered. No
snapshot is held from page to page: each profile comes as it stands when its page is read, and one that was
made meanwhile comes if its id lies ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import msgspec
import orjson

from mixdown.query.history import all_as_of
from mixdown.store.protocols import State, Store

PAGE_PROFILES: Final = 2000
Keep = Callable[[str, bytes], bool]


class Page(msgspec.Struct, frozen=True):
    """Some profiles: those that match, how many were looked at, and the last id among them."""

    profiles: list[tuple[str, bytes]]
    looked_at: int
    last_id: str


def pages(
    state: State, project: int, group_key: str, *, after: str = "", keep: Keep | None = None
) -> Iterator[Page]:
    """Pages of the profiles of users ("") or of the groups of a key, from the first id behind `after` on.

    `keep` says of an id and its document whether the profile is wanted. Raises `StoreError`.
    """
    while found := state.profiles_after(project, group_key, after=after, limit=PAGE_PROFILES):
        after = found[-1][0]
        wanted = found if keep is None else [profile for profile in found if keep(*profile)]
        yield Page(wanted, len(found), after)


def pages_as_of(
    store: Store, project: int, group_key: str, time_ms: int, *, after: str = "", keep: Keep | None = None
) -> Iterator[Page]:
    """The same, as the profiles stood at a time. Raises `QueryError` where history does not reach back."""
    # no id holds NUL: this is the least text behind `after`
    from_id = after + "\0" if after else ""
    profiles = all_as_of(store, project, group_key, time_ms, from_id=from_id)
    while found := [(name, orjson.dumps(then)) for name, then in islice(profiles, PAGE_PROFILES)]:
        wanted = found if keep is None else [profile for profile in found if keep(*profile)]
        yield Page(wanted, len(found), found[-1][0])
