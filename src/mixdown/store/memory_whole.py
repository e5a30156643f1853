"""A store in memory with several partitions, as reads see it: all of them together.

The parts of each partition enter; what they hold together leaves, gathered anew at each call, since the model
is plain where others are quick. What belongs to one partition is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, cast

from mixdown.model.errors import StoreError
from mixdown.store.events import Events
from mixdown.store.memory_events import MemoryEvents
from mixdown.store.memory_log import MemoryRefusals
from mixdown.store.memory_state import MemoryState
from mixdown.store.places import first_of, partition_at
from mixdown.store.protocols import (
    ALL_REFUSALS,
    ProfileKey,
    PropertyIndex,
    RefusalCount,
    RefusalFilter,
    RefusalHead,
    RefusedRecord,
    State,
)

_OF_A_STATE: Final = frozenset(
    {
        "write",
        "checkpoint",
        "tend_history",
        "forget_history",
        "count_properties",
        "build_indexes",
        "uncounted",
    }
)
_OF_EVENTS: Final = frozenset({"write", "tend", "forget", "forgotten", "note_forgotten"})
_FAR: Final = 1 << 62


def _refuse(what: str) -> NoReturn:
    raise StoreError(f"{what}: this store has several partitions, and it is asked of one of them")


class NoLog:
    """Where there are several logs: none is the store's own."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(f"log.{name}")


class WholeRefusals:
    """`Refusals` of all partitions."""

    def __init__(self, parts: Sequence[MemoryRefusals]) -> None:
        self._parts = parts

    def listing(
        self,
        projects: Sequence[int] | None,
        *,
        before_id: int | None = None,
        limit: int = 100,
        wanted: RefusalFilter = ALL_REFUSALS,
    ) -> list[RefusedRecord]:
        found = [
            each
            for part in self._parts
            for each in part.listing(projects, limit=_FAR, wanted=wanted)
            if before_id is None or _place(each) < self._place_of(before_id)
        ]
        return sorted(found, key=_place, reverse=True)[:limit]

    def by_ids(self, ids: Sequence[int]) -> list[RefusedRecord]:
        return [each for part in self._parts for each in part.by_ids(ids)]

    def newest_id(self) -> int:
        _refuse("refusals.newest_id")

    def heads(self, after_id: int, *, limit: int) -> list[RefusalHead]:
        del after_id, limit
        _refuse("refusals.heads")

    def remove(self, ids: Sequence[int]) -> int:
        return sum(part.remove(ids) for part in self._parts)

    def counts(self) -> Mapping[int, tuple[int, int]]:
        counts: dict[int, tuple[int, int]] = {}
        for part in self._parts:
            for project, (records, size) in part.counts().items():
                known = counts.get(project, (0, 0))
                counts[project] = (known[0] + records, known[1] + size)
        return counts

    def reasons(self, projects: Sequence[int]) -> list[RefusalCount]:
        found: dict[tuple[str, str], RefusalCount] = {}
        for part in self._parts:
            for each in part.reasons(projects):
                name = (each.message, each.endpoint)
                known = found.get(name, RefusalCount(*name, 0, 0))
                newest = max(each.newest_id, known.newest_id)
                found[name] = RefusalCount(*name, known.count + each.count, newest)
        return list(found.values())

    def add(self, refusals: Sequence[RefusedRecord], now_ms: int) -> None:
        del refusals, now_ms
        _refuse("refusals.add")

    def _place_of(self, number: int) -> tuple[int, int]:
        """Where a refusal stands among all, or stood: by those of its partition that came next to it."""
        own = self._parts[partition_at(number)].listing(None, limit=_FAR)
        later = [each.time_ms for each in own if each.id >= number]
        earlier = [each.time_ms for each in own if each.id < number]
        return (later[-1] if later else earlier[0] if earlier else 0), number


def _place(refusal: RefusedRecord) -> tuple[int, int]:
    return refusal.time_ms, refusal.id


class _WholeState:
    """`State` of all partitions: what is not said here is asked of all that they hold."""

    def __init__(self, parts: Sequence[MemoryState], state_of: Callable[[ProfileKey], State]) -> None:
        self._parts = parts
        self._state_of = state_of

    def watermark(self) -> int:
        return sum(part.watermark() - first_of(number) for number, part in enumerate(self._parts))

    def durable_watermark(self) -> int:
        return self.watermark()

    def standing(self, key: ProfileKey) -> tuple[int, bytes | None]:
        return self._state_of(key).standing(key)

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        for part in self._parts:
            part.redact_keys(keys)

    def add_property_index(self, project: int, group_key: str, name: str) -> PropertyIndex:
        made = gathered_state(self._parts).add_property_index(project, group_key, name)
        for part in self._parts:
            part.take_index(made)
        return made

    def drop_property_index(self, project: int, group_key: str, name: str) -> None:
        for part in self._parts:
            part.drop_property_index(project, group_key, name)

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def __getattr__(self, name: str) -> Any:
        if name in _OF_A_STATE:
            _refuse(f"state.{name}")
        return getattr(gathered_state(self._parts), name)


def gathered_state(parts: Sequence[MemoryState]) -> MemoryState:
    """A state that holds what these hold together."""
    whole = MemoryState(_FAR)
    for part in parts:
        whole.take_in(part)
    return whole


def whole_state(parts: Sequence[MemoryState], state_of: Callable[[ProfileKey], State]) -> State:
    """The state of all partitions."""
    return cast("State", _WholeState(parts, state_of))


class _WholeEvents:
    """`Events` of all partitions, likewise."""

    def __init__(self, parts: Sequence[MemoryEvents]) -> None:
        self._parts = parts
        self.grace_ms = 0

    def watermark(self) -> int:
        return sum(part.watermark() - first_of(number) for number, part in enumerate(self._parts))

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        for part in self._parts:
            part.redact_keys(keys)

    def drop(self, project: int) -> None:
        for part in self._parts:
            part.drop(project)

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def __getattr__(self, name: str) -> Any:
        if name in _OF_EVENTS:
            _refuse(f"events.{name}")
        whole = MemoryEvents(_FAR)
        for part in self._parts:
            whole.take_in(part)
        return getattr(whole, name)


def whole_events(parts: Sequence[MemoryEvents]) -> Events:
    """The events of all partitions."""
    return cast("Events", _WholeEvents(parts))
