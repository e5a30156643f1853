"""The one reader of the log for all listeners of a worker: reads each chunk once, decodes what may be shown.

A store enters; for each listener, the bytes of what it is sent leave. Everything here blocks and belongs in
one thread. It holds nothing open between two looks, and looks at so many records and bytes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

import msgspec

from mixdown.model.errors import CorruptStoreError
from mixdown.query.live.pieces import (
    LINK,
    REFUSAL,
    Arrived,
    Counts,
    Item,
    Piece,
    arrived_of,
    item_of_refusal,
    items_of,
    pieces_of,
)
from mixdown.query.live.wanted import Cursor, Share, Tally, Wanted
from mixdown.query.recent import last_of
from mixdown.query.refused import refusals_page
from mixdown.store.bounds import refusal_bytes
from mixdown.store.chunk import Chunk
from mixdown.store.protocols import RefusedRecord, Store

LAG_LIMIT_RECORDS: Final = 500_000
"""Who has fallen so far behind goes on from the log's head."""
CATCH_UP_RECORDS: Final = 20_000
"""Whoever comes back is given what came meanwhile, as far as that is no more."""
CAUGHT_UP_SHOWN: Final = 500
LOOK_RECORDS: Final = 4_000
"""So many records are decoded at a look: ten looks a second at most."""
_READ_RECORDS: Final = 50_000
_READ_BYTES: Final = 8 * 1024 * 1024
_READS_AT_ONCE: Final = 4
_REFUSALS_AT_ONCE: Final = 1_000
_REFUSALS_FETCHED: Final = 20
_REFUSAL_BYTES: Final = 8 * 1024 * 1024

Render = Callable[[str, Arrived, Cursor], bytes]
"""How a record of a kind is written down, with the place that its reader has come to then."""
RenderTally = Callable[[Tally, Cursor], bytes]


class Rendering(NamedTuple):
    """How a listener wants what it is sent."""

    record: Render
    tally: RenderTally


class Hearing(NamedTuple):
    """A listener, as the reader knows it: its share, how it is written to, and how much it has not taken."""

    share: Share
    rendering: Rendering
    dropped: Callable[[], int]


class Stretch(NamedTuple):
    """What was found at one look: records decoded, the counts of those that were not, and where it ends."""

    items: list[Item]
    unread: Counts
    begin: Cursor
    end: Cursor


