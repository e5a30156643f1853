"""docs/sql.md: its commands and programs run as written, beside a running server."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests import engine
from tests.docs.snippets import Block, blocks
from tests.sdk.environments import PINS, client_programs
from tests.serving import Server, StartServer, start_module_server

__all__ = ["start_module_server"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sql.md"
BLOCKS = blocks(PAGE.read_text(encoding="utf-8"))
TOKEN = "token-of-the-page"


@pytest.fixture(scope="module")
def filled(start_module_server: StartServer) -> Server:
    """A server with three users, a group, a refusal and three events."""
    server = start_module_server(environment={"MIXDOWN_TOKEN": TOKEN})
    users = [
        {"$token": TOKEN, "$distinct_id": name, "$set": {"plan": plan}}
        for name, plan in (("ada", "pro"), ("bob", "free"), ("eve", "pro"))
    ]
    server.post("/engage", [*users, {"$token": TOKEN, "$set": {}}])
    group = {"$token": TOKEN, "$group_key": "Company", "$group_id": "Acme", "$set": {}}
    server.post("/groups", [group])
    assert server.get("/api/query/engage", project_id=1).json()["total"] == 3
    bought = [("ada", "pro", 12.5), ("ada", "pro", 10), ("bob", "free", 1)]
    events = [
        {"event": "bought", "properties": {"token": TOKEN, "distinct_id": name, "plan": plan, "price": price}}
        for name, plan, price in bought
    ]
    assert server.post("/track", events).body == b"1"
    return server


def block(language: str, *words: str) -> Block:
    """The one block of a language that has all of these words."""
    own = [each for each in BLOCKS if each.language == language]
    [found] = [each for each in own if all(word in each.code for word in words)]
    return found


def run(server: Server, code: str, folder: Path, *, shell: bool = True, python: str = sys.executable) -> str:
    """What a block prints, run beside the server's own data folder."""
    link = folder / "mixdown-data"
    if not link.exists():
        link.symlink_to(server.data_dir)
    code = code.replace("USER:PASSWORD", ":".join(server.account))
    code = code.replace("http://127.0.0.1:6493", server.base_url)
    code = re.sub(r"^mixdown ", f"{sys.executable} -m mixdown ", code, flags=re.MULTILINE)
    ended = subprocess.run(
        ["sh", "-c", code] if shell else [python, "-c", code],
        cwd=folder,
        env={**os.environ, **engine.variables(server.data_dir)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_columns_of_the_views_are_those_that_the_page_names(filled: Server, tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for view in ("users", "groups", "refusals", "history", "records"):
        table = text[text.index(f"`{view}`, ") :].split("\n\n")[1]
        named = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
        command = f'mixdown sql "select * from {view} limit 1" --json'
        assert [*json.loads(run(filled, command, tmp_path))[0]] == named, view
        if view != "records":
            query = {"query": f"select * from {view}", "project_id": 1}
            answer = filled.post("/api/mixdown/sql", query, filled.authorization())
            assert answer.json()["columns"] == named, view


def test_the_commands_print_what_was_stored(filled: Server, tmp_path: Path) -> None:
    assert run(filled, block("sh", "as plan, count(*)").code, tmp_path) == "plan\tusers\npro\t2\nfree\t1\n"
    refused = run(filled, block("sh", "select message, count").code, tmp_path)
    changes = run(filled, block("sh", "from history").code, tmp_path)
    assert '\tplan\t\t"pro"\n' in changes
    assert refused.splitlines() == ["message,n", '"$distinct_id, missing or empty",1']


def test_the_requests_are_answered(filled: Server, tmp_path: Path) -> None:
    assert run(filled, block("sh", "/api/mixdown/sql", "csv").code, tmp_path) == "users\n3\n"
    answer = json.loads(run(filled, block("sh", "/api/mixdown/sql", "params").code, tmp_path))
    assert answer["results"] == [{"distinct_id": "ada"}, {"distinct_id": "eve"}]


def test_the_columns_of_events_are_those_that_the_page_names(filled: Server, tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("`events`, a row for each event") :].split("\n\n")[1]
    named = [name for row in table.splitlines()[2:] for name in re.findall(r"^\| `(\w+)`", row)]
    command = 'mixdown sql --events default "select * from events limit 1" --json'
    assert [*json.loads(run(filled, command, tmp_path))[0]] == named
    for view, columns in (("users", "distinct_id properties"), ("groups", "group_key group_id properties")):
        command = f'mixdown sql --events default "select * from {view}" --json'
        assert [*json.loads(run(filled, command, tmp_path))[0]] == columns.split()


def test_events_are_asked_as_the_page_says(filled: Server, tmp_path: Path) -> None:
    counted = run(filled, block("sh", "persons from events").code, tmp_path)
    assert counted == "event\tn\tpersons\nbought\t3\t2\n"
    revenue = run(filled, block("sh", "as revenue").code, tmp_path)
    assert revenue == "plan\trevenue\nfree\t1.0\npro\t22.5\n"
    joined = json.loads(run(filled, block("sh", "join users").code, tmp_path))
    assert joined["results"] == [{"plan": "free", "n": 1}, {"plan": "pro", "n": 2}]


@pytest.mark.slow
@engine.of_a_folder("its files are opened by others")
def test_datasette_shows_the_views_beside_a_running_server(filled: Server, tmp_path: Path) -> None:
    datasette = client_programs("datasette") / "datasette"
    [url] = re.findall(r"http://127\.0\.0\.1:8001(/state\.json\S+)`", PAGE.read_text(encoding="utf-8"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = block("sh", "datasette mixdown-data").code.replace("datasette ", f"exec {datasette} -p {port} ", 1)
    (tmp_path / "mixdown-data").symlink_to(filled.data_dir)
    with running(code, tmp_path):
        assert json.loads(fetched(f"http://127.0.0.1:{port}{url}")) == [{"count(*)": 3}]
        assert b"ada" in fetched(f"http://127.0.0.1:{port}/state/users")
        filled.post("/engage", [{"$token": TOKEN, "$distinct_id": "ada", "$set": {"seen": "beside"}}])
        filled.get("/api/query/engage", project_id=1)
        assert b"beside" in fetched(f"http://127.0.0.1:{port}/state/users")


@contextmanager
def running(code: str, folder: Path) -> Iterator[None]:
    """A program that runs until the end of the block."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(["sh", "-c", code], cwd=folder, stdout=quiet, stderr=quiet) as one:
        try:
            yield
        finally:
            one.terminate()


def fetched(url: str) -> bytes:
    """What a server answers, once it is there."""
    deadline = time.monotonic() + 180
    while True:
        try:
            with urlopen(url, timeout=120) as reply:
                return bytes(reply.read())
        except URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.mark.slow
@engine.of_a_folder("its files are opened by others")
def test_duckdb_reads_the_views_with_its_extension_from_the_package_index(
    filled: Server, tmp_path: Path
) -> None:
    python = client_programs("duckdb-sqlite") / "python"
    shown = run(filled, block("python", "ATTACH").code, tmp_path, shell=False, python=str(python))
    assert re.findall(r"│ (\w+) +│ +(\d)", shown) == [("pro", "2"), ("free", "1")]
    pins = (PINS / "duckdb-sqlite.txt").read_text().splitlines()[1:]
    assert block("sh", "pip install duckdb").code.split()[2:] == pins


def test_duckdb_reads_an_export(filled: Server, tmp_path: Path) -> None:
    run(filled, block("sh", "profiles export").code, tmp_path)
    shown = run(filled, block("python", "users.parquet").code, tmp_path, shell=False)
    assert re.search(r"│ +3 │", shown)
