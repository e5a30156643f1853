"""The browser's resend rule: what it sends again by itself counts once, what a page sends twice counts twice.

DESIGN G2, over two workers that are killed meanwhile. `tests/sdk/test_browser_resends.py` has Chromium.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from mixdown.http.exchange import Request
from mixdown.http.resends import digest_of
from mixdown.ingest.resends import Resends
from tests.durability.processes import children, unread_bytes
from tests.engine import nothing_appended
from tests.serving import Server, StartServer

FAULTS = Path(__file__).parent / "unanswered"
WAIT_S = 90.0
ROUNDS = 4  # so that both workers take a first and a second request, very likely
IN_FLIGHT_S = 0.05
SHORT_S, LONG_S = 1.0, 900.0  # in place of the minute for which a request may come again


def request_of(server: Server, user: str, stamp: str = "1795320500050") -> bytes:
    """An increment as the browser SDK sends it, batches off."""
    record = {"$token": server.token, "$distinct_id": user, "$add": {"n": 1}}
    body = f"data={quote(json.dumps(record))}"
    return (
        f"POST /engage/?verbose=1&ip=1&_={stamp} HTTP/1.1\r\nHost: {urlsplit(server.base_url).netloc}\r\n"
        "Origin: http://page.example\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def connect(server: Server) -> socket.socket:
    """A connection, as a browser's."""
    address = urlsplit(server.base_url)
    assert address.hostname is not None
    assert address.port is not None
    sock = socket.create_connection((address.hostname, address.port), timeout=WAIT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def await_reading(sock: socket.socket) -> None:
    """Wait until a worker has read what was sent: it is in flight, whatever becomes of the connection."""
    port, own_port = sock.getpeername()[1], sock.getsockname()[1]
    until(lambda: not unread_bytes(port, own_port))
    time.sleep(IN_FLIGHT_S)


def read_reply(sock: socket.socket) -> bytes:
    """A whole reply; b"" where the connection ended instead."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while b'"status":' not in data:
            piece = sock.recv(65536)
            if not piece:
                return b""
            data += piece
    return data


def send(server: Server, request: bytes) -> None:
    """Send a request whose connection lives: it must be answered, and is closed after that."""
    with contextlib.closing(connect(server)) as sock:
        sock.sendall(request)
        assert read_reply(sock).startswith(b"HTTP/1.1 200")


def reset(sock: socket.socket) -> None:
    """Cut a connection as a middlebox does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def workers(server: Server) -> list[int]:
    """The process ids of the workers."""
    return children(server.pid, "worker")


def until(condition: Callable[[], object]) -> None:
    """Wait for something."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def count(server: Server, user: str) -> object:
    """How often a user's increment was applied."""
    return server.profiles(distinct_id=user)[user]["n"]


def within(window_s: float) -> dict[str, str]:
    """The environment of a server to which a request may come again for so long."""
    return {"PYTHONPATH": str(FAULTS), "RESEND_WINDOW_MS": str(round(window_s * 1000))}


def start(start_server: StartServer, tmp_path: Path, mutant: str = "") -> Server:
    """A server with two workers that linger where a test asks for it."""
    environment = {
        **within(LONG_S),  # restarts take their time on a busy machine
        "RESEND_MARKER": str(tmp_path / "lingering"),
        "RESEND_MUTANT": mutant,
    }
    return start_server(workers=2, environment=environment)


# --- the cases: each sends one increment twice and gives its user


def twice_at_once(server: Server, user: str, marker: Path) -> None:
    """Two calls of one millisecond, each on a connection that lives."""
    del marker
    request = request_of(server, user)
    socks = [connect(server), connect(server)]
    for sock in socks:
        sock.sendall(request)
    for sock in socks:
        assert read_reply(sock).startswith(b"HTTP/1.1 200")
        sock.close()


def twice_in_turn(server: Server, user: str, marker: Path) -> None:
    """The second after the first was answered."""
    del marker
    send(server, request_of(server, user))
    send(server, request_of(server, user))


def first_reset(server: Server, user: str, marker: Path) -> None:
    """The first connection is reset before its reply; the second request comes before the commit."""
    del marker
    request = request_of(server, user)
    with contextlib.ExitStack() as held:
        held.enter_context(nothing_appended(server.data_dir))
        first, second = connect(server), connect(server)
        first.sendall(request)
        await_reading(first)
        reset(first)
        second.sendall(request)
        await_reading(second)
    assert read_reply(second).startswith(b"HTTP/1.1 200")
    second.close()


def first_closed(server: Server, user: str, marker: Path) -> None:
    """The first connection is closed before its reply; the second request comes after the commit."""
    del marker
    request = request_of(server, user)
    with nothing_appended(server.data_dir):
        first = connect(server)
        first.sendall(request)
        await_reading(first)
        first.close()
    time.sleep(IN_FLIGHT_S)
    send(server, request)


def reset_five_times(server: Server, user: str, marker: Path) -> None:
    """A browser that is cut off again and again; the sixth request is answered."""
    del marker
    request = request_of(server, user)
    with nothing_appended(server.data_dir):
        for _ in range(5):
            sock = connect(server)
            sock.sendall(request)
            await_reading(sock)
            reset(sock)
    send(server, request)


def killed_before_the_reply(server: Server, user: str, marker: Path) -> None:
    """The worker of the first request dies between commit and reply."""
    marker.unlink(missing_ok=True)
    request = request_of(server, f"linger {user}")
    with contextlib.closing(connect(server)) as sock:
        sock.sendall(request)
        until(lambda: marker.exists() and marker.read_text())
        os.kill(int(marker.read_text()), signal.SIGKILL)
        assert read_reply(sock) == b""
    send(server, request)
    until(lambda: len(workers(server)) == 2)


def killed_after_the_reply(server: Server, user: str, marker: Path) -> None:
    """Every worker dies soon after the first request was answered."""
    del marker
    send(server, request_of(server, user))
    time.sleep(IN_FLIGHT_S)
    for pid in workers(server):
        os.kill(pid, signal.SIGKILL)
    send(server, request_of(server, user))
    until(lambda: len(workers(server)) == 2)


Case = Callable[[Server, str, Path], None]

CASES: list[tuple[Case, int]] = [
    (twice_at_once, 2),
    (twice_in_turn, 2),
    (first_reset, 1),
    (first_closed, 1),
    (reset_five_times, 1),
    (killed_before_the_reply, 1),
    (killed_after_the_reply, 2),
]


def counts(server: Server, case: Case, marker: Path, rounds: int) -> set[object]:
    """What a case's increments came to, over some rounds."""
    name = case.__name__
    for number in range(rounds):
        case(server, f"{name} {number}", marker)
    kept = "linger " if case is killed_before_the_reply else ""
    return {count(server, f"{kept}{name} {number}") for number in range(rounds)}


@pytest.mark.slow
def test_a_call_that_was_not_answered_counts_once_and_two_that_were_count_twice(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start(start_server, tmp_path)
    found = {
        case.__name__: counts(
            server, case, tmp_path / "lingering", 1 if "killed" in case.__name__ else ROUNDS
        )
        for case, _ in CASES
    }
    assert found == {case.__name__: {expected} for case, expected in CASES}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "caught_by"),
    [
        ("all_answered", [first_reset, first_closed, reset_five_times]),
        ("none_answered", [twice_at_once, twice_in_turn, killed_after_the_reply]),
        ("no_waiting", [first_reset, reset_five_times]),
        ("dead_answered", [killed_before_the_reply]),
    ],
)
def test_a_rule_that_is_broken_on_purpose_is_noticed(
    start_server: StartServer, tmp_path: Path, mutant: str, caught_by: list[Case]
) -> None:
    server = start(start_server, tmp_path, mutant)
    for case, expected in CASES:
        if case in caught_by:
            assert counts(server, case, tmp_path / "lingering", 1) != {expected}, case.__name__


