"""Writes docs/command-line.md from the commands themselves, so that the page says what `--help` says.

`python scripts/command_line_page.py` rewrites the page; with `--check` it only says whether it is stale.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mixdown.cli.flags import SettingOption
from mixdown.cli.root import root

PAGE = Path(__file__).parent.parent / "docs" / "command-line.md"

HEAD = """\
# The command line

`mixdown` is the server and everything around it. The commands work on a data folder, whether or not a
server runs on it. What they change, a running server notices at once. What they read is never older than
what was acknowledged before: they wait for the server's fold, up to `read_wait_ms`, and where no server runs
they fold what waits themselves.

- The data folder is `./mixdown-data`, or the one that `--data-dir` or `MIXDOWN_DATA_DIR` names.
- Data goes to stdout, words for people go to stderr. With `--json` there is one JSON value on stdout (a list
  is an array) and nothing else; `mixdown tail --json` prints one object a line. Without it, a terminal gets
  tables, and anything else tab separated lines below a line of column names.
- A secret or a password is printed once, when it is made. Afterwards it is `null`: only its SHA-256 is kept.
- Exit codes: 0 done, 1 an error (one line and what to do, on stderr), 2 wrong usage.
- An account with `project_id` 0 is an owner, who sees every project.
- *P* is a project's id or its name. Where a command takes 0 for *P*, it stands for records whose token no
  project has.

This page is written by `scripts/command_line_page.py` from the commands themselves.

## JSON

| `--json` of | prints |
|---|---|
"""

REFUSAL = '"id", "time", "project_id", "endpoint", "index", "field", "message", "record", "whole", "sdk"'
RECORD = '"position", "time", "project_id", "endpoint", "sdk", "group_key", "id", "operations"'
SHAPES = (
    ("project create, rotate-token, …", '{"id", "name", "token", "secret"}'),
    ("project list", '[{"id", "name", "token", "secret": null}, …]'),
    ("account create, delete", '{"username", "password", "project_id", "role"}'),
    ("account list", '[{"username", "password": null, "project_id", "role"}, …]'),
    ("profiles get", '{"$distinct_id", "$properties"}'),
    ("profiles delete", '{"deleted": [ID, …], "missing": [ID, …]}'),
    ("refusals list", f"[{{{REFUSAL}}}, …]"),
    ("refusals resend", '{"stored": [ID, …], "refused": [{"id", "message"}, …]}'),
    (
        "tail (a record)",
        f'{{"kind": "record", {RECORD}}}',
    ),
    ("tail (a refusal)", f'{{"kind": "refusal", {REFUSAL}}}'),
    ("sql", "[{COLUMN: VALUE, …}, …]"),
    ("report create, show", '{"id", "project_id", "kind", "name", "description", "definition", …}'),
    ("report run", "{…}, what /api/mixdown/reports/run answers"),
    ("dashboard create, show", '{"id", "project_id", "title", "description", "days", "reports", …}'),
    ("config", '{NAME: {"value", "source", "env"}, …}'),
    ("backup", '{"file", "size_bytes", "format", "version", "watermark", "tail", "head", "members", …}'),
    ("restore", '{"data_dir", "format", "version", "watermark", "tail", "head", "members", …}'),
    ("doctor", '{"ok", "checks": [{"check", "status", "message", "hint"}, …]}'),
    ("doctor --repair", '{"ok", "checks", "repairs": [{"check", "problem", "action", "lost", "made"}, …]}'),
)


def page() -> str:
    """The whole page."""
    shapes = "".join(f"| `{command}` | `{shape}` |\n" for command, shape in SHAPES)
    parts = [HEAD + shapes]
    for path, command in commands(root, "mixdown"):
        parts.append(f"## {path}\n")
        parts.append(f"```\n{usage(path, command)}\n```\n")
        parts += _prose(command)
        parts += _flags(path, command)
    return "\n".join(parts)


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below a group with its full name, groups before what is in them."""
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def usage(path: str, command: click.Command) -> str:
    """The usage line, as `--help` shows it."""
    context = click.Context(command, info_name=path)
    return " ".join([path, *command.collect_usage_pieces(context)])


def _prose(command: click.Command) -> Iterator[str]:
    """The command's help: prose as it is, paragraphs that keep their lines as blocks."""
    text = inspect.cleandoc(command.help or "")
    for paragraph in re.split(r"\n{2,}", text):
        if paragraph.startswith("\b\n"):
            title, _, rest = paragraph.removeprefix("\b\n").partition("\n")
            yield f"{title}\n\n```\n{inspect.cleandoc(rest)}\n```\n"
        else:
            yield " ".join(paragraph.split()) + "\n"
    if command.epilog:
        yield " ".join(command.epilog.split()) + "\n"


def _flags(path: str, command: click.Command) -> Iterator[str]:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    inherited = path == "mixdown config"
    if inherited:
        options = [option for option in options if not isinstance(option, SettingOption)]
    if options:
        rows = ["| Flag | |", "|---|---|"]
        rows += [f"| `{_spelled(option)}` | {_meaning(option)} |" for option in options]
        yield "\n".join(rows) + "\n"
    if inherited:
        yield "And every flag of [mixdown serve](#mixdown-serve).\n"


def _spelled(option: click.Option) -> str:
    flag = option.opts[0]
    if option.is_flag:
        return flag
    kinds = (
        "\\|".join(option.type.choices) if isinstance(option.type, click.Choice) else option.metavar or "TEXT"
    )
    return f"{flag} {kinds}"


def _meaning(option: click.Option) -> str:
    text = (option.help or "").replace("|", "\\|")
    default = option.default
    if option.show_default and default is not None:
        text += f" Default: {default:g}." if isinstance(default, float) else f" Default: {default}."
    return text + (" Needed." if option.required else "")


def main(arguments: list[str]) -> int:
    """Write the page, or check it; the exit status."""
    text = page()
    if "--check" not in arguments:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/command-line.md is stale: run python scripts/command_line_page.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
