"""A line on a terminal that says how far something long is; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Final

import click

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


def size_text(size_bytes: int) -> str:
    """A number of bytes for people."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
