"""Backups of a store on PostgreSQL, as docs/backup.md tells them: made, all else destroyed, restored.

The commands are those of the page, with other paths; a node answers afterwards what it answered before.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.competitors.databases import postgres_folder
from tests.operations.test_deploy_files import ROOT
from tests.serving import TOKEN, Server, launch
from tests.store.postgres import Server as Postgres
from tests.store.postgres import postgres_server

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "backup.md").read_text().partition("## On PostgreSQL")[2]
BLOCKS = re.findall(r"```(?:sh)?\n(.*?)```", PAGE, re.DOTALL)
CLOSED = 21_000  # so many events that come at once go into a file
PATIENCE_S = 240.0
StartNode = Callable[..., Server]


def block(word: str) -> str:
    """The block of the page that has this word."""
    found: str
    [found] = [each for each in BLOCKS if word in each]
    return found


def run(script: str, folder: Path, **variables: str) -> str:
    """Run a block of the page, its folders below `folder`; what it says on stderr."""
    for place in ("/mnt", "/backups", "/archive"):
        script = script.replace(f"{place}/", f"{folder}{place}/")
    programs = f"{postgres_folder()}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["sh", "-ec", script],
        env={**os.environ, "PATH": programs, **variables},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartNode]:
    """Starts nodes; each has a data folder of its own."""
    started: list[Server] = []

    def node(url: str, events: Path) -> Server:
        variables = {"MIXDOWN_DATABASE_URL": url, "MIXDOWN_EVENTS_URL": str(events)}
        made = launch(tmp_path / f"node-{len(started)}", environment=variables)
        started.append(made)
        return made

    yield node
    for each in started:
        each.stop()


def post(server: Server, path: str, records: list[Any]) -> None:
    for at in range(0, len(records), 2000):
        reply = server.post(f"{path}?verbose=1&ip=0", records[at : at + 2000])
        assert reply.status == 200, reply.body


def act(server: Server, name: str, *, closed: bool = True) -> None:
    """People, groups, links between ids, refused records, events in files and hot ones."""
    people = [
        {"$token": TOKEN, "$distinct_id": f"u{n}", "$set": {"of": name}, "$add": {"n": n}} for n in range(50)
    ]
    post(server, "/engage", [*people, {"$token": TOKEN, "$set": {"of": name}}])
    group = {"$token": TOKEN, "$group_key": "Company", "$group_id": "acme", "$set": {"of": name}}
    post(server, "/groups", [group])
    now_s = int(time.time())
    events = [
        {
            "event": name,
            "properties": {
                "token": TOKEN,
                "distinct_id": f"u{n % 50}",
                "time": now_s - n % 100,
                "$insert_id": f"{name}-{n}",
                "n": n,
            },
        }
        for n in range(CLOSED if closed else 10)
    ]
    post(server, "/track", events)


def answers(server: Server) -> dict[str, Any]:
    """What there is to be read."""
    project = server.project_id
    counted = server.post(
        "/api/mixdown/sql",
        {
            "project_id": project,
            "events": True,
            "query": "select event, count(*) as n, sum(property('n')::int) as s,"
            " count(distinct insert_id) as i from events group by 1 order by 1",
        },
        server.authorization(),
    )
    assert counted.status == 200, counted.body
    history = server.get("/api/mixdown/history", project_id=project, distinct_id="u7")
    assert history.status == 200, history.body
    refused = server.get("/api/mixdown/refusals", project_id=project)
    return {
        "profiles": server.profiles(),
        "groups": server.groups("Company"),
        "events": counted.json()["results"],
        "history": history.json(),
        "refusals": [(each["message"], each["record"]) for each in refused.json()["results"]],
        "projects": server.command("project", "list", "--json"),
    }


def settled(server: Server, files: int, url: Postgres, database: str) -> None:
    """Wait until so many files of events are listed."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with url.connect(database) as connection:
            found = connection.execute("SELECT count(*), sum(events) FROM mixdown.event_paths").fetchone()
        if found is not None and found[0] >= files:
            return
        assert time.monotonic() < deadline, (found, server.log_text())
        time.sleep(0.2)


