"""What changed in a profile: what is kept to take changes back, and how they are taken back. Pure.

Of the records that a step of the fold applies to a profile, history keeps the records as they stand in the
log and, of the profile, what they took from it: `Taken`. With the profile as it stands after them, `unwind`
gives it as it stood before; `replay` applies the records to that again, one by one, with the fold's own
operators. So before and after of each record are rebuilt on reading, and the fold says no more than it must.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from mixdown.model.operators import (
    LAST_SEEN,
    Crowd,
    Operation,
    Operator,
    Properties,
    apply_operations,
)
from mixdown.model.times import iso_seconds
from mixdown.model.updates import IGNORE_TIME

LIST: Final = "l"
"""How to make an old list of the new: [how many of its elements to take, [[place, element to put in], …]]."""
OBJECT: Final = "o"
"""How to make an old object of the new: [members that were, names of members that were not]."""

IN_PLACE: Final = frozenset({int(Operator.MERGE), int(Operator.UNION), int(Operator.APPEND)})
"""Operators that change a stored list or object itself; all others put a new value in its place."""

Undo = tuple[str, str, Any]
_ABSENT: Final = object()
_NOBODY: Final[Properties] = {}
_NO_UNDO: Final[list[Undo]] = []
_DELETE: Final = int(Operator.DELETE)
_SET_ONCE: Final = int(Operator.SET_ONCE)
_REPLACING: Final = frozenset({int(Operator.SET), int(Operator.ADD), int(Operator.UNSET)})
_EASY: Final = _REPLACING | {_SET_ONCE, int(Operator.UNION), int(Operator.APPEND)}
"""Of these a record alone may be told before it is applied."""


class Taken(NamedTuple):
    """What records took from a profile that was there before.

    `values` are the properties that they replaced or removed, `absent` the names of those that they made, and
    `more` tells (property, `LIST` or `OBJECT`, how) to make an old list or object of the new. A name stands
    in one of the three at most.
    """

    values: Mapping[str, Any]
    absent: list[str]
    more: list[Undo]


def taken_by_one(doc: Properties, operations: Sequence[Operation]) -> Taken | None:
    """What the one record of a step is about to take from `doc`; None: that is not told so easily.

    A quicker `Trace` for what nearly all records are: one operator that replaces values, or fills lists.
    Nothing is copied: what it gives is to be written down before the next record.
    """
    ((operator, payload), *others) = operations
    if others or operator not in _EASY:
        return None
    if operator in _REPLACING:
        values = {name: doc[name] for name in payload if name in doc}
        absent = [] if len(values) == len(payload) else [name for name in payload if name not in doc]
        more = _NO_UNDO
    else:
        values = {}
        absent = [name for name in payload if name not in doc]
        more = []
        if operator != _SET_ONCE:
            for name in payload:
                stored = doc.get(name)
                if type(stored) is list:
                    more.append((name, LIST, (len(stored), ())))
    if LAST_SEEN in doc:
        values[LAST_SEEN] = doc[LAST_SEEN]
    elif LAST_SEEN not in absent:
        absent.append(LAST_SEEN)
    return Taken(values, absent, more)


class Trace:
    """Follows records on their way into a profile that is there, for what they take from it.

    `follow` comes before each is applied. That costs little: scalars are told by a shallow copy that is taken
    first, and only lists and objects that are changed in place are looked at before.
    """

    __slots__ = ("_before", "_doc", "_touched", "_within")

    def __init__(self, doc: Properties) -> None:
        self._doc = doc
        self._before = doc.copy()
        self._touched: set[str] = set()
        self._within: dict[str, Any] = {}
        """Of what is changed in place: a list's length, or a copy of an object, before the first change."""

    def follow(self, doc: Properties, operations: Iterable[Operation], geo: Properties | None) -> None:
        """The next record is about to be applied to `doc`."""
        if doc is not self._doc:
            return  # it was deleted meanwhile: everything is looked at then
        touched = self._touched
        for operator, payload in operations:
            if operator == _DELETE:
                continue
            touched.update(payload)
            if operator in IN_PLACE:
                self._note_within(payload)
        if geo:
            touched.update(geo)

    def _note_within(self, payload: Iterable[str]) -> None:
        for name in payload:
            stored = self._doc.get(name)
            if name not in self._within and stored is self._before.get(name):
                if type(stored) is list:
                    self._within[name] = len(stored)
                elif type(stored) is dict:
                    self._within[name] = stored.copy()

    def taken(self, doc: Properties | None) -> Taken:
        """What the records took, which left `doc`."""
        before, within = self._before, self._within
        after = doc if doc is not None else _NOBODY
        touched = self._touched if doc is self._doc else before.keys() | after.keys()
        values: Properties = {}
        absent: list[str] = []
        more: list[Undo] = []
        for name in touched:
            was = before.get(name, _ABSENT)
            if was is _ABSENT:
                if name in after:
                    absent.append(name)
                continue
            kind = type(was)
            if kind is list:
                _take_list(name, was, after.get(name), within.get(name, len(was)), values, more)
            elif kind is dict:
                _take_object(name, was, after.get(name), within.get(name), values, more)
            elif after.get(name, _ABSENT) is not was:
                values[name] = was
        if LAST_SEEN not in touched:
            if LAST_SEEN in before:
                values[LAST_SEEN] = before[LAST_SEEN]
            elif LAST_SEEN in after:
                absent.append(LAST_SEEN)
        return Taken(values, absent, more)


