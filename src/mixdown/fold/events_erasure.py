"""Erasing people's events: hidden at once from every read, then taken off the disk by the store's upkeep.

Enters: the jobs of `store.privacy` that stand in the log. Leaves: events without these people, and how far
that has come, for which the fold's eraser waits before it calls a job done. It runs in the process of the
events reader and may be killed at any moment: what it has done it may do again.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Final

import msgspec

from mixdown.store.privacy import STARTED, Deletion
from mixdown.store.protocols import Store

OWED_PAUSE_S: Final = 0.05


class EventsHidden(msgspec.Struct, frozen=True):
    """What one round did: so many jobs, and events that no read shows any more."""

    jobs: int
    events: int


class EventsEraser:
    """Hides the events of all jobs there are. `go_on` again and again."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def go_on(self) -> EventsHidden | None:
        """Do all jobs that wait and whose time has come; None where there are none. Raises `StoreError`."""
        store = self._store
        waiting = waiting_jobs(store)
        if not waiting:
            return None
        end = max(job.end_in(store.number) for job in waiting)
        # what was appended before them must have been taken; and the fold decides who is linked with whom
        if min(store.events.watermark(), store.state.watermark()) < end:
            return None
        hidden = 0
        for (project, below), ids in _targets(waiting, store.number).items():
            hidden += sum(store.events.forget(project, ids, below=below))
        store.events.note_forgotten(end)
        return EventsHidden(len(waiting), hidden)


def waiting_jobs(store: Store) -> list[Deletion]:
    """Jobs that stand in the log and whose people's events may still be shown."""
    done = store.events.forgotten()
    here = store.number
    return [job for job in store.privacy.unfinished() if job.status == STARTED and job.end_in(here) > done]


def _targets(jobs: list[Deletion], partition: int) -> dict[tuple[int, int], set[str]]:
    """Ids by (project, the position from which on they are new again); groups have no events of their own."""
    found: dict[tuple[int, int], set[str]] = defaultdict(set)
    for job in jobs:
        if not job.group_key:
            found[job.project, job.end_in(partition)].update(job.ids)
    return found


def remove_hidden(store: Store) -> None:
    """Take all hidden events off the disk, in this process: no server runs, and nobody need be waited for."""
    store.events.grace_ms = 0
    while any(store.events.owed(project) for project in store.events.projects()):
        if not store.events.tend(busy=False, now_ms=time.time_ns() // 1_000_000):
            time.sleep(OWED_PAUSE_S)
