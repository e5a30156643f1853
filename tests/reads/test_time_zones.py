"""A project's time zone and `ci_strings` over HTTP: days, expressions, and what is kept when they change."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from tests.engine import plain_store
from tests.reads import event_reference as book
from tests.reads.support import ENGAGE, NOON_MS, OWNER, World, user

HOUR_MS = 3_600_000
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Auckland", "UTC")
CHANGES = (date(2025, 3, 9), date(2025, 3, 30), date(2025, 4, 6), date(2025, 9, 28), date(2025, 10, 26))
"""Days on which clocks change in one of the zones."""
TIMES = sorted(
    {
        int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000 + quarter * HOUR_MS // 4
        for day in CHANGES
        for quarter in range(-2 * 96, 3 * 96)
    }
    | {NOON_MS - hour * HOUR_MS for hour in range(72)}
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A server with an event a quarter of an hour around each change of clocks."""
    made = World(plain_store())
    made.send(
        user("ada", plan="Pro", born="2025-03-30T02:30:00", seen=1_743_294_600),
        user("bob", plan="pro", born="2025-03-29T23:30:00", tags=["VIP"]),
        user("eve", plan="free", born="2025-03-30T00:30:00Z"),
    )
    made.fold_all()
    made.store_events(
        [
            {
                "position": position,
                "arrived": NOON_MS,
                "event": "a",
                "time": ms,
                "distinct_id": "ada",
                "insert_id": f"i{position}",
                "properties": {"local": local(ms)},
            }
            for position, ms in enumerate(TIMES)
        ]
    )
    yield made
    made.close()


def local(ms: int) -> str:
    """A time as Berlin's clocks show it, without an offset."""
    return datetime.fromtimestamp(ms // 1000, ZoneInfo("Europe/Berlin")).strftime("%Y-%m-%dT%H:%M:%S")


def put(world: World, **settings: Any) -> None:
    world.store.catalog.change_project(world.project.id, **settings)


def answer(world: World, path: str, **asked: Any) -> Any:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in asked.items())
    reply = world.get(f"{path}?{query}")
    assert reply.status_code == 200, reply.text
    return reply.json()


def ids(world: World, where: str) -> list[str]:
    return [row["$distinct_id"] for row in answer(world, ENGAGE, where=where)["results"]]


def wanted(name: str, first: date, last: date) -> list[int]:
    """The times on these days of a zone, by looking at each."""
    zone = ZoneInfo(name)
    return [ms for ms in TIMES if first <= datetime.fromtimestamp(ms / 1000, zone).date() <= last]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("Europe/Berlin", "hour"),
        ("Europe/Berlin", "day"),
        ("America/New_York", "hour"),
        ("Asia/Kathmandu", "day"),
        ("Pacific/Auckland", "week"),
    ],
)
def test_a_series_is_cut_as_the_zones_calendar_is(world: World, name: str, unit: str) -> None:
    put(world, timezone=name)
    for day in CHANGES:
        first, last = day - timedelta(days=1), day + timedelta(days=1)
        found = answer(world, "/api/query/events", event='["a"]', unit=unit, from_date=first, to_date=last)[
            "data"
        ]
        counts = Counter(book.bucket(unit, ms, ZoneInfo(name)) for ms in wanted(name, first, last))
        assert found["series"] == sorted(found["series"])
        assert counts.keys() <= set(found["series"])
        assert found["values"]["a"] == {key: counts[key] for key in found["series"]}


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("Europe/Berlin", "2025-03-30", 23),
        ("Europe/Berlin", "2025-10-26", 25),
        ("America/New_York", "2025-03-09", 23),
        ("Pacific/Auckland", "2025-04-06", 25),
        ("Pacific/Auckland", "2025-09-28", 23),
        ("UTC", "2025-03-30", 24),
    ],
)
def test_a_day_of_changing_clocks_has_its_hours(world: World, name: str, day: str, hours: int) -> None:
    put(world, timezone=name)
    days = {"from_date": day, "to_date": day}
    found = answer(world, "/api/query/events", event='["a"]', **days)
    assert found["data"]["values"]["a"] == {day: 4 * hours}
    assert answer(world, "/api/query/events/properties/top", event="a", **days)["local"] == {
        "count": 4 * hours
    }
    stream = answer(world, "/api/query/stream/query", distinct_ids='["ada"]', **days)["results"]
    assert len(stream["events"]) == 4 * hours
    own = answer(world, "/api/mixdown/activity", distinct_id="ada", limit=1000, **days)["results"]
    assert len(own) == 4 * hours


def test_today_is_the_zones(world: World) -> None:
    for name in ("Pacific/Auckland", "UTC", "America/New_York"):
        put(world, timezone=name)
        today = datetime.fromtimestamp(world.now_ms / 1000, ZoneInfo(name)).date()
        [row] = answer(world, "/api/query/events/top")["events"]
        assert row["amount"] == len(wanted(name, today, today))
        found = answer(world, "/api/query/events", event='["a"]', unit="day", interval=2)["data"]
        assert found["series"] == [str(today - timedelta(days=1)), str(today)]


