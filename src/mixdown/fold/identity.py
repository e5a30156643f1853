"""Links between ids, applied in log order beside the records of one step (contract ingestion §8).

Enters: decoded segments and what the store knows. Leaves: whose profile an update changes, what to write, and
the links that failed, as refusals. Events name the same pairs again and again, so what was settled once is
remembered: such a link costs a look into a set. It must never depend on how records are grouped into steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from mixdown.model.identity import (
    CREATE_ALIAS,
    DEVICE,
    DEVICE_PREFIX,
    FIELDS,
    IDENTIFY,
    MERGE,
    ORIGINAL,
    Identities,
)
from mixdown.model.updates import IGNORE_ALIAS, digest_key
from mixdown.store.chunk import Chunk, Link, LoggedSegment, LoggedUpdate
from mixdown.store.identities import UNMERGE, IdentityReads, IdentityWrites, known_of, writes_of
from mixdown.store.privacy import ENDPOINT as ERASE
from mixdown.store.privacy import TOMBSTONE_PROJECT
from mixdown.store.protocols import RefusedRecord

Decoded = Sequence[tuple[Chunk, Sequence[LoggedSegment]]]

SETTLED_HELD: Final = 65_536
"""Links that are remembered, twice as many at most."""
SETTLED_CHARS: Final = 400
"""Longer pairs are looked up each time: the memory has a bound."""
TOLD_OF_ONE: Final = 20
"""Refusals about one device, anonymous id or alias: thousands of users may share a device."""
_TOLD_HELD: Final = 10_000
_PARTING: Final = (UNMERGE, ERASE)


class FailedLink(msgspec.Struct, frozen=True):
    """A link that its mode does not allow, and why."""

    link: Link
    endpoint: str
    sdk: str
    message: str


class LinkCounts(NamedTuple):
    """What a step did to links."""

    made: int
    failed: int
    undone: int


class Settled:
    """Links whose asking again changes nothing, until somebody is unmerged: made, there before, or failed."""

    def __init__(self) -> None:
        self._young: set[str] = set()
        self._old: set[str] = set()
        self._told: dict[bytes, int] = {}

    def clear(self) -> None:
        """Know nothing."""
        self._young.clear()
        self._old.clear()

    def without(self, links: Sequence[Link]) -> list[Link]:
        """Those of the links that are not known to be settled."""
        young, old = self._young, self._old
        if not young and not old:
            return list(links)
        left = []
        for link in links:
            name = name_of(link)
            if name not in young:
                if name in old:
                    self.add(name)
                    young, old = self._young, self._old
                else:
                    left.append(link)
        return left

    def __contains__(self, name: str) -> bool:
        return name in self._young or name in self._old

    def add(self, name: str) -> None:
        """Remember a link, and forget those not asked for of late."""
        if len(name) * (1 if name.isascii() else 4) > SETTLED_CHARS:  # so many bytes a character may take
            return
        self._young.add(name)
        if len(self._young) >= SETTLED_HELD:
            self._old, self._young = self._young, set()

    def tells(self, project: int, contested: str) -> bool:
        """Whether one more failure about an id is to be told."""
        if len(self._told) >= _TOLD_HELD:
            self._told.clear()
        key = digest_key("told", str(project), contested)  # an id may be as long as a record
        told = self._told.get(key, 0)
        self._told[key] = told + 1
        return told < TOLD_OF_ONE


class Linking:
    """What the fold knows of identities from one step to the next."""

    def __init__(self, state: IdentityReads) -> None:
        self._state = state
        self._settled = Settled()
        self._projects: set[int] | None = None

    def start_over(self) -> None:
        """A step may not have been written: what it settled is not known."""
        self._settled.clear()
        self._projects = None

    @property
    def projects(self) -> set[int]:
        """The projects that have links."""
        if self._projects is None:
            self._projects = set(self._state.linked_projects())
        return self._projects

    def concern(self, segments: Iterable[LoggedSegment]) -> bool:
        """Whether these segments ask for links, or may hold updates of a project that has some."""
        return bool(self.projects) or any(segment.links for segment in segments)

    def step(self, decoded: Decoded) -> StepIdentities | None:
        """Get ready to apply the links of a step; None where it has nothing to do with any."""
        projects = self.projects
        projects.update({link.project for _, segments in decoded for each in segments for link in each.links})
        if not projects:
            return None
        asked: dict[int, _Asked] = defaultdict(_Asked)
        if any(segment.endpoint in _PARTING for _, segments in decoded for segment in segments):
            self._settled.clear()
        for _, segments in decoded:
            for segment in segments:
                if segment.links:
                    segment.links = self._settled.without(segment.links)
                for link in segment.links:
                    if link.project != TOMBSTONE_PROJECT:
                        asked[link.project].take_link(link)
                parts = segment.endpoint in _PARTING
                for update in segment.updates:
                    if update.project in projects and not update.group_key:
                        asked[update.project].take_update(update, parts=parts)
        if not asked:
            return None
        known = {project: each.known(self._state, project) for project, each in asked.items()}
        return StepIdentities(known, self._settled)


class _Asked(msgspec.Struct):
    """The ids of a project that a step names."""

    ids: set[str] = msgspec.field(default_factory=set)
    joining: list[tuple[str, str]] = msgspec.field(default_factory=list)
    parting: set[str] = msgspec.field(default_factory=set)

    def take_link(self, link: Link) -> None:
        """Note the ids of a link."""
        self.ids.update((link.one, link.other))
        if link.mode == ORIGINAL:
            self.joining.append((link.one, link.other))
            if link.verb == CREATE_ALIAS:  # whether the alias was given before is told by its links
                self.joining.append((link.other, link.other))

    def take_update(self, update: LoggedUpdate, *, parts: bool) -> None:
        """Note the id of an update, or of a record that parts it from others."""
        if parts:
            self.parting.add(update.id)
        elif not update.flags & IGNORE_ALIAS:
            self.ids.add(update.id)

    def known(self, state: IdentityReads, project: int) -> Identities:
        """What the store knows of them."""
        joining = self.joining
        if self.parting:  # what is one now may be parted, and then joined again
            joining = [(one, one) for pair in joining for one in pair]
        ids = self.ids | self.parting
        return known_of(state, project, ids, joining=joining, parting=self.parting)


def name_of(link: Link) -> str:
    """What tells a link from others, wherever it is asked for."""
    # no id holds a NUL
    return f"{link.project}{link.mode}{link.verb}{link.one}\0{link.other}"


class StepIdentities:
    """The identities of the projects of one step, as they stand at the record that is looked at."""

    def __init__(self, known: dict[int, Identities], settled: Settled) -> None:
        self.failed: list[FailedLink] = []
        self._failures = 0
        self._known = known
        self._settled = settled

    def canonical_in(self, project: int) -> Callable[[str], str] | None:
        """What gives the canonical id of a user's id, at this place in the log; None: each is its own."""
        known = self._known.get(project)
        return None if known is None else known.canonical

    def take(self, segment: LoggedSegment, position: int, time_ms: int) -> None:
        """Apply what a segment that begins at `position` says of ids."""
        for link in segment.links:
            name = name_of(link)
            if link.project != TOMBSTONE_PROJECT and name not in self._settled:
                self._link(link, segment, position, time_ms)
                self._settled.add(name)
        if segment.endpoint == UNMERGE:
            for at, update in enumerate(segment.updates, position):
                known = self._known.get(update.project)
                if known is not None and known.unmerge(update.id, at, time_ms):
                    self._settled.clear()
        elif segment.endpoint == ERASE:
            for update in segment.updates:
                known = self._known.get(update.project)
                if known is not None and not update.group_key:
                    known.forget(update.id)
                    self._settled.clear()

    def writes(self) -> list[IdentityWrites]:
        """What the step changes."""
        found = [writes_of(project, known) for project, known in self._known.items()]
        return [each for each in found if each.forgotten or each.undone or each.made or each.members]

    def counts(self) -> LinkCounts:
        """How many links the step made and undid, and how many failed, those that are not told included."""
        made = sum(len(known.made) for known in self._known.values())
        undone = sum(len(known.undone) for known in self._known.values())
        return LinkCounts(made, self._failures, undone)

    def _link(self, link: Link, segment: LoggedSegment, position: int, time_ms: int) -> None:
        known = self._known[link.project]
        at = position + link.index
        message = known.link(link.mode, link.verb, link.one, link.other, at, time_ms)
        self._failures += bool(message)
        contested = link.one if link.verb == DEVICE else link.other
        if message and self._settled.tells(link.project, contested):
            self.failed.append(FailedLink(link, segment.endpoint, segment.sdk, message))


def refusal_of(failed: FailedLink, token: str) -> RefusedRecord:
    """A failed link as a refusal, one for each pair of ids.

    Where a verb asked for it, it can be sent again: as an event of that verb. A device and its user came with
    an event that was stored, so there is nothing to send.
    """
    link = failed.link
    named: dict[str, object] = {
        DEVICE: {"$device_id": link.one.removeprefix(DEVICE_PREFIX), "$user_id": link.other},
        IDENTIFY: {"distinct_id": link.one, "$identified_id": link.one, "$anon_id": link.other},
        CREATE_ALIAS: {"distinct_id": link.one, "alias": link.other},
        MERGE: {"$distinct_ids": [link.one, link.other]},
    }
    event = {} if link.verb == DEVICE else {"event": f"${link.verb}"}
    properties = {"token": token, **named[link.verb]}  # type: ignore[dict-item]
    return RefusedRecord(
        project=link.project,
        endpoint=failed.endpoint,
        index=0,
        field=FIELDS[link.verb],
        message=failed.message,
        record=msgspec.json.encode({**event, "properties": properties}).decode(),
        whole=bool(event),
        sdk=failed.sdk,
        request_key=digest_key("link", str(link.project), link.verb, link.one, link.other),
    )
