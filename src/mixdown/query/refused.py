"""A page of refusals, bounded in bytes as well as in number: each may hold a record of 1 MiB.

A store, project ids and a limit enter; refusals leave, newest first, and whether there may be more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from mixdown.store import patience
from mixdown.store.bounds import refusal_bytes
from mixdown.store.protocols import ALL_REFUSALS, RefusalFilter, Refusals, RefusedRecord

PAGE_LIMIT_BYTES: Final = 8 * 1024 * 1024
_AT_ONCE: Final = 10


def refusals_page(
    refusals: Refusals,
    projects: Collection[int] | None,
    *,
    before_id: int | None,
    limit: int,
    filtered: RefusalFilter = ALL_REFUSALS,
) -> tuple[list[RefusedRecord], bool]:
    """The newest refusals of these projects (None: all) that a filter wants, older than `before_id`.

    At most `limit` of them, and about 8 MiB.

    True where the page was cut for its size: what is left is older than its last. Raises `StoreError`.
    """
    found: list[RefusedRecord] = []
    listed = None if projects is None else list(projects)
    size = 0
    while len(found) < limit:
        patience.check()
        wanted = min(_AT_ONCE, limit - len(found))
        some = refusals.listing(listed, before_id=before_id, limit=wanted, wanted=filtered)
        for refusal in some:
            size += refusal_bytes(refusal)
            if found and size > PAGE_LIMIT_BYTES:
                return found, True
            found.append(refusal)
        if len(some) < wanted:
            break
        before_id = some[-1].id
    return found, False
