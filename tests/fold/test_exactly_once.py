"""Each acknowledged record is applied once: retries with keys, crashes, faults (DESIGN G2, §1.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mixdown.fold.profiles import ProfileFold
from mixdown.ingest.direct import resend
from mixdown.ingest.pipeline import rules_of
from mixdown.model.errors import StoreError
from mixdown.model.operators import apply_operations
from mixdown.settings import Settings
from mixdown.store.protocols import Append, FoldResult
from tests.fold.conftest import DAY_MS, Way, record

ADD = {"n": 1}


def send_three_times(way: Way, **extra: Any) -> None:
    """The same record twice before a fold, once after it."""
    way.submit(record(add=ADD, **extra))
    way.submit(record(add=ADD, **extra))
    way.fold_all()
    way.submit(record(add=ADD, **extra))
    way.fold_all()


KEYED: dict[str, Callable[[Way], None]] = {
    "insert_id": lambda way: send_three_times(way, insert_id="i-1"),
    "numeric insert_id": lambda way: send_three_times(way, insert_id=77),
    "mobile event id": lambda way: send_three_times(way, mp_metadata={"$mp_event_id": "e-1"}),
}


@pytest.mark.parametrize("sort", KEYED)
def test_a_record_with_a_key_counts_once_however_often_it_is_sent(way: Way, sort: str) -> None:
    KEYED[sort](way)
    assert way.profile() == {"n": 1}


def test_a_request_with_a_key_counts_once_and_gets_the_first_reply_again(way: Way) -> None:
    batch = [record(add=ADD), record("", add=ADD), record("u2", add=ADD)]
    first = way.submit(*batch, key="k")
    second = way.submit(*batch, key="k")
    way.fold_all()
    third = way.submit(*batch, key="k")
    assert way.fold_all() == 0, "a retry that is recognised early is not appended"
    assert first == second == third
    assert (first.good, first.failed[0][2]) == (2, "$distinct_id, missing or empty")
    assert (way.profile("u1"), way.profile("u2")) == ({"n": 1}, {"n": 1})
    assert len(way.store.refusals.listing(None)) == 1, "nor are its refusals kept twice"


def test_a_recognised_retry_gets_the_first_reply_even_after_its_token_was_rotated(way: Way) -> None:
    first = way.submit(record(add=ADD), key="k")
    way.fold_all()
    way.store.catalog.change_project(way.project.id, token="NEW")
    assert way.submit(record(add=ADD), key="k") == first
    way.fold_all()
    assert way.profile() == {"n": 1}


def test_a_retry_before_the_fold_gets_the_first_reply_though_a_token_became_known(way: Way) -> None:
    batch = [record(add=ADD), {"$token": "NEW", "$distinct_id": "u1", "$add": ADD}]
    first = way.submit(*batch, key="k")
    way.store.catalog.create_project(
        "second", token="NEW", secret_hash=b"2" * 32, id_merge="simplified", now_ms=0
    )
    assert way.submit(*batch, key="k") == first
    assert (first.good, first.total) == (1, 2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((record(add=ADD), {"key": "k"}), (record(add={"n": 2}), {"key": "k"})),
        ((record(add=ADD), {"key": "k"}), (record(add={"n": 2}), {"key": "other"})),
        ((record(add=ADD, insert_id="a"), {}), (record(add={"n": 2}, insert_id="b"), {})),
        ((record(add=ADD), {}), (record(add={"n": 2}), {})),
    ],
    ids=["another body under the same key", "another key", "another insert_id", "no key"],
)
def test_what_is_no_retry_counts_again(way: Way, first: Any, second: Any) -> None:
    way.submit(first[0], **first[1])
    way.submit(second[0], **second[1])
    way.fold_all()
    assert way.profile() == {"n": 3}


def test_the_same_insert_id_on_another_profile_or_group_is_no_retry(way: Way) -> None:
    way.submit(record("u1", add=ADD, insert_id="i"), record("u2", add=ADD, insert_id="i"))
    group = {"$token": "TOK", "$group_key": "Company", "$group_id": "u1", "$add": ADD, "$insert_id": "i"}
    way.submit(group, endpoint="groups")
    way.fold_all()
    assert way.profile("u1") == way.profile("u2") == way.profile("u1", "Company") == {"n": 1}


@pytest.mark.parametrize(("days", "total"), [(6.99, 1), (7.01, 2)])
def test_a_key_is_remembered_for_seven_days_of_chunk_time(way: Way, days: float, total: int) -> None:
    way.submit(record(add=ADD, insert_id="i"))
    way.fold_all()
    way.now_ms += int(days * DAY_MS)
    way.submit(record(add=ADD, insert_id="i"))
    way.fold_all()
    assert way.profile() == {"n": total}


def test_a_crash_before_the_commit_of_a_fold_changes_nothing(way: Way, monkeypatch: Any) -> None:
    way.submit(record(add=ADD, insert_id="i"), record("u2", set={"a": 1}))
    written = way.store.state.write

    def crash(_result: FoldResult) -> None:
        raise StoreError("no more disk")

    monkeypatch.setattr(way.store.state, "write", crash)
    with pytest.raises(StoreError):
        way.fold.step()
    monkeypatch.setattr(way.store.state, "write", written)
    way.fold = ProfileFold(way.store)
    way.fold_all()
    assert (way.profile("u1"), way.profile("u2")) == ({"n": 1}, {"a": 1})


def test_a_write_that_fails_after_its_commit_is_not_folded_a_second_time(way: Way, monkeypatch: Any) -> None:
    """A disk that fills during the checkpoint behind a transaction must not double records without a key."""
    way.submit(record(add=ADD))
    written = way.store.state.write

    def write_and_fail(result: FoldResult) -> None:
        written(result)
        raise StoreError("no disk left for the checkpoint")

    with monkeypatch.context() as patched:
        patched.setattr(way.store.state, "write", write_and_fail)
        with pytest.raises(StoreError):
            way.fold.step()
    way.fold_all()
    assert way.profile() == {"n": 1}


def test_mutant_a_watermark_in_a_transaction_of_its_own_loses_records(way: Way, monkeypatch: Any) -> None:
    """The test above can fail: here the watermark is committed first, and the record is gone."""
    way.submit(record(add=ADD))
    written = way.store.state.write

    def watermark_first(result: FoldResult) -> None:
        written(FoldResult(result.watermark, [], [], result.now_ms))
        raise StoreError("no more disk")

    monkeypatch.setattr(way.store.state, "write", watermark_first)
    with pytest.raises(StoreError):
        way.fold.step()
    monkeypatch.setattr(way.store.state, "write", written)
    way.fold = ProfileFold(way.store)
    way.fold_all()
    assert way.profile() is None


def test_mutant_unchecked_keys_count_a_retry_twice(way: Way, monkeypatch: Any) -> None:
    monkeypatch.setattr(way.fold, "_known", lambda *_: {})
    way.submit(record(add=ADD, insert_id="i"))
    way.fold_all()
    way.submit(record(add=ADD, insert_id="i"))
    way.fold_all()
    assert way.profile() == {"n": 2}


def test_an_operator_that_raises_stops_neither_its_profile_nor_its_neighbours(way: Way) -> None:
    def apply_or_raise(doc: Any, operations: Any, **options: Any) -> Any:
        if any(payload == {"boom": 1} for _, payload in operations):
            raise ZeroDivisionError("a fault of ours")
        return apply_operations(doc, operations, **options)

    way.fold = ProfileFold(way.store, apply=apply_or_raise)
    way.submit(
        record(add=ADD), record(set={"boom": 1}, time=1768392000), record(add=ADD), record("u2", add=ADD)
    )
    folded = way.fold.step()
    assert folded is not None
    assert folded.failed == 1
    assert (way.profile("u1"), way.profile("u2")) == ({"n": 2}, {"n": 1})
    [refusal] = way.store.refusals.listing([way.project.id])
    assert refusal.message == "internal error at position 1: ZeroDivisionError"
    assert refusal.whole


def test_a_record_set_aside_by_a_fault_can_be_sent_again_once_the_fault_is_mended(way: Way) -> None:
    def always_raise(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    way.fold = ProfileFold(way.store, apply=always_raise)
    way.submit(record(union={"tags": ["a"]}))
    way.fold_all()
    assert way.profile() is None
    way.fold = ProfileFold(way.store)
    [refusal] = way.store.refusals.listing([way.project.id])
    assert resend(way.store, rules_of(Settings()), [refusal.id]) == [(refusal.id, "")]
    way.fold_all()
    assert way.profile() == {"tags": ["a"]}
    assert way.store.refusals.listing(None) == []


def test_a_chunk_that_cannot_be_decoded_is_set_aside_whole_and_the_rest_goes_on(way: Way) -> None:
    way.submit(record(set={"a": 1}))
    with way.store.log.turn() as turn:
        turn.append([Append(b'["engage","",null', 3, b"")], way.now_ms)
    way.submit(record(set={"b": 2}))
    assert way.fold_all() == 5
    assert way.profile() == {"a": 1, "b": 2}
    [(first, count, _reason)] = way.store.log.damaged()
    assert (first, count) == (1, 3)


def test_records_of_one_request_and_of_requests_in_turn_apply_in_order(way: Way) -> None:
    way.submit(record(delete=""), record(set={"a": 1}), record(append={"l": 1}))
    way.submit(record(append={"l": 2}), record(append={"l": 3}))
    way.submit(record(unset=["a"]), record(append={"l": 4}))
    way.fold_all()
    assert way.profile() == {"l": [1, 2, 3, 4]}


def test_a_resend_cut_off_before_it_was_noted_counts_once_when_repeated(way: Way, monkeypatch: Any) -> None:
    way.submit({"$token": "NOPE", "$distinct_id": "u1", "$add": ADD})
    [refusal] = way.store.refusals.listing(None)
    rules = rules_of(Settings())

    def cut_off(_ids: Any) -> int:
        raise StoreError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(way.store.refusals, "remove", cut_off)
        with pytest.raises(StoreError):
            resend(way.store, rules, [refusal.id], token="TOK")
    assert resend(way.store, rules, [refusal.id], token="TOK") == [(refusal.id, "")]
    assert way.fold_all() == 2
    assert way.profile() == {"n": 1}
