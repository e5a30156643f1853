"""An answer that many threads ask for at once, and that none may get older than its own question.

Enters: how to look. Leaves: what a look that began after the question found. It knows no store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Fresh(Generic[_T]):
    """One look at a time: whoever asks during one waits for the next, and shares it with all who wait."""

    def __init__(self, look: Callable[[], _T]) -> None:
        self._look = look
        self._changed = threading.Condition()
        self._begun = 0
        self._looking = False
        self._found: tuple[int, _T] | None = None

    def ask(self) -> _T:
        """What a look finds that begins now or later. Raises what the look raises, to the one whose it is."""
        with self._changed:
            wanted = self._begun + 1
            while self._looking:
                self._changed.wait()
                if self._found is not None and self._found[0] >= wanted:
                    return self._found[1]
            self._looking = True
            self._begun += 1
            mine = self._begun
        try:
            found = self._look()
        except BaseException:
            self._end(None)
            raise
        self._end((mine, found))
        return found

    def _end(self, found: tuple[int, _T] | None) -> None:
        with self._changed:
            self._looking = False
            self._found = found if found is not None else self._found
            self._changed.notify_all()
