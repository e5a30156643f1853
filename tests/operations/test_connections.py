"""Connections: raw sockets against every bound on what a client can make long, large or slow (DESIGN G7)."""

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.support import Wire, child, statuses, wait_until
from tests.serving import TOKEN, Server, StartServer, start_module_server

pytestmark = pytest.mark.slow

__all__ = ["start_module_server"]

HOST = b"Host: a\r\n"
CLOSE = b"Connection: close\r\n"
LIMIT = 131_072
CONNECTIONS = 20


@pytest.fixture(scope="module")
def hasty(start_module_server: StartServer) -> Server:
    """A server with short times and few connections."""
    seconds = ["--header-timeout-s", "1", "--body-timeout-s", "1", "--idle-timeout-s", "1"]
    return start_module_server(arguments=[*seconds, "--connection-limit", str(CONNECTIONS)])


@pytest.fixture
def wire(hasty: Server) -> Iterator[Wire]:
    """One connection to it."""
    with Wire(hasty.base_url) as connection:
        yield connection


def error_of(received: bytes) -> str:
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    answer = json.loads(body)
    assert answer["status"] == 0
    return str(answer["error"])


# --- time


@pytest.mark.parametrize(
    "start", [b"G", b"GET /livez HTTP/1.1\r\n" + HOST, b"POST /engage HTTP/1.1\r\nX-Slow: "]
)
def test_headers_that_do_not_end_are_cut_with_408(wire: Wire, start: bytes) -> None:
    wire.send(start)
    received = wire.read_to_end()
    assert statuses(received) == [408]
    assert "headers" in error_of(received)
    assert 0.9 < wire.age_s < 9


def test_headers_that_trickle_are_cut_all_the_same(wire: Wire) -> None:
    wire.socket.settimeout(0.2)
    received = b""
    wire.send(b"GET /livez HTTP/1.1\r\n")
    while not received and wire.age_s < 9:
        wire.send(b"X-A: b\r\n")
        with contextlib.suppress(TimeoutError):
            received = wire.socket.recv(65536)
    assert statuses(received) == [408]


