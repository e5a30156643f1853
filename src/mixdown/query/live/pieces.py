"""The segments of a chunk, looked at twice: first what they hold of which project, then, where wanted, all.

A chunk enters; pieces leave, counted by their envelopes alone, at the speed at which JSON can be skipped.
Their records become `Item`s only when somebody may be shown them, and are decoded to the end only when
somebody is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
import orjson

from mixdown.model.errors import CorruptStoreError
from mixdown.model.masking import NOTHING_HIDDEN, Mask
from mixdown.query.recent import RecentRecord, recent_record
from mixdown.query.recent_events import RecentEvent, recent_event
from mixdown.store.chunk import Chunk, Link, LoggedUpdate, WholeSegment, owner_of
from mixdown.store.privacy import is_tombstone
from mixdown.store.protocols import RefusedRecord

UPDATE: Final = "update"
EVENT: Final = "event"
LINK: Final = "link"
REFUSAL: Final = "refusal"
KINDS: Final = (UPDATE, EVENT, LINK, REFUSAL)

Counts = Counter[tuple[str, int]]
"""How many records there are of a kind and a project."""


class _Head(msgspec.Struct, array_like=True, gc=False):
    """Of an update or an event, whose project's it is."""

    project: int


class _LinkHead(msgspec.Struct, array_like=True, gc=False):
    """Of a link likewise."""

    index: int
    project: int


class _Envelope(msgspec.Struct, array_like=True, gc=False):
    """A segment of which nothing is decoded but the projects."""

    endpoint: str
    sdk: str
    key: msgspec.Raw
    outcome: msgspec.Raw
    updates: list[_Head]
    links: list[_LinkHead] = []
    event_count: int = 0
    events: list[_Head] = []


class RecentLink(msgspec.Struct, frozen=True):
    """What an event said about identities: its place in the log, and the link as the log has it."""

    position: int
    time_ms: int
    project: int
    endpoint: str
    sdk: str
    mode: str
    verb: str
    one: str
    other: str


Arrived = RecentRecord | RecentEvent | RecentLink | RefusedRecord
"""A record as it is shown."""


class Piece(NamedTuple):
    """A segment: the position of its first record, the chunk's time, what it holds, and itself."""

    first: int
    time_ms: int
    counts: Counts
    raw: msgspec.Raw


class Item(msgspec.Struct):
    """A record that may be shown. `source` is an update, a link or a refusal; of events `raw` says all."""

    kind: str
    project: int
    position: int
    time_ms: int
    endpoint: str
    sdk: str
    raw: msgspec.Raw | bytes
    source: LoggedUpdate | Link | RefusedRecord | None = None
    text: str | None = None

    def has_id(self, wanted: str) -> bool:
        """Whether it is of the user or group with this id, or links it; a refusal, whether it names it."""
        source = self.source
        if source is None:
            return owner_of(msgspec.Raw(self.raw)) == wanted
        if isinstance(source, RefusedRecord):
            return orjson.dumps(wanted).decode() in source.record
        return wanted in ((source.one, source.other) if isinstance(source, Link) else (source.id,))

    def holds(self, lowered: str, mask: Mask = NOTHING_HIDDEN) -> bool:
        """Whether a text stands in its JSON, whatever the case of either; `lowered` is in lower case.

        Of a refusal, in what `mask` leaves.
        """
        if self.text is None:
            self.text = _searched(self)
        if mask and self.kind == REFUSAL:
            return lowered in mask.text(self.text).lower()
        return lowered in self.text


_envelopes: Final = msgspec.json.Decoder(list[_Envelope])
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw])
_whole: Final = msgspec.json.Decoder(WholeSegment)


def counts_of(chunk: Chunk) -> Counts:
    """How many records of each kind and project a chunk holds; nothing of one that cannot be read."""
    found: Counts = Counter()
    for envelope in _opened(chunk):
        found += _counted(envelope)
    return found


