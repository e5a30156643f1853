"""Group commit: outcomes, refusals, a catalog that changes meanwhile, bounds (DESIGN G1, G5, G7)."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mixdown.ingest import commit
from mixdown.ingest.gate import Gate, GateLimits
from mixdown.ingest.geo import valid_ip
from mixdown.ingest.prepare import Submission
from mixdown.model.errors import OverloadedError, StoreError
from mixdown.server.logs import exception_facts
from tests.fold.conftest import Way, record


def test_a_token_that_is_rotated_while_a_request_waits_is_refused(way: Way) -> None:
    """The request is judged, then the catalog changes, then its turn at the log comes."""
    with way.store.log.turn():
        answer: list[Any] = []
        sender = threading.Thread(target=lambda: answer.append(way.submit(record(set={"a": 1}))))
        sender.start()
        committer: Any = way.ingest._committer
        while not committer._waiting and sender.is_alive():
            if answer or committer._thread.is_alive():
                break
        threading.Event().wait(0.1)
        way.store.catalog.change_project(way.project.id, token="NEW")
    sender.join(60)
    assert answer[0].good == 0
    assert answer[0].failed == ((0, "$token", "$token, no project has this token"),)
    way.fold_all()
    assert way.profile() is None


def test_a_new_project_is_known_at_once(way: Way) -> None:
    way.store.catalog.create_project(
        "second", token="TWO", secret_hash=b"2" * 32, id_merge="simplified", now_ms=0
    )
    assert way.submit({"$token": "TWO", "$distinct_id": "x", "$set": {}}).good == 1


def test_one_batch_may_span_projects(way: Way) -> None:
    second = way.store.catalog.create_project(
        "second", token="TWO", secret_hash=b"2" * 32, id_merge="simplified", now_ms=0
    )
    way.submit(record(set={"a": 1}), {"$token": "TWO", "$distinct_id": "u1", "$set": {"b": 2}})
    way.fold_all()
    assert way.profile() == {"a": 1}
    assert way.store.state.documents([(second.id, "", "u1")])[0] is not None


def test_a_batch_of_nothing_but_bad_records_commits_its_refusals(way: Way) -> None:
    outcome = way.submit(record("", set={}), "junk", {"$token": "NOPE", "$distinct_id": "a", "$set": {}})
    assert outcome.good == 0
    kept = way.store.refusals.listing(None)
    assert [(item.project, item.index, item.message) for item in kept] == [
        (0, 2, "$token, no project has this token"),
        (0, 1, "data, must be an object"),
        (way.project.id, 0, "$distinct_id, missing or empty"),
    ]
    assert way.store.log.head() == 0


def test_a_body_refused_whole_keeps_its_first_kilobyte(way: Way) -> None:
    asyncio.run(way.ingest.refuse_body("engage", "data, invalid JSON", b"\x00{" + b"x" * 5000, sdk="curl"))
    [refusal] = way.store.refusals.listing([0])
    assert (len(refusal.record), refusal.whole, refusal.message) == (1024, False, "data, invalid JSON")


def test_many_requests_at_once_share_group_commits_and_each_gets_its_own_outcome(way: Way) -> None:
    async def send() -> list[Any]:
        return await asyncio.gather(
            *[
                way.ingest.submit(
                    Submission("engage", [record(f"u{n}", add={"n": n})] + [{}] * (n % 3), ip_flag=False)
                )
                for n in range(200)
            ]
        )

    outcomes = asyncio.run(send())
    assert [outcome.total for outcome in outcomes] == [1 + n % 3 for n in range(200)]
    assert {outcome.good for outcome in outcomes} == {1}
    way.fold_all()
    assert [way.profile(f"u{n}") for n in range(200)] == [{"n": n} for n in range(200)]


def test_a_failed_commit_is_told_as_overload_and_stores_nothing(way: Way, monkeypatch: Any) -> None:
    class Broken:
        def __enter__(self) -> None:
            raise StoreError("disk full")

        def __exit__(self, *_: object) -> None: ...

    turn = way.store.log.turn
    monkeypatch.setattr(way.store.log, "turn", Broken)
    with pytest.raises(OverloadedError, match="the records could not be written"):
        way.submit(record(set={"a": 1}))
    monkeypatch.setattr(way.store.log, "turn", turn)
    assert way.submit(record(set={"b": 1})).good == 1
    way.fold_all()
    assert way.profile() == {"b": 1}


def test_waiting_requests_are_bounded_in_bytes(way: Way, monkeypatch: Any) -> None:
    monkeypatch.setattr(commit, "WAITING_LIMIT_BYTES", 10)
    with pytest.raises(OverloadedError):
        way.submit(record(set={"a": "x" * 100}))


def test_a_closing_server_takes_no_more(way: Way) -> None:
    way.ingest.close()
    with pytest.raises(OverloadedError, match="shutting down"):
        way.submit(record(set={"a": 1}))


def test_chunk_time_never_goes_back(way: Way) -> None:
    way.submit(record(set={"a": 1}))
    way.now_ms -= 3_600_000
    way.submit(record(set={"b": 1}))
    first, second = way.store.log.read(0, max_records=10, max_bytes=1 << 20)
    assert second.time_ms == first.time_ms


def test_why_a_commit_failed_is_logged_once_and_not_told_to_clients(way: Way, monkeypatch: Any) -> None:
    def broken() -> None:
        raise StoreError("/secret/place/log.db cannot grow")

    turn = way.store.log.turn
    monkeypatch.setattr(way.store.log, "turn", broken)
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(OverloadedError) as raised:
                way.submit(record(set={"a": 1}))
            assert "secret" not in raised.value.message
        monkeypatch.setattr(way.store.log, "turn", turn)
        assert way.submit(record(set={"a": 1})).good == 1
    assert [(line["event"], exception_facts(line["exc_info"])["reason"]) for line in lines] == [
        ("the records could not be written", "/secret/place/log.db cannot grow")
    ]


def test_the_gate_stays_closed_while_it_looks_again(way: Way, monkeypatch: Any, tmp_path: Path) -> None:
    gate = Gate(way.store, tmp_path, GateLimits(0, 0, 1 << 62, 0))
    gate.look()
    seen: list[str] = []
    statvfs = os.statvfs

    def looking(folder: Any) -> os.statvfs_result:
        seen.append(gate.reason)
        return statvfs(folder)

    monkeypatch.setattr(os, "statvfs", looking)
    gate.look()
    assert seen == ["the server is short of disk space"]


@pytest.mark.parametrize("ip", ["fe80::1%eth0", "2a00:1450::1%" + "x" * 1_000_000, "%", "1.2.3.4%eth0"])
def test_an_address_with_a_zone_is_nowhere(ip: str) -> None:
    """Its text has no limit, and lookups are remembered."""
    assert valid_ip(ip) == ""
