"""Idempotency keys: their window of 7 days or 50 M, by chunk time (DESIGN G2). For every store."""

from __future__ import annotations

import pytest

from mixdown.store import bounds
from mixdown.store.chunk import Outcome
from mixdown.store.protocols import State
from tests.store.support import DAY_MS, NOW_MS, WEEK_MS, key, write

OUTCOME = Outcome(3, 1, ((0, "$set", "must be an object"), (2, "", "too large")))


def known(state: State, *numbers: int, since_ms: int = 0) -> dict[int, Outcome | None]:
    found = state.known_keys([key(number) for number in numbers], since_ms=since_ms)
    return {int.from_bytes(name, "big"): outcome for name, outcome in found.items()}


def test_a_new_state_knows_no_key(state: State) -> None:
    assert known(state, 1, 2) == {}
    assert state.known_keys([], since_ms=0) == {}
    assert state.key_window() == (0, 0)


def test_keys_come_back_with_their_outcomes(state: State) -> None:
    write(
        state, keys=[(key(1), NOW_MS, OUTCOME), (key(2), NOW_MS, None), (key(3), NOW_MS + 1, Outcome(1, 1))]
    )
    assert known(state, 1, 2, 3, 4) == {1: OUTCOME, 2: None, 3: Outcome(1, 1)}
    assert state.key_window() == (3, NOW_MS)


def test_only_keys_since_the_asked_chunk_time_are_known(state: State) -> None:
    times = {1: NOW_MS, 2: NOW_MS + 1, 3: NOW_MS + DAY_MS, 4: NOW_MS + 2 * DAY_MS}
    write(state, keys=[(key(number), time_ms, None) for number, time_ms in times.items()], now_ms=times[4])
    assert set(known(state, 1, 2, 3, 4, since_ms=NOW_MS)) == {1, 2, 3, 4}
    assert set(known(state, 1, 2, 3, 4, since_ms=NOW_MS + 1)) == {2, 3, 4}
    assert set(known(state, 1, 2, 3, 4, since_ms=NOW_MS + DAY_MS)) == {3, 4}
    assert set(known(state, 1, 2, 3, 4, since_ms=NOW_MS + DAY_MS + 1)) == {4}


def test_a_key_is_held_for_seven_days_of_chunk_time_and_then_goes(state: State) -> None:
    write(state, keys=[(key(1), NOW_MS, None)])
    write(state, keys=[(key(2), NOW_MS + WEEK_MS, None)], now_ms=NOW_MS + WEEK_MS)
    assert set(known(state, 1, 2, since_ms=NOW_MS)) == {1, 2}
    later = NOW_MS + WEEK_MS + 2 * DAY_MS
    write(state, keys=[(key(3), later, None)], now_ms=later)
    assert set(known(state, 1, 2, 3)) == {2, 3}, "gone, even when asked without a time"
    assert state.key_window() == (2, NOW_MS + WEEK_MS)


def test_a_key_written_again_after_its_window_counts_from_then(state: State) -> None:
    write(state, keys=[(key(1), NOW_MS, OUTCOME)])
    later = NOW_MS + WEEK_MS + 5
    write(state, keys=[(key(1), later, None)], now_ms=later)
    assert known(state, 1, since_ms=NOW_MS + 5) == {1: None}
    assert known(state, 1) == {1: None}, "the newest outcome counts"


def test_past_the_bound_the_oldest_keys_go(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "KEYS_HELD", 80)
    monkeypatch.setattr(bounds, "KEYS_PER_BUCKET", 10)
    for number in range(100):
        write(state, keys=[(key(number), NOW_MS + number, None)], now_ms=NOW_MS + number)
    held, oldest = state.key_window()
    left = sorted(known(state, *range(100)))
    assert held == len(left)
    assert 70 < held <= 80, "a store may drop an eighth at once"
    assert left == list(range(100 - held, 100))
    assert oldest == NOW_MS + left[0]


def test_keys_of_browsers_calls_take_no_room_from_those_of_retries(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do buckets that were dropped while newer ones are counted."""
    monkeypatch.setattr(bounds, "KEYS_HELD", 80)
    monkeypatch.setattr(bounds, "KEYS_PER_BUCKET", 10)
    monkeypatch.setattr(bounds, "CALL_KEYS_HELD", 40)
    monkeypatch.setattr(bounds, "CALL_KEYS_PER_BUCKET", 5)
    calls = [number.to_bytes(bounds.CALL_KEY_BYTES, "big") for number in range(200)]
    for number in range(60):
        write(state, keys=[(key(number), NOW_MS, None)])
    for call in calls:
        write(state, keys=[(call, NOW_MS, None)])
    assert set(known(state, *range(60))) == set(range(60))
    assert state.key_window() == (60, NOW_MS)
    left = state.known_keys(calls, since_ms=0)
    assert 30 < len(left) <= 40
    assert sorted(left) == calls[-len(left) :]


def test_keys_of_many_days_in_one_write_are_all_kept(state: State) -> None:
    keys = [(key(number), NOW_MS + number * 3600 * 1000, None) for number in range(150)]
    write(state, keys=keys, now_ms=keys[-1][1])
    assert set(known(state, *range(150))) == set(range(150))
    assert state.key_window() == (150, NOW_MS)


def test_thousands_of_keys_are_looked_up_in_one_call(state: State) -> None:
    write(state, keys=[(key(number), NOW_MS, None) for number in range(5000)])
    assert set(known(state, *range(4000, 9000))) == set(range(4000, 5000))
