"""The one reader of the log for all listeners of a worker: reads each chunk once, decodes what may be shown.

A store enters; for each listener, the bytes of what it is sent leave. Everything here blocks and belongs in
one thread. It holds nothing open between two looks, and looks at so many records and bytes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

import msgspec

from mixdown.model.errors import CorruptStoreError
from mixdown.query.live.links import without_repeats
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
from mixdown.query.live.wanted import Cursor, Places, Share, Tally, Wanted
from mixdown.query.recent import last_of_all, views_for
from mixdown.query.refused import refusals_page
from mixdown.store.bounds import refusal_bytes
from mixdown.store.chunk import Chunk
from mixdown.store.places import End, partition_at
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

Render = Callable[[str, Arrived, Places], bytes]
"""How a record of a kind is written down, with the place that its reader has come to then."""
RenderTally = Callable[[Tally, Places], bytes]


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
    end: Cursor


class TailReader:
    """Where the tail of a worker stands, in each partition that somebody listens to. For one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tails: dict[int, _Tail] = {}

    def rest(self) -> None:
        """Nobody listens: whoever comes next begins at the log's head."""
        self._tails.clear()

    def begin(self, hearing: Hearing, after: Places | None) -> tuple[Places, bool, list[bytes]]:
        """Where a new listener begins, whether records before were lost, and what came since it left.

        It is to hear every `look` from here on. Raises `StoreError`.
        """
        share = hearing.share
        share.partitions = _partitions_of(self._store, share.wanted)
        ends = self._store.ends(share.partitions)
        tails = {number: self._tail(number, ends[number]) for number in share.partitions}
        now = Places.of({number: tail.at for number, tail in tails.items()}, share.partitions)
        if after is None:
            return now, False, []
        then = after.by_partition()
        if any(number not in then or _is_past(then[number], ends[number]) for number, tail in tails.items()):
            return now, True, []  # of another server, or of this one before it was restored
        share.heard = then  # by another worker, or by a look that was ahead of this reader
        begins: dict[int, Cursor] = {}
        items: list[Item] = []
        unread: Counts = Counts()
        gap = False
        for number, tail in tails.items():
            begins[number], stretch, lost = tail.since(then[number], share, CATCH_UP_RECORDS // len(tails))
            items += stretch.items
            unread += stretch.unread
            gap = gap or lost
        shown = share.latest(
            _in_time(items, tails), limit=CAUGHT_UP_SHOWN, unread=share.wanted.counted(unread)
        )
        return Places.of(begins, share.partitions), gap, _rendered(hearing, shown, begins)

    def look(self, hearings: Sequence[Hearing], now_s: float) -> list[list[bytes]]:
        """What has come since the last look, for each of these listeners. Raises `StoreError`."""
        shares = [hearing.share for hearing in hearings]
        numbers = sorted({number for share in shares for number in share.partitions})
        begins: dict[int, Cursor] = {}
        items: list[Item] = []
        unread: Counts = Counts()
        lost: set[int] = set()
        ends = self._store.ends(numbers)
        for number in numbers:
            tail = self._tail(number, ends[number])
            begins[number], stretch, gap = tail.news(shares, LOOK_RECORDS // len(numbers), ends[number])
            items += stretch.items
            unread += stretch.unread
            if gap:
                lost.add(number)
        items = _in_time(items, numbers)
        return [self._heard(hearing, items, unread, begins, lost, now_s) for hearing in hearings]

    def _tail(self, number: int, end: End) -> _Tail:
        """The tail of a partition that ends there; one that nobody has listened to begins at its end."""
        if number not in self._tails:
            self._tails[number] = _Tail(self._store.partition(number), Cursor(end.head, end.refusal))
        return self._tails[number]

    def _heard(
        self,
        hearing: Hearing,
        items: Sequence[Item],
        unread: Counts,
        begins: Mapping[int, Cursor],
        lost: Collection[int],
        now_s: float,
    ) -> list[bytes]:
        share = hearing.share
        if any(number in lost for number in share.partitions):
            share.lost()
        found: list[bytes] = []
        if items or unread:
            news = [item for item in items if _is_behind(item, share.heard)]
            chosen = share.choose(news, now_s=now_s, unread=share.wanted.counted(unread))
            found = _rendered(hearing, chosen, _furthest(begins, share.heard))
        tally = share.tally(dropped=hearing.dropped(), now_s=now_s)
        if tally is not None:
            ends = {number: self._tails[number].at for number in share.partitions}
            place = Places.of(_furthest(ends, share.heard), share.partitions)
            found.append(hearing.rendering.tally(tally, place))
        return found


class _Tail:
    """Where the tail of one partition stands: `at`."""

    def __init__(self, store: Store, at: Cursor) -> None:
        self._store = store
        self.at = at

    def since(self, after: Cursor, share: Share, records: int) -> tuple[Cursor, Stretch, bool]:
        """What came between a place and `at`: from where on, what, and whether something was lost."""
        now = self.at
        begin = Cursor(
            max(after.position, now.position - CATCH_UP_RECORDS, self._store.log.tail_position()),
            max(after.refusal, now.refusal - CATCH_UP_RECORDS),
        )
        gap = begin != after
        begin = Cursor(min(begin.position, now.position), begin.refusal)
        stretch = self._stretch(begin, now, (share,), records=records)
        return _further(begin, after), stretch, gap or stretch.end.position < now.position

    def news(self, shares: Sequence[Share], records: int, now: End) -> tuple[Cursor, Stretch, bool]:
        """What has come since `at`, which moves: from where on, what, and whether something was lost."""
        begin = self.at
        end = Cursor(max(begin.position, now.head), max(begin.refusal, now.refusal))
        gap = end.position - begin.position > LAG_LIMIT_RECORDS
        if gap:
            begin = Cursor(end.position, begin.refusal)
        if begin.position < end.position and (tail := self._store.log.tail_position()) > begin.position:
            begin, gap = Cursor(tail, begin.refusal), True  # trimmed before anybody looked
        if end.refusal - begin.refusal > LAG_LIMIT_RECORDS:
            begin, gap = Cursor(begin.position, end.refusal), True
        stretch = self._stretch(begin, end, shares, records=records)
        self.at = stretch.end
        return begin, stretch, gap

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
        if any(LINK in share.wanted.kinds for share in shares):
            items = without_repeats(self._store.state, items)
        refused, refusal = self._refused(begin.refusal, end.refusal, shares, unread)
        return Stretch(_merged(items, refused), unread, Cursor(position, refusal))

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


def recent(store: Store, wanted: Wanted, *, limit: int) -> tuple[list[Item], Places]:
    """The newest records that a listener would be shown, oldest first, and the place behind them.

    It reads a bounded stretch of the log and of the refusals. Raises `StoreError`.
    """
    views = views_for(store, wanted.projects)
    ends = store.ends([view.number for view in views])
    now = {number: Cursor(end.head, end.refusal) for number, end in ends.items()}

    def look(chunk: Chunk) -> list[Item]:
        found: list[Item] = []
        for piece in pieces_of(chunk):
            if wanted.counted(piece.counts):
                found += [item for item in _readable(piece) if wanted.takes(item)]
        return without_repeats(store.state, found)

    records: list[Item] = []
    if wanted.kinds - {REFUSAL}:
        records = last_of_all(views, look, limit=limit, back_records=CATCH_UP_RECORDS)[::-1]
    refused: list[Item] = []
    if REFUSAL in wanted.kinds:
        kept = _refusals(store, wanted.projects, limit=limit if not (wanted.id or wanted.text) else 1000)
        refused = [item for item in map(item_of_refusal, kept[::-1]) if wanted.takes(item)]
    merged = _merged(
        [item for item in records if not _is_behind(item, now)],
        [item for item in refused if not _is_behind(item, now)],
    )
    return merged[-limit:], Places.of(now, sorted(now))


def _is_past(place: Cursor, end: End) -> bool:
    """Whether a place lies behind all that there is."""
    return place.position > end.head or place.refusal > end.refusal


def _partitions_of(store: Store, wanted: Wanted) -> list[int]:
    """The partitions in which records that a listener asks for may arrive."""
    return [view.number for view in views_for(store, wanted.projects)]


def _in_time(items: list[Item], partitions: Collection[int]) -> list[Item]:
    """What was found in several partitions, in the order of its times."""
    return sorted(items, key=_time) if len(partitions) > 1 else items


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


def _rendered(hearing: Hearing, items: Sequence[Item], begins: Mapping[int, Cursor]) -> list[bytes]:
    """Items written down, each with the place behind it; a link with that before the rest of its event."""
    found = []
    places = dict(begins)
    for item, following in zip_longest(items, items[1:]):
        number = _partition_of(item)
        position, refusal = places[number]
        if item.kind == REFUSAL:
            refusal = _refusal_id(item)
        else:
            of_event = following is not None and following.kind != REFUSAL
            is_more = item.kind == LINK and of_event and following.position == item.position
            position = max(position, item.position + (not is_more))
        places[number] = Cursor(position, refusal)
        try:
            arrived = arrived_of(item)
        except msgspec.MsgspecError:
            continue  # the doctor finds it; its neighbours are shown
        place = Places.of(places, hearing.share.partitions)
        found.append(hearing.rendering.record(item.kind, arrived, place))
    return found


def _further(one: Cursor, other: Cursor) -> Cursor:
    """The place that has both behind it."""
    return Cursor(max(one.position, other.position), max(one.refusal, other.refusal))


def _furthest(begins: Mapping[int, Cursor], heard: Mapping[int, Cursor]) -> dict[int, Cursor]:
    """The same in each partition."""
    return {
        number: _further(begin, heard[number]) if number in heard else begin
        for number, begin in begins.items()
    }


def _is_behind(item: Item, heard: Mapping[int, Cursor]) -> bool:
    """Whether a record comes after what a listener has heard when it is at these places."""
    place = heard.get(_partition_of(item))
    if place is None:
        return True
    if item.kind == REFUSAL:
        return _refusal_id(item) > place.refusal
    return item.position >= place.position


def _partition_of(item: Item) -> int:
    return partition_at(_refusal_id(item) if item.kind == REFUSAL else item.position)


def _refusal_id(item: Item) -> int:
    assert isinstance(item.source, RefusedRecord)
    return item.source.id
