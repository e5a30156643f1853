"""Rewriting chunks of `log.db` in place: their positions, times and order stay.

Enters: what to look for, and the chunks that take the place of others. It runs in the fold's process alone,
beside workers that append: each transaction is a turn at the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import apsw

from mixdown.store.chunk import FOR_EVENTS, FOR_PROFILES, checksum, pack_body
from mixdown.store.privacy import Rewritten, filter_meets
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.sweeping import sweep
from mixdown.store.sqlite.turns import LogFile

KINDS: Final = f"(for_profiles * {FOR_PROFILES} + for_events * {FOR_EVENTS})"
"""The SQL of a chunk's kinds (`store.chunk`)."""
_FILTERS_AT_ONCE: Final = 200
_FILTER_BYTES_AT_ONCE: Final = 8 * 1024 * 1024


def holding(
    file: LogFile, hashes: frozenset[int], *, begin: int, below: int, times_ms: Collection[int]
) -> tuple[list[int], int]:
    """`Log.holding`: looks at a few hundred chunks."""
    with sqlite.store_errors(file.what):
        rows = sqlite.rows(
            file.reader(),
            "SELECT first, count, time_ms, filter FROM (SELECT first, count, time_ms, filter,"
            " sum(length(filter)) OVER (ORDER BY first) AS size FROM (SELECT * FROM chunks"
            " WHERE first >= ? AND first < ? ORDER BY first LIMIT ?)) WHERE size - length(filter) < ?",
            (begin, below, _FILTERS_AT_ONCE, _FILTER_BYTES_AT_ONCE),
        )
    if not rows:
        return [], below
    found = [
        first
        for first, _, time_ms, id_filter in rows
        if time_ms in times_ms or filter_meets(id_filter, hashes)
    ]
    return found, int(rows[-1][0] + rows[-1][1])


def kinds_of_file(connection: apsw.Connection) -> str:
    """The SQL of a chunk's kinds in a file that this version may not have opened: all were for profiles."""
    names = [name for (name,) in sqlite.rows(connection, "SELECT name FROM pragma_table_info('chunks')")]
    return KINDS if "for_events" in names else str(FOR_PROFILES)


def rewrite(file: LogFile, rewritten: Sequence[Rewritten]) -> int:
    """`Log.rewrite`: one transaction."""
    replaced = 0
    with file.turn() as connection, file.transaction(connection):
        for each in rewritten:
            replaced += _replace(connection, each)
    return replaced


def _replace(connection: apsw.Connection, each: Rewritten) -> int:
    chunk = each.chunk
    held = sqlite.value(
        connection,
        f"SELECT length(body), {KINDS} FROM chunks WHERE first = ? AND count = ?",  # noqa: S608 - our schema
        (chunk.first, chunk.count),
    )
    if held is None:  # trimmed meanwhile
        return 0
    size, kinds = held
    version, body = pack_body(chunk.body)
    seal = checksum(chunk.first, chunk.count, chunk.time_ms, version, each.id_filter, body, kinds)
    sqlite.rows(
        connection,
        "UPDATE chunks SET version = ?, checksum = ?, filter = ?, body = ? WHERE first = ?",
        (version, seal, each.id_filter, body, chunk.first),
    )
    sqlite.rows(connection, "UPDATE head SET held_bytes = held_bytes + ?", (len(body) - size,))
    return 1


def sweep_log(file: LogFile, path: Path) -> Iterator[bool]:
    """Sweep `log.db`, each slice in a turn at the log."""
    return sweep(path, sqlite.LOG, turn=file.turn)
