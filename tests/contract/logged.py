"""The events that a server has stored, read from its log: what was acknowledged, before any reader of it.

Those of one partition come after those of another.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from mixdown.store.chunk import FOR_EVENTS, Link, decode_body, decode_events
from mixdown.store.places import all_views
from tests.engine import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.serving import Server


@dataclass(frozen=True)
class LoggedEvent:
    """An event as it stands in the log."""

    endpoint: str
    project: int
    event: str
    time: int
    distinct_id: str
    insert_id: str
    properties: dict[str, Any]
    position: int


@dataclass
class Logged:
    """What was stored while it was open."""

    events: list[LoggedEvent] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)


@contextmanager
def logged(server: Server) -> Iterator[Logged]:
    """What is stored within the block: filled when it ends."""
    store = open_store(server.data_dir, role="cli", create=False)
    try:
        found = Logged()
        begun = [(view, view.log.head()) for view in all_views(store)]
        yield found
        for view, begin in begun:
            at = begin
            while chunks := view.log.read(at, max_records=100_000, max_bytes=2**30, kinds=FOR_EVENTS):
                for chunk in chunks:
                    _add(found, chunk.first, chunk.body)
                at = chunks[-1].end
    finally:
        store.close()


def _add(found: Logged, position: int, body: bytes) -> None:
    if not body:
        return
    for segment in decode_body(body):
        found.links += segment.links
    for read in decode_events(body):
        position += len(read.updates)
        for project, raw in read.events:
            content = orjson.loads(bytes(raw))
            assert list(content) == ["event", "time", "distinct_id", "insert_id", "properties"]
            found.events.append(
                LoggedEvent(endpoint=read.endpoint, project=project, position=position, **content)
            )
            position += 1
        assert read.event_count == len(read.events)
