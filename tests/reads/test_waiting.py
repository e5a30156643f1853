"""Read your writes, within a bound (DESIGN G4): reads wait for the fold, and say when it is behind."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from mixdown.model.errors import StoreError
from mixdown.query import waiting
from mixdown.store.chunk import FOR_ALL, FOR_EVENTS, FOR_PROFILES, encode_events, encode_filter
from mixdown.store.events import EventsWrite
from mixdown.store.protocols import Append
from tests.reads.support import ENGAGE, READ_WAIT_MS, World, ids_of, names, user


def timed(world: World, **headers: str) -> tuple[Any, float]:
    started = time.perf_counter()
    reply = world.get(ENGAGE, headers=headers)
    return reply, time.perf_counter() - started


def test_a_read_answers_at_once_when_nothing_waits(world: World) -> None:
    world.store_users(["ada"])
    reply, _ = timed(world)
    assert "x-mixdown-behind" not in reply.headers


def test_past_the_bound_a_read_answers_and_says_how_far_it_is_behind(world: World) -> None:
    world.store_users(["ada"])
    world.send(user("bob"), user("cyd"), user("dan"))
    reply, took_s = timed(world)
    assert reply.status_code == 200
    assert reply.headers["x-mixdown-behind"] == "3"
    assert ids_of(reply.json()) == ["ada"]
    assert took_s >= READ_WAIT_MS / 1000, "it waited for the whole bound"


@pytest.mark.parametrize(("asked", "waits"), [("0", False), ("1", False), ("600000", True), ("junk", True)])
def test_the_header_shortens_the_wait_and_never_stretches_it(world: World, asked: str, waits: bool) -> None:
    world.send(user("bob"))
    reply, took_s = timed(world, **{"X-Mixdown-Wait": asked})
    assert reply.headers["x-mixdown-behind"] == "1"
    assert (took_s >= READ_WAIT_MS / 1000) == waits or took_s > READ_WAIT_MS / 1000, (
        "a busy machine may take longer, never less"
    )
    assert took_s < 30


def test_a_read_that_waits_sees_what_was_stored_before_it(world: World) -> None:
    world.send(*[user(name) for name in names(50)])

    async def fold_soon() -> Any:
        await asyncio.sleep(0.015)
        await asyncio.to_thread(world.fold_all)

    async def both() -> Any:
        reply, _ = await asyncio.gather(world.ask(ENGAGE), fold_soon())
        return reply

    reply = world.loop.run_until_complete(both())
    assert ids_of(reply.json()) == names(50)
    assert "x-mixdown-behind" not in reply.headers


def test_records_that_arrive_while_a_read_waits_do_not_prolong_it(world: World) -> None:
    world.send(user("before"))

    async def fold_then_more() -> None:
        await asyncio.sleep(0.01)
        await asyncio.to_thread(world.fold_all)
        await world.http.post("/engage", json=[user("after")])

    async def both() -> int:
        behind, _ = await asyncio.gather(world.services.watch.wait(10_000), fold_then_more())
        return behind

    assert world.loop.run_until_complete(both()) == 0
    assert "before" in ids_of(world.page())


def test_health_does_not_wait_for_reads_that_take_long(world: World) -> None:
    """Kubernetes ends a server whose `/readyz` is late; slow first pages fill the threads of reads."""
    done = threading.Event()
    busy = [world.services.executor.submit(done.wait, 5) for _ in range(64)]
    try:
        assert world.get("/readyz", user=None).status_code == 200
    finally:
        done.set()
    assert all(one.result() for one in busy)


def test_however_many_reads_wait_one_looks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.send(user("late"))
    looks: list[int] = []
    state = type(world.services.store.state)
    watermark = state.watermark

    def counted(self: Any) -> int:
        looks.append(1)
        return int(watermark(self))

    monkeypatch.setattr(state, "watermark", counted)
    watch = world.services.watch

    async def many() -> list[int]:
        return list(await asyncio.gather(*[watch.wait(READ_WAIT_MS) for _ in range(100)]))

    assert world.loop.run_until_complete(many()) == [1] * 100
    longest_pauses = READ_WAIT_MS / 3 + 20
    assert len(looks) <= 200 + longest_pauses, "each looks when it comes and when it gives up, no more"


def test_a_store_that_fails_fails_the_reads_that_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.send(user("late"))
    store: Any = type(world.services.store)
    places = store.places
    looks: list[int] = []

    def fails_later(self: Any, *given: Any) -> Any:
        looks.append(1)
        if len(looks) > 2:
            raise StoreError("the disk is gone")
        return places(self, *given)

    monkeypatch.setattr(store, "places", fails_later)
    with pytest.raises(StoreError, match="the disk is gone"):
        world.loop.run_until_complete(world.services.watch.wait(5000))
    monkeypatch.setattr(store, "places", places)
    assert world.loop.run_until_complete(world.services.watch.wait(1)) == 1, "and the next one looks anew"


def test_a_read_waits_for_the_readers_it_depends_on_and_for_no_other(world: World) -> None:
    """Records of events alone never hold up a read of profiles, nor updates one of events."""
    watch = world.services.watch
    world.store_users(["ada"])
    assert world.loop.run_until_complete(watch.wait(0, FOR_EVENTS)) == 0
    with world.store.log.turn() as turn:
        segment = encode_events("track", "", None, None, (), [b'[1,{"event":"a"}]'])
        turn.append([Append(segment, 1, encode_filter(["ada"]), kinds=FOR_EVENTS)], world.now_ms)
    assert world.loop.run_until_complete(watch.wait(0, FOR_PROFILES)) == 0
    assert world.loop.run_until_complete(watch.wait(1, FOR_EVENTS)) == 1
    assert world.loop.run_until_complete(watch.wait(1, FOR_ALL)) == 1
    head = world.store.log.head()
    world.fold_store.events.write(EventsWrite(head, [], [], world.now_ms))
    assert world.loop.run_until_complete(watch.wait(READ_WAIT_MS, FOR_ALL)) == 0


def behind(world: World, target: str = ENGAGE, **parameters: Any) -> str | None:
    """How far behind a read that does not wait says it is."""
    reply = world.get(target, params=parameters, headers={"X-Mixdown-Wait": "0"})
    assert reply.status_code == 200, reply.text
    held: str | None = reply.headers.get("x-mixdown-behind")
    return held


@pytest.mark.parametrize(
    ("parameters", "waits"),
    [
        ({}, True),
        ({"distinct_id": "ada"}, False),
        ({"distinct_ids": '["ada","nobody"]'}, False),
        ({"distinct_id": "late"}, True),
        ({"distinct_ids": '["ada","late"]'}, True),
        ({"distinct_id": "ada", "session_id": "of a frozen set"}, True),
        ({"distinct_ids": str([f"n{each}" for each in range(101)]).replace("'", '"')}, True),
        ({"where": 'properties["n"] == 1'}, True),
    ],
    ids=str,
)
def test_a_read_of_named_profiles_waits_for_what_may_concern_them_alone(
    world: World, parameters: dict[str, str], waits: bool
) -> None:
    world.store_users(["ada"])
    world.send(user("late"), user("later"))
    assert behind(world, **parameters) == ("2" if waits else None)


@pytest.mark.parametrize(("one", "waits"), [("ada", None), ("late", "1")])
def test_a_read_of_history_waits_for_what_may_concern_its_profile_alone(
    world: World, one: str, waits: str | None
) -> None:
    world.store_users(["ada"])
    world.send(user("late"))
    assert behind(world, "/api/mixdown/history", distinct_id=one) == waits


def test_more_chunks_than_are_looked_at_at_once_are_all_looked_at(world: World) -> None:
    world.store_users(["ada"])
    for number in range(450):
        with world.store.log.turn() as turn:
            turn.append([Append(b"", 1, encode_filter([f"n{number}"]))], world.now_ms)
    assert behind(world, distinct_id="ada") is None
    assert behind(world, distinct_id="n449") == "450"


def test_a_backlog_is_not_looked_through(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.store_users(["ada"])
    world.send(user("late"), user("later"))
    assert behind(world, distinct_id="ada") is None
    monkeypatch.setattr(waiting, "_LOOKED_LIMIT", 1)
    assert behind(world, distinct_id="ada") == "2"
