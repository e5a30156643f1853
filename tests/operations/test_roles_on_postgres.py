"""What `deploy/docker/compose.postgres.yaml` starts, run without containers: roles, pgbouncer, two nodes.

What the file says is what runs here, but for addresses, ports and paths: the owner makes the tables, and two
nodes serve through pgbouncer as a role that may change rows and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.durability.processes import free_port
from tests.operations.support import environment, failed_start
from tests.operations.test_deploy_files import ROOT, read
from tests.serving import TOKEN, Server, launch
from tests.store.postgres import Server as Postgres
from tests.store.postgres import postgres_server

pytestmark = pytest.mark.slow
COMPOSE = ROOT / "deploy" / "docker" / "compose.postgres.yaml"
PASSWORDS = {"owner_password": 'owner\'s: "word"', "serve_password": "a7c0ffee"}
START_LIMIT_S = 20.0


@pytest.fixture(scope="module")
def held() -> dict[str, Any]:
    """The compose file, as compose reads it: a dollar that is meant stands twice."""
    found: dict[str, Any] = json.loads(json.dumps(read(COMPOSE)).replace("$$", "$"))
    return found


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    for name, word in PASSWORDS.items():
        (folder / name).write_text(f"{word}\n")
    return folder


@pytest.fixture(scope="module")
def database(held: dict[str, Any], secrets: Path) -> Iterator[Postgres]:
    """A server that asks for passwords on loopback, with the roles and the database that the file makes."""
    wanted = {"listen_addresses": "127.0.0.1", "port": str(free_port()), "autovacuum": "on"}
    for word in held["services"]["postgres"]["command"][1:]:
        name, value = word.removeprefix("-c").split("=")
        if name not in ("shared_buffers", "wal_compression"):  # more than tests need; not in every build
            wanted[name] = value
    with postgres_server(wanted) as server:
        (server.folder / "data" / "pg_hba.conf").write_text(
            "local all tests trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        with server.connect() as connection:
            connection.execute("SELECT pg_reload_conf()")
        script = held["configs"]["roles"]["content"].replace("/run/secrets", str(secrets))
        where = {"PGHOST": str(server.folder), "PGPORT": str(server.port), "PGUSER": "tests"}
        made = subprocess.run(
            ["sh", "-c", script], env={**os.environ, **where}, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
        yield server


def migrate(held: dict[str, Any], database: Postgres, secrets: Path) -> subprocess.CompletedProcess[str]:
    service = held["services"]["migrate"]
    return subprocess.run(
        [sys.executable, "-m", "mixdown", *service["command"]],
        env=environment(**placed(service["environment"], database.port, secrets)),
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


def placed(variables: dict[str, str], port: int, secrets: Path) -> dict[str, str]:
    """A container's variables, for this machine."""
    found = {
        name: re.sub("@(postgres|pgbouncer):[0-9]+/", f"@127.0.0.1:{port}/", value)
        for name, value in variables.items()
    }
    for name, value in found.items():
        found[name] = value.replace("/run/secrets", str(secrets))
    return found