class TailReader:
    """Where the tail of a worker stands. For one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._at: Cursor | None = None

    def rest(self) -> None:
        """Nobody listens: whoever comes next begins at the log's head."""
        self._at = None

    def begin(self, hearing: Hearing, after: Cursor | None) -> tuple[Cursor, bool, list[bytes]]:
        """Where a new listener begins, whether records before were lost, and what came since it left.

        It is to hear every `look` from here on. Raises `StoreError`.
        """
        if self._at is None:
            self._at = self._now()
        if after is None:
            return self._at, False, []
        now, head = self._at, self._now()
        if after.position > head.position or after.refusal > head.refusal:
            return now, True, []  # of another server, or of this one before it was restored
        begin = Cursor(
            max(after.position, now.position - CATCH_UP_RECORDS, self._store.log.tail_position()),
            max(after.refusal, now.refusal - CATCH_UP_RECORDS),
        )
        gap = begin != after
        hearing.share.heard = after  # by another worker, or by a look that was ahead of this reader
        begin = Cursor(min(begin.position, now.position), begin.refusal)
        stretch = self._stretch(begin, now, (hearing.share,), records=CATCH_UP_RECORDS)
        gap = gap or stretch.end.position < now.position
        unread = hearing.share.wanted.counted(stretch.unread)
        shown = hearing.share.latest(stretch.items, limit=CAUGHT_UP_SHOWN, unread=unread)
        begin = _further(begin, after)
        return begin, gap, _rendered(hearing, shown, begin)

    def look(self, hearings: Sequence[Hearing], now_s: float) -> list[list[bytes]]:
        """What has come since the last look, for each of these listeners. Raises `StoreError`."""
        begin = self._at or self._now()
        head = self._now()
        end = Cursor(max(begin.position, head.position), max(begin.refusal, head.refusal))
        gap = end.position - begin.position > LAG_LIMIT_RECORDS
        if gap:
            begin = Cursor(end.position, begin.refusal)
        if end.refusal - begin.refusal > LAG_LIMIT_RECORDS:
            begin, gap = Cursor(begin.position, end.refusal), True
        stretch = self._stretch(begin, end, [hearing.share for hearing in hearings], records=LOOK_RECORDS)
        self._at = stretch.end
        return [self._heard(hearing, stretch, now_s, gap=gap) for hearing in hearings]

    def _heard(self, hearing: Hearing, stretch: Stretch, now_s: float, *, gap: bool) -> list[bytes]:
        share = hearing.share
        if gap:
            share.lost()
        found: list[bytes] = []
        if stretch.items or stretch.unread:
            unread = share.wanted.counted(stretch.unread)
            news = [item for item in stretch.items if _is_behind(item, share.heard)]
            chosen = share.choose(news, now_s=now_s, unread=unread)
            found = _rendered(hearing, chosen, _further(stretch.begin, share.heard))
        tally = share.tally(dropped=hearing.dropped(), now_s=now_s)
        if tally is not None:
            found.append(hearing.rendering.tally(tally, _further(stretch.end, share.heard)))
        return found

    def _now(self) -> Cursor:
        return Cursor(self._store.log.head(), self._store.refusals.newest_id())

    def _stretch(self, begin: Cursor, end: Cursor, shares: Sequence[Share], *, records: int) -> Stretch:
        """What lies between two places, as far as one look goes."""
        pieces, position = self._pieces(begin.position, end.position)
        wanted = [piece for piece in pieces if any(share.wanted.counted(piece.counts) for share in shares)]
        read = _within(wanted, records)
        chosen = {piece.first for piece in read}
        unread: Counts = Counts()
        for piece in wanted:
            if piece.first not in chosen:
                unread += piece.counts
        items: list[Item] = []
        for piece in read:
            items += _readable(piece)
        items = [item for item in items if item.position >= begin.position]
        refused, refusal = self._refused(begin.refusal, end.refusal, shares, unread)
        return Stretch(_merged(items, refused), unread, begin, Cursor(position, refusal))

    def _pieces(self, begin: int, end: int) -> tuple[list[Piece], int]:
        """The segments from a position on, and where the next look begins."""
        pieces: list[Piece] = []
        at = begin
        for _ in range(_READS_AT_ONCE):
            if at >= end:
                break
            chunks = self._store.log.read(at, max_records=_READ_RECORDS, max_bytes=_READ_BYTES)
            if not chunks:
                return pieces, max(at, self._store.log.skip_damaged(at))
            for chunk in chunks:
                pieces += pieces_of(chunk)
            at = max(at, chunks[-1].end)
        return pieces, at

    def _refused(
        self, begin: int, end: int, shares: Sequence[Share], unread: Counts
    ) -> tuple[list[Item], int]:
        """The refusals between two ids, and the last that was looked at."""
        if end <= begin:
            return [], begin
        heads = self._store.refusals.heads(begin, limit=_REFUSALS_AT_ONCE)
        if not heads:
            return [], end
        wanted = [
            (number, project)
            for number, project, _ in heads
            if any(share.wanted.covers(REFUSAL, project) for share in shares)
        ]
        items: list[Item] = []
        size = 0
        for at in range(0, len(wanted), _REFUSALS_FETCHED):
            some = wanted[at : at + _REFUSALS_FETCHED]
            if size > _REFUSAL_BYTES:
                for _, project in some:
                    unread[REFUSAL, project] += 1
                continue
            found = self._store.refusals.by_ids([number for number, _ in some])
            size += sum(map(refusal_bytes, found))
            items += map(item_of_refusal, found)
        last = heads[-1][0]
        return items, last if len(heads) == _REFUSALS_AT_ONCE else max(end, last)


