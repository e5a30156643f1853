"""What an engine must be able to do with history's tables, and what is the same for all of them.

Enters: an engine's `HistoryTables`, within a transaction of the caller's. Leaves: lines of the history,
newest first, or ranges of it. Segments, blocks and values are as `store/history.py` writes them down.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from mixdown.model.errors import CorruptStoreError
from mixdown.store.history import (
    Block,
    HistoryFeed,
    HistoryReach,
    HistorySize,
    LargeValue,
    ProfileKey,
    digests_of,
    id_of,
    line_since,
    lines_of,
    lines_with,
    pack,
    span_of,
)

READY: Final = 0
MERGING: Final = 1
GOING: Final = 2
_BLOCKS_AT_ONCE: Final = 4

Pair = tuple[int, str]
"""(project, group key)."""
Place = tuple[int, str, str]
"""(project, group key, id): how far a merge has come."""
NOWHERE: Final[Place] = (0, "", "")


class Segment(NamedTuple):
    """A segment, as it is kept: `done` tells how far one that is being merged has come."""

    number: int
    state: int
    first_position: int
    last_position: int
    first_ms: int
    last_ms: int
    size_bytes: int
    value_bytes: int
    done: Place = NOWHERE


class HistoryTables(Protocol):
    """An engine's tables of history. Numbers of segments rise: what is written stands behind what was."""

    # --- segments

    def segments(self) -> list[Segment]:
        """All of them, those of the newest records first."""

    def new_segment(self) -> int:
        """A number above all others."""

    def add_segment(self, segment: Segment) -> None:
        """Make a segment known."""

    def change_state(self, numbers: Sequence[int], state: int) -> None:
        """Put segments into another state."""

    def set_done(self, number: int, place: Place) -> None:
        """Note how far a merge has come."""

    def finish_merge(self, number: int, value_bytes: int) -> None:
        """A merge is done: its segment is as long as its blocks are together, and ready."""

    def drop_segment(self, number: int) -> None:
        """Take away a segment without blocks."""

    # --- how far back it reaches

    def reach(self) -> tuple[int, bool]:
        """Since when history is whole (ms), and whether something was written without it since."""

    def set_reach(self, since_ms: int, *, broken: bool) -> None:
        """The same, anew."""

    def mend_reach(self, since_ms: int) -> None:
        """Where something was written without history, it is whole from now on."""

    # --- blocks

    def put_blocks(self, segment: int, number: int, blocks: Sequence[Block]) -> None:
        """Write blocks of a segment, numbered from `number` on."""

    def last_number(self, segment: int) -> int:
        """The number of the last block of a segment, 0 where there is none."""

    def blocks_with(self, segment: int, key: ProfileKey) -> list[bytes]:
        """The blocks of a segment that may hold lines of a profile, the last of them first."""

    def blocks_from(
        self, segment: int, pair: Pair, begin: str, end: str | None, at_once: int
    ) -> tuple[list[bytes], str | None]:
        """Blocks with ids from `begin` to before `end`: so many, and the first id of what is left unread."""

    def blocks_behind(self, segment: int, done: Place) -> Iterator[tuple[Pair, bytes]]:
        """The blocks, in order, that hold all that stands behind a place, and perhaps some before it."""

    def places_of(self, segment: int, pair: Pair, ids: Collection[str]) -> list[tuple[str, int]]:
        """Which blocks, as they are kept, may hold lines of some profiles."""

    def block_at(self, segment: int, pair: Pair, place: tuple[str, int]) -> bytes:
        """One of them."""

    def replace_block(self, segment: int, pair: Pair, place: tuple[str, int], block: Block | None) -> None:
        """Put another in its place, or none."""

    def drop_blocks(self, segment: int) -> bool:
        """Take away a few; whether there were any."""

    # --- large values

    def keep_values(self, values: Sequence[LargeValue], last_ms: int) -> int:
        """Keep values; how many bytes that adds: 0 for those that are held already."""

    def value_apart(self, key: ProfileKey, digest: str) -> bytes | None:
        """One of them, compressed."""

    def values_bytes(self) -> int:
        """How many bytes they have together."""

    def forget_values(self, key: ProfileKey, kept: Collection[str]) -> None:
        """Take away those of a profile but the ones with these digests."""

    def drop_values(self) -> bool:
        """Take away a few that came or went last before any segment that is left; whether there were any."""


class HistoryWriter:
    """Writes what one step of the fold changed, within its transaction."""

    def __init__(self, tables: HistoryTables, feed: HistoryFeed) -> None:
        self._tables = tables
        self._feed = feed
        self._segment = 0
        self._number = self._bytes = 0

    def write_some(self) -> None:
        """Write the blocks that are full by now."""
        blocks = list(self._feed.blocks())
        if not blocks:
            return
        if not self._segment:
            self._segment = self._tables.new_segment()
        self._tables.put_blocks(self._segment, self._number, blocks)
        self._number += len(blocks)
        self._bytes += sum(len(block.data) for block in blocks)

    def finish(self) -> None:
        """Write what is left, and make it known. Everything is in the feed."""
        span = self._feed.span
        self.write_some()
        values = list(self._feed.values())
        value_bytes = self._tables.keep_values(values, span.last_ms) if values else 0
        if self._segment:
            self._tables.add_segment(
                Segment(
                    self._segment,
                    READY,
                    span.first,
                    span.end - 1,
                    span.first_ms,
                    span.last_ms,
                    self._bytes,
                    value_bytes,
                )
            )
        self._tables.mend_reach(span.last_ms)


