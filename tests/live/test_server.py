"""Streams of a whole server: heard over a socket, from several workers, and no hindrance when it stops."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.live.support import ARRIVALS, LIVE
from tests.serving import Server, StartServer

pytestmark = pytest.mark.slow


@contextmanager
def listening(server: Server, query: str = "") -> Iterator[http.client.HTTPResponse]:
    """A stream, once it has begun."""
    host = server.base_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=120)
    try:
        connection.request("GET", f"{LIVE}?{query}", headers=server.authorization())
        reply = connection.getresponse()
        assert reply.status == 200
        while not reply.readline().startswith(b"event: begin"):
            pass
        yield reply
    finally:
        connection.close()


def heard(reply: http.client.HTTPResponse, kind: str) -> dict[str, object]:
    """The next message of a kind."""
    while (line := reply.readline()) != f"event: {kind}\n".encode():
        assert line, "the stream has ended"
    found: dict[str, object] = json.loads(reply.readline().removeprefix(b"data: "))
    return found


def update(server: Server, profile_id: str) -> dict[str, object]:
    return {"$token": server.token, "$distinct_id": profile_id, "$set": {"plan": "pro"}}


def test_open_streams_end_when_the_server_stops_and_do_not_hold_it_up(start_server: StartServer) -> None:
    server = start_server(environment={"MIXDOWN_SHUTDOWN_TIMEOUT_S": "60"})
    with listening(server) as one, listening(server, "rate=1") as other:
        server.post("/engage", [update(server, "ada")])
        assert heard(one, "update")["id"] == "ada"
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 40, "well below the patience for answers under way"
        for reply in (one, other):
            assert heard(reply, "end") == {"why": "the server is going down"}
            assert not reply.read().strip(), "it ends as an answer should"


def test_a_stream_hears_what_other_workers_store_and_all_count_the_same(start_server: StartServer) -> None:
    server = start_server(environment={"MIXDOWN_WORKERS": "3"})
    with listening(server) as one, listening(server) as two, listening(server) as three:
        sent = [f"user-{number}" for number in range(30)]
        for profile_id in sent:
            server.post("/engage", [update(server, profile_id)])  # each by a connection of its own
        for reply in (one, two, three):
            assert [heard(reply, "update")["id"] for _ in sent] == sent
    counts = set()
    for _ in range(12):
        answer = server.request("GET", ARRIVALS, headers=server.authorization())
        counts.add(sum(answer.json()["results"]["update"]))
    assert counts == {30}
