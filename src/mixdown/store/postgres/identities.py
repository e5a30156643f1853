"""Identities in PostgreSQL: links with their history, and whose canonical id is another.

Enters: what a step of the fold changes, inside its transaction. Leaves: canonical ids, thousands in one
statement. It must never decide whether two ids belong together: `model.identity` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, LiteralString

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
from mixdown.store.identities import LINKED_LIMIT, IdentityWrites, Walk, linked_by
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.ids import TextArray, key_for_write, key_of, long_of
from mixdown.store.postgres.pool import Connection
from mixdown.store.postgres.reach import Reach

_MODES: Final = (SIMPLIFIED, ORIGINAL, LEGACY)
_VERBS: Final = (DEVICE, IDENTIFY, CREATE_ALIAS, MERGE)
# numbered in the tables by their places
_MODE_NUMBERS: Final = {mode: number for number, mode in enumerate(_MODES)}
_VERB_NUMBERS: Final = {verb: number for number, verb in enumerate(_VERBS)}
_MEMBERS_AT_ONCE: Final = 10_000
_WRITTEN_AT_ONCE: Final = 5_000

# one look for each project, and none at a row of another
_PROJECTS: Final = """
    WITH RECURSIVE projects (id) AS (
        (SELECT project_id FROM mixdown.identity_links WHERE partition = %(partition)s
         ORDER BY project_id LIMIT 1)
        UNION ALL
        SELECT (SELECT project_id FROM mixdown.identity_links
                WHERE partition = %(partition)s AND project_id > projects.id ORDER BY project_id LIMIT 1)
        FROM projects WHERE projects.id IS NOT NULL
    ) SELECT id FROM projects WHERE id IS NOT NULL
"""
_MEMBERS: Final = """
    SELECT coalesce(long_id, id), canonical, since FROM mixdown.identities
    WHERE partition = ANY(%s) AND project_id = %s AND id = ANY(%s)
"""
_AFTER: Final = """
    SELECT id, long_id, canonical, since FROM mixdown.identities
    WHERE partition = %s AND project_id = %s AND id > %s ORDER BY id LIMIT %s
"""
# the primary key begins with `other`, the index is on `one`
_COLUMNS: Final = """
    position, time_ms, mode, verb, coalesce(long_one, one), coalesce(long_other, other), undone_position,
    undone_ms
"""
_LINKS: Final = f"""
    SELECT {_COLUMNS} FROM mixdown.identity_links
    WHERE partition = ANY(%(partitions)s) AND project_id = %(project)s AND other = ANY(%(ids)s)
    AND (%(undone)s OR undone_position IS NULL)
    UNION ALL
    SELECT {_COLUMNS} FROM mixdown.identity_links
    WHERE partition = ANY(%(partitions)s) AND project_id = %(project)s AND one = ANY(%(ids)s)
    AND (%(undone)s OR undone_position IS NULL)
    LIMIT %(room)s
"""
_NAMED: Final = """
    SELECT other FROM mixdown.identity_links
    WHERE partition = ANY(%(partitions)s) AND project_id = %(project)s AND other = ANY(%(ids)s)
    AND mode <> %(legacy)s AND undone_position IS NULL
    UNION
    SELECT one FROM mixdown.identity_links
    WHERE partition = ANY(%(partitions)s) AND project_id = %(project)s AND one = ANY(%(ids)s)
    AND mode <> %(legacy)s AND undone_position IS NULL
"""
_MAKE: Final = """
    INSERT INTO mixdown.identity_links
        (partition, project_id, other, position, one, time_ms, mode, verb, undone_position, undone_ms,
        long_one, long_other)
    SELECT %s::int, %s::bigint, unnest(%s::text[]), unnest(%s::bigint[]), unnest(%s::text[]),
        unnest(%s::bigint[]), unnest(%s::int[]), unnest(%s::int[]), unnest(%s::bigint[]),
        unnest(%s::bigint[]), unnest(%s::text[]), unnest(%s::text[])
    ON CONFLICT (partition, project_id, other, position, one) DO UPDATE
    SET time_ms = excluded.time_ms, mode = excluded.mode, verb = excluded.verb,
        undone_position = excluded.undone_position, undone_ms = excluded.undone_ms
