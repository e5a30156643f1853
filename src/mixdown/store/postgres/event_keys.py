"""Request keys of events in PostgreSQL: kept for 7 days of chunk time, 50 M a partition at most (DESIGN G2).

Enters: keys that a step of the events reader brings, inside its transaction. Leaves: which of some keys are
known, since when. Keys of browsers' calls, which are shorter, have a life and a bound of their own.
`event_readers` says since when keys of either kind count: what is older is deleted a few at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.store import bounds
from mixdown.store.chunk import Outcome
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.pool import Connection
from mixdown.store.privacy import redact

_REQUEST_KEY_BYTES: Final = 16
_DELETED_AT_ONCE: Final = 20_000
_outcomes: Final = msgspec.json.Decoder(Outcome)

# Since when keys of a kind count: the floor that is noted, or the life of such keys.
_DROP: Final = """
    DELETE FROM mixdown.event_keys WHERE partition = %(partition)s AND key IN (
        SELECT key FROM mixdown.event_keys WHERE partition = %(partition)s AND length(key) = %(length)s
        AND time_ms < greatest(%(from_ms)s, (
            SELECT CASE WHEN %(of_calls)s THEN call_keys_from_ms ELSE keys_from_ms END
            FROM mixdown.event_readers WHERE partition = %(partition)s))
        ORDER BY time_ms LIMIT %(limit)s)
"""
_REPLACED: Final = """
    DELETE FROM mixdown.event_keys WHERE partition = %(partition)s AND key = ANY(%(keys)s)
    RETURNING length(key)
"""
_KEEP: Final = """
    INSERT INTO mixdown.event_keys (partition, key, time_ms, outcome)
    SELECT %(partition)s::int, new.key, new.time_ms, new.outcome
    FROM unnest(%(keys)s::bytea[], %(times)s::bigint[], %(outcomes)s::bytea[]) AS new (key, time_ms, outcome)
"""
_HELD: Final = """
    SELECT keys, call_keys, keys_from_ms, call_keys_from_ms FROM mixdown.event_readers
    WHERE partition = %(partition)s
"""
# The time of the oldest key that is within a bound.
_WITHIN: Final = """
    SELECT time_ms FROM mixdown.event_keys WHERE partition = %(partition)s AND length(key) = %(length)s
    ORDER BY time_ms LIMIT 1 OFFSET %(surplus)s
"""
_NOTE: Final = """
    UPDATE mixdown.event_readers SET keys = %(keys)s, call_keys = %(call_keys)s,
    keys_from_ms = %(keys_from_ms)s, call_keys_from_ms = %(call_keys_from_ms)s WHERE partition = %(partition)s
"""
_FIND: Final = """
    SELECT held.key, held.outcome FROM mixdown.event_keys AS held
    JOIN mixdown.event_readers AS reader ON reader.partition = held.partition
    WHERE held.partition = ANY(%(partitions)s) AND reader.partition = ANY(%(partitions)s)
    AND held.key = ANY(%(keys)s) AND held.time_ms >= %(since_ms)s AND held.time_ms >=
        CASE WHEN length(held.key) = %(call_key)s THEN reader.call_keys_from_ms ELSE reader.keys_from_ms END
    ORDER BY held.time_ms
"""
_QUOTING: Final = """
    SELECT key, outcome FROM mixdown.event_keys
    WHERE partition = %(partition)s AND key = ANY(%(keys)s) AND outcome IS NOT NULL ORDER BY key FOR UPDATE
"""
_REDACT: Final = """
    UPDATE mixdown.event_keys SET outcome = %(outcome)s WHERE partition = %(partition)s AND key = %(key)s
"""
_OLDEST: Final = """
    SELECT min(time_ms) FROM mixdown.event_keys, mixdown.event_readers AS reader
    WHERE event_keys.partition = %(partition)s AND reader.partition = %(partition)s
    AND length(key) = %(length)s AND time_ms >= reader.keys_from_ms
