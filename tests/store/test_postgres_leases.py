"""Leases: each partition read by one process, shared evenly, and no write of one that lost its lease."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from mixdown.model.errors import LeaseLostError, StoreError
from mixdown.store.events import EventsWrite
from mixdown.store.places import first_of
from mixdown.store.postgres import PostgresStore, open_postgres
from mixdown.store.postgres.connection import IDLE_LIMIT_MS
from mixdown.store.postgres.leases import EVENTS, FOLD, Fences, Leases
from tests.store.postgres import Server
from tests.store.support import NOW_MS

PARTITIONS = 7
SHORT_S = 0.4


@pytest.fixture
def url(postgresql: Server) -> str:
    return postgresql.migrated(partitions=PARTITIONS)


@pytest.fixture
def opening(url: str) -> Iterator[Callable[[], PostgresStore]]:
    with ExitStack() as stack:

        def opened() -> PostgresStore:
            store = open_postgres(url, role="events", create=False)
            stack.callback(store.close)
            return store

        yield opened


def leasing(store: PostgresStore, name: str, *, kind: str = EVENTS, life_s: float = SHORT_S) -> Leases:
    return Leases(store.database, store.fences, kind, name, partitions=store.partition_count, life_s=life_s)


def settled(*leases: Leases) -> list[int]:
    """How many each holds, once nothing moves any more."""
    before: list[int] = []
    for _ in range(20):
        counts = [len(each.tend()) for each in leases]
        if counts == before:
            break
        before = counts
    everything = sorted(partition for each in leases for partition in each.held)
    assert everything == list(range(PARTITIONS)), "each partition has one holder"
    return counts


def advance(store: PostgresStore, partition: int, position: int) -> None:
    """Write what a step of the events reader writes."""
    view = store.partition(partition)
    view.events.write(EventsWrite(first_of(partition) + position, (), (), NOW_MS))


def test_the_only_process_holds_everything(opening: Callable[[], PostgresStore]) -> None:
    assert settled(leasing(opening(), "a")) == [PARTITIONS]


def test_partitions_are_shared_evenly_when_others_join_and_leave(
    opening: Callable[[], PostgresStore],
) -> None:
    store = opening()
    a, b, c = (leasing(opening(), name, life_s=60) for name in "abc")
    assert settled(a) == [7]
    assert settled(a, b) == [4, 3]
    assert settled(a, b, c) == [3, 2, 2]
    b.leave()
    assert settled(a, c) == [4, 3]
    folding = leasing(store, "a", kind=FOLD, life_s=60)
    assert settled(folding) == [7], "the kinds have leases of their own"


def test_nothing_moves_while_nobody_comes_or_goes(opening: Callable[[], PostgresStore]) -> None:
    a, b = (leasing(opening(), name, life_s=60) for name in "ab")
    settled(a, b)
    held = a.held, b.held
    for _ in range(3):
        a.tend()
        b.tend()
    assert (a.held, b.held) == held, "fences included"


def test_more_processes_than_partitions_leave_some_idle(opening: Callable[[], PostgresStore]) -> None:
    store = opening()
    many = [
        Leases(store.database, Fences(), EVENTS, f"p{number:02}", partitions=PARTITIONS, life_s=60)
        for number in range(9)
    ]
    assert settled(*many) == [1] * PARTITIONS + [0, 0]


def test_what_a_dead_process_held_is_taken_when_its_lease_has_run_out(
    opening: Callable[[], PostgresStore],
) -> None:
    a, b = (leasing(opening(), name) for name in "ab")
    settled(a, b)
    began = time.monotonic()
    while len(b.tend()) < PARTITIONS:  # a is heard of no more
        assert time.monotonic() - began < 60
        time.sleep(0.05)
    assert time.monotonic() - began >= SHORT_S / 2
    assert all(fence > 1 for partition, fence in b.held.items() if partition in a.held)


def test_a_partition_that_was_lost_in_between_is_not_held_for_once(
    opening: Callable[[], PostgresStore],
) -> None:
    """Else its reader would go on from where it was, as if nobody had read on meanwhile."""
    a, b = (leasing(opening(), name) for name in "ab")
    before = a.tend()
    while len(b.tend()) < PARTITIONS:
        time.sleep(0.05)
    b.leave()
    assert a.tend() == {}
    after = a.tend()
    assert after.keys() == before.keys()
    assert all(after[partition] > before[partition] + 1 for partition in after)


def late_write(opening: Callable[[], PostgresStore]) -> bool:
    """Whether a process that was stopped writes after another took its partition, and wrote."""
    stopped, other = opening(), opening()
    a = leasing(stopped, "a")
    assert len(a.tend()) == PARTITIONS
    advance(stopped, 2, 1)
    b = leasing(other, "b")
    while len(b.tend()) < PARTITIONS:
        time.sleep(0.05)
    advance(other, 2, 5)
    with suppress(LeaseLostError):
        advance(stopped, 2, 3)  # it does not know yet
    found = stopped.database.value(
        "SELECT position FROM mixdown.watermarks WHERE partition = 2 AND kind = %s", (EVENTS,)
    )
    advance(other, 2, 6)
    a.tend()
    with suppress(LeaseLostError):
        advance(stopped, 2, 7)
        return 2 not in a.held
    return bool(found != first_of(2) + 5)


def test_a_process_that_was_stopped_never_writes_late(opening: Callable[[], PostgresStore]) -> None:
    assert not late_write(opening)


def test_without_fences_it_would(
    opening: Callable[[], PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant that the test above must catch: a writer that takes whatever fence there is for its own."""
    stores: list[PostgresStore] = []

    def newest(fences: Fences, kind: str, partition: int) -> int:
        del fences
        return int(
            stores[0].database.value(
                "SELECT fence FROM mixdown.watermarks WHERE partition = %s AND kind = %s", (partition, kind)
            )
        )

    def opened() -> PostgresStore:
        stores.append(opening())
        return stores[-1]

    monkeypatch.setattr(Fences, "of", newest)
    assert late_write(opened)


