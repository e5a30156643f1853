"""The profile itself: its properties, found by a search, with when each last changed, or as they stood.

Parameters enter (`find`, `at`, `changed`, `differing`, `from`); rows leave. What history says costs a walk
back through it, so it comes in a second request.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from mixdown.explorer.frame import Visit
from mixdown.explorer.pages.profile.erasing import job_about
from mixdown.explorer.pages.profile.rows import compared_rows, found, property_rows
from mixdown.explorer.pages.profile.subject import (
    Standing,
    Subject,
    is_group_key,
    moment_ms,
    ms_of,
    shortened,
    standing,
    subject_of,
)
from mixdown.explorer.people import initials
from mixdown.explorer.reserved import display_name
from mixdown.http.auth import ADMINS
from mixdown.model.times import iso_seconds

MOMENTS: Final = "/api/mixdown/history/moments"
ROWS_AT_ONCE: Final = 100
ROWS_LIMIT: Final = 10_000
FIND_CHARS: Final = 200
TABS: Final = ("activity", "history", "groups", "members", "identity", "revenue", "code")
DETAILS: Final = ("$email", "$phone", "$city", "$country_code")
"""What stands below the name, in this order."""


async def build(visit: Visit) -> Mapping[str, Any]:
    """The page of a profile, and all of its properties in the twin."""
    subject = subject_of(visit)
    found_now = await standing(visit, subject)
    is_twin = visit.request.url.path.endswith(".json")
    with_changes = is_twin or visit.text("changed") == "1"
    properties = await properties_of(visit, subject, found_now, with_changes=with_changes)
    held = found_now.properties or {}
    may_edit = visit.may(ADMINS)
    tab = visit.text("tab")
    tabs = tabs_of(subject)
    return {
        "title": shortened(found_now.name or subject.id or "?"),
        "section": "groups" if subject.group_key else "users",
        "asked": subject.asked,
        "what": subject.what,
        "profile": {
            "id": found_now.id,
            "exists": found_now.properties is not None,
            "name": display_name(held),
            "initials": initials(found_now.name or found_now.id),
            "details": details_of(held, but=(found_now.id, found_now.name)),
            "seen_ms": ms_of(held.get("$last_seen")),
        },
        "is_alias": found_now.id != subject.id,
        "tabs": tabs,
        "tab": tab if tab in tabs else tabs[0],
        "job": visit.text("erased") or (await job_about(visit, subject) if may_edit else ""),
        "may_edit": may_edit,
        "is_part": False,
        **properties,
    }


async def build_part(visit: Visit) -> Mapping[str, Any]:
    """The table alone, with what history says."""
    subject = subject_of(visit)
    now = await standing(visit, subject)
    properties = await properties_of(visit, subject, now, with_changes=visit.text("changed") == "1")
    exists = now.properties is not None
    return {
        "asked": subject.asked,
        "what": subject.what,
        "profile": {"id": now.id, "exists": exists},
        "may_edit": visit.may(ADMINS),
        "is_part": True,
        **properties,
    }


async def properties_of(
    visit: Visit, subject: Subject, now: Standing, *, with_changes: bool
) -> dict[str, Any]:
    """The rows that a request asks for, and what history says of them."""
    at = visit.text("at")
    at_ms = moment_ms(at)
    own = Subject(now.id, subject.group_key, own=True)
    told = await moments(visit, own) if with_changes else None
    if at_ms:
        then = await standing(visit, own, at=str(at_ms))
        rows = compared_rows(then.properties or {}, now.properties or {})
        stood = then.properties is not None
    else:
        rows = property_rows(now.properties or {}, None if told is None else told["changed"])
        stood = now.properties is not None
    total = sum(1 for row in rows if "value" in row)
    differing = sum(1 for row in rows if row.get("difference"))
    only_differing = visit.text("differing") == "1" and bool(at_ms)
    shown = [row for row in rows if row["difference"]] if only_differing else rows
    wanted = visit.text("find")[:FIND_CHARS]
    shown = found(shown, wanted)
    begin = visit.integer("from", 0, low=0, high=ROWS_LIMIT)
    return {
        "properties": shown,
        "total": total,
        "find": wanted,
        "begin": begin,
        "rows_at_once": ROWS_AT_ONCE,
        "at_ms": at_ms or None,
        "at": iso_seconds(at_ms) if at_ms else None,
        "stood": stood,
        "differing": differing,
        "only_differing": only_differing,
        "history": None if told is None else history_of(told, at_ms),
        "with_slider": visit.text("slider") == "1",
    }


def history_of(told: Mapping[str, Any], at_ms: int) -> dict[str, Any]:
    """What the slider has: the times at which it stops, oldest first, and those next to the one shown.

    The last is the profile as it stands. Where the first is not how it came to be, one stop lies before it.
    """
    stops = [{"at_ms": each["time_ms"], "changes": each["changes"]} for each in reversed(told["moments"])]
    if stops and not told["more"] and told["moments"][-1].get("profile") != "created":
        before_ms = stops[0]["at_ms"] - 1
        if told["before_ms"] is not None and before_ms >= told["before_ms"]:
            stops.insert(0, {"at_ms": before_ms, "changes": 0})
    times = [stop["at_ms"] for stop in stops]
    shown_ms = at_ms or (times[-1] if times else 0)
    earlier = [time for time in times if time < shown_ms]
    later = [time for time in times if time > shown_ms]
    return {
        "stops": stops,
        "place": max(0, sum(1 for time in times if time <= shown_ms) - 1),
        "earlier_ms": earlier[-1] if earlier else None,
        "later_ms": later[0] if at_ms and later else None,
        "later_is_now": len(later) <= 1,
        "more": told["more"],
        "before_ms": told["before_ms"],
    }


async def moments(visit: Visit, subject: Subject) -> dict[str, Any]:
    """When the profile changed: nothing of a group key that the project does not have."""
    if subject.group_key and not await is_group_key(visit, subject.group_key):
        return {"moments": [], "changed": {}, "more": False, "before_ms": None}
    told: dict[str, Any] = (await visit.ask("GET", MOMENTS, params=subject.read)).good()["results"]
    return told


def details_of(held: Mapping[str, Any], *, but: Collection[str]) -> list[str]:
    """What stands below the name and does not say it again."""
    texts = [held.get(name) for name in DETAILS]
    return [text for text in texts if type(text) is str and text and text not in but]


def tabs_of(subject: Subject) -> list[str]:
    """What the page shows beside the properties: users have groups and identities, groups have members."""
    left_out = ("members",) if not subject.group_key else ("groups", "identity", "revenue")
    return [tab for tab in TABS if tab not in left_out]
