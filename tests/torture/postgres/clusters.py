"""Two PostgreSQL servers on loopback: a primary, and a standby that confirms each commit.

All lies in one temporary folder. Only processes that were started here are ended, by their ids.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest

from bench.competitors.databases import MissingError, postgres_folder
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.migrating import migrate
from tests.durability.processes import alive, free_port
from tests.store.postgres import SETTINGS, Server, prefix

DATABASE: Final = "mixdown"
WAIT_S: Final = 120.0
DISK_MIB: Final = 400
_BALLAST: Final = "ballast"
_STANDBY: Final = {
    "listen_addresses": "127.0.0.1",
    "wal_level": "replica",
    "max_wal_senders": "6",
    "hot_standby": "on",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
}


def until(true: Callable[[], bool], what: str, limit_s: float = WAIT_S) -> None:
    """Wait until something is true. Raises `AssertionError`."""
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Node(Server):
    """One PostgreSQL server, on a port and a socket."""

    def __init__(self, folder: Path, name: str, programs: Path, settings: dict[str, str]) -> None:
        self.data = folder / name / "data"
        self.programs = programs
        (folder / name).mkdir(mode=0o755)
        self.command_prefix = prefix(folder / name)
        self._has_disk = self._mount()
        wanted = {**SETTINGS, **_STANDBY, **settings, "port": str(free_port())}
        given = [f"-c{key}={value}" for key, value in wanted.items()]
        given.append(f"-cunix_socket_directories={folder / name}")
        program = [*self.command_prefix, str(programs / "postgres"), "-D", str(self.data), *given]
        self.prepare(folder / name, program, int(wanted["port"]))

    def _mount(self) -> bool:
        """Put the data on a small file system of its own, where this is allowed."""
        if os.geteuid() != 0 or shutil.which("mount") is None:
            return False
        self.data.mkdir(mode=0o700)
        options = f"size={DISK_MIB}m,mode=0700"
        command = ["mount", "-t", "tmpfs", "-o", options, "mixdown-torture", str(self.data)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            self.data.rmdir()
            return False
        owner = self.data.parent.stat()
        os.chown(self.data, owner.st_uid, owner.st_gid)
        return True

    def fill_disk(self) -> bool:
        """Leave no more than a few pages free; whether this can be done here."""
        if not self._has_disk:
            return False
        step = size = 1 << 26
        with (self.data / _BALLAST).open("wb") as file:
            while step >= 1 << 14:
                try:
                    os.posix_fallocate(file.fileno(), size - step, step)
                except OSError:  # no room for so much
                    size -= step
                    step //= 2
                size += step
        return True

    def make_room(self) -> None:
        """End what `fill_disk` began."""
        (self.data / _BALLAST).unlink(missing_ok=True)

    def survives(self) -> bool:
        """Whether it comes to itself again, rather than end."""
        deadline = time.monotonic() + WAIT_S
        while self.process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError):
                self.do("SELECT 1")
                return True
            assert time.monotonic() < deadline, "the database neither answers nor ends"
            time.sleep(0.05)
        return False

    def make(self) -> None:
        """Make an empty cluster, and start it."""
        options = ["-D", str(self.data), "-U", "tests", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        self._run("initdb", *options, "--no-sync")
        self.start()

    def follow(self, primary: Node) -> None:
        """Become a standby of another: a copy of it, which follows."""
        shutil.rmtree(self.data, ignore_errors=True)  # but for the disk that is mounted there
        source = f"host=127.0.0.1 port={primary.port} user=tests application_name=standby"
        options = ["-D", str(self.data), "-d", source, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync"]
        self._run("pg_basebackup", *options)
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.command_prefix, str(self.programs / program), *arguments]
        made = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert made.returncode == 0, made.stderr

    def ask(self, statement: str, database: str = "postgres") -> object:
        """The first value that a statement gives."""
        with self.connect(database) as connection:
            row = connection.execute(statement.encode()).fetchone()
        return None if row is None else row[0]

    def do(self, *statements: str) -> None:
        """Run statements, each on its own."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def family(self) -> list[int]:
        """The process ids of the server: its first, and all that it started."""
        pid = self.process.pid
        with contextlib.suppress(OSError):
            return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        return [pid]

    def kill(self) -> None:
        """End all of it at once, whatever it does."""
        family = self.family()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        until(lambda: not any(map(alive, family)), "PostgreSQL outlived SIGKILL")

    def pause(self, *, paused: bool) -> None:
        """Stop all its processes where they are, or let them go on."""
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if paused else signal.SIGCONT)

    def end(self) -> None:
        """End it, in whatever state it is."""
        process = getattr(self, "process", None)
        if process is not None and process.poll() is None:
            self.pause(paused=False)
            self.kill()
        if self._has_disk:
            subprocess.run(["umount", "--lazy", str(self.data)], capture_output=True, check=False)


class Pair:
    """A primary with a standby that confirms each commit."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None, *, standby: bool = True) -> None:
        try:
            programs = postgres_folder()
        except MissingError as error:
            pytest.skip(str(error))
        self.folder = folder
        self.primary = Node(folder, "one", programs, settings or {})
        self.other = Node(folder, "two", programs, settings or {})
        self.has_standby = standby
        self.primary.make()
        self.primary.do(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
        if standby:
            self.add_standby()

    def add_standby(self) -> None:
        """Make the other server follow the primary, and have each commit wait for it."""
        self.other.follow(self.primary)
        self.primary.do("ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()")
        until(self._is_in_step, "the standby does not follow")

    def _is_in_step(self) -> bool:
        return self.primary.ask("SELECT sync_state FROM pg_stat_replication") == "sync"

    def fail_over(self) -> None:
        """Kill the primary, whatever it does, and promote the standby."""
        self.primary.kill()
        self.promote()

    def promote(self) -> None:
        """Make a primary of the standby; what was the primary is not asked."""
        self.primary, self.other = self.other, self.primary
        self.primary.do(
            "ALTER SYSTEM RESET synchronous_standby_names",
            "SELECT pg_reload_conf()",
            "SELECT pg_promote()",
        )
        until(lambda: self.primary.ask("SELECT pg_is_in_recovery()") is False, "it was not promoted")

    def migrate(self, partitions: int) -> None:
        """Make the tables."""
        database = Database(self.primary.url(DATABASE))
        migrate(database, partitions=partitions)
        database.close()

    def close(self) -> None:
        """End both."""
        self.primary.end()
        self.other.end()


@contextmanager
def pair(settings: dict[str, str] | None = None, *, standby: bool = True) -> Iterator[Pair]:
    """A primary, with a standby or without; skips the test where PostgreSQL is not installed."""
    with tempfile.TemporaryDirectory(prefix="mixdown-pg-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        made: Pair | None = None
        try:
            made = Pair(folder, settings, standby=standby)
            yield made
        finally:
            if made is not None:
                made.close()
