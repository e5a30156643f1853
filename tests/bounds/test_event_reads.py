"""Reads of events are bounded: in time, in what they hold, and in what they leave on a disk."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mixdown.model.errors import ReadTimeoutError
from mixdown.model.identity import Member
from mixdown.query.events import persons
from mixdown.query.events.buckets import Span, span_of_days
from mixdown.query.events.names import top_events
from mixdown.query.events.reader import EventReads, OpenEvents
from mixdown.store import patience
from mixdown.store.duck import EventTable
from mixdown.store.events import EventsWrite, batch_of
from mixdown.store.memory import MemoryStore
from mixdown.store.spilling import SPILL, spill_folder
from tests.operations.support import children
from tests.operations.test_connections import peak_memory_kib
from tests.serving import Server, StartServer

DAY = span_of_days(date(2026, 1, 15), date(2026, 1, 15))
MIB = 1024 * 1024
EVENTS = 100_000
EVENT_BYTES = 2400
REQUEST_EVENTS = 2000
GROWTH_LIMIT_KIB = 320 * 1024


@pytest.fixture
def reads() -> Iterator[EventReads]:
    store = MemoryStore()
    events = [
        {
            "position": number,
            "arrived": DAY.since_ms,
            "event": "e",
            "time": DAY.since_ms + number,
            "distinct_id": f"u{number}",
            "insert_id": f"i{number}",
            "properties": {},
        }
        for number in range(2000)
    ]
    store.events.write(EventsWrite(2000, [batch_of(1, events)], (), DAY.since_ms))
    made = EventReads(store, memory_limit_bytes=128 * MIB)
    yield made
    made.close()
    store.close()


def test_a_read_of_events_is_interrupted_when_its_time_is_over(reads: EventReads) -> None:
    endless = "SELECT count(*) FROM events a, events b, events c, events d"
    with reads.open(1, DAY) as table:
        began = time.monotonic()
        with patience.until(began + 0.2, 0.2):
            rows = table.rows(endless)
            with pytest.raises(ReadTimeoutError, match=r"longer than 0\.2 s"):
                next(rows)
        assert time.monotonic() - began < 60
        assert list(table.rows("SELECT count(*) FROM events")) == [(2000,)], "the table is none the worse"


def test_a_read_whose_time_is_over_does_not_begin(reads: EventReads) -> None:
    with reads.open(1, DAY) as table, patience.until(time.monotonic() + 9, 9):
        rows = table.rows("SELECT 1")
        patience._own.deadline_s = time.monotonic() - 1
        with pytest.raises(ReadTimeoutError):
            next(rows)


def test_opening_events_is_interrupted_as_well(reads: EventReads, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(table: EventTable) -> None:
        table.connection.execute("SELECT count(*) FROM hot a, hot b, hot c, hot d").fetchall()

    monkeypatch.setattr(EventTable, "_find_doubles", endless)
    began = time.monotonic()
    with (
        patience.until(began + 0.2, 0.2),
        pytest.raises(ReadTimeoutError, match=r"longer than 0\.2 s"),
        reads.open(1, DAY),
    ):
        pytest.fail("it was opened")
    assert time.monotonic() - began < 60


@pytest.fixture
def most_rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many rows the largest answer of DuckDB had that was taken."""
    most = {"rows": 0}
    taken = OpenEvents.rows

    def counted(table: OpenEvents, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        for number, row in enumerate(taken(table, sql, parameters), 1):
            most["rows"] = max(most["rows"], number)
            yield row

    monkeypatch.setattr(OpenEvents, "rows", counted)
    return most


def test_ids_are_looked_up_some_at_a_time(
    reads: EventReads, most_rows: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolved(project: int, ids: Sequence[str]) -> list[Member]:
        assert project == 1
        return [Member(one, "ann", 0) for one in ids if one.endswith("7")]

    monkeypatch.setattr(persons, "IDS_AT_ONCE", 300)
    monkeypatch.setattr(persons, "MEMBERS_LIMIT", 0)
    monkeypatch.setattr(reads.state, "linked_projects", lambda: {1})
    monkeypatch.setattr(reads.state, "resolved", resolved)
    with reads.open(1, DAY) as table:
        assert 0 < most_rows["rows"] <= 300
        counted = f"SELECT count(*), count(DISTINCT distinct_id) FROM {table.relation} WHERE person = 'ann'"
        assert list(table.rows(counted)) == [(200, 200)]


def test_yesterdays_figures_are_of_the_top_events_alone(most_rows: dict[str, int]) -> None:
    store = MemoryStore()
    before = Span(DAY.since_ms - 86_400_000, DAY.since_ms)
    events = [
        {
            "position": number,
            "arrived": DAY.since_ms,
            "event": f"e{number % 500}",
            "time": (DAY if number < 501 else before).since_ms,
            "distinct_id": "u",
            "insert_id": f"i{number}",
            "properties": {},
        }
        for number in range(1502)
    ]
    store.events.write(EventsWrite(len(events), [batch_of(1, events)], (), DAY.since_ms))
    made = EventReads(store, memory_limit_bytes=128 * MIB)
    with made.open(1, Span(before.since_ms, DAY.until_ms)) as table:
        found = top_events(table, "general", DAY, before, 1)
    made.close()
    assert found["events"] == [{"event": "e0", "amount": 2, "percent_change": 0.0}]
    assert most_rows["rows"] == 1


def test_what_a_killed_process_spilt_goes_when_the_next_one_begins(tmp_path: Path) -> None:
    dead = 2**22 + 1  # above every pid there is
    left = tmp_path / SPILL / f"{dead}-00000000"
    mine = tmp_path / SPILL / f"{os.getpid()}-00000000"
    for folder in (left, mine):
        folder.mkdir(parents=True)
        (folder / "duckdb_temp_storage").write_bytes(b"x")
    made = spill_folder(tmp_path)
    assert not left.exists()
    assert mine.exists()
    made.path.mkdir()
    made.close()
    assert not made.path.exists()


def line(number: int, now_s: int) -> dict[str, Any]:
    return {
        "event": "e",
        "properties": {
            "time": now_s - number % 80_000,
            "distinct_id": f"u{number % 5000}",
            "$insert_id": f"i{number}",
            **{f"text {place}": f"{number:08d}" + "x" * 192 for place in range(EVENT_BYTES // 200)},
        },
    }


def import_events(server: Server, now_s: int) -> None:
    headers = {**server.authorization(), "Content-Type": "application/json", "Content-Encoding": "gzip"}
    target = f"/import?strict=1&project_id={server.project_id}"
    for begin in range(0, EVENTS, REQUEST_EVENTS):
        some = [line(number, now_s) for number in range(begin, begin + REQUEST_EVENTS)]
        body = gzip.compress(json.dumps(some, ensure_ascii=False).encode(), 1)
        reply = server.request("POST", target, body, headers)
        assert reply.status == 200, reply


def exported(server: Server, **parameters: str) -> tuple[int, int]:
    """How many lines an export has, and how many bytes unpacked; little of it is held here at a time."""
    address = urlsplit(server.base_url)
    days = f"from_date={parameters['first']}&to_date={parameters['last']}&limit={parameters['limit']}"
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=300)
    headers = {**server.authorization(), "Accept-Encoding": "gzip"}
    connection.request("GET", f"/api/2.0/export?{days}&project_id={server.project_id}", headers=headers)
    reply = connection.getresponse()
    assert reply.status == 200, reply.read()
    unpack = zlib.decompressobj(31)
    lines = size = 0
    while piece := reply.read(65536):
        text = unpack.decompress(piece)
        lines += text.count(b"\n")
        size += len(text)
    connection.close()
    assert unpack.eof
    return lines, size


@pytest.mark.slow
def test_an_export_of_much_takes_no_more_memory_than_one_of_little(start_server: StartServer) -> None:
    server = start_server(environment={"MIXDOWN_EVENT_READ_MEMORY_BYTES": str(256 * MIB)})
    now_s = int(time.time()) - 3600
    import_events(server, now_s)
    days = {
        "first": time.strftime("%Y-%m-%d", time.gmtime(now_s - 80_000)),
        "last": time.strftime("%Y-%m-%d", time.gmtime(now_s)),
    }
    [worker] = [pid for pid, command in children(server.pid).items() if "child worker" in command]
    assert exported(server, **days, limit="1000")[0] == 1000
    before_kib = peak_memory_kib(worker)
    lines, size = exported(server, **days, limit=str(EVENTS))
    grown_kib = peak_memory_kib(worker) - before_kib
    assert (lines, size > EVENTS * EVENT_BYTES) == (EVENTS, True)
    assert grown_kib < GROWTH_LIMIT_KIB, f"{size >> 20} MiB took {grown_kib >> 10} MiB"
