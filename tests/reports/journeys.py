"""Funnels, retention and addiction by the book: plain Python that looks at every event of everybody.

Events enter as (when, position, names of what they are, value, who); figures leave. Nothing is shared with
the product: a rule that both got wrong would have to be written wrongly twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """An event as one of those who are counted did it; `matches` says for each selector whether it is one."""

    time: int
    position: int
    who: str
    matches: tuple[bool, ...]
    labels: frozenset[str] = frozenset()


def local(ms: int, zone: tzinfo) -> datetime:
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).astimezone(zone).replace(tzinfo=None)
    )


def unit_start(unit: str, day: date) -> date:
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day


def period(unit: str, interval: int, first: date, ms: int, zone: tzinfo) -> int:
    """The place of the stretch that a time lies in, counted unit by unit."""
    wanted, at, count = unit_start(unit, local(ms, zone).date()), unit_start(unit, first), 0
    while at < wanted:
        at = unit_start(unit, at + timedelta(days={"day": 1, "week": 7, "month": 31}[unit]))
        count += 1
    return count // interval


def by_person(events: Iterable[Seen]) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {}
    for each in sorted(events, key=lambda one: (one.time, one.position)):
        found.setdefault(each.who, []).append(each)
    return found


# --- funnels


def attempt(events: Sequence[Seen], begin: int, steps: int, window_ms: int, order: str) -> list[int] | None:
    """When each step was reached by the attempt that begins with this event; None where none begins there."""
    first = events[begin]
    in_time = [each for each in events[begin:] if each.time - first.time <= window_ms]
    if order == "any":
        done: dict[int, int] = {}
        for each in in_time:
            for step in range(steps):
                if each.matches[step]:
                    done.setdefault(step, each.time)
        return sorted(done.values()) or None if any(first.matches) else None
    if not first.matches[0]:
        return None
    times = [first.time]
    for each in in_time[1:]:
        if len(times) < steps and each.matches[len(times)]:
            times.append(each.time)
    return times


def funnel(
    events: Iterable[Seen],
    *,
    steps: int,
    window_ms: int,
    order: str,
    place: Callable[[int], int | None],
    label: str | None = None,
) -> dict[int, list[tuple[int, int, int]]]:
    """For each stretch and step: how many, and the sums of ms from the step before and from the first."""
    best: dict[tuple[int, str], list[int]] = {}
    for who, own in by_person(events).items():
        for begin, first in enumerate(own):
            at = place(first.time)
            if at is None or (label is not None and label not in first.labels):
                continue
            times = attempt(own, begin, steps, window_ms, order)
            if times is not None and len(times) > len(best.get((at, who), ())):
                best[at, who] = times
    found: dict[int, list[tuple[int, int, int]]] = {}
    for (at, _), times in best.items():
        row = found.setdefault(at, [(0, 0, 0)] * steps)
        for step, time in enumerate(times):
            count, before, start = row[step]
            row[step] = (count + 1, before + time - times[max(step - 1, 0)], start + time - times[0])
    return found


# --- retention: selectors are (born, returning)


def retention(
    events: Iterable[Seen],
    *,
    place: Callable[[int], int | None],
    interval_ms: int,
    intervals: int,
    compounded: bool,
    unbounded: bool,
    label: str | None = None,
) -> dict[int, tuple[int, list[int]]]:
    """For each stretch how many began, and how many returned in each interval (with a label)."""
    found: dict[int, tuple[int, list[int]]] = {}
    for own in by_person(events).values():
        births: dict[int, int] = {}
        for at, each in enumerate(own):
            where = place(each.time)
            if each.matches[0] and where is not None and (compounded or not births):
                births.setdefault(where, at)
        for where, at in births.items():
            count, counts = found.get(where, (0, [0] * intervals))
            returned = {
                (each.time - own[at].time) // interval_ms
                for each in own[at + 1 :]
                if each.matches[1] and (label is None or label in each.labels)
            }
            for interval in range(intervals):
                counts[interval] += (
                    any(interval <= one < intervals for one in returned)
                    if unbounded
                    else interval in returned
                )
            found[where] = (count + 1, counts)
    return found


# --- addiction


def addiction(
    events: Iterable[Seen], *, unit: str, part: str, zone: tzinfo, label: str | None = None
) -> dict[date, dict[str, int]]:
    """For each stretch in how many different hours or days each person was there."""
    there: dict[tuple[date, str], set[Any]] = {}
    for each in events:
        if label is not None and label not in each.labels:
            continue
        at = local(each.time, zone)
        hour = at.date() if part == "day" else (at.date(), at.hour)
        there.setdefault((unit_start(unit, at.date()), each.who), set()).add(hour)
    found: dict[date, dict[str, int]] = {}
    for (start, who), parts in there.items():
        found.setdefault(start, {})[who] = len(parts)
    return found
