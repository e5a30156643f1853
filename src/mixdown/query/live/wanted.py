"""What one listener wants, and its share of what arrives: the filter, the sampling, the count of the rest.

Items enter, those to be shown leave. No I/O and no clock: the time is told.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from mixdown.model.masking import NOTHING_HIDDEN, Mask
from mixdown.query.live.pieces import KINDS, REFUSAL, Counts, Item
from mixdown.store.places import PARTITIONS_LIMIT, partition_at

BURST_S: Final = 2.0
"""After a pause a listener is shown so many seconds' worth at once."""
TELL_EVERY_S: Final = 1.0
_CURSOR: Final = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)


class Cursor(NamedTuple):
    """A place in what arrives in a partition: the position of the next record, and the last refusal's id."""

    position: int
    refusal: int

    def __str__(self) -> str:
        return f"{self.position}-{self.refusal}"

    @classmethod
    def read(cls, text: str) -> Cursor | None:
        """The place that a text names; None where it is none."""
        match = _CURSOR.fullmatch(text)
        return None if match is None else cls(int(match[1]), int(match[2]))


class Places(NamedTuple):
    """A place in what arrives: one cursor for each partition that somebody listens to, in their order."""

    cursors: tuple[Cursor, ...] = ()

    def __str__(self) -> str:
        return ".".join(map(str, self.cursors))

    @classmethod
    def read(cls, text: str) -> Places | None:
        """The place that a text names; None where it is none."""
        parts = text.split(".", PARTITIONS_LIMIT)
        cursors = [cursor for cursor in map(Cursor.read, parts) if cursor is not None]
        numbers = {partition_at(cursor.position) for cursor in cursors}
        if not len(parts) == len(cursors) == len(numbers) <= PARTITIONS_LIMIT:
            return None
        return cls(tuple(sorted(cursors)))

    @classmethod
    def of(cls, found: Mapping[int, Cursor], partitions: Sequence[int]) -> Places:
        """The place in these partitions, of those where they are."""
        return cls(tuple(found[number] for number in partitions))

    def by_partition(self) -> dict[int, Cursor]:
        """The cursors by the partition that they are of."""
        return {partition_at(cursor.position): cursor for cursor in self.cursors}


class Wanted(msgspec.Struct, frozen=True):
    """Which records a listener asks for.

    `projects` None means all; 0 in it stands for refusals whose token no project has. `text` is lower case.
    No refusal is found by what `mask` hides.
    """

    projects: frozenset[int] | None
    kinds: frozenset[str] = frozenset(KINDS)
    id: str = ""
    text: str = ""
    mask: Mask = NOTHING_HIDDEN

    def covers(self, kind: str, project: int) -> bool:
        """Whether records of this kind and project may be wanted."""
        return kind in self.kinds and (self.projects is None or project in self.projects)

    def takes(self, item: Item) -> bool:
        """Whether this record is."""
        return (
            self.covers(item.kind, item.project)
            and (not self.id or item.has_id(self.id))
            and (not self.text or item.holds(self.text, self.mask))
        )

    def counted(self, counts: Counts) -> int:
        """How many records may be wanted of those counted."""
        return sum(count for (kind, project), count in counts.items() if self.covers(kind, project))


class Tally(msgspec.Struct, frozen=True):
    """What became of the records that a listener asked for, since it was told last.

    `matched` fit its filter and `shown` were sent to it; at `unread` nobody looked, because too many came at
    once; `dropped` were to be sent, but it did not take what came before. `gap` says that some were lost
    before they could be counted.
    """

    matched: int
    shown: int
    unread: int
    dropped: int
    gap: bool


class Share:
    """One listener's share, at most about `rate` accepted records a second and as many refused ones.

    `heard` is the place from which on it is to hear in each of the `partitions` that it listens to: nothing
    before it is shown again.
    """

    def __init__(self, wanted: Wanted, *, rate: int, now_s: float) -> None:
        self.wanted = wanted
        self.partitions: Sequence[int] = ()
        self.heard: dict[int, Cursor] = {}
        self._rate = rate
        self._left = {False: rate * BURST_S, True: rate * BURST_S}
        self._filled_s = now_s
        self._told_s = now_s
        self._matched = self._shown = self._unread = self._dropped_told = 0
        self._gap = False

    def choose(self, items: Sequence[Item], *, now_s: float, unread: int = 0) -> list[Item]:
        """Those of `items` that it is shown, in order; at `unread` others nobody looked."""
        more = max(0.0, now_s - self._filled_s) * self._rate
        self._filled_s = now_s
        most = self._rate * BURST_S
        self._left = {refused: min(most, left + more) for refused, left in self._left.items()}
        fitting = [item for item in items if self.wanted.takes(item)]
        if len(fitting) > min(self._left.values()):
            return self._sampled(fitting, unread)
        refused = sum(item.kind == REFUSAL for item in fitting)
        self._left[True] -= refused
        self._left[False] -= len(fitting) - refused
        self._count(len(fitting), len(fitting), unread)
        return fitting

    def latest(self, items: Sequence[Item], *, limit: int, unread: int = 0) -> list[Item]:
        """The newest of `items`, for a listener that has caught up with what came while it was away."""
        fitting = [item for item in items if self.wanted.takes(item)]
        shown = fitting[-limit:]
        self._count(len(fitting), len(shown), unread)
        return shown

    def lost(self) -> None:
        """Records were passed over that nobody has counted."""
        self._gap = True

    def tally(self, *, dropped: int, now_s: float) -> Tally | None:
        """What is to be told, at most once a second; `dropped` counts from the beginning."""
        newly = dropped - self._dropped_told
        if now_s - self._told_s < TELL_EVERY_S or not (self._matched or self._unread or newly or self._gap):
            return None
        told = Tally(self._matched, self._shown - newly, self._unread, newly, self._gap)
        self._matched = self._shown = self._unread = 0
        self._dropped_told = dropped
        self._told_s = now_s
        self._gap = False
        return told

    def _sampled(self, fitting: Sequence[Item], unread: int) -> list[Item]:
        places: dict[bool, list[int]] = {False: [], True: []}
        for place, item in enumerate(fitting):
            places[item.kind == REFUSAL].append(place)
        chosen: list[int] = []
        for refused, those in places.items():
            taken = spread(those, int(self._left[refused]))
            self._left[refused] -= len(taken)
            chosen += taken
        self._count(len(fitting), len(chosen), unread)
        return [fitting[place] for place in sorted(chosen)]

    def _count(self, matched: int, shown: int, unread: int) -> None:
        self._matched += matched
        self._shown += shown
        self._unread += unread


def spread(those: Sequence[int], limit: int) -> list[int]:
    """At most `limit` of them, evenly spread, in their order."""
    if len(those) <= limit:
        return list(those)
    return [those[at * len(those) // limit] for at in range(limit)]


def kinds_of(names: Collection[str]) -> frozenset[str] | None:
    """The kinds with these names; None where one of them is none."""
    found = frozenset(names)
    return found if found <= frozenset(KINDS) else None
