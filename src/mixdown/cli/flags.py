"""Flags that derive from the settings, so that each is declared once (`mixdown.settings`).

Enters: `SETTINGS`. Leaves: click options and, at run time, the settings in force.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from mixdown.settings import SETTINGS, Setting, Settings, load

F = TypeVar("F", bound=Callable[..., Any])
_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
FLAGGED: Final = tuple(setting for setting in SETTINGS if setting.flag)
UNFLAGGED: Final = tuple(setting for setting in SETTINGS if not setting.flag)


class SettingOption(click.Option):
    """An option that sets a setting; `setting` is its declaration."""

    setting: Setting


class SettingsCommand(click.Command):
    """A command with a flag for every setting: its help lists those that few need apart."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two sections."""
        common: list[tuple[str, str]] = []
        advanced: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_advanced = isinstance(parameter, SettingOption) and parameter.setting.advanced
                (advanced if is_advanced else common).append(record)
        with formatter.section("Options"):
            formatter.write_dl(common)
        with formatter.section("Limits and timeouts"):
            formatter.write_dl(advanced)


def _click_type(setting: Setting) -> Any:
    if setting.choices:
        return click.Choice(setting.choices)
    if setting.type is int:
        return click.IntRange(setting.low, setting.high)
    return str


def _metavar(setting: Setting) -> str | None:
    if setting.choices or setting.type is bool:
        return None
    if setting.type is int:
        return "N"
    return {
        "data_dir": "DIR",
        "tls_cert": "FILE",
        "tls_key": "FILE",
        "geo_database": "FILE",
        "database_password_file": "FILE",
    }.get(setting.name, "TEXT")


def default_text(setting: Setting) -> str:
    """A setting's default as help and documentation write it."""
    if setting.type is bool:
        return "on" if setting.default else "off"
    return str(setting.default) or "none"


def _option(setting: Setting, about: str = "") -> Callable[[F], F]:
    is_flag = setting.type is bool
    kind: dict[str, Any] = (
        {"is_flag": True, "flag_value": not setting.default}
        if is_flag
        else {"type": _click_type(setting), "metavar": _metavar(setting)}
    )

    def decorate(command: F) -> F:
        decorated: F = click.option(
            setting.flag,
            setting.name,
            cls=SettingOption,
            default=None,
            help=f"{about or setting.help} [{setting.env}; default: {default_text(setting)}]",
            **kind,
        )(command)
        parameters: list[click.Parameter] = decorated.__click_params__  # type: ignore[attr-defined]
        added = parameters[-1]
        assert isinstance(added, SettingOption)
        added.setting = setting
        return decorated

    return decorate


def every_setting(command: F) -> F:
    """Give a command the flags of all settings, in the order of their declaration."""
    for setting in reversed(FLAGGED):
        command = _option(setting)(command)
    return command


def data_dir_flag(command: F) -> F:
    """Give a command `--data-dir`."""
    return _option(_BY_NAME["data_dir"], "The data folder.")(command)


def json_flag(command: F) -> F:
    """Give a command `--json`."""
    decorated: F = click.option(
        "--json", "as_json", is_flag=True, help="Print JSON on stdout and nothing else."
    )(command)
    return decorated


def project_flag(*, required: bool = True) -> Callable[[F], F]:
    """Give a command `--project`."""
    return click.option(
        "--project", "project_ref", required=required, metavar="P", help="The project, by its id or its name."
    )


def group_key_flag(about: str) -> Callable[[F], F]:
    """Give a command `--group-key`; `about` says what it does with groups instead of users."""
    return click.option("--group-key", default="", metavar="K", help=about)


def ignore_alias_flag(command: F) -> F:
    """Give a command `--ignore-alias`."""
    decorated: F = click.option(
        "--ignore-alias",
        is_flag=True,
        help="The profile under this very ID, even where it is linked to a person with another id.",
    )(command)
    return decorated


def settings_from(flags: Mapping[str, Any]) -> Settings:
    """The settings in force: flags, then `MIXDOWN_` variables, then defaults. Raises `SettingsError`."""
    return load(os.environ, flags)


def source_of(setting: Setting, flags: Mapping[str, Any]) -> str:
    """Where a setting's value comes from: "flag", "env" or "default"."""
    if flags.get(setting.name) is not None:
        return "flag"
    return "env" if os.environ.get(setting.env) else "default"
