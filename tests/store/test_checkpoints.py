"""The WAL of the state stays bounded, also while readers keep overlapping each other's snapshots."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.checkpoints import FAR_TIMES, Checkpoints, Pace

PACE = Pace(pages=100, every_s=3600.0)


class Readers:
    """Two readers, one of which always has a snapshot that began before the other's ended."""

    def __init__(self, path: Path, every: int) -> None:
        self._connections = [apsw.Connection(str(path)), apsw.Connection(str(path))]
        self._every = every
        self._begin(0)
        self._turn = 0

    def _begin(self, which: int) -> None:
        sqlite.rows(self._connections[which], "BEGIN")
        sqlite.rows(self._connections[which], "SELECT count(*) FROM t")

    def after_commit(self, number: int) -> None:
        if number % self._every == 0:
            new = 1 - self._turn
            self._begin(new)
            sqlite.rows(self._connections[self._turn], "COMMIT")
            self._turn = new

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


@pytest.mark.parametrize("every", [1, 7])
def test_readers_that_overlap_without_end_do_not_let_the_wal_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr("mixdown.store.sqlite.checkpoints._RESTART_WAIT_MS", 1)
    path = tmp_path / "t.db"
    pages: list[int] = []
    writer = apsw.Connection(str(path))
    for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = OFF"):
        sqlite.rows(writer, f"PRAGMA {pragma}")
    sqlite.rows(writer, "CREATE TABLE t (x)")

    def note(connection: apsw.Connection, name: str, count: int) -> int:
        del connection, name
        pages.append(count)
        return apsw.SQLITE_OK

    writer.set_wal_hook(note)
    checkpoints = Checkpoints(path, lambda: apsw.Connection(str(path)), watermark=0, durable=0)
    restarts: list[int] = []
    original = checkpoints.restart

    def restart(connection: apsw.Connection) -> None:
        restarts.append(pages[-1])
        original(connection)

    monkeypatch.setattr(checkpoints, "restart", restart)
    readers = Readers(path, every)
    try:
        for number in range(900):
            sqlite.rows(writer, "INSERT INTO t VALUES (zeroblob(3000))")
            checkpoints.committed(writer, pages[-1], number, PACE)
            readers.after_commit(number)
        assert restarts, "the WAL was never far enough for a write to wait"
        assert len(restarts) <= 1 + max(pages) // PACE.pages  # not at every commit
        assert restarts[0] >= FAR_TIMES * PACE.pages
    finally:
        readers.close()
        checkpoints.close()
        writer.close()
