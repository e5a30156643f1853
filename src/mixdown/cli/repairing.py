"""`mixdown doctor --repair`: each repair is shown, agreed to and made, while no server can start.

Enters: the folder. Leaves: what was found and made, with what is lost. Nothing is changed without a yes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import msgspec

from mixdown.cli.output import Failure, confirm, printable
from mixdown.store.sqlite.folder import FolderLock, setting_up
from mixdown.store.sqlite.repair import repairs
from mixdown.store.sqlite.repairing import Repair

ROUNDS: Final = 50
"""More repairs than one folder can need: an end for whatever is found again after it was made."""


class Made(msgspec.Struct, frozen=True):
    """One repair: what was wrong, what was done about it (or is to be done), and what is lost."""

    check: str
    problem: str
    action: str
    lost: str
    made: bool


def repair_folder(folder: Path, *, yes: bool, show: Callable[[Made], None] | None) -> list[Made]:
    """Make every repair that is agreed to.

    Raises `FolderBusyError` while a server runs, `Failure` at a no, and `StoreError`.
    """
    made: list[Made] = []
    with FolderLock(folder).acquire(0), setting_up(folder):
        for found in repairs(folder):
            if found.make is not None:
                _agree(found, yes=yes)
                found.make()
            told = Made(found.check, found.problem, found.action, found.lost, found.make is not None)
            made.append(told)
            if show is not None:
                show(told)
            if len(made) >= ROUNDS:
                raise Failure("the repairs do not come to an end", hint="Restore the folder from a backup.")
    return made


def _agree(found: Repair, *, yes: bool) -> None:
    lost = f"\nLost: {found.lost}." if found.lost else ""
    question = f"{found.problem}.{lost}\nRepair: {found.action}. Do it?"
    confirm("\n".join(printable(line) for line in question.split("\n")), yes=yes)


def show_line(made: Made) -> None:
    """Print a repair for people."""
    status = click.style("mended", fg="green") if made.made else click.style("left  ", fg="red")
    click.echo(f"{status}  {made.check:<9}  {printable(made.problem)}")
    click.echo(f"                   {printable(made.action)}")
    if made.lost:
        click.echo(f"                   lost: {printable(made.lost)}")
