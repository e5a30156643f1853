"""What one project takes: profiles, events, files, refusals, lookup tables, and bytes where they are known.

A store and a project enter; counts leave. Profiles of all projects share one file, so their bytes are an
estimate from a few hundred of them. Everything here blocks.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mixdown.query.counts import profiles_of
from mixdown.store.protocols import Store

KEYS_LISTED: Final = 100
_SAMPLES: Final = 4
_SAMPLE_PROFILES: Final = 50


def storage_of(store: Store, project: int) -> dict[str, Any]:
    """Everything that is kept of a project; `profile_bytes` is an estimate. Raises `StoreError`."""
    keys = sorted(store.state.group_keys(project))
    listed = keys[:KEYS_LISTED]
    counts = {key: profiles_of(store.state, project, key) for key in ("", *listed)}
    refused, refused_bytes = store.refusals.counts().get(project, (0, 0))
    tables = store.lookup_tables.listing(project)
    return {
        "users": counts[""],
        "groups": {key: counts[key] for key in listed},
        "group_keys": len(keys),
        "profile_bytes": sum(_document_bytes(store, project, key, count) for key, count in counts.items()),
        "events": msgspec.to_builtins(store.events.size(project)),
        "refusals": {"records": refused, "size_bytes": refused_bytes},
        "lookup_tables": {
            "tables": len(tables),
            "rows": sum(table.rows for table in tables),
            "size_bytes": sum(table.size_bytes for table in tables),
        },
        "cohorts": len(store.cohorts.listing(project)),
    }


def _document_bytes(store: Store, project: int, key: str, count: int) -> int:
    """How many bytes the documents of a kind have, judged by some from four places."""
    if not count:
        return 0
    places = sorted({count * step // _SAMPLES for step in range(_SAMPLES)})
    sizes = [
        len(document)
        for offset in places
        for _, document in store.state.page(project, key, offset=offset, limit=_SAMPLE_PROFILES)
    ]
    return round(count * sum(sizes) / len(sizes)) if sizes else 0
