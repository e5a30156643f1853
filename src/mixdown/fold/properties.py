"""Which properties profiles gained and lost in one step of the fold, by the kind of their values.

Enters: a profile's properties before and after, and the names that its records could have changed. Leaves:
differences for the store's counts, which `engage/properties` answers from. It looks at no name that no
record touched: counts cost the fold a few comparisons a record, and nobody reads a document again for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from mixdown.model.kinds import kind_of, same_kind
from mixdown.store.chunk import LoggedUpdate
from mixdown.store.protocols import PropertyChange

Pair = tuple[int, str]
_ABSENT: Final = object()
_NOTHING: Final[dict[str, Any]] = {}


class PropertyChanges:
    """The differences of one step; profiles that are not counted yet, by `State.uncounted`, make none."""

    def __init__(self, uncounted: Mapping[Pair, str]) -> None:
        self._uncounted = uncounted
        self._changes: dict[Pair, dict[tuple[str, str], int]] = {}

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
        pair = (update.project, update.group_key)
        if self._uncounted:
            counted_to = self._uncounted.get(pair)
            if counted_to is not None and update.id > counted_to:
                return
        old, new = before or _NOTHING, after or _NOTHING
        if touched is None:
            touched = new.keys() if not old else old.keys() | new.keys()
        for name in touched:
            was, now = old.get(name, _ABSENT), new.get(name, _ABSENT)
            if was is now or same_kind(was, now):
                continue
            self._changed(pair, name, was, now)

    def _changed(self, pair: Pair, name: str, was: Any, now: Any) -> None:
        changes = self._changes.get(pair)
        if changes is None:
            changes = self._changes[pair] = {}
        if was is not _ABSENT:
            key = (name, kind_of(was))
            changes[key] = changes.get(key, 0) - 1
        if now is not _ABSENT:
            key = (name, kind_of(now))
            changes[key] = changes.get(key, 0) + 1

    def all(self) -> Iterator[PropertyChange]:
        """Every difference that is one."""
        for (project, group_key), changes in self._changes.items():
            for (name, kind), profiles in changes.items():
                if profiles:
                    yield project, group_key, name, kind, profiles