"""
_PUT: Final = """
    INSERT INTO mixdown.identities (partition, project_id, id, canonical, since, long_id)
    SELECT %s::int, %s::bigint, unnest(%s::text[]), unnest(%s::text[]), unnest(%s::bigint[]),
        unnest(%s::text[])
    ON CONFLICT (partition, project_id, id) DO UPDATE
    SET canonical = excluded.canonical, since = excluded.since
"""
_UNPUT: Final = "DELETE FROM mixdown.identities WHERE partition = %s AND project_id = %s AND id = ANY(%s)"
# of a user with more devices than are looked at, those that were not
_FREE_DEVICES: Final = """
    DELETE FROM mixdown.identities WHERE partition = %(partition)s AND project_id = %(project)s AND id IN (
        SELECT one FROM mixdown.identity_links
        WHERE partition = %(partition)s AND project_id = %(project)s AND other = ANY(%(ids)s)
        AND verb = %(device)s AND undone_position IS NULL
    )
"""
_FORGET_OTHER: Final = """
    DELETE FROM mixdown.identity_links WHERE partition = %s AND project_id = %s AND other = ANY(%s)
"""
_FORGET_ONE: Final = """
    DELETE FROM mixdown.identity_links WHERE partition = %s AND project_id = %s AND one = ANY(%s)
