"""`mixdown project` and `mixdown account`."""

from __future__ import annotations

import stat

import pytest

from mixdown.fold.loop import catch_up
from mixdown.ingest.direct import append_raw
from mixdown.ingest.pipeline import rules_of
from mixdown.settings import Settings
from mixdown.store import opening
from mixdown.store.credentials import secret_hash
from mixdown.store.memory import MemoryStore
from tests.cli.support import Cli
from tests.engine import of_a_folder, open_store


def test_a_new_project_has_a_token_and_a_secret_of_256_bits(cli: Cli) -> None:
    made = cli.json("project", "create", "shop")
    assert set(made) == {"id", "name", "token", "secret"}
    assert (made["id"], made["name"]) == (1, "shop")
    assert len(made["token"]) == 32
    assert len(made["secret"]) == 64


@of_a_folder("it makes one")
def test_the_first_command_makes_a_closed_folder_and_says_so(cli: Cli) -> None:
    result = cli("project", "create", "shop")
    assert f"making a new data folder: {cli.folder}" in result.stderr
    assert stat.S_IMODE(cli.folder.stat().st_mode) == 0o700


def test_given_token_and_secret_are_taken(cli: Cli) -> None:
    made = cli.json("project", "create", "shop", "--token", "t-1", "--secret", "s" * 40)
    assert (made["token"], made["secret"]) == ("t-1", "s" * 40)
    store = open_store(cli.folder, role="cli", create=False)
    assert store.catalog.projects()[0].secret_hash == secret_hash("s" * 40)
    store.close()


def test_a_short_secret_is_taken_with_a_warning(cli: Cli) -> None:
    assert "can be guessed" in cli("project", "create", "shop", "--secret", "short").stderr


def test_a_secret_is_printed_at_creation_and_never_again(cli: Cli) -> None:
    secret = cli.json("project", "create", "shop")["secret"]
    for arguments in (["list"], ["show", "1"], ["set", "1", "--name", "store"], ["rotate-token", "1"]):
        assert secret not in cli("project", *arguments).output
        answer = cli.json("project", *arguments)
        assert (answer[0] if isinstance(answer, list) else answer)["secret"] is None


def test_without_json_the_words_go_to_stderr(cli: Cli) -> None:
    result = cli("project", "create", "shop")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["id", "name", "token", "secret"]
    assert "never shown again" in result.stderr


def test_a_project_is_found_by_id_and_by_name(cli: Cli) -> None:
    made = cli.json("project", "create", "shop")
    assert cli.json("project", "show", "1") == cli.json("project", "show", "shop") == {**made, "secret": None}


def test_a_data_folder_has_no_large_projects(cli: Cli) -> None:
    cli("project", "create", "shop")
    assert "one partition" in cli("project", "set-large", "shop", "--yes", code=1).stderr


