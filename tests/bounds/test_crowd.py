"""Ten thousand connections: each is looked at once a second, and the idle ones make room for the busy."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable

import pytest

from mixdown.server.crowd import LOOK_EVERY_S, PARTS, SPARED_S, Crowd
from tests.operations.support import Wire, statuses, wait_until
from tests.serving import Server, StartServer

pytestmark = pytest.mark.slow

CONNECTIONS = 20
ASK = b"GET /livez HTTP/1.1\r\nHost: mixdown\r\n\r\n"


class Client:
    """A connection that remembers what was done to it."""

    def __init__(self, crowd: Crowd, idle_since: float = math.inf) -> None:
        self.part = 0
        self.looked_at: list[float] = []
        self.closed = False
        self._idle_since = idle_since
        crowd.join(self)

    def expire(self, now: float) -> None:
        self.looked_at.append(now)

    def idle_since(self) -> float:
        return self._idle_since

    def make_room(self) -> None:
        self.closed = True
        self._idle_since = math.inf


def test_every_connection_is_looked_at_once_in_a_round() -> None:
    crowd = Crowd()
    clients = [Client(crowd) for _ in range(1003)]
    for turn in range(PARTS):
        crowd.expire(turn, float(turn))
        assert sum(client.looked_at == [float(turn)] for client in clients) in (100, 101)
    assert all(len(client.looked_at) == 1 for client in clients)


def test_a_connection_that_left_is_not_looked_at() -> None:
    crowd = Crowd()
    gone = Client(crowd)
    crowd.leave(gone)
    crowd.leave(gone)
    for turn in range(PARTS):
        crowd.expire(turn, 0.0)
    assert gone.looked_at == []


def test_those_that_are_idle_longest_make_room_first_and_the_busy_never() -> None:
    crowd = Crowd()
    busy = [Client(crowd) for _ in range(50)]
    idle = [Client(crowd, idle_since=100.0 - age) for age in range(100)]
    now = 100.0
    closed = []
    while crowd.make_room(now) or now < 200:
        closed += [client for client in idle if client.closed and client not in closed]
        now += LOOK_EVERY_S
    assert closed[:5] == idle[:-6:-1]
    assert len(closed) == 100
    assert not any(client.closed for client in busy)


def test_a_connection_used_a_moment_ago_is_spared() -> None:
    crowd = Crowd()
    client = Client(crowd, idle_since=10.0)
    assert not crowd.make_room(10.0 + SPARED_S - 0.01)
    assert not client.closed
    assert crowd.make_room(10.0 + SPARED_S + LOOK_EVERY_S)
    assert client.closed


@pytest.fixture(scope="module")
def small(start_module_server: StartServer) -> Server:
    """A server that few may be connected to."""
    return start_module_server(arguments=["--connection-limit", str(CONNECTIONS)])


def asked(wire: Wire) -> Wire:
    wire.send(ASK)
    assert statuses(wire.read_until(b"}")) == [200]
    return wire


@pytest.mark.parametrize("prepare", [lambda wire: wire, asked], ids=["said nothing", "idle after a request"])
def test_idle_connections_do_not_keep_others_out(small: Server, prepare: Callable[[Wire], Wire]) -> None:
    with contextlib.ExitStack() as stack:
        crowd: list[Wire] = []
        for _ in range(CONNECTIONS):
            crowd.append(prepare(stack.enter_context(Wire(small.base_url))))
            time.sleep(0.05)  # the server is to see them come one after the other, also when it is busy
        time.sleep(SPARED_S + 0.2)
        newcomer = asked(stack.enter_context(Wire(small.base_url)))
        longest_idle = crowd[0]
        assert longest_idle.read_to_end() == b""
        asked(newcomer)
        for wire in crowd[2:]:
            asked(wire)
    wait_until(lambda: small.get("/livez").status == 200)


def test_connections_that_have_begun_a_request_are_not_closed_for_newcomers(small: Server) -> None:
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(Wire(small.base_url)) for _ in range(CONNECTIONS)]
        for wire in crowd:
            wire.send(ASK[:10])
        time.sleep(SPARED_S + 0.2)
        with Wire(small.base_url) as newcomer:
            newcomer.send(ASK)
            assert statuses(newcomer.read_to_end()) == [503]
        for wire in crowd:
            wire.send(ASK[10:])
            assert statuses(wire.read_until(b"}")) == [200]
    wait_until(lambda: small.get("/livez").status == 200)
