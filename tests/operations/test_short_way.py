"""Small writes that skip the application's task: the same answers, in order, whatever the connection does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.operations.support import Wire, statuses, wait_until
from tests.serving import TOKEN, Server, StartServer, start_module_server

pytestmark = pytest.mark.slow

__all__ = ["start_module_server"]


@pytest.fixture(scope="module")
def served(start_module_server: StartServer) -> Server:
    return start_module_server()


@pytest.fixture
def wire(served: Server) -> Iterator[Wire]:
    with Wire(served.base_url) as connection:
        yield connection


def post(records: object, *lines: str, path: str = "/engage", version: str = "1.1") -> bytes:
    body = records if isinstance(records, bytes) else json.dumps(records).encode()
    head = [f"POST {path} HTTP/{version}", "Host: a", "Content-Type: application/json", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def add(distinct_id: str, n: int = 1) -> dict[str, object]:
    return {"$token": TOKEN, "$distinct_id": distinct_id, "$add": {"n": n}}


def stored(server: Server, distinct_id: str) -> object:
    found = server.profiles()
    return found[distinct_id].get("n") if distinct_id in found else None


def bodies(received: bytes) -> list[bytes]:
    return [piece.partition(b"\r\n\r\n")[2] for piece in received.split(b"HTTP/1.1 ")[1:]]


def test_the_reply_has_the_headers_that_every_reply_has(served: Server, wire: Wire) -> None:
    wire.send(post([add("headers")]))
    short = wire.read_until(b"\r\n\r\n1")
    wire.send(post([add("headers")], "Idempotency-Key: takes-the-long-way"))
    long = wire.read_until(b"\r\n\r\n1")
    assert [line.split(b":")[0] for line in short.split(b"\r\n")] == [
        line.split(b":")[0] for line in long.split(b"\r\n")
    ]
    assert stored(served, "headers") == 2


def test_pipelined_requests_of_both_ways_are_answered_in_order(served: Server, wire: Wire) -> None:
    wire.send(
        post([add("piped")])
        + post(b"[{", path="/engage?verbose=1")
        + post([add("piped", 10)], path="/engage?verbose=1")
        + b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
        + post([add("piped", 100)], "Connection: close")
    )
    received = wire.read_to_end()
    assert statuses(received) == [200] * 5
    first, second, third, _, last = bodies(received)
    assert (first, last) == (b"1", b"1")
    assert json.loads(second)["status"] == 0
    assert json.loads(third) == {"error": None, "status": 1}
    assert stored(served, "piped") == 111


def test_many_pipelined_requests_are_all_applied_once(served: Server, wire: Wire) -> None:
    wire.send(b"".join(post([add("many")]) for _ in range(300)))
    wire.send(post([add("many")], "Connection: close"))
    assert statuses(wire.read_to_end()) == [200] * 301
    assert stored(served, "many") == 301


def test_a_body_that_comes_in_pieces_is_stored(served: Server, wire: Wire) -> None:
    request = post([add("pieces")])
    for at in range(0, len(request), 60):
        wire.send(request[at : at + 60])
        time.sleep(0.01)
    assert statuses(wire.read_until(b"\r\n\r\n1")) == [200]
    wire.send(request)
    assert statuses(wire.read_until(b"\r\n\r\n1")) == [200]
    assert stored(served, "pieces") == 2


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(served: Server, wire: Wire) -> None:
    request = post([add("expect")], "Expect: 100-continue")
    head, _, body = request.partition(b"\r\n\r\n")
    wire.send(head + b"\r\n\r\n")
    assert b"100 Continue" in wire.read_until(b"100 Continue\r\n\r\n")
    wire.send(body)
    assert statuses(wire.read_until(b"\r\n\r\n1")) == [200]
    wire.send(post([add("piped first")]) + head + b"\r\n\r\n")
    assert b"100 Continue" in wire.read_until(b"100 Continue\r\n\r\n")
    wire.send(body)
    assert statuses(wire.read_until(b"\r\n\r\n1")) == [200]
    assert stored(served, "expect") == 2


def test_old_clients_and_those_that_close_are_closed_on(served: Server) -> None:
    for request in (post([add("closed")], "Connection: close"), post([add("closed")], version="1.0")):
        with Wire(served.base_url) as wire:
            wire.send(request)
            received = wire.read_to_end()
            assert statuses(received) == [200]
            assert b"connection: close" in received
    assert stored(served, "closed") == 2


def test_a_client_that_goes_away_before_its_answer_costs_nobody_anything(served: Server) -> None:
    for _ in range(50):
        with Wire(served.base_url) as wire:
            wire.send(post([add("gone")]))
    wait_until(lambda: stored(served, "gone") == 50)
    with Wire(served.base_url) as wire:
        wire.send(post([add("gone")]))
        assert statuses(wire.read_until(b"\r\n\r\n1")) == [200]


def test_data_in_the_query_of_a_post_without_a_body_counts_once(served: Server, wire: Wire) -> None:
    wire.send(post(b"", path="/engage?data=" + quote(json.dumps([add("in the query")]))))
    assert statuses(wire.read_until(b"\r\n\r\n1")) == [200]
    assert stored(served, "in the query") == 1


def test_a_connection_beyond_the_limit_may_not_write(start_server: StartServer) -> None:
    server = start_server(arguments=["--connection-limit", "1"])
    with Wire(server.base_url) as first, Wire(server.base_url) as second:
        first.send(b"POST /engage HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        time.sleep(0.2)
        second.send(post([add("crowd")]))
        received = second.read_to_end()
        assert statuses(received) == [503]
    assert stored(server, "crowd") is None


@pytest.mark.parametrize(
    ("records", "status"),
    [
        ([{"$token": TOKEN, "$distinct_id": "mixed", "$set": {"a": "x" * 999}}, {"$token": "no"}], 200),
        ([{"$token": "no", "$distinct_id": "mixed", "$set": {"a": 1}}], 200),
        ([], 200),
        (b"\xff\xfe", 200),
        (b'{"$token":', 200),
    ],
)
def test_what_is_not_plain_is_answered_by_the_long_way(wire: Wire, records: object, status: int) -> None:
    wire.send(post(records))
    wire.send(post([add("after")], "Connection: close"))
    received = wire.read_to_end()
    assert statuses(received) == [status, 200]
    assert bodies(received)[1] == b"1"
