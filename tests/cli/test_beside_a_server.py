"""The commands while a server runs on the folder: they read their writes, and the server notices at once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from tests.cli.support import Cli, user
from tests.engine import of_a_folder
from tests.serving import SECRET, TOKEN, Server, StartServer


@pytest.fixture
def beside(server: Server) -> Iterator[Cli]:
    """Commands on the folder of a running server."""
    yield Cli(server.data_dir)
    assert server.process.poll() is None, server.log_text()


def test_a_profile_is_read_as_soon_as_its_record_is_acknowledged(server: Server, beside: Cli) -> None:
    for number in range(10):
        reply = server.post("/engage", user("quick", token=TOKEN, n=number))
        assert reply.body == b"1"
        answer = beside.json("profiles", "get", "quick", "--project", "default")
        assert answer["$properties"]["n"] == number


def test_a_deleted_profile_is_gone_for_everyone(server: Server, beside: Cli) -> None:
    server.post("/engage", user("goner", token=TOKEN))
    beside("profiles", "delete", "goner", "--project", "default", "--yes")
    beside("profiles", "get", "goner", "--project", "default", code=1)
    assert "goner" not in server.profiles(distinct_ids=json.dumps(["goner"]))


def test_a_new_project_and_a_rotated_token_count_at_once(server: Server, beside: Cli) -> None:
    made = beside.json("project", "create", "beside")
    assert server.post("/engage", user("u1", token=made["token"])).body == b"1"
    rotated = beside.json("project", "rotate-token", "beside")
    assert server.post("/engage", user("u1", token=made["token"])).body == b"0"
    assert server.post("/engage", user("u1", token=rotated["token"])).body == b"1"
    beside("project", "delete", "beside", "--yes")
    assert server.post("/engage", user("u1", token=rotated["token"])).body == b"0"


def test_a_new_account_reads_until_it_is_deleted(server: Server, beside: Cli) -> None:
    made = beside.json("account", "create", "fresh", "--project", "default")
    word = base64.b64encode(f"fresh:{made['password']}".encode()).decode()
    path = f"/api/query/engage?project_id={made['project_id']}"
    headers = {"Authorization": f"Basic {word}"}
    assert server.request("GET", path, headers=headers).status == 200
    beside("account", "delete", "fresh", "--yes")
    assert server.request("GET", path, headers=headers).status == 401


def test_refusals_of_the_server_are_mended_and_stored(server: Server, beside: Cli) -> None:
    server.post("/engage", user("mended", token="typo-token", plan="pro"))
    (refusal,) = [each for each in beside.json("refusals", "list") if "typo-token" in each["record"]]
    beside("refusals", "resend", str(refusal["id"]), "--set-token", TOKEN)
    assert refusal["id"] not in [each["id"] for each in beside.json("refusals", "list")]
    assert beside.json("profiles", "get", "mended", "--project", "1")["$properties"]["plan"] == "pro"


def test_sql_sees_what_was_just_acknowledged(server: Server, beside: Cli) -> None:
    server.post("/engage", user("asked", token=TOKEN, plan="pro"))
    query = "select properties ->> '$.plan' as plan from users where distinct_id = 'asked'"
    assert beside.json("sql", query) == [{"plan": "pro"}]


@of_a_folder("`mixdown doctor` looks at its files")
def test_doctor_finds_the_server_ready(server: Server, beside: Cli) -> None:
    found = {each["check"]: each for each in beside.json("doctor")["checks"]}["server"]
    assert found["status"] == "ok"
    assert f"process {server.pid} at {server.base_url} is ready" in found["message"]


def test_no_command_shows_the_secrets_that_the_server_was_given(beside: Cli) -> None:
    for arguments in (["project", "list"], ["project", "show", "default"], ["account", "list"], ["config"]):
        shown = beside(*arguments).output + beside(*arguments, "--json").output
        assert SECRET not in shown
        assert "pa55" not in shown


@of_a_folder("where no node is, nobody folds what is in a database")
def test_a_server_that_was_killed_leaves_a_folder_that_commands_can_use(start_server: StartServer) -> None:
    running = start_server()
    running.post("/engage", user("kept", token=TOKEN, plan="pro"))
    running.kill()
    cli = Cli(running.data_dir)
    assert cli.json("profiles", "get", "kept", "--project", "1")["$properties"]["plan"] == "pro"
