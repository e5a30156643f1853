"""A worker's application in this process: real ingestion and a real store, driven through raw ASGI.

For what cannot be arranged over a socket: bodies in pieces, clients that vanish, a store that is full.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from mixdown.http.app import App, Part, make_app
from mixdown.http.metrics import Metrics
from mixdown.http.reply import Reply
from mixdown.http.services import Services
from mixdown.ingest.pipeline import Ingest
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import RefusedRecord

NOON_MS = 1_768_478_400_000
CLIENT = ("192.0.2.7", 4711)
Message = dict[str, Any]


class Answer(NamedTuple):
    """A reply as the application sent it."""

    status: int
    headers: dict[str, str]
    body: bytes


class Worker:
    """One worker on a store in memory, whose project `default` has the token TOK."""

    def __init__(self, part: Part = "all", **settings: Any) -> None:
        self.settings = Settings(disk_reserve_bytes=0, disk_reserve_percent=0, **settings)
        self.store = MemoryStore()
        self.project = self.store.catalog.create_project(
            "default", token="TOK", secret_hash=b"s" * 32, id_merge="simplified", now_ms=NOON_MS
        )
        self.metrics = Metrics()
        self._executor = ThreadPoolExecutor(1)
        catalog = CatalogCache(self.store.catalog)
        self.ingest = Ingest.open(self.settings, self.store, catalog, executor=self._executor)
        self.services = Services(
            settings=self.settings,
            store=self.store,
            catalog=catalog,
            ingest=self.ingest,
            metrics=self.metrics,
            executor=self._executor,
            now_ms=lambda: NOON_MS,
        )
        self.app = make_app(self.services, part=part)

    def close(self) -> None:
        """End the commit thread."""
        self.ingest.close()
        self._executor.shutdown()

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | Sequence[bytes] = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; a body given in pieces arrives in pieces."""
        pieces = [body] if isinstance(body, bytes) else body
        messages = [
            {"type": "http.request", "body": piece, "more_body": index < len(pieces)}
            for index, piece in enumerate(pieces, 1)
        ]
        sent, _ = self.play(method, target, messages, headers)
        start, end = sent
        return Answer(
            start["status"],
            {name.decode(): value.decode("latin-1") for name, value in start["headers"]},
            end["body"],
        )

    def play(
        self, method: str, target: str, messages: Sequence[Message], headers: dict[str, str] | None = None
    ) -> tuple[list[Message], int]:
        """What the application sends when these messages come in, and how many of them it took."""
        scope = _scope(method, target, headers)
        sent: list[Message] = []
        waiting = iter(messages)
        taken = 0

        async def receive() -> Message:
            nonlocal taken
            taken += 1
            return next(waiting)

        async def send(message: Any) -> None:
            sent.append(dict(message))

        async def call() -> None:
            await self.app(scope, receive, send)

        asyncio.run(call())
        return sent, taken

    def ask_at_once(
        self, method: str, target: str, body: bytes, headers: dict[str, str] | None = None
    ) -> Reply | None:
        """Offer a request to the short way; its reply, or None where it is not taken."""
        app = self.app
        assert isinstance(app, App)
        self.ingest._looked = time.monotonic()  # four requests a second go the long way, to look at the gate

        async def offer() -> Reply | None:
            replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            taken = app.take_at_once(_scope(method, target, headers), body, replied.set_result)
            return await replied if taken else None

        return asyncio.run(offer())

    def held_bytes(self) -> int:
        """How many bytes of bodies the application holds."""
        assert isinstance(self.app, App)
        return self.app._ingestion._bodies.held_bytes

    def stored(self) -> int:
        """How many records the log holds."""
        return self.store.log.head() - self.store.log.tail_position()

    def refusals(self) -> list[RefusedRecord]:
        """The refusals kept, oldest first."""
        return self.store.refusals.listing(None)[::-1]

    def counted(self, name: str, **labels: str) -> float:
        """The value of a metric."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def _scope(method: str, target: str, headers: dict[str, str] | None) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": CLIENT,
        "server": ("127.0.0.1", 80),
    }


def running(**options: Any) -> Iterator[Worker]:
    """A worker for a fixture."""
    worker = Worker(**options)
    yield worker
    worker.close()
