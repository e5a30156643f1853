"""Rewriting chunks in place: their positions, times and order stay.

Enters: what to look for, and the chunks that take the place of others. It runs in the process that folds the
partition, beside workers that append.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from mixdown.store.chunk import checksum, pack_body
from mixdown.store.postgres.connection import Cursor, Database
from mixdown.store.privacy import Rewritten, filter_meets

_FILTERS_AT_ONCE: Final = 200
_FILTER_BYTES_AT_ONCE: Final = 8 * 1024 * 1024


def seal_of(count: int, version: int, kinds: int, id_filter: bytes, packed: bytes) -> int:
    """The checksum of a chunk: its place and time are not known when it is made."""
    return checksum(0, count, 0, version, id_filter, packed, kinds)


def holding(
    database: Database,
    partition: int,
    hashes: frozenset[int],
    *,
    begin: int,
    below: int,
    times_ms: Collection[int],
) -> tuple[list[int], int]:
    """`Log.holding`: looks at a few hundred chunks."""
    rows = database.rows(
        "SELECT first, count, time_ms, filter"
        " FROM (SELECT *, sum(length(filter)) OVER (ORDER BY first) AS size"
        " FROM (SELECT first, count, time_ms, filter FROM mixdown.chunks"
        " WHERE partition = %s AND first >= %s AND first < %s ORDER BY first LIMIT %s) AS ahead) AS summed"
        " WHERE size - length(filter) < %s ORDER BY first",
        (partition, begin, below, _FILTERS_AT_ONCE, _FILTER_BYTES_AT_ONCE),
        binary=True,
    )
    if not rows:
        return [], below
    found = [
        first
        for first, _, time_ms, id_filter in rows
        if time_ms in times_ms or filter_meets(id_filter, hashes)
    ]
    return found, int(rows[-1][0] + rows[-1][1])


def rewrite(database: Database, partition: int, rewritten: Sequence[Rewritten]) -> int:
    """`Log.rewrite`: one transaction."""
    with database.transaction() as cursor:
        grown = [_replace(cursor, partition, each) for each in rewritten]
        cursor.execute(
            "UPDATE mixdown.heads SET held_bytes = held_bytes + %s WHERE partition = %s",
            (sum(size for size in grown if size is not None), partition),
        )
    return len(grown) - grown.count(None)


def _replace(cursor: Cursor, partition: int, each: Rewritten) -> int | None:
    """Put a chunk in its place; by how many bytes its body has grown, None where it was trimmed meanwhile."""
    chunk = each.chunk
    cursor.execute(
        "SELECT octet_length(packed), kinds FROM mixdown.chunks"
        " WHERE partition = %s AND first = %s AND count = %s",
        (partition, chunk.first, chunk.count),
    )
    held = cursor.fetchone()
    if held is None:
        return None
    size, kinds = held
    version, packed = pack_body(chunk.body)
    seal = seal_of(chunk.count, version, kinds, each.id_filter, packed)
    cursor.execute(
        "UPDATE mixdown.chunks SET version = %s, checksum = %s, body_bytes = %s, filter = %s, packed = %s"
        " WHERE partition = %s AND first = %s",
        (version, seal, len(chunk.body), each.id_filter, packed, partition, chunk.first),
    )
    return len(packed) - size if cursor.rowcount else None
