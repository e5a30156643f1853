"""Idempotency keys in `state.db`: kept for 7 days of chunk time, 50 M at most (DESIGN G2).

Keys lie in buckets, one a day of chunk time, or more where a day brings many; those of browsers' calls
in buckets of ten minutes, with a bound of their own. A bucket that is past the window is dropped at once,
in the sense that nobody looks at it any more; its rows are deleted a few at a time, so that no fold
transaction becomes long. All of it runs inside the fold's transaction.

Keys are random, and each would change another page of a large tree. So new ones go into a young bucket,
whose pages are few; when it has its share another one takes its place, and the keys of the old one move
over into the bucket before it, in key order and a few at a time, so that those of a page come together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import apsw
import msgspec

from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.store import bounds
from mixdown.store.chunk import Outcome
from mixdown.store.privacy import redact
from mixdown.store.sqlite import connection as sqlite

_DELETED_AT_ONCE: Final = 20_000
_MOVED_AT_ONCE: Final = 1_000
_YOUNG_SHARE: Final = 8
"""A young bucket takes this part of what an old one holds: 780,000 keys in 6,000 pages."""
# OR FAIL: as for profiles (`documents.py`)
_INSERT_BARE: Final = """
    INSERT OR FAIL INTO keys
    SELECT ?1, substr(value, 17), CAST(CAST(substr(value, 1, 16) AS TEXT) AS INTEGER), NULL
    FROM carray(?2) WHERE true
    ON CONFLICT (bucket, key) DO UPDATE SET time_ms = excluded.time_ms, outcome = excluded.outcome
"""
# Two neighbours of one day that fit into one bucket, the newer of which takes no keys any more.
_TO_MOVE: Final = """
    SELECT old.bucket, next.bucket, next.keys, next.first_ms, next.last_ms
    FROM key_buckets AS old JOIN key_buckets AS next ON next.day = old.day AND next.bucket = (
        SELECT min(bucket) FROM key_buckets WHERE day = old.day AND bucket > old.bucket AND NOT dropped)
    WHERE NOT old.dropped AND old.keys + next.keys <= iif(old.day < 0, ?2, ?1)
    AND EXISTS (SELECT 1 FROM key_buckets AS young WHERE young.day = old.day AND young.bucket > next.bucket)
    ORDER BY old.bucket LIMIT 1
"""
_MOVE: Final = """
    INSERT OR FAIL INTO keys
    SELECT ?1, key, time_ms, outcome FROM keys WHERE bucket = ?2 ORDER BY key LIMIT ?3
    ON CONFLICT (bucket, key) DO UPDATE SET time_ms = excluded.time_ms, outcome = excluded.outcome
"""
_outcomes: Final = msgspec.json.Decoder(Outcome)


def write_keys(
    connection: apsw.Connection, keys: Sequence[tuple[bytes, int, Outcome | None]], now_ms: int
) -> None:
    """Keep (key, chunk time, outcome)s and drop what has left the window."""
    of_day: dict[int, list[tuple[bytes, int, Outcome | None]]] = defaultdict(list)
    for entry in keys:
        of_day[_day(entry[0], entry[1])].append(entry)
    for day, entries in sorted(of_day.items()):
        bucket = _bucket(connection, day, entries[0][1])
        _insert(connection, bucket, sorted(entries, key=lambda entry: entry[0]))
        times = [time_ms for _, time_ms, _ in entries]
        _count(connection, bucket, len(entries), min(times), max(times))
    _drop_buckets(connection, now_ms)
    _delete_some(connection, max(_DELETED_AT_ONCE, 2 * len(keys)))
    if keys:
        _move_some(connection, max(_MOVED_AT_ONCE, 2 * len(keys)))


def _insert(
    connection: apsw.Connection, bucket: int, entries: Sequence[tuple[bytes, int, Outcome | None]]
) -> None:
    """Insert keys in their order: those without an outcome, which are nearly all, in one statement."""
    bare = tuple([b"%016d%b" % (time_ms, key) for key, time_ms, outcome in entries if outcome is None])
    if bare:
        sqlite.rows(connection, _INSERT_BARE, (bucket, apsw.carray(bare)))
    if len(bare) < len(entries):
        connection.executemany(
            "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)",
            [
                (bucket, key, time_ms, msgspec.json.encode(outcome))
                for key, time_ms, outcome in entries
                if outcome is not None
            ],
        )


def _count(connection: apsw.Connection, bucket: int, keys: int, first_ms: int, last_ms: int) -> None:
    """Count keys into a bucket, and tell from when to when they are."""
    sqlite.rows(
        connection,
        "UPDATE key_buckets SET keys = keys + ?, first_ms = min(first_ms, ?), last_ms = max(last_ms, ?)"
        " WHERE bucket = ?",
        (keys, first_ms, last_ms, bucket),
    )


def _day(key: bytes, time_ms: int) -> int:
    """The day of chunk time; keys of browsers' calls go to short days of their own, below zero."""
    if len(key) == bounds.CALL_KEY_BYTES:
        return -1 - time_ms // bounds.CALL_KEY_LIFE_MS
    return time_ms // bounds.DAY_MS


def _bucket(connection: apsw.Connection, day: int, time_ms: int) -> int:
    """The bucket that takes the day's next keys."""
    found = sqlite.value(
        connection,
        "SELECT bucket, keys FROM key_buckets WHERE day = ? AND NOT dropped ORDER BY bucket DESC LIMIT 1",
        (day,),
    )
    if found is not None and found[1] < _young_keys():
        return int(found[0])
    return int(
        sqlite.value(
            connection,
            "INSERT INTO key_buckets (day, first_ms, last_ms, keys) VALUES (?, ?, ?, 0) RETURNING bucket",
            (day, time_ms, time_ms),
        )
    )


