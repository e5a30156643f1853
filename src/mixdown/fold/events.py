"""The events reader: chunks in; events, request keys and watermark out, in one transaction.

Enters: what waits in the log. Leaves: batches of events, those of a project in one, each event a line of JSON
with its position and its time of arrival in front. It parses no more of an event than its time, never stops
on a chunk that cannot be read, and never takes in a request whose key it knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from mixdown.model.errors import CorruptStoreError
from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.store.chunk import FOR_EVENTS, Chunk, EventSegment, Outcome, decode_events
from mixdown.store.events import EventBatch, EventsWrite
from mixdown.store.privacy import ENDPOINT as ERASE
from mixdown.store.protocols import Store

STEP_LIMIT_RECORDS: Final = 100_000
STEP_LIMIT_BYTES: Final = 32 * 1024 * 1024
PASSING_S: Final = 1.0
"""Where chunks hold no events, how far the reader is goes to disk no more often: it costs an fsync."""

_NAME: Final = b'{"event":"'
_TIME: Final = b'","time":'
_BACKSLASH: Final = ord("\\")
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")
Keys = list[tuple[bytes, int, Outcome | None]]


class Taken(msgspec.Struct, frozen=True):
    """What one step did, for logs and metrics.

    `recognised` counts events of requests that were sent again; `erasures` says whether people are to go.
    """

    records: int
    events: int
    recognised: int
    watermark: int
    erasures: bool


class _Time(msgspec.Struct):
    """Of an event, when it happened (ms)."""

    time: int


_time_decoder: Final = msgspec.json.Decoder(_Time)


def _time_of(event: bytes) -> int:
    """When an event happened: read where it nearly always stands, behind a name without escapes."""
    name_end = event.find(b'"', len(_NAME)) if event.startswith(_NAME) else -1
    if event.startswith(_TIME, name_end) and event[name_end - 1] != _BACKSLASH:
        begin = name_end + len(_TIME)
        digits = event[begin : event.find(b",", begin)]
        if digits.isdigit():
            return int(digits)
    return _time_decoder.decode(event).time


class _Batch:
    """The events of one project in a step, as they come."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.first_ms = self.last_ms = 0

    def add(self, first: int, arrived_ms: int, events: list[bytes]) -> None:
        """Events in a row, from a position on."""
        times = list(map(_time_of, events))
        earliest, latest = min(times), max(times)
        if self.lines:
            earliest, latest = min(earliest, self.first_ms), max(latest, self.last_ms)
        self.first_ms, self.last_ms = earliest, latest
        self.lines += [
            b'{"position":%d,"arrived":%d,%b\n' % (position, arrived_ms, event[1:])
            for position, event in enumerate(events, first)
        ]

    def whole(self, project: int) -> EventBatch:
        """The batch as it is written."""
        lines = b"".join(self.lines)
        # between tokens they are white space, and no text of JSON holds them raw
        if b"\r" in lines or lines.count(b"\n") != len(self.lines):
            lines = b"".join([line[:-1].translate(_ONE_LINE) + b"\n" for line in self.lines])
        return EventBatch(project, len(self.lines), self.first_ms, self.last_ms, lines)


