"""What every store keeps of identities: the protocol, and what one step of the fold writes.

The rules are in `model.identity`; the fold alone applies them, in log order. A store keeps links with their
history, and for each id that has another canonical id than itself which that is, so that reads need no rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from mixdown.model.identity import (
    CLUSTER_LIMIT,
    LEGACY,
    LINKS_LIMIT,
    ByID,
    Identities,
    IdentityLink,
    LinkKey,
    Member,
    canonical_of,
    cluster_of,
    reached,
)

LINKED_LIMIT: Final = 20_000
"""Ids of one person that are given at once."""
IDS_AT_ONCE: Final = 2_000
LINKS_AT_ONCE: Final = 50_000
LINKS_OF_CLUSTER: Final = 2 * CLUSTER_LIMIT + 100
"""More than a cluster has that verbs can still make larger."""
UNMERGE: Final = "unmerge"
"""The endpoint of a record that takes an id apart from all others (`store.unmerging`)."""


class IdentityWrites(msgspec.Struct, frozen=True):
    """What one step changes in a project, to be written in this order.

    Ids of which no link stays, links undone, links made, and members (None: the id is its own canonical id).
    """

    project: int
    forgotten: Sequence[str] = ()
    undone: Sequence[IdentityLink] = ()
    made: Sequence[IdentityLink] = ()
    members: Sequence[tuple[str, Member | None]] = ()


def writes_of(project: int, identities: Identities) -> IdentityWrites:
    """What a step has changed in these identities."""
    return IdentityWrites(
        project,
        tuple(identities.forgotten),
        tuple(identities.undone.values()),
        tuple(identities.made.values()),
        tuple(identities.changed()),
    )


class IdentityReads(Protocol):
    """What `State` tells of identities. A project without links costs one look at an empty index."""

    def linked_projects(self) -> frozenset[int]:
        """The projects that have links, or had."""

    def canonical(self, project: int, ids: Sequence[str]) -> dict[str, str]:
        """The canonical id of each of `ids`: most are their own. Made for thousands at once."""

    def members(self, project: int, ids: Sequence[str]) -> list[Member]:
        """Those of `ids` that are not their own canonical id, as they are stored.

        An alias of legacy mode has `since`, and names its distinct_id, which may have another canonical id.
        """

    def resolved(self, project: int, ids: Sequence[str]) -> list[Member]:
        """Those of `ids` that are not their own canonical id, with the canonical id that they have.

        Events of `Member.id` are those of `Member.canonical` from position `since` on: all of them, where it
        is 0. Made for thousands at once.
        """

    def all_members(self, project: int) -> Iterator[list[Member]]:
        """All ids of a project that `resolved` would give, ascending, thousands at once.

        They are those of no single moment.
        """

    def linked(self, project: int, one: str, *, limit: int = LINKED_LIMIT) -> list[str]:
        """All ids of the person that an id is of, the canonical one first; of someone unknown, that id alone.

        Aliases of legacy mode are among them, where `one` is one or has some.
        """

    def links(
        self, project: int, ids: Sequence[str], *, limit: int, undone: bool = False
    ) -> list[IdentityLink]:
        """Links in force of all that is linked with `ids`, directly or through others, in log order.

        With `undone`, also those that were undone, and what they led to. At most about `limit` of them, the
        nearest first. Links of legacy mode that name one of these come too, and lead nowhere.
        """

    def named(self, project: int, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that a link in force names, unless it is one of legacy mode."""


def known_of(
    state: IdentityReads,
    project: int,
    ids: Collection[str],
    *,
    joining: Iterable[tuple[str, str]] = (),
    parting: Collection[str] = (),
) -> Identities:
    """What must be known of a project before links are asked for, or undone.

    `ids` are all that requests name. `joining` are pairs of them whose clusters are to become one: of those
    that are one already nothing is loaded, but where they come as (id, id). `parting` are those whose links
    may be undone.
    """
    known = Identities()
    members = {member.id: member for member in state.members(project, list(ids))}
    # what aliases of legacy mode stand for
    hops = {member.canonical for member in members.values() if member.since}
    members.update((member.id, member) for member in state.members(project, list(hops)))
    known.know(members.values(), (), state.named(project, list(hops.union(ids))))
    wanted = {
        each: None
        for one, other in joining
        if one == other or known.canonical(one) != known.canonical(other)
        for each in (one, other)
    }
    wanted.update(dict.fromkeys(members[one].canonical for one in wanted if one in members))
    links = _links_around(state, project, list(wanted))
    for one in parting:
        links += state.links(project, [one], limit=LINKS_LIMIT)
    around = {each for link in links for each in (link.one, link.other)}
    known.know(state.members(project, [each for each in around if each not in members]), links)
    return known


def _links_around(state: IdentityReads, project: int, ids: Sequence[str]) -> list[IdentityLink]:
    """The links of the clusters of many ids, with a bound on those of each where they are many together."""
    found: list[IdentityLink] = []
    for begin in range(0, len(ids), IDS_AT_ONCE):
        some = ids[begin : begin + IDS_AT_ONCE]
        links = state.links(project, some, limit=LINKS_AT_ONCE)
        if len(links) >= LINKS_AT_ONCE:
            links = [link for one in some for link in state.links(project, [one], limit=LINKS_OF_CLUSTER)]
        found += links
    return found


def linked_by(one: str, links: Iterable[IdentityLink]) -> list[str]:
    """`IdentityReads.linked`, of the links in force around an id and, if it is an alias, its distinct_id."""
    known = list(links)
    aliases = [link for link in known if link.mode == LEGACY]
    start = next((link.one for link in aliases if link.other == one), one)
    ids, within = cluster_of(start, known)
    first = canonical_of(within)[0] if within else start
    return list(dict.fromkeys([first, *ids, *(link.other for link in aliases if link.one in ids)]))


def members_by(links: Iterable[IdentityLink]) -> list[Member]:
    """All members that follow from all links in force of a project."""
    by_id: ByID = {}
    found = []
    for link in links:
        if link.mode == LEGACY:
            found.append(Member(link.other, link.one, link.position + 1))
            continue
        for each in (link.one, link.other):
            by_id.setdefault(each, {})[link.key] = link
    seen: set[str] = set()
    for start in by_id:
        if start not in seen:
            ids, within = reached(start, by_id)
            seen.update(ids)
            canonical = canonical_of(within)[0]
            found += [Member(each, canonical) for each in ids if each != canonical]
    return found


class Walk:
    """A way along links from some ids, one step further at a time; every store takes it."""

    def __init__(self, ids: Iterable[str], *, limit: int) -> None:
        self.found: dict[LinkKey, IdentityLink] = {}
        self.next: list[str] = list(dict.fromkeys(ids))
        self._seen = set(self.next)
        self._limit = limit

    def take(self, links: Iterable[IdentityLink]) -> bool:
        """Take the links that name one of `next`; whether to go on to those that `next` is now."""
        reached: dict[str, None] = {}
        for link in links:
            self.found[link.key] = link
            if link.mode != LEGACY:
                reached[link.one] = reached[link.other] = None
        self.next = [each for each in reached if each not in self._seen]
        self._seen.update(self.next)
        return bool(self.next) and len(self.found) < self._limit

    @property
    def room(self) -> int:
        """How many links more it may take."""
        return max(1, self._limit - len(self.found))

    @property
    def in_order(self) -> list[IdentityLink]:
        """What it found, in log order."""
        return [self.found[key] for key in sorted(self.found)]
