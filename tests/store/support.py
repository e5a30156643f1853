"""What the tests of stores are written in: appends, refusals, folds and profiles made in one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from mixdown.model.updates import Update
from mixdown.store.chunk import (
    FOR_ALL,
    FOR_EVENTS,
    Link,
    Outcome,
    Segment,
    decode_body,
    encode_events,
    encode_filter,
    encode_segment,
)
from mixdown.store.protocols import Append, Appended, FoldResult, Log, ProfileKey, RefusedRecord, State

DAY_MS = 24 * 3600 * 1000
NOW_MS = 20_000 * DAY_MS
WEEK_MS = 7 * DAY_MS


def segment(*ids: str) -> bytes:
    """An encoded segment with an update of each user."""
    updates = [Update(1, "", profile_id, [(3, {"seen": profile_id})]) for profile_id in ids]
    return encode_segment(Segment("engage", "test", None, None, updates))


def appending(*ids: str, refused: Sequence[RefusedRecord] = ()) -> Append:
    """One request's share: an update of each user, and refusals."""
    return Append(segment(*ids) if ids else b"", len(ids), encode_filter(ids), tuple(refused))


def refusal(
    project: int = 1, index: int = 0, *, key: bytes | None = None, record: str = '{"$set":5}'
) -> RefusedRecord:
    """A refused record."""
    return RefusedRecord(
        project=project,
        endpoint="engage",
        index=index,
        field="$set",
        message="must be an object",
        record=record,
        whole=True,
        sdk="python",
        request_key=key,
    )


def append(log: Log, *appends: Append, now_ms: int = NOW_MS) -> Appended:
    """Take a turn and append one chunk."""
    with log.turn() as turn:
        return turn.append(appends, now_ms)


def read_all(log: Log, watermark: int = 0) -> list[str]:
    """The ids of all updates from `watermark` on, in log order."""
    return [
        update.id
        for chunk in log.read(watermark, max_records=10**9, max_bytes=10**9)
        for read in decode_body(chunk.body)
        for update in read.updates
    ]


def user(profile_id: str, project: int = 1) -> ProfileKey:
    """The key of a user's profile."""
    return project, "", profile_id


def write(
    state: State,
    profiles: Iterable[tuple[ProfileKey, bytes | None]] = (),
    *,
    watermark: int = 0,
    keys: Sequence[tuple[bytes, int, Outcome | None]] = (),
    now_ms: int = NOW_MS,
) -> None:
    """Write one fold transaction."""
    state.write(FoldResult(watermark, sorted(profiles), keys, now_ms))


def key(number: int) -> bytes:
    """An idempotency key."""
    return number.to_bytes(16, "big")


def event(distinct_id: str, *, project: int = 1) -> bytes:
    """The JSON of a `LoggedEvent`."""
    properties = {"$city": "Bern", "n": 1.0}
    logged = {"event": "E", "time": NOW_MS, "distinct_id": distinct_id, "insert_id": "i"}
    return orjson.dumps([project, {**logged, "properties": properties}])


def event_segment(*ids: str, links: Sequence[Link] = (), key: bytes | None = None) -> bytes:
    """An encoded segment with an event of each id."""
    outcome = None if key is None else Outcome(len(ids), len(ids))
    return encode_events("track", "test", key, outcome, links, [event(each) for each in ids])


def appending_events(*ids: str, links: Sequence[Link] = (), key: bytes | None = None) -> Append:
    """One request's share: an event of each id, which the fold need not see without links and key."""
    kinds = FOR_ALL if links or key else FOR_EVENTS
    return Append(event_segment(*ids, links=links, key=key), len(ids), encode_filter(ids), kinds=kinds)