@contextmanager
def bouncer(held: dict[str, Any], database: Postgres, secrets: Path) -> Iterator[int]:
    """The file's pgbouncer, before the database; its port."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    port, folder = free_port(), database.folder
    *_, script = held["services"]["pgbouncer"]["command"]
    settings = held["configs"]["pgbouncer"]["content"]
    for old, new in (
        ("host=postgres port=5432", f"host=127.0.0.1 port={database.port}"),
        ("listen_addr = 0.0.0.0", "listen_addr = 127.0.0.1"),
        ("listen_port = 6432", f"listen_port = {port}"),
        ("/tmp/users.txt", str(folder / "users.txt")),  # noqa: S108 - of the container
    ):
        assert old in settings + script, old
        settings = settings.replace(old, new)
        script = script.replace(old, new)
    (folder / "bouncer.ini").write_text(settings)
    (folder / "word").write_text((secrets / "serve_password").read_text())
    script = script.replace("/run/secrets/serve_password", str(folder / "word"))
    script = script.replace(
        "exec pgbouncer /etc/pgbouncer/mixdown.ini", f"exec {program} {folder}/bouncer.ini"
    )
    owner = (folder / "data").stat()
    for name in ("bouncer.ini", "word"):
        os.chown(folder / name, owner.st_uid, owner.st_gid)
    command = ["sh", "-c", script]
    if os.geteuid() == 0:  # as which neither runs
        command = [
            "setpriv",
            f"--reuid={owner.st_uid}",
            f"--regid={owner.st_gid}",
            "--clear-groups",
            *command,
        ]
    with (folder / "bouncer.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            assert process.poll() is None, (folder / "bouncer.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "pgbouncer does not listen"
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def send(server: Server, *ids: str) -> None:
    records = [{"$token": TOKEN, "$distinct_id": each, "$add": {"n": 1}} for each in ids]
    typed = {"Content-Type": "application/json"}
    reply = server.request("POST", "/engage?verbose=1&ip=0", json.dumps(records), typed)
    assert reply.json() == {"error": None, "status": 1}, reply.body
    event = {"event": "seen", "properties": {"token": TOKEN, "distinct_id": ids[0]}}
    assert server.request("POST", "/track?verbose=1", json.dumps([event])).json()["status"] == 1


def test_nodes_serve_as_a_role_that_may_change_rows_alone(
    held: dict[str, Any], database: Postgres, secrets: Path, tmp_path: Path
) -> None:
    node = held["services"]["mixdown-1"]["environment"]
    direct = {**placed(node, database.port, secrets), "MIXDOWN_EVENTS_URL": str(tmp_path / "events")}
    said = "\n".join(failed_start("--port", "0", "--data-dir", str(tmp_path / "early"), variables=direct))
    assert "permission denied" in said
    assert "mixdown db migrate" in said, "and what to do"

    made = migrate(held, database, secrets)
    assert made.returncode == 0, made.stderr
    assert "32 partitions" in made.stderr
    assert "nothing to do" in migrate(held, database, secrets).stderr

    with bouncer(held, database, secrets) as port:
        through = {**direct, "MIXDOWN_DATABASE_URL": placed(node, port, secrets)["MIXDOWN_DATABASE_URL"]}
        nodes: list[Server] = []
        try:
            nodes += [launch(tmp_path / f"node-{number}", environment=through) for number in range(2)]
            used(*nodes)
        finally:
            stopped = [each.stop() for each in nodes]
        assert stopped == [0, 0]
        for each in nodes:
            assert '"level":"error"' not in each.log_text().replace(" ", ""), each.log_text()


def used(one: Server, other: Server) -> None:
    """Whatever changes rows of one table or another."""
    for at in range(3):
        send(one if at % 2 else other, "ada", "bob")
    assert {name: each["n"] for name, each in other.profiles().items()} == {"ada": 3, "bob": 3}
    assert [event["event"] for event in one.events()] == ["seen"] * 3
    project = one.project_id
    made = one.command("project", "create", "shop", "--json")
    assert made["name"] == "shop"
    one.command("project", "set-large", "shop", "--yes", "--json")
    one.command(
        "cohort", "create", "all", "--where", 'defined(properties["n"])', "--project", str(project), "--json"
    )
    for server in (one, other):
        asked = {"project_id": project, "query": "select count(*) as n from users"}
        reply = server.post("/api/mixdown/sql", asked, server.authorization())
        assert reply.json()["results"] == [{"n": 2}], reply.body
    assert one.get("/api/query/engage", project_id=project, filter_by_cohort='{"id":1}').status == 200
    one.command("erase", "bob", "--project", str(project), "--yes", "--json")
    assert set(other.profiles()) == {"ada"}
    one.command("project", "delete", "shop", "--yes", "--json")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mixdown.own (n int)",
        "CREATE TABLE public.own (n int)",
        "CREATE SCHEMA own",
        "CREATE TEMPORARY TABLE own (n int)",
        "DROP TABLE mixdown.profiles",
        "TRUNCATE mixdown.profiles",
        "ALTER TABLE mixdown.profiles ADD own int",
        "CREATE INDEX ON mixdown.profiles (id)",
        "DROP SCHEMA mixdown CASCADE",
        "CREATE OR REPLACE FUNCTION mixdown.append() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SET ROLE mixdown_owner",
        "COPY mixdown.profiles TO PROGRAM 'true'",
    ],
)
def test_the_role_of_a_node_may_do_nothing_else(statement: str, database: Postgres) -> None:
    url = f"postgresql://mixdown:{PASSWORDS['serve_password']}@127.0.0.1:{database.port}/mixdown"
    denied = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(url, autocommit=True) as connection, denied:
        connection.execute(statement)
