"""Profiles in memory: the model that other states are held to, plain where they are quick."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mixdown.model.expression import document_values
from mixdown.model.history import Change
from mixdown.store.chunk import Outcome
from mixdown.store.group_ids import group_id_of, next_group_id
from mixdown.store.history import HistoryRange, HistoryReach, HistorySize
from mixdown.store.memory_history import MemoryHistory
from mixdown.store.memory_identities import MemoryIdentities
from mixdown.store.memory_keys import MemoryKeys
from mixdown.store.memory_part import Part
from mixdown.store.memory_properties import MemoryProperties
from mixdown.store.protocols import (
    FoldResult,
    ProfileKey,
)
from mixdown.store.selection import Looked, Selection, judge, sort_key_of


class MemoryState(Part, MemoryProperties, MemoryIdentities):
    """`State` in memory."""

    def __init__(self, begin: int = 0) -> None:
        Part.__init__(self)
        MemoryProperties.__init__(self)
        MemoryIdentities.__init__(self)
        self._watermark = begin
        self._documents: dict[ProfileKey, bytes] = {}
        self._keys = MemoryKeys()
        self._group_keys: dict[int, dict[str, int]] = {}
        self._history = MemoryHistory()

    def take_in(self, part: MemoryState) -> None:
        """Hold what another partition's state holds as well."""
        with part._use():
            self._documents.update(part._documents)
            self._keys.take_in(part._keys)
            for project, named in part._group_keys.items():
                self._group_keys.setdefault(project, {}).update(named)
            self._history.take_in(part._history)
            self.take_in_properties(part)
            self.take_in_identities(part)

    def watermark(self) -> int:
        with self._use():
            return self._watermark

    def durable_watermark(self) -> int:
        return self.watermark()

    def checkpoint(self) -> int:
        return self.watermark()

    def documents_to_change(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        return self.documents(keys)

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
