"""schemathesis drives a running server from its own `/openapi.json`: every answer is a described one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from mixdown.http.openapi_operations import EXAMPLE_TOKEN
from tests.serving import Server, StartServer

HERE = Path(__file__).parent
PHASES = "examples,coverage,fuzzing"
ENDLESS = "/api/mixdown/live"


@pytest.fixture(scope="module")
def described(start_module_server: StartServer) -> Server:
    """A server whose project has the token of the examples."""
    return start_module_server(environment={"MIXDOWN_TOKEN": EXAMPLE_TOKEN})


def drive(server: Server, *options: str, timeout_s: float) -> str:
    """Run schemathesis against a server; what it says. Fails where it finds anything."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")]
    command += ["run", f"{server.base_url}/openapi.json", "--continue-on-failure", "--no-color"]
    command += ["--generation-database", "none", "--no-shrink", "--warnings", "off", *options]
    ended = subprocess.run(
        command,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.hostile.schemathesis_hooks", "PYTHONPATH": "."},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    return ended.stdout


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_a_short_drive_finds_nothing_undescribed(described: Server) -> None:
    said = drive(
        described,
        *("--phases", "fuzzing", "--max-examples", "2", "--seed", "1"),
        *("--auth", ":".join(described.account)),
        timeout_s=100,
    )
    assert "Tested: " in said
    assert described.request("GET", "/livez").status == 200


@pytest.mark.slow
@pytest.mark.parametrize("signed_in", [True, False], ids=["with credentials", "without"])
def test_a_long_drive_finds_nothing_undescribed(described: Server, signed_in: bool) -> None:
    credentials = ("--auth", ":".join(described.account)) if signed_in else ()
    phases = PHASES if signed_in else "coverage,fuzzing"
    said = drive(described, "--phases", phases, "--max-examples", "10", *credentials, timeout_s=500)
    assert "Tested: " in said
    faults = [line for line in described.log_text().splitlines() if '"level":"error"' in line]
    assert faults == []


IN_ONE_WAY: Final[dict[str, dict[str, Any]]] = {
    "activity": {"distinct_id": "ada"},
    "events": {"interval": 1},
    "events/properties": {"interval": 1},
}
"""By path: what may be told in two ways, so that neither is required, in one of them."""


def typed_parameters() -> list[tuple[str, dict[str, Any], str, dict[str, Any]]]:
    """Each integer that a read takes in its query: path, what else it needs, name and schema."""
    from mixdown.http import openapi
    from mixdown.http.openapi_operations import operations
    from mixdown.settings import Settings

    document = openapi.document(Settings(), {path: {"GET"} for path in operations(Settings())})
    found = []
    for path, item in document["paths"].items():
        if not path.startswith("/api/"):  # /lookup-tables answers 401 to any project that is not the caller's
            continue
        parameters = [told for told in item.get("get", {}).get("parameters", ()) if told["in"] == "query"]
        needed = {told["name"]: told["example"] for told in parameters if told.get("required")}
        needed |= IN_ONE_WAY.get(path.rpartition("/api/")[2].partition("/")[2], {})
        found += [
            (path, needed, told["name"], told["schema"])
            for told in parameters
            if told["schema"].get("type") == "integer"
        ]
    return found


def test_a_number_outside_its_described_range_is_refused_and_one_inside_is_not(described: Server) -> None:
    found = typed_parameters()
    assert len(found) > 15
    for path, needed, name, schema in found:
        low, high = schema["minimum"], schema["maximum"]
        for value in (low - 1, high + 1, "x", "1.5", "0x1", "1e3", "true", '"', "9" * 40):
            answer = described.get(path, **{"project_id": 1, **needed, name: value})
            assert answer.status == 400, (path, name, value, answer)
            assert json.loads(answer.body)["error"].startswith(f"{name}, ")
        if name != "project_id" and "{" not in path and path != ENDLESS:  # else there is nothing of that name
            for value in (low, high):
                answer = described.get(path, **{"project_id": 1, **needed, name: value})
                # in range by itself, though together with the other parameters it may ask for too much
                assert answer.status == 200 or b"more than 1000000 figures" in answer.body, (path, name)
