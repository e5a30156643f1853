"""Events in files survive whoever writes them: a process that dies between any two steps."""

from __future__ import annotations

import pytest

from tests.store.support import DAY_MS, NOW_MS
from tests.store.test_event_files import (
    Held,
    Home,
    event,
    expected,
    forms,
    home,
    new_home,
    on_disk,
    small_sizes,
    stored,
    tend,
    write,
)

__all__ = ["home", "new_home", "small_sizes"]


class Died(Exception):  # noqa: N818 - what happens to the process, not an error of the store
    """A process that ends between two steps."""


@pytest.mark.parametrize(
    "deaths",
    [7, pytest.param(150, marks=pytest.mark.slow)],
)
def test_whoever_dies_at_any_point_leaves_what_was_written(home: Home, deaths: int) -> None:
    written = [event(n, NOW_MS + (n % 3) * DAY_MS) for n in range(30)]
    ids = [{"insert_id": f"i{n}", "distinct_id": f"user {n % 5}"} for n in range(10)]
    written += [event(30 + n, NOW_MS + n + (n % 3) * DAY_MS, **ids[n]) for n in range(10)]
    batches = [written[start : start + 5] for start in range(0, 40, 5)]
    done = 0
    for death in range(deaths):
        store = home.open()
        assert store.events.watermark() == 5 * done
        assert stored(store) == expected(written[: 5 * done])
        die_in(store, death % 7)
        try:
            for piece in range(100):
                if done < len(batches):
                    write(store, batches[done])
                    done += 1
                store.events.tend(busy=False, now_ms=NOW_MS + (10 * death + piece) * DAY_MS // 100)
        except Died:
            done = store.events.watermark() // 5
        finally:
            store.events.close()
    store = home.open()
    write(store, *batches[done:])
    for days in range(20, 24):
        tend(store, now_ms=NOW_MS + (deaths + days) * DAY_MS)
    assert stored(store) == expected(written)
    assert forms(store) == (0, 0, 3)
    assert len(on_disk(store)) == 3, "no stray is left"
    store.events.close()


def die_in(store: Held, points: int) -> None:
    """Let it die after so many points: steps of what happens to files, and commits."""
    left = iter(range(points))

    def die(name: str = "") -> None:
        del name
        if next(left, None) is None:
            raise Died

    store.events.at_step = die
    store.events.before_commit = die