def _take_list(
    name: str, was: list[Any], now: Any, length: int, values: Properties, more: list[Undo]
) -> None:
    if now is was:
        if length < len(was):
            more.append((name, LIST, (length, ())))
        return
    old = was if length == len(was) else was[:length]
    if type(now) is not list:
        values[name] = old
        return
    # `$remove` leaves the other elements themselves in a new list, and more may have been added behind them
    kept = 0
    out: list[tuple[int, Any]] = []
    for place, item in enumerate(old):
        if kept < len(now) and now[kept] is item:
            kept += 1
        else:
            out.append((place, item))
    if 2 * len(out) <= len(old):
        more.append((name, LIST, (kept, out)))
    else:
        values[name] = old


def _take_object(
    name: str,
    was: Properties,
    now: Any,
    copy: Properties | None,
    values: Properties,
    more: list[Undo],
) -> None:
    if now is not was:
        values[name] = was if copy is None else copy
    elif copy is not None:
        old = {key: value for key, value in copy.items() if was.get(key, _ABSENT) is not value}
        new = [key for key in was if key not in copy]
        if old or new:
            more.append((name, OBJECT, (old, new)))


class Applied(msgspec.Struct, frozen=True):
    """A record as history has it: where it stands in the log, its chunk's time, who sent it, what it says.

    `record_ms` is its own `$time` or 0, `geo` what geolocation found. Times are in milliseconds.
    """

    position: int
    time_ms: int
    endpoint: str
    sdk: str
    operations: tuple[Operation, ...]
    record_ms: int = 0
    flags: int = 0
    geo: Properties | None = None


class Change(msgspec.Struct, frozen=True):
    """What one step of the fold did to a profile: its records in order, and what they took from it.

    `existed` says whether there was a profile before them.
    """

    existed: bool
    taken: Taken
    records: tuple[Applied, ...]


def unwind(doc: Properties | None, change: Change) -> Properties | None:
    """The profile as it was before `change`, made of what it was after; `doc` itself is left as it is."""
    if not change.existed:
        return None
    after: Properties = {} if doc is None else doc
    before = {name: value for name, value in after.items() if name not in change.taken.absent}
    before.update(change.taken.values)
    for name, kind, (kept, old) in change.taken.more:
        if kind == LIST:
            items = list(after[name][:kept])
            for place, item in old:
                items.insert(place, item)
            before[name] = items
        else:
            members = {key: value for key, value in after[name].items() if key not in old}
            before[name] = members | kept
    return before


def replay(doc: Properties | None, records: Iterable[Applied]) -> Iterator[Properties | None]:
    """The profile after each of `records`, which are applied one after the other to `doc`, which is used up.

    The same object each time: whoever keeps one copies it. The records stay as they are, to be applied again.
    """
    crowd = Crowd()  # a profile that is far below the limits comes out the same with them
    for record in records:
        seen, arrival = seen_and_arrival(record.time_ms, record.record_ms, record.flags)
        doc = apply_operations(
            doc, map(_own, record.operations), geo=record.geo, seen=seen, arrival=arrival, crowd=crowd
        )
        yield doc


def _own(operation: Operation) -> Operation:
    """An operation whose lists and objects a profile may take over, to be changed in place by later ones."""
    code, payload = operation
    if type(payload) is not dict:
        return operation
    return code, {
        name: value.copy() if type(value) is list or type(value) is dict else value
        for name, value in payload.items()
    }


def seen_and_arrival(time_ms: int, record_ms: int, flags: int) -> tuple[str | None, str]:
    """`$last_seen` as a record gives it (None: it says `$ignore_time`), and as it gives it to a new profile.

    `time_ms` is the time of its chunk, `record_ms` its own `$time` or 0; one in the future is no time
    (contract ingestion §3.1).
    """
    arrival = iso_seconds(time_ms)
    if flags & IGNORE_TIME:
        return None, arrival
    return (iso_seconds(record_ms) if 0 < record_ms < time_ms else arrival), arrival
