"""The store in memory: the model that every other store is held to. One process, any thread.

Its guarantees but durability are those of the protocols; it is plain where others are quick.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from mixdown.model.expression import document_values
from mixdown.model.history import Change
from mixdown.store import bounds
from mixdown.store.chunk import FOR_ALL, Chunk, Outcome, join_segments
from mixdown.store.group_ids import group_id_of, next_group_id
from mixdown.store.history import HistoryRange, HistoryReach, HistorySize
from mixdown.store.memory_catalog import MemoryCatalog
from mixdown.store.memory_cohorts import MemoryCohorts
from mixdown.store.memory_dictionary import MemoryDictionary
from mixdown.store.memory_events import MemoryEvents
from mixdown.store.memory_history import MemoryHistory
from mixdown.store.memory_identities import MemoryIdentities
from mixdown.store.memory_keys import MemoryKeys
from mixdown.store.memory_lookup_tables import MemoryLookupTables
from mixdown.store.memory_part import Part
from mixdown.store.memory_privacy import MemoryPrivacyJobs
from mixdown.store.memory_properties import MemoryProperties
from mixdown.store.privacy import Rewritten, filter_meets
from mixdown.store.protocols import (
    ALL_REFUSALS,
    Append,
    Appended,
    FoldResult,
    ProfileKey,
    RefusalCount,
    RefusalFilter,
    RefusalHead,
    RefusedRecord,
    Session,
)
from mixdown.store.selection import Looked, Selection, judge, sort_key_of


class MemoryRefusals(Part):
    """`Refusals` in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[int, RefusedRecord] = {}
        self._next_id = 1
        self.newest_ms = 0

    def listing(
        self,
        projects: Sequence[int] | None,
        *,
        before_id: int | None = None,
        limit: int = 100,
        wanted: RefusalFilter = ALL_REFUSALS,
    ) -> list[RefusedRecord]:
        with self._use():
            found = [
                refusal
                for refusal in reversed(self._kept.values())
                if (projects is None or refusal.project in projects)
                and (before_id is None or refusal.id < before_id)
                and bounds.is_wanted(refusal, wanted)
            ]
            return found[:limit]

    def by_ids(self, ids: Sequence[int]) -> list[RefusedRecord]:
        with self._use():
            return [self._kept[number] for number in sorted(set(ids)) if number in self._kept]

    def newest_id(self) -> int:
        with self._use():
            return self._next_id - 1

    def heads(self, after_id: int, *, limit: int) -> list[RefusalHead]:
        with self._use():
            found = [kept for kept in self._kept.values() if kept.id > after_id]
            return [(kept.id, kept.project, kept.time_ms) for kept in found[:limit]]

    def remove(self, ids: Sequence[int]) -> int:
        with self._use():
            return sum(self._kept.pop(number, None) is not None for number in ids)

    def counts(self) -> Mapping[int, tuple[int, int]]:
        with self._use():
            counts: dict[int, tuple[int, int]] = {}
            for refusal in self._kept.values():
                records, size = counts.get(refusal.project, (0, 0))
                counts[refusal.project] = (records + 1, size + bounds.refusal_bytes(refusal))
            return counts

    def reasons(self, projects: Sequence[int]) -> list[RefusalCount]:
        with self._use():
            found: dict[tuple[str, str], list[int]] = {}
            for refusal in self._kept.values():
                if refusal.project in projects:
                    found.setdefault((refusal.message, refusal.endpoint), []).append(refusal.id)
            return [RefusalCount(*key, len(ids), ids[-1]) for key, ids in found.items()]

    def add(self, refusals: Sequence[RefusedRecord], now_ms: int) -> None:
        with self._use():
            time_ms = max(now_ms, self.newest_ms)
            known: set[tuple[bytes | None, int]] = {
                (kept.request_key, kept.index) for kept in self._kept.values() if kept.request_key is not None
            }
            for refusal in [bounds.storable(refusal) for refusal in refusals]:
                place = (refusal.request_key, refusal.index)
                if place in known:
                    continue
                if refusal.request_key is not None:
                    known.add(place)
                self._kept[self._next_id] = msgspec.structs.replace(
                    refusal, id=self._next_id, time_ms=time_ms
                )
                self._next_id += 1
            for project in {refusal.project for refusal in refusals}:
                self._evict(project)

    def _evict(self, project: int) -> None:
        records_bound, bytes_bound = bounds.refusal_bounds(project)
        own = [refusal for refusal in self._kept.values() if refusal.project == project]
        size = sum(map(bounds.refusal_bytes, own))
        for place, refusal in enumerate(own):
            if len(own) - place <= records_bound and size <= bytes_bound:
                return
            size -= bounds.refusal_bytes(refusal)
            del self._kept[refusal.id]


