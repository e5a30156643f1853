"""How far something long is, on a terminal: a line, or a bar. Nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

TELL_EVERY_S: Final = 0.5


class ProgressLine:
    """Shown on stderr at most twice a second, and gone when the work is done."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._shown = 0

    def tell(self, text: str) -> None:
        """Show a line instead of the one before."""
        now = time.monotonic()
        if now - self._told > TELL_EVERY_S and sys.stderr.isatty():
            self._told = now
            click.echo("\r" + text.ljust(self._shown), err=True, nl=False)
            self._shown = len(text)

    def bytes(self, what: str, done: int, total: int) -> None:
        """Show how many of how many bytes are done."""
        self.tell(f"{what}: {size_text(done)} of {size_text(total)}")

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            click.echo("\r" + " " * self._shown + "\r", err=True, nl=False)
            self._shown = 0


class ProgressBar:
    """Shown on stderr: how much is done, the rows, their rate, and the time that remains. Use as a context.

    What takes less than half a second shows none.

    `total` is in any unit, None where it is not known (yet). `what` are the rows: "profiles".
    """

    def __init__(self, title: str, total: int | None, what: str) -> None:
        self._title = title
        self._total = total
        self._what = what
        self._began = time.monotonic()
        self._first = -1
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def _show(self) -> None:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[rows]}"),
                TextColumn("remaining"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, rows="")

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, done: int, rows: int, *, total: int | None = None) -> None:
        """So much of the total is done, and so many rows; the first call says where the work begins."""
        if self._first < 0:
            self._first = rows
            self._began = time.monotonic()
        if self._bar is None and time.monotonic() - self._began > TELL_EVERY_S:
            self._show()
        if self._bar is not None and self._task is not None:
            rate = (rows - self._first) / max(time.monotonic() - self._began, 1e-3)
            told = f"{rows:,} {self._what}, {rate:,.0f}/s"
            self._bar.update(self._task, completed=done, total=total or self._total, rows=told)


def size_text(size_bytes: int) -> str:
    """A number of bytes for people."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
