"""Where the records of a request go, in a store with several partitions.

Updates, events and refusals of one request enter; a share of a chunk for each partition leaves. The records
of a project go to its partition, those of one marked large to the partitions of the profiles that they are
about, as they name them: that is why such updates address the very id (`IGNORE_ALIAS`). An event goes with
the link that it brings to the partition of the device, so that one fold sees all that is said of a device.
Refusals go to their project's own partition. Nothing is judged here; a store with one partition needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from mixdown.model import texts
from mixdown.model.updates import IGNORE_ALIAS, Update
from mixdown.store.chunk import (
    FOR_ALL,
    FOR_EVENTS,
    Link,
    Outcome,
    Segment,
    encode_event_segment,
    encode_filter,
    encode_segment,
)
from mixdown.store.places import profile_key_text
from mixdown.store.protocols import Append, Project, RefusedRecord, Store

USERS: Final = ""


class Envelope(msgspec.Struct, frozen=True):
    """What each share of a request says of it."""

    endpoint: str
    sdk: str
    key: bytes | None
    outcome: Outcome

    def told(self, shares: int) -> Outcome | None:
        """The outcome as it is kept with one of so many shares, for a retry to be answered with.

        Of several, no share tells what failed: it may quote a record that another partition's log has, and
        whoever erases that one would not find it here.
        """
        if self.key is None:
            return None
        if shares == 1 or not self.outcome.failed:
            return self.outcome
        failed = tuple((index, "", texts.REFUSED_BEFORE) for index, _, _ in self.outcome.failed)
        return Outcome(self.outcome.total, self.outcome.good, failed)


class Placing:
    """How records are spread over partitions. `partition_of` is `Store.partition_of`."""

    def __init__(self, partition_of: Callable[[int, str | None], int]) -> None:
        self._partition_of = partition_of

    def home(self, project: int) -> int:
        """The partition of a project: that of its refusals, and of all its records unless it is large."""
        return self._partition_of(project, None)

    def updates(
        self,
        envelope: Envelope,
        updates: Sequence[Update],
        refusals: Iterable[RefusedRecord],
        projects: Mapping[int, Project],
    ) -> tuple[Append, ...]:
        """The shares of a request of updates."""
        groups: dict[int, list[Update]] = {}
        for update in updates:
            project = projects.get(update.project)
            if project is not None and project.large:
                update.flags |= IGNORE_ALIAS
                key = profile_key_text(update.group_key, update.id)
                partition = self._partition_of(update.project, key)
            else:
                partition = self._partition_of(update.project, None)
            groups.setdefault(partition, []).append(update)
        told = envelope.told(len(groups))
        segments = {
            partition: Append(
                segment=encode_segment(Segment(envelope.endpoint, envelope.sdk, envelope.key, told, own)),
                count=len(own),
                id_filter=encode_filter([update.id for update in own]),
                partition=partition,
            )
            for partition, own in groups.items()
        }
        return self._with_refusals(segments, refusals)

    def events(
        self,
        envelope: Envelope,
        events: Sequence[tuple[int, Any]],
        links: Sequence[Link],
        refusals: Iterable[RefusedRecord],
        projects: Mapping[int, Project],
    ) -> tuple[Append, ...]:
        """The shares of a request of (project, event)s."""
        linked: dict[int, list[Link]] = {}
        for link in links:
            linked.setdefault(link.index, []).append(link)
        groups: dict[int, _Events] = {}
        for index, (number, event) in enumerate(events):
            project = projects.get(number)
            brought = linked.get(index, ())
            if project is not None and project.large:
                about = brought[0].one if brought else event.distinct_id
                partition = self._partition_of(number, profile_key_text(USERS, about))
            else:
                partition = self._partition_of(number, None)
            group = groups.setdefault(partition, _Events())
            for link in brought:
                group.links.append(msgspec.structs.replace(link, index=len(group.events)))
            group.events.append((number, event))
        told = envelope.told(len(groups))
        segments = {partition: group.append(envelope, told, partition) for partition, group in groups.items()}
        return self._with_refusals(segments, refusals)

    def _with_refusals(
        self, appends: dict[int, Append], refusals: Iterable[RefusedRecord]
    ) -> tuple[Append, ...]:
        """These shares, and those of the partitions that refusals go to."""
        kept: dict[int, list[RefusedRecord]] = {}
        for refusal in refusals:
            kept.setdefault(self.home(refusal.project), []).append(refusal)
        for partition, own in kept.items():
            append = appends.get(partition) or Append(b"", 0, b"", partition=partition)
            appends[partition] = msgspec.structs.replace(append, refusals=tuple(own))
        return tuple(appends[partition] for partition in sorted(appends))


class _Events(msgspec.Struct):
    """The events of a request that go to one partition, and the links that they bring."""

    events: list[tuple[int, Any]] = msgspec.field(default_factory=list)
    links: list[Link] = msgspec.field(default_factory=list)

    def append(self, envelope: Envelope, told: Outcome | None, partition: int) -> Append:
        """Their share of a chunk."""
        ids = {event.distinct_id for _, event in self.events}
        for link in self.links:
            ids.update((link.one, link.other))
        return Append(
            segment=encode_event_segment(
                envelope.endpoint, envelope.sdk, envelope.key, told, self.links, self.events
            ),
            count=len(self.events),
            id_filter=encode_filter(ids),
            kinds=FOR_ALL if self.links or envelope.key is not None else FOR_EVENTS,
            partition=partition,
        )


def placing_of(store: Store) -> Placing | None:
    """How a store's records are placed; None where all are in one partition."""
    return Placing(store.partition_of) if store.partition_count > 1 else None