def test_a_transaction_at_work_is_waited_for_and_its_partition_taken_later(
    opening: Callable[[], PostgresStore],
) -> None:
    slow, other = opening(), opening()
    leasing(slow, "a").tend()
    b = leasing(other, "b")
    with slow.database.transaction() as cursor:
        cursor.execute(
            "SELECT 1 FROM mixdown.watermarks WHERE partition = 3 AND kind = %s FOR UPDATE", (EVENTS,)
        )
        began = time.monotonic()
        while len(b.tend()) < PARTITIONS - 1:
            assert time.monotonic() - began < 60
            time.sleep(0.05)
        for _ in range(2):
            assert 3 not in b.tend(), "its fence is not raised yet"
        with pytest.raises(LeaseLostError):
            advance(other, 3, 1)
    assert 3 in b.tend()
    advance(other, 3, 1)


def test_a_connection_of_its_own_that_was_cut_off_holds_no_partition_for_ever(
    opening: Callable[[], PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is told nothing, and takes an open pipeline for work: each write waits for it in vain."""
    own = opening()
    a = leasing(own, "a")
    assert len(a.tend()) == PARTITIONS
    monkeypatch.setattr("mixdown.store.postgres.leases.LOST_S", 0.2)
    monkeypatch.setattr("mixdown.store.postgres.leases.LOOK_EVERY_S", 0.1)
    with pytest.raises(StoreError), own.database.pipeline() as cut_off:  # noqa: PT012 - it is ended meanwhile
        cut_off.execute(
            "SELECT 1 FROM mixdown.watermarks WHERE partition = 2 AND kind = %s FOR UPDATE", (EVENTS,)
        ).fetchone()
        began = time.monotonic()
        while held_by_others(own, 2):
            assert time.monotonic() - began < 60
            assert len(a.tend()) == PARTITIONS, "the lease is renewed all the same"
            time.sleep(0.05)
        advance(own, 2, 1)
        cut_off.execute("SELECT 1").fetchone()


def held_by_others(store: PostgresStore, partition: int) -> bool:
    free = "SELECT 1 FROM mixdown.watermarks WHERE partition = %s AND kind = %s FOR UPDATE SKIP LOCKED"
    return store.database.value(free, (partition, EVENTS)) is None


def test_where_nobody_ever_asked_for_leases_anybody_may_write(opening: Callable[[], PostgresStore]) -> None:
    alone = opening()
    advance(alone, 1, 4)
    leasing(opening(), "a").tend()
    with pytest.raises(StoreError):
        advance(alone, 1, 5)


READER = """
import sys, time
from mixdown.model.errors import StoreError
from mixdown.store.events import EventsWrite
from mixdown.store.places import first_of
from mixdown.store.postgres import open_postgres
from mixdown.store.postgres.leases import EVENTS, Leases

url, name = sys.argv[1:]
store = open_postgres(url, role="events", create=False)
leases = Leases(store.database, store.fences, EVENTS, name, partitions=store.partition_count, life_s=1.0)
print("ready", flush=True)
while True:
    for partition in leases.tend():
        view = store.partition(partition)
        at = view.events.watermark()
        try:
            view.events.write(EventsWrite(at + 1, (), (), 1))
        except StoreError:
            continue
        print(partition, at - first_of(partition), flush=True)
"""


@pytest.mark.timeout(300)
def test_processes_that_are_stopped_and_killed_write_each_step_once(url: str) -> None:
    """Each writes step after step where it holds the lease; some are stopped and go on, some are killed."""
    lines: list[tuple[int, int]] = []
    followers: list[threading.Thread] = []
    guard = threading.Lock()

    def follow(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as told:
            for line in told:
                if line != "ready\n":
                    partition, step = map(int, line.split())
                    with guard:
                        lines.append((partition, step))

    def start(name: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", READER, url, name], stdout=subprocess.PIPE, text=True
        )
        followers.append(threading.Thread(target=follow, args=(process,)))
        followers[-1].start()
        return process

    def counted() -> dict[int, int]:
        with guard:
            return {number: sum(each[0] == number for each in lines) for number in range(PARTITIONS)}

    # one that is stopped within a transaction holds its rows until the server ends that
    patience_s = IDLE_LIMIT_MS / 1000 + 120

    def progress(what: str) -> None:
        """All partitions go on."""
        before, began = counted(), time.monotonic()
        while not all(counted()[number] > before[number] + 2 for number in range(PARTITIONS)):
            assert time.monotonic() - began < patience_s, what
            time.sleep(0.05)

    processes = [start(name) for name in ("a", "b", "c")]
    try:
        progress("at the start")
        processes[0].send_signal(signal.SIGSTOP)
        progress("one is stopped")
        processes[1].kill()
        progress("another is killed")
        processes[0].send_signal(signal.SIGCONT)
        progress("the first goes on")
        processes.append(start("d"))
        progress("one joins")
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
                process.kill()
            process.wait()
        for follower in followers:
            follower.join()
    steps = sorted(set(lines))
    assert len(steps) == len(lines), "no step was written twice"
    for number in range(PARTITIONS):
        own = [step for partition, step in steps if partition == number]
        gaps = own[-1] + 1 - len(own)
        assert gaps <= len(processes), "a step is missing only where its writer died before it could tell"
