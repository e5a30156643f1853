"""`mixdown profiles` where no server runs."""

from __future__ import annotations

import pytest

from mixdown.store.sqlite.folder import FolderLock
from tests.cli.support import Cli, group, user
from tests.engine import nobody_folds, of_a_folder


def test_a_read_folds_what_waits_where_no_server_runs(shop: Cli) -> None:
    shop.send(user("alice", plan="pro", tags=["a", 1]))
    assert shop.watermark_and_head() == (0, 1)
    answer = shop.json("profiles", "get", "alice", "--project", "shop")
    assert set(answer) == {"$distinct_id", "$properties"}
    assert answer["$distinct_id"] == "alice"
    assert answer["$properties"].pop("$last_seen")
    assert answer["$properties"] == {"plan": "pro", "tags": ["a", 1]}
    assert shop.watermark_and_head() == (1, 1)


@of_a_folder("its lock")
def test_a_read_gives_the_lock_back(shop: Cli) -> None:
    shop.send(user("alice", plan="pro"))
    shop("profiles", "get", "alice", "--project", "shop")
    FolderLock(shop.folder).acquire(0).release()


def test_a_group_is_read_by_its_group_key(shop: Cli) -> None:
    shop.send(group("Company", "Acme", plan="pro"), endpoint="groups")
    answer = shop.json("profiles", "get", "Acme", "--group-key", "Company", "--project", "1")
    assert (answer["$distinct_id"], answer["$properties"]["plan"]) == ("Acme", "pro")
    shop("profiles", "get", "Acme", "--project", "1", code=1)


def test_a_profile_outside_a_terminal_is_a_line_for_each_property(shop: Cli) -> None:
    shop.send(user("alice", plan="pro", address={"city": "Köln"}, text="a\tb\x1b[31m"))
    lines = dict(
        line.split("\t") for line in shop("profiles", "get", "alice", "--project", "1").stdout.splitlines()
    )
    assert lines["plan"] == "pro"
    assert lines["address"] == '{"city":"Köln"}'
    assert lines["text"] == "a\\tb\\x1b[31m"


def test_a_profile_on_a_terminal_is_a_table_without_control_codes(shop: Cli) -> None:
    shop.send(user("alice", plan="pro", evil="\x1b]0;title\x07[bold]red"))
    shown = shop.on_a_terminal("profiles", "get", "alice", "--project", "1")
    assert "property" in shown
    assert "\\x1b]0;title\\x07[bold]red" in shown
    assert "\x07" not in shown


def test_a_profile_that_is_not_there_is_an_error(shop: Cli) -> None:
    result = shop("profiles", "get", "nobody", "--project", "shop", "--json", code=1)
    assert result.stdout == ""
    assert "no profile of user nobody" in result.stderr


def test_a_read_that_stays_behind_answers_and_says_so(shop: Cli) -> None:
    shop.send(user("alice", plan="free"))
    shop("profiles", "get", "alice", "--project", "1")
    with nobody_folds(shop.folder):
        shop.send(user("alice", plan="pro"))
        result = shop("profiles", "get", "alice", "--project", "1", env={"MIXDOWN_READ_WAIT_MS": "50"})
    assert "plan\tfree" in result.stdout
    assert "1 records behind" in result.stderr
    assert "plan\tpro" in shop("profiles", "get", "alice", "--project", "1").stdout


def test_profiles_are_deleted_through_the_log(shop: Cli) -> None:
    shop.send(user("u1"), user("u2"), user("u3"))
    answer = shop.json("profiles", "delete", "u1", "u2", "u1", "--project", "shop", "--yes")
    assert answer == {"deleted": ["u1", "u2"], "missing": []}
    assert shop.watermark_and_head() == (5, 5)
    shop("profiles", "get", "u1", "--project", "shop", code=1)
    shop("profiles", "get", "u3", "--project", "shop")


def test_deleting_what_is_not_there_says_so_and_deletes_the_rest(shop: Cli) -> None:
    shop.send(user("u1"))
    result = shop("profiles", "delete", "u1", "ghost", "--project", "shop", "--yes", code=1)
    assert "deleted 1 of 2" in result.stderr
    assert "no such profile: user ghost" in result.stderr
    assert shop.json("profiles", "delete", "u1", "--project", "shop", "--yes", code=1) == {
        "deleted": [],
        "missing": ["u1"],
    }


def test_a_group_is_deleted_by_its_group_key(shop: Cli) -> None:
    shop.send(group("Company", "Acme", plan="pro"), endpoint="groups")
    shop.send(user("Acme", plan="free"))
    shop("profiles", "delete", "Acme", "--group-key", "Company", "--project", "shop", "--yes")
    shop("profiles", "get", "Acme", "--group-key", "Company", "--project", "1", code=1)
    shop("profiles", "get", "Acme", "--project", "1")


def test_a_delete_asks_first(shop: Cli) -> None:
    shop.send(user("u1"), user("u2"))
    result = shop("profiles", "delete", "u1", "u2", "--project", "shop", typed="n\n", code=1)
    assert "Delete user u1, user u2 from project 1, shop?" in result.stderr
    shop("profiles", "get", "u1", "--project", "shop")


def test_a_delete_is_refused_by_no_setting_about_unknown_tokens(shop: Cli) -> None:
    shop.send(user("u1"))
    answer = shop.json(
        "profiles", "delete", "u1", "--project", "shop", "--yes", env={"MIXDOWN_UNKNOWN_TOKEN": "accept"}
    )
    assert answer["deleted"] == ["u1"]


@pytest.mark.parametrize(
    "arguments", [["get", "u1"], ["delete", "--project", "1"], ["get", "--project", "1"]]
)
def test_project_and_id_are_needed(shop: Cli, arguments: list[str]) -> None:
    assert "Missing" in shop("profiles", *arguments, code=2).stderr


def test_an_id_that_is_no_text_is_looked_up_as_it_would_be_stored(shop: Cli) -> None:
    shop.send(user("odd\x00id"))
    shop("profiles", "get", "odd\udcffid", "--project", "1")
    answer = shop.json("profiles", "delete", "odd\udcffid", "gone\udcff", "--project", "1", "--yes", code=1)
    assert answer == {"deleted": ["odd\ufffdid"], "missing": ["gone\ufffd"]}
