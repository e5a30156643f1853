"""mixpanel-utils, unmodified, against a running server: events imported, exported, counted by its scripts."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.test_mixpanel_utils import (
    CONNECTIONS,
    Connect,
    in_a_folder_of_its_own,
    no_complaints,
    with_service_account,
)
from tests.serving import Server

__all__ = ["in_a_folder_of_its_own", "no_complaints"]  # fixtures

pytestmark = pytest.mark.slow

DAYS = {"from_date": "2026-01-01", "to_date": "2026-01-05"}
FIRST_S = 1767225600


def events(name: str, count: int) -> list[dict[str, Any]]:
    """Events of some hours, as the library takes them."""
    return [
        {
            "event": name,
            "properties": {
                "time": FIRST_S + 3600 * n,
                "distinct_id": f"{name} {n % 3}",
                "$insert_id": f"utils-{n}",
                "n": n,
                "text": "Zoë\u2028",
            },
        }
        for n in range(count)
    ]


@pytest.mark.parametrize("connect", CONNECTIONS)
def test_events_go_in_and_come_out(server: Server, connect: Connect, tmp_path: Path) -> None:
    client = connect(server)
    name = f"Utils {connect.__name__}"
    client.import_events(events(name, 60), timezone_offset=0)
    chosen = {**DAYS, "event": json.dumps([name])}
    found = client.query_export(chosen)
    assert [event["properties"]["n"] for event in found] == list(range(60))
    assert found[0]["properties"]["time"] == FIRST_S
    assert {event["properties"]["text"] for event in found} == {"Zoë\u2028"}
    narrowed = client.query_export({**chosen, "where": 'properties["n"] < 5'})
    assert [event["properties"]["n"] for event in narrowed] == [0, 1, 2, 3, 4]

    client.export_events(str(tmp_path / "events.json"), params=dict(chosen))
    assert len(json.loads((tmp_path / "events.json").read_text())) == 60
    client.export_events(str(tmp_path / "packed.json"), params=dict(chosen), compress=True)
    packed = next(path for path in tmp_path.iterdir() if path.name.startswith("packed.json.gz"))
    assert len(json.loads(gzip.decompress(packed.read_bytes()))) == 60
    client.export_events(str(tmp_path / "events.csv"), params=dict(chosen), format="csv")
    assert len((tmp_path / "events.csv").read_text().strip().split("\n")) >= 61


def test_the_scripts_of_the_library_are_answered(server: Server) -> None:
    client = with_service_account(server)
    name = "Utils Scripts"
    client.import_events(events(name, 30), timezone_offset=0)
    client.import_people([{"$distinct_id": f"{name} {n}", "$properties": {"who": n}} for n in range(3)])
    found = client.query_jql_events(**DAYS, event_selectors=[{"event": name}])
    assert sorted(event["properties"]["n"] for event in found) == list(range(30))
    people = client.query_jql_people(user_selectors='properties["who"] >= 1')
    assert {person["$distinct_id"] for person in people} == {f"{name} 1", f"{name} 2"}
    client.event_counts_to_people(DAYS["from_date"], [name])
    profiles = server.profiles()
    assert [profiles[f"{name} {n}"][name] for n in range(3)] == [10, 10, 10]