def break_off(tables: HistoryTables) -> None:
    """Profiles were written without history: nothing leads from them back into what there is of it."""
    since_ms, broken = tables.reach()
    if not broken:
        tables.set_reach(since_ms, broken=True)
        tables.change_state([segment.number for segment in tables.segments()], GOING)


def size(tables: HistoryTables) -> HistorySize:
    """How much there is."""
    blocks = sum(segment.size_bytes for segment in tables.segments())
    far = reach(tables)
    return HistorySize(blocks + tables.values_bytes(), far.segments, far.since_ms)


def reach(tables: HistoryTables) -> HistoryReach:
    """How far back it goes."""
    since_ms, broken = tables.reach()
    return HistoryReach(len(tables.segments()), None if broken else since_ms)


def value_apart(tables: HistoryTables, key: ProfileKey, digest: str) -> bytes:
    """A value that stands apart, compressed. Raises `CorruptStoreError` where it is gone."""
    found = tables.value_apart(key, digest)
    if found is None:
        raise CorruptStoreError("a large value of the history is missing")
    return found


def newest_first(
    segment_below: Callable[[int], tuple[int, list[bytes]] | None], profile_id: str, below: int
) -> Iterator[bytes]:
    """The lines about a profile whose records stand below a position, newest first.

    `segment_below` gives the newest segment that begins below one: where it begins, and its blocks about the
    profile, the last of them first. Between two of them the fold may merge some, which positions tell and
    numbers of segments would not. Raises `CorruptStoreError`.
    """
    while (found := segment_below(below)) is not None:
        first_position, blocks = found
        for data in blocks:
            for line in reversed(lines_with(data, profile_id)):
                if span_of(line)[0] < below:
                    yield line
        below = first_position


def ranged(
    tables: HistoryTables, pair: Pair, begin: str, end: str | None, since_ms: int
) -> tuple[dict[str, list[bytes]], str | None]:
    """The lines about ids from `begin` to before `end` (None: all), of segments that reach `since_ms`.

    Within the caller's snapshot. Returns them by id, newest first, and the end of what they are whole for:
    `end`, or less where that is much.
    """
    segments = [each for each in tables.segments() if each.state == READY and each.last_ms >= since_ms]
    at_once = _BLOCKS_AT_ONCE
    while True:
        read = [tables.blocks_from(each.number, pair, begin, end, at_once) for each in reversed(segments)]
        unread = [first_id for _, first_id in read if first_id is not None]
        if not unread or min(unread) > begin:
            break
        at_once *= 2  # the first id alone fills so many
    if unread:
        end = min(unread)
    found: dict[str, list[bytes]] = {}
    for blocks, _ in read:
        for data in blocks:
            for line in lines_of(data):
                profile_id = id_of(line)
                if profile_id >= begin and (end is None or profile_id < end):
                    found.setdefault(profile_id, []).append(line)
    for lines in found.values():
        lines.reverse()
    return found, end


def forget(tables: HistoryTables, keys: Iterable[ProfileKey], below: int) -> int:
    """Take what stands below a position about these profiles out of the history; how many lines that changes.

    It looks into each segment, also those that are being merged or about to go, and rewrites blocks that hold
    some of it. That it leaves the disk, the caller sees to.
    """
    changed = 0
    segments = tables.segments()
    # what is half merged begins anew: it says in the clear how far it came
    for segment in segments:
        if segment.state == MERGING:
            tables.change_state([segment.number], GOING)
            tables.set_done(segment.number, (segment.done[0], segment.done[1], ""))
    needed: dict[Pair, dict[str, set[str]]] = defaultdict(dict)
    for project, group_key, profile_id in keys:
        needed[project, group_key][profile_id] = set()
    for pair, digests in needed.items():
        for segment in segments:
            changed += _forget_in(tables, segment.number, pair, below, digests)
        for profile_id, kept in digests.items():
            tables.forget_values((*pair, profile_id), kept)
    return changed


def _forget_in(
    tables: HistoryTables, segment: int, pair: Pair, below: int, needed: dict[str, set[str]]
) -> int:
    """Take some profiles' past out of one segment; how many lines changed.

    Each block is unfolded once for all of them. `needed` has their ids, and gets the digests of values that
    what is left of each names.
    """
    changed = 0
    for place in tables.places_of(segment, pair, needed):
        kept: list[bytes] = []
        try:
            lines = lines_of(tables.block_at(segment, pair, place))
            changed_here = 0
        except CorruptStoreError:  # whose it is nobody can say any more: it goes, or the erasure never ends
            lines = []
            changed_here = 1
        for line in lines:
            profile_id = id_of(line)
            if profile_id not in needed:
                kept.append(line)
                continue
            left = line_since(line, below)
            changed_here += left != line
            if left is not None:
                kept.append(left)
                needed[profile_id] |= digests_of(left)
        if changed_here:
            changed += changed_here
            tables.replace_block(segment, pair, place, pack(*pair, kept) if kept else None)
    return changed
