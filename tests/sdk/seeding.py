"""A server with users, groups and cohorts in it, for clients that read a whole project.

Nothing enters; a `Seeded` leaves. As many users, and as many members of the cohort, as fill pages of 250, 500
and 1,000 exactly: clients that count on a short last page ask for one past the end then.
"""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tests.reports.journeys import Seen, funnel, period
from tests.serving import Event, Profile, Server, StartServer

USERS: Final = 2000
GROUPS: Final = 3
FIRST_SEEN: Final = datetime(2026, 2, 1, tzinfo=UTC)
START_DATE: Final = "2026-01-01T00:00:00Z"
LONG_AGO: Final = datetime(2019, 6, 1, tzinfo=UTC)
TEXTS: Final = ("Ålesund", "a\u2028b", "東京 🎉", 'back\\slash "quoted"')
FILES_WAIT_S: Final = 60
_BATCH: Final = 1000
_IMPORTED: Final = 2000


EVENTS: Final = 300
EVENT_NAMES: Final = ("View", "Sign Up", "Purchase")
FUNNEL: Final = ("View", "Purchase")
EVENT_DAYS: Final = (f"{FIRST_SEEN:%F}", f"{FIRST_SEEN + timedelta(hours=EVENTS):%F}")
"""The days of these events: they are an hour apart."""
RECENT: Final = 3
"""As many came today: what clients ask for without days are those of the last days."""
OLD: Final = 20_000
"""So many, years before what clients ask for, have events closed into a file of Parquet; not the recent."""


@dataclass(frozen=True)
class Seeded:
    """The server, what it stores, and its cohorts: `pros` are the odd half of the users, `none` is empty.

    `events` are as the raw export has them, times in milliseconds; `earlier` those of `EVENT_DAYS`.
    """

    server: Server
    users: dict[str, Profile]
    groups: dict[str, Profile]
    events: list[Event]
    earlier: list[Event]
    pros: int
    none: int
    funnel: int
    note: int

    def figures(self) -> dict[int, list[tuple[int, int, int]]]:
        """What the funnel (View, then Purchase, in a day) gives on each of `EVENT_DAYS`, by the book."""
        first = FIRST_SEEN.date()
        seen = [
            Seen(
                event["properties"]["time"],
                event["properties"]["n"],
                event["properties"]["distinct_id"],
                tuple(event["event"] == name for name in FUNNEL),
            )
            for event in self.earlier
        ]

        def place(ms: int) -> int:
            return period("day", 1, first, ms, UTC)

        return funnel(seen, steps=len(FUNNEL), window_ms=86_400_000, order="loose", place=place)

    def counts(self) -> list[int]:
        """How many reached each of its steps, summed over all days."""
        figures = self.figures()
        return [sum(row[step][0] for row in figures.values()) for step in range(len(FUNNEL))]

    @property
    def members(self) -> dict[str, Profile]:
        """The users in the cohort `pros`."""
        return {user: properties for user, properties in self.users.items() if properties["plan"] == "pro"}


def seen(number: int) -> datetime:
    """When a user was seen: each a minute after the one before."""
    return FIRST_SEEN + timedelta(minutes=number)


def properties_of(number: int) -> Profile:
    """The properties that a user is sent with: each kind of value that there is."""
    return {
        "$email": f"u{number}@example.com",
        "$name": TEXTS[number % len(TEXTS)],
        "plan": "pro" if number % 2 else "free",
        "n": number,
        "ratio": number / 8,
        "active": number % 3 == 0,
        "signup": f"2026-01-{number % 28 + 1:02}T10:00:00",
        "tags": ["a", str(number % 5)],
        "address": {"city": "Ålesund", "floor": number % 4},
    }


def send(server: Server, number: int, **more: Any) -> dict[str, Any]:
    """The update that makes a user."""
    return {
        "$token": server.token,
        "$distinct_id": f"user-{number:05}",
        "$time": int(seen(number).timestamp()),
        "$set": {**properties_of(number), **more},
    }


