"""The fold's loop outlives faults of what it does (DESIGN G7)."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from mixdown.fold import events_loop, loop
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


@pytest.mark.parametrize("longest_s", [0.0, 0.5])
def test_looks_that_find_nothing_become_rarer_where_they_are_dear(pipe: Pipe, longest_s: float) -> None:
    """Until somebody wakes the loop."""
    asked: list[float] = []
    woken = loop.EMPTY_LOOKS + 8
    woke = (selectors.SelectorKey(pipe.fileno(), pipe.fileno(), selectors.EVENT_READ, "wake"), 1)

    class Selector:
        def select(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
            asked.append(timeout)
            return [woke] if len(asked) == woken else []

    looks = loop.Looks(pipe, None, longest_s)
    looks.close()
    vars(looks)["_selector"] = Selector()
    assert all(looks.wait() for _ in range(woken + 1))
    assert set(asked[: loop.EMPTY_LOOKS]) == {loop.POLL_S}
    assert asked[woken - 1] == max(longest_s, loop.POLL_S)
    assert asked[woken] == loop.POLL_S


@pytest.mark.parametrize("reads", [loop, events_loop])
def test_the_loops_look_as_rarely_as_they_may(
    way: Way, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, reads: Any
) -> None:
    waited: list[float] = []

    class Noted(loop.Looks):
        def wait(self, *, at_once: bool = False) -> bool:
            del at_once
            waited.append(self._longest_s)
            return False

    monkeypatch.setattr(reads, "Looks", Noted)
    run = partial(loop.run_fold, retention_ms=0) if reads is loop else events_loop.run_events
    run(way.store, pipe, stopping=lambda: False, idle_poll_s=0.25)
    assert waited == [0.25]
