"""The product behind the reference's signature, taken the whole way that a record goes.

Judged, located, written into a chunk, read back from it, applied to a profile that was JSON text before
and is JSON text after.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import msgspec
import orjson

from mixdown.model import operators, updates
from mixdown.model.times import iso_seconds
from mixdown.store.chunk import LoggedUpdate, Segment, decode_body, encode_segment, join_segments
from tests.model.reference import Applied, Document, Refused
from tests.model.strategies import json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.model.reference import Json, Kind

PROJECT = 7
TOKEN = "TOK"


def identical(a: Json, b: Json) -> bool:
    """Whether two documents are the same in value and type: 1, 1.0 and true are three things."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(identical(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(identical(a[name], b[name]) for name in a)
    return a == b


def as_received(value: Json) -> Json:
    """The value as it arrives over the wire: written by a client, parsed by the server."""
    return cast("Json", json.loads(json_text(value)))


def is_hostile(value: Json) -> bool:
    """Whether any text in the value holds NUL or a lone surrogate."""
    text = json.dumps(value, ensure_ascii=False)
    return "\\u0000" in text or any("\ud800" <= c <= "\udfff" for c in text)


def read(
    raw: Json, *, kind: Kind = "engage", strict: bool = False, hostile: bool | None = None
) -> updates.Update | updates.Refusal:
    """The product's judgement on one record; `hostile` None says what the body's decoder would say."""
    reading = updates.Reading(
        projects={TOKEN: PROJECT},
        group=kind == "groups",
        strict=strict,
        hostile=is_hostile(raw) if hostile is None else hostile,
    )
    return updates.read_update(as_received(raw), 0, reading)


def update(
    raw: Json,
    *,
    kind: Kind,
    strict: bool,
    arrival: float,
    geo: Document | None,
    stored: Document | None,
    hostile: bool | None = None,
    crowded: bool = True,
) -> Refused | Applied:
    """Apply one raw record to one stored profile: the reference's `update`, done by the product."""
    judged = read(raw, kind=kind, strict=strict, hostile=hostile)
    if isinstance(judged, updates.Refusal):
        return Refused(judged.field, judged.message)
    left = updates.geo_names_left(judged)
    if geo is not None and left is not None:
        judged.geo = {name: value for name, value in geo.items() if name not in left}
    return Applied(fold_one(judged, arrival=arrival, stored=stored, crowded=crowded))


def fold_one(
    judged: updates.Update, *, arrival: float, stored: Document | None, crowded: bool = True
) -> Document | None:
    """One update, through the chunk that carries it, onto a stored profile (times in seconds)."""
    doc: Document | None = None if stored is None else orjson.loads(orjson.dumps(stored))
    return _as_stored(_apply(doc, _through_chunk([judged])[0], arrival=arrival, crowded=crowded))


def fold_all(steps: Sequence[tuple[updates.Update, float]]) -> Document | None:
    """Updates of one new profile, all in one chunk, applied without writing the profile in between."""
    doc: Document | None = None
    logged = _through_chunk([judged for judged, _ in steps])
    for one, (_, arrival) in zip(logged, steps, strict=True):
        doc = _apply(doc, one, arrival=arrival, crowded=False)
    return _as_stored(doc)


def _through_chunk(judged: list[updates.Update]) -> list[LoggedUpdate]:
    segments = [encode_segment(Segment("engage", "", None, None, [one])) for one in judged]
    return [logged for segment in decode_body(join_segments(segments)) for logged in segment.updates]


def _as_stored(doc: Document | None) -> Document | None:
    return None if doc is None else cast("Document", orjson.loads(orjson.dumps(doc)))


def _apply(doc: Document | None, logged: LoggedUpdate, *, arrival: float, crowded: bool) -> Document | None:
    arrival_ms = int(arrival * 1000)
    in_time = 0 < logged.time_ms <= arrival_ms
    ignoring = logged.flags & updates.IGNORE_TIME
    return operators.apply_operations(
        doc,
        [(operator, msgspec.json.decode(payload)) for operator, payload in logged.operations],
        geo=logged.geo,
        seen=None if ignoring else iso_seconds(logged.time_ms if in_time else arrival_ms),
        arrival=iso_seconds(arrival_ms),
        crowd=operators.Crowd() if crowded else None,
    )
