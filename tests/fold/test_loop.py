"""The fold's loop outlives faults of what it does (DESIGN G7)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from mixdown.fold import loop
from mixdown.model.errors import StoreError
from tests.fold.conftest import Way, record


class Pipe:
    """Something to wait on that never wakes."""

    def __init__(self) -> None:
        self.ends = os.pipe()

    def fileno(self) -> int:
        """What to wait on."""
        return self.ends[0]

    def drain(self) -> int:
        """Nothing comes."""
        return 0


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for end in made.ends:
        os.close(end)


class Faults:
    """Remembers the faults that the loop reports."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.steps: list[str] = []

    def folded(self, folded: object, seconds: float) -> None:
        """A step."""
        del folded, seconds
        self.steps.append("folded")

    def rested(self) -> None:
        """Nothing waits."""
        self.steps.append("rested")

    def erased(self, jobs: int, people: int, records: int, seconds: float) -> None:
        """Nothing to remember."""

    def failed(self, error: Exception) -> None:
        """A fault."""
        self.seen.append(str(error))


def test_a_log_that_cannot_be_trimmed_does_not_stop_the_fold(
    way: Way, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise StoreError("log.db cannot grow")

    monkeypatch.setattr(way.store.log, "trim", full)
    monkeypatch.setattr(loop, "TRIM_EVERY_S", -1.0)
    way.submit(record(add={"n": 1}))
    faults = Faults()
    loop.run_fold(
        way.store, pipe, stopping=lambda: len(faults.seen) > 2, retention_ms=0, events=faults, drain_s=0
    )
    assert set(faults.seen) == {"log.db cannot grow"}
    assert way.profile() == {"n": 1}


def test_the_loop_tells_when_nothing_waits_after_a_step(way: Way, pipe: Pipe) -> None:
    way.submit(record(add={"n": 1}))
    told = Faults()
    loop.run_fold(
        way.store, pipe, stopping=lambda: "rested" in told.steps, retention_ms=0, events=told, drain_s=0
    )
    assert told.steps[:2] == ["folded", "rested"]
