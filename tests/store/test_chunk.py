"""Chunks: encoding, checksum, filter."""

from __future__ import annotations

import os

import msgspec
import orjson
import pytest

from mixdown.model.errors import CorruptStoreError
from mixdown.model.updates import Update
from mixdown.store.chunk import (
    PACKED,
    PACKED_FROM_BYTES,
    PLAIN,
    Link,
    Outcome,
    Segment,
    checksum,
    decode_body,
    decode_events,
    decode_whole,
    encode_events,
    encode_filter,
    encode_segment,
    join_segments,
    pack_body,
    unpack_body,
)
from mixdown.store.privacy import filter_meets, hashes_of


def test_what_a_chunk_holds_comes_back() -> None:
    update = Update(
        7,
        "Company",
        "Acmé",
        [(3, {"$name": "x", "n": [1, {"a": None}]}), (0, None)],
        5,
        1,
        b"k" * 16,
        {"$city": "Bern"},
    )
    outcome = Outcome(3, 1, ((0, "$set", "why"), (2, "", "because")))
    body = join_segments(
        [
            encode_segment(Segment("groups", "go", b"r" * 16, outcome, [update])),
            encode_segment(Segment("engage", "", None, None, [Update(1, "", "u", [])])),
        ]
    )
    first, second = decode_body(body)
    assert (first.endpoint, first.sdk, first.key, first.outcome) == ("groups", "go", b"r" * 16, outcome)
    [read] = first.updates
    assert (read.project, read.group_key, read.id, read.time_ms, read.flags) == (7, "Company", "Acmé", 5, 1)
    assert read.key == b"k" * 16
    assert [(code, orjson.loads(memoryview(raw))) for code, raw in read.operations] == update.operations
    assert read.geo == {"$city": "Bern"}
    assert (second.key, second.outcome, second.updates[0].id, second.updates[0].geo) == (
        None,
        None,
        "u",
        None,
    )


def test_events_come_back_as_the_bytes_they_went_in_as_and_the_fold_only_counts_them() -> None:
    link = Link(1, 7, "simplified", "device", "D", "u")
    events = [b'[7,{"event":"E","distinct_id":"u","time":1.0}]', b'[8, {"distinct_id": "$device:D"}]']
    outcome = Outcome(3, 2, ((0, "time", "why"),))
    body = join_segments(
        [
            encode_events("import", "go", b"r" * 16, outcome, [link], events),
            encode_segment(Segment("engage", "", None, None, [Update(1, "", "p", [])])),
            encode_events("track", "", None, None, [], events[:1]),
        ]
    )
    folded = decode_body(body)
    assert [(each.endpoint, each.records, each.event_count) for each in folded] == [
        ("import", 2, 2),
        ("engage", 1, 0),
        ("track", 1, 1),
    ]
    assert (folded[0].key, folded[0].outcome, folded[0].links) == (b"r" * 16, outcome, [link])
    read = decode_events(body)
    assert [each.records for each in read] == [2, 1, 1]
    assert [(project, bytes(raw)) for project, raw in read[0].events] == [
        (7, b'{"event":"E","distinct_id":"u","time":1.0}'),
        (8, b'{"distinct_id": "$device:D"}'),
    ]
    whole = decode_whole(body)
    assert [each.ids() for each in whole] == [{"u", "$device:D", "D"}, {"p"}, {"u"}]
    assert decode_whole(msgspec.json.encode(whole)) == whole


@pytest.mark.parametrize(
    "body", [b"", b"[", b"{}", b'[["engage"]]', b'[["engage","",null,null,[[1]]]]', b"\xff"]
)
def test_a_body_that_cannot_be_decoded_says_so(body: bytes) -> None:
    with pytest.raises(CorruptStoreError, match="cannot be decoded"):
        decode_body(body)
    with pytest.raises(CorruptStoreError, match="cannot be decoded"):
        decode_whole(body)


def test_a_body_whose_events_cannot_be_decoded_says_so() -> None:
    with pytest.raises(CorruptStoreError, match="cannot be decoded"):
        decode_events(b'[["track","",null,null,[],[],1,[{}]]]')


def test_the_checksum_covers_all_that_is_stored() -> None:
    row = (5, 2, 1000, 1, b"filter", b"body", 1)
    changed = [
        (6, 2, 1000, 1, b"filter", b"body", 1),
        (5, 3, 1000, 1, b"filter", b"body", 1),
        (5, 2, 1001, 1, b"filter", b"body", 1),
        (5, 2, 1000, 2, b"filter", b"body", 1),
        (5, 2, 1000, 1, b"filtes", b"body", 1),
        (5, 2, 1000, 1, b"filter", b"bodz", 1),
        (5, 2, 1000, 1, b"filter", b"body", 2),
        (5, 2, 1000, 1, b"filter", b"body", 3),
    ]
    assert checksum(*row) == checksum(*row)
    assert checksum(*row) not in [checksum(*other) for other in changed]


def test_a_filter_never_misses_an_id() -> None:
    ids = [f"user-{number}" for number in range(2000)]
    encoded = encode_filter(ids[:1000]) + encode_filter(ids[1000:])
    assert len(encoded) <= 4 * len(ids)
    assert all(filter_meets(encoded, hashes_of([profile_id])) for profile_id in ids)
    strangers = [f"stranger-{number}" for number in range(2000)]
    assert sum(filter_meets(encoded, hashes_of([profile_id])) for profile_id in strangers) < 5
    assert filter_meets(encoded, hashes_of([*strangers[:3], ids[7]]))
    assert not filter_meets(encode_filter([]), hashes_of(ids))


@pytest.mark.parametrize("size", [0, PACKED_FROM_BYTES - 1, PACKED_FROM_BYTES, 1_000_000])
def test_a_body_comes_back_as_it_was_and_a_large_one_is_stored_smaller(size: int) -> None:
    body = (b'[["track","",null,null,[]]]' * (size // 20 + 1))[:size]
    version, stored = pack_body(body)
    assert unpack_body(version, stored) == body
    assert (version == PACKED) == (len(stored) < len(body)) == (size >= PACKED_FROM_BYTES)


def test_a_body_that_does_not_shrink_is_stored_as_it_is() -> None:
    body = os.urandom(PACKED_FROM_BYTES)
    assert pack_body(body) == (PLAIN, body)


@pytest.mark.parametrize("stored", [b"", b"not a frame", pack_body(b"x" * 10_000)[1][:-1]])
def test_a_broken_frame_is_damage(stored: bytes) -> None:
    with pytest.raises(CorruptStoreError, match="cannot be unpacked"):
        unpack_body(PACKED, stored)
