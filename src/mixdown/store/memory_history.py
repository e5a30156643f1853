"""History in memory: the part of the model store that keeps it, plain where the others are quick."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mixdown.model.history import Change
from mixdown.store.history import (
    HistoryFeed,
    HistoryReach,
    HistorySize,
    ProfileKey,
    Span,
    change_of,
    digests_of,
    id_of,
    line_since,
    lines_of,
)


class MemoryHistory:
    """What `MemoryState` keeps of what changed; its guard is held by whoever calls."""

    def __init__(self) -> None:
        self._lines: dict[ProfileKey, list[tuple[Span, bytes]]] = {}
        self._values: dict[ProfileKey, dict[str, bytes]] = {}
        self._since_ms: int | None = 0

    def keep(self, feed: HistoryFeed | None) -> None:
        """Keep what a step changed; without it, what was kept ends."""
        if feed is None:
            self._lines.clear()
            self._since_ms = None
            return
        if self._since_ms is None:
            self._since_ms = feed.span.last_ms
        for block in feed.blocks():
            for line in lines_of(block.data):
                key = (block.project, block.group_key, id_of(line))
                self._lines.setdefault(key, []).append((feed.span, line))
        for value in feed.values():
            of_profile = self._values.setdefault((value.project, value.group_key, value.id), {})
            of_profile[value.digest] = value.data

    def take_in(self, other: MemoryHistory) -> None:
        """Keep what another partition keeps as well: it reaches no further back than the shortest."""
        self._lines.update(other._lines)
        self._values.update(other._values)
        reaches = (self._since_ms, other._since_ms)
        known = [each for each in reaches if each is not None]
        self._since_ms = max(known) if len(known) == len(reaches) else None

    def of(self, key: ProfileKey, below: int, since_ms: int) -> list[Change]:
        """What changed in a profile, newest first (`State.history`)."""
        return [
            change_of(line, lambda digest: self._values[key][digest])
            for span, line in reversed(self._lines.get(key, []))
            if span.first < below and span.last_ms >= since_ms
        ]

    def keys(self) -> Iterator[ProfileKey]:
        """The profiles of which something is kept."""
        return (key for key, lines in self._lines.items() if lines)

    def size(self) -> HistorySize:
        """How much there is."""
        size = sum(len(line) for lines in self._lines.values() for _, line in lines)
        far = self.reach()
        return HistorySize(size, far.segments, far.since_ms)

    def reach(self) -> HistoryReach:
        """How far back it goes."""
        return HistoryReach(len(self._lines), self._since_ms)

    def tend(self, keep_from_ms: int, limit_bytes: int) -> bool:
        """Drop what is too old, or the oldest step of too much (`State.tend_history`)."""
        spans = {span.first: span for lines in self._lines.values() for span, _ in lines}
        gone = {first for first, span in spans.items() if span.last_ms < keep_from_ms}
        if limit_bytes and self.size().size_bytes > limit_bytes:
            gone.add(min(spans))
        for key, lines in list(self._lines.items()):
            self._lines[key] = [(span, line) for span, line in lines if span.first not in gone]
        if gone and self._since_ms is not None:
            self._since_ms = max(self._since_ms, *(spans[first].last_ms for first in gone))
        return bool(gone)

    def forget(self, keys: Sequence[ProfileKey], below: int) -> int:
        """Forget what stands below a position about profiles; of how many steps."""
        changed = 0
        for key in keys:
            lines = self._lines.pop(key, [])
            left = [(span, line_since(line, below)) for span, line in lines]
            changed += sum(line != now for (_, line), (_, now) in zip(lines, left, strict=True))
            kept = [(span, line) for span, line in left if line is not None]
            needed = {digest for _, line in kept for digest in digests_of(line)}
            values = self._values.pop(key, {})
            if kept:
                self._lines[key] = kept
                self._values[key] = {name: data for name, data in values.items() if name in needed}
        return changed
