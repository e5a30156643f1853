"""Erasing people: what stands of them before their deletion's records goes, a piece between two steps.

Enters: the jobs of `store.privacy`. Leaves: a log, sessions, refusals, cohorts, keys and files without these
people, and the jobs' reports. It runs in the fold's process, which alone writes the state, and may be killed
at any moment: a job that has its ids is done again from its beginning, and every part of it may be done
twice. Their events are hidden and rewritten in another process (`fold.events_erasure`): it waits for that. It
must never write an id to a log line, a metric or a report.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec
import orjson

from mixdown.fold.events_erasure import EventsEraser, remove_hidden
from mixdown.model.errors import CorruptStoreError
from mixdown.model.mentions import mentions
from mixdown.model.times import iso_seconds
from mixdown.store.chunk import FOR_PROFILES
from mixdown.store.privacy import (
    PENDING,
    STAGING,
    STALE_STAGING_MS,
    STARTED,
    Deletion,
    Rewritten,
    Targets,
    begin,
    hashes_of,
    targets_of,
    tombstoned,
)
from mixdown.store.protocols import Store

LOOK_EVERY_S: Final = 0.2
PIECE_S: Final = 0.02
BUSY_SHARE: Final = 4
"""While records come in, one part in so many of the time goes to erasing."""
LONGEST_REST_S: Final = 1.0
LONGEST_PIECE_S: Final = 1.0
HELD_UP_S: Final = 0.05
RETRY_S: Final = 1.0
_REFUSALS_AT_ONCE: Final = 10
_HISTORIES_AT_ONCE: Final = 100
_COUNTED_AT_ONCE: Final = 1000
_CHUNKS_AT_ONCE: Final = 200
_CHUNK_BYTES_AT_ONCE: Final = 2 * 1024 * 1024
_DAMAGED_TOLD: Final = 100
_NO_PROJECT: Final = 0

NOT_REACHED: Final = (
    "backups made before this job ended, and servers restored from them, until they are deleted",
    "exports, and whatever other systems have read",
    "texts of saved filters (cohorts) that name somebody",
    "lookup tables that name somebody, until they are replaced",
)


class EraserEvents(Protocol):
    """Where it reports (logs, metrics)."""

    def erased(self, jobs: int, people: int, records: int, seconds: float) -> None:
        """Jobs are done."""

    def failed(self, error: Exception) -> None:
        """A piece failed; the jobs are begun again."""


class _Tally(msgspec.Struct):
    """What was erased in one round."""

    records: int = 0
    chunks: int = 0
    refusals: int = 0
    history: int = 0


class Eraser:
    """Does all jobs there are in one round, and then those that came meanwhile. `go_on` again and again."""

    def __init__(
        self,
        store: Store,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        events: EraserEvents | None = None,
    ) -> None:
        self._store = store
        self._now_ms = now_ms
        self._events = events
        self._round: Iterator[bool] | None = None
        self._seen_at: dict[str, dict[int, int]] = {}
        self._due = self._ended = 0.0

    def go_on(self, *, busy: bool) -> bool:
        """Do a piece, if it is time to; whether there is more to do at once."""
        began = time.monotonic()
        if began < self._due:
            return False
        # a step under load may take seconds: a share of them is due here, or a round would never end
        share_s = min((began - self._ended) / (BUSY_SHARE - 1), LONGEST_PIECE_S) if busy else 0.0
        try:
            wait_s = self._piece(began, max(PIECE_S, share_s))
        except Exception as error:  # noqa: BLE001 - a full disk, perhaps: the fold comes first
            self._round = None
            if self._events is not None:
                self._events.failed(error)
            wait_s = RETRY_S
        self._ended = now = time.monotonic()
        if busy:
            wait_s = max(wait_s, min((BUSY_SHARE - 1) * (now - began), LONGEST_REST_S))
        self._due = now + wait_s
        return wait_s == 0

    def go_on_or_raise(self) -> bool:
        """Do a piece, after waiting where that must be; whether there is more to do. Raises `StoreError`."""
        wait_s = self._piece(time.monotonic(), PIECE_S)
        if self._round is not None:
            time.sleep(wait_s)
        return self._round is not None or wait_s == 0

    def _piece(self, began: float, piece_s: float) -> float:
        """Go on with the round for so long, or look for a new one; how long to wait then."""
        if self._round is None:
            jobs = self._begun()
            if not jobs:
                return LOOK_EVERY_S
            self._round = self._erase(jobs)
        while time.monotonic() - began < piece_s:
            got_on = next(self._round, None)
            if got_on is None:
                self._round = None
                break
            if not got_on:
                return HELD_UP_S
        return 0

    def _begun(self) -> list[Deletion]:
        """The jobs that stand in this partition's log, after those of its projects that are due were begun.

        A job begins when all that was acknowledged before it is folded: only then is it known who is linked
        with whom.
        """
        store, now_ms = self._store, self._now_ms()
        unfinished = store.privacy.unfinished()
        due = [
            job
            for job in unfinished
            if self._leads(job)
            and (
                (job.status == PENDING and job.due_ms <= now_ms)
                or (job.status == STAGING and job.claimed_ms < now_ms - STALE_STAGING_MS)
            )
        ]
        for job in due:
            places = store.places(store.partitions_of(job.project), FOR_PROFILES)
            heads = self._seen_at.setdefault(job.id, {place.partition: place.head for place in places})
            if all(place.profiles >= heads.get(place.partition, 0) for place in places):
                begin(store, job, now_ms=now_ms)
                del self._seen_at[job.id]
        if due:
            unfinished = store.privacy.unfinished()
        return [job for job in unfinished if job.status == STARTED and self._is_owed(job)]

    def _leads(self, job: Deletion) -> bool:
        """Whether this partition begins a job and ends it: the one that its project is at home in."""
        return self._store.partition_of(job.project) == self._store.number

    def _is_owed(self, job: Deletion) -> bool:
        """Whether there is something to do here for a job that stands in the log."""
        here = self._store.number
        return bool(job.end_in(here)) and (here not in dict(job.parts) or self._leads(job))

    def _erase(self, jobs: Sequence[Deletion]) -> Iterator[bool]:
        """One round, a piece at each step: True where it got on, False where it has to wait."""
        store, began = self._store, time.monotonic()
        tally = _Tally()
        yield from self._erase_here([job for job in jobs if store.number not in dict(job.parts)], tally)
        leading = [job for job in jobs if self._leads(job)]
        while not all(map(self._is_erased_everywhere, leading)):
            yield False
        for job in leading:
            if job.ids:
                counted = self._counted(job, tally)
                store.privacy.forget_ids([job.id], orjson.dumps(msgspec.to_builtins(counted)))
        if leading:
            yield from store.sweep()
        for job in leading:
            now_ms = self._now_ms()
            store.privacy.finish([job.id], now_ms=now_ms, report=self._report(job, tally, now_ms))
        if self._events is not None:
            people = sum(job.count for job in leading)
            self._events.erased(len(leading), people, tally.records, time.monotonic() - began)

    def _erase_here(self, jobs: Sequence[Deletion], tally: _Tally) -> Iterator[bool]:
        """What this partition holds of the people of these jobs."""
        if not jobs:
            return
        store, here = self._store, self._store.number
        # a log that was repaired may end before them
        end = min(max(job.end_in(here) for job in jobs), store.log.head())
        targets = targets_of(jobs, here)
        while store.state.watermark() < end:
            yield False
        if targets:
            yield from self._forget(targets, tally)
            # before any record of them is rewritten: a power cut must not bring back what they undid
            while store.state.checkpoint() < end:
                yield False
            yield from self._rewrite(targets, tally, below=end)
            while not self._events_are_gone(targets, end):
                yield False
        for job in jobs:
            if len(job.positions) > 1:
                store.privacy.part_done(job.id, here, orjson.dumps(msgspec.to_builtins(tally)))

    def _is_erased_everywhere(self, job: Deletion) -> bool:
        """Whether all partitions that have records of a job are done with it."""
        if len(job.positions) == 1:
            return True
        held = self._store.privacy.deletion(job.project, job.id)
        return held is None or len(held.parts) == len(held.positions)

    def _counted(self, job: Deletion, tally: _Tally) -> _Tally:
        """What was erased for a job: in this round, or in all partitions."""
        held = self._store.privacy.deletion(job.project, job.id)
        if len(job.positions) == 1 or held is None:
            return tally
        parts = [msgspec.json.decode(told, type=_Tally) for _, told in held.parts]
        return _Tally(
            sum(each.records for each in parts),
            sum(each.chunks for each in parts),
            sum(each.refusals for each in parts),
            sum(each.history for each in parts),
        )

    def _events_are_gone(self, targets: Targets, end: int) -> bool:
        """Whether the events reader's process has hidden their events and taken them off the disk."""
        events = self._store.events
        if events.forgotten() < end:
            return False
        return not any(events.owed(project) for project, group_key in targets if not group_key)

    def _forget(self, targets: Targets, tally: _Tally) -> Iterator[bool]:
        """What is read of them but the log: history, sessions, cohorts, retrievals, refusals."""
        store, folded_ms = self._store, self._now_ms()
        for (project, group_key), held in targets.items():
            yield from self._forget_history(project, group_key, held, tally)
            ids = list(held)
            if store.partition_of(project) == store.number:  # what has no partitions: once is enough
                store.cohorts.forget(project, group_key, ids)
                store.privacy.forget_retrievals(project, group_key, ids)
                yield from store.sessions.forget(
                    project, group_key, held.keys(), until_ms=folded_ms, now_ms=self._now_ms()
                )
            yield from self._forget_refusals(project, group_key, frozenset(held), tally)

    def _forget_history(
        self, project: int, group_key: str, held: Mapping[str, int], tally: _Tally
    ) -> Iterator[bool]:
        """What changed in their profiles, a few of them at once."""
        state = self._store.state
        while state.uncounted().get((project, group_key)) in held:  # one says how far the counting has come
            state.count_properties(_COUNTED_AT_ONCE)
            yield True
        of_position: dict[int, list[str]] = defaultdict(list)
        for each, position in held.items():
            of_position[position].append(each)
        for position, ids in of_position.items():
            for at in range(0, len(ids), _HISTORIES_AT_ONCE):
                keys = [(project, group_key, each) for each in ids[at : at + _HISTORIES_AT_ONCE]]
                tally.history += state.forget_history(keys, below=position)
                yield True

    def _forget_refusals(
        self, project: int, group_key: str, ids: frozenset[str], tally: _Tally
    ) -> Iterator[bool]:
        """Refused records that name them, those without a project included: nobody can say whose those are.

        Where their request carried a key, what its outcome quotes of them goes first: its neighbours may
        have been stored.
        """
        refusals = self._store.refusals
        before: int | None = None
        found: list[int] = []
        keys: set[bytes] = set()
        times_ms: set[int] = set()
        while page := refusals.listing([project, _NO_PROJECT], before_id=before, limit=_REFUSALS_AT_ONCE):
            for refusal in page:
                if mentions(refusal.record, ids, group_key):
                    found.append(refusal.id)
                    if refusal.request_key is not None:
                        keys.add(refusal.request_key)
                        times_ms.add(refusal.time_ms)
            before = page[-1].id
            yield True
        if keys:
            yield from self._rewrite({}, tally, below=self._store.log.head(), keys=keys, times_ms=times_ms)
            self._store.state.redact_keys(list(keys))
            self._store.events.redact_keys(list(keys))
        if found:
            tally.refusals += refusals.remove(found)

    def _rewrite(
        self,
        targets: Targets,
        tally: _Tally,
        *,
        below: int,
        keys: Collection[bytes] = (),
        times_ms: Collection[int] = (),
    ) -> Iterator[bool]:
        """Rewrite the chunks that begin below a position and hold them, or requests with these keys."""
        log = self._store.log
        hashes = hashes_of(each for held in targets.values() for each in held)
        waiting: list[Rewritten] = []
        at = log.tail_position()
        while at < below:
            firsts, at = log.holding(hashes, begin=at, below=below, times_ms=times_ms)
            for first in firsts:
                rewritten = self._rewritten(first, targets, keys)
                if rewritten is not None:
                    waiting.append(rewritten)
                    if len(waiting) >= _CHUNKS_AT_ONCE or _size(waiting) >= _CHUNK_BYTES_AT_ONCE:
                        self._replace(waiting, tally)
                yield True
            yield True
        self._replace(waiting, tally)

    def _rewritten(self, first: int, targets: Targets, keys: Collection[bytes]) -> Rewritten | None:
        """The chunk at a position without them; None where it needs no change, or cannot be read."""
        log = self._store.log
        chunks = log.read(first, max_records=1, max_bytes=1)
        if not chunks or chunks[0].first != first:  # damaged, or trimmed meanwhile
            return None
        try:
            return tombstoned(chunks[0], targets, keys)
        except CorruptStoreError as error:
            log.set_aside(chunks[0], error.message)
            return None

    def _replace(self, waiting: list[Rewritten], tally: _Tally) -> None:
        """Put rewritten chunks in place, and see to the outcomes that the state keeps of them."""
        if not waiting:
            return
        tally.chunks += self._store.log.rewrite(waiting)
        tally.records += sum(each.records for each in waiting)
        keys = [key for each in waiting for key in each.keys]
        if keys:
            self._store.state.redact_keys(keys)
            self._store.events.redact_keys(keys)
        waiting.clear()

    def _report(self, job: Deletion, tally: _Tally, now_ms: int) -> bytes:
        """What was erased, and what could not be reached."""
        counted = msgspec.json.decode(job.report, type=_Tally) if job.report else self._counted(job, tally)
        damaged = [
            {"first": first, "records": records}
            for first, records, _ in self._store.log.damaged()[:_DAMAGED_TOLD]
            if first < job.end_in(self._store.number)
        ]
        return orjson.dumps(
            {
                "people": job.count,
                "records": counted.records,
                "chunks": counted.chunks,
                "refusals": counted.refusals,
                "history": counted.history,
                "finished": iso_seconds(now_ms),
                "not_reached": list(NOT_REACHED),
                "damaged_chunks": damaged,
                "files": self._store.leftovers(),
            }
        )


def _size(waiting: Sequence[Rewritten]) -> int:
    return sum(len(each.chunk.body) for each in waiting)


def erase_all(store: Store) -> None:
    """Do all jobs that are due, in this process (no server runs). Raises `StoreError`."""
    eraser = Eraser(store)
    events = EventsEraser(store)
    while eraser.go_on_or_raise():
        events.go_on()
        remove_hidden(store)
