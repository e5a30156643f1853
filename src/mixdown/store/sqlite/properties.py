"""Counts of properties in `state.db`: in how many profiles each holds a value of which kind.

Enters: an open connection, and differences that a fold found. Leaves: counts. It begins and ends no
transaction. Profiles that were stored without counting (by an older Mixdown, or a repair) are read once, in
the order of their ids: `uncounted` says how far that has come, and differences count up to there alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from typing import Final

import apsw
import orjson

from mixdown.model.kinds import kind_of
from mixdown.store.protocols import PropertyCounts
from mixdown.store.sqlite import connection as sqlite

Difference = tuple[int, int | None, str, str, int]
"""(project, data_group_id, None where no group was ever written, property, kind, how many more profiles)."""
SCHEMA: Final = 2
"""The migration of `state.db` that made the tables."""
BYTES_AT_ONCE: Final = 8 * 1024 * 1024

_ADD: Final = """
    INSERT INTO property_counts VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET profiles = profiles + excluded.profiles
"""
_DROP: Final = """
    DELETE FROM property_counts
    WHERE project_id = ? AND data_group_id = ? AND name = ? AND kind = ? AND profiles <= 0
"""
_READ: Final = """
    SELECT name, kind, profiles FROM property_counts
    WHERE project_id = ?1 AND data_group_id = ?2 AND name IN (
        SELECT name FROM property_counts WHERE project_id = ?1 AND data_group_id = ?2
        GROUP BY name ORDER BY sum(profiles) DESC, name LIMIT ?3
    )
"""
_UNCOUNTED: Final = """
    SELECT u.project_id, coalesce(g.group_key, ''), u.counted_to FROM uncounted AS u
    LEFT JOIN group_keys AS g ON g.project_id = u.project_id AND g.data_group_id = u.data_group_id
"""


def add(connection: apsw.Connection, differences: Iterable[Difference]) -> None:
    """Add differences to the counts; what no profile holds any more goes."""
    some = [difference for difference in differences if difference[1] is not None]
    connection.executemany(_ADD, some)
    connection.executemany(_DROP, [difference[:4] for difference in some if difference[4] < 0])


def read(connection: apsw.Connection, project: int, group_id: int, limit: int) -> PropertyCounts:
    """The counts of the `limit` properties that most profiles hold."""
    counts: dict[str, dict[str, int]] = {}
    for name, kind, profiles in sqlite.rows(connection, _READ, (project, group_id, limit)):
        counts.setdefault(name, {})[kind] = profiles
    left = sqlite.value(
        connection, "SELECT 1 FROM uncounted WHERE project_id = ? AND data_group_id = ?", (project, group_id)
    )
    ranked = sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    return PropertyCounts(dict(ranked), left is None)


def uncounted(connection: apsw.Connection) -> dict[tuple[int, str], str]:
    """(project, group key) of which only ids up to the value are counted."""
    return {
        (project, group_key): counted_to
        for project, group_key, counted_to in sqlite.rows(connection, _UNCOUNTED)
    }


def forget(connection: apsw.Connection, project: int, group_id: int | None) -> None:
    """Have all users or groups of a project counted anew."""
    if group_id is None:
        return
    sqlite.rows(
        connection,
        "DELETE FROM property_counts WHERE project_id = ? AND data_group_id = ?",
        (project, group_id),
    )
    sqlite.rows(connection, "INSERT OR REPLACE INTO uncounted VALUES (?, ?, '')", (project, group_id))


def forget_all(connection: apsw.Connection) -> None:
    """Have all profiles counted anew."""
    for statement in (
        "DELETE FROM property_counts",
        "DELETE FROM uncounted",
        "INSERT INTO uncounted SELECT DISTINCT project_id, data_group_id, '' FROM profiles",
    ):
        sqlite.rows(connection, statement)


def count_some(connection: apsw.Connection, limit: int) -> int:
    """Count the properties of at most `limit` further profiles; how many there were, 0 when all are."""
    while (pair := sqlite.value(connection, "SELECT * FROM uncounted LIMIT 1")) is not None:
        project, group_id = pair[:2]
        kinds: Counter[tuple[str, str]] = Counter()
        last, profiles = _count(connection, pair, limit, kinds)
        if profiles:
            add(connection, [(project, group_id, *key, count) for key, count in kinds.items()])
            sqlite.rows(
                connection,
                "UPDATE uncounted SET counted_to = ? WHERE project_id = ? AND data_group_id = ?",
                (last, project, group_id),
            )
            return profiles
        sqlite.rows(
            connection,
            "DELETE FROM uncounted WHERE project_id = ? AND data_group_id = ?",
            (project, group_id),
        )
    return 0


def _count(
    connection: apsw.Connection, pair: tuple[int, int, str], limit: int, kinds: Counter[tuple[str, str]]
) -> tuple[str, int]:
    """Add the kinds in profiles behind `pair`'s id to `kinds`; the last id and how many profiles."""
    last, profiles, room = pair[2], 0, BYTES_AT_ONCE
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            "SELECT id, CAST(document AS BLOB) FROM profiles"
            " WHERE project_id = ? AND data_group_id = ? AND id > ? ORDER BY id LIMIT ?",
            (*pair, limit),
        )
        for profile_id, document in cursor:
            last = profile_id
            with suppress(ValueError, AttributeError):  # no object: a damaged document counts nothing
                kinds.update([(name, kind_of(value)) for name, value in orjson.loads(document).items()])
            profiles += 1
            room -= len(document)
            if room < 0:
                break
    return last, profiles
