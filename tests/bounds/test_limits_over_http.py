"""What a client sees beyond each limit of `docs/limits.md`, over real HTTP.

Times and the head of a request are in `tests/operations/test_connections.py`, connections in
`test_crowd.py`, rates in the tests of rates: they are not repeated here.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from tests.engine import ON_POSTGRES, database_of
from tests.operations.support import child
from tests.serving import TOKEN, Response, Server, StartServer

ORIGIN = {"Origin": "https://app.example"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def small(start_module_server: StartServer) -> Server:
    """A server with small limits."""
    return start_module_server(
        arguments=[
            "--body-limit-bytes=200000",
            "--records-per-request=10",
            "--string-limit-bytes=20",
            "--read-timeout-s=1",
            "--backlog-limit-records=50",
        ]
    )


def record(distinct_id: str, **properties: Any) -> dict[str, Any]:
    return {"$token": TOKEN, "$distinct_id": distinct_id, "$set": properties}


def assert_refused_for_size(reply: Response) -> None:
    assert reply.status == 413
    assert reply.header("access-control-allow-origin") == ORIGIN["Origin"]
    assert reply.header("retry-after") is None, "the same request will not do better later"
    assert reply.json()["code"] == 413


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b" " * 200_001, {}),
        (gzip.compress(b" " * 200_001), {"Content-Encoding": "gzip"}),
        (gzip.compress(b"\0" * 100_000_000), {"Content-Encoding": "gzip"}),
        (json.dumps([record("x", n=1)] * 11).encode(), {}),
        (gzip.compress(b"[" + b"[],[]," * 33_000 + b"[]]"), {"Content-Encoding": "gzip"}),
    ],
    ids=["body", "unfolded body", "bomb", "records", "bomb of records"],
)
@pytest.mark.parametrize("path", ["/engage", "/groups/"])
def test_a_request_that_is_too_large_is_413(
    small: Server, path: str, body: bytes, headers: dict[str, str]
) -> None:
    assert_refused_for_size(small.request("POST", path, body, {**JSON, **ORIGIN, **headers}))


def test_a_request_at_the_limits_is_taken(small: Server) -> None:
    batch = json.dumps([record("at-limit", n=number) for number in range(10)]).encode()
    padded = batch[:-1] + b" " * (200_000 - len(batch)) + b"]"
    for body, headers in ((padded, JSON), (gzip.compress(padded), {**JSON, "Content-Encoding": "gzip"})):
        assert small.request("POST", "/engage", body, headers).body == b"1"


def test_an_idempotency_key_that_is_too_long_is_400(small: Server) -> None:
    reply = small.post("/engage", [record("x", n=1)], {"Idempotency-Key": "k" * 256})
    assert reply.status == 400


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_too_much_for_a_profile_is_cut_dropped_or_refused(start_server: StartServer) -> None:
    server = start_server()
    said = server.post(
        "/engage?verbose=1",
        [
            record("cut", **{"x" * 300: "é" * 200}),
            record("many", **{f"p{number}": number for number in range(2100)}),
            record("deep", value=deep(65)),
            record("large", **{f"p{number}": ["v" * 200] * 1000 for number in range(6)}),
            {"$token": TOKEN, "$distinct_id": "value", "$set": {"ok": 1, "large": ["v" * 250] * 1100}},
        ],
    )
    assert said.status == 200
    profiles = server.profiles()
    assert set(profiles) == {"cut", "many", "value"}
    (name,) = set(profiles["cut"]) - {"$last_seen"} - {key for key in profiles["cut"] if key.startswith("$")}
    assert (len(name), profiles["cut"][name]) == (255, "é" * 127)
    assert len([key for key in profiles["many"] if not key.startswith("$")]) == 2000
    assert "large" not in profiles["value"]
    assert profiles["value"]["ok"] == 1
    refusals = server.get("/api/mixdown/refusals", project_id=server.project_id).json()["results"]
    assert sorted(refusal["message"].partition(",")[2] for refusal in refusals) == [
        " must be at most 1048576 bytes of JSON",
        " nested too deeply",
    ]


def test_a_record_that_is_dear_to_parse_is_refused_and_its_neighbours_are_stored(server: Server) -> None:
    dear = b'{"$token":"%b","$distinct_id":"dear","$set":{"a":[%b[]]}}' % (TOKEN.encode(), b"[]," * 400_000)
    good = json.dumps(record("beside", n=1)).encode()
    began = time.monotonic()
    reply = server.request("POST", "/engage?verbose=1", b"[%b,%b]" % (dear, good), JSON)
    assert reply.status == 200
    assert time.monotonic() - began < 60
    assert set(server.profiles()) >= {"beside"}
    assert "dear" not in server.profiles()
    refusals = server.get("/api/mixdown/refusals").json()["results"]  # unparsed, it shows no token
    assert ["more than 50000 lists" in refusal["message"] for refusal in refusals] == [True]


@pytest.fixture
def behind(small: Server) -> Iterator[Server]:
    """The small server while its fold stands still."""
    fold = child(small.pid, "fold")
    os.kill(fold, signal.SIGSTOP)
    try:
        yield small
    finally:
        os.kill(fold, signal.SIGCONT)


def test_beyond_the_backlog_writers_wait_and_then_get_503_while_readers_are_answered(behind: Server) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        reply = behind.request(
            "POST", "/engage", json.dumps([record(f"b{n}", n=n) for n in range(10)]), {**JSON, **ORIGIN}
        )
        if reply.status == 503:
            break
        time.sleep(0.3)  # the gate looks at the backlog four times a second
    assert reply.status == 503
    assert int(reply.header("retry-after") or 0) > 0
    assert reply.header("access-control-allow-origin") == ORIGIN["Origin"]
    read = behind.get("/api/query/engage", project_id=behind.project_id)
    assert read.status == 200
    assert int(read.header("x-mixdown-behind") or 0) > 0
    assert read.header("retry-after") is None
    assert behind.get("/readyz").status == 503


def test_without_free_disk_writers_get_503_and_readers_are_answered(start_server: StartServer) -> None:
    server = start_server(arguments=["--disk-reserve-bytes=1000000000000000"])
    reply = server.request("POST", "/engage", json.dumps([record("x", n=1)]), JSON)
    assert reply.status == 503
    assert int(reply.header("retry-after") or 0) > 0
    assert server.get("/api/query/engage", project_id=server.project_id).status == 200


# --- reads


@pytest.mark.parametrize(
    "parameters",
    [{"page_size": 10_001}, {"page_size": 0}, {"distinct_ids": json.dumps([str(n) for n in range(10_001)])}],
    ids=["rows", "no rows", "ids"],
)
def test_a_read_that_asks_for_too_much_is_400(server: Server, parameters: dict[str, Any]) -> None:
    body = json.dumps({"project_id": server.project_id, **parameters})
    reply = server.request("POST", "/api/query/engage", body, {**JSON, **server.authorization()})
    assert reply.status == 400
    assert next(iter(parameters)) in reply.json()["error"]


@pytest.mark.parametrize("path", ["refusals", "records"])
def test_a_page_of_records_or_refusals_has_a_limit(server: Server, path: str) -> None:
    assert server.get(f"/api/mixdown/{path}", limit=1001, project_id=server.project_id).status == 400
    assert server.get(f"/api/mixdown/{path}", limit=1000, project_id=server.project_id).status == 200


def test_a_page_of_large_refusals_is_cut_and_says_so(start_server: StartServer) -> None:
    server = start_server()
    for _ in range(2):
        batch = [{"$token": TOKEN, "$distinct_id": "", "$set": {"a": "x" * 900_000}} for _ in range(7)]
        assert server.post("/engage", batch).status == 200
    first = server.get("/api/mixdown/refusals", limit=1000, project_id=server.project_id)
    assert len(first.body) < 9 * 1024 * 1024
    assert first.json()["more"] is True
    last = first.json()["results"][-1]["id"]
    rest = server.get(
        "/api/mixdown/refusals", limit=1000, before_id=last, project_id=server.project_id
    ).json()
    assert "more" not in rest
    assert len(first.json()["results"]) + len(rest["results"]) == 14


@contextmanager
def sessions_held(folder: Path) -> Iterator[None]:
    """Keep query sessions locked, as a transaction that does not end."""
    if ON_POSTGRES:
        with psycopg.connect(database_of(folder)) as connection:
            connection.execute("LOCK TABLE mixdown.sessions IN EXCLUSIVE MODE")
            yield
        return
    with closing(apsw.Connection(str(folder / "scratch.db"))) as scratch:
        scratch.execute("BEGIN IMMEDIATE")
        yield
        scratch.execute("ROLLBACK")


def test_a_read_that_takes_too_long_is_503_without_retry_after_and_then_works_again(small: Server) -> None:
    for start in range(0, 40, 10):
        small.post("/engage", [record(f"t{number}", n=1) for number in range(start, start + 10)])
        small.profiles()  # waits for the fold, whose backlog is small here
    with sessions_held(small.data_dir):  # a first page cannot freeze its ids now
        replies: list[Response] = []

        def ask() -> None:
            replies.append(small.get("/api/query/engage", page_size=7, project_id=small.project_id))

        began = time.monotonic()
        readers = [threading.Thread(target=ask) for _ in range(3)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        took = time.monotonic() - began
    assert [reply.status for reply in replies] == [503] * 3
    assert 0.9 < took < 30
    for reply in replies:
        assert reply.header("retry-after") is None
        assert reply.json()["status"] == "error"
        assert "longer than 1 s" in reply.json()["error"]
    deadline = time.monotonic() + 90
    while small.get("/api/query/engage", page_size=7, project_id=small.project_id).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_server_may_open_as_many_files_as_its_connections_need(start_server: StartServer) -> None:
    server = start_server(arguments=["--connection-limit=3000"], environment={})
    worker = child(server.pid, "worker")
    with open(f"/proc/{worker}/limits") as limits:  # noqa: PTH123 - a file of the system
        (soft,) = [int(line.split()[3]) for line in limits if line.startswith("Max open files")]
    assert soft >= 3500
