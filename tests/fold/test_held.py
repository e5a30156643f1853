"""Processes that share the partitions of a store: each is read by one, and by another when that one goes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import pytest

from mixdown.fold.events_loop import run_events
from mixdown.fold.held import Held
from mixdown.fold.loop import run_fold
from mixdown.model.errors import LeaseLostError, NodeDownError, StoreError
from mixdown.store.places import all_views
from mixdown.store.privacy import PENDING, SUCCESS, Deletion
from mixdown.store.protocols import Store
from tests.fold.test_partitions import USERS, Parted, add, event, segments

PATIENCE_S = 60.0


class Shared:
    """Who holds which partition of a store: all who are there share them evenly, as leases do."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.members: list[Member] = []
        self.holder: dict[int, Member] = {}
        self.guard = threading.Lock()


class Member:
    """One process's part in it."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        with shared.guard:
            shared.members.append(self)

    def tend(self) -> Collection[int]:
        shared = self._shared
        with shared.guard:
            place = shared.members.index(self)
            own = [number for number, holder in shared.holder.items() if holder is self]
            share = len(range(place, shared.count, len(shared.members)))
            for number in own[share:]:
                del shared.holder[number]
            free = [number for number in range(shared.count) if number not in shared.holder]
            for number in free[: max(0, share - len(own))]:
                shared.holder[number] = self
            return [number for number, holder in shared.holder.items() if holder is self]

    def leave(self) -> None:
        shared = self._shared
        with shared.guard:
            shared.members.remove(self)
            shared.holder = {number: held for number, held in shared.holder.items() if held is not self}


class Pipe:
    """What nobody writes to."""

    def __init__(self) -> None:
        self.ends = os.pipe()

    def fileno(self) -> int:
        return self.ends[0]

    def drain(self) -> object:
        return None

    def close(self) -> None:
        for end in self.ends:
            os.close(end)


class Process:
    """A loop in a thread, until it is stopped."""

    def __init__(self, loop: Callable[..., None], store: Store, shared: Shared, **options: Any) -> None:
        self.stopping = threading.Event()
        self.member = Member(shared)
        self.failures: list[Exception] = []
        pipe = Pipe()

        def run() -> None:
            try:
                loop(store, pipe, stopping=self.stopping.is_set, holding=self.member, **options)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.failures.append(error)
            finally:
                pipe.close()

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        assert self.failures == []


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def parted(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("mixdown.fold.held.TEND_EVERY_S", 0.02)
    made = Parted()
    yield made
    made.close()


def test_folds_share_the_partitions_and_take_over_from_one_that_goes(parted: Parted) -> None:
    shared = Shared(3)
    one = Process(run_fold, parted.store, shared, retention_ms=1 << 40)
    try:
        parted.submit(*[add("large", each) for each in USERS])
        until(lambda: [parted.value(parted.large, each) for each in USERS] == [1] * 60)
        other = Process(run_fold, parted.store, shared, retention_ms=1 << 40)
        try:
            until(lambda: len({id(holder) for holder in shared.holder.values()}) == 2)
            for _ in range(20):
                parted.submit(*[add("large", each) for each in USERS])
            until(lambda: [parted.value(parted.large, each) for each in USERS] == [21] * 60)
            one.stop()
            until(lambda: list(shared.holder.values()) == [other.member] * 3)
            parted.submit(*[add("large", each) for each in USERS])
            until(lambda: [parted.value(parted.large, each) for each in USERS] == [22] * 60)
        finally:
            other.stop()
    finally:
        if one.thread.is_alive():
            one.stop()
    assert shared.holder == {}


def test_people_of_a_large_project_are_erased_in_all_partitions(parted: Parted) -> None:
    shared, reading = Shared(3), Shared(3)
    gone = USERS[:20]
    parted.submit(*[add("large", each) for each in USERS])
    parted.submit(
        *[event("large", distinct_id=each, **{"$insert_id": each}) for each in USERS], endpoint="track"
    )
    parted.submit({"$token": "large", "$distinct_id": gone[0], "$set": 5})
    processes = [Process(run_fold, parted.store, shared, retention_ms=1 << 40) for _ in range(2)]
    processes.append(Process(run_events, parted.store, reading))
    try:
        until(lambda: parted.store.state.count(parted.large.id, "") == 60)
        until(lambda: parted.store.events.size(parted.large.id).hot_events == 60)
        job = Deletion("j" * 32, parted.large.id, "", tuple(gone), 20, PENDING, "tests", "GDPR", 1)
        parted.store.privacy.add_deletion(job)

        def status() -> str:
            held = parted.store.privacy.deletion(parted.large.id, job.id)
            return "" if held is None else held.status

        until(lambda: status() == SUCCESS)
    finally:
        for process in processes:
            process.stop()
    store = parted.store
    done = store.privacy.deletion(parted.large.id, job.id)
    assert done is not None
    assert (done.ids, len(done.parts)) == ((), 3)
    told = "20 updates, as many events, and the records of the deletion in each partition"
    assert b'"records":100' in done.report, told
    assert list(store.state.ids(parted.large.id, "")) == sorted(USERS[20:])
    assert store.events.size(parted.large.id).hot_events == 40
    assert store.refusals.listing([parted.large.id]) == []
    for view in all_views(store):
        for segment in segments(view):
            assert not segment.ids().intersection(gone)


def test_a_partition_that_another_process_has_is_begun_anew_when_it_comes_back(parted: Parted) -> None:
    class Ours:
        held: Collection[int] = (0, 2)
        broken = False

        def tend(self) -> Collection[int]:
            if self.broken:
                raise StoreError("gone")
            return self.held

        def leave(self) -> None:
            raise StoreError("gone")

    class Part:
        def __init__(self, view: Store) -> None:
            self.number = view.number
            begun.append(view.number)

        def close(self) -> None:
            ended.append(self.number)

    begun: list[int] = []
    ended: list[int] = []
    told: list[Exception] = []
    ours = Ours()
    parts = Held(parted.store, ours, Part, told.append)
    assert [part.number for part in parts.now()] == [0, 2]

    def lose() -> None:
        raise LeaseLostError("another has it")

    with parts.unless_lost(2):
        lose()
    assert ended == [2]
    assert [part.number for part in parts.now()] == [0, 2]
    assert begun == [0, 2, 2]
    ours.held = (1,)
    time.sleep(0.03)
    assert [part.number for part in parts.now()] == [1]
    ours.broken = True
    time.sleep(0.03)
    assert [part.number for part in parts.now()] == [1], "it may be held still"
    assert [str(error) for error in told] == ["gone"]
    parts.close()
    assert sorted(ended) == [0, 1, 2, 2]


@pytest.mark.parametrize("before", [True, False])
def test_partitions_whose_node_is_down_are_put_aside_and_taken_up_again(
    parted: Parted, monkeypatch: pytest.MonkeyPatch, *, before: bool
) -> None:
    """Two of three, found down when they are begun, or when a step fails."""
    monkeypatch.setattr("mixdown.fold.held.ASIDE_S", 3600.0)
    made: list[int] = []
    told: list[Exception] = []
    down = {0, 1} if before else set[int]()

    class Part:
        def __init__(self, number: int) -> None:
            made.append(number)
            if number in down:
                raise NodeDownError("connection to the node failed")
            self.number = number

        def close(self) -> None:
            return

    held = Held(parted.store, Member(Shared(3)), lambda view: Part(view.number), told.append)
    for _ in range(3):
        time.sleep(0.03)  # what it was tended for has run out
        held.now()
    if not before:
        for number in (0, 1):
            with held.unless_lost(number):
                raise NodeDownError("connection to the node failed")
    assert [part.number for part in held.now()] == [2]
    assert len(told) == 2
    assert sorted(made) == [0, 1, 2], "they are not asked all the time"
    down.clear()
    held._aside = dict.fromkeys(held._aside, 0.0)
    for _ in range(3):
        time.sleep(0.03)
        found = {part.number for part in held.now()}
    assert found == {0, 1, 2}
    held.close()
