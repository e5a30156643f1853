"""Query sessions: pages of any size, expiry, eviction, isolation. For every store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mixdown.store.protocols import Session, Sessions
from tests.store.support import NOW_MS, WEEK_MS


def session(
    name: str = "s", *, project: int = 1, total: int = 0, size: int = 1000, at: int = NOW_MS
) -> Session:
    return Session(name, project, "", total, size, at)


def test_a_session_comes_back_as_it_was_made(sessions: Sessions) -> None:
    made = Session("abc", 1, "Company", 3, 100, NOW_MS, ("$name", "plan"))
    plain = Session("def", 1, "", 0, 1, NOW_MS)
    sessions.create(made, ["x", "y", "z"])
    sessions.create(plain, [])
    assert sessions.get("abc", 1, now_ms=NOW_MS) == made
    assert sessions.get("def", 1, now_ms=NOW_MS) == plain
    assert sessions.get("none", 1, now_ms=NOW_MS) is None


@pytest.mark.parametrize("size", [1, 7, 999, 1000, 1001, 2500, 100_000])
def test_pages_of_any_size_put_together_are_the_ids_in_their_order(sessions: Sessions, size: int) -> None:
    count = min(2500, size * 40)
    ids = [f"{number * 7919 % 10007:05}é\n" for number in range(count)]
    sessions.create(session(total=count, size=size), iter(ids))
    pages = (count + size - 1) // size
    assert [profile_id for page in range(pages) for profile_id in sessions.page_ids("s", page)] == ids
    assert all(len(sessions.page_ids("s", page)) == size for page in range(pages - 1))
    assert sessions.page_ids("s", pages) == []
    assert sessions.page_ids("s", 10**12) == []
    assert sessions.page_ids("s", -1) == []


def test_an_unknown_session_has_no_pages(sessions: Sessions) -> None:
    assert sessions.page_ids("none", 0) == []


def test_a_large_result_set_is_taken_from_an_iterator(sessions: Sessions) -> None:
    def ids() -> Iterator[str]:
        yield from (f"user-{number}" for number in range(250_000))

    sessions.create(session(total=250_000, size=5000), ids())
    assert sessions.page_ids("s", 49)[-1] == "user-249999"
    assert sessions.page_ids("s", 20)[0] == "user-100000"


def test_a_session_belongs_to_its_project(sessions: Sessions) -> None:
    sessions.create(session("a", project=1), ["x"])
    assert sessions.get("a", 2, now_ms=NOW_MS) is None


def test_a_session_expires_after_seven_days(sessions: Sessions) -> None:
    made = sessions.create(session(), ["x"])
    assert made == session(total=1)
    assert sessions.get("s", 1, now_ms=NOW_MS + WEEK_MS - 1) == made
    assert sessions.get("s", 1, now_ms=NOW_MS + WEEK_MS) is None


def test_a_session_that_is_being_read_outlives_newer_ones(sessions: Sessions) -> None:
    """A slow reader beside a probe that starts a session each minute."""
    minute = 60_000
    sessions.create(session("slow", total=2, size=1), ["x", "y"])
    for number in range(1, 250):
        at = NOW_MS + number * minute
        sessions.create(session(f"probe{number}", at=at), ["x"])
        if number % 50 == 0:
            assert sessions.get("slow", 1, now_ms=at) is not None
    assert sessions.page_ids("slow", 1) == ["y"]
    assert sessions.page_ids("probe249", 0) == ["x"]
    assert sessions.page_ids("probe149", 0) == []


def test_past_a_hundred_the_projects_oldest_session_goes(sessions: Sessions) -> None:
    sessions.create(session("other", project=2, at=NOW_MS - 5), ["o"])
    for number in range(103):
        sessions.create(session(f"s{number}", at=NOW_MS + number), [f"id{number}"])
    left = [number for number in range(103) if sessions.get(f"s{number}", 1, now_ms=NOW_MS + 200)]
    assert left == list(range(3, 103))
    assert sessions.page_ids("s0", 0) == []
    assert sessions.page_ids("s3", 0) == ["id3"]
    assert sessions.page_ids("other", 0) == ["o"]


def test_ids_that_cannot_be_made_leave_no_session(sessions: Sessions) -> None:
    def broken() -> Iterator[str]:
        yield from (str(number) for number in range(3000))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        sessions.create(session(total=5000), broken())
    assert sessions.get("s", 1, now_ms=NOW_MS) is None
    assert sessions.page_ids("s", 0) == []
