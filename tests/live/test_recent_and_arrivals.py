"""The newest records, and counts by kind: one truth for all workers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mixdown.query.live import arrivals
from mixdown.query.live.arrivals import INTERVAL_S, INTERVALS, ArrivalCounts
from tests.live.support import ARRIVALS, RECENT, Listener, event, query
from tests.reads.support import ADMIN, NOON_MS, OTHER_TOKEN, OWNER, STRANGER, TOKEN, World, names, user

BAD = {"$token": TOKEN, "$set": {}}


def results(reply: Any) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


def test_the_newest_records_come_newest_first_and_a_stream_goes_on_from_there(world: World) -> None:
    world.send(user("a"), BAD)
    world.now_ms += 1000
    world.send(event("E", "b"), endpoint="track")
    found = results(world.get(RECENT))
    assert [record["kind"] for record in found["records"]] == ["event", "refusal", "update"]
    assert found["records"][0]["time_ms"] == NOON_MS + 1000
    world.send(user("meanwhile"))
    listener = Listener(world, query(after=found["cursor"]))
    assert [message.data["id"] for message in listener.hear(1)] == ["meanwhile"]


def test_who_may_only_read_finds_no_token_in_what_was_refused(world: World) -> None:
    refusals = "/api/mixdown/refusals"
    world.send(BAD)
    heard = Listener(world, query(kind="refusal"))
    world.send(BAD)
    (refused,) = heard.hear(1)
    for seen in (world.get(RECENT).text, world.get(refusals).text, heard.body.decode()):
        assert "missing or empty" in seen
        assert TOKEN not in seen
    assert "YOUR_TOKEN" in refused.data["record"]
    for target in (RECENT, refusals):
        assert TOKEN in world.get(target, user=ADMIN).text


def test_the_newest_are_bounded_and_filtered(world: World) -> None:
    world.send(*[user(name, n=place) for place, name in enumerate(names(100))])
    world.send(user("theirs", token=OTHER_TOKEN))
    assert len(results(world.get(RECENT))["records"]) == 50
    assert [each["id"] for each in results(world.get(f"{RECENT}?limit=2"))["records"]] == ["u00099", "u00098"]
    (only,) = results(world.get(f"{RECENT}?id=u00007"))["records"]
    assert only["operations"] == {"$set": {"n": 7}}
    assert results(world.get(f"{RECENT}?kind=refusal"))["records"] == []
    assert results(world.get(f"{RECENT}?text=theirs"))["records"] == []
    assert len(results(world.get(f"{RECENT}?text=theirs", user=OWNER))["records"]) == 1
    assert world.get(f"{RECENT}?limit=501").status_code == 400


def test_an_answer_of_large_records_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixdown.http.live.RECENT_BYTES", 30_000)
    for name in names(10):
        world.send(user(name, essay=["x" * 200] * 50))
    found = results(world.get(RECENT))["records"]
    assert 1 <= len(found) <= 3
    assert found[0]["id"] == "u00009"


def counted(world: World, **options: Any) -> dict[str, list[int]]:
    found = results(world.get(ARRIVALS, **options))
    assert len(found["times"]) == INTERVALS
    return {kind: found[kind] for kind in ("update", "event", "link", "refusal")}


def test_arrivals_are_counted_by_kind_and_interval(world: World) -> None:
    world.send(user("a"), user("b"), BAD)
    world.send(user("theirs", token=OTHER_TOKEN))
    world.now_ms += INTERVAL_S * 1000
    world.send(event("E", "a", **{"$device_id": "d", "$user_id": "a"}), endpoint="track")
    found = counted(world)
    assert found["update"][-2:] == [2, 0]
    assert found["event"][-2:] == [0, 1]
    assert found["link"][-2:] == [0, 1]
    assert found["refusal"][-2:] == [1, 0]
    assert sum(counted(world, user=OWNER)["update"]) == 3
    assert sum(counted(world, user=STRANGER)["update"]) == 1
    world.send(user("lost", token="nobody"))
    assert sum(counted(world)["refusal"]) == 1
    assert sum(counted(world, user=OWNER)["refusal"]) == 2


def test_intervals_move_on_and_old_ones_are_forgotten(world: World) -> None:
    world.send(user("a"))
    assert sum(counted(world)["update"]) == 1
    world.now_ms += INTERVAL_S * 1000 * (INTERVALS - 1)
    assert counted(world)["update"][0] == 1
    world.now_ms += INTERVAL_S * 1000
    assert sum(counted(world)["update"]) == 0


def test_two_workers_that_count_at_different_times_agree(world: World) -> None:
    often, late = ArrivalCounts(world.store), ArrivalCounts(world.store)
    for place in range(20):
        world.send(*[user(name) for name in names(place + 1)], BAD)
        world.now_ms += 1700
        often.of(None, now_ms=world.now_ms)
    expected = often.of(None, now_ms=world.now_ms)
    assert sum(expected.counts["update"]) == 210
    assert late.of(None, now_ms=world.now_ms) == expected


def test_a_flood_is_counted_as_far_back_as_the_bound_and_it_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        world.send(*[user(name) for name in names(20)])
        world.now_ms += INTERVAL_S * 1000
    monkeypatch.setattr(arrivals, "BACK_RECORDS", 60)
    monkeypatch.setattr(arrivals, "_READ_RECORDS", 30)
    found = results(world.get(ARRIVALS))
    assert sum(found["update"]) == 60
    assert found["counted_from"] == NOON_MS // 1000 + 7 * INTERVAL_S


def test_what_is_older_than_ten_minutes_is_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "_READ_RECORDS", 5)
    for name in names(20):
        world.send(user(name))
    world.now_ms += 3_600_000
    for name in names(7):
        world.send(user(name))
    reads: list[int] = []
    log = world.store.log
    read = log.read

    def noted(at: int, **more: Any) -> Any:
        reads.append(at)
        return read(at, **more)

    monkeypatch.setattr(log, "read", noted)
    assert sum(counted(world)["update"]) == 7
    assert min(reads) == 20


@pytest.mark.parametrize("path", [RECENT, ARRIVALS])
def test_who_may_not_read_is_told_as_everywhere(shared_world: World, path: str) -> None:
    reply = shared_world.get(path, user=None)
    assert reply.status_code == 401
    assert json.loads(reply.text)["status"] == "error"
    assert shared_world.get(f"{path}?project_id=x").status_code == 400
    assert shared_world.get(f"{path}?kind=nonsense").status_code == 400
