"""Lists of those who did something: counted once for many pages, and never told of who was erased."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from mixdown.query import behaviors
from mixdown.query import members as members_module
from mixdown.query.choosing import Filters, choose
from mixdown.query.members import KEPT_S, Members
from mixdown.query.reports import rows
from mixdown.store.privacy import PENDING, Deletion
from tests.reads.support import ADMIN, NOON_MS, TOKEN, World, names, shared_world

PATH = "/api/mixdown/profiles"
COUNTS = [{"name": "n", "window": "7d", "event_selectors": [{"event": "buy"}]}]
DID = {"where": 'behaviors["n"] > 0', "behaviors": orjson.dumps(COUNTS).decode()}
PEOPLE = names(25)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Twenty-five persons with profiles, who all bought something."""
    made = shared_world(tmp_path_factory.mktemp("members") / "data")
    made.store_users(PEOPLE)
    bought(made, PEOPLE)
    yield made
    made.close()


def bought(world: World, people: list[str], since: int = 0) -> None:
    world.store_events(
        [
            {
                "position": since + place,
                "arrived": NOON_MS,
                "event": "buy",
                "time": NOON_MS - 1000,
                "distinct_id": one,
                "insert_id": str(since + place),
                "properties": {},
            }
            for place, one in enumerate(people)
        ]
    )


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often events were counted: a 1 for each time."""
    times: list[int] = []
    original = rows.report_rows

    def report_rows(*given: Any, **named: Any) -> Any:
        times.append(1)
        return original(*given, **named)

    monkeypatch.setattr(behaviors, "report_rows", report_rows)
    return times


def page(world: World, after: str = "", **asked: Any) -> tuple[list[str], str | None]:
    reply = world.get(PATH, params={**DID, "limit": 4, "after": after, "look_ms": 5000, **asked})
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    return [row["$distinct_id"] for row in answer["results"]], answer["next"]


def pages(world: World, **asked: Any) -> list[str]:
    """The ids of all pages."""
    found, after = page(world, **asked)
    while after is not None:
        some, after = page(world, after, **asked)
        found += some
    return found


def test_a_list_of_many_pages_counts_once(world: World, counted: list[int]) -> None:
    assert pages(world) == PEOPLE
    assert len(counted) == 1
    assert pages(world) == PEOPLE
    assert len(counted) == 2, "a first page is counted anew"


@pytest.mark.slow
def test_a_cohort_is_counted_once_as_well(world: World, counted: list[int]) -> None:
    made = world.post("/api/mixdown/cohorts", user=ADMIN, json={"name": "who", **DID, "behaviors": COUNTS})
    counted.clear()
    cohort = {"filter_by_cohort": orjson.dumps({"id": made.json()["results"]["id"]}).decode()}
    whole = {**cohort, "where": "", "behaviors": ""}
    assert pages(world, **whole) == PEOPLE
    assert len(counted) == 1
    some = {**whole, "where": f'properties["n"] >= {len(PEOPLE) - 3}'}
    assert pages(world, **some) == PEOPLE[-3:]
    assert len(counted) == 2, "the first page of another list"


@pytest.mark.slow
def test_what_others_ask_is_no_answer_to_it(world: World, counted: list[int]) -> None:
    _, after = page(world)
    assert after is not None
    for other in (
        {"where": 'behaviors["n"] > 1'},
        {"behaviors": DID["behaviors"].replace("7d", "1h"), "where": 'behaviors["n"] == 0'},
        {"as_of_timestamp": NOON_MS // 1000 - 7200},
    ):
        before = len(counted)
        assert page(world, after, **other) == ([], None)
        assert len(counted) == before + 1


@pytest.mark.slow
def test_a_list_that_takes_too_much_room_is_counted_now_and_then(
    world: World, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    each = members_module._ID_BYTES + len(PEOPLE[0])
    monkeypatch.setattr(members_module, "ROOM_BYTES", 4 * (members_module._LIST_BYTES + 9 * each))
    assert pages(world) == PEOPLE
    assert 1 < len(counted) < 6
    counted.clear()
    monkeypatch.setattr(members_module, "ROOM_BYTES", 0)
    assert pages(world) == PEOPLE
    assert len(counted) == len(range(0, len(PEOPLE), 4)), "nothing is kept"


@pytest.mark.slow
def test_only_so_many_lists_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    each = members_module._LIST_BYTES + len(PEOPLE) * (members_module._ID_BYTES + len(PEOPLE[0]))
    monkeypatch.setattr(members_module, "ROOM_BYTES", 4 * each)
    kept = world.services.members
    for hours in range(1, 8):
        page(world, behaviors=DID["behaviors"].replace("7d", f"{hours}d"))
    assert 0 < len(kept._kept) <= 4
    assert sum(one.size_bytes for one in kept._kept.values()) <= 4 * each


class Lister:
    """Lists of the world's, at a time that the test says."""

    def __init__(self, world: World) -> None:
        self.world, self.now_s = world, 1000.0
        self.members = Members(world.store, lambda: self.now_s)

    def ids(self, after: str = "") -> list[str]:
        choice = choose(
            self.world.store,
            self.world.project.id,
            Filters(where=DID["where"], behaviors=DID["behaviors"]),
            now_ms=NOON_MS,
            reads=self.world.services.event_reads,
        )
        assert choice.acted is not None
        return list(self.members.ids(choice.acted, after))