class MemoryLog(Part):
    """`Log` in memory."""

    def __init__(self, refusals: MemoryRefusals) -> None:
        super().__init__()
        self._refusals = refusals
        self._turn = threading.Lock()
        self._chunks: list[Chunk] = []
        self._filters: dict[int, bytes] = {}
        self._head = 0
        self._damaged: dict[int, tuple[int, int, str]] = {}

    @contextmanager
    def turn(self) -> Iterator[MemoryLog]:
        with self._turn:
            yield self

    def append(self, appends: Sequence[Append], now_ms: int) -> Appended:
        """`Turn.append`: the log itself is the turn that it gives out."""
        with self._use():
            count = sum(append.count for append in appends)
            first = self._head
            time_ms = max(now_ms, self._refusals.newest_ms)
            self._refusals.add([refusal for append in appends for refusal in append.refusals], time_ms)
            if count:
                body = join_segments([append.segment for append in appends if append.count])
                kinds = 0
                for append in appends:
                    kinds |= append.kinds if append.count else 0
                self._chunks.append(Chunk(first, count, time_ms, body, kinds))
                self._filters[first] = b"".join([append.id_filter for append in appends])
                self._head += count
                self._refusals.newest_ms = time_ms
            return Appended(first, self._head, time_ms)

    def head(self) -> int:
        with self._use():
            return self._head

    def tail_position(self) -> int:
        with self._use():
            return self._chunks[0].first if self._chunks else self._head

    def read(self, watermark: int, *, max_records: int, max_bytes: int, kinds: int = FOR_ALL) -> list[Chunk]:
        with self._use():
            taken: list[Chunk] = []
            records = size = 0
            for chunk in self._chunks[bisect_left(self._chunks, watermark + 1, key=lambda held: held.end) :]:
                if chunk.kinds & kinds:
                    if records and (
                        records + chunk.count > max_records or size + len(chunk.body) > max_bytes
                    ):
                        break
                    records += chunk.count
                    size += len(chunk.body)
                    taken.append(chunk)
                    if records >= max_records or size >= max_bytes:
                        break
                elif taken and not taken[-1].body:
                    run = taken.pop()
                    taken.append(Chunk(run.first, run.count + chunk.count, chunk.time_ms, b"", 0))
                else:
                    taken.append(Chunk(chunk.first, chunk.count, chunk.time_ms, b"", 0))
            return taken

    def next_of(self, watermark: int, kinds: int) -> int:
        with self._use():
            found = (held.first for held in self._chunks if held.first >= watermark and held.kinds & kinds)
            return next(found, self._head)

    def skip_damaged(self, watermark: int) -> int:
        position = watermark
        for first, count, _ in self.damaged():
            if first == position:
                position += count
        return position

    def holding(
        self, hashes: frozenset[int], *, begin: int, below: int, times_ms: Collection[int] = ()
    ) -> tuple[list[int], int]:
        with self._use():
            asked = [chunk for chunk in self._chunks if begin <= chunk.first < below]
            found = [
                chunk.first
                for chunk in asked
                if chunk.time_ms in times_ms or filter_meets(self._filters[chunk.first], hashes)
            ]
            return found, below

    def rewrite(self, rewritten: Sequence[Rewritten]) -> int:
        with self._use():
            taking = {each.chunk.first: each.chunk for each in rewritten}
            held = {chunk.first for chunk in self._chunks}
            self._chunks = [taking.get(chunk.first, chunk) for chunk in self._chunks]
            self._filters.update(
                (each.chunk.first, each.id_filter) for each in rewritten if each.chunk.first in held
            )
            return len(held.intersection(taking))

    def damaged(self) -> list[tuple[int, int, str]]:
        with self._use():
            return [self._damaged[first] for first in sorted(self._damaged)]

    def set_aside(self, chunk: Chunk, reason: str) -> None:
        with self._use():
            self._damaged.setdefault(chunk.first, (chunk.first, chunk.count, reason))

    def trim(self, below: int, older_than_ms: int) -> int:
        with self._use():
            trimmed = 0
            for chunk in self._chunks:
                if chunk.end > below or chunk.time_ms >= older_than_ms:
                    break
                trimmed += 1
                del self._filters[chunk.first]
            del self._chunks[:trimmed]
            return trimmed

    def size_bytes(self) -> int:
        with self._use():
            return sum(len(chunk.body) for chunk in self._chunks)

    def time_at(self, position: int) -> int:
        with self._use():
            index = bisect_left(self._chunks, position + 1, key=lambda held: held.end)
            return self._chunks[index].time_ms if index < len(self._chunks) else 0

    def newest_ms(self) -> int:
        with self._use():
            return self._refusals.newest_ms


