"""Progress of a long run, on stderr."""

from __future__ import annotations

import sys
import time

_BEGAN = time.monotonic()


def say(text: str) -> None:
    """A line that says what is measured now, after the minutes and seconds that the run has taken."""
    minutes, seconds = divmod(int(time.monotonic() - _BEGAN), 60)
    print(f"{minutes:3}:{seconds:02}  {text}", file=sys.stderr, flush=True)