@pytest.mark.slow
def test_a_whole_server_that_died_before_the_reply_recognises_the_call_when_it_is_back(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start(start_server, tmp_path)
    request = request_of(server, "linger through a restart")
    with contextlib.closing(connect(server)) as sock:
        sock.sendall(request)
        until((tmp_path / "lingering").exists)
        server.kill()
        assert read_reply(sock) == b""
    # of a database the dead server has leases for a while
    patience = {"MIXDOWN_READ_WAIT_MS": "30000"}
    again = start_server(server.data_dir, environment={**within(LONG_S), **patience})
    record = request.partition(b"\r\n\r\n")[2]
    host = urlsplit(server.base_url).netloc  # the port is another one, the URL as the browser has it is not
    reply = again.request(
        "POST",
        "/engage/?verbose=1&ip=1&_=1795320500050",
        record,
        {"Host": host, "Content-Type": "application/x-www-form-urlencoded"},
    )
    assert reply.json() == {"error": None, "status": 1}
    assert count(again, "linger through a restart") == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda request: request, 1),
        (lambda request: request.replace(b"_=1795320500050", b"_=1795320500051"), 2),
        (lambda request: request.replace(b"ip=1", b"ip=0"), 2),
        (lambda request: request.replace(b"/engage/?", b"/engage?"), 2),
        (lambda request: request.replace(b"%22n%22", b"%22N%22"), 1),  # another body: another property
        (lambda request: request.replace(b"&_=", b"&x="), 2),
    ],
    ids=["nothing", "the stamp", "a parameter", "the path", "the body", "no stamp in the second"],
)
def test_what_is_sent_again_must_be_the_same_to_the_byte(
    server: Server, change: Callable[[bytes], bytes], expected: int, request: pytest.FixtureRequest
) -> None:
    user = f"same {request.node.callspec.id}"
    sent = request_of(server, user)
    with nothing_appended(server.data_dir):
        first = connect(server)
        first.sendall(sent)
        await_reading(first)
        reset(first)
    send(server, change(sent))
    properties = server.profiles(distinct_id=user)[user]
    assert properties["n"] == expected
    assert properties.get("N", 1) == 1


