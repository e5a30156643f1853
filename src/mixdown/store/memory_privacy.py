"""Jobs of data protection in memory: the part of the model store that keeps them."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

import msgspec

from mixdown.store.privacy import (
    FINISHED_KEPT,
    PENDING,
    RETRIEVAL_LIFE_MS,
    RETRIEVALS_KEPT,
    REVOKED,
    STAGING,
    STARTED,
    SUCCESS,
    Deletion,
    Erasures,
    Retrieval,
    append_in_turn,
    check_unfinished,
    later_ends,
)
from mixdown.store.protocols import Append, Turn

_UNFINISHED = frozenset({PENDING, STAGING, STARTED})


class MemoryPrivacyJobs:
    """`PrivacyJobs` in memory."""

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._deletions: dict[str, Deletion] = {}
        self._retrievals: dict[str, Retrieval] = {}

    def add_deletion(self, deletion: Deletion) -> None:
        with self._guard:
            own = [held for held in self._deletions.values() if held.project == deletion.project]
            waiting = [held for held in own if held.status in _UNFINISHED]
            check_unfinished(len(waiting))
            done = sorted((held for held in own if held.status not in _UNFINISHED), key=_newest_first)
            for held in done[FINISHED_KEPT - 1 :]:
                del self._deletions[held.id]
            self._deletions[deletion.id] = deletion

    def deletion(self, project: int, job_id: str) -> Deletion | None:
        with self._guard:
            found = self._deletions.get(job_id)
            return found if found is not None and found.project == project else None

    def unfinished(self) -> list[Deletion]:
        with self._guard:
            found = [held for held in self._deletions.values() if held.status in _UNFINISHED]
            return sorted(found, key=lambda held: (held.requested_ms, held.id))

    def erasures(self, project: int) -> Erasures:
        with self._guard:
            own = [held for held in self._deletions.values() if held.project == project]
            under_way = sum(held.status in (STAGING, STARTED) for held in own)
            return Erasures(under_way, max((held.finished_ms for held in own), default=0))

    def claim(self, job_id: str, *, now_ms: int, stale_ms: int) -> bool:
        with self._guard:
            held = self._deletions.get(job_id)
            if held is None:
                return False
            stale = held.status == STAGING and held.claimed_ms < stale_ms
            if held.status != PENDING and not stale:
                return False
            self._deletions[job_id] = msgspec.structs.replace(held, status=STAGING, claimed_ms=now_ms)
            return True

    def widen(self, job_id: str, ids: Sequence[str]) -> None:
        with self._guard:
            held = self._deletions[job_id]
            if held.status == STAGING:
                self._deletions[job_id] = msgspec.structs.replace(held, ids=tuple(ids))

    def append(
        self, turn: Turn, append: Append, deletion: Deletion, ends: Sequence[int], *, now_ms: int, last: bool
    ) -> int | None:
        return append_in_turn(self, turn, append, deletion, ends, now_ms=now_ms, last=last)

    def started(self, job_id: str, positions: Sequence[int]) -> None:
        with self._guard:
            held = self._deletions[job_id]
            if held.status in (STAGING, STARTED):
                self._deletions[job_id] = msgspec.structs.replace(
                    held, status=STARTED, positions=later_ends(held.positions, positions)
                )

    def part_done(self, job_id: str, partition: int, report: bytes) -> None:
        with self._guard:
            held = self._deletions[job_id]
            parts = {**dict(held.parts), partition: report.decode()}
            if held.status == STARTED:
                self._deletions[job_id] = msgspec.structs.replace(held, parts=tuple(sorted(parts.items())))

    def revoke(self, job_id: str) -> bool:
        with self._guard:
            held = self._deletions.get(job_id)
            if held is None or held.status != PENDING:
                return False
            self._deletions[job_id] = msgspec.structs.replace(held, status=REVOKED, ids=())
            return True

    def forget_ids(self, job_ids: Sequence[str], report: bytes) -> None:
        with self._guard:
            for job_id in job_ids:
                self._deletions[job_id] = msgspec.structs.replace(
                    self._deletions[job_id], ids=(), report=report
                )

    def finish(self, job_ids: Sequence[str], *, now_ms: int, report: bytes) -> None:
        with self._guard:
            for job_id in job_ids:
                held = self._deletions[job_id]
                if held.status == STARTED:
                    self._deletions[job_id] = msgspec.structs.replace(
                        held, status=SUCCESS, finished_ms=now_ms, report=report
                    )

    def add_retrieval(self, retrieval: Retrieval) -> None:
        with self._guard:
            floor = retrieval.requested_ms - RETRIEVAL_LIFE_MS
            self._retrievals = {
                job_id: held for job_id, held in self._retrievals.items() if held.requested_ms > floor
            }
            own = [held for held in self._retrievals.values() if held.project == retrieval.project]
            for held in sorted(own, key=lambda held: -held.requested_ms)[RETRIEVALS_KEPT - 1 :]:
                del self._retrievals[held.id]
            self._retrievals[retrieval.id] = retrieval

    def retrieval(self, project: int, job_id: str, *, now_ms: int) -> Retrieval | None:
        with self._guard:
            held = self._retrievals.get(job_id)
            if held is None or held.project != project or held.requested_ms <= now_ms - RETRIEVAL_LIFE_MS:
                return None
            return held

    def forget_retrievals(self, project: int, group_key: str, ids: Collection[str]) -> int:
        with self._guard:
            wanted = frozenset(ids)
            gone = [
                held.id
                for held in self._retrievals.values()
                if (held.project, held.group_key) == (project, group_key) and not wanted.isdisjoint(held.ids)
            ]
            for job_id in gone:
                del self._retrievals[job_id]
            return len(gone)

    def close(self) -> None:
        """Nothing to release."""


def _newest_first(deletion: Deletion) -> int:
    return -deletion.requested_ms
