"""A folder that is in use moves to a database: whoever asks gets the same answers there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.moving.world import Sender, answers, furnish
from tests.serving import SECRET, TOKEN, launch
from tests.store.postgres import Server as Postgres
from tests.store.postgres import postgres_server

pytestmark = pytest.mark.slow
MODES: Final = ("simplified", "original", "legacy")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgres]:
    """A server for these tests."""
    with postgres_server() as server:
        yield server


def moved(
    folder: Path, url: str, events: Path, *arguments: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run `mixdown db copy` on a folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXDOWN_")}
    command = [sys.executable, "-m", "mixdown", "db", "copy", "--from", str(folder), "--to", url]
    done = subprocess.run(
        [*command, "--events-url", str(events), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize(("seed", "partitions"), [(1, 1), (2, 5), (3, 32)])
def test_a_world_that_moves_answers_as_before(
    postgresql: Postgres, tmp_path: Path, seed: int, partitions: int
) -> None:
    source = launch(tmp_path / "folder", environment={"MIXDOWN_DATABASE_URL": ""})
    target = None
    try:
        projects = [(source.project_id, TOKEN, SECRET)]
        for mode in MODES[1:]:
            made = source.command("project", "create", mode, "--id-merge", mode, "--json")
            projects.append((made["id"], made["token"], made["secret"]))
        for project, _, _ in projects:
            source.command("project", "set", str(project), "--late-events", "accept", "--json")
        senders = [Sender(source, token, seed * 10 + at) for at, (_, token, _) in enumerate(projects)]
        for sender in senders:
            for _ in range(6):
                sender.send(60)
        furnish(source, projects[0][0])
        url, events = postgresql.empty(), tmp_path / "events"
        moved(source.data_dir, url, events, "--partitions", str(partitions))
        for sender in senders:
            sender.send(60)
        done = json.loads(moved(source.data_dir, url, events, "--switch", "--json").stdout)
        assert done["switched"]
        before = [answers(source, project, secret) for project, _, secret in projects]
        refused = source.request("POST", "/engage?verbose=1", json.dumps(senders[0].updates(1)))
        assert refused.status == 503
        assert refused.header("Retry-After")
        variables = {"MIXDOWN_DATABASE_URL": url, "MIXDOWN_EVENTS_URL": str(events)}
        target = launch(tmp_path / "node", environment=variables)
        after = [answers(target, project, secret) for project, _, secret in projects]
        for old, new in zip(before, after, strict=True):
            for name, answer in old.items():
                assert new[name] == answer, name
    finally:
        source.stop()
        if target is not None:
            target.stop()