class EventsReader:
    """Takes the log's events into `store.events`. One instance, in one process, writes them."""

    def __init__(
        self,
        store: Store,
        *,
        max_records: int = STEP_LIMIT_RECORDS,
        max_bytes: int = STEP_LIMIT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._clock = clock
        self._watermark = self._written = store.events.watermark()
        self._written_at = clock() - PASSING_S
        self._uncertain = False

    @property
    def watermark(self) -> int:
        """The position of the next record to take."""
        return self._watermark

    def step(self) -> Taken | None:
        """Take what waits, up to the limits, in one transaction; None when nothing waits."""
        if self._uncertain:  # the last write raised, and perhaps only behind its commit
            self._watermark = self._written = self._store.events.watermark()
            self._uncertain = False
        begin = self._watermark
        chunks = self._store.log.read(
            begin, max_records=self._max_records, max_bytes=self._max_bytes, kinds=FOR_EVENTS
        )
        end = chunks[-1].end if chunks else self._store.log.skip_damaged(begin)
        if end <= begin:
            self._write_passed()
            return None
        decoded = self._decoded(chunks)
        batches, keys, taken = self._plan(decoded, begin, end)
        if batches or keys or taken.erasures:
            now_ms = chunks[-1].time_ms if chunks else 0
            self._write(EventsWrite(end, batches, keys, now_ms, self._written))
        self._watermark = end
        self._write_passed()
        return taken

    def finish(self) -> None:
        """Write how far it is, if that is not on disk yet. Raises `StoreError`."""
        if self._watermark != self._written and not self._uncertain:
            self._write(EventsWrite(self._watermark, (), (), 0, self._written))

    def _write_passed(self) -> None:
        """Write how far it is now and then, also where nothing was to be taken."""
        if self._clock() - self._written_at >= PASSING_S:
            self.finish()

    def _write(self, written: EventsWrite) -> None:
        self._uncertain = True
        self._store.events.write(written)
        self._uncertain = False
        self._written = written.watermark
        self._written_at = self._clock()

    def _decoded(self, chunks: list[Chunk]) -> list[tuple[Chunk, list[EventSegment]]]:
        decoded = []
        for chunk in chunks:
            if not chunk.body:  # of no interest
                continue
            try:
                decoded.append((chunk, decode_events(chunk.body)))
            except CorruptStoreError as error:
                self._store.log.set_aside(chunk, error.message)
        return decoded

    def _known(self, decoded: list[tuple[Chunk, list[EventSegment]]]) -> dict[bytes, Outcome | None]:
        asked = [
            segment.key
            for _, segments in decoded
            for segment in segments
            if segment.key is not None and segment.events
        ]
        if not asked:
            return {}
        return self._store.events.known_keys(asked, since_ms=decoded[0][0].time_ms - KEY_WINDOW_MS)

    def _plan(
        self, decoded: list[tuple[Chunk, list[EventSegment]]], begin: int, end: int
    ) -> tuple[list[EventBatch], Keys, Taken]:
        """What to write: batches by project, and keys, without the requests that were taken in before."""
        known = self._known(decoded)
        fresh: dict[bytes, tuple[int, Outcome | None]] = {}
        batches: dict[int, _Batch] = {}
        count = recognised = 0
        erasures = False
        for chunk, segments in decoded:
            position = chunk.first
            for segment in segments:
                at = position + len(segment.updates)
                position += segment.records
                erasures = erasures or segment.endpoint == ERASE
                if not segment.events:
                    continue
                if segment.key is not None:
                    if segment.key in known or segment.key in fresh:
                        recognised += len(segment.events)
                        continue
                    fresh[segment.key] = (chunk.time_ms, segment.outcome)
                count += _add(batches, segment, at, chunk.time_ms)
        keys = [(key, at_ms, outcome) for key, (at_ms, outcome) in fresh.items()]
        whole = [batch.whole(project) for project, batch in batches.items()]
        return whole, keys, Taken(end - begin, count, recognised, end, erasures)


def _add(batches: dict[int, _Batch], segment: EventSegment, position: int, arrived_ms: int) -> int:
    """Add a segment's events to the batches of their projects; how many. Those erased have no project."""
    count = 0
    projects = {project for project, _ in segment.events}
    for project in projects:
        if not project:
            continue
        if len(projects) == 1:
            batches.setdefault(project, _Batch()).add(
                position, arrived_ms, [bytes(event) for _, event in segment.events]
            )
            count += len(segment.events)
            continue
        for at, (owner, event) in enumerate(segment.events, position):
            if owner == project:
                batches.setdefault(project, _Batch()).add(at, arrived_ms, [bytes(event)])
                count += 1
    return count


def take_all(store: Store) -> int:
    """Take all events that wait, in this process (no server runs); how many positions."""
    reader = EventsReader(store)
    records = 0
    while (taken := reader.step()) is not None:
        records += taken.records
    reader.finish()
    return records
