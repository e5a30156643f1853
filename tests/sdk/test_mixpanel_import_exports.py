"""mixpanel-import, unmodified: exports that a filter or a cohort narrows, with each kind of credentials."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.seeding import EVENT_DAYS, Seeded
from tests.sdk.test_mixpanel_import import Import, job, mixpanel_import, project_secret, service_account
from tests.serving import Profile, Server

__all__ = ["mixpanel_import"]  # a fixture

pytestmark = pytest.mark.slow

Credentials = Callable[[Server], dict[str, Any]]


def profiles(result: Mapping[str, Any]) -> dict[str, Profile]:
    """What a job read, each id once."""
    assert result["errors"] == {}
    found = {row["$distinct_id"]: row["$properties"] for row in result["read"]}
    assert len(found) == len(result["read"])
    return found


@pytest.mark.parametrize("credentials", [service_account, project_secret])
@pytest.mark.parametrize("transport", ["undici", "got"])
def test_profiles_are_exported_whole_by_filter_and_by_cohort(
    seeded: Seeded, mixpanel_import: Import, credentials: Credentials, transport: str
) -> None:
    who = credentials(seeded.server)
    common = {"skipWriteToDisk": True, "transport": transport}
    whole, some, pros, nobody, companies = mixpanel_import(
        seeded.server,
        job(who, "profile-export", **common),  # whole pages: it asks for one past the end
        job(who, "profile-export", **common, whereClause='properties["n"] in [3, 5] or properties["n"] < 1'),
        job(who, "profile-export", **common, cohortId=seeded.pros),
        job(who, "profile-export", **common, cohortId=seeded.none),
        job(who, "profile-export", **common, dataGroupId="Company"),
    )
    assert profiles(whole) == seeded.users
    assert [properties["n"] for properties in profiles(some).values()] == [0, 3, 5]
    assert profiles(pros) == seeded.members
    assert profiles(nobody) == {}
    assert profiles(companies) == seeded.groups


def test_events_are_exported_as_they_are(seeded: Seeded, mixpanel_import: Import, tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    days = dict(zip(("start", "end"), EVENT_DAYS, strict=True))
    [result] = mixpanel_import(
        seeded.server, job(service_account(seeded.server), "export", **days, where=str(folder))
    )
    assert (result["failed"], result["errors"]) == (0, {})
    lines = [line for file in folder.iterdir() for line in file.read_text().split("\n") if line]
    found = {event["properties"]["$insert_id"]: event for event in map(json.loads, lines)}
    assert len(found) == len(lines) == len(seeded.earlier)
    for event in seeded.earlier:
        there = found[event["properties"]["$insert_id"]]
        assert there["event"] == event["event"]
        assert there["properties"]["text"] == event["properties"]["text"]
        assert there["properties"]["time"] == event["properties"]["time"] // 1000
