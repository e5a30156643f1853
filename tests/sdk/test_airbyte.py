"""airbyte-source-mixpanel, unmodified, against a running server that the redirect helper leads it to."""

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.environments import client_programs
from tests.sdk.seeding import FUNNEL, START_DATE, Seeded, seen, send
from tests.sdk.support import PYTHON_REDIRECT, run_client
from tests.serving import Server

pytestmark = pytest.mark.slow

UNHURRIED = Path(__file__).parent / "python" / "airbyte_unhurried.py"
STREAMS = {"annotations", "cohort_members", "cohorts", "engage", "export", "funnels"}
PAGE_SIZE = 500
LATER = 5000

Message = dict[str, Any]
Run = Callable[..., list[Message]]
Credentials = dict[str, Any]


def service_account(server: Server) -> Credentials:
    user, password = server.account
    return {
        "option_title": "Service Account",
        "username": user,
        "secret": password,
        "project_id": server.project_id,
    }


def project_secret(server: Server) -> Credentials:
    return {"option_title": "Project Secret", "api_secret": server.secret}


@pytest.fixture(scope="session")
def python() -> Path:
    """The Python that has the connector."""
    return client_programs("airbyte-source-mixpanel", python="3.11") / "python"


@pytest.fixture
def connector(python: Path, tmp_path: Path) -> Run:
    """Run a command of the connector; returns its messages."""

    def run(
        command: str,
        server: Server,
        credentials: Credentials,
        *,
        catalog: Mapping[str, Any] | None = None,
        state: list[Any] | None = None,
    ) -> list[Message]:
        config: dict[str, Any] = {"credentials": credentials, "region": "US", "start_date": START_DATE}
        config |= {"project_timezone": "UTC", "page_size": PAGE_SIZE, "date_window_size": 100}
        given = {"config": config, "catalog": catalog, "state": state}
        arguments = []
        for name, value in given.items():
            if value is not None:
                (tmp_path / f"{name}.json").write_text(json.dumps(value))
                arguments += [f"--{name}", f"{name}.json"]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(PYTHON_REDIRECT),
            "MIXDOWN_BASE": server.base_url,
        }
        ended = run_client([python, UNHURRIED, command, *arguments], tmp_path, environment)
        messages = [json.loads(line) for line in ended.stdout.split("\n") if line.startswith("{")]
        complaints = [message for message in messages if message["type"] == "TRACE"]
        errors = [one for one in complaints if one["trace"]["type"] == "ERROR"]
        assert (ended.returncode, errors) == (0, []), ended.stderr[-2000:]
        return messages

    return run


def of(messages: list[Message], kind: str) -> list[Any]:
    """The bodies of the messages of one kind."""
    body = {"CONNECTION_STATUS": "connectionStatus"}.get(kind, kind.lower())
    return [message[body] for message in messages if message["type"] == kind]


def records(messages: list[Message], stream: str) -> list[dict[str, Any]]:
    """The records that were read of a stream."""
    return [one["data"] for one in of(messages, "RECORD") if one["stream"] == stream]


def states(messages: list[Message]) -> dict[str, Any]:
    """The last state of each stream, as it is handed in for the next read."""
    return {one["stream"]["stream_descriptor"]["name"]: one for one in of(messages, "STATE")}


def every_stream(catalog: Mapping[str, Any]) -> dict[str, Any]:
    """What to read: all that was discovered, from where it ended last where it can."""
    configured = []
    for stream in catalog["streams"]:
        mode = "incremental" if "incremental" in stream["supported_sync_modes"] else "full_refresh"
        configured.append({"stream": stream, "sync_mode": mode, "destination_sync_mode": "append"})
    return {"streams": configured}


def plain(properties: Mapping[str, Any]) -> dict[str, Any]:
    """A profile's properties under the names that the connector gives them."""
    return {name.removeprefix("$"): value for name, value in properties.items()}


@pytest.mark.parametrize("credentials", [service_account, project_secret])
def test_the_connection_is_checked(
    seeded: Seeded, connector: Run, credentials: Callable[[Server], Credentials]
) -> None:
    messages = connector("check", seeded.server, credentials(seeded.server))
    assert [one["status"] for one in of(messages, "CONNECTION_STATUS")] == ["SUCCEEDED"]


