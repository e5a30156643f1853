"""What expressions over a project's data depend on beside the row: the time, and the project's settings.

A store, a project and a time enter; a `Context` leaves. Every read that evaluates an expression takes it from
here, so that one text means the same wherever it is asked.
"""

from __future__ import annotations

from datetime import tzinfo

from mixdown.model.expression import Context
from mixdown.store import patience
from mixdown.store.protocols import Store
from mixdown.store.zones import zone_of

Rules = tuple[tzinfo, bool]


def rules_in(context: Context) -> Rules:
    """What of a context is the project's own: an answer that is kept holds as long as these stay."""
    return context.zone, context.ci_strings


def context_of(store: Store, project: int, *, now_ms: int) -> Context:
    """The context of a read that begins at this time, with the project's settings as they are now.

    A long loop in an expression can end. Raises `StoreError`.
    """
    known = store.catalog.project(project)
    if known is None:
        return Context(now_s=now_ms // 1000, pause=patience.check)
    return Context(now_ms // 1000, zone_of(known.timezone), known.ci_strings, patience.check)
