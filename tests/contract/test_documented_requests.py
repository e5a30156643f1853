"""The sample requests of Mixpanel's own reference pages, byte for byte but for the host.

`tests/data/documented` holds their bodies as curl sends them: two of the three are a JSON string that
holds the JSON list. The pages' URLs end in a fragment, which no client should send and some do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Profile, Server, launch

BODIES = Path(__file__).parents[1] / "data" / "documented"
SAMPLES: dict[str, tuple[str, dict[str, Profile], dict[str, Profile]]] = {
    "group-batch-update": (
        "/groups",
        {},
        {
            "Mixpanel": {"Address": "1313 Mockingbird Lane"},
            "Wayne Enterprises": {"Address": "Wayne Tower, Gotham City"},
        },
    ),
    "profile-batch-update": (
        "/engage",
        {"13793": {"$email": "user1@mail.com"}, "13794": {"Coins Gathered": 13}, "13795": {}},
        {},
    ),
    "profile-set": ("/engage", {"13793": {}}, {}),
}


@pytest.fixture
def documented(tmp_path: Path) -> Iterator[Server]:
    """A fresh server whose project has the token of the samples."""
    running = launch(tmp_path / "data", environment={"MIXDOWN_TOKEN": "YOUR_PROJECT_TOKEN"})
    yield running
    running.stop()


def without_last_seen(profiles: dict[str, Profile]) -> dict[str, Any]:
    """Profiles without `$last_seen`, which each of them must have."""
    return {
        name: {key: value for key, value in profile.items() if key != "$last_seen"}
        for name, profile in profiles.items()
        if profile["$last_seen"]
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_a_documented_request_is_stored(documented: Server, name: str) -> None:
    path, users, groups = SAMPLES[name]
    body = (BODIES / f"{name}.json").read_bytes()
    for target in (path, f"{path}#{name}", f"{path}%23{name}"):
        reply = documented.request("POST", target, body, {"Content-Type": "application/json"})
        assert (reply.status, reply.header("Content-Type"), reply.body) == (200, "text/plain", b"1"), target
    # Sent three times over, additions count three times; all else is as after the first.
    counted = {key: {**value} for key, value in users.items()}
    if "13794" in counted:
        counted["13794"]["Coins Gathered"] = 3 * 13
    assert without_last_seen(documented.profiles()) == counted
    assert without_last_seen(documented.groups("Company")) == groups


def test_set_property_creates_a_profile_and_then_overwrites_it(documented: Server) -> None:
    for properties in ({"plan": "free", "seats": 1}, {"plan": "paid"}):
        record = {"$token": "YOUR_PROJECT_TOKEN", "$distinct_id": "13793", "$set": properties}
        assert documented.post("/engage", [record]).body == b"1"
    assert without_last_seen(documented.profiles()) == {"13793": {"plan": "paid", "seats": 1}}
