"""Partitions that one process folds are folded side by side: none waits for what another waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from mixdown.fold.beside import AT_ONCE, Steps
from mixdown.model.errors import LeaseLostError, NodeDownError, StoreError
from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import Store

PATIENCE_S = 60.0


class Part:
    """A partition whose step is what a test says."""

    def __init__(self, store: Store, step: Callable[[], int], *, waits: bool = True) -> None:
        self.store = store
        self.step = step
        self._waits = waits

    def waits(self, head: int) -> bool:
        assert head >= 0
        return self._waits


def parts(store: Store, *steps: Callable[[], int]) -> list[Part]:
    return [Part(store.partition(number), step) for number, step in enumerate(steps)]


def untold(error: Exception) -> None:
    raise AssertionError(error)


def test_steps_that_wait_for_each_other_all_come_to_an_end() -> None:
    store = MemoryStore(partitions=AT_ONCE)
    met = threading.Barrier(AT_ONCE, timeout=PATIENCE_S)

    def step() -> int:
        met.wait()
        return 1

    steps = Steps(store, untold)
    assert sum(records() for _, records in steps.of(parts(store, *[step] * AT_ONCE))) == AT_ONCE
    steps.close()


def test_a_lease_that_is_lost_in_one_is_told_by_that_one_alone() -> None:
    store = MemoryStore(partitions=3)

    def lost() -> int:
        raise LeaseLostError("another has it")

    steps = Steps(store, untold)
    (_, one), (_, other), (_, third) = steps.of(parts(store, lambda: 1, lost, lambda: 3))
    with pytest.raises(LeaseLostError):
        other()
    assert (one(), third()) == (1, 3)
    steps.close()


def test_where_nothing_waits_no_step_is_taken() -> None:
    store = MemoryStore(partitions=3)

    def untaken() -> int:
        raise AssertionError("nothing waits here")

    some = [
        Part(store.partition(0), untaken, waits=False),
        Part(store.partition(1), lambda: 7),
        Part(store.partition(2), untaken, waits=False),
    ]
    steps = Steps(store, untold)
    assert [records() for _, records in steps.of(some)] == [0, 7, 0]
    assert [records() for _, records in steps.of([])] == []
    steps.close()


def test_a_database_that_is_away_is_told_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(partitions=2)
    told: list[Exception] = []

    def away(_: object) -> object:
        raise StoreError("it is away")

    monkeypatch.setattr(store, "ends", away)
    steps = Steps(store, told.append)
    assert [records() for _, records in steps.of(parts(store, lambda: 1, lambda: 2))] == [0, 0]
    assert [str(error) for error in told] == ["it is away"]
    steps.close()


def test_a_node_that_is_down_holds_up_no_partition_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is asked for all of them at once can answer for none: each step is taken as if something waited."""
    store = MemoryStore(partitions=3)

    def down(numbers: Sequence[int]) -> object:
        raise NodeDownError(f"connection to the node of one of {numbers} failed")

    def lost() -> int:
        raise NodeDownError("connection to the node failed")

    told: list[Exception] = []
    with monkeypatch.context() as patched:
        patched.setattr(store, "ends", down)
        steps = Steps(store, told.append)
        some = parts(store, lambda: 1, lost, lambda: 3)
        assert steps.of(some) == [], "that may have taken long: leases are renewed first"
        (_, one), (_, other), (_, third) = steps.of(some)
    with pytest.raises(NodeDownError):
        other()
    assert (one(), third()) == (1, 3)
    assert len(told) == 1
    some[0] = Part(store.partition(0), lambda: 1, waits=False)
    assert [step() for _, step in steps.of([some[0], some[2]])] == [0, 3], "it is looked again"
    steps.close()