def test_wrong_credentials_are_called_wrong(seeded: Seeded, connector: Run) -> None:
    wrong = {**service_account(seeded.server), "secret": "wrong"}
    [status] = of(connector("check", seeded.server, wrong), "CONNECTION_STATUS")
    assert status["status"] == "FAILED"
    assert "Authentication has failed" in status["message"]


@pytest.mark.parametrize("credentials", [service_account, project_secret])
def test_every_stream_is_discovered_and_read_and_then_only_what_is_new(
    seeded: Seeded, connector: Run, credentials: Callable[[Server], Credentials]
) -> None:
    server, who = seeded.server, credentials(seeded.server)
    profiles = server.profiles()
    pros = {user for user, properties in profiles.items() if properties["plan"] == "pro"}
    [catalog] = of(connector("discover", server, who), "CATALOG")
    found = {stream["name"]: stream["json_schema"]["properties"] for stream in catalog["streams"]}
    assert set(found) == STREAMS
    kinds = {name: found["engage"][name]["type"] for name in ("plan", "n", "active", "tags", "address")}
    assert kinds == {
        "plan": ["null", "string"],
        "n": ["null", "number"],
        "active": ["null", "boolean"],
        "tags": ["null", "array"],
        "address": ["null", "object"],
    }

    read = connector("read", server, who, catalog=every_stream(catalog))
    engaged = records(read, "engage")
    users = {row["distinct_id"]: row for row in engaged}
    assert len(users) == len(engaged) == len(profiles)
    for user, properties in profiles.items():
        expected = plain(properties)
        assert expected.items() <= users[user].items(), user
    members = records(read, "cohort_members")
    assert {(row["cohort_id"], row["distinct_id"]) for row in members} == {
        (seeded.pros, user) for user in pros
    }
    assert len(members) == len(pros)
    counts = {row["name"]: row["count"] for row in records(read, "cohorts")}
    assert counts == {"Pros": len(pros), "Nobody": 0}
    check_reports(seeded, records(read, "funnels"), records(read, "annotations"))
    exported = {row["insert_id"]: row for row in records(read, "export")}
    assert len(exported) == len(seeded.earlier)  # by default it reads up to yesterday
    for event in seeded.earlier:
        row = exported[event["properties"]["$insert_id"]]
        at = datetime.fromtimestamp(event["properties"]["time"] // 1000, UTC)
        assert (row["event"], row["distinct_id"]) == (event["event"], event["properties"]["distinct_id"])
        assert row["time"] == at.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert (str(row["n"]), row["text"]) == (str(event["properties"]["n"]), event["properties"]["text"])

    after = states(read)
    newest = max(properties["$last_seen"] for properties in profiles.values())
    assert newest in json.dumps(after["engage"])
    late = LATER + (credentials is project_secret)
    assert server.post("/engage", [send(server, late)]).body == b"1"
    again = connector(
        "read",
        server,
        who,
        catalog=every_stream(catalog),
        state=[{"type": "STREAM", **one} for one in after.values()],
    )
    fresh = {row["distinct_id"]: row["last_seen"] for row in records(again, "engage")}
    assert fresh[f"user-{late:05}"] == seen(late).strftime("%Y-%m-%dT%H:%M:%S")
    again_exported = {row["insert_id"] for row in records(again, "export")}
    assert seeded.earlier[-1]["properties"]["$insert_id"] in again_exported
    assert len(again_exported) < len(seeded.earlier) / 2
    assert len(fresh) == sum(properties["$last_seen"] >= newest for properties in server.profiles().values())


def check_reports(seeded: Seeded, funnels: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
    """The rows of the funnel have its figures, and those of annotations the one that there is."""
    assert {(row["funnel_id"], row["name"]) for row in funnels} == {(seeded.funnel, "Buyers")}
    counted = [sum(row["steps"][step]["count"] for row in funnels) for step in range(len(FUNNEL))]
    assert counted == seeded.counts()
    assert [(row["id"], row["description"]) for row in notes] == [(seeded.note, "Released")]
