"""History read back: what changed in a profile, how one stood at a time, and what puts one back.

A store, a profile and times enter; changes, newest first, and profiles as they stood leave. Nothing is looked
up by time alone: one walks from a profile as it stands back through what changed it (`model.history`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import orjson

from mixdown.model.errors import QueryError
from mixdown.model.history import Applied, Change, replay, unwind
from mixdown.model.operators import LAST_SEEN, Operator, Properties
from mixdown.model.times import epoch_ms, iso_seconds, number_of
from mixdown.model.values import canonical
from mixdown.store import patience
from mixdown.store.history import HistoryRange
from mixdown.store.protocols import ProfileKey, State, Store

PAGE_LIMIT: Final = 1000
IDS_AT_ONCE: Final = 1000
"""Ids of one piece of an export."""
PAGE_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""A page ends with the entry that makes it so large: each may hold a value of 256 KB twice."""
NAMED_LIMIT: Final = 1000
"""Ids that may be asked back in time by name."""
_REPLAYED_AT_ONCE: Final = 8
_ABSENT: Final = object()
_YEAR_9999_MS: Final = 253_402_300_799_999
_NAMES: Final = {int(operator): f"${operator.name.lower()}" for operator in Operator}
GEO: Final = "$geo"
"""What an entry names for what the location of the sender changed."""
OPERATOR_NAMES: Final = frozenset({*_NAMES.values(), GEO})
_PLACE: Final = re.compile(r"(\d{1,19})-(\d{1,9})")


class HistoryEntry(msgspec.Struct, frozen=True):
    """What one record changed in one property.

    `old` and `new` are there where the property was, or is. Of a list that lost or gained elements and kept
    its others, and of an object, `added` and `removed` say the same in short; else both are None. `whole`
    marks that the profile itself came to be ("created") or went ("deleted") with it.
    """

    position: int
    time_ms: int
    property: str
    operator: str
    endpoint: str
    sdk: str
    old: Any = msgspec.UNSET
    new: Any = msgspec.UNSET
    added: Any = None
    removed: Any = None
    whole: str = ""


Place = tuple[int, int]
"""Where an entry stands: the position of its record in the log, and its number within the record."""


def place_text(place: Place) -> str:
    """A place as callers carry it from one page to the next."""
    return f"{place[0]}-{place[1]}"


