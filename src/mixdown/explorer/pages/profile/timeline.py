"""What changed in a profile, and what happened to it: history with before and after, and events.

Filters and a place enter; a page leaves, newest first, with where the next begins. Both are the API's own
pages: `/api/mixdown/history` and `/api/mixdown/activity`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from mixdown.explorer.frame import Problem, Visit
from mixdown.explorer.pages.profile.rows import is_edited, type_of
from mixdown.explorer.pages.profile.subject import Subject, is_group_key, shortened, subject_of
from mixdown.explorer.reserved import label_of
from mixdown.http.auth import ADMINS
from mixdown.query.history import OPERATOR_NAMES
from mixdown.store.zones import zone_of

HISTORY: Final = "/api/mixdown/history"
ACTIVITY: Final = "/api/mixdown/activity"
NAMES: Final = "/api/query/events/names"
HISTORY_ROWS: Final = 30
EVENT_ROWS: Final = 30
NAMES_LISTED: Final = 255
OPERATORS: Final = tuple(sorted(OPERATOR_NAMES))


async def build_history(visit: Visit) -> Mapping[str, Any]:
    """A page of changes, filtered by property and by operator."""
    subject = subject_of(visit)
    operator, name = visit.text("operator"), visit.text("property")
    if operator and operator not in OPERATORS:
        raise Problem(f"operator: must be one of {', '.join(OPERATORS)}.", status=400)
    params: dict[str, Any] = {**subject.read, "limit": HISTORY_ROWS}
    # as a list: a bare name that looks like one would be taken for it
    params |= {"property": [name]} if name else {}
    params |= {"operator": operator} if operator else {}
    params |= {"before": visit.text("before")} if visit.text("before") else {}
    answer: dict[str, Any] = {"results": [], "next": None}
    if not subject.group_key or await is_group_key(visit, subject.group_key):
        answer = (await visit.ask("GET", HISTORY, params=params)).good()
    return {
        "title": f"History of {shortened(subject.id)}",
        "section": _section(subject),
        "asked": subject.asked,
        "operator": operator,
        "operators": list(OPERATORS),
        "property": name,
        "entries": [_entry(each) for each in answer["results"]],
        "next": answer["next"],
        "before": visit.text("before"),
        "may_edit": visit.may(ADMINS),
    }


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    name = entry["property"]
    shown = {**entry, "label": label_of(name), "editable": is_edited(name)}
    shown |= {f"{side}_type": type_of(entry[side]) for side in ("old", "new") if side in entry}
    return shown


async def build_activity(visit: Visit) -> Mapping[str, Any]:
    """A page of events, filtered by name, by property or text, and by days."""
    subject = subject_of(visit)
    asked = {
        name: visit.text(name).strip() for name in ("event", "property", "search", "from_date", "to_date")
    }
    params = _activity_params(subject, asked)
    before = visit.text("before")
    if before:
        params["before"] = before
    answer: dict[str, Any] = {"results": [], "next": None}
    if not subject.group_key or await is_group_key(visit, subject.group_key):
        answer = (await visit.ask("GET", ACTIVITY, params=params)).good()
    return {
        "title": f"Activity of {shortened(subject.id)}",
        "section": _section(subject),
        "asked": subject.asked,
        "filters": asked,
        "filtered": any(asked.values()),
        "days": days_of([_event(each) for each in answer["results"]], zone_of(visit.project.timezone)),
        "next": answer["next"],
        "before": before,
        "timezone": visit.project.timezone,
    }


def _activity_params(subject: Subject, asked: Mapping[str, str]) -> dict[str, Any]:
    params: dict[str, Any] = {"limit": EVENT_ROWS}
    if subject.group_key:
        params |= {"group_key": subject.group_key, "group_id": subject.id}
    else:
        params["distinct_id"] = subject.id
    # as lists: a bare name that looks like one would be taken for it
    params |= {name: [asked[name]] for name in ("event", "property") if asked[name]}
    params |= {name: asked[name] for name in ("search", "from_date", "to_date") if asked[name]}
    if asked["to_date"] and not asked["from_date"]:
        params["from_date"] = "1971-01-01"  # with a last day alone the API takes the 30 days before it
    return params


def _event(event: dict[str, Any]) -> dict[str, Any]:
    properties = dict(event["properties"])
    return {
        "event": event["event"],
        "time_ms": int(float(properties.pop("time", 0)) * 1000),
        "properties": properties,
    }


def days_of(events: list[dict[str, Any]], zone: tzinfo) -> list[dict[str, Any]]:
    """Events by their day in a time zone, in the order in which they come."""
    days: list[dict[str, Any]] = []
    for event in events:
        day = datetime.fromtimestamp(event["time_ms"] / 1000, UTC).astimezone(zone).date().isoformat()
        if not days or days[-1]["day"] != day:
            days.append({"day": day, "events": []})
        days[-1]["events"].append(event)
    return days


async def build_names(visit: Visit) -> Mapping[str, Any]:
    """Names of the project's events, for the filter to suggest."""
    names = (await visit.ask("GET", NAMES, params={"limit": NAMES_LISTED})).good()
    return {"names": [name for name in names if type(name) is str]}


def _section(subject: Subject) -> str:
    return "groups" if subject.group_key else "users"