def test_what_was_counted_is_kept_for_a_minute(world: World, counted: list[int]) -> None:
    lister = Lister(world)
    for passed_s, times in ((0, 1), (KEPT_S - 1, 1), (KEPT_S, 2)):
        lister.now_s = 1000 + passed_s
        if not passed_s:
            assert lister.ids() == PEOPLE
        assert lister.ids(PEOPLE[7]) == PEOPLE[8:]
        assert len(counted) == times


@pytest.mark.slow
def test_pages_begin_wherever_they_are_asked_to(world: World, counted: list[int]) -> None:
    lister = Lister(world)
    assert lister.ids(PEOPLE[9]) == PEOPLE[10:]
    assert lister.ids(PEOPLE[12]) == PEOPLE[13:]
    assert lister.ids(f"{PEOPLE[12]}-") == PEOPLE[13:]
    assert len(counted) == 1
    assert lister.ids(PEOPLE[3]) == PEOPLE[4:], "what lies before it was not kept"
    assert len(counted) == 2
    assert lister.ids(PEOPLE[-1]) == []
    assert len(counted) == 2


def test_nobody_who_was_erased_is_told_of_again(world: World, counted: list[int]) -> None:
    jobs, lister = world.store.privacy, Lister(world)
    assert lister.ids() == PEOPLE
    job = Deletion("erased", world.project.id, "", ("x",), 1, PENDING, "me", "gdpr", NOON_MS)
    other = Deletion("other", world.other.id, "", ("x",), 1, PENDING, "me", "gdpr", NOON_MS)
    for each in (job, other):
        jobs.add_deletion(each)
        lister.ids(PEOPLE[4])
    assert len(counted) == 1, "it waits, or is of another project"
    assert jobs.claim(other.id, now_ms=NOON_MS, stale_ms=0)
    jobs.started(other.id, [1])
    jobs.finish([other.id], now_ms=NOON_MS, report=b"{}")
    lister.ids(PEOPLE[4])
    assert len(counted) == 1
    assert jobs.claim(job.id, now_ms=NOON_MS, stale_ms=0)
    for _ in range(2):  # as long as it goes on nothing counts that is kept
        lister.ids(PEOPLE[4])
    assert len(counted) == 3
    jobs.started(job.id, [1])
    lister.ids(PEOPLE[4])
    assert len(counted) == 4
    jobs.finish([job.id], now_ms=NOON_MS + 1, report=b"{}")
    lister.ids(PEOPLE[4])
    lister.ids(PEOPLE[4])
    assert len(counted) == 5


def test_who_comes_late_is_on_the_next_first_page(world: World) -> None:
    lister = Lister(world)
    assert lister.ids() == PEOPLE
    world.send({"$token": TOKEN, "$distinct_id": "zoe", "$set": {}})
    bought(world, ["zoe"], since=100)
    assert lister.ids(PEOPLE[4]) == PEOPLE[5:]
    assert lister.ids() == [*PEOPLE, "zoe"]
    assert lister.ids(PEOPLE[4]) == [*PEOPLE[5:], "zoe"]
