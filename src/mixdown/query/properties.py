"""Which properties profiles hold, how many hold each, and of what type: `engage/properties` (query §2.5).

A project and a group key enter; the JSON answer leaves, made of the counts that the fold keeps. No document
is read. The answer is never empty: clients that discover a schema stop at one that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import orjson

from mixdown.model.kinds import DATETIME, STRING, UNKNOWN
from mixdown.model.operators import LAST_SEEN
from mixdown.query.group_keys import group_key_of
from mixdown.store.protocols import State

PROPERTIES_LIMIT: Final = 10_000
"""An answer lists so many properties at most: those that most profiles hold."""


def properties_answer(state: State, project: int, data_group_id: str, *, now_ms: int) -> bytes:
    """The JSON answer for users (""), or for the groups of a key by number or name.

    Blocks. Raises `QueryError` (400), `StoreError`.
    """
    group_key = group_key_of(state, project, data_group_id)
    found = state.property_counts(project, group_key, limit=PROPERTIES_LIMIT)
    results = {
        name: {"count": sum(kinds.values()), "type": type_of(kinds)} for name, kinds in found.counts.items()
    }
    results.setdefault(LAST_SEEN, {"count": 0, "type": DATETIME})
    return orjson.dumps(
        {
            "status": "ok",
            "computed_at": datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="seconds"),
            "complete": found.complete,
            "results": results,
        }
    )


def type_of(kinds: Mapping[str, int]) -> str:
    """One word for a property that may hold values of several kinds: the one that most profiles hold.

    Nulls do not count, and a text that is no date makes the dates beside it texts: a column of such a
    property must take both.
    """
    known = {kind: profiles for kind, profiles in kinds.items() if kind != UNKNOWN}
    if not known:
        return UNKNOWN
    if STRING in known:
        known[STRING] += known.pop(DATETIME, 0)
    return min(known, key=lambda kind: (-known[kind], kind))
