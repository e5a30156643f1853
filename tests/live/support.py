"""Listening to a server in process: the stream as a browser reads it, while records are sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from mixdown.query.live import tail
from mixdown.query.live.tail import LiveTail
from tests.reads.support import NOON_MS, PASSWORD, READER, TOKEN, World, basic

LIVE, RECENT, ARRIVALS = "/api/mixdown/live", "/api/mixdown/live/recent", "/api/mixdown/arrivals"
PATIENCE_S = 60.0
RECORDS = ("update", "event", "link", "refusal")


class Message(NamedTuple):
    """One server-sent event; `data` decoded."""

    kind: str
    id: str
    data: Any


class Listener:
    """One who listens, in the event loop of a `World`."""

    def __init__(
        self,
        world: World,
        query: str = "",
        *,
        user: str | None = READER,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._world = world
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self._gone = asyncio.Event()
        sent = dict(headers or {})
        if user is not None:
            sent["authorization"] = basic(f"{user}:{PASSWORD}")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": LIVE,
            "raw_path": LIVE.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
            "client": ("192.0.2.7", 4711),
            "server": ("mixdown.test", 80),
        }
        self._task = world.loop.create_task(world.app(scope, self._receive, self._send))
        self.until(lambda: bool(self.status) and (self.ended or b"event: begin" in self.body))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            return
        self.body += message.get("body", b"")
        self.ended = not message.get("more_body", False)

    @property
    def messages(self) -> list[Message]:
        """What was heard so far."""
        found = []
        for block in self.body.decode().split("\n\n"):
            fields: dict[str, str] = {}
            for line in block.split("\n"):
                name, _, value = line.partition(": ")
                fields[name] = value
            if "event" in fields:
                found.append(Message(fields["event"], fields.get("id", ""), json.loads(fields["data"])))
        return found

    @property
    def records(self) -> list[Message]:
        """The records among them."""
        return [message for message in self.messages if message.kind in RECORDS]

    def hear(self, count: int) -> list[Message]:
        """Wait for so many records; the records heard so far."""
        self.until(lambda: len(self.records) >= count)
        return self.records

    def find(self, kind: str) -> Any:
        """Wait for a message of a kind; its data."""
        self.until(lambda: any(message.kind == kind for message in self.messages))
        return next(message.data for message in self.messages if message.kind == kind)

    def until(self, holds: Callable[[], bool]) -> None:
        """Run the loop until something holds."""

        async def wait() -> None:
            async with asyncio.timeout(PATIENCE_S):
                while not holds():
                    if self._task.done():
                        self._task.result()
                        assert holds(), self.body[-2000:]
                    await asyncio.sleep(0.002)

        self._world.loop.run_until_complete(wait())

    def leave(self) -> None:
        """Go, and wait until the server has noticed."""
        self._gone.set()
        self._world.loop.run_until_complete(asyncio.wait_for(self._task, PATIENCE_S))


def quick(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose tail looks a hundred times a second, and at credentials as often."""
    monkeypatch.setattr(tail, "ALLOWED_EVERY_S", 0.02)
    world.services.__dict__["live"] = LiveTail(world.store, pause_s=0.01)
    return world


def query(**parameters: Any) -> str:
    """Parameters of a stream."""
    return urlencode(parameters)


def event(name: str, distinct_id: str, *, token: str = TOKEN, **properties: Any) -> dict[str, Any]:
    """An event."""
    own = {"token": token, "distinct_id": distinct_id, "time": NOON_MS, "$insert_id": f"{name}-{distinct_id}"}
    return {"event": name, "properties": {**own, **properties}}


def close(world: World) -> None:
    """End all who listen, and the world."""
    world.services.close_live()
    left = asyncio.all_tasks(world.loop)
    if left:
        world.loop.run_until_complete(asyncio.wait(left, timeout=PATIENCE_S))
    world.close()
