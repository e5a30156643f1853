"""`mixdown config`: every setting, its value, and where it came from."""

from __future__ import annotations

import os
from typing import Any, Final

import click

from mixdown.cli.flags import SettingsCommand, every_setting, json_flag, settings_from, source_of
from mixdown.cli.output import emit, note, print_rows
from mixdown.settings import SETTINGS, unknown_variables

MASK: Final = "********"


@click.command(cls=SettingsCommand)
@json_flag
@every_setting
def config(*, as_json: bool, **flags: Any) -> None:
    """Show all settings, and where each comes from.

    Takes the flags of `mixdown serve`, and shows what a server started with them here and now would use.
    Tokens, secrets and passwords are masked. With --json: {NAME: {"value", "source", "env"}…}.
    """
    settings = settings_from(flags)
    for name in unknown_variables(os.environ):
        note(f"warning: {name} is not a setting")
    rows = []
    for setting in SETTINGS:
        value = getattr(settings, setting.name)
        if setting.secret or setting.name == "database_url":
            value = MASK if value else ""
        elif not isinstance(value, (bool, int)):
            value = str(value)
        rows.append((setting, value, source_of(setting, flags)))
    if as_json:
        emit(
            {
                setting.name: {"value": value, "source": source, "env": setting.env}
                for setting, value, source in rows
            }
        )
        return
    print_rows(
        ("setting", "value", "source", "variable"),
        [
            (
                setting.name,
                ("on" if value else "off") if isinstance(value, bool) else str(value),
                source,
                setting.env,
            )
            for setting, value, source in rows
        ],
    )
