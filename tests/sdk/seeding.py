"""A server with users, groups and cohorts in it, for clients that read a whole project.

Nothing enters; a `Seeded` leaves. As many users, and as many members of the cohort, as fill pages of 250, 500
and 1,000 exactly: clients that count on a short last page ask for one past the end then.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tests.serving import Event, Profile, Server, StartServer

USERS: Final = 2000
GROUPS: Final = 3
FIRST_SEEN: Final = datetime(2026, 2, 1, tzinfo=UTC)
START_DATE: Final = "2026-01-01T00:00:00Z"
TEXTS: Final = ("Ålesund", "a\u2028b", "東京 🎉", 'back\\slash "quoted"')
_BATCH: Final = 1000


EVENTS: Final = 300
EVENT_NAMES: Final = ("View", "Sign Up", "Purchase")
EVENT_DAYS: Final = (f"{FIRST_SEEN:%F}", f"{FIRST_SEEN + timedelta(hours=EVENTS):%F}")
"""The days of these events: they are an hour apart."""
RECENT: Final = 3
"""As many came today: what clients ask for without days are those of the last days."""


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
        at = datetime.now(UTC) - timedelta(hours=1)
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
    target = f"/import?strict=1&project_id={server.project_id}"
    sent = [happened(number) for number in range(EVENTS + RECENT)]
    told = server.post(target, sent, server.authorization())
    assert told.json()["num_records_imported"] == EVENTS + RECENT
    return Seeded(
        server,
        server.profiles(),
        server.groups("Company"),
        server.events(),
        server.events(*EVENT_DAYS),
        pros=create_cohort(server, "Pros", 'properties["plan"] == "pro"'),
        none=create_cohort(server, "Nobody", 'properties["plan"] == "gold"'),
    )


def create_cohort(server: Server, name: str, where: str) -> int:
    """Save a filter; returns the cohort's id."""
    project = ["--project", str(server.project_id)]
    made = server.command("cohort", "create", name, "--where", where, *project, "--json")
    return int(made["id"])