"""


def write_keys(
    connection: Connection, partition: int, keys: Sequence[tuple[bytes, int, Outcome | None]], now_ms: int
) -> None:
    """Keep (key, chunk time, outcome)s and drop what has left the window, inside the caller's pipeline."""
    limit = max(_DELETED_AT_ONCE, 2 * len(keys))
    kinds = (
        (_REQUEST_KEY_BYTES, now_ms - KEY_WINDOW_MS, bounds.KEYS_HELD),
        (bounds.CALL_KEY_BYTES, now_ms - bounds.CALL_KEY_LIFE_MS, bounds.CALL_KEYS_HELD),
    )
    dropped = [
        connection.execute(
            _DROP,
            {
                "partition": partition,
                "length": length,
                "from_ms": from_ms,
                "of_calls": length == bounds.CALL_KEY_BYTES,
                "limit": limit,
            },
        )
        for length, from_ms, _ in kinds
    ]
    last = {key: (time_ms, outcome) for key, time_ms, outcome in keys}
    given = sorted(last)
    replaced = connection.execute(_REPLACED, {"partition": partition, "keys": given})
    connection.execute(
        _KEEP,
        {
            "partition": partition,
            "keys": given,
            "times": [last[key][0] for key in given],
            "outcomes": [
                None if last[key][1] is None else msgspec.json.encode(last[key][1]) for key in given
            ],
        },
    )
    noted = connection.execute(_HELD, {"partition": partition}).fetchone()
    assert noted is not None
    lengths = [length for (length,) in replaced.fetchall()]
    gone = [each.rowcount for each in dropped]
    fresh = [sum(len(key) == length for key in given) - lengths.count(length) for length, _, _ in kinds]
    _note(connection, partition, kinds, noted, gone, fresh, limit)


def _note(
    connection: Connection,
    partition: int,
    kinds: Sequence[tuple[int, int, int]],
    noted: Sequence[int],
    gone: Sequence[int],
    fresh: Sequence[int],
    limit: int,
) -> None:
    """Note how many keys of each kind are held now, and from when on they count."""
    held, floors = [], []
    for place, (length, from_ms, bound) in enumerate(kinds):
        count, floor = noted[place] - gone[place] + fresh[place], max(noted[place + 2], from_ms)
        if count > bound and gone[place] < limit:  # what is too old is gone: what is left is above the bound
            within = connection.execute(
                _WITHIN, {"partition": partition, "length": length, "surplus": count - bound}
            ).fetchone()
            floor = floor if within is None else max(floor, within[0])
        held.append(count)
        floors.append(floor)
    connection.execute(
        _NOTE,
        {
            "partition": partition,
            "keys": held[0],
            "call_keys": held[1],
            "keys_from_ms": floors[0],
            "call_keys_from_ms": floors[1],
        },
    )


def find_keys(
    database: Database, partitions: Sequence[int], keys: Sequence[bytes], since_ms: int
) -> dict[bytes, Outcome | None]:
    """Those of `keys` that were kept at or after chunk time `since_ms`, with their outcomes."""
    if not keys:
        return {}
    found = database.rows(
        _FIND,
        {
            "partitions": [*partitions],
            "keys": sorted(keys),
            "since_ms": since_ms,
            "call_key": bounds.CALL_KEY_BYTES,
        },
        binary=True,
    )
    return {key: None if outcome is None else _outcomes.decode(outcome) for key, outcome in found}


def redact_outcomes(database: Database, partition: int, keys: Sequence[bytes]) -> None:
    """Take from the outcomes of these keys what they quote. Any process may ask."""
    if not keys:
        return
    with database.transaction() as cursor:
        cursor.execute(_QUOTING, {"partition": partition, "keys": sorted(keys)}, binary=True)
        found = cursor.fetchall()
        cursor.executemany(
            _REDACT,
            [
                {
                    "partition": partition,
                    "key": key,
                    "outcome": msgspec.json.encode(redact(_outcomes.decode(outcome))),
                }
                for key, outcome in found
            ],
        )


def key_window(database: Database, partitions: Sequence[int]) -> tuple[int, int]:
    """How many keys of retries are held, and the chunk time of the oldest (0 if none)."""
    held = database.value(
        "SELECT coalesce(sum(keys), 0)::bigint FROM mixdown.event_readers WHERE partition = ANY(%s)",
        ([*partitions],),
    )
    if not held:
        return 0, 0
    oldest = [
        time_ms
        for partition in partitions
        for (time_ms,) in database.rows(_OLDEST, {"partition": partition, "length": _REQUEST_KEY_BYTES})
        if time_ms is not None
    ]
    return int(held), min(oldest, default=0)
