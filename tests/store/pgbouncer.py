"""A pgbouncer of the tests' own, in transaction mode, on a free port of loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.durability.processes import free_port
from tests.leftovers import end_with_us
from tests.store.postgres import prefix

_BOUNCER: Final = """
[databases]
* = user=tests host={host} port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 500
default_pool_size = {size}
server_login_retry = 1
server_idle_timeout = {idle}
query_wait_timeout = 8
tcp_keepidle = 10
tcp_keepintvl = 5
tcp_keepcnt = 3
"""


class Bouncer:
    """A pgbouncer before one server; skips the test where it is not installed."""

    def __init__(
        self, folder: Path, server: int, *, host: str = "127.0.0.1", size: int = 20, idle_s: int = 600
    ) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("pgbouncer is not installed")
        self._folder = folder / "bouncer"
        self._folder.mkdir(mode=0o755)
        self.port = free_port()
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(_BOUNCER.format(host=host, server=server, port=self.port, size=size, idle=idle_s))
        settings.chmod(0o644)
        self._command = [*prefix(self._folder), program, "--quiet", str(settings)]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        end_with_us(self.process)

        def answers() -> bool:
            assert self.process.poll() is None, "pgbouncer did not start"
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return True
            return False

        deadline = time.monotonic() + 120
        while not answers():
            assert time.monotonic() < deadline, "pgbouncer does not answer"
            time.sleep(0.02)

    def url(self, database: str) -> str:
        """Where a database is, through it."""
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}"

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
