"""Refusals as they are asked for: which are wanted, and how many there are for each reason, with what to do.

Parameters, a store and project ids enter; a filter or JSON leaves. Everything here blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mixdown.http.advice import ADVICE, text_of
from mixdown.http.metrics import reason_of
from mixdown.http.parameters import Parameters
from mixdown.model.errors import QueryError
from mixdown.model.masking import NOTHING_HIDDEN, Mask
from mixdown.model.values import clean_text
from mixdown.query.history import read_time
from mixdown.store.protocols import RefusalFilter, Store

TEXT_LIMIT_CHARS: Final = 1000
OTHER: Final = "other"


def wanted_refusals(store: Store, projects: Sequence[int], parameters: Parameters) -> RefusalFilter:
    """The filter that the parameters make. Raises `QueryError` (400)."""
    text = clean_text(parameters.text("text"))
    if len(text) > TEXT_LIMIT_CHARS:
        raise QueryError(f"text, must be a text of at most {TEXT_LIMIT_CHARS} characters", status=400)
    since, until = parameters.text("since"), parameters.text("until")
    reason = parameters.text("reason")
    messages = None
    if reason:
        kept = store.refusals.reasons(projects)
        messages = tuple({each.message for each in kept if reason_of(each.message) == reason})
    return RefusalFilter(
        messages=messages,
        endpoint=parameters.text("endpoint"),
        field=clean_text(parameters.text("field")),
        text=text,
        since_ms=read_time(since, "since") if since else 0,
        until_ms=read_time(until, "until") if until else 0,
    )


def reasons_view(store: Store, projects: Sequence[int], mask: Mask = NOTHING_HIDDEN) -> list[dict[str, Any]]:
    """Each reason that refusals of these projects have: how many, where, and what to do; most first.

    What `mask` hides is in no text.
    """
    found: dict[str, dict[str, Any]] = {}
    for each in store.refusals.reasons(projects):
        reason = reason_of(each.message)
        told = found.setdefault(
            reason,
            {
                "reason": reason,
                "messages": [],
                "advice": ADVICE.get(reason, ""),
                "count": 0,
                "newest_id": 0,
                "endpoints": set(),
            },
        )
        told["count"] += each.count
        told["newest_id"] = max(told["newest_id"], each.newest_id)
        told["endpoints"].add(each.endpoint)
        told["messages"].append((each.count, each.message))
    for reason, told in found.items():
        messages = [message for _, message in sorted(told.pop("messages"), reverse=True)]
        told["text"] = mask.text(text_of(reason, messages) or messages[0])
    ordered = sorted(found.values(), key=lambda told: (-told["count"], told["reason"]))
    return [{**told, "endpoints": sorted(told["endpoints"])} for told in ordered]
