"""Two nodes of `mixdown serve` on a pair of PostgreSQL servers, behind networks that part.

`close` ends every process that was started, by its id, and takes the folder away.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import quote

import psycopg
import pytest

from tests.durability.processes import alive, children, free_port
from tests.serving import Server, launch
from tests.store.pgbouncer import Bouncer
from tests.torture.ledger import MARKS, ProfileKey
from tests.torture.postgres.clusters import DATABASE, Pair, until
from tests.torture.postgres.network import Network
from tests.torture.records import GROUP_KEY

NODES: Final = 2
PARTITIONS: Final = 4
FOLDS: Final = 2
READERS: Final = ("fold", "events")
LEASE_S: Final = 6.0
CATCH_UP_S: Final = 120.0
OTHERS_S: Final = 20.0
_TRIES: Final = 3
_FIRST_DAY: Final = "2025-01-01"


class Stage:
    """The nodes, their database, and the way between them: straight, or through pgbouncer.

    A `large` project spreads over all partitions. `settings` are PostgreSQL's.
    """

    def __init__(
        self, pair: Pair, seed: int, *, large: bool = True, bounced: bool = False, nodes: int = NODES
    ) -> None:
        self.pair = pair
        self.chance = random.Random(f"{seed}/nodes")
        self.counts: Counter[str] = Counter()
        self.large = large
        self.partitions = PARTITIONS
        pair.migrate(PARTITIONS)
        self.bouncer: Bouncer | None = None
        self.networks = {pair.primary.port: Network(pair.primary.port)}
        if pair.has_standby:
            self.networks[pair.other.port] = Network(pair.other.port)
        url = self._url()
        if bounced:
            self.bouncer = Bouncer(pair.folder, next(iter(self.networks.values())).port)
            url = self.bouncer.url(DATABASE)
        self.url = url
        self.folder = pair.folder / "nodes"
        self.folder.mkdir(mode=0o700)
        self.ports = [free_port() for _ in range(nodes)]
        self._servers: list[Server | None] = [None] * nodes
        try:
            self._start_all(large=large)
        except BaseException:
            self.close()
            raise

    def _start_all(self, *, large: bool) -> None:
        for number in range(len(self.ports)):
            self.start(number)
            if number == 0 and large:
                self.node(0).command("project", "set-large", str(self.node(0).project_id), "--yes", "--json")

    def _url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{network.port}" for network in self.networks.values())
        return f"postgresql://tests@{hosts}/{quote(DATABASE)}"

    # --- the nodes

    def start(self, number: int) -> None:
        """Start a node, or start it again."""
        environment = {
            "MIXDOWN_DATABASE_URL": self.url,
            "MIXDOWN_EVENTS_URL": str(self.folder / "events"),
            "MIXDOWN_LOG_RETENTION_HOURS": "0",
            "MIXDOWN_DISK_RESERVE_BYTES": "0",
            "MIXDOWN_DISK_RESERVE_PERCENT": "0",
        }
        if self.bouncer is not None:  # behind which nobody can be asked what a silent read is at
            environment["MIXDOWN_READ_TIMEOUT_S"] = "10"
        arguments = ["--port", str(self.ports[number]), "--fold-workers", str(FOLDS)]
        folder = self.folder / f"node-{number}"
        for _ in range(_TRIES):
            with contextlib.suppress(pytest.fail.Exception):  # as systemd would, on a machine that is busy
                self._servers[number] = launch(folder, arguments=arguments, environment=environment)
                return
        self._servers[number] = launch(folder, arguments=arguments, environment=environment)

    def node(self, number: int) -> Server:
        """A node."""
        server = self._servers[number]
        assert server is not None
        return server

    @property
    def server(self) -> Server:
        """Any node that lives."""
        return next(each for each in self._servers if each is not None and each.process.poll() is None)

    def workers(self) -> list[int]:
        """Process ids of the workers of all nodes."""
        return self._of_all("worker")

    def readers(self, number: int) -> list[int]:
        """Process ids of a node's folds and events reader."""
        return [pid for role in READERS for pid in children(self.node(number).pid, role)]

    def _of_all(self, role: str) -> list[int]:
        return [pid for each in self._servers if each is not None for pid in children(each.pid, role)]

    def kill_one(self, role: str) -> None:
        """Kill one process of a role, wherever it is."""
        found = self._of_all(role)
        if found:
            pid = self.chance.choice(found)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            until(lambda: not alive(pid), f"process {pid} outlived SIGKILL")
            self.counts[f"kills of {role}"] += 1

    def kill_node(self, number: int) -> None:
        """Kill a node with all its processes at once."""
        server = self.node(number)
        family = [server.pid, *children(server.pid, "worker"), *self.readers(number)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.kill()
        until(lambda: not any(map(alive, family)), "a process outlived SIGKILL")
        self.counts["kills of nodes"] += 1

    @contextlib.contextmanager
    def stopped(self, pids: list[int]) -> Iterator[None]:
        """SIGSTOP them for the block; then they go on as if no time had passed."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.counts["processes stopped for a while"] += len(pids)

    # --- what is stored

    def stored(self) -> dict[ProfileKey, dict[str, Any]]:
        """All profiles, once the folds have caught up."""
        self._wait_for_readers()
        for _ in range(_TRIES):
            with contextlib.suppress(OSError, HTTPException, AssertionError):
                return self._stored(self.server)
        return self._stored(self.server)

    def _stored(self, server: Server) -> dict[ProfileKey, dict[str, Any]]:
        found: dict[ProfileKey, dict[str, Any]] = {
            ("", name): profile for name, profile in server.profiles().items()
        }
        for name, profile in server.groups(GROUP_KEY).items():
            found[GROUP_KEY, name] = profile
        return found

    def stored_events(self) -> dict[str, int]:
        """How many events of each mark the raw export gives."""
        for _ in range(_TRIES):
            with contextlib.suppress(OSError, HTTPException, AssertionError):
                return self._events(self.server)
        return self._events(self.server)

    def _events(self, server: Server) -> dict[str, int]:
        return dict(Counter(event["properties"][MARKS] for event in server.events(_FIRST_DAY)))

    def _wait_for_readers(self) -> None:
        """Wait until every reader of the log has come to its end."""
        deadline = time.monotonic() + CATCH_UP_S
        asked = """
            SELECT h.partition, w.kind, h.position - w.position FROM mixdown.heads AS h
            JOIN mixdown.watermarks AS w ON w.partition = h.partition
            WHERE w.position < h.position AND EXISTS (SELECT 1 FROM mixdown.chunks AS c
                WHERE c.partition = h.partition AND c.first >= w.position
                AND c.kinds & CASE w.kind WHEN 'fold' THEN 1 ELSE 2 END <> 0)
        """
        while True:
            with self.pair.primary.connect(DATABASE) as connection:
                behind = connection.execute(asked).fetchall()
            if not behind:
                return
            assert time.monotonic() < deadline, f"a reader of the log did not catch up: {behind}"
            time.sleep(0.05)

    def is_whole(self, number: int) -> bool:
        """Whether a node answers reads and takes writes."""
        try:
            return self.node(number).request("GET", "/readyz").status == 200
        except (OSError, HTTPException):
            return False

    def log_text(self) -> str:
        """All that the nodes have printed so far."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("node-*.log")))

    # --- others

    @contextlib.contextmanager
    def crowded(self) -> Iterator[None]:
        """Other clients take every connection that the database has left; what nodes have is cut off."""
        primary = self.pair.primary
        held: list[psycopg.Connection] = []
        try:
            with primary.connect() as connection:
                deadline = time.monotonic() + OTHERS_S
                quiet = 0
                while quiet < 5 and time.monotonic() < deadline:
                    try:
                        held.append(primary.connect(DATABASE))
                        quiet = 0
                    except psycopg.OperationalError:
                        quiet += 1
                        connection.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE application_name LIKE 'mixdown%'"
                        )
                        time.sleep(0.05)
            self.counts["connections held by others"] += len(held)
            yield
        finally:
            for each in held:
                each.close()

    def close(self) -> None:
        """End the nodes, the networks and pgbouncer."""
        for number, server in enumerate(self._servers):
            if server is not None:
                family = [*children(server.pid, "worker"), *self.readers(number)]
                for pid in family:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
                server.stop()
                for pid in family:
                    if alive(pid):
                        os.kill(pid, signal.SIGKILL)
        if self.bouncer is not None:
            self.bouncer.kill()
        for network in self.networks.values():
            network.close()