def test_a_dump_and_the_files_are_the_store_again(tmp_path: Path, start: StartNode) -> None:
    events, restored = tmp_path / "mnt" / "mixdown-events", tmp_path / "mnt" / "mixdown-events-restored"
    (tmp_path / "backups").mkdir()
    with postgres_server() as database:
        with database.connect() as connection:
            connection.execute("CREATE DATABASE original")
        url = database.url("original")
        node = start(url, events)
        act(node, "first")
        settled(node, 1, database, "original")
        act(node, "second", closed=False)
        before = answers(node)
        copies, dump = block("pg_dump").rsplit("cp -au", 1)[0], block("pg_dump").rsplit("\n", 2)[1]
        assert run(copies, tmp_path, DATABASE_URL=url) == ""
        act(node, "lost")  # after the dump's moment: its files are in the copy all the same
        settled(node, 2, database, "original")
        run(dump, tmp_path)
        assert answers(node) != before
        node.stop()
        database.drop(url)
        shutil.rmtree(events)

        administered, new = database.url("postgres"), database.url("mixdown_restored")
        run(block("pg_restore"), tmp_path, ADMIN_URL=administered, RESTORED_URL=new)
        assert run(block("event_paths"), tmp_path, RESTORED_URL=new) == ""
        node = start(new, restored)
        assert answers(node) == before
        act(node, "third")  # whose file gets the name of one that is in the copy
        settled(node, 2, database, "mixdown_restored")
        counted = {each["event"]: (each["n"], each["i"]) for each in answers(node)["events"]}
        assert counted == {"first": (CLOSED, CLOSED), "second": (10, 10), "third": (CLOSED, CLOSED)}
        some = next(restored.rglob("*.parquet"))
        some.unlink()
        with pytest.raises(AssertionError, match=some.name):
            run(block("event_paths"), tmp_path, RESTORED_URL=new)
        node.stop()


ARCHIVING: Mapping[str, str] = {"max_wal_senders": "4", "autovacuum": "on"}


def settings_of(text: str, folder: Path) -> dict[str, str]:
    """A block of PostgreSQL's settings, its folders below `folder`."""
    found = dict(re.findall(r"^(\w+) = '?(.*?)'?$", text, re.MULTILINE))
    return {name: value.replace("/archive/", f"{folder}/archive/") for name, value in found.items()}


def test_a_base_backup_and_the_log_since_go_to_any_point_in_time(tmp_path: Path, start: StartNode) -> None:
    events, restored = tmp_path / "mnt" / "mixdown-events", tmp_path / "mnt" / "restored"
    (tmp_path / "backups" / "events").mkdir(parents=True)
    # the archive is the database's user's, as its data is
    shared = Path(os.path.realpath("/tmp")) / f"mixdown-archive-{os.getpid()}"  # noqa: S108 - made below, alone
    shared.mkdir(mode=0o700)
    (shared / "archive").mkdir()
    try:
        _recovered(events, restored, shared, tmp_path, start)
    finally:
        shutil.rmtree(shared)


def _recovered(events: Path, restored: Path, shared: Path, tmp_path: Path, start: StartNode) -> None:
    wanted = settings_of(block("archive_mode"), shared)
    assert set(wanted) == {"wal_level", "archive_mode", "archive_timeout", "archive_command"}
    with postgres_server({**ARCHIVING, **wanted}) as database:
        data = database.folder / "data"
        owner = data.stat()
        for each in (shared, shared / "archive"):
            os.chown(each, owner.st_uid, owner.st_gid)
        with database.connect() as connection:
            connection.execute("CREATE DATABASE original")
        url = database.url("original")
        node = start(url, events)
        act(node, "first")
        run(block("pg_basebackup"), tmp_path, DATABASE_URL=url)
        act(node, "second")
        settled(node, 2, database, "original")
        before = answers(node)
        run(BLOCKS[BLOCKS.index(block("pg_basebackup")) + 1], tmp_path)
        moment = accident(node, database)
        node.stop()
        database.stop()
        shutil.rmtree(events)
        shutil.rmtree(data)

        shutil.copytree(tmp_path / "backups" / "base", data)
        (data / "recovery.signal").touch()
        given = settings_of(block("restore_command"), shared) | {"recovery_target_time": moment}
        with (data / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in given.items())
        for path in (data, *data.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
            path.chmod(0o700 if path.is_dir() else 0o600)
        database.start()
        deadline = time.monotonic() + PATIENCE_S
        while in_recovery(database):
            assert time.monotonic() < deadline, "it recovers and recovers"
            time.sleep(0.2)
        shutil.copytree(tmp_path / "backups" / "events", restored)
        node = start(url, restored)
        assert answers(node) == before
        act(node, "third")
        assert {each["event"]: each["n"] for each in answers(node)["events"]} == dict.fromkeys(
            ("first", "second", "third"), CLOSED
        )
        node.stop()


def in_recovery(database: Postgres) -> bool:
    with database.connect() as connection:
        return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)


def accident(node: Server, database: Postgres) -> str:
    """Delete everybody; the moment before, once all of it is archived."""
    with database.connect() as connection:
        found = connection.execute("SELECT clock_timestamp()::text, pg_sleep(0.1)").fetchone()
        assert found is not None
        post(node, "/engage", [{"$token": TOKEN, "$distinct_id": f"u{n}", "$delete": ""} for n in range(50)])
        assert node.profiles() == {}
        last = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert last is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            archived = connection.execute("SELECT last_archived_wal FROM pg_stat_archiver").fetchone()
            if archived is not None and (archived[0] or "") >= last[0]:
                return str(found[0])
            assert time.monotonic() < deadline, "nothing is archived"
            time.sleep(0.1)
