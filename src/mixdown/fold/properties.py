"""Which properties profiles gain and lose in one step of the fold, by the kind of their values.

Enters: records before they are applied, and profiles before and after those whose effect cannot be told from
the record. Leaves: differences for the store's counts, which `engage/properties` answers from. Nearly all
records keep names and kinds; `kept` finds that, or what a plain record changes, by a look at each name that
it carries. That is all that counting costs the fold, and nobody reads a document again for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mixdown.model.kinds import DATETIME, DATETIME_CHARS, DATETIME_T_AT, kind_of, kind_of_type
from mixdown.model.operators import LAST_SEEN, Operation, Operator, Properties
from mixdown.store.protocols import ProfileKey, PropertyChange

Pair = tuple[int, str]
Changed = list[str]
"""Names with the kind that went and the kind that came ("": none), one after the other."""
_Shape = tuple[int, str, tuple[str, ...], tuple[type, ...], tuple[str, ...]]
_ABSENT: Final = object()
_SHAPES_HELD: Final = 1000
_NOTHING: Final[Properties] = {}
# plain integers: comparing with a member of an enumeration takes longer
_SET, _UNSET, _REMOVE = int(Operator.SET), int(Operator.UNSET), int(Operator.REMOVE)
_MADE: Final[dict[int, str]] = {
    Operator.SET_ONCE: "",
    Operator.MERGE: "",
    Operator.ADD: "number",
    Operator.UNION: "list",
    Operator.APPEND: "list",
}
"""What operators make where there is nothing; "": what they carry."""


def kept(
    properties: Properties, operations: Sequence[Operation], geo: Properties | None, changed: Changed
) -> bool:
    """Whether a record keeps the names and kinds of a profile's values, but for what it adds to `changed`.

    `properties` are those that it will be applied to, `$last_seen` among them. False where that takes a look
    at what becomes of them: `changed` says nothing of this record then.
    """
    plain = len(operations) == 1 and geo is None
    for code, payload in operations:
        if code == _SET:
            if not _replaced(properties, payload, changed if plain else None):
                return False
        elif code in _MADE:  # these change a value that is there to one of its kind, or not at all
            if not properties.keys() >= payload.keys():
                if not plain:
                    return False
                for name in payload.keys() - properties.keys():
                    changed += (name, "", _MADE[code] or kind_of(payload[name]))
        elif code == _UNSET:
            if not properties.keys().isdisjoint(payload):
                if not plain:
                    return False
                for name in properties.keys() & set(payload):
                    changed += (name, kind_of(properties[name]), "")
        elif code != _REMOVE:
            return False
    return geo is None or _replaced(properties, geo, None)


def _replaced(properties: Properties, payload: Properties, changed: Changed | None) -> bool:
    """Whether each value is of the kind of the one that it replaces, but for what `changed` takes."""
    for name, now in payload.items():
        was = properties.get(name, _ABSENT)
        kind = type(now)
        if type(was) is kind and (
            kind is not str
            or (
                (len(now) < DATETIME_CHARS or now[DATETIME_T_AT] != "T")
                and (len(was) < DATETIME_CHARS or was[DATETIME_T_AT] != "T")
            )
        ):
            continue
        if changed is None:
            return False
        changed += (name, "" if was is _ABSENT else kind_of(was), kind_of(now))
    return True


class PropertyChanges:
    """The differences of one step; profiles that are not counted yet, by `State.uncounted`, make none."""

    def __init__(self, uncounted: Mapping[Pair, str]) -> None:
        self._uncounted = uncounted
        self._changes: dict[Pair, dict[tuple[str, str], int]] = {}
        # Many profiles are made, or changed, in the same way: each way is taken apart once.
        self._made: dict[_Shape, int] = {}
        self._same: dict[tuple[int, str, tuple[str, ...]], int] = {}

    def note(
        self, key: ProfileKey, changed: Changed, before: Properties | None, after: Properties | None
    ) -> None:
        """The profile that `key` names: what `kept` found, then how it was before and after the rest.

        A value that is the same object before and after is not looked at.
        """
        if self._uncounted and not self._is_counted(key):
            return
        if before is not after:
            if before:
                _compare(before, after or _NOTHING, changed)
            elif after:
                self._make(key, after)
        if changed:
            way = (*key[:2], tuple(changed))
            self._same[way] = self._same.get(way, 0) + 1
            if len(self._same) > _SHAPES_HELD:
                self._take_apart()

    def _is_counted(self, key: ProfileKey) -> bool:
        counted_to = self._uncounted.get(key[:2])
        return counted_to is None or key[2] <= counted_to

    def _make(self, key: ProfileKey, new: Properties) -> None:
        dates = [
            name
            for name, value in new.items()
            if type(value) is str
            and len(value) >= DATETIME_CHARS
            and value[DATETIME_T_AT] == "T"
            and name != LAST_SEEN  # which the fold itself has made
            and kind_of(value) == DATETIME
        ]
        shape = (
            *key[:2],
            tuple(new),
            tuple(map(type, new.values())),
            tuple(dates),
        )
        self._made[shape] = self._made.get(shape, 0) + 1
        if len(self._made) > _SHAPES_HELD:
            self._take_apart()

    def _take_apart(self) -> None:
        """Turn what was noted into differences."""
        for (project, group_key, names, types, dates), profiles in self._made.items():
            for name, kind in zip(names, types, strict=True):
                is_date = name in dates or (name == LAST_SEEN and kind is str)
                self._add((project, group_key), name, DATETIME if is_date else kind_of_type(kind), profiles)
        for (project, group_key, way), profiles in self._same.items():
            for at in range(0, len(way), 3):
                self._add((project, group_key), way[at], way[at + 1], -profiles)
                self._add((project, group_key), way[at], way[at + 2], profiles)
        self._made.clear()
        self._same.clear()

    def _add(self, pair: Pair, name: str, kind: str, profiles: int) -> None:
        if kind:
            changes = self._changes.setdefault(pair, {})
            changes[name, kind] = changes.get((name, kind), 0) + profiles

    def all(self) -> Iterator[PropertyChange]:
        """Every difference that is one."""
        self._take_apart()
        for (project, group_key), changes in self._changes.items():
            for (name, kind), profiles in changes.items():
                if profiles:
                    yield project, group_key, name, kind, profiles


def _compare(before: Properties, after: Properties, changed: Changed) -> None:
    for name, now in after.items():
        was = before.get(name, _ABSENT)
        if was is now or (type(was) is type(now) and type(now) is not str):
            continue
        old, new = "" if was is _ABSENT else kind_of(was), kind_of(now)
        if old != new:
            changed += (name, old, new)
    for name in before.keys() - after.keys():
        changed += (name, kind_of(before[name]), "")
