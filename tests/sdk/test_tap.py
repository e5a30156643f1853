"""tap-mixpanel, unmodified, against a running server that the redirect helper leads it to."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.seeding import EVENT_DAYS, FUNNEL, START_DATE, Seeded
from tests.sdk.support import PYTHON_REDIRECT, run_client
from tests.serving import Server

pytestmark = pytest.mark.slow

STREAMS = {"annotations", "cohort_members", "cohorts", "engage", "export", "funnels"}

Tap = Callable[..., str]


@pytest.fixture
def run_tap(tap: Path, tmp_path: Path) -> Tap:
    """Run the tap with the server's secret; returns what it prints."""

    def run(server: Server, *arguments: str, secret: str = "", status: int = 0) -> str:
        config = {
            "api_secret": secret or server.secret,
            "project_timezone": "UTC",
            "attribution_window": "5",
            "date_window_size": "100",
            "start_date": START_DATE,
            "user_agent": "tests",
            "select_properties_by_default": "true",
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PYTHON_REDIRECT),
            "MIXDOWN_BASE": server.base_url,
        }
        ended = run_client([tap, "--config", "config.json", *arguments], tmp_path, environment)
        assert ended.returncode == status, ended.stderr[-3000:]
        return ended.stdout or ended.stderr

    return run


def everything(catalog: dict[str, Any]) -> dict[str, Any]:
    """The catalog with every stream and property selected."""
    for stream in catalog["streams"]:
        for one in stream["metadata"]:
            one["metadata"]["selected"] = True
    return catalog


def reserved(name: str) -> str:
    """The name that the tap gives to a property of Mixpanel's own."""
    return f"mp_reserved_{name[1:]}" if name.startswith("$") else name


def test_every_stream_is_discovered_and_synced(seeded: Seeded, run_tap: Tap, tmp_path: Path) -> None:
    catalog = json.loads(run_tap(seeded.server, "--discover"))
    found = {stream["stream"]: stream["schema"]["properties"] for stream in catalog["streams"]}
    assert set(found) == STREAMS
    assert {"plan", "n", "tags", "address", "mp_reserved_email", "mp_reserved_last_seen"} <= set(
        found["engage"]
    )
    assert found["engage"]["active"]["anyOf"][0]["type"] == ["null", "boolean"]

    (tmp_path / "catalog.json").write_text(json.dumps(everything(catalog)))
    messages = [
        json.loads(line) for line in run_tap(seeded.server, "--catalog", "catalog.json").strip().split("\n")
    ]
    rows: dict[str, list[dict[str, Any]]] = {stream: [] for stream in STREAMS}
    for message in messages:
        if message["type"] == "RECORD":
            rows[message["stream"]].append(message["record"])
    users = {row["distinct_id"]: row for row in rows["engage"]}
    assert len(users) == len(rows["engage"]) == len(seeded.users)
    for user, properties in seeded.users.items():
        kept = {name: properties[name] for name in ("plan", "tags", "address", "$name", "$email")}
        assert {reserved(name): value for name, value in kept.items()}.items() <= users[user].items()
        assert float(users[user]["n"]) == properties["n"]
    assert {row["name"]: row["count"] for row in rows["cohorts"]} == {
        "Pros": len(seeded.members),
        "Nobody": 0,
    }
    assert {(row["cohort_id"], row["distinct_id"]) for row in rows["cohort_members"]} == {
        (seeded.pros, user) for user in seeded.members
    }
    assert {(row["funnel_id"], row["name"]) for row in rows["funnels"]} == {(seeded.funnel, "Buyers")}
    earlier = [row for row in rows["funnels"] if row["date"][:10] <= EVENT_DAYS[1]]  # it reads up to today
    counted = [sum(row["steps"][step]["count"] for row in earlier) for step in range(len(FUNNEL))]
    assert counted == seeded.counts()
    assert [(row["id"], row["description"]) for row in rows["annotations"]] == [(seeded.note, "Released")]
    check_events(seeded, rows["export"])

    states = [message["value"] for message in messages if message["type"] == "STATE"]
    (tmp_path / "state.json").write_text(json.dumps(states[-1]))
    said = run_tap(seeded.server, "--catalog", "catalog.json", "--state", "state.json")
    again = [row for row in map(json.loads, said.strip().split("\n")) if row["type"] == "RECORD"]
    events = {row["record"]["mp_reserved_insert_id"] for row in again if row["stream"] == "export"}
    assert seeded.events[-1]["properties"]["$insert_id"] in events
    assert len(events) < len(seeded.events) / 2


def check_events(seeded: Seeded, rows: list[dict[str, Any]]) -> None:
    """Each event came once, with its time, person and properties."""
    exported = {row["mp_reserved_insert_id"]: row for row in rows}
    assert len(exported) == len(rows) == len(seeded.events)
    for event in seeded.events:
        row, properties = exported[event["properties"]["$insert_id"]], event["properties"]
        at = datetime.fromtimestamp(properties["time"] // 1000, UTC)
        assert row["event"] == event["event"]
        assert (row["distinct_id"], row["text"]) == (properties["distinct_id"], properties["text"])
        assert row["time"].startswith(at.strftime("%Y-%m-%dT%H:%M:%S"))


def test_wrong_credentials_end_it_at_once(seeded: Seeded, run_tap: Tap) -> None:
    said = run_tap(seeded.server, "--discover", secret="no secret", status=1)
    assert "Unable to authenticate request" in said
