"""A folder moves while clients write to it, and the copy is killed: each record counts once afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from tests.serving import TOKEN, Server, launch
from tests.store.postgres import postgres_server

pytestmark = pytest.mark.slow
CLIENTS: Final = 3
KILLS: Final = 4
JSON: Final = {"Content-Type": "application/json"}


class Client(threading.Thread):
    """Adds one to profiles of its own, again and again; what is not acknowledged it sends again."""

    def __init__(self, number: int, server: Server) -> None:
        super().__init__(name=f"client-{number}")
        self.number = number
        self.server = server
        self.sent = 0
        self.refused = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            self._send(self.sent)
            self.sent += 1
            time.sleep(0.005)

    def _send(self, number: int) -> None:
        records = [
            {
                "$token": TOKEN,
                "$distinct_id": f"c{self.number}-{number % 7}",
                "$insert_id": f"{self.number}-{number}-{at}",
                "$add": {"n": 1},
            }
            for at in range(3)
        ]
        event = {
            "event": "sent",
            "properties": {"token": TOKEN, "distinct_id": f"c{self.number}", "$insert_id": f"{number}"},
        }
        for path, body in (("/engage", records), ("/track", [event])):
            key = {"Idempotency-Key": f"{self.number}-{number}-{path}"}
            while not self._is_taken(path, json.dumps(body), {**JSON, **key}):
                self.refused += 1
                time.sleep(0.05)

    def _is_taken(self, path: str, body: str, headers: dict[str, str]) -> bool:
        try:
            reply = self.server.request("POST", f"{path}?verbose=1&ip=0", body, headers)
        except OSError:
            return False
        assert reply.status in (200, 503), reply
        return reply.status == 200


def test_nothing_is_lost_and_nothing_counts_twice(tmp_path: Path) -> None:
    events = tmp_path / "events"
    with postgres_server() as postgresql:
        url = postgresql.migrated(5)
        source = launch(tmp_path / "folder", environment={"MIXDOWN_DATABASE_URL": ""})
        clients = [Client(number, source) for number in range(CLIENTS)]
        target = None
        try:
            for client in clients:
                client.start()
            for run in range(KILLS):
                killed(copying(source.data_dir, url, events), after_s=0.5 + run)
            ended = copying(source.data_dir, url, events, "--switch", "--json").communicate(timeout=600)
            assert json.loads(ended[0])["switched"], ended[1]
            variables = {"MIXDOWN_DATABASE_URL": url, "MIXDOWN_EVENTS_URL": str(events)}
            target = launch(tmp_path / "node", environment=variables)
            moved_at = [client.sent for client in clients]
            for client in clients:
                client.server = target
            until = time.monotonic() + 180
            while any(client.sent < at + 5 for client, at in zip(clients, moved_at, strict=True)):
                assert time.monotonic() < until, "clients do not get on at the new place"
                time.sleep(0.1)
            for client in clients:
                client.stopping.set()
                client.join(180)
            assert sum(client.refused for client in clients) > 0
            counted = {profile_id: found["n"] for profile_id, found in target.profiles().items()}
            for client in clients:
                own = [counted[f"c{client.number}-{at}"] for at in range(7)]
                assert sum(own) == 3 * client.sent
                came = [
                    each
                    for each in target.events()
                    if each["properties"]["distinct_id"] == f"c{client.number}"
                ]
                assert len(came) == client.sent
        finally:
            for client in clients:
                client.stopping.set()
            source.stop()
            if target is not None:
                target.stop()


def copying(folder: Path, url: str, events: Path, *arguments: str) -> subprocess.Popen[str]:
    """`mixdown db copy`, begun."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXDOWN_")}
    command = [sys.executable, "-m", "mixdown", "db", "copy", "--from", str(folder), "--to", url]
    return subprocess.Popen(
        [*command, "--events-url", str(events), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed(process: subprocess.Popen[str], *, after_s: float) -> None:
    """Kill a copy once it has begun to tell how far it is, and so long after."""
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(after_s / 10)
    process.kill()
    process.communicate()
