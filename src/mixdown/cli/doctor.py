"""`mixdown doctor`: checks the machine, the settings, the data folder and the server on it; and mends.

Enters: settings, and a yes for each repair. Leaves: findings with what to do. Without `--repair` it changes
nothing; with it, nothing that was not shown first.
"""

from __future__ import annotations

import sys
from typing import Final

import click
import msgspec

from mixdown.cli.flags import data_dir_flag, json_flag, settings_from
from mixdown.cli.folder import is_data_folder, of_folder_alone
from mixdown.cli.output import Failure, emit, printable
from mixdown.cli.progress import ProgressLine

COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--fast", is_flag=True, help="Leave out what reads whole files: pages and chunks.")
@click.option("--repair", is_flag=True, help="Mend what can be mended safely; stop the server first.")
@click.option("--yes", is_flag=True, help="With --repair: do it without asking.")
@json_flag
@data_dir_flag
def doctor(*, fast: bool, repair: bool, yes: bool, as_json: bool, data_dir: str | None) -> None:
    """Check machine, settings, data folder and server.

    Looks at versions, variables, the geo database, file modes, missing files, schemas, the fold's place in
    the log, the pages of every file and the checksum of every chunk, disk space, and whether the server is
    ready, and says what to do. It may run beside the server. Exit code 1 when a check fails; warnings do not
    count. With --json: {"ok", "checks": [{"check", "status", "message", "hint"}…]}.

    With --repair it first mends: closes the folder to other users, removes what killed processes left, goes
    on without a lost -wal, makes a lost log.db anew (and state.db, where the log still holds everything),
    rebuilds files with broken pages, sets damaged chunks aside, moves the log's head above the fold's place.
    Each repair is shown with what is lost, and asked for. No server may run on the folder. Take a copy of
    the folder first. With --json: "repairs": [{"check", "problem", "action", "lost", "made"}…] besides.
    """
    from mixdown.cli.checks import all_findings

    settings = settings_from({"data_dir": data_dir})
    of_folder_alone(settings, "mixdown doctor", "See /api/mixdown/health, and PostgreSQL's own pg_amcheck.")
    repaired = []
    if repair:
        from mixdown.cli.repairing import repair_folder, show_line

        if as_json and not yes:
            raise Failure(
                "--json with --repair asks no questions", hint="Add --yes to agree to every repair."
            )
        if is_data_folder(settings.data_dir):
            repaired = repair_folder(settings.data_dir, yes=yes, show=None if as_json else show_line)
        if not as_json:
            click.echo("" if repaired else "nothing to repair")
    findings = []
    progress = ProgressLine()
    has_data = is_data_folder(settings.data_dir)
    for finding in all_findings(settings, has_data=has_data, fast=fast, tell=progress.tell):
        findings.append(finding)
        progress.clear()
        if not as_json:
            status = click.style(f"{finding.status:<4}", fg=COLOURS[finding.status])
            click.echo(f"{status}  {finding.check:<9}  {printable(finding.message)}")
            if finding.hint and finding.status != "ok":
                click.echo(f"                 {printable(finding.hint)}")
    failed = any(finding.status == "fail" for finding in findings)
    if as_json:
        answer = {"ok": not failed, "checks": [msgspec.to_builtins(finding) for finding in findings]}
        emit(answer | ({"repairs": [msgspec.to_builtins(made) for made in repaired]} if repair else {}))
    if failed:
        sys.exit(1)