@pytest.fixture
def parted(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Commands on a store of three partitions."""
    store = MemoryStore(partitions=3)
    monkeypatch.setattr(store, "close", lambda: None)  # each command closes what it has opened
    monkeypatch.setattr(opening, "open_store", lambda *_, **__: store)
    return cli


def test_a_new_project_is_made_large_for_good(parted: Cli) -> None:
    cli = parted
    cli("project", "create", "shop")
    assert "no" in cli("project", "show", "shop").stdout.split("large")[1].splitlines()[0]
    assert "not confirmed" in cli("project", "set-large", "shop", typed="n\n", code=1).output
    assert cli.json("project", "set-large", "shop", "--yes")["name"] == "shop"
    assert "yes" in cli("project", "show", "shop").stdout.split("large")[1].splitlines()[0]
    assert cli.json("project", "set-large", "shop")["id"] == 1, "asked again it changes nothing"
    assert "simplified identity" in cli("project", "set", "shop", "--id-merge", "legacy", code=1).stderr


def test_a_project_with_another_identity_mode_or_with_records_is_not_made_large(parted: Cli) -> None:
    cli = parted
    cli("project", "create", "old", "--id-merge", "original")
    assert "simplified identity" in cli("project", "set-large", "old", "--yes", code=1).stderr
    made = cli.json("project", "create", "shop")
    store = opening.open_store(Settings(), role="cli", create=False)
    append_raw(
        store,
        rules_of(Settings()),
        "engage",
        [{"$token": made["token"], "$distinct_id": "ada", "$set": {"a": 1}}],
        sdk="tests",
    )
    catch_up(store)
    refused = cli("project", "set-large", "shop", "--yes", code=1)
    assert "begins empty" in refused.stderr
    assert "Make a new project" in refused.stderr


def test_show_tells_what_a_project_holds(shop: Cli) -> None:
    shop("account", "create", "reader", "--project", "shop")
    shown = dict(line.split(maxsplit=1) for line in shop("project", "show", "shop").stdout.splitlines())
    assert (shown["users"], shown["refusals"], shown["accounts"]) == ("0", "0", "reader")


def test_a_list_outside_a_terminal_is_tab_separated(shop: Cli) -> None:
    header, row = shop("project", "list").stdout.splitlines()
    assert header.split("\t") == ["id", "name", "token", "id_merge", "timezone", "created"]
    assert row.split("\t")[:4] == ["1", "shop", "shop-token", "simplified"]


def test_a_project_is_given_a_time_zone_and_texts_without_case(shop: Cli) -> None:
    shop("project", "create", "tokyo", "--timezone", "Asia/Tokyo")
    shop("project", "set", "shop", "--timezone", "Europe/Berlin", "--ci-strings", "on")
    lines = shop("project", "list").stdout.splitlines()[1:]
    assert [line.split("\t")[4] for line in lines] == ["Europe/Berlin", "Asia/Tokyo"]
    shown = dict(line.split(maxsplit=1) for line in shop("project", "show", "shop").stdout.splitlines())
    assert (shown["timezone"], shown["ci_strings"]) == ("Europe/Berlin", "on")
    shop("project", "set", "shop", "--ci-strings", "off")
    assert "ci_strings" in shop("project", "show", "shop").stdout
    for command in (("set", "shop"), ("create", "third")):
        assert "Europe/Berlin" in shop("project", *command, "--timezone", "CEST", code=1).stderr


def test_a_rotated_token_and_secret_are_new(shop: Cli) -> None:
    assert shop.json("project", "rotate-token", "shop")["token"] != "shop-token"
    one, two = (shop.json("project", "rotate-secret", "shop")["secret"] for _ in range(2))
    assert one != two
    assert len(one) == 64


def test_a_project_is_deleted_with_its_accounts_and_its_id_is_gone(shop: Cli) -> None:
    shop("account", "create", "reader", "--project", "shop")
    assert shop.json("project", "delete", "shop", "--yes")["id"] == 1
    assert shop.json("project", "list") == shop.json("account", "list") == []
    assert shop.json("project", "create", "shop")["id"] == 2


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_a_delete_that_is_not_confirmed_changes_nothing(shop: Cli, typed: str) -> None:
    shop("account", "create", "reader", "--project", "shop")
    assert "not confirmed" in shop("project", "delete", "shop", code=1, typed=typed).stderr
    assert "not confirmed" in shop("account", "delete", "reader", code=1, typed=typed).stderr
    assert len(shop.json("project", "list")) == len(shop.json("account", "list")) == 1


def test_a_delete_can_be_confirmed_by_typing(shop: Cli) -> None:
    result = shop("project", "delete", "shop", typed="y\n")
    assert "Delete project 1, shop" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["project", "create", "shop"], "this name is taken"),
        (["project", "create", "other", "--token", "shop-token"], "this token is taken"),
        (["project", "create", "77"], "'77' cannot be a project's name"),
        (["project", "create", " shop"], "cannot be a project's name"),
        (["project", "create", "a\x1b[31mb"], "cannot be a project's name"),
        (["project", "create", ""], "cannot be a project's name"),
        (["project", "create", "other", "--token", "with blank"], "this cannot be a token"),
        (["project", "create", "other", "--secret", "é"], "this cannot be a secret"),
        (["project", "show", "nope"], "there is no project 'nope'"),
        (["project", "rotate-secret", "9"], "there is no project '9'"),
        (["account", "create", "a:b", "--project", "shop"], "cannot be a user name"),
        (["account", "create", "a b", "--project", "shop"], "cannot be a user name"),
        (["account", "create", "a", "--project", "nope"], "there is no project 'nope'"),
        (["account", "delete", "nobody", "--yes"], "there is no account 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_exit_code_1(
    shop: Cli, arguments: list[str], message: str
) -> None:
    result = shop(*arguments, code=1)
    assert result.stdout == ""
    first = result.stderr.splitlines()[0]
    assert first.startswith("Error: ")
    assert message in first
    assert first.isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        ["project", "create"],
        ["project", "create", "other", "--id-merge", "wild"],
        ["project", "set", "shop"],
        ["account", "create", "reader"],
        ["account", "create", "reader", "--project", "none"],
        ["account", "create", "reader", "--project", "shop", "--role", "king"],
        ["project", "wish"],
        ["wish"],
    ],
)
def test_wrong_usage_has_exit_code_2(shop: Cli, arguments: list[str]) -> None:
    assert "Usage:" in shop(*arguments, code=2).stderr


def test_a_new_account_has_a_password_of_256_bits_and_by_default_only_reads(shop: Cli) -> None:
    made = shop.json("account", "create", "reader", "--project", "shop")
    assert set(made) == {"username", "password", "project_id", "role"}
    assert (made["username"], made["project_id"], made["role"]) == ("reader", 1, "consumer")
    assert len(made["password"]) == 64


def test_a_password_is_printed_at_creation_and_never_again(shop: Cli) -> None:
    made = shop.json("account", "create", "reader", "--project", "shop", "--role", "admin")
    expected = {**made, "password": None}
    assert shop.json("account", "list") == [expected]
    assert made["password"] not in shop("account", "list").output
    assert shop.json("account", "delete", "reader", "--yes") == expected
    assert shop.json("account", "list") == []


@pytest.mark.parametrize("project", [["--project", "none"], ["--project", "0"], []])
def test_an_owner_belongs_to_no_project(shop: Cli, project: list[str]) -> None:
    assert shop.json("account", "create", "boss", "--role", "owner", *project)["project_id"] == 0


def test_accounts_are_listed_by_project(shop: Cli) -> None:
    shop("project", "create", "web")
    shop("account", "create", "one", "--project", "shop")
    shop("account", "create", "two", "--project", "web")
    shop("account", "create", "boss", "--role", "owner")
    assert [each["username"] for each in shop.json("account", "list")] == ["boss", "one", "two"]
    assert [each["username"] for each in shop.json("account", "list", "--project", "web")] == ["two"]
    assert [each["username"] for each in shop.json("account", "list", "--project", "0")] == ["boss"]


@of_a_folder("it is an empty one")
@pytest.mark.parametrize(
    "arguments",
    [
        ["project", "list"],
        ["account", "list"],
        ["profiles", "get", "u1", "--project", "1"],
        ["refusals", "list"],
        ["tail"],
        ["sql", "select 1"],
    ],
)
def test_a_folder_without_data_is_an_error_and_stays_as_it_is(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments, code=1)
    assert "there is no Mixdown data" in result.stderr
    assert "MIXDOWN_DATA_DIR" in result.stderr
    assert not cli.folder.exists()


def test_an_account_is_let_into_more_projects_and_taken_out_again(shop: Cli) -> None:
    shop("project", "create", "blog")
    shop("account", "create", "reader", "--project", "shop")
    granted = shop.json("account", "grant", "reader", "--project", "blog", "--role", "analyst")
    assert [(each["project_id"], each["role"]) for each in granted] == [(1, "consumer"), (2, "analyst")]
    assert all(each.keys() == {"username", "password", "project_id", "role"} for each in granted)
    assert [each["username"] for each in shop.json("account", "list", "--project", "blog")] == ["reader"]
    assert "reader\t2\tanalyst" in shop("account", "list").stdout
    left = shop.json("account", "revoke", "reader", "--project", "shop")
    assert [each["project_id"] for each in left] == [2]
    assert "not in project" in shop("account", "revoke", "reader", "--project", "shop", code=1).stderr
    shop("account", "grant", "reader", "--project", "blog", "--role", "owner", code=2)


def test_a_new_password_is_printed_once(shop: Cli) -> None:
    made = shop.json("account", "create", "reader", "--project", "shop")
    rotated = shop.json("account", "rotate-password", "reader")
    assert rotated.keys() == made.keys()
    assert len(rotated["password"]) == 64
    assert rotated["password"] != made["password"]
    assert "never shown again" in shop("account", "rotate-password", "reader").stderr
    assert "no account" in shop("account", "rotate-password", "nobody", code=1).stderr