def pieces_of(chunk: Chunk) -> list[Piece]:
    """The segments of a chunk; none of one that cannot be read."""
    envelopes = _opened(chunk)
    pieces = []
    position = chunk.first
    for envelope, raw in zip(envelopes, _raws.decode(chunk.body) if envelopes else (), strict=True):
        pieces.append(Piece(position, chunk.time_ms, _counted(envelope), raw))
        position += len(envelope.updates) + envelope.event_count
    return pieces


def items_of(piece: Piece) -> list[Item]:
    """The records of a piece, in their order; a link stands before the event that brought it."""
    try:
        segment = _whole.decode(piece.raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptStoreError(f"a chunk cannot be decoded: {error}") from error
    endpoint, sdk, time_ms = segment.endpoint, segment.sdk, piece.time_ms
    items = [
        Item(UPDATE, update.project, place, time_ms, endpoint, sdk, update.content, update)
        for place, update in enumerate(segment.updates, piece.first)
        if not is_tombstone(update)
    ]
    links: dict[int, list[Link]] = {}
    for link in segment.links:
        links.setdefault(link.index, []).append(link)
    first = piece.first + len(segment.updates)
    for index, (project, raw) in enumerate(segment.events):
        items += [
            Item(LINK, link.project, first + index, time_ms, endpoint, sdk, b"", link)
            for link in links.get(index, ())
        ]
        if project:
            items.append(Item(EVENT, project, first + index, time_ms, endpoint, sdk, raw))
    return items


def item_of_refusal(refusal: RefusedRecord) -> Item:
    """A refusal among the records; its position says nothing."""
    raw = refusal.record.encode("utf-8", "replace")
    return Item(REFUSAL, refusal.project, 0, refusal.time_ms, refusal.endpoint, refusal.sdk, raw, refusal)


def arrived_of(item: Item) -> Arrived:
    """A record decoded to the end."""
    source = item.source
    if source is None:
        return recent_event(
            msgspec.Raw(item.raw),
            position=item.position,
            time_ms=item.time_ms,
            project=item.project,
            endpoint=item.endpoint,
            sdk=item.sdk,
        )
    if isinstance(source, RefusedRecord):
        return source
    if isinstance(source, LoggedUpdate):
        return recent_record(source, item.position, item.time_ms, item.endpoint, item.sdk)
    return RecentLink(
        position=item.position,
        time_ms=item.time_ms,
        project=source.project,
        endpoint=item.endpoint,
        sdk=item.sdk,
        mode=source.mode,
        verb=source.verb,
        one=source.one,
        other=source.other,
    )


def _opened(chunk: Chunk) -> list[_Envelope]:
    try:
        return _envelopes.decode(chunk.body) if chunk.body else []
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []


def _counted(envelope: _Envelope) -> Counts:
    found: Counts = Counter()
    heads: Sequence[tuple[str, Sequence[_Head | _LinkHead]]]
    heads = ((UPDATE, envelope.updates), (EVENT, envelope.events), (LINK, envelope.links))
    for kind, those in heads:
        for project, count in Counter([head.project for head in those]).items():
            if project:  # 0 marks what was erased
                found[kind, project] = count
    return found


def _searched(item: Item) -> str:
    """All that a search looks through, in lower case."""
    raw = bytes(item.raw)
    if b"\\u" in raw:  # a client may have written its letters as escapes
        with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):  # a refused body may be no JSON
            raw = orjson.dumps(orjson.loads(raw))
    text = raw.decode("utf-8", "replace")
    source = item.source
    if isinstance(source, LoggedUpdate):
        text = f"{source.group_key}\n{source.id}\n{text}"
    elif isinstance(source, Link):
        text = f"{source.verb}\n{source.one}\n{source.other}"
    elif isinstance(source, RefusedRecord):
        text = f"{source.field}\n{source.message}\n{text}"
    return f"{item.endpoint}\n{item.sdk}\n{text}".lower()