def test_a_body_that_trickles_is_cut_with_408_and_stores_nothing(hasty: Server, wire: Wire) -> None:
    body = json.dumps([{"$token": TOKEN, "$distinct_id": "slow", "$set": {"x": 1}}]).encode()
    wire.socket.settimeout(0.2)
    wire.send(b"POST /engage HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body))
    received = b""
    for byte in body:
        wire.send(bytes([byte]))
        with contextlib.suppress(TimeoutError):
            received = wire.socket.recv(65536)
        if received:
            break
    assert statuses(received) == [408]
    assert "body" in error_of(received)
    assert "slow" not in hasty.profiles()


def test_a_connection_without_a_request_is_closed_without_a_word(wire: Wire) -> None:
    assert wire.read_to_end() == b""
    assert 0.9 < wire.age_s < 9


def test_an_idle_connection_is_closed_after_its_time_and_not_before(wire: Wire) -> None:
    for _ in range(3):
        wire.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        assert statuses(wire.read_until(b'{"status":"ok"}')) == [200]
        time.sleep(0.5)
    assert wire.age_s >= 1.5
    assert wire.read_to_end() == b""
    assert wire.age_s < 30


def test_the_rest_of_a_body_that_was_answered_early_may_not_trickle_for_ever(wire: Wire) -> None:
    wire.send(b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\nabc")
    assert statuses(wire.read_to_end()) == [405], "and no second answer after the first"
    assert wire.age_s < 30


# --- size


def padded(target: bytes, size: int) -> bytes:
    return target + b"&pad=" + b"p" * (size - len(target) - 5)


def record_in_query(distinct_id: str) -> bytes:
    record = json.dumps({"$token": TOKEN, "$distinct_id": distinct_id, "$set": {"x": 1}})
    return b"/engage?data=" + base64.urlsafe_b64encode(record.encode())


@pytest.mark.parametrize("size", [1000, 64_999, 65_535, 65_536, 70_000, 130_000])
def test_a_long_url_is_read_whole(hasty: Server, wire: Wire, size: int) -> None:
    target = padded(record_in_query(f"long-{size}"), size)
    wire.send(b"GET " + target + b" HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    received = wire.read_to_end()
    assert statuses(received) == [200]
    assert received.endswith(b"\r\n\r\n1")
    assert f"long-{size}" in hasty.profiles()


@pytest.mark.parametrize("size", [LIMIT + 1, 300_000, 5_000_000])
def test_a_url_beyond_the_limit_is_refused_with_414(wire: Wire, size: int) -> None:
    wire.send(b"GET " + padded(record_in_query("a"), size) + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    received = wire.read_to_end()
    assert statuses(received) == [414]
    assert str(LIMIT) in error_of(received)


def test_a_long_path_is_refused_with_414(wire: Wire) -> None:
    wire.send(b"GET /" + b"p" * 66_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert statuses(wire.read_to_end()) == [414]


@pytest.mark.parametrize(
    "headers",
    [
        b"X: " + b"h" * 200_000 + b"\r\n",
        b"X: " + b"h" * 5_000_000 + b"\r\n",
        b"".join(b"X-%d: %s\r\n" % (number, b"h" * 500) for number in range(300)),
        b"".join(b"X-%d: h\r\n" % number for number in range(1001)),
    ],
    ids=["one large", "one huge", "many", "very many small"],
)
@pytest.mark.parametrize("pieces", [1, 50])
def test_headers_beyond_the_limit_are_refused_with_431(wire: Wire, headers: bytes, pieces: int) -> None:
    request = b"GET /livez HTTP/1.1\r\n" + HOST + headers + b"\r\n"
    step = len(request) // pieces + 1
    wire.send(*(request[start : start + step] for start in range(0, len(request), step)))
    received = wire.read_to_end()
    assert statuses(received) == [431]
    assert "headers" in error_of(received)


def test_headers_within_the_limit_pass_also_behind_a_large_body(wire: Wire) -> None:
    body = b"x" * 400_000
    post = b"POST /record HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    get = b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"h" * 120_000 + b"\r\n" + CLOSE + b"\r\n"
    wire.send(post + get)
    assert statuses(wire.read_to_end()) == [200, 200]


def test_an_endless_chunked_body_is_answered_and_cut(wire: Wire) -> None:
    wire.send(b"POST /engage HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    for _ in range(1000):
        wire.send(piece)
    received = wire.read_to_end()
    assert statuses(received)[0] == 413


# --- shape


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # somebody speaks TLS to the plain port
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nNo Colon\r\n\r\n",
        b"POST /engage HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /engage HTTP/1.1\r\nContent-Length: abc\r\n\r\n",
        b"POST /engage HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_400(wire: Wire, request_bytes: bytes) -> None:
    wire.send(request_bytes)
    received = wire.read_to_end()
    assert statuses(received) == [400]
    assert error_of(received)


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    one = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    other = b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n"
    wire.send((one + other) * 500 + b"GET /readyz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    assert statuses(wire.read_to_end()) == [200, 404] * 500 + [200]


def test_a_broken_request_behind_a_good_one_costs_the_good_one_nothing(hasty: Server, wire: Wire) -> None:
    body = json.dumps([{"$token": TOKEN, "$distinct_id": "good", "$set": {"x": 1}}]).encode()
    good = b"POST /engage HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    wire.send(good + b"broken\r\n\r\n")
    received = wire.read_to_end()
    assert statuses(received) == [200]
    assert received.endswith(b"\r\n\r\n1")
    assert "good" in hasty.profiles()


@pytest.mark.parametrize("cut", [0, 30, 95, 130])
def test_a_request_that_offers_http2_is_read_as_http1_with_its_body(
    hasty: Server, wire: Wire, cut: int
) -> None:
    """Java's HTTP client offers h2c with its first POST."""
    body = json.dumps([{"$token": TOKEN, "$distinct_id": f"java-{cut}", "$set": {"x": 1}}]).encode()
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    post = b"POST /engage HTTP/1.1\r\n" + HOST + upgrade + b"Content-Length: %d\r\n\r\n" % len(body) + body
    wire.send(post[:cut])
    time.sleep(0.05)
    wire.send(post[cut:] + b"GET /livez HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    received = wire.read_to_end()
    assert statuses(received) == [200, 200]
    assert f"java-{cut}" in hasty.profiles()


def test_a_request_to_a_proxy_is_refused(wire: Wire) -> None:
    wire.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert statuses(wire.read_to_end()) == [405]


def test_a_client_that_waits_for_100_continue_gets_it(wire: Wire) -> None:
    body = json.dumps([{"$token": TOKEN, "$distinct_id": "hundred", "$set": {"x": 1}}]).encode()
    wire.send(
        b"POST /engage HTTP/1.1\r\n"
        + HOST
        + CLOSE
        + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    assert statuses(wire.read_until(b"\r\n\r\n")) == [100]
    wire.send(body)
    assert wire.read_to_end().endswith(b"\r\n\r\n1")


def test_the_server_names_itself_and_nothing_else(hasty: Server) -> None:
    reply = hasty.get("/livez")
    assert reply.header("server") == "mixdown"
    assert reply.header("date")


# --- many


def test_a_client_that_does_not_read_its_answers_is_cut(hasty: Server) -> None:
    asked = 4000
    with Wire(hasty.base_url) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send((b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n") * asked)
        time.sleep(4)
        received = wire.read_to_end()
    assert 0 < len(statuses(received)) < asked
    assert hasty.get("/livez").status == 200


def peak_memory_kib(pid: int) -> int:
    """The most memory that a process has held so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def test_a_flood_of_pipelined_requests_takes_no_more_memory_than_a_few(
    start_module_server: StartServer,
) -> None:
    server = start_module_server()
    worker = child(server.pid, "worker")
    request = b"GET /livez HTTP/1.1\r\n\r\n"
    floods = []
    for asked in (10_000, 100_000):
        before = peak_memory_kib(worker)
        with Wire(server.base_url) as wire:
            sender = threading.Thread(
                target=wire.send, args=(request * asked + request[:-2] + CLOSE + b"\r\n",)
            )
            sender.start()
            received = wire.read_to_end()
            sender.join()
        assert len(statuses(received)) == asked + 1
        floods.append(peak_memory_kib(worker) - before)
    assert floods[1] < 40_000, floods


def test_connections_beyond_the_limit_get_503_and_are_closed(hasty: Server) -> None:
    wait_until(lambda: hasty.get("/livez").status == 200)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(Wire(hasty.base_url)) for _ in range(CONNECTIONS)]
        time.sleep(0.1)
        with Wire(hasty.base_url) as read:
            read.send(b"GET /api/query/engage HTTP/1.1\r\nOrigin: https://a.example\r\n" + HOST + b"\r\n")
            refused = read.read_to_end()
        with Wire(hasty.base_url) as write:
            write.send(
                b"POST /engage/ HTTP/1.1\r\nOrigin: https://a.example\r\nContent-Length: 2\r\n"
                + HOST
                + b"\r\n[]"
            )
            held_off = write.read_to_end()
        assert len(crowd) == CONNECTIONS
    assert statuses(refused) == statuses(held_off) == [503]
    assert "connections" in error_of(refused)
    assert b"retry-after" not in refused
    assert b"access-control" not in refused
    assert b"\r\nretry-after: 1\r\n" in held_off
    assert b"\r\naccess-control-allow-origin: https://a.example\r\n" in held_off
    wait_until(lambda: hasty.get("/livez").status == 200)
