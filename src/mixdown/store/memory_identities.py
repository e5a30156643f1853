"""Identities in memory: the part of the model store that keeps links, plain where the others are quick."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mixdown.model.identity import DEVICE, LEGACY, IdentityLink, LinkKey, Member
from mixdown.store.identities import LINKED_LIMIT, IdentityWrites, Walk, linked_by


class MemoryIdentities:
    """What `State` says of identities; each call sees all of a write or nothing of it."""

    def __init__(self) -> None:
        self._links: dict[int, dict[LinkKey, IdentityLink]] = {}
        self._members: dict[int, dict[str, Member]] = {}

    def take_in_identities(self, part: MemoryIdentities) -> None:
        """Hold the links of another partition as well."""
        for project, links in part._links.items():
            self._links.setdefault(project, {}).update(links)
        for project, members in part._members.items():
            self._members.setdefault(project, {}).update(members)

    def linked_projects(self) -> frozenset[int]:
        return frozenset(self._links)

    def canonical(self, project: int, ids: Sequence[str]) -> dict[str, str]:
        known = self._members.get(project, {})
        return {each: _resolved(known[each], known).canonical if each in known else each for each in ids}

    def members(self, project: int, ids: Sequence[str]) -> list[Member]:
        known = self._members.get(project, {})
        return [known[each] for each in sorted(set(ids)) if each in known]

    def resolved(self, project: int, ids: Sequence[str]) -> list[Member]:
        known = self._members.get(project, {})
        return [_resolved(known[each], known) for each in sorted(set(ids)) if each in known]

    def all_members(self, project: int) -> Iterator[list[Member]]:
        known = self._members.get(project, {})
        if known:
            yield [_resolved(known[each], known) for each in sorted(known)]

    def linked(self, project: int, one: str, *, limit: int = LINKED_LIMIT) -> list[str]:
        links = self.links(project, [one], limit=limit)
        hops = [link.one for link in links if link.mode == LEGACY and link.other == one]
        return linked_by(one, [*links, *self.links(project, hops, limit=limit)])[:limit]

    def links(
        self, project: int, ids: Sequence[str], *, limit: int, undone: bool = False
    ) -> list[IdentityLink]:
        walk = Walk(ids, limit=limit)
        held = [link for link in self._links.get(project, {}).values() if undone or link.in_force]
        while True:
            names = set(walk.next)
            if not walk.take([link for link in held if link.one in names or link.other in names]):
                return walk.in_order

    def named(self, project: int, ids: Sequence[str]) -> set[str]:
        held = self._links.get(project, {}).values()
        names = {
            each for link in held if link.in_force and link.mode != LEGACY for each in (link.one, link.other)
        }
        return names.intersection(ids)

    def write_identities(self, writes: Iterable[IdentityWrites]) -> None:
        """Write what a step changes."""
        for changes in writes:
            links = self._links.setdefault(changes.project, {})
            members = self._members.setdefault(changes.project, {})
            gone = set(changes.forgotten)
            for link in links.values():  # of a user with more devices than are looked at, those that were not
                if link.verb == DEVICE and link.in_force and link.other in gone:
                    members.pop(link.one, None)
            for key in [key for key, link in links.items() if link.one in gone or link.other in gone]:
                del links[key]
            for link in (*changes.undone, *changes.made):
                links[link.key] = link
            for each, member in changes.members:
                if member is None:
                    members.pop(each, None)
                else:
                    members[each] = member


def _resolved(member: Member, known: Mapping[str, Member]) -> Member:
    """An alias of legacy mode with the canonical id of its distinct_id, which is one hop away."""
    hop = known.get(member.canonical) if member.since else None
    return member if hop is None or hop.since else member._replace(canonical=hop.canonical)