def test_days_of_the_raw_export_stay_in_utc(world: World) -> None:
    put(world, timezone="Pacific/Auckland")
    lines = world.get("/api/2.0/export?from_date=2025-03-30&to_date=2025-03-30").text.splitlines()
    times = [json.loads(line)["properties"]["time"] * 1000 for line in lines]
    assert times == wanted("UTC", date(2025, 3, 30), date(2025, 3, 30))


@pytest.mark.parametrize("name", ZONES)
def test_expressions_over_events_read_local_times_in_the_zone(world: World, name: str) -> None:
    """Of bounds on the event's own time, which narrow the read, and of other properties."""
    put(world, timezone=name)
    zone = ZoneInfo(name)

    def times(where: str) -> list[int]:
        days = "from_date=2025-03-28&to_date=2025-04-02"
        reply = world.get(f"/api/2.0/export?{days}&where={quote(where)}")
        return [json.loads(line)["properties"]["time"] for line in reply.text.splitlines()]

    edge = datetime(2025, 3, 30, 12, tzinfo=zone).timestamp()
    every = [ms // 1000 for ms in wanted("UTC", date(2025, 3, 28), date(2025, 4, 2))]
    assert times('properties["$time"] >= datetime("2025-03-30T12:00:00")') == [t for t in every if t >= edge]
    as_read = {t: datetime.fromisoformat(local(t * 1000)).replace(tzinfo=zone).timestamp() for t in every}
    assert times('datetime(properties["local"]) < datetime(1743336000)') == [
        t for t in every if as_read[t] < 1743336000
    ]


def test_expressions_over_profiles_read_local_times_in_the_zone(world: World) -> None:
    where = 'datetime(properties["born"]) >= datetime("2025-03-30T00:30:00Z")'
    for name, found in {
        "UTC": ["ada", "eve"],
        "Europe/Berlin": ["ada", "eve"],
        "America/New_York": ["ada", "bob", "eve"],
        "Pacific/Auckland": ["eve"],
    }.items():
        put(world, timezone=name)
        assert ids(world, where) == found, name
        told = answer(world, "/api/query/engage/stats", where=where, action="count()")
        assert told["results"] == len(found)


def test_a_change_counts_at_once_for_answers_that_are_kept(world: World) -> None:
    """Counts of cohorts and frozen first pages of queries are kept; a session that was begun goes on."""
    where = 'datetime(properties["born"]) >= datetime("2025-03-30T00:30:00Z")'
    made = world.run(
        world.ask(
            "/api/mixdown/cohorts",
            method="POST",
            user=OWNER,
            json={"project_id": world.project.id, "name": "young", "where": where},
        )
    )
    assert made.status_code == 200, made.text
    put(world, timezone="UTC")
    first = answer(world, ENGAGE, where=where, page_size=1)
    for name, count in (("UTC", 2), ("America/New_York", 3), ("Pacific/Auckland", 1)):
        put(world, timezone=name)
        assert [each["count"] for each in answer(world, "/api/query/cohorts/list")] == [count]
        again = answer(world, ENGAGE, where=where, page_size=1)
        assert again["total"] == count
        assert answer(world, ENGAGE, where=where, page_size=1, page=1)["total"] == count
    second = answer(world, ENGAGE, page=1, session_id=first["session_id"])
    assert (second["total"], [row["$distinct_id"] for row in second["results"]]) == (2, ["eve"])


def test_texts_are_equal_whatever_their_case_where_the_project_says_so(world: World) -> None:
    cases = {
        'properties["plan"] == "PRO"': ([], ["ada", "bob"]),
        'properties["plan"] == "Pro"': (["ada"], ["ada", "bob"]),
        'properties["plan"] != "pro"': (["ada", "eve"], ["eve"]),
        'properties["plan"] in ["PRO", "x"]': ([], ["ada", "bob"]),
        '"RO" in properties["plan"]': ([], ["ada", "bob"]),
        '"vip" in properties["tags"]': ([], ["bob"]),
    }
    for place, on in enumerate((False, True, False)):
        put(world, ci_strings=on)
        for where, found in cases.items():
            assert ids(world, where) == found[on], (where, place)


def test_clients_are_told_the_zone(world: World) -> None:
    put(world, timezone="Asia/Kathmandu")
    projects = world.get("/api/app/me").json()["results"]["projects"]
    assert projects[str(world.project.id)]["timezone"] == "Asia/Kathmandu"


def test_the_last_days_of_the_event_names_are_the_zones(world: World) -> None:
    put(world, timezone="Pacific/Auckland")
    assert answer(world, "/api/query/events/names") == ["a"]
    edge = str(datetime.fromtimestamp(TIMES[0] / 1000, ZoneInfo("Pacific/Auckland")).date())
    before = str(date.fromisoformat(edge) - timedelta(days=1))
    assert answer(world, "/api/query/events/names", from_date=before, to_date=before) == []
    assert answer(world, "/api/query/events/names", from_date=edge, to_date=edge) == ["a"]