class MemoryState(Part, MemoryProperties, MemoryIdentities):
    """`State` in memory."""

    def __init__(self) -> None:
        Part.__init__(self)
        MemoryProperties.__init__(self)
        MemoryIdentities.__init__(self)
        self._watermark = 0
        self._documents: dict[ProfileKey, bytes] = {}
        self._keys = MemoryKeys()
        self._group_keys: dict[int, dict[str, int]] = {}
        self._history = MemoryHistory()

    def watermark(self) -> int:
        with self._use():
            return self._watermark

    def durable_watermark(self) -> int:
        return self.watermark()

    def checkpoint(self) -> int:
        return self.watermark()

    def documents(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        with self._use():
            return [self._documents.get(key) for key in keys]

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        with self._use():
            return self._keys.find(keys, since_ms)

    def write(self, result: FoldResult) -> None:
        with self._use():
            profiles = list(result.profiles)  # first all: what it raises changes nothing
            if profiles or result.history is not None:
                self._history.keep(result.history)
            for key, document in profiles:
                if document is None:
                    self._documents.pop(key, None)
                else:
                    self._name_group(key[0], key[1])
                    self._documents[key] = document
            self._keys.write(result.keys, result.now_ms)
            self.write_identities(result.identities)
            self._watermark = result.watermark

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        with self._use():
            self._keys.redact(keys)

    def ids(self, project: int, group_key: str) -> Iterator[str]:
        return iter(self._ids(project, group_key))

    def count(self, project: int, group_key: str) -> int:
        return len(self._ids(project, group_key))

    def matching(self, project: int, group_key: str, selection: Selection) -> Iterator[str]:
        with self._use():
            wants = judge(selection)
            ids = [
                profile_id
                for profile_id in self._ids(project, group_key)
                if wants(profile_id, self._documents[project, group_key, profile_id])
            ]
            if selection.sort_key is not None:
                key_of = sort_key_of(selection)
                ids.sort(
                    key=lambda profile_id: key_of(profile_id, self._documents[project, group_key, profile_id])
                )
            return iter(ids)

    def values(self, project: int, group_key: str, selection: Selection) -> Iterator[list[Any]]:
        assert selection.sort_key is not None
        value_of = document_values(selection.sort_key, selection.context)
        ids = list(self.matching(project, group_key, selection))
        documents = self.documents([(project, group_key, profile_id) for profile_id in ids])
        return iter([[value_of(at, found) for at, found in zip(ids, documents, strict=True) if found]])

    def tally(self, project: int, group_key: str, selections: Sequence[Selection]) -> list[int]:
        return [len(list(self.matching(project, group_key, selection))) for selection in selections]

    def page(self, project: int, group_key: str, *, offset: int, limit: int) -> list[tuple[str, bytes]]:
        with self._use():
            wanted = self._ids(project, group_key)[offset : offset + limit]
            return [(profile_id, self._documents[project, group_key, profile_id]) for profile_id in wanted]

    def profiles_after(
        self, project: int, group_key: str, *, after: str, limit: int
    ) -> list[tuple[str, bytes]]:
        with self._use():
            wanted = [each for each in self._ids(project, group_key) if each > after][:limit]
            return [(profile_id, self._documents[project, group_key, profile_id]) for profile_id in wanted]

    def look(
        self, project: int, group_key: str, selection: Selection, *, after: str, limit: int, rows: int
    ) -> Looked:
        wants = judge(selection)
        with self._use():
            ahead = [each for each in self._ids(project, group_key) if each > after]
            found: list[tuple[str, bytes]] = []
            for place, profile_id in enumerate(ahead[:rows]):
                document = self._documents[project, group_key, profile_id]
                if wants(profile_id, document):
                    found.append((profile_id, document))
                if len(found) == limit or place + 1 == rows:
                    return Looked(found, place + 1, profile_id if place + 1 < len(ahead) else None)
            return Looked(found, len(ahead), None)

    def group_keys(self, project: int) -> dict[str, int]:
        with self._use():
            return dict(sorted(self._group_keys.get(project, {}).items()))

    def standing(self, key: ProfileKey) -> tuple[int, bytes | None]:
        with self._use():
            return self._watermark, self._documents.get(key)

    def history(self, key: ProfileKey, *, below: int, since_ms: int = 0) -> Iterator[Change]:
        with self._use():
            return iter(self._history.of(key, below, since_ms))

    def history_between(
        self, project: int, group_key: str, begin: str, end: str | None, *, since_ms: int
    ) -> HistoryRange:
        with self._use():
            ids = sorted(
                key[2]
                for key in {*self._documents, *self._history.keys()}
                if key[:2] == (project, group_key) and key[2] >= begin and (end is None or key[2] < end)
            )
            keys = [(project, group_key, profile_id) for profile_id in ids]
            documents = {key[2]: self._documents[key] for key in keys if key in self._documents}
            changes = {key[2]: self._history.of(key, self._watermark, since_ms) for key in keys}
            return HistoryRange(end, documents, {name: found for name, found in changes.items() if found})

    def id_after(self, project: int, group_key: str, begin: str, count: int) -> str | None:
        return next(iter([name for name in self._ids(project, group_key) if name >= begin][count:]), None)

    def history_size(self) -> HistorySize:
        with self._use():
            return self._history.size()

    def history_reach(self) -> HistoryReach:
        with self._use():
            return self._history.reach()

    def tend_history(self, *, keep_from_ms: int, limit_bytes: int) -> bool:
        with self._use():
            return self._history.tend(keep_from_ms, limit_bytes)

    def forget_history(self, keys: Sequence[ProfileKey], *, below: int) -> int:
        with self._use():
            return self._history.forget(keys, below)

    def key_window(self) -> tuple[int, int]:
        with self._use():
            return self._keys.window()

    def _ids(self, project: int, group_key: str) -> list[str]:
        with self._use():
            # strings compare by code point
            return sorted(key[2] for key in self._documents if key[:2] == (project, group_key))

    def _name_group(self, project: int, group_key: str) -> None:
        named = self._group_keys.setdefault(project, {})
        if not group_key or group_key in named:
            return
        group_id = group_id_of(project, group_key)
        while group_id in named.values():
            group_id = next_group_id(group_id)
        named[group_key] = group_id


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
    """`Store` in memory, gone with the process."""

    def __init__(self) -> None:
        self.refusals = MemoryRefusals()
        self.log = MemoryLog(self.refusals)
        self.state = MemoryState()
        self.catalog = MemoryCatalog()
        self.cohorts = MemoryCohorts(self.catalog)
        self.lookup_tables = MemoryLookupTables(self.catalog)
        self.dictionary = MemoryDictionary(self.catalog)
        self.sessions = MemorySessions()
        self.privacy = MemoryPrivacyJobs()
        self.events = MemoryEvents()

    def sweep(self) -> Iterator[bool]:
        return iter(())

    def leftovers(self) -> list[str]:
        return []

    def close(self) -> None:
        for part in (self.log, self.refusals, self.state, self.catalog, self.sessions, self.events):
            part.close()
