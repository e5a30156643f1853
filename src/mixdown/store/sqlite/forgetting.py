"""Taking ids out of the query sessions in `scratch.db`; the places of all other ids stay.

Enters: a connection, and what a session is about. It runs in the fold's process, beside workers that make and
read sessions: each transaction is short.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, Final

import apsw
import orjson

from mixdown.store.sqlite import connection as sqlite

ABANDONED_MS: Final = 10 * 60 * 1000
"""A session that is not whole after so long never will be: a read has a minute."""
_BLOCKS_AT_ONCE: Final = 200
_FEW_IDS: Final = 8

Ask = Callable[[Callable[[apsw.Connection], Any]], Any]


def forget_ids(
    ask: Ask, project: int, group_key: str, ids: Collection[str], *, until_ms: int, now_ms: int
) -> Iterator[bool]:
    """`Sessions.forget`; `ask` runs a function on a connection of `scratch.db`."""
    done: set[int] = set()
    while True:
        sessions = ask(partial(_sessions, project=project, group_key=group_key, until_ms=until_ms))
        left = [each for each in sessions if each[0] not in done]
        if not left:
            return
        whole = [number for number, complete, _ in left if complete]
        for number, complete, created_ms in left:
            if not complete and now_ms - created_ms > ABANDONED_MS:
                ask(partial(_drop, number=number))
        for number in whole:
            yield from _forget_in(ask, number, frozenset(ids))
            done.add(number)
        if not whole:
            yield False


def _forget_in(ask: Ask, number: int, ids: frozenset[str]) -> Iterator[bool]:
    last = -1
    while True:
        blocks = ask(partial(_blocks, number=number, last=last))
        packed = [(without(held, ids), number, block) for block, held in blocks]
        changed = [row for row in packed if row[0] is not None]
        if changed:
            ask(partial(_write, rows=changed))
        yield True
        if len(blocks) < _BLOCKS_AT_ONCE:
            return
        last = blocks[-1][0]


def _sessions(connection: apsw.Connection, project: int, group_key: str, until_ms: int) -> list[Any]:
    return sqlite.rows(
        connection,
        "SELECT number, complete, created_ms FROM sessions"
        " WHERE project = ? AND group_key = ? AND created_ms <= ? ORDER BY number DESC",
        (project, group_key, until_ms),
    )


def _blocks(connection: apsw.Connection, number: int, last: int) -> list[Any]:
    return sqlite.rows(
        connection,
        "SELECT block, ids FROM id_blocks WHERE session = ? AND block > ? ORDER BY block LIMIT ?",
        (number, last, _BLOCKS_AT_ONCE),
    )


def without(block: bytes, ids: frozenset[str]) -> bytes | None:
    """A block with null in the place of these ids; None where it holds none of them."""
    text = zlib.decompress(block)
    if len(ids) <= _FEW_IDS and not any(orjson.dumps(each) in text for each in ids):
        return None
    held = orjson.loads(text)
    if ids.isdisjoint(held):
        return None
    return zlib.compress(orjson.dumps([None if each in ids else each for each in held]), 1)


def _write(connection: apsw.Connection, rows: list[tuple[bytes | None, int, int]]) -> None:
    with sqlite.transaction(connection):
        connection.executemany("UPDATE id_blocks SET ids = ? WHERE session = ? AND block = ?", rows)


def _drop(connection: apsw.Connection, number: int) -> None:
    with sqlite.transaction(connection):
        sqlite.rows(connection, "DELETE FROM id_blocks WHERE session = ?", (number,))
        sqlite.rows(connection, "DELETE FROM sessions WHERE number = ? AND NOT complete", (number,))
