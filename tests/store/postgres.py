"""A PostgreSQL of the tests' own, on a Unix socket in a temporary folder; nothing of it is kept.

The folder is in memory where there is plenty: a database is three hundred files, and each test has one.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from psycopg import sql

from bench.competitors.databases import MissingError, postgres_folder
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.migrating import migrate
from tests.leftovers import end_with_us

if TYPE_CHECKING:
    from tests.store.pgbouncer import Bouncer

START_LIMIT_S: Final = 60.0
SETTINGS: Final = {
    "listen_addresses": "",
    "port": "5432",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "400",
    "autovacuum": "off",
    "jit": "off",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "max_wal_size": "64MB",
}
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
MEMORY_BYTES: Final = 8 << 30
"""What is free there where there is plenty; the Makefile has the same for the folders of quick tests."""

POOLED: Final = bool(os.environ.get("MIXDOWN_TEST_POOLED"))
"""Whether stores go through pgbouncer, in transaction mode (`make test-postgres POOLED=1`)."""
DATABASES_KEPT: Final = 50
"""More than the tests of one module use at the same time."""


class Server:
    """A running PostgreSQL; its user is a superuser and needs no password."""

    process: subprocess.Popen[bytes]
    pooled: Callable[[str], str] | None = None
    """Where a database of it is for the store, where it is to go through a pooler."""

    def __init__(self, folder: Path, command: Sequence[str], port: int) -> None:
        self.prepare(folder, command, port)
        self.start()

    def prepare(self, folder: Path, command: Sequence[str], port: int) -> None:
        """Note where it is and how it is started."""
        self.folder = folder
        self.port = port
        self._command = command
        self._numbers = itertools.count()
        self._templates: set[int] = set()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        end_with_us(self.process, signal.SIGQUIT, self.folder)
        _wait_for(self)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: connections that are open are ended."""
        self.process.send_signal(how)
        self.process.wait(120)

    def url(self, database: str = "postgres") -> str:
        """Where a database of it is."""
        return f"postgresql://tests@/{database}?host={self.folder}&port={self.port}"

    def straight(self, url: str) -> str:
        """Where a database is without a pooler: for tests of what a connection of its own is like."""
        return self.url(str(psycopg.conninfo.conninfo_to_dict(url)["dbname"]))

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection in autocommit mode."""
        return psycopg.connect(self.url(database), autocommit=True)

    def empty(self) -> str:
        """The URL of a new database in which there is nothing."""
        return self._made_of("template0")

    def migrated(self, partitions: int = 1) -> str:
        """The URL of a new database with the tables of a store: a copy, which is quick."""
        return self._made_of(self.template(partitions))

    def template(self, partitions: int) -> str:
        """The name of the database that copies with the tables of a store are made of."""
        template = f"migrated_{partitions}"
        if partitions not in self._templates:
            with self.connect() as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(template)))
            database = Database(self.url(template))
            migrate(database, partitions=partitions)
            database.close()
            self._templates.add(partitions)
        return template

    def drop(self, url: str) -> None:
        """Give back the room that a database has taken."""
        name = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _made_of(self, template: str) -> str:
        number = next(self._numbers)
        name = f"t{number}"
        with self.connect() as connection:
            # those of tests that are over: a thousand would take minutes to delete at the end
            old = sql.Identifier(f"t{number - DATABASES_KEPT}")
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(old))
        return self.copy(template, name)

    def copy(self, template: str, name: str) -> str:
        """The URL of a new database, `name`, with all that another has; nobody may be connected to that."""
        names = sql.Identifier(name), sql.Identifier(template)
        with self.connect() as connection:
            how = "STRATEGY file_copy" if connection.info.server_version >= 15_00_00 else ""  # else always so
            connection.execute(sql.SQL(f"CREATE DATABASE {{}} TEMPLATE {{}} {how}").format(*names))
        return self.url(name) if self.pooled is None else self.pooled(name)


def prefix(folder: Path) -> list[str]:
    """What a command begins with: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    if shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL does not run as root, and setpriv is not installed")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


@contextmanager
def postgres_server(settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server with `SETTINGS` and these; skips the test where PostgreSQL is not installed."""
    try:
        programs = postgres_folder()
    except MissingError as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory(prefix="mixdown-pg-", dir=_place()) as name:
        folder = Path(name)
        before = prefix(folder)
        data = str(folder / "data")
        options = ["-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        command = [*before, str(programs / "initdb"), *options]
        made = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert made.returncode == 0, made.stderr
        wanted = {**SETTINGS, **(settings or {})}
        given = [f"-c{key}={value}" for key, value in wanted.items()]
        given.append(f"-cunix_socket_directories={name}")
        program = [*before, str(programs / "postgres"), "-D", data, *given]
        server = Server(folder, program, int(wanted["port"]))
        bouncer = _bouncer(server) if POOLED else None
        try:
            yield server
        finally:
            if bouncer is not None:
                bouncer.kill()
            server.stop(signal.SIGQUIT)  # what it holds goes with its folder: it need not write it out


def _place() -> Path:
    """Where folders are made: the path of a socket there is short enough."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES
    return MEMORY if in_memory else Path("/tmp")  # noqa: S108


def _bouncer(server: Server) -> Bouncer:
    from tests.store.pgbouncer import Bouncer

    made = Bouncer(server.folder, server.port, host=str(server.folder), idle_s=1)
    server.pooled = made.url
    return made


@contextmanager
def postgres() -> Iterator[psycopg.Connection]:
    """A connection to an empty database; skips the test where PostgreSQL is not installed."""
    with postgres_server() as server, server.connect() as connection:
        yield connection


def _wait_for(server: Server) -> None:
    began = time.monotonic()
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError:
            assert server.process.poll() is None, "PostgreSQL did not start"
            if time.monotonic() - began > START_LIMIT_S:
                raise
            time.sleep(0.05)
        else:
            return
