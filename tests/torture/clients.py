"""Clients on keep-alive connections that send a request again, with its key, until it is acknowledged.

And now and then after that: what was acknowledged is sent once more, at once or much later, on another
connection, to the other worker where one can be reached. All run as tasks of one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from tests.durability.processes import holder_of
from tests.serving import Server
from tests.torture.ledger import Ledger, Unkeyed
from tests.torture.records import Maker, Request

TIMEOUT_S: Final = 20.0
NO_ANSWER: Final = f"not answered within {TIMEOUT_S:.0f} s"
REST_LIMIT_S: Final = 150.0
_PAUSE_S: Final = 0.02
_TRIES: Final = 3000
_KEPT: Final = 30
_AGAIN_SHARE: Final = 0.2
_LOOKS_FOR_OTHER: Final = 4


class UnexpectedReplyError(Exception):
    """A reply that no fault of processes, disk or clock explains."""


class Connection:
    """One HTTP/1.1 connection, opened when it is needed: to any of some ports, the next one each time."""

    def __init__(self, *ports: int) -> None:
        self._ports = deque(ports)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, request: Request) -> tuple[int, bytes]:
        """One try: (status, body). Raises `OSError` or `EOFError` when the connection breaks."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._post(request)
        except BaseException:
            self.close()
            raise

    async def _post(self, request: Request) -> tuple[int, bytes]:
        reader, writer = await self.open()
        body = request.body
        head = [f"POST {request.path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        head += [f"{name}: {value}" for name, value in request.headers.items()]
        writer.write("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body)
        await writer.drain()
        top = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(top.partition("content-length:")[2].partition("\r\n")[0])
        answer = await reader.readexactly(length)
        if top.startswith("http/1.1 503") and "\r\nretry-after: " not in top:
            raise UnexpectedReplyError(f"{request.path} : 503 without Retry-After: {answer[:300]!r}")
        if "connection: close" in top:
            self.close()
        return int(top.split(maxsplit=2)[1]), answer

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection's streams."""
        if self._streams is None:
            self._ports.rotate(-1)
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        return self._streams

    @property
    def port(self) -> int:
        """The port that it is open to, or was last."""
        return self._ports[0]

    @property
    def local_port(self) -> int:
        """This end's port; 0 while it is not open."""
        return self._streams[1].get_extra_info("sockname")[1] if self._streams else 0

    def close(self) -> None:
        """Close; the next request opens it anew."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Crowd:
    """All clients: they rest and go on together, and stop for good at the first reply that is wrong."""

    def __init__(
        self,
        server: Server,
        *ports: int,
        clients: int,
        seed: int,
        workers: Callable[[], list[int]],
        whole_requests: bool = True,
        pause_s: float = _PAUSE_S,
    ) -> None:
        self.ledger = Ledger(whole_requests=whole_requests)
        self.counts: Counter[str] = Counter()
        self.pause_s = pause_s
        self.slowest_s = 0.0
        self.last_acknowledged_s = 0.0
        self.in_flight = 0
        self._going = asyncio.Event()
        self._clients = [
            Client(self, ports, Maker(server.token, server.secret, number, seed), seed, number)
            for number in range(clients)
        ]
        heavy = Maker(server.token, server.secret, clients, seed)
        self._heavy = Client(self, ports, heavy, seed, clients)
        self._workers = workers
        self._tasks: list[asyncio.Task[None]] = []
        self._busy = 0

    def start(self) -> None:
        """Begin to send."""
        self._going.set()
        self._tasks = [asyncio.create_task(client.run()) for client in self._clients]

    async def rest(self) -> None:
        """Return when every request that was begun is carried through, and nobody begins another."""
        self._going.clear()
        began = time.monotonic()
        while self._busy:
            if time.monotonic() - began > REST_LIMIT_S:
                raise UnexpectedReplyError(f"{self._busy} clients got no acknowledgement any more")
            self.raise_fault()
            await asyncio.sleep(0.005)
        self.raise_fault()

    def go_on(self) -> None:
        """Send again."""
        self._going.set()

    async def stop(self) -> None:
        """End all clients at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in (*self._clients, self._heavy):
            client.close()

    async def send_heavy(self) -> None:
        """One request that outgrows whatever room the WAL still has on a full disk."""
        self._busy += 1
        try:
            await self._heavy.send_heavy()
        finally:
            self._busy -= 1

    def raise_fault(self) -> None:
        """Raise what a client has raised."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def turn(self) -> None:
        """A client waits here before each request."""
        while not self._going.is_set():
            await self._going.wait()
        self._busy += 1

    def done(self) -> None:
        """A client's request is carried through."""
        self._busy -= 1

    def worker_of(self, connection: Connection) -> int:
        """The worker that took a connection, as `/proc` shows it; 0 when that cannot be seen."""
        return holder_of(connection.port, connection.local_port, self._workers())


class Client:
    """One client: one request at a time, so that the order of its records is known (DESIGN G3)."""

    def __init__(self, crowd: Crowd, ports: Sequence[int], maker: Maker, seed: int, number: int) -> None:
        self._crowd = crowd
        self._ports = deque(ports)
        self._ports.rotate(number)
        self._maker = maker
        self._random = random.Random(f"{seed}/client/{number}")
        self._connection = Connection(*self._ports)
        self._kept: deque[Request] = deque(maxlen=_KEPT)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._crowd.turn()
            try:
                await self._one()
            finally:
                self._crowd.done()

    async def send_heavy(self) -> None:
        """Deliver a request of many records."""
        request = self._maker.heavy()
        await self._deliver(self._connection, request)
        self._crowd.ledger.owned(request.records)
        self._crowd.counts["heavy requests"] += 1

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    async def _one(self) -> None:
        request = self._maker.next()
        if request.sort == "unkeyed":
            acknowledged = await self._try(self._connection, request)
            ids = tuple(record["$distinct_id"] for record in request.records)
            self._crowd.ledger.unkeyed(Unkeyed(ids, request.mark, acknowledged))
            self._crowd.counts["without a key"] += 1
            return
        if request.sort == "unkeyed events":
            acknowledged = await self._try(self._connection, request)
            self._crowd.ledger.unkeyed_events(request.records, acknowledged=acknowledged)
            self._crowd.counts["events without a key"] += 1
            return
        await self._deliver(self._connection, request)
        if request.sort == "owned":
            self._crowd.ledger.owned(request.records)
        elif request.sort == "events":
            self._crowd.ledger.events(request.records)
            self._crowd.counts["requests of events"] += 1
        else:
            self._crowd.ledger.shared(request.records)
        self._kept.append(request)
        if self._random.random() < _AGAIN_SHARE:
            await self._send_again(self._random.choice((request, self._random.choice(self._kept))))

    async def _deliver(self, connection: Connection, request: Request) -> None:
        """Send until it is acknowledged."""
        for tried in range(_TRIES):
            if await self._try(connection, request):
                self._crowd.counts["sent again unanswered"] += tried
                return
            await asyncio.sleep(self._crowd.pause_s)
        raise UnexpectedReplyError(f"no acknowledgement after {_TRIES} tries")

    async def _send_again(self, request: Request) -> None:
        """Send what was acknowledged once more, on a new connection, to the other worker if one answers."""
        first = self._crowd.worker_of(self._connection)
        connection = Connection(*self._ports)
        elsewhere = False
        for _ in range(_LOOKS_FOR_OTHER):
            with contextlib.suppress(OSError):
                await connection.open()
            taken_by = self._crowd.worker_of(connection)
            elsewhere = bool(first and taken_by and taken_by != first)
            if elsewhere:
                break
            connection.close()
        await self._deliver(connection, request)
        connection.close()
        self._crowd.counts["repeated after the answer"] += 1
        self._crowd.counts["repeated to another worker"] += elsewhere

    async def _try(self, connection: Connection, request: Request) -> bool:
        """Whether one try was acknowledged. Raises `UnexpectedReplyError` for a refusal."""
        self._crowd.in_flight += 1
        began = time.monotonic()
        try:
            status, answer = await connection.post(request)
        except TimeoutError:
            self._crowd.counts[NO_ANSWER] += 1
            return False
        except (OSError, EOFError, ValueError):
            return False
        finally:
            self._crowd.in_flight -= 1
        self._crowd.slowest_s = max(self._crowd.slowest_s, time.monotonic() - began)
        if status == 503:
            self._crowd.counts["answered 503"] += 1
            return False
        stored = orjson.loads(answer)
        if isinstance(stored, dict):  # the strict reply of /import
            stored = stored.get("num_records_imported") == len(request.records)
        if status != 200 or not stored:
            raise UnexpectedReplyError(f"{request.path} was answered {status} {answer[:300]!r}")
        self._crowd.counts["acknowledged requests"] += 1
        self._crowd.last_acknowledged_s = time.monotonic()
        return True
