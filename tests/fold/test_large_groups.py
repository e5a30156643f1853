"""One step of the fold takes much at once, and holds little of it in memory (DESIGN G7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mixdown.fold import profiles
from mixdown.fold.profiles import ProfileFold
from mixdown.model.errors import StoreError
from mixdown.model.operators import apply_operations
from mixdown.store.protocols import ProfileKey
from tests.fold.conftest import Way, record


def test_large_documents_are_read_few_at_a_time(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "PROFILES_AT_ONCE", 16)
    monkeypatch.setattr(profiles, "DOCUMENT_BYTES_AT_ONCE", 4000)
    way.submit(*[record(f"u{n:03}", set={"text": "x" * 200 * (n < 100)}) for n in range(200)])
    way.fold_all()
    asked: list[tuple[int, int]] = []
    documents = way.store.state.documents_to_change

    def watched(keys: Sequence[ProfileKey]) -> list[bytes | None]:
        found = documents(keys)
        asked.append((len(keys), sum(len(document or b"") for document in found)))
        return found

    monkeypatch.setattr(way.store.state, "documents_to_change", watched)
    way.submit(*[record(f"u{n:03}", add={"n": 1}) for n in range(200)])
    assert way.fold_all() == 200
    assert max(size for _, size in asked) < 2 * 4000
    assert asked[-2][0] == 16
    monkeypatch.setattr(way.store.state, "documents_to_change", documents)
    assert way.profile("u000") == {"text": "x" * 200, "n": 1}
    assert way.profile("u199") == {"text": "", "n": 1}


def test_a_fault_in_the_middle_of_a_step_writes_nothing_of_it(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "PROFILES_AT_ONCE", 8)
    documents = way.store.state.documents_to_change
    calls = 0

    def failing(keys: Sequence[ProfileKey]) -> list[bytes | None]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StoreError("this page cannot be read")
        return documents(keys)

    way.submit(*[record(f"u{n}", add={"n": 1}) for n in range(40)])
    monkeypatch.setattr(way.store.state, "documents_to_change", failing)
    with pytest.raises(StoreError, match="cannot be read"):
        way.fold.step()
    monkeypatch.setattr(way.store.state, "documents_to_change", documents)
    assert way.store.state.watermark() == 0
    assert way.profile("u0") is None
    assert way.fold_all() == 40
    assert [way.profile(f"u{n}") for n in range(40)] == [{"n": 1}] * 40


def test_many_profiles_are_all_written_and_deleted(way: Way) -> None:
    """More than go into one statement, of users and groups."""
    ids = [f"u{n:04}" for n in range(1500)]
    for first in range(0, 4500, 1500):
        way.submit(*[record(f"{first}{name}", set={"a": 1}) for name in ids])
    way.submit({"$token": "TOK", "$group_key": "Company", "$group_id": "Acme", "$set": {}}, endpoint="groups")
    way.fold_all()
    assert way.store.state.count(way.project.id, "") == 4500
    assert way.store.state.count(way.project.id, "Company") == 1
    for first in range(0, 4500, 1500):
        way.submit(*[record(f"{first}{name}", delete="") for name in ids])
    way.fold_all()
    assert way.store.state.count(way.project.id, "") == 0


def test_a_record_that_raises_is_found_without_folding_its_neighbours_one_by_one(way: Way) -> None:
    applied = 0

    def counting(doc: Any, operations: Any, **options: Any) -> Any:
        nonlocal applied
        applied += 1
        if operations[0][1] == {"boom": 1}:
            raise ZeroDivisionError
        return apply_operations(doc, operations, **options)

    way.fold = ProfileFold(way.store, apply=counting)
    way.submit(*[record(set={"boom": 1}) if n in (3, 700) else record(append={"l": n}) for n in range(1000)])
    folded = way.fold.step()
    assert folded is not None
    assert folded.failed == 2
    assert way.profile() == {"l": [n for n in range(1000) if n not in (3, 700)]}
    messages = [item.message for item in way.store.refusals.listing(None)]
    assert messages == [f"internal error at position {n}: ZeroDivisionError" for n in (700, 3)]
    assert applied < 10_000


@pytest.mark.parametrize("value", [1, 1.5, 1e22, "a: b, c", {"ab": "\u00e9", "x: y": [1, 2]}])
def test_what_changes_nothing_writes_no_profile_however_the_store_spells_it(way: Way, value: Any) -> None:
    same = record("a", set={"value": value, "a": ",", "longer name": None}, ignore_time=True)
    way.submit(same)
    way.fold_all()
    fences = getattr(way.store, "fences", None)
    if fences is not None:  # another lease: what the process has written it asks for
        database: Any = way.store
        database.database.run("UPDATE mixdown.watermarks SET fence = 1 WHERE kind = 'fold' AND partition = 0")
        fences.hold("fold", {0: 1})
    way.submit(same)
    folded = way.fold.step()
    assert folded is not None
    assert (folded.records, folded.profiles) == (1, 0)
