"""A PostgreSQL of the tests' own, on a Unix socket in a temporary folder; nothing of it is kept."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from bench.competitors.databases import MissingError, postgres_folder

START_LIMIT_S = 60.0
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "16MB",
    "max_connections": "5",
    "autovacuum": "off",
    "jit": "off",
}


def _prefix(folder: Path) -> list[str]:
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
def postgres() -> Iterator[psycopg.Connection]:
    """A connection to an empty database; skips the test where PostgreSQL is not installed."""
    try:
        programs = postgres_folder()
    except MissingError as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory(prefix="mixdown-pg-", dir="/tmp") as name:
        folder = Path(name)
        prefix = _prefix(folder)
        data = str(folder / "data")
        options = ["-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        command = [*prefix, str(programs / "initdb"), *options]
        made = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert made.returncode == 0, made.stderr
        settings = [f"-c{key}={value}" for key, value in SETTINGS.items()]
        settings.append(f"-cunix_socket_directories={name}")
        server = subprocess.Popen(
            [*prefix, str(programs / "postgres"), "-D", data, *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        try:
            connection = _connected(f"host={name} user=tests dbname=postgres", server)
            with connection:
                yield connection
        finally:
            server.terminate()
            server.wait(30)


def _connected(address: str, server: subprocess.Popen[bytes]) -> psycopg.Connection:
    began = time.monotonic()
    while True:
        try:
            return psycopg.connect(address, autocommit=True)
        except psycopg.OperationalError:
            assert server.poll() is None, "PostgreSQL did not start"
            if time.monotonic() - began > START_LIMIT_S:
                raise
            time.sleep(0.05)
