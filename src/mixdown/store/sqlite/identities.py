"""Identities in `state.db`: links with their history, and whose canonical id is another.

Enters: what a step of the fold changes, inside its transaction. Leaves: canonical ids, thousands in one
statement. It must never decide whether two ids belong together: `model.identity` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import apsw
import orjson

from mixdown.model.identity import (
    CREATE_ALIAS,
    DEVICE,
    IDENTIFY,
    LEGACY,
    MERGE,
    ORIGINAL,
    SIMPLIFIED,
    IdentityLink,
    Member,
)
from mixdown.store.identities import LINKED_LIMIT, IdentityWrites, Walk, linked_by, members_by
from mixdown.store.sqlite import connection as sqlite

_MODES: Final = (SIMPLIFIED, ORIGINAL, LEGACY)
_VERBS: Final = (DEVICE, IDENTIFY, CREATE_ALIAS, MERGE)
# numbered in the file by their places
_MEMBERS_AT_ONCE: Final = 10_000
_MODE_NUMBERS: Final = {mode: number for number, mode in enumerate(_MODES)}
_VERB_NUMBERS: Final = {verb: number for number, verb in enumerate(_VERBS)}

# one look for each project, and none at a row of another
_PROJECTS: Final = """
    WITH RECURSIVE projects(id) AS (
        SELECT min(project_id) FROM identity_links
        UNION ALL
        SELECT (SELECT min(project_id) FROM identity_links WHERE project_id > projects.id)
        FROM projects WHERE projects.id IS NOT NULL
    ) SELECT id FROM projects WHERE id IS NOT NULL
"""
_MEMBERS: Final = """
    SELECT i.id, i.canonical, i.since FROM carray(?2) AS asked CROSS JOIN identities AS i
    WHERE i.project_id = ?1 AND i.id = CAST(asked.value AS TEXT)
"""
# an alias of legacy mode is one hop, and then its distinct_id may have another canonical id
_RESOLVED: Final = """
    SELECT i.id, coalesce(c.canonical, i.canonical), i.since
    FROM carray(?2) AS asked CROSS JOIN identities AS i
    LEFT JOIN identities AS c
        ON i.since > 0 AND c.project_id = i.project_id AND c.id = i.canonical AND c.since = 0
    WHERE i.project_id = ?1 AND i.id = CAST(asked.value AS TEXT)
"""
_ALL: Final = """
    SELECT i.id, coalesce(c.canonical, i.canonical), i.since FROM identities AS i
    LEFT JOIN identities AS c
        ON i.since > 0 AND c.project_id = i.project_id AND c.id = i.canonical AND c.since = 0
    WHERE i.project_id = ? AND i.id > ? ORDER BY i.id LIMIT ?
"""
_LINK: Final = "l.position, l.time_ms, l.mode, l.verb, l.one, l.other, l.undone_position, l.undone_ms"
# the primary key begins with `other`, the index is on `one`
_LINKS: Final = f"""
    SELECT {_LINK} FROM carray(?2) AS asked CROSS JOIN identity_links AS l
    WHERE l.project_id = ?1 AND l.other = CAST(asked.value AS TEXT) AND (?4 OR l.undone_position IS NULL)
    UNION ALL
    SELECT {_LINK} FROM carray(?2) AS asked
    CROSS JOIN identity_links AS l INDEXED BY identity_links_by_one
    WHERE l.project_id = ?1 AND l.one = CAST(asked.value AS TEXT) AND (?4 OR l.undone_position IS NULL)
    LIMIT ?3
"""  # noqa: S608 - names of columns
_NAMED: Final = """
    SELECT CAST(asked.value AS TEXT) FROM carray(?2) AS asked WHERE
    EXISTS (SELECT 1 FROM identity_links WHERE project_id = ?1 AND other = CAST(asked.value AS TEXT)
        AND mode <> ?3 AND undone_position IS NULL)
    OR EXISTS (SELECT 1 FROM identity_links INDEXED BY identity_links_by_one
        WHERE project_id = ?1 AND one = CAST(asked.value AS TEXT) AND mode <> ?3 AND undone_position IS NULL)
"""
_MAKE: Final = """
    INSERT OR REPLACE INTO identity_links
    SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
        value ->> 7
    FROM json_each(?2)
"""
_PUT: Final = """
    INSERT OR REPLACE INTO identities SELECT ?1, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?2)
"""
_UNPUT: Final = """
    DELETE FROM identities WHERE project_id = ? AND id IN (SELECT CAST(value AS TEXT) FROM carray(?))
"""
# of a user with more devices than are looked at, those that were not
_FREE_DEVICES: Final = """
    DELETE FROM identities WHERE project_id = ?1 AND id IN (
        SELECT one FROM identity_links WHERE project_id = ?1 AND verb = ?3 AND undone_position IS NULL
        AND other IN (SELECT CAST(value AS TEXT) FROM carray(?2)))
"""
_FORGET_OTHER: Final = """
    DELETE FROM identity_links WHERE project_id = ? AND other IN (SELECT CAST(value AS TEXT) FROM carray(?))