def _drop_buckets(connection: apsw.Connection, now_ms: int) -> None:
    sqlite.rows(
        connection,
        "UPDATE key_buckets SET dropped = 1 WHERE NOT dropped AND last_ms < iif(day < 0, ?, ?)",
        (now_ms - bounds.CALL_KEY_LIFE_MS, now_ms - KEY_WINDOW_MS),
    )
    # the newest buckets of either sort that together hold no more than its bound stay
    sqlite.rows(
        connection,
        "UPDATE key_buckets SET dropped = 1 WHERE NOT dropped AND"
        " (SELECT sum(keys) FROM key_buckets AS newer WHERE newer.bucket >= key_buckets.bucket"
        " AND NOT newer.dropped AND (newer.day < 0) = (key_buckets.day < 0)) > iif(day < 0, ?, ?)",
        (bounds.CALL_KEYS_HELD, bounds.KEYS_HELD),
    )


def _delete_some(connection: apsw.Connection, limit: int) -> None:
    """Delete up to `limit` keys of a dropped bucket, and the bucket with its last."""
    bucket = sqlite.value(connection, "SELECT min(bucket) FROM key_buckets WHERE dropped")
    if bucket is None:
        return
    beyond = sqlite.value(
        connection, "SELECT key FROM keys WHERE bucket = ? ORDER BY key LIMIT 1 OFFSET ?", (bucket, limit)
    )
    if beyond is None:
        sqlite.rows(connection, "DELETE FROM keys WHERE bucket = ?", (bucket,))
        sqlite.rows(connection, "DELETE FROM key_buckets WHERE bucket = ?", (bucket,))
    else:
        sqlite.rows(connection, "DELETE FROM keys WHERE bucket = ? AND key < ?", (bucket, beyond))


def _young_keys() -> int:
    return max(1, bounds.KEYS_PER_BUCKET // _YOUNG_SHARE)


def _move_some(connection: apsw.Connection, limit: int) -> None:
    """Move up to `limit` keys of a bucket that is young no more into the one before it."""
    found = sqlite.value(connection, _TO_MOVE, (bounds.KEYS_PER_BUCKET, bounds.CALL_KEYS_PER_BUCKET))
    if found is None:
        return
    to, source, held, first_ms, last_ms = found
    beyond = sqlite.value(
        connection, "SELECT key FROM keys WHERE bucket = ? ORDER BY key LIMIT 1 OFFSET ?", (source, limit)
    )
    sqlite.rows(connection, _MOVE, (to, source, limit))
    moved = held if beyond is None else min(held, limit)
    _count(connection, to, moved, first_ms, last_ms)
    if beyond is None:
        sqlite.rows(connection, "DELETE FROM keys WHERE bucket = ?", (source,))
        sqlite.rows(connection, "DELETE FROM key_buckets WHERE bucket = ?", (source,))
    else:
        sqlite.rows(connection, "DELETE FROM keys WHERE bucket = ? AND key < ?", (source, beyond))
        sqlite.rows(connection, "UPDATE key_buckets SET keys = keys - ? WHERE bucket = ?", (moved, source))


def find_keys(
    connection: apsw.Connection, keys: Sequence[bytes], since_ms: int
) -> dict[bytes, Outcome | None]:
    """Those of `keys` that were kept at or after chunk time `since_ms`, with the newest outcome of each."""
    if not keys:
        return {}
    rows = sqlite.rows(
        connection,
        "SELECT k.key, k.outcome FROM carray(?) AS asked CROSS JOIN keys AS k"
        " WHERE k.bucket IN (SELECT bucket FROM key_buckets WHERE NOT dropped AND last_ms >= ?)"
        " AND k.key = asked.value AND k.time_ms >= ? ORDER BY k.time_ms, k.bucket",
        (apsw.carray(tuple(sorted(keys))), since_ms, since_ms),
    )
    return {key: None if outcome is None else _outcomes.decode(outcome) for key, outcome in rows}


def redact_outcomes(connection: apsw.Connection, keys: Sequence[bytes]) -> None:
    """Take from the outcomes of these keys what they quote, wherever a key stands."""
    found = (
        sqlite.rows(
            connection,
            "SELECT k.bucket, k.key, k.outcome FROM carray(?) AS asked CROSS JOIN keys AS k"
            " WHERE k.bucket IN (SELECT bucket FROM key_buckets)"
            " AND k.key = asked.value AND k.outcome IS NOT NULL",
            (apsw.carray(tuple(sorted(keys))),),
        )
        if keys
        else []
    )
    connection.executemany(
        "UPDATE keys SET outcome = ? WHERE bucket = ? AND key = ?",
        [
            (msgspec.json.encode(redact(_outcomes.decode(outcome))), bucket, key)
            for bucket, key, outcome in found
        ],
    )


def key_window(connection: apsw.Connection) -> tuple[int, int]:
    """How many keys of retries are held, and the chunk time of the oldest (0 if none)."""
    held, oldest = sqlite.value(
        connection,
        "SELECT coalesce(sum(keys), 0), coalesce(min(first_ms), 0) FROM key_buckets"
        " WHERE NOT dropped AND day >= 0",
    )
    return held, oldest
