"""Idempotency keys in PostgreSQL: kept for 7 days of chunk time, 50 M at most in each partition (DESIGN G2).

Keys lie in buckets, one a day of chunk time, or more where a day brings many; those of browsers' calls in
buckets of ten minutes, with a bound of their own. A bucket that is past the window is dropped at once, in the
sense that nobody looks at it any more; its rows are deleted a few at a time, so that no step becomes long.

The buckets of a partition are few, and only the holder of its lease changes them: it reads them once for each
step that brings keys, and decides here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.store import bounds
from mixdown.store.chunk import Outcome
from mixdown.store.postgres.connection import Cursor, Database
from mixdown.store.postgres.ids import ByteaArray
from mixdown.store.postgres.pool import Connection
from mixdown.store.privacy import redact

_DELETED_AT_ONCE: Final = 20_000
_BUCKETS: Final = """
    SELECT bucket, day, first_ms, last_ms, keys, dropped FROM mixdown.key_buckets
    WHERE partition = %s ORDER BY bucket
"""
_PUT_BUCKET: Final = """
    INSERT INTO mixdown.key_buckets (partition, bucket, day, first_ms, last_ms, keys, dropped)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (partition, bucket) DO UPDATE
    SET first_ms = excluded.first_ms, last_ms = excluded.last_ms, keys = excluded.keys,
        dropped = excluded.dropped
"""
_DROP_BUCKET: Final = "DELETE FROM mixdown.key_buckets WHERE partition = %s AND bucket = %s"
_PUT: Final = """
    INSERT INTO mixdown.keys (partition, bucket, key, time_ms, outcome)
    SELECT %s::int, %s::bigint, unnest(%s::bytea[]), unnest(%s::bigint[]), nullif(unnest(%s::bytea[]), '\\x')
    ON CONFLICT (partition, bucket, key) DO UPDATE SET time_ms = excluded.time_ms, outcome = excluded.outcome
"""
_DELETE: Final = """
    DELETE FROM mixdown.keys WHERE partition = %s AND bucket = %s AND key IN (
        SELECT key FROM mixdown.keys WHERE partition = %s AND bucket = %s ORDER BY key LIMIT %s
    )
"""
_FIND: Final = """
    SELECT key, outcome FROM mixdown.keys
    WHERE partition = ANY(%s) AND bucket = ANY(ARRAY(
        SELECT bucket FROM mixdown.key_buckets WHERE partition = ANY(%s) AND NOT dropped AND last_ms >= %s
    )) AND key = ANY(%s) AND time_ms >= %s ORDER BY time_ms, bucket
"""
_REDACTABLE: Final = """
    SELECT bucket, key, outcome FROM mixdown.keys
    WHERE partition = %s AND bucket = ANY(ARRAY(
        SELECT bucket FROM mixdown.key_buckets WHERE partition = %s
    )) AND key = ANY(%s) AND outcome IS NOT NULL
"""
_REDACT: Final = "UPDATE mixdown.keys SET outcome = %s WHERE partition = %s AND bucket = %s AND key = %s"
_WINDOW: Final = """
    SELECT coalesce(sum(keys), 0)::bigint, coalesce(min(first_ms), 0) FROM mixdown.key_buckets
    WHERE partition = ANY(%s) AND NOT dropped AND day >= 0
"""
_outcomes: Final = msgspec.json.Decoder(Outcome)

Entry = tuple[bytes, int, Outcome | None]


class Bucket(msgspec.Struct):
    """A bucket of keys, as it is to stand."""

    number: int
    day: int
    first_ms: int
    last_ms: int
    keys: int
    dropped: bool
    changed: bool = False

    def take(self, first_ms: int, last_ms: int, keys: int) -> None:
        """Count keys in, and tell from when to when they are."""
        self.first_ms, self.last_ms = min(self.first_ms, first_ms), max(self.last_ms, last_ms)
        self.keys += keys
        self.changed = True


def buckets_of(database: Database, partition: int) -> list[Bucket]:
    """The buckets of a partition, oldest first."""
    return [Bucket(*row) for row in database.rows(_BUCKETS, (partition,))]


def write_keys(
    connection: Connection, partition: int, buckets: list[Bucket], keys: Sequence[Entry], now_ms: int
) -> None:
    """Keep (key, chunk time, outcome)s and drop what has left the window; `buckets` are all there are."""
    of_day: dict[int, list[Entry]] = defaultdict(list)
    for entry in keys:
        of_day[_day(entry[0], entry[1])].append(entry)
    for day, entries in sorted(of_day.items()):
        bucket = _bucket(buckets, day, entries[0][1])
        entries.sort(key=_key_of)
        times = [time_ms for _, time_ms, _ in entries]
        bucket.take(min(times), max(times), len(entries))
        outcomes = [b"" if outcome is None else msgspec.json.encode(outcome) for _, _, outcome in entries]
        asked = ByteaArray.of([key for key, _, _ in entries]), times, ByteaArray.of(outcomes)
        connection.execute(_PUT, (partition, bucket.number, *asked))
    _drop_buckets(buckets, now_ms)
    for bucket in buckets:
        if bucket.changed:
            row = (bucket.day, bucket.first_ms, bucket.last_ms, bucket.keys, bucket.dropped)
            connection.execute(_PUT_BUCKET, (partition, bucket.number, *row))
    _delete_some(connection, partition, buckets, max(_DELETED_AT_ONCE, 2 * len(keys)))


def _key_of(entry: Entry) -> bytes:
    return entry[0]


def _day(key: bytes, time_ms: int) -> int:
    """The day of chunk time; keys of browsers' calls go to short days of their own, below zero."""
    if len(key) == bounds.CALL_KEY_BYTES:
        return -1 - time_ms // bounds.CALL_KEY_LIFE_MS
    return time_ms // bounds.DAY_MS


