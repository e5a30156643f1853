"""Which ids are one person: Mixpanel's three modes of identity (contract ingestion §8). Pure.

Requests to link two ids enter, in log order; what they change leaves: links, and the canonical id of each id
that has another than itself. All follows from the links in force: ids that are linked, directly or through
others, are a cluster, and its canonical id is the oldest that was named as a known user, or else the oldest.
So a link that is undone leaves what the other links say. Legacy aliases stand apart: one hop, and for events
from the alias on alone. It must never read a clock or a store: whoever calls says what is known (`know`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from mixdown.model import texts

SIMPLIFIED: Final = "simplified"
ORIGINAL: Final = "original"
LEGACY: Final = "legacy"

DEVICE: Final = "device"
"""An event with both ids: `one` is `$device:` and the device id, `other` the user id."""
IDENTIFY: Final = "identify"
"""`$identify`: `one` is the identified id, `other` the anonymous one."""
CREATE_ALIAS: Final = "create_alias"
"""`$create_alias`: `one` is the distinct_id, `other` the alias."""
MERGE: Final = "merge"
"""`$merge`: the two ids in the order in which they came."""

MODES: Final = (SIMPLIFIED, ORIGINAL, LEGACY)
VERBS: Final = (DEVICE, IDENTIFY, CREATE_ALIAS, MERGE)
DEVICE_PREFIX: Final = "$device:"
CLUSTER_LIMIT: Final = 500
"""Ids that verbs may bring together (contract ingestion §8.2); devices of a user have no limit."""
LINKS_LIMIT: Final = 20_000
"""Links that are looked at to take ids apart: a user with more devices cannot be unmerged at once."""
_CROWDED_FROM_IDS: Final = 16
_CROWDED_HELD: Final = 256
FIELDS: Final = {DEVICE: "$device_id", IDENTIFY: "$anon_id", CREATE_ALIAS: "alias", MERGE: "$distinct_ids"}
"""What a link that fails is blamed on."""

# the ids that SDKs make: a UUID, or the browser's older form, whose five groups have other lengths
_ANONYMOUS: Final = re.compile(r"(?:\$device:)?[0-9a-f]+(?:-[0-9a-f]+){4}", re.IGNORECASE | re.ASCII)


LinkKey = tuple[int, str, str]
"""Position, `one` and `other`: what tells a link from others of its project, and their order."""


class IdentityLink(msgspec.Struct, frozen=True, array_like=True):
    """A link between two ids: where in the log and when (chunk time, ms) it came, by which verb and mode.

    `undone_position` and `undone_ms` say where and when it was undone; -1 and 0 while it is in force.
    """

    position: int
    time_ms: int
    mode: str
    verb: str
    one: str
    other: str
    undone_position: int = -1
    undone_ms: int = 0

    @property
    def in_force(self) -> bool:
        """Whether nobody undid it."""
        return self.undone_position < 0

    def was_in_force(self, time_ms: int) -> bool:
        """Whether it was, after all that has a chunk time up to this one."""
        return self.time_ms <= time_ms and (self.in_force or self.undone_ms > time_ms)

    @property
    def key(self) -> LinkKey:
        """What tells it from other links of its project, and their order."""
        return self.position, self.one, self.other


ByID = dict[str, dict[LinkKey, IdentityLink]]
"""Links by each of their two ids."""
Cluster = tuple[list[str], list[IdentityLink]]
"""Ids that are one, and the links among them in order."""


class Member(NamedTuple):
    """An id whose canonical id is another. `since` is 0, or the position from which a legacy alias counts.

    A legacy alias is one hop: its canonical id is that of its distinct_id.
    """

    id: str
    canonical: str
    since: int = 0


def is_anonymous(text: str) -> bool:
    """Whether `$identify` may link it as an anonymous id: five groups of hex digits (§8.2)."""
    return len(text) <= len(DEVICE_PREFIX) + 255 and _ANONYMOUS.fullmatch(text) is not None


def canonical_of(links: Iterable[IdentityLink]) -> tuple[str, bool]:
    """The canonical id of a cluster with these links, and whether it is that of a known user.

    The oldest id that a link names as a known user: by `$identify`, or with a device, or by another verb
    without being a device. Where no link does, the oldest id.
    """
    ordered = sorted(links, key=_key_of)
    for link in ordered:
        if link.verb == IDENTIFY:
            return link.one, True
        if link.verb == DEVICE:
            return link.other, True
        for each in (link.one, link.other):
            if not each.startswith(DEVICE_PREFIX):
                return each, True
    return ordered[0].one, False


def cluster_of(start: str, links: Iterable[IdentityLink]) -> tuple[list[str], list[IdentityLink]]:
    """The ids that are one with `start` by these links, itself first, and the links among them, in order.

    Links of legacy mode bring no ids together.
    """
    by_id: ByID = {}
    for link in links:
        for each in (link.one, link.other):
            by_id.setdefault(each, {})[link.key] = link
    return reached(start, by_id)


def resolved(start: str, links: Iterable[IdentityLink]) -> str:
    """The canonical id of an id by these links alone, a legacy alias included."""
    known = list(links)
    for link in known:
        if link.mode == LEGACY and link.other == start:
            start = link.one
            break
    found = cluster_of(start, known)[1]
    return canonical_of(found)[0] if found else start


class Identities:
    """The links of one project, as far as they bear on the ids at hand, and what changes in them.

    `know` takes what a store has; the rest is called in log order. `made`, `undone` and `forgotten` are the
    links and ids to be written, `changed` the members.
    """

    def __init__(self) -> None:
        self.made: dict[LinkKey, IdentityLink] = {}
        self.undone: dict[LinkKey, IdentityLink] = {}
        self.forgotten: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        self._known: dict[str, str] = {}
        self._aliases: dict[str, Member] = {}
        self._linked: set[str] = set()
        self._links: ByID = {}
        self._over: dict[str, list[LinkKey]] = {}
        self._crowded: dict[str, Cluster] = {}

    # --- what is known

    def know(
        self,
        members: Iterable[Member] = (),
        links: Iterable[IdentityLink] = (),
        linked: Iterable[str] = (),
    ) -> None:
        """Take what a store has.

        Members, links in force of the clusters that may be joined or parted, and ids that any link in force
        names but one of legacy mode.
        """
        for member in members:
            if member.since:
                self._aliases[member.id] = member
            else:
                self._known[member.id] = member.canonical
        for link in links:
            self._keep(link)
        self._linked.update(linked)

    def canonical(self, one: str) -> str:
        """The canonical id of an id, as of now."""
        alias = self._aliases.get(one)
        if alias is not None:
            one = alias.canonical
        return self._known.get(one, one)

    def changed(self) -> Iterator[tuple[str, Member | None]]:
        """The ids whose member changed, with what it is now (None: their canonical id is themselves)."""
        for each in self._changed:
            canonical = self._known.get(each)
            yield each, self._aliases.get(each) or (None if canonical is None else Member(each, canonical))

    # --- what requests change

    def link(self, mode: str, verb: str, one: str, other: str, position: int, time_ms: int) -> str:
        """Link two ids as the mode says; why they are not linked, or "".

        A verb that its mode does not know has no effect and is no failure, nor is a link that is there.
        """
        if mode == LEGACY:
            return self._alias(one, other, position, time_ms) if verb == CREATE_ALIAS else ""
        if (verb == DEVICE) != (mode == SIMPLIFIED) or mode not in MODES or verb not in VERBS:
            return ""
        if not one or not other:
            return texts.LINK_EMPTY
        if one == other:
            return ""
        made = IdentityLink(position, time_ms, mode, verb, one, other)
        return self._device(made) if verb == DEVICE else self._verb(made)

    def unmerge(self, one: str, position: int, time_ms: int) -> int:
        """Undo every link that names an id; how many there were."""
        gone = list(self._links.get(one, {}).values())
        for link in gone:
            over = msgspec.structs.replace(link, undone_position=position, undone_ms=time_ms)
            self._drop(link)
            held = self.made if link.key in self.made else self.undone
            held[link.key] = over
            for each in (link.one, link.other):
                self._over.setdefault(each, []).append(link.key)
        self._part(one, gone)
        return len(gone)

    def forget(self, one: str) -> None:
        """Undo every link that names an id, and leave no trace of any that ever did."""
        gone = list(self._links.get(one, {}).values())
        for link in gone:
            self._drop(link)
        self._part(one, gone)
        for key in [*(link.key for link in gone), *self._over.pop(one, ())]:
            self.made.pop(key, None)
            self.undone.pop(key, None)
        self.forgotten[one] = None

    # --- the modes

    def _device(self, made: IdentityLink) -> str:
        """Simplified: the first user wins for a device, and users never merge (§8.3)."""
        device, user = made.one, self._hop(made.other)
        if user.startswith(DEVICE_PREFIX):
            return texts.LINK_DEVICE_AS_USER
        if self.canonical(device) == self.canonical(user):
            return ""
        if device in self._aliases or device in self._linked:
            return texts.LINK_FIRST_USER
        canonical = self.canonical(user)
        self._keep(msgspec.structs.replace(made, other=user), new=True)
        self._point(device, canonical)
        return ""

    def _verb(self, made: IdentityLink) -> str:
        """Original: clusters (§8.2)."""
        one, other, verb = self._hop(made.one), self._hop(made.other), made.verb
        same = self.canonical(one) == self.canonical(other)
        if verb == CREATE_ALIAS:
            taken = self._mapped_to(made.other)
            if taken is not None:
                return "" if same else texts.LINK_ALIAS_TAKEN
        joined = msgspec.structs.replace(made, one=one, other=other)
        if same:
            if verb == CREATE_ALIAS and one != other:  # it joins nothing, but the alias is taken from now on
                self._keep(joined, new=True)
            return ""
        if verb == IDENTIFY and not is_anonymous(made.other):
            return texts.LINK_NOT_ANONYMOUS
        ours, links = self._cluster(one)
        theirs, other_links = self._cluster(other)
        if verb == IDENTIFY and other_links and canonical_of(other_links)[1]:
            return texts.LINK_ALREADY_MERGED
        if len(ours) + len(theirs) > CLUSTER_LIMIT:
            return texts.LINK_CLUSTER_FULL.format(limit=CLUSTER_LIMIT)
        self._keep(joined, new=True)
        self._settle([*ours, *theirs], canonical_of([*links, *other_links, joined])[0])
        return ""

    def _alias(self, one: str, other: str, position: int, time_ms: int) -> str:
        """Legacy: an alias is written once, one hop (§8.5)."""
        if not one or not other:
            return texts.LINK_EMPTY
        if one == other:
            return ""
        known = self._aliases.get(other)
        if known is not None:
            return "" if known.canonical == one else texts.LINK_ALIAS_TAKEN
        if other in self._linked:
            return "" if self.canonical(one) == self.canonical(other) else texts.LINK_ALIAS_TAKEN
        self._keep(IdentityLink(position, time_ms, LEGACY, CREATE_ALIAS, one, other), new=True)
        self._aliases[other] = Member(other, one, position + 1)
        self._changed[other] = None
        return ""

    # --- within

    def _hop(self, one: str) -> str:
        """What a legacy alias stands for."""
        alias = self._aliases.get(one)
        return one if alias is None else alias.canonical

    def _mapped_to(self, alias: str) -> str | None:
        """The distinct_id that an alias was made for."""
        known = self._aliases.get(alias)
        if known is not None:
            return known.canonical
        for link in self._links.get(alias, {}).values():
            if link.verb == CREATE_ALIAS and link.other == alias:
                return link.one
        return None

    def _cluster(self, one: str) -> Cluster:
        """The cluster of an id. Large ones are held: a full one is asked for again and again."""
        name = self._known.get(one, one)
        held = self._crowded.get(name)
        if held is None:
            held = reached(one, self._links)
            if len(held[0]) >= _CROWDED_FROM_IDS:
                if len(self._crowded) >= _CROWDED_HELD:
                    self._crowded.clear()
                self._crowded[name] = held
        return held

    def _keep(self, link: IdentityLink, *, new: bool = False) -> None:
        for each in (link.one, link.other):
            self._crowded.pop(self._known.get(each, each), None)
            self._links.setdefault(each, {})[link.key] = link
        if link.mode != LEGACY:
            self._linked.update((link.one, link.other))
        if new:
            self.made[link.key] = link

    def _drop(self, link: IdentityLink) -> None:
        self._crowded.clear()
        for each in (link.one, link.other):
            left = self._links[each]
            left.pop(link.key, None)
            if all(held.mode == LEGACY for held in left.values()):
                self._linked.discard(each)

    def _part(self, one: str, gone: Iterable[IdentityLink]) -> None:
        """Give each id its canonical id again, after links that named `one` went."""
        neighbours: dict[str, None] = {one: None}
        for link in gone:
            if link.mode == LEGACY:
                self._aliases.pop(link.other, None)
                self._changed[link.other] = None
            else:
                neighbours[link.one] = neighbours[link.other] = None
        seen: set[str] = set()
        for each in neighbours:
            if each in seen:
                continue
            ids, links = reached(each, self._links)
            seen.update(ids)
            self._settle(ids, canonical_of(links)[0] if links else each)

    def _settle(self, ids: Iterable[str], canonical: str) -> None:
        for each in ids:
            self._point(each, canonical)

    def _point(self, one: str, canonical: str) -> None:
        if one == canonical:
            if self._known.pop(one, None) is not None:
                self._changed[one] = None
        elif self._known.get(one) != canonical:
            self._known[one] = canonical
            self._changed[one] = None


def reached(start: str, by_id: ByID) -> tuple[list[str], list[IdentityLink]]:
    """What `cluster_of` gives, by links that stand at both of their ids; legacy mode's are left out."""
    ids: dict[str, None] = {start: None}
    links: dict[LinkKey, IdentityLink] = {}
    waiting = [start]
    while waiting:
        for key, link in by_id.get(waiting.pop(), {}).items():
            if link.mode == LEGACY:
                continue
            links[key] = link
            for each in (link.one, link.other):
                if each not in ids:
                    ids[each] = None
                    waiting.append(each)
    return list(ids), [links[key] for key in sorted(links)]


def _key_of(link: IdentityLink) -> LinkKey:
    return link.key
