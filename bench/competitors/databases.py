"""Database servers of the benchmark's own: found, started in a folder of their own, ended by their pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import asyncpg
import redis

from bench import server
from bench.competitors.batched import FUNCTION
from bench.disk import Disk
from bench.records import profile_id, profile_json, scattered

START_LIMIT_S: Final = 30.0
PLACED_AT_ONCE: Final = 20_000
# Durable as it comes (fsync, full_page_writes and synchronous_commit are on), with room for its work.
POSTGRES_SETTINGS: Final = {
    "shared_buffers": "2GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "15min",
    "wal_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "wal_compression": "lz4",
    "synchronous_commit": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "jit": "off",
    "listen_addresses": "",
    "logging_collector": "off",
}
FILLFACTOR: Final = 70
"""Room on each page, so that an update need not touch the index."""
REDIS_SETTINGS: Final = {
    "port": "0",
    "appendonly": "yes",
    "appendfsync": "always",
    "auto-aof-rewrite-percentage": "0",
    "save": "",
    "daemonize": "no",
}


class MissingError(Exception):
    """A database server that is not to be had here; the message is for the table."""


class StartError(MissingError):
    """A database server that is here, and does not start."""


def postgres_folder() -> Path:
    """Where initdb and postgres are. Raises `MissingError`."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name))
    on_path = shutil.which("initdb")
    places += [Path(on_path).resolve().parent] if on_path else []
    for place in reversed(places):
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise MissingError("PostgreSQL is not installed")


def _as_postgres(*folders: Path) -> list[str]:
    """What a command begins with, for PostgreSQL refuses to be root; `folders` are given to its user."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise MissingError("PostgreSQL does not run as root, and there is no user postgres") from None
    if shutil.which("setpriv") is None:
        raise MissingError("PostgreSQL does not run as root, and setpriv is not installed")
    for folder in folders:
        os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


@contextlib.contextmanager
def _sockets() -> Iterator[Path]:
    """A folder for Unix sockets: their paths may have a hundred bytes, and temporary folders nest."""
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as name:
        yield Path(name)


def _initdb(prefix: list[str], programs: Path, data: Path) -> None:
    options = ["-D", str(data), "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale"]
    command = [*prefix, str(programs / "initdb"), *options]
    made = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if made.returncode:
        raise StartError(f"initdb failed: {' '.join(made.stderr.split())}")


@contextlib.contextmanager
def _running(command: list[str], folder: Path, path: Path, disk: Disk, signum: int) -> Iterator[int]:
    """A database server that listens on the socket `path`: its pid. `signum` ends it with the block."""
    environment = os.environ | (disk.others or {})
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, cwd="/", start_new_session=True
        )
    try:
        _await_socket(path, process, log)
        yield process.pid
    finally:
        server.end(process, signum)


def _await_socket(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < START_LIMIT_S:
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.connect(str(path))
            return
        time.sleep(0.05)
    said = " ".join(log.read_text(errors="replace").split()[-60:])
    raise StartError(f"it did not start: {said or 'it said nothing'}")


@contextlib.contextmanager
def postgres(folder: Path, disk: Disk) -> Iterator[str]:
    """A running PostgreSQL with the competitors' table; what clients connect to. Raises `MissingError`."""
    with postgres_server(folder, disk) as (dsn, _):
        asyncio.run(_make_table(dsn))
        yield dsn


@contextlib.contextmanager
def postgres_server(folder: Path, disk: Disk) -> Iterator[tuple[str, int]]:
    """A running PostgreSQL with data in `folder`, made unless it is there: what clients connect to, its pid.

    Raises `MissingError`.
    """
    if disk.others is None:
        raise MissingError("no C compiler: nothing to slow its disk with")
    programs = postgres_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    with _sockets() as sockets:
        prefix = _as_postgres(folder, sockets)
        if not (folder / "data").exists():
            _initdb(prefix, programs, folder / "data")
        settings = {**POSTGRES_SETTINGS, "unix_socket_directories": str(sockets)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [*prefix, str(programs / "postgres"), "-D", str(folder / "data"), *options]
        # SIGINT is a fast shutdown: it need not wait for clients
        with _running(command, folder, sockets / ".s.PGSQL.5432", disk, signal.SIGINT) as pid:
            dsn = f"postgresql://bench@/postgres?host={sockets}"
            asyncio.run(_await_connections(dsn))
            yield dsn, pid


async def _await_connections(dsn: str) -> None:
    """Wait until it takes connections."""
    began = time.monotonic()
    while True:
        try:
            connection = await asyncpg.connect(dsn)
        except (OSError, asyncpg.PostgresError):
            if time.monotonic() - began > START_LIMIT_S:
                raise
            await asyncio.sleep(0.1)
        else:
            break
    await connection.close()


async def _make_table(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        f"CREATE TABLE profiles (id text PRIMARY KEY, doc jsonb NOT NULL) WITH (fillfactor = {FILLFACTOR})"
    )
    await connection.execute(FUNCTION)
    await connection.close()


def fill_postgres(dsn: str, profiles: int) -> None:
    """Put profiles into the empty table, in no order."""

    async def rows() -> AsyncIterator[tuple[str, str]]:
        for number in scattered(0, profiles):
            yield profile_id(number), profile_json(number)

    async def fill() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.copy_records_to_table(
            "profiles", records=rows(), columns=["id", "doc"], timeout=3600
        )
        await connection.execute("VACUUM (ANALYZE) profiles", timeout=3600)
        await connection.execute("CHECKPOINT", timeout=3600)
        await connection.close()

    asyncio.run(fill())


@contextlib.contextmanager
def redis_server(folder: Path, disk: Disk) -> Iterator[str]:
    """A running Redis with data in `folder`; its socket. Raises `MissingError`."""
    if disk.others is None:
        raise MissingError("no C compiler: nothing to slow its disk with")
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise MissingError("Redis is not installed")
    folder.mkdir(mode=0o700)
    with _sockets() as sockets:
        path = sockets / "redis.sock"
        words = {**REDIS_SETTINGS, "dir": str(folder), "unixsocket": str(path)}
        options = [word for name, value in words.items() for word in (f"--{name}", value)]
        with _running([program, *options], folder, path, disk, signal.SIGTERM):
            yield str(path)


def fill_redis(path: str, profiles: int) -> None:
    """Put profiles into the empty server; flushed at its end alone."""
    with redis.Redis(unix_socket_path=path) as client:
        client.config_set("appendfsync", "no")
        numbers = scattered(0, profiles)
        while some := list(islice(numbers, PLACED_AT_ONCE)):
            client.mset({profile_id(number): profile_json(number) for number in some})
        client.config_set("appendfsync", "always")


def versions() -> dict[str, str]:
    """What the database servers that are here say of their versions."""
    programs = [shutil.which("redis-server") or shutil.which("valkey-server")]
    with contextlib.suppress(MissingError):
        programs.append(str(postgres_folder() / "postgres"))
    found = {}
    for program in filter(None, programs):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        found[Path(program).name] = " ".join(said.stdout.split()[:3])
    return found
