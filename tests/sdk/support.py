"""What the SDK tests share: comparing stored profiles exactly, and running Node programs."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.serving import Event, Profile, Server

ROOT = Path(__file__).resolve().parents[2]
PYTHON_REDIRECT = ROOT / "contrib" / "redirect" / "python"
NODE_MODULES = Path(__file__).parent / "node" / "node_modules"
NODE_REDIRECT = ROOT / "contrib" / "redirect" / "node" / "mixdown-redirect.js"


def written_now(profile: Profile) -> Profile:
    """The profile without `$last_seen`, which must be there and name a moment within the last two minutes."""
    properties = dict(profile)
    seen = datetime.strptime(properties.pop("$last_seen"), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    now = datetime.now(UTC)
    assert now - timedelta(minutes=2) <= seen <= now + timedelta(seconds=2), seen
    return properties


def stored_user(server: Server, distinct_id: str) -> Profile:
    """One user's properties but for `$last_seen`, which must be recent."""
    return written_now(server.profiles()[distinct_id])


def stored_group(server: Server, group_key: str, group_id: str) -> Profile:
    """One group's properties but for `$last_seen`, which must be recent."""
    return written_now(server.groups(group_key)[group_id])


ARRIVAL = ("mp_processing_time_ms", "$mp_api_endpoint", "$mp_api_timestamp_ms")


def sent_now(event: Event, *more: str) -> Event:
    """An event as (its name, its properties) without what each has, which must be there and recent.

    `more` are properties of the SDK's own that need only be there.
    """
    properties = dict(event["properties"])
    assert abs(properties.pop("time") / 1000 - time.time()) < 120
    for name in (*ARRIVAL, "$insert_id", *more):
        assert properties.pop(name), name
    return {"event": event["event"], "properties": properties}


def run_client(
    command: Sequence[object],
    folder: Path,
    environment: Mapping[str, str],
    *,
    given: str = "",
    timeout_s: float = 600.0,
) -> subprocess.CompletedProcess[str]:
    """Run a client in a folder with a complete environment and a text on its stdin."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=dict(environment),
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run_node(
    folder: Path, script: str, task: object, *, options: Sequence[str] = (), environment: Mapping[str, str]
) -> Any:
    """Run a program of tests/sdk/node with `task` as JSON on its stdin; returns the JSON on its last line.

    `folder` is where the program runs and may leave files; `environment` is complete.
    """
    program = Path(__file__).parent / "node" / script
    ended = subprocess.run(
        ["node", *options, str(program)],
        cwd=folder,
        env=dict(environment),
        input=json.dumps(task).encode(),
        capture_output=True,
        timeout=600,
        check=False,
    )
    printed = ended.stdout.decode(errors="replace").strip()
    assert ended.returncode == 0, f"{script} failed:\n{printed}\n{ended.stderr.decode(errors='replace')}"
    return json.loads(printed.rpartition("\n")[2])
