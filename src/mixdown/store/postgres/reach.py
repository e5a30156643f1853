"""Which partitions a state reads, and which it writes: its own, or those that hold what is asked for.

Enters: a store's rule. Leaves: numbers of partitions. The view of one partition reads and writes that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from mixdown.store.places import profile_key_text
from mixdown.store.postgres.partitions import one_at_a_time
from mixdown.store.protocols import ProfileKey


class Layout(Protocol):
    """What a store says of its partitions (`protocols.Store`)."""

    @property
    def partition_count(self) -> int:
        """How many there are."""

    def partition_of(self, project: int, key: str | None = None) -> int:
        """The partition of a project's records; with `key`, that of the key."""

    def partitions_of(self, project: int) -> Sequence[int]:
        """The partitions that hold records of a project."""


class Place(NamedTuple):
    """Where profiles of a kind are: a partition, a project and a group key."""

    partition: int
    project: int
    group_key: str


class Reach:
    """The reach of a state: the view of partition `own`, or of all where it is None.

    `fence` gives the fence of the lease under which it writes; without it nobody else can be writing.
    """

    def __init__(self, layout: Layout, own: int | None, fence: Callable[[], int] | None = None) -> None:
        self._layout = layout
        self._own = 0 if own is None and layout.partition_count == 1 else own
        self.fence = fence

    @property
    def own(self) -> int:
        """The partition that is written. Raises `StoreError` where that is none."""
        if self._own is None:
            raise one_at_a_time("state")
        return self._own

    @property
    def all(self) -> Sequence[int]:
        """All partitions that are read."""
        return range(self._layout.partition_count) if self._own is None else (self._own,)

    def of_project(self, project: int) -> Sequence[int]:
        """Those that hold records of a project."""
        return self._layout.partitions_of(project) if self._own is None else (self._own,)

    def holds(self, project: int) -> bool:
        """Whether records of a project may be in the partition that is written."""
        return self.own in self._layout.partitions_of(project)

    def of_profile(self, key: ProfileKey) -> int:
        """That of a profile."""
        if self._own is not None:
            return self._own
        project, group_key, profile_id = key
        spread = len(self._layout.partitions_of(project)) > 1
        return self._layout.partition_of(project, profile_key_text(group_key, profile_id) if spread else None)

    def places(self, project: int, group_key: str) -> list[Place]:
        """Where profiles of a kind are."""
        return [Place(partition, project, group_key) for partition in self.of_project(project)]
