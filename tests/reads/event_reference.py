"""Reads of events by the book, in plain Python over a list: what the quick ones are held to.

Events as they were stored enter; answers leave, made by looking at every one. Nothing here is shared with the
product but names of columns: a rule that both got wrong would have to be written wrongly twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple


class Stored(NamedTuple):
    """An event as the log has it, and when it arrived."""

    position: int
    arrived: int
    event: str
    time: int
    distinct_id: str
    insert_id: str
    properties: dict[str, Any]


Persons = Callable[[Stored], str]


def once_each(events: Iterable[Stored]) -> list[Stored]:
    """Of events sent twice the last, in the order of time and then of arrival."""
    last = {(each.event, each.distinct_id, each.time, each.insert_id): each for each in events}
    return sorted(last.values(), key=lambda each: (each.time, each.position))


def exported(each: Stored, person: str, *, in_ms: bool = False) -> dict[str, Any]:
    """An event as an export has it (contract query §4)."""
    own = {
        "time": each.time if in_ms else each.time // 1000,
        "distinct_id": person,
        "$insert_id": each.insert_id,
        "mp_processing_time_ms": each.arrived,
        "$mp_api_endpoint": "api.mixpanel.com",
        "$mp_api_timestamp_ms": each.arrived,
    }
    if person != each.distinct_id:
        own["$distinct_id_before_identity"] = each.distinct_id
    return {"event": each.event, "properties": {**each.properties, **own}}


def bucket(unit: str, ms: int, zone: tzinfo = UTC) -> str:
    """The key of the bucket that a time lies in (contract query §5.1)."""
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).astimezone(zone)
    if unit == "minute":
        return local.strftime("%Y-%m-%d %H:%M:00")
    if unit == "hour":
        return local.strftime("%Y-%m-%d %H:00:00")
    if unit == "week":
        local -= timedelta(days=local.weekday())
    return local.strftime("%Y-%m-01" if unit == "month" else "%Y-%m-%d")


def figure(kind: str, persons: Sequence[str]) -> float:
    """What a kind of figure makes of the persons of some events."""
    if kind == "general":
        return len(persons)
    return len(set(persons)) if kind == "unique" else len(persons) / len(set(persons))


def labels(value: Any) -> set[str]:
    """The names that a value is counted under; an absent one is None."""
    if type(value) is list:
        return {label(item) for item in value} or {"undefined"}
    return {label(value)}


def label(value: Any) -> str:
    if value is None:
        return "undefined"
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float:
        digits = format(Decimal(repr(value)), "f")
        digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
        return "0" if digits == "-0" else digits
    if type(value) in (str, int):
        return str(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def series(
    groups: Mapping[str, Sequence[Stored]],
    keys: Sequence[str],
    kind: str,
    unit: str,
    persons: Persons,
    zone: tzinfo = UTC,
) -> dict[str, dict[str, float]]:
    """For each name and key the figure of the events under that name in that bucket."""
    found: dict[str, dict[str, float]] = {}
    for name, events in groups.items():
        within = {
            key: [persons(each) for each in events if bucket(unit, each.time, zone) == key] for key in keys
        }
        found[name] = {key: figure(kind, some) if some else 0 for key, some in within.items()}
    return found


def by_label(events: Iterable[Stored], value: Callable[[Stored], Any]) -> dict[str, list[Stored]]:
    """Events under each name of a value of theirs."""
    found: dict[str, list[Stored]] = {}
    for each in events:
        for name in labels(value(each)):
            found.setdefault(name, []).append(each)
    return found
