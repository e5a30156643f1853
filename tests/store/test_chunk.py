"""Chunks: encoding, checksum, filter."""

from __future__ import annotations

import orjson
import pytest

from mixdown.model.errors import CorruptStoreError
from mixdown.model.updates import Update
from mixdown.store.chunk import (
    Outcome,
    Segment,
    checksum,
    decode_body,
    encode_filter,
    encode_segment,
    filter_may_hold,
    join_segments,
)


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


@pytest.mark.parametrize(
    "body", [b"", b"[", b"{}", b'[["engage"]]', b'[["engage","",null,null,[[1]]]]', b"\xff"]
)
def test_a_body_that_cannot_be_decoded_says_so(body: bytes) -> None:
    with pytest.raises(CorruptStoreError, match="cannot be decoded"):
        decode_body(body)


def test_the_checksum_covers_all_that_is_stored() -> None:
    row = (5, 2, 1000, 1, b"filter", b"body")
    changed = [
        (6, 2, 1000, 1, b"filter", b"body"),
        (5, 3, 1000, 1, b"filter", b"body"),
        (5, 2, 1001, 1, b"filter", b"body"),
        (5, 2, 1000, 2, b"filter", b"body"),
        (5, 2, 1000, 1, b"filtes", b"body"),
        (5, 2, 1000, 1, b"filter", b"bodz"),
    ]
    assert checksum(*row) == checksum(*row)
    assert checksum(*row) not in [checksum(*other) for other in changed]


def test_a_filter_never_misses_an_id() -> None:
    ids = [f"user-{number}" for number in range(2000)]
    encoded = encode_filter(ids[:1000]) + encode_filter(ids[1000:])
    assert len(encoded) <= 4 * len(ids)
    assert all(filter_may_hold(encoded, [profile_id]) for profile_id in ids)
    strangers = [f"stranger-{number}" for number in range(2000)]
    assert sum(filter_may_hold(encoded, [profile_id]) for profile_id in strangers) < 5
    assert filter_may_hold(encoded, [*strangers[:3], ids[7]])
    assert not filter_may_hold(encode_filter([]), ids)
