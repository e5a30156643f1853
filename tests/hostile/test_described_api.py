"""schemathesis drives a running server from its own `/openapi.json`: every answer is a described one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from mixdown.http.openapi_operations import EXAMPLE_TOKEN
from tests.serving import Server, StartServer

HERE = Path(__file__).parent
SEED: Final = os.environ.get("SEED", "1")
ENDLESS: Final = "/api/mixdown/live"
DRIVE_LIMIT_S: Final = 880.0
"""Many times what a drive takes: its requests are bounded by their count."""


@pytest.fixture(scope="module")
def described(start_module_server: StartServer) -> Server:
    """A server whose project has the token of the examples."""
    return start_module_server(environment={"MIXDOWN_TOKEN": EXAMPLE_TOKEN})


def drive(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against a server."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")]
    command += ["run", f"{server.base_url}/openapi.json", "--continue-on-failure", "--no-color"]
    command += ["--generation-database", "none", "--no-shrink", "--warnings", "off", "--seed", SEED, *options]
    return subprocess.run(
        command,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.hostile.schemathesis_hooks", "PYTHONPATH": "."},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=DRIVE_LIMIT_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("signed_in", [True, False], ids=["with credentials", "without"])
def test_a_drive_finds_nothing_undescribed(described: Server, signed_in: bool) -> None:
    if signed_in:
        phases = ["--phases", "examples,coverage,fuzzing", "--auth", ":".join(described.account)]
    else:
        phases = ["--phases", "fuzzing"]
    ended = drive(described, *phases, "--max-examples", "4")
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    tested = re.search(r"^Test cases:\n +([\d,]+) generated", ended.stdout, re.MULTILINE)
    assert tested is not None, ended.stdout[-2000:]
    assert int(tested[1].replace(",", "")) > (3000 if signed_in else 600)
    assert described.request("GET", "/livez").status == 200
    faults = [line for line in described.log_text().splitlines() if '"level":"error"' in line]
    assert faults == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("status", "Undocumented status code"),
        ("body", "Response violates schema"),
        ("media", "Undocumented Content-Type"),
    ],
)
def test_a_drive_finds_what_is_not_described(start_server: StartServer, fault: str, said: str) -> None:
    environment = {"PYTHONPATH": str(HERE / "undescribed"), "UNDESCRIBED": fault}
    server = start_server(environment={"MIXDOWN_TOKEN": EXAMPLE_TOKEN, **environment})
    path = ("--include-path", "/api/mixdown/cohorts")
    ended = drive(server, *path, "--phases", "coverage", "--auth", ":".join(server.account))
    assert ended.returncode == 1
    assert said in ended.stdout


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
        if path.endswith("funnels"):  # they want steps, or a funnel that was saved: tests/reports has them
            continue
        if not path.startswith("/api/"):  # /lookup-tables answers 401 to any project that is not the caller's
            continue
        parameters = [told for told in item.get("get", {}).get("parameters", ()) if told["in"] == "query"]
        needed = {told["name"]: told["example"] for told in parameters if told.get("required")}
        needed |= IN_ONE_WAY.get(path.rpartition("/api/")[2].partition("/")[2], {})
        if "/retention" in path:  # which may be saved, and then named by its number
            needed |= {"born_event": "signed up"}
        found += [
            (path, needed, told["name"], told["schema"])
            for told in parameters
            if told["schema"].get("type") == "integer"
        ]
    return found


@pytest.mark.slow
def test_a_number_outside_its_described_range_is_refused_and_one_inside_is_not(described: Server) -> None:
    found = typed_parameters()
    assert len(found) > 15
    for path, needed, name, schema in found:
        assert {"minimum", "maximum"} <= schema.keys(), (path, name)
        low, high = schema["minimum"], schema["maximum"]
        for value in (low - 1, high + 1, "x", "1.5", "0x1", "1e3", "true", '"', "9" * 40):
            answer = described.get(path, **{"project_id": 1, **needed, name: value})
            assert answer.status == 400, (path, name, value, answer)
            assert json.loads(answer.body)["error"].startswith(f"{name}, ")
        named = name.endswith("_id") or name == "id"  # there is nothing of that number
        if not named and "{" not in path and path != ENDLESS:
            for value in (low, high):
                answer = described.get(path, **{"project_id": 1, **needed, name: value})
                # in range by itself, though together with the other parameters it may ask for too much
                assert answer.status == 200 or b"more than 1000000 figures" in answer.body, (path, name)
