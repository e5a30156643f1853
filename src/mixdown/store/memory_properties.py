"""Properties in memory: the part of the model store that counts them, and keeps definitions of indexes.

It counts when asked, and needs no index.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Mapping

import msgspec
import orjson

from mixdown.model.errors import CatalogError
from mixdown.model.kinds import kind_of
from mixdown.store.bounds import INDEXES_PER_PROJECT
from mixdown.store.protocols import ProfileKey, PropertyCounts, PropertyIndex


class MemoryProperties(ABC):
    """What `State` says of properties and indexes; these are complete once `build_indexes` was asked."""

    _documents: dict[ProfileKey, bytes]

    def __init__(self) -> None:
        self._indexes: list[PropertyIndex] = []
        self._numbers = 0

    def take_in_properties(self, part: MemoryProperties) -> None:
        """Have the indexes of another partition, which has the same; one is complete where all are."""
        incomplete = {index.number for index in self._indexes if not index.complete}
        self._numbers = max(self._numbers, part._numbers)
        self._indexes = [
            msgspec.structs.replace(index, complete=index.complete and index.number not in incomplete)
            for index in part._indexes
        ]

    def take_index(self, index: PropertyIndex) -> None:
        """Have an index that was asked of the whole store."""
        self._numbers = index.number
        self._indexes.append(index)

    def property_counts(self, project: int, group_key: str, *, limit: int) -> PropertyCounts:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for key, document in list(self._documents.items()):
            if key[:2] == (project, group_key):
                for name, value in orjson.loads(document).items():
                    counts[name][kind_of(value)] += 1
        ranked = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))
        return PropertyCounts({name: dict(kinds) for name, kinds in ranked[:limit]}, complete=True)

    def uncounted(self) -> Mapping[tuple[int, str], str]:
        return {}

    def count_properties(self, limit: int) -> int:
        del limit
        return 0

    def property_indexes(self, project: int) -> list[PropertyIndex]:
        return [index for index in self._indexes if index.project == project]

    def add_property_index(self, project: int, group_key: str, name: str) -> PropertyIndex:
        held = self.property_indexes(project)
        if any((index.group_key, index.name) == (group_key, name) for index in held):
            raise CatalogError(f"there is an index on {name!r} already")
        if len(held) >= INDEXES_PER_PROJECT:
            raise CatalogError(f"a project has {INDEXES_PER_PROJECT} indexes at most")
        if group_key and group_key not in self.group_keys(project):
            raise CatalogError(f"there is no group key {group_key!r}")
        self._numbers += 1
        self._indexes.append(PropertyIndex(self._numbers, project, group_key, name))
        return self._indexes[-1]

    def drop_property_index(self, project: int, group_key: str, name: str) -> None:
        for index in self.property_indexes(project):
            if (index.group_key, index.name) == (group_key, name):
                self._indexes.remove(index)
                return
        raise CatalogError(f"there is no index on {name!r}")

    def build_indexes(self, limit: int) -> bool:
        del limit
        left = any(not index.complete for index in self._indexes)
        self._indexes = [msgspec.structs.replace(index, complete=True) for index in self._indexes]
        return left

    @abstractmethod
    def group_keys(self, project: int) -> dict[str, int]:
        """The project's group keys, as the state that this is part of has them."""
