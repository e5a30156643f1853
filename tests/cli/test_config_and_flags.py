"""`mixdown config`, the flags of `serve`, and what holds for every command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mixdown import __version__
from mixdown.cli.root import root
from mixdown.settings import SETTINGS
from tests.cli.support import Cli
from tests.engine import ON_POSTGRES, of_a_folder

ROOT = Path(__file__).parent.parent.parent
OWN_HOST = "10.1.2.3"


def every_command(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command, with the words that call it."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, *path, name)


COMMANDS = dict(every_command(root))


@of_a_folder("a database stands in a variable, and what is kept in one is not ephemeral")
def test_every_setting_is_shown_with_value_and_source(cli: Cli) -> None:
    shown = cli.json("config", "--port", "7000", env={"MIXDOWN_HOST": OWN_HOST, "MIXDOWN_EPHEMERAL": "yes"})
    assert list(shown) == [setting.name for setting in SETTINGS]
    assert shown["port"] == {"value": 7000, "source": "flag", "env": "MIXDOWN_PORT"}
    assert shown["host"] == {"value": OWN_HOST, "source": "env", "env": "MIXDOWN_HOST"}
    assert shown["ephemeral"] == {"value": True, "source": "env", "env": "MIXDOWN_EPHEMERAL"}
    assert shown["workers"] == {"value": 1, "source": "default", "env": "MIXDOWN_WORKERS"}
    assert shown["data_dir"]["value"] == str(cli.folder)


def test_a_flag_wins_over_its_variable(cli: Cli) -> None:
    assert cli.json("config", "--port", "7000", env={"MIXDOWN_PORT": "8000"})["port"]["value"] == 7000


def test_secrets_are_masked(cli: Cli) -> None:
    variables = {"MIXDOWN_TOKEN": "tok-1", "MIXDOWN_SECRET": "hush-1", "MIXDOWN_ACCOUNT": "boss:hush-2"}
    for output in (cli("config", env=variables).output, cli("config", "--json", env=variables).output):
        assert not any(word in output for word in ("tok-1", "hush-1", "hush-2", "boss"))
        assert output.count("********") == (4 if ON_POSTGRES else 3)  # the database's URL
    assert cli.json("config")["secret"]["value"] == ""


def test_for_people_each_setting_is_a_line(cli: Cli) -> None:
    lines = cli("config").stdout.splitlines()
    assert len(lines) == 1 + len(SETTINGS)
    assert "port\t6493\tdefault\tMIXDOWN_PORT" in lines


def test_a_misspelled_variable_is_told(cli: Cli) -> None:
    assert "MIXDOWN_PROT is not a setting" in cli("config", env={"MIXDOWN_PROT": "1"}).stderr


def test_a_variable_with_a_bad_value_is_one_line(cli: Cli) -> None:
    result = cli("config", code=1, env={"MIXDOWN_PORT": "many"})
    assert result.stdout == ""
    assert result.stderr.startswith("Error: MIXDOWN_PORT is 'many'")


@pytest.mark.parametrize(
    "arguments", [["--port", "70000"], ["--workers", "0"], ["--log-level", "loud"], ["--port", "x"]]
)
def test_a_flag_with_a_bad_value_is_wrong_usage(cli: Cli, arguments: list[str]) -> None:
    for command in ("config", "serve"):
        assert f"'{arguments[0]}'" in cli(command, *arguments, code=2).stderr


def test_serve_has_a_flag_for_every_setting_but_secrets_and_shows_its_variable(cli: Cli) -> None:
    shown = " ".join(cli("serve", "--help").stdout.split())
    for setting in SETTINGS:
        assert setting.env in shown
        flag = setting.flag or f"--{setting.name}"
        assert (flag in shown) == (not setting.secret)


def test_serve_refuses_what_cannot_be_set_together(cli: Cli) -> None:
    assert "tls_cert is set without tls_key" in cli("serve", "--tls-cert", "c.pem", code=1).stderr
    elsewhere = {"MIXDOWN_DATA_DIR": str(cli.folder.with_name("elsewhere"))}
    told = cli("serve", "--database-url", "x", code=1, env=elsewhere).stderr
    assert "database_url cannot be read" in told


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_says_where_the_data_lies(cli: Cli, path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    shown = cli(*path, "--help").stdout
    assert command.help
    assert len(command.get_short_help_str(limit=200)) < 80
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help
    if not isinstance(command, click.Group):
        where = "DATABASE_URL" if path[0] == "db" else "DATA_DIR"
        flag = "--to" if path == ("db", "copy") else f"--{where.lower().replace('_', '-')}"
        assert flag in shown
        assert f"MIXDOWN_{where}" in shown
        # what retrieve writes is JSON, and a lookup table is CSV
        assert path in {("serve",), ("retrieve",), ("lookup-table", "download")} or "--json" in shown


def test_the_help_of_the_root_teaches(cli: Cli) -> None:
    shown = cli("--help").stdout
    for words in (
        "mixdown serve",
        "mixdown tail",
        "mixdown profiles get",
        "mixdown project create",
        "Exit codes",
    ):
        assert words in shown


@of_a_folder("it is another folder")
def test_the_data_folder_comes_from_flag_or_variable(shop: Cli, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    shop("project", "create", "other", "--data-dir", elsewhere)
    assert [each["name"] for each in shop.json("project", "list", "--data-dir", elsewhere)] == ["other"]
    assert [each["name"] for each in shop.json("project", "list")] == ["shop"]


@of_a_folder("a database needs none for its commands")
def test_a_folder_that_cannot_be_made_is_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = cli("project", "create", "shop", "--data-dir", str(tmp_path / "file" / "data"), code=1)
    assert "Error: the data folder" in result.stderr


@pytest.mark.parametrize("command", [["mixdown"], [sys.executable, "-m", "mixdown"]])
def test_the_command_and_the_module_are_the_same(command: list[str]) -> None:
    start = [str(Path(sys.executable).parent / "mixdown")] if command == ["mixdown"] else command
    told = subprocess.run([*start, "--version"], capture_output=True, text=True, timeout=120, check=True)
    assert told.stdout == f"mixdown {__version__}\n"


def test_the_page_about_the_command_line_is_what_the_commands_say() -> None:
    script = ROOT / "scripts" / "command_line_page.py"
    checked = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=120, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_flag_is_documented(path: tuple[str, ...]) -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")}
    section = sections[" ".join(("mixdown", *path))]
    if path == ("config",):
        section += sections["mixdown serve"]
    for option in COMMANDS[path].params:
        assert not isinstance(option, click.Option) or f"| `{option.opts[0]}" in section


def test_a_terminal_that_is_not_utf8_ends_no_command(shop: Cli) -> None:
    shop("project", "create", "日本")
    environment = {**shop.environment(), "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    listed = subprocess.run(
        shop.command("project", "list"), env=environment, capture_output=True, timeout=120, check=True
    )
    assert b"\\u65e5\\u672c" in listed.stdout
