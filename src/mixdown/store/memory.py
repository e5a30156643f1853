"""The store in memory: the model that every other store is held to. One process, any thread.

Its guarantees but durability are those of the protocols; it is plain where others are quick.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from mixdown.store import bounds
from mixdown.store.chunk import FOR_ALL
from mixdown.store.events import Events
from mixdown.store.memory_catalog import MemoryCatalog
from mixdown.store.memory_cohorts import MemoryCohorts
from mixdown.store.memory_dictionary import MemoryDictionary
from mixdown.store.memory_events import MemoryEvents
from mixdown.store.memory_log import MemoryLog, MemoryRefusals
from mixdown.store.memory_lookup_tables import MemoryLookupTables
from mixdown.store.memory_part import Part
from mixdown.store.memory_privacy import MemoryPrivacyJobs
from mixdown.store.memory_reports import MemoryAnnotations, MemoryReports
from mixdown.store.memory_state import MemoryState
from mixdown.store.memory_whole import NoLog, WholeRefusals, whole_events, whole_state
from mixdown.store.places import (
    End,
    Logs,
    Place,
    all_views,
    ends_of,
    first_of,
    logs_of,
    partition_for,
    places_of,
    profile_key_text,
)
from mixdown.store.protocols import Log, ProfileKey, Refusals, Session, State, Store


class MemorySessions(Part):
    """`Sessions` in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[str, tuple[Session, list[str | None]]] = {}
        self._used_ms: dict[str, int] = {}

    def create(self, session: Session, ids: Iterable[str]) -> Session:
        taken: list[str | None] = list(ids)
        session = msgspec.structs.replace(session, total=len(taken))
        with self._use():
            self._held[session.id] = (session, taken)
            self._used_ms[session.id] = session.created_ms
            own = [held for held, _ in self._held.values() if held.project == session.project]
            own.sort(key=lambda held: self._used_ms[held.id])
            for held in own[: max(0, len(own) - bounds.SESSIONS_PER_PROJECT)]:
                del self._held[held.id], self._used_ms[held.id]
        return session

    def get(self, session_id: str, project: int, *, now_ms: int) -> Session | None:
        with self._use():
            session = self._held[session_id][0] if session_id in self._held else None
            if session is None or session.project != project:
                return None
            if now_ms - session.created_ms >= bounds.SESSION_LIFE_MS:
                return None
            if now_ms - self._used_ms[session_id] >= bounds.SESSION_TOUCH_MS:
                self._used_ms[session_id] = now_ms
            return session

    def page_ids(self, session_id: str, page: int) -> list[str]:
        with self._use():
            if session_id not in self._held or page < 0:
                return []
            session, ids = self._held[session_id]
            page_ids = ids[page * session.page_size : (page + 1) * session.page_size]
            return [each for each in page_ids if each is not None]

    def forget(
        self, project: int, group_key: str, ids: Collection[str], *, until_ms: int, now_ms: int
    ) -> Iterator[bool]:
        del now_ms  # a session is kept whole or not at all
        with self._use():
            for session_id, (session, held) in self._held.items():
                about = (session.project, session.group_key) == (project, group_key)
                if about and session.created_ms <= until_ms:
                    self._held[session_id] = (session, [None if each in ids else each for each in held])
        return iter(())


class MemoryStore:
    """`Store` in memory, gone with the process; with `partitions`, one of several."""

    def __init__(self, partitions: int = 1) -> None:
        self.catalog = MemoryCatalog()
        self.cohorts = MemoryCohorts(self.catalog)
        self.lookup_tables = MemoryLookupTables(self.catalog)
        self.dictionary = MemoryDictionary(self.catalog)
        self.reports = MemoryReports(self.catalog)
        self.annotations = MemoryAnnotations(self.catalog)
        self.sessions = MemorySessions()
        self.privacy = MemoryPrivacyJobs()
        self._views = [MemoryView(self, number) for number in range(partitions)]
        own = self._views[0]
        self.log: Log = own.log
        self.refusals: Refusals = own.refusals
        self.state: State = own.state
        self.events: Events = own.events
        if partitions > 1:
            self.log = NoLog()
            self.refusals = WholeRefusals([view.refusals for view in self._views])
            self.state = whole_state([view.state for view in self._views], self._state_of)
            self.events = whole_events([view.events for view in self._views])

    @property
    def partition_count(self) -> int:
        return len(self._views)

    @property
    def number(self) -> int:
        return 0

    def partition_of(self, project: int, key: str | None = None) -> int:
        return partition_for(self.partition_count, project, key)

    def partitions_of(self, project: int) -> Sequence[int]:
        found = self.catalog.project(project)
        if found is not None and found.large:
            return range(self.partition_count)
        return (self.partition_of(project),)

    def partition(self, number: int) -> Store:
        return self if self.partition_count == 1 else self._views[number]

    def places(self, partitions: Sequence[int], kinds: int = FOR_ALL) -> Sequence[Place]:
        return places_of([self.partition(number) for number in partitions], kinds)

    def logs(self) -> Logs:
        return logs_of(all_views(self))

    def ends(self, partitions: Sequence[int]) -> Mapping[int, End]:
        return ends_of([self.partition(number) for number in partitions])

    def sweep(self) -> Iterator[bool]:
        return iter(())

    def leftovers(self) -> list[str]:
        return []

    def close(self) -> None:
        for view in self._views:
            view.close_own()
        for part in (self.catalog, self.sessions):
            part.close()

    def _state_of(self, key: ProfileKey) -> State:
        """The state that has a profile."""
        project, group_key, profile_id = key
        spread = len(self.partitions_of(project)) > 1
        text = profile_key_text(group_key, profile_id) if spread else None
        return self._views[self.partition_of(project, text)].state


class MemoryView:
    """A store in memory as one of its partitions sees it."""

    def __init__(self, whole: MemoryStore, number: int) -> None:
        begin = first_of(number)
        self.number = number
        self.refusals = MemoryRefusals(begin)
        self.log = MemoryLog(self.refusals, begin)
        self.state = MemoryState(begin)
        self.events = MemoryEvents(begin)
        self.catalog = whole.catalog
        self.cohorts = whole.cohorts
        self.lookup_tables = whole.lookup_tables
        self.dictionary = whole.dictionary
        self.reports = whole.reports
        self.annotations = whole.annotations
        self.sessions = whole.sessions
        self.privacy = whole.privacy
        self._whole = whole

    @property
    def partition_count(self) -> int:
        return self._whole.partition_count

    def partition_of(self, project: int, key: str | None = None) -> int:
        return self._whole.partition_of(project, key)

    def partitions_of(self, project: int) -> Sequence[int]:
        return self._whole.partitions_of(project)

    def partition(self, number: int) -> Store:
        return self._whole.partition(number)

    def places(self, partitions: Sequence[int], kinds: int = FOR_ALL) -> Sequence[Place]:
        return self._whole.places(partitions, kinds)

    def logs(self) -> Logs:
        return self._whole.logs()

    def ends(self, partitions: Sequence[int]) -> Mapping[int, End]:
        return self._whole.ends(partitions)

    def sweep(self) -> Iterator[bool]:
        return iter(())

    def leftovers(self) -> list[str]:
        return []

    def close(self) -> None:
        self._whole.close()

    def close_own(self) -> None:
        """Release what this partition has for itself."""
        for part in (self.log, self.refusals, self.state, self.events):
            part.close()
