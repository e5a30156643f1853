"""docs/clients.md: each client's commands run as they stand, with the address and credentials of a server."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.docs.snippets import blocks, shown_by
from tests.sdk.environments import client_programs
from tests.sdk.npm import NODE
from tests.sdk.seeding import EVENT_NAMES, Seeded
from tests.sdk.support import ROOT

pytestmark = pytest.mark.slow

COMMANDS = {
    block.tags[0]: block
    for block in blocks((ROOT / "docs" / "clients.md").read_text(encoding="utf-8"))
    if block.tags
}


def run(seeded: Seeded, folder: Path, client: str, **environment: str) -> str:
    """Run the commands for a client in a folder that has this repository's `contrib`; what they print."""
    server = seeded.server
    account, password = server.account
    shutil.copytree(ROOT / "contrib", folder / "contrib")
    block = COMMANDS[client]
    code = block.code
    if block.language == "python":
        (folder / "program.py").write_text(code)
        code = "python program.py"
    return shown_by(
        code,
        folder=folder,
        environment={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "MIXDOWN_BASE": server.base_url,
            "PROJECT": str(server.project_id),
            "ACCOUNT": account,
            "PASSWORD": password,
            "TOKEN": server.token,
            "SECRET": server.secret,
            **environment,
        },
    )


def with_python(name: str, python: str = "") -> str:
    """A PATH on which the programs of a client come first."""
    return f"{client_programs(name, python)}:{os.environ['PATH']}"


def test_every_client_of_the_page_is_run_here() -> None:
    assert set(COMMANDS) == {
        "airbyte-source-mixpanel",
        "mixpanel-data-export",
        "mixpanel-headless",
        "mixpanel-import",
        "mixpanel-utils",
        "tap-mixpanel",
    }


def test_mixpanel_utils(seeded: Seeded, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert "1000 profiles" in run(seeded, tmp_path, "mixpanel-utils", PATH=path)
    exported = json.loads((tmp_path / "people.json").read_text())
    assert {row["$distinct_id"] for row in exported} == set(seeded.members)
    assert len(json.loads((tmp_path / "events.json").read_text())) == len(seeded.earlier)


def test_mixpanel_headless(seeded: Seeded, tmp_path: Path) -> None:
    shown = run(seeded, tmp_path, "mixpanel-headless", PATH=with_python("mixpanel-headless"))
    assert shown.split("\n")[:5] == [
        "['Nobody', 'Pros']",
        "10 profiles",
        "2000 in all",
        "2000 counted",
        f"{sorted(EVENT_NAMES)} {len(seeded.earlier)} events",
    ]


def test_airbyte(seeded: Seeded, tmp_path: Path) -> None:
    shown = run(
        seeded, tmp_path, "airbyte-source-mixpanel", PATH=with_python("airbyte-source-mixpanel", "3.11")
    )
    assert '"SUCCEEDED"' in shown


def test_tap_mixpanel(seeded: Seeded, tmp_path: Path) -> None:
    run(seeded, tmp_path, "tap-mixpanel", PATH=with_python("tap-mixpanel"))
    catalog = json.loads((tmp_path / "catalog.json").read_text())
    assert {"engage", "cohorts", "cohort_members"} <= {stream["stream"] for stream in catalog["streams"]}


def test_mixpanel_import(seeded: Seeded, tmp_path: Path, node_environment: Mapping[str, str]) -> None:
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    run(seeded, tmp_path, "mixpanel-import", **node_environment)
    lines = [
        line for file in (tmp_path / "exported").iterdir() for line in file.read_text().split("\n") if line
    ]
    assert {json.loads(line)["$distinct_id"] for line in lines} == set(seeded.users)


def test_mixpanel_data_export(seeded: Seeded, tmp_path: Path, node_environment: Mapping[str, str]) -> None:
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    shown = run(seeded, tmp_path, "mixpanel-data-export", **node_environment)
    assert "1000 profiles" in shown
    assert f"{len(seeded.earlier)} events" in shown