def place_of(text: str) -> Place:
    """The place that `place_text` wrote. Raises `QueryError`."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise QueryError("before, must be what `next` of a page says", status=400)
    return int(found[1]), int(found[2])


def entry_view(entry: HistoryEntry) -> dict[str, Any]:
    """An entry as it is shown: `old` and `new` only where there was and is a value."""
    shown: dict[str, Any] = {
        "position": entry.position,
        "time": iso_seconds(entry.time_ms),
        "time_ms": entry.time_ms,
        "property": entry.property,
        "operator": entry.operator,
        "endpoint": entry.endpoint,
        "sdk": entry.sdk,
    }
    there = (("old", entry.old), ("new", entry.new))
    shown |= {name: value for name, value in there if value is not msgspec.UNSET}
    in_short = (("added", entry.added), ("removed", entry.removed))
    shown |= {name: value for name, value in in_short if value is not None}
    if entry.whole:
        shown["profile"] = entry.whole
    return shown


def read_time(text: str, what: str) -> int:
    """A time as people write it, in ms: ISO 8601 (UTC where no offset is given), or seconds or ms since 1970.

    A date alone means its first moment. `what` names the parameter in the `QueryError` that it raises.
    """
    if number_of(text) is not None:
        moment_ms = epoch_ms(text)
        if moment_ms:
            return moment_ms
    else:
        try:
            moment = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text.strip())
            moment_ms = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
            if moment_ms <= _YEAR_9999_MS:
                return moment_ms
        except (ValueError, OverflowError):
            pass
    raise QueryError(
        f"{what}, is no time: give one as 2026-01-31T12:00:00 (UTC) or as seconds since 1970", status=400
    )


def require_reach(state: State, time_ms: int, what: str) -> None:
    """Raises a `QueryError` where history does not reach back to a time."""
    since_ms = state.history_reach().since_ms
    if since_ms is None:
        raise QueryError(
            f"{what}, no history is kept here: see the setting history_retention_days", status=400
        )
    if time_ms < since_ms:
        raise QueryError(
            f"{what}, history reaches back to {iso_seconds(since_ms)} only: what changed before is forgotten",
            status=400,
        )


def history_page(
    store: Store,
    key: ProfileKey,
    *,
    names: Collection[str] = (),
    operators: Collection[str] = (),
    before: Place | None = None,
    limit: int = 100,
) -> tuple[list[HistoryEntry], Place | None]:
    """A page of what changed in a profile, newest first, and where the next begins (None: that was all).

    It ends earlier where it becomes larger than `PAGE_LIMIT_BYTES`.

    `names` are properties, and `operators` what changed them, to be shown alone; `before` is what the page
    before returned. Blocks.
    """
    found: list[tuple[Place, HistoryEntry]] = []
    size = 0
    for place, entry in _behind(store.state, key, before):
        if (names and entry.property not in names) or (operators and entry.operator not in operators):
            continue
        if len(found) == limit or size >= PAGE_LIMIT_BYTES:
            return [entry for _, entry in found], found[-1][0]
        found.append((place, entry))
        size += len(orjson.dumps(entry_view(entry)))
    return [entry for _, entry in found], None


def history_rows(
    store: Store,
    project: int,
    group_key: str,
    ids: Sequence[str] | None,
    since_ms: int = 0,
    until_ms: int | None = None,
) -> Iterator[tuple[str, HistoryEntry]]:
    """(id, entry) of all changes of these profiles (None: of all) between two times, newest first for each.

    Streams: little is held at once. Blocks.
    """
    for profile_id in _ids_with_history(store.state, project, group_key, since_ms) if ids is None else ids:
        for _, entry in _entries(store.state, (project, group_key, profile_id), since_ms):
            if entry.time_ms < since_ms:
                break
            if until_ms is None or entry.time_ms <= until_ms:
                yield profile_id, entry


def as_of(state: State, key: ProfileKey, time_ms: int) -> Properties | None:
    """A profile as it stood when all records up to a chunk time were applied; None where there was none.

    The caller sees to `require_reach`. Raises `CorruptStoreError`. Blocks.
    """
    watermark, document = state.standing(key)
    changes = state.history(key, below=watermark, since_ms=time_ms + 1)
    return _as_of(None if document is None else orjson.loads(document), changes, time_ms)


def all_as_of(
    store: Store, project: int, group_key: str, time_ms: int, *, from_id: str = ""
) -> Iterator[tuple[str, Properties]]:
    """All profiles of users or of a group key as they stood at a time, from an id on: (id, properties).

    A thousand are held at once, and no transaction stays open between. Raises `QueryError` where history does
    not reach back so far, at once or, where it is forgotten meanwhile, then. Blocks.
    """
    require_reach(store.state, time_ms, "as_of")
    begin: str | None = from_id
    while begin is not None:
        patience.check()
        piece = _piece(store.state, project, group_key, begin, time_ms)
        require_reach(store.state, time_ms, "as_of")
        for profile_id in sorted({*piece.documents, *piece.changes}):
            document = piece.documents.get(profile_id)
            now = None if document is None else orjson.loads(document)
            properties = _as_of(now, piece.changes.get(profile_id, ()), time_ms)
            if properties is not None:
                yield profile_id, properties
        begin = piece.end


def restoring(now: Properties | None, then: Properties | None) -> dict[str, Any]:
    """The operators that make a profile as it stood of the one that stands; {} where nothing is to be done.

    Nothing makes a profile that stands into none but `$delete`, nor the other way than with all it had.
    """
    if then is None:
        return {} if now is None else {"$delete": ""}
    stands: Properties = {} if now is None else now
    put = {
        name: value for name, value in then.items() if name not in stands or not _same(stands[name], value)
    }
    gone = [name for name in stands if name not in then]
    operators: dict[str, Any] = {}
    if put or now is None:
        operators["$set"] = put
    if gone:
        operators["$unset"] = gone
    return operators


def _piece(state: State, project: int, group_key: str, begin: str, time_ms: int) -> HistoryRange:
    """The next piece of all profiles: up to so many ids that stand, and those between them that are gone."""
    end = state.id_after(project, group_key, begin, IDS_AT_ONCE)
    return state.history_between(project, group_key, begin, end, since_ms=time_ms + 1)


def _ids_with_history(state: State, project: int, group_key: str, since_ms: int) -> Iterator[str]:
    begin: str | None = ""
    while begin is not None:
        patience.check()
        piece = _piece(state, project, group_key, begin, since_ms - 1)
        yield from sorted(piece.changes)
        begin = piece.end


def _as_of(
    now: Properties | None, changes: Iterator[Change] | Sequence[Change], time_ms: int
) -> Properties | None:
    """Walk back over what came after a time."""
    doc = now
    for change in changes:
        if change.records[-1].time_ms <= time_ms:
            break
        patience.check()
        doc = unwind(doc, change)
        early = [record for record in change.records if record.time_ms <= time_ms]
        for replayed in replay(doc, early):
            doc = replayed
        if early:
            break
    return doc


def steps_back(
    state: State, key: ProfileKey, since_ms: int = 0
) -> Iterator[tuple[Applied, Properties | None, Properties | None]]:
    """Each record that a profile took, newest first, with the profile before it and after it.

    What it gives is to be read before the next, and never changed. Blocks.
    """
    watermark, document = state.standing(key)
    doc: Properties | None = None if document is None else orjson.loads(document)
    for change in state.history(key, below=watermark, since_ms=since_ms):
        patience.check()
        before = unwind(doc, change)
        for step in _backwards(_copied(before), change.records):
            patience.check()
            yield step
        doc = before


def _behind(state: State, key: ProfileKey, before: Place | None) -> Iterator[tuple[Place, HistoryEntry]]:
    for place, entry in _entries(state, key, 0):
        if before is None or place < before:
            yield place, entry


def _entries(state: State, key: ProfileKey, since_ms: int) -> Iterator[tuple[Place, HistoryEntry]]:
    """All entries of a profile, newest first, each with its place: (position, number within the record)."""
    for record, held, now in steps_back(state, key, since_ms):
        of_record = list(_differences(record, held, now))
        numbers = range(len(of_record), 0, -1)
        for number, entry in zip(numbers, of_record, strict=True):
            yield (record.position, number), entry


def _backwards(
    before: Properties | None, records: Sequence[Applied]
) -> Iterator[tuple[Applied, Properties | None, Properties | None]]:
    """(record, profile before it, profile after it) of records on a profile, which is used up; newest first.

    A step may have applied 100,000 records to one profile, and each makes another state of it: only some are
    held at once, and the first half of the records is replayed once more when the second has been told.
    """
    if len(records) > _REPLAYED_AT_ONCE:
        half = len(records) // 2
        doc = _copied(before)
        for after in replay(doc, records[:half]):
            patience.check()
            doc = after
        yield from _backwards(doc, records[half:])
        del doc
        yield from _backwards(before, records[:half])
        return
    states = [_copied(before)]
    states += map(_copied, replay(before, records))
    for number in range(len(records) - 1, -1, -1):
        yield records[number], states[number], states[number + 1]


def _copied(doc: Properties | None) -> Properties | None:
    """A copy that operators on the original leave alone: they change top-level lists and objects in place."""
    if doc is None:
        return None
    return {
        name: value.copy() if type(value) is list or type(value) is dict else value
        for name, value in doc.items()
    }


def _differences(
    record: Applied, before: Properties | None, after: Properties | None
) -> Iterator[HistoryEntry]:
    """What a record changed, by property, in the order of names; that it was seen is no change.

    A profile that is rebuilt may hold its properties in another order each time, but a page goes on at a
    place that the page before told.
    """
    whole = "created" if before is None and after is not None else ""
    whole = "deleted" if before is not None and after is None else whole
    old, new = before or {}, after or {}
    changed = sorted(names_changed(old, new))
    for name in changed:
        was, now = old.get(name, _ABSENT), new.get(name, _ABSENT)
        added, removed = _inside(was, now)
        yield HistoryEntry(
            position=record.position,
            time_ms=record.time_ms,
            property=name,
            operator=operator_of(record, name),
            endpoint=record.endpoint,
            sdk=record.sdk,
            old=msgspec.UNSET if was is _ABSENT else was,
            new=msgspec.UNSET if now is _ABSENT else now,
            added=added,
            removed=removed,
            whole=whole,
        )
    if whole and not changed:
        operator = _NAMES[record.operations[0][0]]
        yield HistoryEntry(
            record.position, record.time_ms, "", operator, record.endpoint, record.sdk, whole=whole
        )


def names_changed(old: Properties, new: Properties) -> list[str]:
    """The properties that one profile has otherwise than another, or alone; that it was seen is no change."""
    return [
        name
        for name in old.keys() | new.keys()
        if (was := old.get(name, _ABSENT)) is not (now := new.get(name, _ABSENT))
        and (was is _ABSENT or now is _ABSENT or not _same(was, now))
        and name != LAST_SEEN
    ]


def _same(was: Any, now: Any) -> bool:
    """Whether nobody can tell two values apart: 1 and 1.0 are two."""
    return type(was) is type(now) and (
        was == now if type(was) is str else orjson.dumps(was) == orjson.dumps(now)
    )


def operator_of(record: Applied, name: str) -> str:
    """The operator of a record that changed a property; "$geo" where its location did."""
    for operator, payload in reversed(record.operations):
        if operator == Operator.DELETE or name in payload:
            return _NAMES[operator]
    return GEO if record.geo and name in record.geo else ""


def _inside(was: Any, now: Any) -> tuple[Any, Any]:
    """What was added to, and removed from, a list that kept its other elements; likewise of an object."""
    if type(was) is list and type(now) is list:
        kept = 0
        removed = []
        for item in was:
            if kept < len(now) and canonical(now[kept]) == canonical(item):
                kept += 1
            else:
                removed.append(item)
        return now[kept:], removed
    if type(was) is dict and type(now) is dict:
        added = {key: value for key, value in now.items() if key not in was or not _same(was[key], value)}
        return added, {
            key: value for key, value in was.items() if key not in now or not _same(value, now[key])
        }
    return None, None
