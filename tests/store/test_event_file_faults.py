"""A fault between a file of events and its commit costs no event, and leaves no file that nobody lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import apsw
import pytest

from mixdown.model.errors import StoreError
from tests.store.support import NOW_MS
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


@pytest.mark.parametrize("fault", ["commit", "written"])
def test_a_full_disk_is_not_filled_by_trying_again(opened: Held, fault: str) -> None:
    def fail(name: str = "commit") -> None:
        if name == fault:
            raise StoreError("events.db cannot grow")

    write(opened, [event(n) for n in range(3)], [event(n) for n in range(3, 6)])
    opened.events.before_commit = opened.events.at_step = fail
    for _ in range(3):
        with pytest.raises(StoreError):
            opened.events.tend(busy=False, now_ms=NOW_MS)
        with pytest.raises(StoreError):
            write(opened, [event(n) for n in range(6, 12)])
    assert on_disk(opened) == set()
    opened.events.before_commit = opened.events.at_step = None
    write(opened, [event(n) for n in range(6, 12)])
    tend(opened)
    assert stored(opened) == [event(n) for n in range(12)]


def test_a_file_stays_that_a_commit_lists_though_it_raises(
    opened: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk is full for the checkpoint behind the commit."""
    listing: Any = opened.events.listing
    writing: Callable[[], AbstractContextManager[Any]] = listing._writing

    @contextmanager
    def full_behind() -> Iterator[Any]:
        with writing() as writer:
            yield writer
        raise StoreError("events.db cannot grow") from apsw.FullError("database or disk is full")

    write(opened, [event(n) for n in range(3)], [event(n) for n in range(3, 6)])
    monkeypatch.setattr(listing, "_writing", full_behind)
    with pytest.raises(StoreError):
        opened.events.tend(busy=False, now_ms=NOW_MS)
    with pytest.raises(StoreError):
        write(opened, [event(n) for n in range(6, 12)])
    monkeypatch.undo()
    assert stored(opened) == [event(n) for n in range(12)]
