"""Counts of properties in PostgreSQL: in how many profiles each holds a value of which kind.

Enters: differences that a fold found. Leaves: counts. Profiles that were stored without counting are read
once, in the order of their ids: `uncounted` says how far that has come, and differences count up to there
alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import orjson

from mixdown.model.kinds import kind_of
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.ids import TextArray
from mixdown.store.postgres.pool import Connection
from mixdown.store.postgres.profiles import Kind, documents_after
from mixdown.store.postgres.reach import Place
from mixdown.store.protocols import PropertyChange, PropertyCounts

BYTES_AT_ONCE: Final = 8 * 1024 * 1024
_ADD: Final = """
    INSERT INTO mixdown.property_counts (partition, project_id, group_key, name, kind, profiles)
    SELECT %s::int, unnest(%s::bigint[]), unnest(%s::text[]), unnest(%s::text[]), unnest(%s::text[]),
        unnest(%s::bigint[])
    ON CONFLICT (partition, project_id, group_key, name, kind) DO UPDATE
    SET profiles = property_counts.profiles + excluded.profiles
"""
_DROP: Final = """
    DELETE FROM mixdown.property_counts WHERE partition = %s AND profiles <= 0
    AND (project_id, group_key, name, kind) IN (
        SELECT unnest(%s::bigint[]), unnest(%s::text[]), unnest(%s::text[]), unnest(%s::text[])
    )
"""
_READ: Final = """
    SELECT name, kind, sum(profiles)::bigint FROM mixdown.property_counts
    WHERE partition = ANY(%(partitions)s) AND project_id = %(project)s AND group_key = %(group_key)s
    AND name IN (
        SELECT name FROM mixdown.property_counts
        WHERE partition = ANY(%(partitions)s) AND project_id = %(project)s AND group_key = %(group_key)s
        GROUP BY name ORDER BY sum(profiles) DESC, name LIMIT %(limit)s
    ) GROUP BY name, kind
"""
_IS_UNCOUNTED: Final = """
    SELECT 1 FROM mixdown.uncounted WHERE partition = ANY(%s) AND project_id = %s AND group_key = %s LIMIT 1
"""
_UNCOUNTED: Final = "SELECT project_id, group_key, counted_to FROM mixdown.uncounted WHERE partition = %s"
_FORGET: Final = """
    DELETE FROM mixdown.property_counts WHERE partition = %s AND project_id = %s AND group_key = %s
"""
_COUNT_ANEW: Final = """
    INSERT INTO mixdown.uncounted (partition, project_id, group_key, counted_to) VALUES (%s, %s, %s, '')
    ON CONFLICT (partition, project_id, group_key) DO UPDATE SET counted_to = ''
"""
_COUNTED_TO: Final = """
    UPDATE mixdown.uncounted SET counted_to = %s WHERE partition = %s AND project_id = %s AND group_key = %s
"""
_COUNTED: Final = """
    DELETE FROM mixdown.uncounted WHERE partition = %s AND project_id = %s AND group_key = %s
"""


def add(connection: Connection, partition: int, differences: Iterable[PropertyChange]) -> None:
    """Add differences to the counts; what no profile holds any more goes."""
    together: Counter[tuple[int, str, str, str]] = Counter()
    for difference in differences:
        together[difference[:4]] += difference[4]
    some = sorted(key for key, change in together.items() if change)
    if some:
        connection.execute(_ADD, (partition, *_columns(some), [together[key] for key in some]))
    fewer = [key for key in some if together[key] < 0]
    if fewer:
        connection.execute(_DROP, (partition, *_columns(fewer)))


def _columns(keys: Sequence[tuple[int, str, str, str]]) -> tuple[list[int], TextArray, TextArray, TextArray]:
    return (
        [key[0] for key in keys],
        TextArray.of_texts(key[1] for key in keys),
        TextArray.of_texts(key[2] for key in keys),
        TextArray.of_texts(key[3] for key in keys),
    )


def read(database: Database, partitions: Sequence[int], kind: Kind, limit: int) -> PropertyCounts:
    """The counts of the `limit` properties that most profiles hold."""
    some = list(partitions)
    asked = {"partitions": some, "project": kind[0], "group_key": kind[1], "limit": limit}
    counts: dict[str, dict[str, int]] = {}
    for name, value_kind, profiles in database.rows(_READ, asked):
        counts.setdefault(name, {})[value_kind] = profiles
    left = database.value(_IS_UNCOUNTED, (some, *kind))
    ranked = sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    return PropertyCounts(dict(ranked), left is None)


def uncounted(database: Database, partition: int) -> dict[Kind, str]:
    """The kinds of which only ids up to the value are counted."""
    rows = database.rows(_UNCOUNTED, (partition,))
    return {(project, group_key): counted_to for project, group_key, counted_to in rows}


def forget(connection: Connection, partition: int, kind: Kind) -> None:
    """Have all users or groups of a project counted anew."""
    connection.execute(_FORGET, (partition, *kind))
    connection.execute(_COUNT_ANEW, (partition, *kind))


class Counted(NamedTuple):
    """What a look at further profiles found: kinds that are done, and how far another has come."""

    done: list[Kind]
    kind: Kind = (0, "")
    counted_to: str = ""
    profiles: int = 0
    changes: Sequence[PropertyChange] = ()


def count_some(database: Database, partition: int, limit: int) -> Counted:
    """Count the properties of at most `limit` further profiles."""
    done: list[Kind] = []
    for kind, counted_to in uncounted(database, partition).items():
        kinds: Counter[tuple[str, str]] = Counter()
        last, profiles, room = counted_to, 0, BYTES_AT_ONCE
        for stored, _, document in documents_after(database, Place(partition, *kind), counted_to, limit):
            last = stored
            with suppress(ValueError, AttributeError):  # no object: a damaged document counts nothing
                kinds.update([(name, kind_of(value)) for name, value in orjson.loads(document).items()])
            profiles += 1
            room -= len(document)
            if room < 0:
                break
        if profiles:
            changes = [(*kind, *key, count) for key, count in kinds.items()]
            return Counted(done, kind, last, profiles, changes)
        done.append(kind)
    return Counted(done)


def keep(connection: Connection, partition: int, counted: Counted) -> None:
    """Write what was counted."""
    for kind in counted.done:
        connection.execute(_COUNTED, (partition, *kind))
    if counted.profiles:
        add(connection, partition, counted.changes)
        connection.execute(_COUNTED_TO, (counted.counted_to, partition, *counted.kind))