def happened(number: int) -> dict[str, Any]:
    """An event as a client sends it."""
    at = FIRST_SEEN + timedelta(hours=number)
    if number >= EVENTS:
        now = datetime.now(UTC)
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        at = max(now - timedelta(hours=1), today)  # in the first hour of a day too
    return {
        "event": EVENT_NAMES[number % len(EVENT_NAMES)],
        "properties": {
            "time": int(at.timestamp() * 1000) + number,
            "distinct_id": f"user-{number % 20:05}",
            "$insert_id": f"event-{number:05}",
            "n": number,
            "text": TEXTS[number % len(TEXTS)],
            "tags": ["a", str(number % 5)],
            "address": {"city": "Ålesund", "floor": number % 4},
        },
    }


def long_ago(number: int) -> dict[str, Any]:
    """An event that only fills a file."""
    at_ms = int(LONG_AGO.timestamp() * 1000) + number
    own = {"time": at_ms, "distinct_id": "user-00000", "$insert_id": f"old-{number:05}", "n": number}
    return {"event": EVENT_NAMES[number % len(EVENT_NAMES)], "properties": own}


def import_events(server: Server, events: list[dict[str, Any]]) -> None:
    """Send events by /import."""
    target = f"/import?strict=1&project_id={server.project_id}"
    for start in range(0, len(events), _IMPORTED):
        some = events[start : start + _IMPORTED]
        told = server.post(target, some, server.authorization())
        assert told.json()["num_records_imported"] == len(some)


def wait_for_files(server: Server) -> None:
    """Return once events lie in files."""
    deadline = time.monotonic() + FILES_WAIT_S
    while b'mixdown_events_files{state="listed"} 0.0' in server.get("/metrics").body:
        assert time.monotonic() < deadline, "no file of events was made"
        time.sleep(0.1)
    assert b'mixdown_events_files{state="listed"}' in server.get("/metrics").body


@pytest.fixture(scope="module")
def seeded(start_module_server: StartServer) -> Seeded:
    """A server that a client can read for every kind of thing that there is."""
    server = start_module_server()
    for start in range(0, USERS, _BATCH):
        records = [send(server, number) for number in range(start, start + _BATCH)]
        assert server.post("/engage", records).body == b"1"
    group = {"$token": server.token, "$group_key": "Company"}
    groups = [{**group, "$group_id": f"Acme {number}", "$set": {"seats": number}} for number in range(GROUPS)]
    assert server.post("/groups", groups).body == b"1"
    import_events(server, [happened(number) for number in range(EVENTS)])
    import_events(server, [long_ago(number) for number in range(OLD)])
    wait_for_files(server)
    import_events(server, [happened(EVENTS + number) for number in range(RECENT)])
    return Seeded(
        server,
        server.profiles(),
        server.groups("Company"),
        server.events(EVENT_DAYS[0]),
        server.events(*EVENT_DAYS),
        pros=create_cohort(server, "Pros", 'properties["plan"] == "pro"'),
        none=create_cohort(server, "Nobody", 'properties["plan"] == "gold"'),
        funnel=create_funnel(server),
        note=create_annotation(server),
    )


def create_funnel(server: Server) -> int:
    """Save a funnel, and how somebody draws it, which is nothing to clients; returns its number."""
    project = ["--project", str(server.project_id)]
    steps = [argument for name in FUNNEL for argument in ("--step", name)]
    made = server.command("funnel", "create", "Buyers", *steps, "--length", "1", *project, "--json")
    drawn = ("--on", "n", "--interval", "7", "--limit", "2")
    server.command("report", "change", "Buyers", *drawn, *project, "--json")
    return int(made["id"])


def create_annotation(server: Server) -> int:
    """Annotate a moment; returns the annotation's number."""
    target = f"/api/app/projects/{server.project_id}/annotations"
    note = {"date": f"{EVENT_DAYS[0]} 12:00:00", "description": "Released"}
    headers = {**server.authorization(), "Content-Type": "application/json"}
    made = server.request("POST", target, json.dumps(note).encode(), headers)
    assert made.status == 201, made
    return int(made.json()["results"]["id"])


def create_cohort(server: Server, name: str, where: str) -> int:
    """Save a filter; returns the cohort's id."""
    project = ["--project", str(server.project_id)]
    made = server.command("cohort", "create", name, "--where", where, *project, "--json")
    return int(made["id"])
