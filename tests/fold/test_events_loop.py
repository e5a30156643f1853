"""The loop of the events reader outlives faults, ends when it is told to, and says how far it came."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from mixdown.fold import events_loop
from mixdown.fold.events import Taken
from mixdown.model.errors import StoreError
from mixdown.store import event_upkeep
from tests.fold.conftest import Way
from tests.fold.test_events import who
from tests.fold.test_loop import Pipe, pipe
from tests.store.support import append, appending, appending_events

__all__ = ["pipe"]


@pytest.fixture(autouse=True)
def _no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of these tests are of 1970, and `who` looks at hot ones alone."""
    monkeypatch.setattr(event_upkeep, "CLOSED_AFTER_MS", 10**15)


class Told:
    """Remembers what the loop reports."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.events = 0
        self.works_again = False

    def taken(self, taken: Taken, seconds: float) -> None:
        """A step."""
        assert seconds >= 0
        self.events += taken.events

    def tended(self, seconds: float) -> None:
        """Nothing to remember."""

    def erased(self, jobs: int, events: int, seconds: float) -> None:
        """Nothing to remember."""

    def failed(self, error: Exception) -> None:
        """A fault."""
        self.faults.append(str(error))

    def works(self) -> None:
        """It works."""
        self.works_again = bool(self.faults)


def test_it_tries_again_until_the_disk_has_room(
    way: Way, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_loop, "RETRY_S", 0.0)
    write = way.store.events.write
    left = iter(range(3))

    def full(written: Any) -> None:
        if next(left, None) is not None:
            raise StoreError("events.db cannot grow")
        write(written)

    monkeypatch.setattr(way.store.events, "write", full)
    append(way.store.log, appending_events("a", "b"))
    told = Told()
    events_loop.run_events(way.store, pipe, stopping=lambda: told.events > 0, reports=told)
    assert told.faults == ["events.db cannot grow"] * 3
    assert told.works_again
    assert who(way.store) == [(0, "a"), (1, "b")]


def test_what_can_wait_is_done_now_and_then_though_events_never_cease(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    both = threading.Event()

    def tend(*, busy: bool, now_ms: int) -> bool:
        del now_ms
        asked.append(busy)
        if {True, False} <= set(asked):
            both.set()
        return True

    monkeypatch.setattr(events_loop, "UNDER_LOAD_EVERY_S", 0.1)
    monkeypatch.setattr(way.store.events, "tend", tend)
    tending = events_loop.Tending(way.store, Told(), busy=lambda: True)
    tending.start()
    assert both.wait(60)
    tending.stop()
    assert asked.count(False) < asked.count(True)


def test_a_fault_of_the_upkeep_does_not_stop_it(
    way: Way, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> bool:
        raise StoreError("a file cannot be written")

    monkeypatch.setattr(way.store.events, "tend", fail)
    told = Told()
    append(way.store.log, appending_events("a"))
    events_loop.run_events(way.store, pipe, stopping=lambda: bool(told.faults and told.events), reports=told)
    assert set(told.faults) == {"a file cannot be written"}
    assert who(way.store) == [(0, "a")]


def test_it_takes_what_waits_before_it_ends_and_notes_how_far_it_came(way: Way, pipe: Pipe) -> None:
    append(way.store.log, appending_events("a"))
    append(way.store.log, appending("profile"))
    events_loop.run_events(way.store, pipe, stopping=lambda: True)
    assert who(way.store) == [(0, "a")]
    assert way.store.events.watermark() == 2


def test_it_ends_with_its_supervisor(way: Way, pipe: Pipe) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    events_loop.run_events(way.store, pipe, stopping=lambda: False, parent_fd=reader)
    os.close(reader)
