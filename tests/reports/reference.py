"""Reports by the book, in plain Python over a list of events: what the quick ones are held to.

Events and who is who enter, as `tests/reads` makes them; figures leave, made by looking at every event.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import orjson
from hypothesis import strategies as st

from tests.reads import event_reference as book
from tests.reads.event_reference import Stored
from tests.reads.test_events_by_the_book import HOUR_MS, IDS, MIDNIGHT_MS, NAMES, PROPERTIES, Kept
from tests.store.support import user, write

ABSENT = "(absent)"
LEVELS: Mapping[str, Mapping[str, Any]] = {
    "u1": {"level": 2, "plan": "gold"},
    "u2": {"level": "2", "tags": ["x", "y"]},
    "alias": {"plan": None},
}
"""Profiles by canonical id."""
Row = Callable[[Stored, str], Any]
"""What something is for an event of a person; `ABSENT` where it is undefined."""


def of_event(name: str) -> Row:
    return lambda each, _: each.properties.get(name, ABSENT)


def of_user(name: str) -> Row:
    return lambda _, person: LEVELS.get(person, {}).get(name, ABSENT)


def as_number(inner: Row) -> Row:
    """`number(...)`."""

    def cast(each: Stored, person: str) -> Any:
        value = inner(each, person)
        if type(value) is bool:
            return int(value)
        if type(value) is str and value != ABSENT:
            return {"2": 2}.get(value, ABSENT)
        return value if type(value) in (int, float) else ABSENT

    return cast


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


ON: Mapping[str, Row] = {
    "plan": of_event("plan"),
    'properties["n"]': of_event("n"),
    'event["/~1"]': of_event("/~1"),
    'user["level"]': of_user("level"),
    'user["tags"]': of_user("tags"),
    'user["plan"]': of_user("plan"),
    'number(properties["n"])': as_number(of_event("n")),
    'properties["n"] == 1': lambda each, _: is_number(each.properties.get("n")) and each.properties["n"] == 1,
    'defined(properties["plan"])': lambda each, _: each.properties.get("plan") is not None,
    "distinct_id": lambda _, person: person,
    'event["$event_name"]': lambda each, _: each.event,
    "$distinct_id_before_identity": lambda each, person: (
        each.distinct_id
        if each.distinct_id != person
        else each.properties.get("$distinct_id_before_identity", ABSENT)
    ),
    "7": lambda *_: 7,
    "undefined": lambda *_: ABSENT,
}
WHERE: Mapping[str, Row] = {
    "": lambda *_: True,
    'properties["plan"] == "a"': lambda each, _: each.properties.get("plan") == "a",
    'properties["n"] >= 1': lambda each, _: is_number(each.properties.get("n")) and each.properties["n"] >= 1,
    'not defined(properties["plan"])': lambda each, _: each.properties.get("plan") is None,
    'user["level"] == 2': lambda _, person: LEVELS.get(person, {}).get("level") == 2,
    'properties["distinct_id"] == "u1"': lambda _, person: person == "u1",
    'any(x, properties["plan"], x == "a")': lambda each, _: (
        type(each.properties.get("plan")) is list and "a" in each.properties["plan"]
    ),
    'string(properties["n"]) + "x" == "2x"': lambda each, _: (
        type(each.properties.get("n")) in (int, float, str, bool) and book.label(each.properties["n"]) == "2"
    ),
}
"""Filters in SQL, in Python, and of profiles."""


class Moment(NamedTuple):
    """A zone and a midnight around which events lie."""

    zone: str
    day: date


MOMENTS = (
    Moment("UTC", date(2026, 1, 15)),
    Moment("Europe/Berlin", date(2026, 3, 29)),  # forward at 2:00
    Moment("Europe/Berlin", date(2026, 10, 25)),  # back at 3:00
    Moment("America/St_Johns", date(2026, 11, 1)),
    Moment("America/Havana", date(2026, 3, 8)),  # midnight never comes
    Moment("America/Havana", date(2026, 11, 1)),  # and comes twice
    Moment("Asia/Kolkata", date(2026, 1, 31)),
)
moments = st.sampled_from(MOMENTS)


def moved(events: Sequence[Stored], moment: Moment) -> list[Stored]:
    """Events of 15 January 2026 as events of another day."""
    days = (moment.day - date(2026, 1, 15)).days
    return [each._replace(time=each.time + days * 24 * HOUR_MS) for each in events]


def drawn_events(dice: random.Random, count: int) -> list[Stored]:
    """Events as `stored` draws them, many of them: ties, gaps, some sent twice."""
    plain = (None, True, 1, 2, 2.0, 0.5, -3, "", "a", "2", "undefined", 10**6)
    found: list[Stored] = []
    for position in range(count):
        if found and dice.random() < 0.15:
            again = dice.choice(found)
            found.append(again._replace(position=position, arrived=MIDNIGHT_MS + position))
            continue
        own = {
            name: dice.choice([*plain, [], ["a", "b", "a"], [1, None], {"x": 1}])
            for name in PROPERTIES
            if dice.random() < 0.6
        }
        hours = dice.choice([dice.randrange(-30, 80), dice.randrange(4)])
        found.append(
            Stored(
                position=position,
                arrived=MIDNIGHT_MS + position,
                event=dice.choice(NAMES),
                time=MIDNIGHT_MS + hours * HOUR_MS + dice.choice([0, 0, dice.randrange(HOUR_MS)]),
                distinct_id=dice.choice(IDS),
                insert_id=f"i{position}",
                properties=own,
            )
        )
    return found


def with_profiles(world: Kept) -> Kept:
    """The same, and profiles."""
    profiles = [(user(name), orjson.dumps(own)) for name, own in LEVELS.items()]
    write(world.view.state, profiles, watermark=world.view.state.watermark())
    return world


def keys_of(unit: str, first: date, last: date, every: int = 1, *, begun: str = "") -> list[str]:
    """The keys of a span of days, told hour by hour of a clock that nobody puts forward or back.

    A day that begins at one o'clock begins with that hour: `begun` is the key of its first moment.
    """
    begin, end = (datetime(each.year, each.month, each.day, tzinfo=UTC) for each in (first, last))
    hours = range(int(begin.timestamp()) // 3600, int(end.timestamp()) // 3600 + 24)
    found = dict.fromkeys(book.bucket(unit, hour * 3_600_000) for hour in hours)
    return sorted(key for key in found if key >= begun)[::every]


def key_of(keys: Sequence[str], unit: str, ms: int, zone: tzinfo) -> str:
    """The last key that is no later."""
    own = book.bucket(unit, ms, zone)
    return max(key for key in keys if key <= own)


def group_ids(value: Any) -> set[str]:
    """The groups that a value names."""
    items = value if type(value) is list else [value]
    return {book.label(item) for item in items if item is not None} - {""}


def counted(each: Stored, person: str, group_key: str) -> set[str]:
    """Who counts for an event."""
    return group_ids(each.properties.get(group_key)) if group_key else {person}


def labels(value: Any) -> set[str]:
    return {"undefined"} if value == ABSENT else book.labels(value)


def figure(kind: str, rows: Sequence[str]) -> float:
    return book.figure(kind, rows) if rows else 0


def total(values: Sequence[Any]) -> float:
    """The sum of what is a number, exactly, and then as a double."""
    return float(sum((Fraction(float(value)) for value in values if is_number(value)), Fraction(0)))


def range_of(value: float, edges: Sequence[Decimal]) -> int:
    """Which range a number lies in."""
    return max(place for place, edge in enumerate(edges[:-1]) if edge <= Decimal(repr(float(value))))