def recent(store: Store, wanted: Wanted, *, limit: int) -> tuple[list[Item], Cursor]:
    """The newest records that a listener would be shown, oldest first, and the place behind them.

    It reads a bounded stretch of the log and of the refusals. Raises `StoreError`.
    """
    now = Cursor(store.log.head(), store.refusals.newest_id())

    def look(chunk: Chunk) -> list[Item]:
        found: list[Item] = []
        for piece in pieces_of(chunk):
            if wanted.counted(piece.counts):
                found += [item for item in _readable(piece) if wanted.takes(item)]
        return found

    records: list[Item] = []
    if wanted.kinds - {REFUSAL}:
        records = last_of(store.log, look, limit=limit, back_records=CATCH_UP_RECORDS)[::-1]
    refused: list[Item] = []
    if REFUSAL in wanted.kinds:
        kept = _refusals(store, wanted.projects, limit=limit if not (wanted.id or wanted.text) else 1000)
        refused = [item for item in map(item_of_refusal, kept[::-1]) if wanted.takes(item)]
    merged = _merged(
        [item for item in records if item.position < now.position],
        [item for item in refused if _refusal_id(item) <= now.refusal],
    )
    return merged[-limit:], now


def _readable(piece: Piece) -> list[Item]:
    """The records of a piece; none of one that cannot be read, for the doctor tells of it."""
    try:
        return items_of(piece)
    except CorruptStoreError:
        return []


def _refusals(store: Store, projects: frozenset[int] | None, *, limit: int) -> list[RefusedRecord]:
    found, _ = refusals_page(store.refusals, projects, before_id=None, limit=limit)
    return found


def _within(pieces: Sequence[Piece], limit: int) -> list[Piece]:
    """Pieces of at most about `limit` records together, evenly spread; one at least where there are any."""
    total = sum(piece.counts.total() for piece in pieces)
    if total <= limit:
        return list(pieces)
    chosen = []
    credit = 0.0
    for piece in pieces:
        count = piece.counts.total()
        credit += count * limit / total
        if credit >= count:
            chosen.append(piece)
            credit -= count
    return chosen or [min(pieces, key=_size)]


def _size(piece: Piece) -> int:
    return piece.counts.total()


def _merged(records: Sequence[Item], refused: Sequence[Item]) -> list[Item]:
    """Both in the order of their times, each in its own order."""
    if not refused:
        return list(records)
    return sorted([*records, *refused], key=_time)


def _time(item: Item) -> int:
    return item.time_ms


def _rendered(hearing: Hearing, items: Sequence[Item], begin: Cursor) -> list[bytes]:
    """Items written down, each with the place behind it; a link with that before the rest of its event."""
    found = []
    position, refusal = begin
    for item, following in zip_longest(items, items[1:]):
        if item.kind == REFUSAL:
            refusal = _refusal_id(item)
        else:
            of_event = following is not None and following.kind != REFUSAL
            is_more = item.kind == LINK and of_event and following.position == item.position
            position = max(position, item.position + (not is_more))
        try:
            arrived = arrived_of(item)
        except msgspec.MsgspecError:
            continue  # the doctor finds it; its neighbours are shown
        found.append(hearing.rendering.record(item.kind, arrived, Cursor(position, refusal)))
    return found


def _further(one: Cursor, other: Cursor) -> Cursor:
    """The place that has both behind it."""
    return Cursor(max(one.position, other.position), max(one.refusal, other.refusal))


def _is_behind(item: Item, place: Cursor) -> bool:
    """Whether a record comes after what a listener has heard when it is at a place."""
    if item.kind == REFUSAL:
        return _refusal_id(item) > place.refusal
    return item.position >= place.position


def _refusal_id(item: Item) -> int:
    assert isinstance(item.source, RefusedRecord)
    return item.source.id
