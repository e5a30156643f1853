"""How long the events reader rests between steps: the busier the log, the fewer and larger its steps."""

from __future__ import annotations

import pytest

from mixdown.fold.events_loop import GATHERING_S, LONGEST_REST_S, SHORTEST_REST_S, Pace
from mixdown.store.event_upkeep import CLOSED_EVENTS


def simulate(rate: float, *, batch: int, seconds: float, cost_s: float = 0.005) -> list[int]:
    """The events of each step while batches come in at so many events a second."""
    pace, now, taken, steps = Pace(), 0.0, 0, list[int]()
    while now < seconds:
        arrived = int(rate * now / batch) * batch
        events, taken = arrived - taken, arrived
        if not events:
            pace.rested()
            now += 0.001
            continue
        now += cost_s + events * 4e-6
        steps.append(events)
        now += pace.rest_after(events, cost_s + events * 4e-6, now)
    return steps


def test_the_first_of_a_row_is_followed_by_the_shortest_rest() -> None:
    assert Pace().rest_after(1, 0.001, 5.0) == SHORTEST_REST_S


def test_small_requests_gather_for_no_longer_than_a_read_will_not_notice() -> None:
    steps = simulate(2_000, batch=1, seconds=10)
    assert max(steps) <= 2_000 * (LONGEST_REST_S + 0.02)
    assert len(steps) < 10 / LONGEST_REST_S * 1.3


def test_whoever_writes_and_reads_in_turn_never_waits_for_others() -> None:
    """Each request comes when the one before it can be read: nothing waits, so nothing gathers."""
    pace = Pace()
    for number in range(50):
        pace.rested()
        assert pace.rest_after(1, 0.003, 1.0 + number * 0.01) == SHORTEST_REST_S


def test_one_large_import_is_taken_at_once() -> None:
    pace = Pace()
    assert [pace.rest_after(2_000, 0.02, 5.0 + each * 0.03) for each in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("rate", [60_000, 100_000])
def test_under_load_a_step_is_large_enough_for_a_file_of_its_own(rate: int) -> None:
    steps = simulate(rate, batch=2_000, seconds=20)
    assert sum(events for events in steps if events >= CLOSED_EVENTS) > 0.9 * sum(steps)
    assert max(steps) < 3 * CLOSED_EVENTS


def test_where_files_would_take_too_long_to_fill_nobody_waits_for_them() -> None:
    rate = int(CLOSED_EVENTS / GATHERING_S * 0.8)
    assert max(simulate(rate, batch=500, seconds=20)) < CLOSED_EVENTS / 2


def test_a_large_backlog_is_taken_without_rest() -> None:
    pace = Pace()
    assert [pace.rest_after(60_000, 0.5, 1.0 + each / 2) for each in range(4)] == [0.0] * 4
