"""Decoded bodies are bounded together, and no request waits for ever."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mixdown.http.room import SMALL_BYTES, Room
from mixdown.ingest.prepare import Submission
from mixdown.store.chunk import Outcome
from tests.http_writes.worker import running

Submit = Callable[[Submission], Awaitable[Outcome]]


def test_requests_are_let_in_while_there_is_room_and_all_get_their_turn() -> None:
    room = Room(limit_bytes=100)
    most = 0
    done = 0

    async def request(size: int, seconds: float) -> None:
        nonlocal most, done
        taken = 0
        try:
            await room.wait()
            taken = size
            room.take(taken)
            most = max(most, room.held_bytes)
            await asyncio.sleep(seconds)
        finally:
            room.leave(taken)
        done += 1

    async def all_at_once() -> None:
        chance = random.Random(1)
        await asyncio.gather(*[request(chance.randrange(40), chance.random() / 1000) for _ in range(1000)])

    asyncio.run(asyncio.wait_for(all_at_once(), 30))
    assert done == 1000
    assert 100 <= most < 140
    assert room.held_bytes == 0


@pytest.mark.parametrize("wakes_first", [False, True])
def test_a_request_that_goes_away_while_it_waits_gives_its_turn_on(wakes_first: bool) -> None:
    async def play() -> None:
        room = Room(limit_bytes=1)
        room.take(1)

        async def request() -> None:
            try:
                await room.wait()
            finally:
                room.leave(0)

        waiting = [asyncio.ensure_future(request()) for _ in range(10)]
        await asyncio.sleep(0)
        if wakes_first:
            room.leave(1)
        for one in waiting[:9]:
            one.cancel()
        if not wakes_first:
            room.leave(1)
        await asyncio.wait_for(waiting[9], 5)

    asyncio.run(play())


def test_a_body_counts_with_its_unfolded_size_until_its_records_are_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for worker in running():
        room = Room()
        app: Any = worker.app
        monkeypatch.setattr(app._ingestion, "_room", room)
        submit = worker.ingest.submit
        held: list[int] = []

        async def watched(
            submission: Submission, submit: Submit = submit, held: list[int] = held, room: Room = room
        ) -> Outcome:
            held.append(room.held_bytes)
            return await submit(submission)

        monkeypatch.setattr(worker.ingest, "submit", watched)
        plain = b'{"$token":"TOK","$distinct_id":"a","$set":{},"junk":[%b0]}' % (b"0," * 100_000)
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        assert worker.ask("POST", "/engage", gzip.compress(plain), headers).body == b"1"
        assert worker.ask("POST", "/engage", b"[", headers).status == 400
        assert held == [len(plain)]
        assert room.held_bytes == 0


def test_small_requests_do_not_wait_for_large_ones() -> None:
    async def play() -> None:
        room = Room(limit_bytes=100)
        room.take(150)
        await asyncio.wait_for(room.wait(SMALL_BYTES), 1)
        large = asyncio.ensure_future(room.wait(SMALL_BYTES + 1))
        await asyncio.sleep(0)
        assert not large.done()
        room.take(50)
        small = asyncio.ensure_future(room.wait(1))
        await asyncio.sleep(0)
        assert not small.done(), "their own room has an end too"
        room.leave(50)
        await asyncio.wait_for(small, 1)
        assert not large.done()
        room.leave(150)
        await asyncio.wait_for(large, 1)

    asyncio.run(play())
