"""Reads end in time, equal ones share an answer, and pages are bounded in bytes as well as in number."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixdown.model.errors import ReadTimeoutError
from mixdown.query.counts import profiles_of
from mixdown.query.engage import ProfileQueries, ProfileQuery
from mixdown.query.refused import PAGE_LIMIT_BYTES, refusals_page
from mixdown.query.sharing import Shared
from mixdown.store import patience
from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import FoldResult, RefusedRecord, Session, Store
from tests.engine import open_store

MIB = 1024 * 1024


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "data", role="fold", create=True)
    yield opened
    opened.close()


def with_profiles(store: Store, count: int, watermark: int = 0) -> Store:
    rows = [((1, "", f"user-{number:07d}"), b'{"n":1}') for number in range(count)]
    store.state.write(FoldResult(watermark, rows, [], 0))
    return store


def over() -> float:
    """A deadline that has passed."""
    return time.monotonic() - 1


# --- time


def test_a_read_whose_time_is_over_before_its_turn_comes_does_not_begin() -> None:
    with pytest.raises(ReadTimeoutError, match="longer than 7 s"), patience.until(over(), 7):
        pytest.fail("it began")


def test_a_statement_is_ended_when_its_time_is_over(store: Store) -> None:
    with_profiles(store, 200_000)
    with patience.until(time.monotonic() + 30, 30):
        assert store.state.count(1, "") == 200_000
    began = time.monotonic()
    with patience.until(time.monotonic() + 0.001, 0.001), pytest.raises(ReadTimeoutError):
        store.state.count(1, "")
    assert time.monotonic() - began < 30
    assert store.state.count(1, "") == 200_000, "a thread without a deadline is not held to an old one"


def test_the_deadline_of_one_thread_is_not_that_of_another(store: Store) -> None:
    counted = []
    with patience.until(time.monotonic() + 0.001, 0.001):
        time.sleep(0.01)
        other = threading.Thread(target=lambda: counted.append(store.state.count(1, "")))
        other.start()
        other.join()
    assert counted == [0]


def test_a_session_whose_making_took_too_long_leaves_nothing_behind(store: Store) -> None:
    session = Session("s", 1, "", 0, 10, 1000)

    def ids() -> Iterator[str]:
        for number in range(100_000):
            if number == 50_000:
                time.sleep(0.06)
            yield f"user-{number}"

    with pytest.raises(ReadTimeoutError), patience.until(time.monotonic() + 0.05, 0.05):
        store.sessions.create(session, ids())
    assert store.sessions.get("s", 1, now_ms=1000) is None
    assert store.sessions.page_ids("s", 0) == []
    assert store.sessions.create(session, ["a", "b"]).total == 2
    assert store.sessions.page_ids("s", 0) == ["a", "b"]


def test_a_profile_query_ends_in_time_and_can_be_asked_again(store: Store) -> None:
    queries = ProfileQueries(with_profiles(store, 100_000))
    query = ProfileQuery(project=1)
    with pytest.raises(ReadTimeoutError), patience.until(time.monotonic() + 0.01, 0.01):
        queries.answer(query, now_ms=1)
    assert b'"total":100000' in queries.answer(query, now_ms=1)


# --- sharing


def test_equal_questions_share_one_answer_that_is_begun_after_all_of_them() -> None:
    begun: list[float] = []

    async def play() -> None:
        shared: Shared[int] = Shared()

        async def begin() -> int:
            begun.append(time.monotonic())
            await asyncio.sleep(0.05)
            return len(begun)

        first = asyncio.ensure_future(shared.answer("a", begin))
        await asyncio.sleep(0.01)
        late = time.monotonic()
        answers = await asyncio.gather(first, *[shared.answer("a", begin) for _ in range(100)])
        assert answers == [1] + [2] * 100
        assert begun[1] > late, "an answer begun before a question came is not given to it"
        assert await shared.answer("a", begin) == 3

    asyncio.run(play())


def test_different_questions_do_not_wait_for_each_other_and_faults_are_told_to_all() -> None:
    async def play() -> None:
        shared: Shared[int] = Shared()

        async def fails() -> int:
            await asyncio.sleep(0.01)
            raise ReadTimeoutError.after(1)

        async def works() -> int:
            return 7

        failing = [asyncio.ensure_future(shared.answer("a", fails)) for _ in range(3)]
        await asyncio.sleep(0)
        assert await shared.answer("b", works) == 7
        assert all(
            isinstance(end, ReadTimeoutError)
            for end in await asyncio.gather(*failing, return_exceptions=True)
        )
        assert await shared.answer("a", works) == 7

    asyncio.run(play())


def test_a_question_that_goes_away_takes_nobody_s_answer_with_it() -> None:
    async def play() -> None:
        shared: Shared[int] = Shared()

        async def begin() -> int:
            await asyncio.sleep(0.02)
            return 1

        gone, stays = (asyncio.ensure_future(shared.answer("a", begin)) for _ in range(2))
        await asyncio.sleep(0.001)
        gone.cancel()
        assert await stays == 1

    asyncio.run(play())


# --- counts


def test_a_count_is_exact_as_of_its_watermark_and_not_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    state = with_profiles(MemoryStore(), 3, watermark=1).state
    counted: list[tuple[int, str]] = []
    count = state.count

    def counting(project: int, group_key: str) -> int:
        counted.append((project, group_key))
        return count(project, group_key)

    monkeypatch.setattr(state, "count", counting)
    assert [profiles_of(state, 1, "") for _ in range(5)] == [3] * 5
    assert len(counted) == 1
    state.write(FoldResult(2, [((1, "", "new"), b"{}")], [], 0))
    time.sleep(0.01)  # many times what counting three took
    assert profiles_of(state, 1, "") == 4
    assert profiles_of(state, 2, "") == 0


def test_a_count_that_takes_long_is_kept_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    state = MemoryStore().state

    def slow_count(*_: object) -> int:
        time.sleep(0.05)
        return state.watermark()

    monkeypatch.setattr(state, "count", slow_count)
    assert profiles_of(state, 1, "") == 0
    state.write(FoldResult(9, [], [], 0))
    assert profiles_of(state, 1, "") == 0
    give_up = time.monotonic() + 90
    while profiles_of(state, 1, "") != 9:
        assert time.monotonic() < give_up, "it is not kept for good"
        time.sleep(0.1)


# --- refusals


def refused(record: str) -> RefusedRecord:
    return RefusedRecord(1, "engage", 0, "", "no", record, whole=True)


def test_a_page_of_refusals_is_cut_by_bytes_and_the_pages_together_are_all_of_them() -> None:
    store = MemoryStore()
    store.refusals.add([refused("x" * MIB) for _ in range(30)], 1)
    store.refusals.add([refused("{}") for _ in range(30)], 1)
    pages: list[list[RefusedRecord]] = []
    before: int | None = None
    more = True
    while more:
        page, more = refusals_page(store.refusals, [1], before_id=before, limit=1000)
        before = page[-1].id
        pages.append(page)
        assert sum(len(refusal.record) for refusal in page) <= PAGE_LIMIT_BYTES
    found = [refusal.id for page in pages for refusal in page]
    assert found == sorted(found, reverse=True)
    assert len(found) == 60
    assert 4 <= len(pages) <= 6


def test_a_page_within_its_number_is_not_marked_as_cut() -> None:
    store = MemoryStore()
    store.refusals.add([refused("{}") for _ in range(25)], 1)
    assert refusals_page(store.refusals, [1], before_id=None, limit=20) == (
        store.refusals.listing([1], limit=20),
        False,
    )
    assert len(refusals_page(store.refusals, [1], before_id=None, limit=1000)[0]) == 25
