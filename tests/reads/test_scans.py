"""Reads that look through all profiles have threads of their own, so that quick ones do not wait for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from mixdown.http.app import make_app
from mixdown.store.selection import Selection
from tests.engine import plain_store
from tests.reads.support import ENGAGE, World, ids_of

LIST = "/api/query/cohorts/list"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, threading.Event]]:
    """A server whose filters stand still until the event is set."""
    world = World(plain_store())
    world.store_users(["ada", "bob"])
    go_on = threading.Event()
    matching, tally = world.store.state.matching, world.store.state.tally

    def slow_matching(project: int, group_key: str, selection: Selection) -> Any:
        go_on.wait(60)
        return matching(project, group_key, selection)

    def slow_tally(project: int, group_key: str, selections: Any) -> Any:
        go_on.wait(60)
        return tally(project, group_key, selections)

    monkeypatch.setattr(world.store.state, "matching", slow_matching)
    monkeypatch.setattr(world.store.state, "tally", slow_tally)
    with ThreadPoolExecutor(1) as reads, ThreadPoolExecutor(1) as scans:
        world.app = make_app(replace(world.services, executor=reads, scans=scans))
        world.http._transport.app = world.app  # type: ignore[attr-defined] # the application behind it
        yield world, go_on
        go_on.set()
    world.close()


def test_a_quick_read_does_not_wait_for_filters(held: tuple[World, threading.Event]) -> None:
    world, go_on = held

    async def all_of_them() -> list[Any]:
        slow = [
            asyncio.ensure_future(world.ask(ENGAGE, params={"where": f'properties["n"] == {number}'}))
            for number in range(3)
        ]
        slow.append(asyncio.ensure_future(world.ask(LIST)))
        await asyncio.sleep(0.05)
        quick = await asyncio.wait_for(asyncio.ensure_future(world.ask(f"{ENGAGE}?distinct_id=bob")), 10)
        assert ids_of(quick.json()) == ["bob"]
        go_on.set()
        return [reply.json() for reply in await asyncio.gather(*slow)]

    first, second, third, cohorts = world.loop.run_until_complete(all_of_them())
    assert [ids_of(each) for each in (first, second, third)] == [["ada"], ["bob"], []]
    assert cohorts == []