def _bucket(buckets: list[Bucket], day: int, time_ms: int) -> Bucket:
    """The bucket that takes the day's next keys."""
    room = bounds.CALL_KEYS_PER_BUCKET if day < 0 else bounds.KEYS_PER_BUCKET
    for bucket in reversed(buckets):
        if bucket.day == day and not bucket.dropped:
            if bucket.keys < room:
                return bucket
            break
    number = 1 + max((bucket.number for bucket in buckets), default=0)
    buckets.append(Bucket(number, day, time_ms, time_ms, 0, dropped=False))
    return buckets[-1]


def _drop_buckets(buckets: Sequence[Bucket], now_ms: int) -> None:
    """Drop those past the window, and the oldest of either sort that together hold more than its bound."""
    held = {True: 0, False: 0}
    for bucket in reversed(buckets):
        if bucket.dropped:
            continue
        of_calls = bucket.day < 0
        life_ms = bounds.CALL_KEY_LIFE_MS if of_calls else KEY_WINDOW_MS
        bound = bounds.CALL_KEYS_HELD if of_calls else bounds.KEYS_HELD
        held[of_calls] += bucket.keys
        if bucket.last_ms < now_ms - life_ms or held[of_calls] > bound:
            bucket.dropped = bucket.changed = True


def _delete_some(connection: Connection, partition: int, buckets: list[Bucket], limit: int) -> None:
    """Delete up to `limit` keys of a dropped bucket, and the bucket with its last."""
    going = next((bucket for bucket in buckets if bucket.dropped), None)
    if going is None:
        return
    place = (partition, going.number)
    connection.execute(_DELETE, (*place, *place, limit))
    # keys that were written again count twice: it says how many there are at most
    going.keys -= limit
    if going.keys <= 0:
        connection.execute(_DROP_BUCKET, place)
        buckets.remove(going)  # the next that goes has its turn at the next step
    else:
        row = (going.day, going.first_ms, going.last_ms, going.keys, going.dropped)
        connection.execute(_PUT_BUCKET, (*place, *row))


def find_keys(
    database: Database, partitions: Sequence[int], keys: Sequence[bytes], since_ms: int
) -> dict[bytes, Outcome | None]:
    """Those of `keys` that were kept at or after chunk time `since_ms`, with the newest outcome of each."""
    if not keys:
        return {}
    some = list(partitions)
    asked = ByteaArray.of(sorted(set(keys)))
    rows = database.rows(_FIND, (some, some, since_ms, asked, since_ms), binary=True)
    return {key: None if outcome is None else _outcomes.decode(outcome) for key, outcome in rows}


def redact_outcomes(cursor: Cursor, partition: int, keys: Sequence[bytes]) -> None:
    """Take from the outcomes of these keys what they quote, wherever a key stands."""
    if not keys:
        return
    cursor.execute(_REDACTABLE, (partition, partition, ByteaArray.of(sorted(keys))))
    cursor.executemany(
        _REDACT,
        [
            (msgspec.json.encode(redact(_outcomes.decode(outcome))), partition, bucket, key)
            for bucket, key, outcome in cursor.fetchall()
        ],
    )


def key_window(database: Database, partitions: Sequence[int]) -> tuple[int, int]:
    """How many keys of retries are held, and the chunk time of the oldest (0 if none)."""
    found = database.row(_WINDOW, (list(partitions),))
    assert found is not None
    return int(found[0]), int(found[1])
