"""The parts of the live view: allowances, queues, places."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import msgspec
import pytest

from mixdown.model.updates import Update
from mixdown.query.live import tail
from mixdown.query.live.pieces import (
    EVENT,
    LINK,
    REFUSAL,
    UPDATE,
    Counts,
    Item,
    Piece,
    counts_of,
    item_of_refusal,
    items_of,
    pieces_of,
)
from mixdown.query.live.reader import Rendering, _within
from mixdown.query.live.tail import Listener
from mixdown.query.live.wanted import BURST_S, Cursor, Share, Wanted, spread
from mixdown.store.chunk import Chunk, Link, Segment, encode_events, encode_segment, join_segments
from tests.store.support import refusal


def items(count: int) -> list[Item]:
    return [Item(UPDATE, 1, place, 0, "engage", "test", b"{}") for place in range(count)]


def share(rate: int) -> Share:
    return Share(Wanted(frozenset({1})), rate=rate, now_s=0.0)


def test_an_allowance_fills_again_with_time_and_never_beyond_a_burst() -> None:
    ours = share(rate=10)
    burst = int(10 * BURST_S)
    assert len(ours.choose(items(100), now_s=0.0)) == burst
    assert ours.choose(items(100), now_s=0.0) == []
    assert len(ours.choose(items(100), now_s=0.5)) == 5
    assert len(ours.choose(items(100), now_s=60.0)) == burst
    assert len(ours.choose(items(3), now_s=120.0)) == 3


def test_what_fits_the_allowance_is_shown_whole_and_in_order() -> None:
    ours = share(rate=100)
    some = [*items(50), item_of_refusal(refusal(1, 3))]
    assert ours.choose(some, now_s=0.0) == some


def test_refused_records_have_an_allowance_of_their_own() -> None:
    ours = share(rate=5)
    some = [*items(1000), *[item_of_refusal(refusal(1, place)) for place in range(4)]]
    shown = ours.choose(some, now_s=0.0)
    assert [item.kind for item in shown].count(REFUSAL) == 4
    assert len(shown) == 4 + int(5 * BURST_S)


def test_a_tally_is_told_once_a_second_and_says_what_was_not_shown() -> None:
    ours = share(rate=5)
    ours.choose(items(100), now_s=0.0, unread=7)
    assert ours.tally(dropped=0, now_s=0.5) is None
    told = ours.tally(dropped=2, now_s=1.0)
    assert told is not None
    assert (told.matched, told.shown, told.unread, told.dropped, told.gap) == (100, 8, 7, 2, False)
    assert ours.tally(dropped=2, now_s=2.0) is None
    ours.lost()
    told = ours.tally(dropped=2, now_s=3.0)
    assert told is not None
    assert told.gap


@pytest.mark.parametrize(("count", "limit"), [(0, 5), (5, 5), (10, 3), (1000, 7), (3, 0)])
def test_a_sample_is_evenly_spread(count: int, limit: int) -> None:
    chosen = spread(range(count), limit)
    assert len(chosen) == min(count, limit)
    assert chosen == sorted(set(chosen))
    gaps = [after - before for before, after in pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_pieces_are_chosen_within_a_bound_and_spread() -> None:
    raw = msgspec.Raw(b"")
    pieces = [Piece(at * 10, 0, Counts({(UPDATE, 1): 10}), raw) for at in range(100)]
    chosen = _within(pieces, 200)
    assert sum(piece.counts.total() for piece in chosen) <= 200
    assert len(chosen) >= 18
    assert {piece.first // 250 for piece in chosen} == {0, 1, 2, 3}
    assert _within(pieces, 5000) == pieces
    assert len(_within(pieces, 5)) == 1
    assert _within([], 5) == []


def test_a_place_reads_as_it_was_written_and_nothing_else_is_one() -> None:
    assert Cursor.read(str(Cursor(12, 3))) == Cursor(12, 3)
    for text in ("", "12", "12-", "-3", "a-b", "1-2 ", "1-2\n", "-1-2", "1" * 19 + "-1", "१-२"):
        assert Cursor.read(text) is None


def listener() -> Listener:
    rendering = Rendering(lambda *_: b"", lambda *_: b"")
    return Listener(share(rate=1), rendering, lambda: True, "ada")


def test_who_takes_nothing_loses_what_does_not_fit_and_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "QUEUE_MESSAGES", 3)
    monkeypatch.setattr(tail, "QUEUE_BYTES", 25)

    async def run() -> None:
        ours = listener()
        ours.put([b"a" * 10, b"b" * 10, b"c" * 10])
        ours.put([b"d", b"e"])
        assert ours.hearing.dropped() == 2
        assert await ours.take(0) == b"a" * 10 + b"b" * 10 + b"d"
        ours.put([b"x" * 100])
        assert await ours.take(0) == b"x" * 100, "one message is never too large for an empty queue"
        assert await ours.take(0) == b""
        ours.end("over")
        ours.end("again")
        assert await ours.take(60) == b""
        assert ours.ended == "over"

    asyncio.run(run())


def test_what_is_left_of_erased_people_is_neither_counted_nor_shown() -> None:
    updates = [Update(0, "", "", []), Update(1, "", "stays", [(3, {"a": 1})])]
    events = [b"[0,{}]", b'[1,{"event":"E","time":0,"distinct_id":"b","insert_id":"i","properties":{}}]']
    body = join_segments(
        [
            encode_segment(Segment("engage", "t", None, None, updates)),
            encode_events("track", "t", None, None, [Link(1, 1, "simplified", "device", "d", "b")], events),
        ]
    )
    chunk = Chunk(10, 4, 5, body)
    assert dict(counts_of(chunk)) == {(UPDATE, 1): 1, (EVENT, 1): 1, (LINK, 1): 1}
    found = [item for piece in pieces_of(chunk) for item in items_of(piece)]
    assert [(item.kind, item.position) for item in found] == [(UPDATE, 11), (LINK, 13), (EVENT, 13)]


def test_a_chunk_that_cannot_be_read_is_passed_over() -> None:
    chunk = Chunk(10, 4, 5, b'[["engage",7')
    assert not counts_of(chunk)
    assert pieces_of(chunk) == []
