"""`mixdown doctor`: checks the machine, the settings, the data folder and the server on it."""

from __future__ import annotations

import sys
import time
from typing import Final

import click
import msgspec

from mixdown.cli.flags import data_dir_flag, json_flag, settings_from
from mixdown.cli.folder import is_data_folder
from mixdown.cli.output import emit, printable

COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}
TELL_EVERY_S: Final = 0.5


@click.command()
@json_flag
@data_dir_flag
def doctor(*, as_json: bool, data_dir: str | None) -> None:
    """Check machine, settings, data folder and server.

    Looks at versions, variables, the geo database, file modes, schemas, the fold's place in the log, the
    checksum of every chunk, disk space, and whether the server is ready, and says what to do. It changes
    nothing, and may run beside the server. Exit code 1 when a check fails; warnings do not count. With
    --json: {"ok", "checks": [{"check", "status", "message", "hint"}…]}.
    """
    from mixdown.cli.checks import all_findings

    settings = settings_from({"data_dir": data_dir})
    findings = []
    progress = _Progress()
    for finding in all_findings(settings, has_data=is_data_folder(settings.data_dir), progress=progress):
        findings.append(finding)
        progress.clear()
        if not as_json:
            status = click.style(f"{finding.status:<4}", fg=COLOURS[finding.status])
            click.echo(f"{status}  {finding.check:<9}  {printable(finding.message)}")
            if finding.hint and finding.status != "ok":
                click.echo(f"                 {printable(finding.hint)}")
    failed = any(finding.status == "fail" for finding in findings)
    if as_json:
        emit({"ok": not failed, "checks": [msgspec.to_builtins(finding) for finding in findings]})
    if failed:
        sys.exit(1)


class _Progress:
    """A line on a terminal that says how far a long check is."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._told > TELL_EVERY_S:
            self._told = now
            self._shown = True
            click.echo(f"\rchecking chunk {done} of {total}", err=True, nl=False)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            click.echo("\r" + " " * 50 + "\r", err=True, nl=False)
