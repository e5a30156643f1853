"""What commands print: data on stdout, words for people on stderr.

Enters: values from the store, some of them written by strangers. Leaves: text that a terminal shows as it
is, never as control codes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Final

import click

_ESCAPES: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


class Failure(click.ClickException):
    """An error that ends a command with exit code 1: what was wrong, and what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        """Print one line, and the hint below it where there is one."""
        click.echo(f"Error: {printable(self.message)}", file=file, err=file is None)
        if self.hint:
            click.echo(self.hint, file=file, err=file is None)


def note(text: str) -> None:
    """Tell people something that is not data."""
    click.echo(text, err=True)


def emit(value: Any) -> None:
    """Print one JSON value on one line of stdout."""
    click.echo(json_text(value))


def json_text(value: Any) -> str:
    """Compact JSON; what it contains has come through the model, and can be written."""
    import orjson

    return orjson.dumps(value).decode()


def printable(value: Any) -> str:
    """A value as one line of text without control characters, which a terminal might obey."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char == " "
        else _ESCAPES.get(char) or char.encode("unicode_escape").decode()
        for char in text
    )


def shortened(text: str, limit: int) -> str:
    """`text`, cut to `limit` characters with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def time_text(ms: int) -> str:
    """A time in milliseconds as UTC text to the second; "" for 0."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if ms else ""


def to_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on a terminal; otherwise tab separated lines below a line of column names."""
    if not to_terminal():
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(printable(value) for value in row))
        return
    print_table(columns, rows)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table for a terminal; numbers to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    held = list(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, column in enumerate(columns):
        numbers = bool(held) and all(isinstance(row[at], (int, float)) for row in held)
        table.add_column(Text(column), justify="right" if numbers else "left", overflow="fold")
    for row in held:
        table.add_row(*(Text(printable(value)) for value in row))
    Console(file=sys.stdout, highlight=False).print(table)


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Names and values below each other, for one thing."""
    held = [(name, printable(value)) for name, value in fields]
    width = max((len(name) for name, _ in held), default=0)
    for name, value in held:
        click.echo(f"{name:<{width}}  {value}".rstrip())


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be taken back; `yes` answers beforehand. Raises `Failure`."""
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        note("")
        agreed = False
    if not agreed:
        raise Failure("not confirmed: nothing was changed", hint="Add --yes to go without the question.")