"""


class PostgresIdentities:
    """What `State` says of identities, from PostgreSQL."""

    _database: Database
    _reach: Reach

    def linked_projects(self) -> frozenset[int]:
        found: set[int] = set()
        for partition in self._reach.all:
            found.update(project for (project,) in self._database.rows(_PROJECTS, {"partition": partition}))
        return frozenset(found)

    def canonical(self, project: int, ids: Sequence[str]) -> dict[str, str]:
        found = {each: each for each in ids}
        found.update((member.id, member.canonical) for member in self.resolved(project, ids))
        return found

    def members(self, project: int, ids: Sequence[str]) -> list[Member]:
        stored = _stored(ids)
        if not stored:
            return []
        asked = (list(self._reach.of_project(project)), project, TextArray.of_texts(sorted(stored)))
        return [Member(*row) for row in self._database.rows(_MEMBERS, asked)]

    def resolved(self, project: int, ids: Sequence[str]) -> list[Member]:
        members = self.members(project, ids)
        # an alias of legacy mode is one hop, and then its distinct_id may have another canonical id
        hops = {member.canonical for member in members if member.since}
        beyond = {member.id: member for member in self.members(project, list(hops)) if not member.since}
        return [_beyond(member, beyond) for member in members]

    def all_members(self, project: int) -> Iterator[list[Member]]:
        for some in self._pages(project):
            hops = list({member.canonical for member in some if member.since})
            beyond = {member.id: member for member in self.members(project, hops) if not member.since}
            yield [_beyond(member, beyond) for member in some]

    def _pages(self, project: int) -> Iterator[list[Member]]:
        """All members as they are stored, ascending, those of all partitions together."""
        partitions = self._reach.of_project(project)
        at_once = max(100, _MEMBERS_AT_ONCE // len(partitions))
        after = dict.fromkeys(partitions, "")
        held: dict[str, Member] = {}
        while after:
            # whoever is furthest behind is asked first: what all have passed is complete
            partition = min(after, key=lambda each: after[each])
            rows = self._database.rows(_AFTER, (partition, project, after[partition], at_once))
            held.update((stored, Member(whole or stored, *rest)) for stored, whole, *rest in rows)
            if len(rows) < at_once:
                del after[partition]
            else:
                after[partition] = rows[-1][0]
            passed = min(after.values(), default=None)
            done = sorted(stored for stored in held if passed is None or stored <= passed)
            if done:
                yield [held.pop(stored) for stored in done]

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
            rows = self._of_ids(_LINKS, project, walk.next, room=walk.room, undone=undone)
            if not walk.take(map(_link, rows)):
                return walk.in_order

    def named(self, project: int, ids: Sequence[str]) -> set[str]:
        stored = _stored(ids)
        rows = self._of_ids(_NAMED, project, ids, legacy=_MODE_NUMBERS[LEGACY])
        return {stored[key] for (key,) in rows}

    def _of_ids(
        self, statement: LiteralString, project: int, ids: Sequence[str], **more: Any
    ) -> list[tuple[Any, ...]]:
        stored = _stored(ids)
        if not stored:
            return []
        asked = {
            "partitions": list(self._reach.of_project(project)),
            "project": project,
            "ids": TextArray.of_texts(sorted(stored)),
        }
        return self._database.rows(statement, asked | more)


def _stored(ids: Sequence[str]) -> dict[str, str]:
    """These ids by their keys, without those that no stored id can be."""
    return {key: each for each in ids if (key := key_of(each)) is not None}


def _beyond(member: Member, beyond: dict[str, Member]) -> Member:
    hop = beyond.get(member.canonical) if member.since else None
    return member if hop is None else member._replace(canonical=hop.canonical)


def write(connection: Connection, partition: int, changes: IdentityWrites) -> None:
    """Write what a step changes in a project, inside the caller's transaction."""
    place = (partition, changes.project)
    if changes.forgotten:
        gone = TextArray.of_texts(sorted(map(key_for_write, changes.forgotten)))
        named = {"partition": partition, "project": changes.project, "ids": gone}
        connection.execute(_FREE_DEVICES, named | {"device": _VERB_NUMBERS[DEVICE]})
        connection.execute(_FORGET_OTHER, (*place, gone))
        connection.execute(_FORGET_ONE, (*place, gone))
    # a link may come as undone and as made: the last says how it stands
    links = list({link.key: link for link in (*changes.undone, *changes.made)}.values())
    for begin in range(0, len(links), _WRITTEN_AT_ONCE):
        _make(connection, place, links[begin : begin + _WRITTEN_AT_ONCE])
    own = sorted(key_for_write(each) for each, member in changes.members if member is None)
    if own:
        connection.execute(_UNPUT, (*place, TextArray.of_texts(own)))
    members = sorted((key_for_write(each), each, member) for each, member in changes.members if member)
    for begin in range(0, len(members), _WRITTEN_AT_ONCE):
        some = members[begin : begin + _WRITTEN_AT_ONCE]
        connection.execute(
            _PUT,
            (
                *place,
                TextArray.of_texts(key for key, _, _ in some),
                TextArray.of_texts(member.canonical for _, _, member in some),
                [member.since for _, _, member in some],
                [long_of(each) for _, each, _ in some],
            ),
        )


def _make(connection: Connection, place: tuple[int, int], links: Sequence[IdentityLink]) -> None:
    connection.execute(
        _MAKE,
        (
            *place,
            TextArray.of_texts(key_for_write(link.other) for link in links),
            [link.position for link in links],
            TextArray.of_texts(key_for_write(link.one) for link in links),
            [link.time_ms for link in links],
            [_MODE_NUMBERS[link.mode] for link in links],
            [_VERB_NUMBERS[link.verb] for link in links],
            [None if link.in_force else link.undone_position for link in links],
            [None if link.in_force else link.undone_ms for link in links],
            [long_of(link.one) for link in links],
            [long_of(link.other) for link in links],
        ),
    )


def _link(row: tuple[Any, ...]) -> IdentityLink:
    position, time_ms, mode, verb, one, other, undone_position, undone_ms = row
    over = (-1, 0) if undone_position is None else (undone_position, undone_ms)
    return IdentityLink(position, time_ms, _MODES[mode], _VERBS[verb], one, other, *over)
