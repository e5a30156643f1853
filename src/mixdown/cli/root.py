"""The root of the command: what `mixdown --help` teaches, and how errors reach people.

Every error that Mixdown raises on purpose ends a command with exit code 1 and one clear line on stderr;
wrong usage ends it with 2. A traceback means a fault of Mixdown itself.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import click

from mixdown import __version__
from mixdown.cli.account import account
from mixdown.cli.backup import backup, restore
from mixdown.cli.cert import cert
from mixdown.cli.cohort import cohort
from mixdown.cli.config import config
from mixdown.cli.dashboard import dashboard
from mixdown.cli.db import db
from mixdown.cli.doctor import doctor
from mixdown.cli.erase import erase, retrieve
from mixdown.cli.events import events
from mixdown.cli.funnel import funnel
from mixdown.cli.identity import identity
from mixdown.cli.index import index
from mixdown.cli.lookup_table import lookup_table
from mixdown.cli.output import Failure
from mixdown.cli.profiles import profiles
from mixdown.cli.project import project
from mixdown.cli.refusals import refusals
from mixdown.cli.report import report
from mixdown.cli.serve import serve
from mixdown.cli.sql import sql
from mixdown.cli.tail import tail
from mixdown.model.errors import MixdownError


class Root(click.Group):
    """The group of all commands; keeps their order and turns errors into one line and a hint."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a user meets them."""
        del ctx
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Raises `Failure` for every error that is meant for people."""
        try:
            return super().invoke(ctx)
        except MixdownError as error:
            raise Failure(error.message, hint=error.hint) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.filename is None:
                raise
            raise Failure(f"{error.filename}: {error.strerror}") from error


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command takes --help, and `--data-dir DIR` (or MIXDOWN_DATA_DIR) for data that is not in "
    "./mixdown-data. With --json a command prints JSON on stdout and nothing else; errors go to stderr. "
    "Exit codes: 0 done, 1 an error, 2 wrong usage.",
)
@click.version_option(__version__, "--version", message="mixdown %(version)s")
def root() -> None:
    """A self-hosted server that speaks Mixpanel's HTTP API.

    \b
    Start it; the first time, it prints a token, an account and a snippet:
      mixdown serve

    \b
    Look at what arrives, and read it back:
      mixdown tail
      mixdown profiles get alice --project default
      mixdown sql "select distinct_id, properties ->> '$.plan' from users limit 10"

    \b
    Mend what was refused, and send it again:
      mixdown refusals list
      mixdown refusals resend 12 --set-token TOKEN

    \b
    Make a project, and an account that may read it:
      mixdown project create shop
      mixdown account create airbyte --project shop --role consumer
    """


_DATA = (
    project,
    account,
    profiles,
    events,
    cohort,
    funnel,
    report,
    dashboard,
    index,
    identity,
    lookup_table,
    erase,
    retrieve,
    refusals,
    tail,
    sql,
    backup,
    restore,
)
for _command in (serve, *_DATA, db, cert, config, doctor):
    root.add_command(_command)


def main() -> None:
    """Run the command with the arguments of this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that is not UTF-8 must not end a command
    root(prog_name="mixdown")
