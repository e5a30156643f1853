"""How often the database is asked: behind a network, each time that an answer is waited for counts."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mixdown.query.live.arrivals import ArrivalCounts
from mixdown.query.live.reader import Hearing, Rendering, TailReader
from mixdown.query.live.wanted import Share, Wanted
from mixdown.store.postgres import PostgresStore, open_postgres
from tests.store.postgres import Server
from tests.store.support import NOW_MS, append, appending, appending_events, refusal


class Counter:
    """Between a client and a server: how often the client spoke after the server had answered."""

    def __init__(self, folder: Path, server: Path) -> None:
        self.turns = 0
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._pass_on, args=(client,)))
                self._threads[-1].start()

    def _pass_on(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with client, server, contextlib.suppress(OSError):
            server.connect(str(self._server / ".s.PGSQL.5432"))
            answered = True
            while not self._closing.is_set():
                for ready in select.select([client, server], [], [], 0.05)[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    (server if ready is client else client).sendall(data)
                    self.turns += answered and ready is client
                    answered = ready is server

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()


@pytest.fixture
def counted(postgresql: Server) -> Iterator[tuple[PostgresStore, Counter]]:
    with TemporaryDirectory(prefix="mixdown-", dir="/tmp") as name:
        counter = Counter(Path(name), postgresql.folder)
        url = postgresql.straight(postgresql.migrated(partitions=2)).replace(str(postgresql.folder), name)
        store = open_postgres(url, role="worker", create=False)
        try:
            yield store, counter
        finally:
            store.close()
            counter.close()


def test_what_happens_with_each_request_is_one_round_trip(counted: tuple[PostgresStore, Counter]) -> None:
    store, counter = counted
    view = store.partition(1)
    append(view.log, appending("warm"))

    def turns(of: int, what: str) -> None:
        assert counter.turns == of, what
        counter.turns = 0

    counter.turns = 0
    append(view.log, appending("a", refused=[refusal()]))
    turns(1, "a chunk and its refusals")
    with view.log.turn() as turn:
        parted = turn.parted()
        turns(0, "where ids were parted is known from the append before")
        assert turn.append([appending_events("b")], NOW_MS).end > parted
    turns(1, "likewise")
    store.database.run("UPDATE mixdown.watermarks SET position = position + 3 WHERE partition = 1")
    counter.turns = 0
    assert store.places([0, 1])[1].slowest == view.log.head()
    turns(2, "how far readers have come, where they have all; and the head")
    view.log.read(view.log.head(), max_records=1, max_bytes=1)
    turns(2, "the head; then a read")


def test_whoever_listens_or_counts_asks_once_for_all_partitions(
    counted: tuple[PostgresStore, Counter],
) -> None:
    store, counter = counted
    listener = Hearing(
        Share(Wanted(None), rate=1000, now_s=0.0), Rendering(lambda *_: b"", lambda *_: b""), lambda: 0
    )
    reader, arrivals = TailReader(store), ArrivalCounts(store)
    reader.begin(listener, None)
    arrivals.of(None, now_ms=NOW_MS)
    for ask in (
        lambda: reader.look([listener], 0.5),
        lambda: arrivals.of(None, now_ms=NOW_MS),
        lambda: TailReader(store).begin(listener, None),
        store.logs,
    ):
        counter.turns = 0
        ask()
        assert counter.turns == 1
