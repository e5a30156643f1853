"""What is asked of a store with several partitions that only one of them can answer.

Enters: the name of a part. Leaves: an error. Reads go over all partitions; whoever writes, or reads a log,
has the view of one.
"""

from __future__ import annotations

from typing import Any, NoReturn

from mixdown.model.errors import StoreError


def one_at_a_time(what: str) -> StoreError:
    """The error about something that is asked of all partitions together."""
    return StoreError(f"{what}: this store has several partitions, and it is asked of one of them")


class NoLog:
    """Where there are several logs: none is the store's own."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(name)

    def close(self) -> None:
        """Nothing."""


def _refuse(name: str) -> NoReturn:
    raise one_at_a_time(f"log.{name}")
