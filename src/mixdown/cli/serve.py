"""`mixdown serve`: the server, with a flag for every setting."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from mixdown.cli.flags import UNFLAGGED, SettingsCommand, every_setting, settings_from
from mixdown.cli.output import note
from mixdown.settings import unknown_variables

_PRESETS = ", ".join(setting.env for setting in UNFLAGGED)


@click.command(
    cls=SettingsCommand,
    epilog=f"Every flag has its variable, named in brackets; a flag wins. {_PRESETS} "
    "(`user:password`) preset the project `default` and its owner account, and have no flags, because flags "
    "show in the list of processes.",
)
@every_setting
def serve(**flags: Any) -> None:
    """Start the server.

    The first start on an empty folder makes the project `default` and prints its token, an account, the
    address and a snippet to paste. SIGTERM or Ctrl-C ends the server in good order.

    \b
    Examples:
      mixdown serve
      mixdown serve --port 8080 --data-dir /var/lib/mixdown
      mixdown serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem
      mixdown serve --ephemeral --port 0
    """
    settings = settings_from(flags)
    for name in unknown_variables(os.environ):
        note(f"warning: {name} is not a setting; `mixdown config` lists all of them")
    from mixdown.server import run

    sys.exit(run(settings))
