"""Which properties profiles gained and lost in one step of the fold, by the kind of their values.

Enters: a profile's properties before and after, and the names that its records could have changed. Leaves:
differences for the store's counts, which `engage/properties` answers from. It looks at no name that no
record touched: counts cost the fold a few comparisons a record, and nobody reads a document again for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from mixdown.model.kinds import kind_of
from mixdown.store.chunk import LoggedUpdate
from mixdown.store.protocols import PropertyChange

Pair = tuple[int, str]
_ABSENT: Final = object()
_SHORT_CHARS: Final = 19
"""A shorter text is no date: see `model.kinds`."""
_SHAPES_HELD: Final = 1000
_NOTHING: Final[dict[str, Any]] = {}


class PropertyChanges:
    """The differences of one step; profiles that are not counted yet, by `State.uncounted`, make none."""

    def __init__(self, uncounted: Mapping[Pair, str]) -> None:
        self._uncounted = uncounted
        self._changes: dict[Pair, dict[tuple[str, str], int]] = {}
        self._shapes: dict[tuple[Pair, tuple[str, ...]], int] = {}

    def note(
        self,
        update: LoggedUpdate,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
        touched: Collection[str] | None,
    ) -> None:
        """Note a change of the profile (None: there is none) that `update` names.

        It was changed in the properties `touched` at most; None: anywhere.
        """
        old, new = before or _NOTHING, after or _NOTHING
        if touched is None:
            if not old:
                self._made(update, new)
                return
            touched = old.keys() | new.keys()
        for name in touched:
            was, now = old.get(name, _ABSENT), new.get(name, _ABSENT)
            kind = type(was)
            # of one type, and no dates: the common case, and all that it costs
            if kind is type(now) and (
                kind is not str or was is now or (len(was) < _SHORT_CHARS and len(now) < _SHORT_CHARS)
            ):
                continue
            self._changed(update, name, was, now)

    def _is_counted(self, update: LoggedUpdate) -> bool:
        counted_to = self._uncounted.get((update.project, update.group_key))
        return counted_to is None or update.id <= counted_to

    def _made(self, update: LoggedUpdate, new: Mapping[str, Any]) -> None:
        """A profile was made: many have the same names and kinds, which are added up at the end."""
        if not new or not self._is_counted(update):
            return
        shape = ((update.project, update.group_key), (*new, *map(kind_of, new.values())))
        self._shapes[shape] = self._shapes.get(shape, 0) + 1
        if len(self._shapes) > _SHAPES_HELD:
            self._unfold()

    def _changed(self, update: LoggedUpdate, name: str, was: Any, now: Any) -> None:
        old = None if was is _ABSENT else kind_of(was)
        new = None if now is _ABSENT else kind_of(now)
        if old == new or not self._is_counted(update):
            return
        pair = (update.project, update.group_key)
        if old is not None:
            self._add(pair, name, old, -1)
        if new is not None:
            self._add(pair, name, new, 1)

    def _unfold(self) -> None:
        """Turn the profiles that were made into differences."""
        for (pair, shape), profiles in self._shapes.items():
            middle = len(shape) // 2
            for name, kind in zip(shape[:middle], shape[middle:], strict=True):
                self._add(pair, name, kind, profiles)
        self._shapes.clear()

    def _add(self, pair: Pair, name: str, kind: str, profiles: int) -> None:
        changes = self._changes.setdefault(pair, {})
        changes[name, kind] = changes.get((name, kind), 0) + profiles

    def all(self) -> Iterator[PropertyChange]:
        """Every difference that is one."""
        self._unfold()
        for (project, group_key), changes in self._changes.items():
            for (name, kind), profiles in changes.items():
                if profiles:
                    yield project, group_key, name, kind, profiles
