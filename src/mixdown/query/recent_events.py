"""The events of a chunk, as they stand in the log: what a tail shows.

A chunk enters; events leave, in order, with the ids that they were sent with.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from mixdown.model.errors import CorruptStoreError
from mixdown.store.chunk import Chunk, decode_events


class RecentEvent(msgspec.Struct, frozen=True):
    """One accepted event: its place in the log, when it was appended, and what it says.

    `happened_ms` is the time that it has itself.
    """

    position: int
    time_ms: int
    project: int
    endpoint: str
    sdk: str
    event: str
    happened_ms: int
    distinct_id: str
    insert_id: str
    properties: dict[str, Any]


class _Stored(msgspec.Struct):
    event: str
    time: int
    distinct_id: str
    insert_id: str
    properties: dict[str, Any]


_decoder: Final = msgspec.json.Decoder(_Stored)


def events_of(chunk: Chunk, projects: Collection[int] | None) -> list[RecentEvent]:
    """The events of a chunk of these projects (None: of all); none where it cannot be read."""
    try:
        segments = decode_events(chunk.body) if chunk.body else []
    except CorruptStoreError:
        return []
    found = []
    position = chunk.first
    for segment in segments:
        at = position + len(segment.updates)
        for place, (project, raw) in enumerate(segment.events, at):
            if project and (projects is None or project in projects):
                found.append(
                    recent_event(
                        raw,
                        position=place,
                        time_ms=chunk.time_ms,
                        project=project,
                        endpoint=segment.endpoint,
                        sdk=segment.sdk,
                    )
                )
        position += segment.records
    return found


def recent_event(
    raw: msgspec.Raw, *, position: int, time_ms: int, project: int, endpoint: str, sdk: str
) -> RecentEvent:
    """An event of the log as it is shown."""
    event = _decoder.decode(raw)
    return RecentEvent(
        position=position,
        time_ms=time_ms,
        project=project,
        endpoint=endpoint,
        sdk=sdk,
        event=event.event,
        happened_ms=event.time,
        distinct_id=event.distinct_id,
        insert_id=event.insert_id,
        properties=event.properties,
    )
