"""Events in memory: batches as they came, deduplicated by whoever reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec

from mixdown.store.chunk import Outcome
from mixdown.store.events import EventBatch, EventsSize, EventsWrite, Parts
from mixdown.store.memory_keys import MemoryKeys
from mixdown.store.memory_part import Part


class MemoryEvents(Part):
    """`Events` in memory: everything stays hot."""

    grace_ms = 0

    def __init__(self, begin: int = 0) -> None:
        super().__init__()
        self._watermark = self._forgotten = begin
        self._keys = MemoryKeys()
        self._batches: list[EventBatch] = []

    def take_in(self, part: MemoryEvents) -> None:
        """Hold another partition's events as well."""
        with part._use():
            self._batches += part._batches
            self._keys.take_in(part._keys)

    def watermark(self) -> int:
        with self._use():
            return self._watermark

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        with self._use():
            return self._keys.find(keys, since_ms)

    def key_window(self) -> tuple[int, int]:
        with self._use():
            return self._keys.window()

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        with self._use():
            self._keys.redact(keys)

    def write(self, written: EventsWrite) -> None:
        with self._use():
            self._batches += [batch for batch in written.batches if batch.count]
            self._keys.write(written.keys, written.now_ms)
            self._watermark = written.watermark

    def tend(self, *, busy: bool, now_ms: int) -> bool:
        del busy, now_ms
        return False

    def parts(self, project: int, since_ms: int, until_ms: int) -> Parts:
        with self._use():
            hot = tuple(
                batch.lines
                for batch in self._batches
                if batch.project == project and batch.first_ms < until_ms and batch.last_ms >= since_ms
            )
            return Parts(project, since_ms, until_ms, self._watermark, hot=hot)

    def projects(self) -> list[int]:
        with self._use():
            return sorted({batch.project for batch in self._batches})

    def forget(self, project: int, ids: Collection[str], *, below: int) -> Iterator[int]:
        for place in range(len(self._batches)):
            with self._use():
                batch = self._batches[place]
                if batch.project == project:
                    self._batches[place], hidden = without(batch, ids, below)
                    yield hidden
        with self._use():
            self._batches = [batch for batch in self._batches if batch.count]

    def forgotten(self) -> int:
        with self._use():
            return self._forgotten

    def note_forgotten(self, position: int) -> None:
        with self._use():
            self._forgotten = max(self._forgotten, position)

    def drop(self, project: int) -> None:
        with self._use():
            self._batches = [batch for batch in self._batches if batch.project != project]

    def owed(self, project: int) -> int:
        del project
        return 0

    def size(self, project: int | None = None) -> EventsSize:
        with self._use():
            held = [batch for batch in self._batches if project in (None, batch.project)]
            return EventsSize(
                hot_events=sum(batch.count for batch in held),
                hot_bytes=sum(len(batch.lines) for batch in held),
            )


class _Line(msgspec.Struct):
    """What of a line decides whether it is forgotten."""

    position: int
    distinct_id: str


_lines = msgspec.json.Decoder(_Line)


def without(batch: EventBatch, ids: Collection[str], below: int) -> tuple[EventBatch, int]:
    """A batch without the events of these ids and positions below `below`, and how many those were."""
    kept = []
    for line in batch.lines.splitlines(keepends=True):
        seen = _lines.decode(line)
        if seen.position >= below or seen.distinct_id not in ids:
            kept.append(line)
    hidden = batch.count - len(kept)
    return msgspec.structs.replace(batch, count=len(kept), lines=b"".join(kept)), hidden
