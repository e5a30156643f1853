"""The frame of a report's page: its kinds, its days, filters, what is saved of it, where its parts are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mixdown.explorer.frame import Problem, Visit
from mixdown.explorer.pages.event_asking import DAYS, PRESETS
from mixdown.explorer.pages.reports.asking import KINDS, TOPS, Asked, people_of
from mixdown.explorer.pages.reports.filters import filter_of
from mixdown.http.auth import ANALYSTS
from mixdown.query.events.buckets import BUCKETS_LIMIT

OwnOf = Callable[[Mapping[str, Any]], dict[str, Any]]
RECENT: Final = 31


async def saved_report(visit: Visit, asked: Asked) -> Mapping[str, Any] | None:
    """The saved report that an address names; None where there is none such, or no more."""
    if not asked.report:
        return None
    answer = await visit.ask("GET", "/api/mixdown/reports", params={"id": asked.report})
    if answer.status >= 400 or answer.data["results"]["kind"] != asked.kind:
        return None
    found: Mapping[str, Any] = answer.data["results"]
    return found


def _is_changed(visit: Visit, asked: Asked, saved: Mapping[str, Any], own_of: OwnOf) -> bool:
    """Whether a page asks for something else than its saved report, whoever saved that and in which words."""
    definition = saved["definition"]
    own = {**own_of(definition), "days": definition.get("days", DAYS)}
    try:
        return type(asked)(visit.with_query(own)).definition != asked.definition
    except Problem:
        return True


async def page_of(visit: Visit, asked: Asked, own_of: OwnOf) -> dict[str, Any]:
    """What every page of a report shows around its question.

    `own_of` gives the parameters of the page that shows what a saved definition says, days apart.
    """
    saved = await saved_report(visit, asked)
    own = asked.own
    keys = [name for name, _ in visit.group_keys]
    ranged = {name: value for name, value in own.items() if name not in ("days", "from", "to")}
    return {
        "title": saved["name"] if saved else KINDS[asked.kind][1],
        "kind": asked.kind,
        "kind_title": KINDS[asked.kind][1],
        "kinds": [
            {"title": title, "url": visit.path(path), "is_current": kind == asked.kind}
            for kind, (path, title) in KINDS.items()
        ],
        "saved": dict(saved) if saved else None,
        "is_changed": saved is not None and _is_changed(visit, asked, saved, own_of),
        "is_lost": bool(asked.report) and saved is None,
        "question": {
            "where": asked.where,
            "on": asked.on,
            "limit": asked.limit,
            "data_group_id": asked.group,
        },
        "definition": asked.definition,
        "is_ready": asked.is_ready,
        "counted": [("", "users"), *((key, key) for key in keys)],
        "people": people_of(asked.group),
        "interval_limit": BUCKETS_LIMIT,
        "tops": [str(top) for top in sorted({*TOPS, asked.limit})],
        "span": {"days": asked.range.days, **asked.range.params},
        "presets": [
            {"days": days, "label": label, "url": visit.path(asked.path, **ranged, days=days)}
            for days, label in PRESETS
        ],
        "parts_of": {
            "figures": visit.path(f"{asked.path}/figures", **own),
            "csv": visit.path(f"{asked.path}/figures.csv", **own),
            "whole": visit.path(asked.path, **own, whole="1"),
            "page": visit.path(asked.path, **own),
            "unsaved": visit.path(asked.path, **{**own, "report": None}),
            "events": visit.path("reports/names", **_named_days(asked)),
            "properties": visit.path("reports/properties", event=asked.events),
            "choices": visit.path("reports/choices", **{**own, "of": asked.kind}),
        },
        "filters": {field: await filter_of(visit, field, text) for field, text in asked.filters.items()},
        "may_write": visit.may(ANALYSTS),
        "link": visit.address + visit.path(asked.path, **own),
    }


def _named_days(asked: Asked) -> dict[str, str]:
    """The days whose events are suggested, where the last 31 are too few."""
    days = (asked.range.last - asked.range.first).days + 1
    return (
        {"from": asked.range.first.isoformat(), "to": asked.range.last.isoformat()} if days > RECENT else {}
    )
