"""A large step folds in one thread and writes in another: to the same end, whichever of them fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mixdown.fold import profiles
from mixdown.fold.profiles import Folded, ProfileFold
from mixdown.model.errors import StoreError
from mixdown.model.operators import apply_operations
from mixdown.store.protocols import FoldResult, ProfileKey
from tests.fold.conftest import Way, record

PROFILES = 100
A_HANG_S = 30


class Cut(BaseException):
    """Something that no `except Exception` catches, such as a signal's."""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads for every step, and many hand-overs."""
    monkeypatch.setattr(profiles, "OVERLAP_FROM_PROFILES", 1)
    monkeypatch.setattr(profiles, "PROFILES_AT_ONCE", 4)
    monkeypatch.setattr(profiles, "FIRST_AT_ONCE", 4)


def step(way: Way) -> Folded | None:
    """One step, which must end."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(way.fold.step).result(A_HANG_S)


def step_to_the_end(way: Way) -> None:
    while step(way) is not None:
        pass


def submit(way: Way, **operators: Any) -> None:
    way.submit(*[record(f"u{n:03}", **operators) for n in range(PROFILES)])


def values(way: Way) -> list[Any]:
    return [(way.profile(f"u{n:03}") or {}).get("n") for n in range(PROFILES)]


def test_documents_are_read_and_written_in_another_thread_than_they_are_folded_in(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = way.store.state.documents_to_change
    reading: set[int] = set()
    folding: set[int] = set()

    def watched(keys: Sequence[ProfileKey]) -> list[bytes | None]:
        reading.add(threading.get_ident())
        return documents(keys)

    def apply(*arguments: Any, **options: Any) -> Any:
        folding.add(threading.get_ident())
        return apply_operations(*arguments, **options)

    monkeypatch.setattr(way.store.state, "documents_to_change", watched)
    way.fold = ProfileFold(way.store, apply=apply)
    submit(way, add={"n": 1})
    submit(way, add={"n": 1})
    folded = step(way)
    assert folded is not None
    assert (folded.records, folded.profiles) == (2 * PROFILES, PROFILES)
    assert len(reading) == len(folding) == 1
    assert reading.isdisjoint(folding)
    monkeypatch.setattr(way.store.state, "documents_to_change", documents)
    assert values(way) == [2] * PROFILES


def test_steps_one_after_the_other_take_each_record_once(way: Way) -> None:
    """The next step is taken from the log while the last one is committed."""
    way.fold = ProfileFold(way.store, max_records=PROFILES)
    for _ in range(5):
        submit(way, add={"n": 1})
    submit(way, add={"n": 1}, insert_id="i")
    submit(way, add={"n": 1}, insert_id="i")
    taken = []
    while (folded := step(way)) is not None:
        taken.append((folded.records, folded.recognised))
    assert taken == [(PROFILES, 0)] * 6 + [(PROFILES, PROFILES)]
    assert values(way) == [6] * PROFILES


@pytest.mark.parametrize("error", [StoreError("no disk left"), Cut()], ids=["StoreError", "a signal"])
@pytest.mark.parametrize(
    "where", ["first read", "a later read", "before writing", "after writing", "refusals"]
)
def test_what_fails_on_either_side_ends_both_and_is_done_again(
    way: Way, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    state = way.store.state
    documents, write, add = state.documents, state.write, way.store.refusals.add
    calls = iter(range(1000))

    def failing_read(keys: Sequence[ProfileKey]) -> list[bytes | None]:
        if next(calls) == (0 if where == "first read" else 7):
            raise error
        return documents(keys)

    def failing_write(result: FoldResult) -> None:
        if where == "after writing":
            write(result)
        raise error

    def failing_add(*_: Any) -> None:
        raise error

    def boom(doc: Any, operations: Any, **options: Any) -> Any:
        if any(payload == {"boom": 1} for _, payload in operations):
            raise ZeroDivisionError
        return apply_operations(doc, operations, **options)

    way.fold = ProfileFold(way.store, apply=boom, max_records=PROFILES)
    submit(way, add={"n": 1})
    way.submit(record("bad", set={"boom": 1}))
    submit(way, add={"n": 1})
    with monkeypatch.context() as patched:
        if "read" in where:
            patched.setattr(state, "documents_to_change", failing_read)
        elif "writing" in where:
            patched.setattr(state, "write", failing_write)
        else:
            patched.setattr(way.store.refusals, "add", failing_add)
        with pytest.raises(type(error)):
            step_to_the_end(way)
    assert add == way.store.refusals.add
    step_to_the_end(way)
    assert values(way) == [2] * PROFILES
    assert len(way.store.refusals.listing(None)) == 1
    assert state.watermark() == 2 * PROFILES + 1


def test_what_interrupts_the_folding_undoes_the_step(way: Way) -> None:
    applied = 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal applied
        applied += 1
        if applied == PROFILES // 2:
            raise Cut
        return apply_operations(*arguments, **options)

    way.fold = ProfileFold(way.store, apply=interrupted)
    submit(way, add={"n": 1})
    with pytest.raises(Cut):
        step(way)
    assert values(way) == [None] * PROFILES
    assert way.store.state.watermark() == 0
    assert step(way) is not None
    assert values(way) == [1] * PROFILES