"""
_FORGET_ONE: Final = """
    DELETE FROM identity_links INDEXED BY identity_links_by_one
    WHERE project_id = ? AND one IN (SELECT CAST(value AS TEXT) FROM carray(?))
"""


class SqliteIdentities:
    """What `State` says of identities, from `state.db`."""

    _readers: sqlite.ThreadConnections
    _what: str

    def linked_projects(self) -> frozenset[int]:
        return frozenset(project for (project,) in self._ask(_PROJECTS, ()))

    def canonical(self, project: int, ids: Sequence[str]) -> dict[str, str]:
        found = {each: each for each in ids}
        found.update((one, canonical) for one, canonical, _ in self._of_ids(_RESOLVED, project, ids))
        return found

    def members(self, project: int, ids: Sequence[str]) -> list[Member]:
        return [Member(*row) for row in self._of_ids(_MEMBERS, project, ids)]

    def resolved(self, project: int, ids: Sequence[str]) -> list[Member]:
        return [Member(*row) for row in self._of_ids(_RESOLVED, project, ids)]

    def all_members(self, project: int) -> Iterator[list[Member]]:
        last = ""
        while True:
            rows = self._ask(_ALL, (project, last, _MEMBERS_AT_ONCE))
            if rows:
                yield [Member(*row) for row in rows]
            if len(rows) < _MEMBERS_AT_ONCE:
                return
            last = rows[-1][0]

    def linked(self, project: int, one: str, *, limit: int = LINKED_LIMIT) -> list[str]:
        links = self.links(project, [one], limit=limit)
        hops = [link.one for link in links if link.mode == LEGACY and link.other == one]
        if hops:
            links += self.links(project, hops, limit=limit)
        return linked_by(one, links)[:limit]

    def links(
        self, project: int, ids: Sequence[str], *, limit: int, undone: bool = False
    ) -> list[IdentityLink]:
        walk = Walk(ids, limit=limit)
        while True:
            rows = self._of_ids(_LINKS, project, walk.next, walk.room, int(undone))
            if not walk.take(map(_link, rows)):
                return walk.in_order

    def named(self, project: int, ids: Sequence[str]) -> set[str]:
        return {one for (one,) in self._of_ids(_NAMED, project, ids, _MODE_NUMBERS[LEGACY])}

    def _of_ids(self, sql: str, project: int, ids: Sequence[str], *more: int) -> list[Any]:
        if not ids:
            return []
        encoded = sorted({each.encode("utf-8", "surrogatepass") for each in ids})
        return self._ask(sql, (project, apsw.carray(tuple(encoded)), *more))

    def _ask(self, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        with sqlite.store_errors(self._what):
            return sqlite.rows(self._readers.get(), sql, bindings)


def write(connection: apsw.Connection, changes: IdentityWrites) -> None:
    """Write what a step changes in a project, inside the caller's transaction."""
    project = changes.project
    if changes.forgotten:
        gone = apsw.carray(tuple([each.encode() for each in changes.forgotten]))
        sqlite.rows(connection, _FREE_DEVICES, (project, gone, _VERB_NUMBERS[DEVICE]))
        sqlite.rows(connection, _FORGET_OTHER, (project, gone))
        sqlite.rows(connection, _FORGET_ONE, (project, gone))
    links = [_row(link) for link in (*changes.undone, *changes.made)]
    if links:
        sqlite.rows(connection, _MAKE, (project, orjson.dumps(links).decode()))
    own = tuple([each.encode() for each, member in changes.members if member is None])
    if own:
        sqlite.rows(connection, _UNPUT, (project, apsw.carray(own)))
    members = [
        (each, member.canonical, member.since) for each, member in changes.members if member is not None
    ]
    if members:
        sqlite.rows(connection, _PUT, (project, orjson.dumps(members).decode()))


def derive_all(connection: apsw.Connection) -> None:
    """Write anew whose canonical id is another, of the links in force. Holds a project's links in memory."""
    sqlite.rows(connection, "DELETE FROM identities")
    for (project,) in sqlite.rows(connection, _PROJECTS):
        rows = sqlite.rows(
            connection,
            f"SELECT {_LINK} FROM identity_links AS l WHERE project_id = ? AND undone_position IS NULL",  # noqa: S608 - names of columns
            (project,),
        )
        members = members_by(map(_link, rows))
        write(connection, IdentityWrites(project, members=[(each.id, each) for each in members]))


def _link(row: tuple[Any, ...]) -> IdentityLink:
    position, time_ms, mode, verb, one, other, undone_position, undone_ms = row
    over = (-1, 0) if undone_position is None else (undone_position, undone_ms)
    return IdentityLink(position, time_ms, _MODES[mode], _VERBS[verb], one, other, *over)


def _row(link: IdentityLink) -> tuple[Any, ...]:
    over = (None, None) if link.in_force else (link.undone_position, link.undone_ms)
    mode, verb = _MODE_NUMBERS[link.mode], _VERB_NUMBERS[link.verb]
    return link.other, link.position, link.one, link.time_ms, mode, verb, *over
