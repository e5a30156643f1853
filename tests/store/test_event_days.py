"""Days of events that are kept no longer are dropped, each as a whole, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixdown.store.duck.writing import day_name
from mixdown.store.event_upkeep import Upkeep
from mixdown.store.events import FIRST_MS, LAST_MS
from tests.store.support import DAY_MS, NOW_MS
from tests.store.test_event_files import (
    Held,
    event,
    home,
    new_home,
    on_disk,
    opened,
    small_sizes,
    stored,
    tend,
    write,
)

__all__ = ["home", "new_home", "opened", "small_sizes"]

TODAY = NOW_MS // DAY_MS


def test_days_that_are_kept_no_longer_are_dropped_and_their_files_go_after_a_grace(opened: Held) -> None:
    told: list[tuple[int, str]] = []
    written = [event(n, NOW_MS - (n % 4) * DAY_MS) for n in range(16)]
    write(opened, written)
    tend(opened)
    assert stored(opened) == written, "all are kept where no number is set"
    held = opened.events.parts(stored_project(opened), FIRST_MS, LAST_MS)
    opened.events.keep_for(2, lambda *what: told.append(what))
    tend(opened, now_ms=NOW_MS + 1)
    assert stored(opened) == [one for one in written if one["time"] // DAY_MS >= TODAY - 2]
    assert told == [(4, day_name(TODAY - 2))]
    assert all(Path(file.path).exists() for file in held.files), "a read may have them on its list"
    tend(opened, now_ms=NOW_MS + 1 + opened.events.grace_ms)
    assert {Path(name).parts[1] for name in on_disk(opened)} == {day_name(TODAY - day) for day in range(3)}


def test_a_day_goes_when_the_last_moment_of_it_is_too_old_and_not_before(opened: Held) -> None:
    written = [event(n, NOW_MS - 3 * DAY_MS) for n in range(4)]
    write(opened, written)
    tend(opened)
    opened.events.keep_for(3)
    tend(opened, now_ms=(TODAY + 1) * DAY_MS - 1)
    assert stored(opened) == written
    tend(opened, now_ms=(TODAY + 1) * DAY_MS)
    assert stored(opened) == []


def test_late_events_go_once_they_are_filed_and_their_neighbours_stay(opened: Held) -> None:
    opened.events.keep_for(2)
    late = [event(n, NOW_MS - 30 * DAY_MS * (n % 2)) for n in range(8)]
    write(opened, late)
    tend(opened)
    assert [one["position"] for one in stored(opened)] == [0, 2, 4, 6]


def test_a_mutant_that_counts_a_day_too_few_is_noticed(opened: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that the tests above must catch: the day that is just kept goes."""
    expire = Upkeep._expire

    def early(upkeep: Upkeep, now_ms: int) -> bool:
        return expire(upkeep, now_ms + DAY_MS)

    monkeypatch.setattr(Upkeep, "_expire", early)
    with pytest.raises(AssertionError):
        test_a_day_goes_when_the_last_moment_of_it_is_too_old_and_not_before(opened)


def stored_project(held: Held) -> int:
    (project,) = held.events.projects()
    return project