def test_the_same_body_with_other_credentials_is_another_request() -> None:
    """Those of an /import name its project: what one project was answered, another must not be."""
    resends = Resends(None, lambda: 0)
    digests = set()
    for credentials in (b"Basic Q0U6", b"Basic U0VDOg==", b""):
        scope = {"method": "POST", "query_string": b"_=1", "path": "/import", "raw_path": b"/import"}
        headers = [(b"host", b"a"), (b"authorization", credentials)]
        digests.add(digest_of(resends, Request.of({**scope, "headers": headers}), b"[]"))
    resends.close()
    assert len(digests) == 3


def test_a_request_without_a_stamp_is_never_taken_for_another(server: Server) -> None:
    sent = request_of(server, "unstamped").replace(b"&_=1795320500050", b"")
    with nothing_appended(server.data_dir):
        first = connect(server)
        first.sendall(sent)
        await_reading(first)
        reset(first)
    send(server, sent)
    assert count(server, "unstamped") == 2


def test_many_twins_at_once_all_count(server: Server) -> None:
    threads = [threading.Thread(target=send, args=(server, request_of(server, "many"))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(server, "many") == 40


@pytest.mark.slow
@pytest.mark.parametrize(("window_s", "expected"), [(SHORT_S, 2), (LONG_S, 1)])
def test_after_a_while_the_same_request_is_another_call(
    start_server: StartServer, window_s: float, expected: int
) -> None:
    """That the while is a minute is tested in tests/store/test_calls.py."""
    server = start_server(environment=within(window_s))
    sent = request_of(server, "late")
    with nothing_appended(server.data_dir):
        first = connect(server)
        first.sendall(sent)
        await_reading(first)
        reset(first)
    time.sleep(SHORT_S + 0.2)
    send(server, sent)
    assert count(server, "late") == expected
