"""What no fold can apply is kept where all refusals of its project are, so that the project has one bound."""

from __future__ import annotations

from mixdown.fold.profiles import ProfileFold
from mixdown.model.operators import Properties
from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import ALL_REFUSALS
from tests.store.support import append, appending


def broken(*_: object, **__: object) -> Properties | None:
    raise ValueError("a fault")


def test_refusals_of_a_large_projects_folds_are_in_the_partition_of_the_project() -> None:
    store = MemoryStore(partitions=3)
    made = store.catalog.create_project("p", token="t", secret_hash=b"", id_merge="simplified", now_ms=1)
    store.catalog.enlarge_project(made.id)
    home = store.partition_of(made.id)
    for number in range(3):
        view = store.partition(number)
        append(view.log, appending(f"u{number}"))
        fold = ProfileFold(view, apply=broken)
        assert fold.step() is not None
        fold.close()
    kept = {
        number: len(store.partition(number).refusals.listing([made.id], wanted=ALL_REFUSALS))
        for number in range(3)
    }
    assert kept == {number: 3 if number == home else 0 for number in range(3)}
