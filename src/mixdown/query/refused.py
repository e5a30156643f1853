"""A page of refusals, bounded in bytes as well as in number: each may hold a record of 1 MiB.

A store, project ids and a limit enter; refusals leave, newest first, and whether there may be more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from mixdown.model.masking import NOTHING_HIDDEN, Mask
from mixdown.store import patience
from mixdown.store.bounds import folded, refusal_bytes
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
    mask: Mask = NOTHING_HIDDEN,
) -> tuple[list[RefusedRecord], bool]:
    """The newest refusals of these projects (None: all) that a filter wants, older than `before_id`.

    At most `limit` of them, and about 8 MiB. What `mask` hides is neither in them nor found in them.

    True where the page was cut for its size: what is left is older than its last. Raises `StoreError`.
    """
    found: list[RefusedRecord] = []
    listed = None if projects is None else list(projects)
    size = 0
    while len(found) < limit:
        patience.check()
        wanted = _AT_ONCE if mask and filtered.text else min(_AT_ONCE, limit - len(found))
        some = refusals.listing(listed, before_id=before_id, limit=wanted, wanted=filtered)
        for refusal in some:
            size += refusal_bytes(refusal)
            if found and size > PAGE_LIMIT_BYTES:
                return found, True
            shown = hidden_by(mask, refusal)
            if not mask or _holds(shown, filtered.text):
                found.append(shown)
        if len(some) < wanted:
            break
        before_id = some[-1].id
    return found[:limit], False


def hidden_by(mask: Mask, refusal: RefusedRecord) -> RefusedRecord:
    """A refusal as it is for somebody from whom `mask` hides tokens."""
    if not mask:
        return refusal
    return msgspec.structs.replace(
        refusal,
        field=mask.text(refusal.field),
        message=mask.text(refusal.message),
        record=mask.text(refusal.record),
        sdk=mask.text(refusal.sdk),
    )


def _holds(refusal: RefusedRecord, text: str) -> bool:
    """Whether a text is still in what is shown: no search tells of what is hidden."""
    wanted = folded(text)
    return any(wanted in folded(part) for part in (refusal.message, refusal.field, refusal.record))
