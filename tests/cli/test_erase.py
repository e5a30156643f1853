"""`mixdown erase` and `mixdown retrieve`, without a server and beside one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import Cli, group, user
from tests.erasure.raw import found
from tests.serving import StartServer

pytestmark = pytest.mark.slow


def test_people_are_erased_where_no_server_runs(shop: Cli) -> None:
    shop.send(user("ada-id", plan="ada-value"), user("bob-id", plan="bob-value"))
    shop.send({"$token": "shop-token", "$distinct_id": "ada-id", "$set": ["ada-value"]})
    shop("profiles", "get", "ada-id", "--project", "shop")
    done = shop.json("erase", "ada-id", "--project", "shop", "--wait")
    assert (done["status"], done["distinct_id_count"]) == ("SUCCESS", 1)
    assert (done["report"]["people"], done["report"]["refusals"]) == (1, 1)
    assert found(shop.folder, ["ada-id", "ada-value"]) == {}
    assert "bob-value" in shop("profiles", "get", "bob-id", "--project", "shop").stdout
    shop("profiles", "get", "ada-id", "--project", "shop", code=1)
    shop.send(user("ada-id", plan="new"))
    assert "new" in shop("profiles", "get", "ada-id", "--project", "shop").stdout


def test_groups_are_erased_by_their_key(shop: Cli) -> None:
    shop.send(group("Company", "Acme", a=1), group("Company", "Node", a=1), endpoint="groups")
    shown = shop("erase", "Acme", "--group-key", "Company", "--project", "shop", "--yes", "--wait").stderr
    assert "erased 1" in shown
    assert "not reached: backups" in shown
    shop("profiles", "get", "Acme", "--group-key", "Company", "--project", "shop", code=1)
    shop("profiles", "get", "Node", "--group-key", "Company", "--project", "shop")


def test_a_terminal_is_asked_first(shop: Cli) -> None:
    shop.send(user("ada-id", plan="pro"))
    shown = shop.on_a_terminal("erase", "ada-id", "--project", "shop", typed="n\n")
    assert "Erase ada-id from project 1, shop, for good?" in shown
    shop("profiles", "get", "ada-id", "--project", "shop")


def test_a_server_that_runs_does_it(start_server: StartServer) -> None:
    server = start_server()
    server.post("/engage", [{"$token": server.token, "$distinct_id": "eve-id", "$set": {"a": "eve-value"}}])
    assert "eve-id" in server.profiles()
    done = server.command("erase", "eve-id", "--project", "default", "--wait", "--json")
    assert done["status"] == "SUCCESS"
    assert server.profiles() == {}
    assert found(server.data_dir, ["eve-id", "eve-value"]) == {}


def test_a_persons_data_goes_to_one_closed_file(shop: Cli, tmp_path: Path) -> None:
    shop.send(user("ada-id", plan="pro"), user("bob-id", plan="free"))
    out = tmp_path / "ada.json"
    shop("retrieve", "ada-id", "--project", "shop", "--out", str(out))
    file = json.loads(out.read_bytes())
    assert [row["$properties"]["plan"] for row in file["profiles"]] == ["pro"]
    assert out.stat().st_mode & 0o777 == 0o600
    again = shop("retrieve", "ada-id", "--project", "shop", "--out", str(out), code=1)
    assert "is there already" in again.stderr
    on_stdout = shop("retrieve", "ada-id", "nobody", "--project", "shop", "--out", "-").stdout
    assert json.loads(on_stdout)["ids"] == ["ada-id", "nobody"]
