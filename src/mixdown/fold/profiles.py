"""The profile reader: chunks in, profiles and watermark out, in one transaction (DESIGN §1.4).

It takes what waits, groups it by profile, and decodes, changes and encodes one profile at a time:
the more load, the fewer page writes a record costs. It never stops on a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Final

import msgspec
import orjson

from mixdown.fold.identity import LinkCounts, Linking, StepIdentities, refusal_of
from mixdown.fold.overlap import Changed, Documents, write_overlapped
from mixdown.fold.properties import PropertyChanges, kept
from mixdown.model import texts
from mixdown.model.errors import CorruptStoreError, StoreError
from mixdown.model.history import Taken, Trace, taken_by_one
from mixdown.model.limits import KEY_WINDOW_MS, PROFILE_LIMIT_BYTES
from mixdown.model.operators import (
    LAST_SEEN,
    OPERATOR_NAMES,
    SHRINKING,
    Crowd,
    Properties,
    apply_operations,
)
from mixdown.model.times import iso_seconds
from mixdown.model.updates import IGNORE_ALIAS, IGNORE_TIME, digest_key
from mixdown.store.batches import documents_in_batches
from mixdown.store.chunk import FOR_PROFILES, Chunk, LoggedSegment, Outcome, decode_body
from mixdown.store.history import HistoryFeed, HistoryRecord, Span
from mixdown.store.identities import UNMERGE
from mixdown.store.protocols import FoldResult, ProfileKey, RefusedRecord, Store

GROUP_LIMIT_RECORDS: Final = 100_000
GROUP_LIMIT_BYTES: Final = 64 * 1024 * 1024
OVERLAP_FROM_PROFILES: Final = 4096
"""From so many profiles on, a second thread reads and writes while this one folds."""
FIRST_AT_ONCE: Final = 64
PROFILES_AT_ONCE: Final = 2048
DOCUMENT_BYTES_AT_ONCE: Final = 16 * 1024 * 1024
"""Documents are read so many at once, and fewer where they are large."""
ROOMY_BYTES: Final = 8192
"""Below this many bytes of document and payloads, neither 2000 properties nor 256 KB can be reached."""

GROWTH_FACTOR: Final = 4
"""A document grows by less than so many times a payload: `{"n":1}` may add brackets, or 20 digits."""
RECORD_OVERHEAD_BYTES: Final = 2048
"""More than a record adds whatever its payload: `$last_seen` and a location."""

_SPELLED_OTHERWISE: Final = b'": '
"""Nothing that the fold has encoded has this outside of texts."""
_FULL: Final = texts.PROFILE_FULL.format(limit=PROFILE_LIMIT_BYTES)

# Not orjson's: its buffers, kept by the thousand until they are written, make malloc give memory back
# to the system and fault it in again, which costs six times as much as the encoding itself.
_encode: Final = msgspec.json.Encoder().encode
# Chunk times: many records share one.
_arrival: Final = lru_cache(maxsize=1024)(iso_seconds)
_NAMES: Final = {code: name for name, code in OPERATOR_NAMES.items()}


class _Tally(msgspec.Struct):
    """What a step has written so far, and how many records it could not apply."""

    profiles: int = 0
    failed: int = 0


class _Writes(msgspec.Struct):
    """What folding the profiles of a step gives beside their documents; no `history` where none is kept."""

    properties: PropertyChanges
    failures: list[RefusedRecord]
    history: HistoryFeed | None


class Folded(msgspec.Struct, frozen=True):
    """What one step did, for logs and metrics.

    `recognised` counts records of retries; `recognised_by_request` those whose request carried the key.
    `links` is there where the step had to do with identities.
    """

    records: int
    profiles: int
    recognised: int
    failed: int
    watermark: int
    recognised_by_request: int = 0
    links: LinkCounts | None = None


Groups = dict[tuple[int, str], dict[str, list[HistoryRecord]]]
"""Records by (project, group key), then by id."""


class _Plan(msgspec.Struct):
    """What a step does: the records by profile, the profiles in order, the new keys, what was left out.

    `identities` is there where it has to do with links between ids.
    """

    groups: Groups = {}
    order: list[ProfileKey] = []
    fresh: dict[bytes, tuple[int, Outcome | None]] = {}
    recognised: int = 0
    recognised_by_request: int = 0
    identities: StepIdentities | None = None

    def close(self) -> None:
        """Everything is planned: put the profiles in order."""
        groups = self.groups
        self.order = [(*pair, profile_id) for pair in sorted(groups) for profile_id in sorted(groups[pair])]

    def keys(self) -> list[tuple[bytes, int, Outcome | None]]:
        """The new keys, when they came, and what their requests were answered."""
        return [(key, at, outcome) for key, (at, outcome) in self.fresh.items()]


_Decoded = tuple[Chunk, list[LoggedSegment]]


class _Taken(msgspec.Struct):
    """What waits in the log from `begin` to `end`: planned up to what needs the state, then decoded."""

    begin: int
    end: int
    first_ms: int
    last_ms: int
    plan: _Plan
    decoded: list[_Decoded]
    asked: list[bytes]


def _plan(plan: _Plan, decoded: list[_Decoded], known: dict[bytes, Outcome | None]) -> None:
    """Group records by profile, leaving out those whose key was seen (DESIGN G2); `decoded` is used up."""
    fresh, groups, identities = plan.fresh, plan.groups, plan.identities
    recognised = by_request = 0
    canonical: Callable[[str], str] | None = None
    pair = (-1, "")
    profiles: dict[str, list[HistoryRecord]] = {}
    for chunk, segments in decoded:
        position = chunk.first
        time_ms = chunk.time_ms
        for segment in segments:
            if segment.key is not None:
                if segment.key in known or segment.key in fresh:
                    recognised += segment.records
                    by_request += segment.records
                    position += segment.records
                    continue
                fresh[segment.key] = (time_ms, segment.outcome)
            if identities is not None:
                identities.take(segment, position, time_ms)
            if segment.endpoint == UNMERGE:
                position += segment.records
                continue
            source = f"{segment.endpoint} {segment.sdk}"
            for update in segment.updates:
                key = update.key
                if key is not None:
                    if key in known or key in fresh:
                        recognised += 1
                        position += 1
                        continue
                    fresh[key] = (time_ms, None)
                if update.project != pair[0] or update.group_key != pair[1]:
                    pair = (update.project, update.group_key)
                    profiles = groups.setdefault(pair, {})
                    canonical = None
                    if identities is not None and not update.group_key:
                        canonical = identities.canonical_in(update.project)
                step = HistoryRecord(
                    position, time_ms, source, update.time_ms, update.flags, update.geo, update.content
                )
                profile_id = update.id
                if canonical is not None and not update.flags & IGNORE_ALIAS:
                    profile_id = canonical(profile_id)
                steps = profiles.get(profile_id)
                if steps is None:
                    profiles[profile_id] = [step]
                else:
                    steps.append(step)
                position += 1
            position += segment.event_count
    decoded.clear()
    plan.recognised += recognised
    plan.recognised_by_request += by_request


def _unless_same(stored: bytes | None, folded: bytes) -> bytes:
    """What was folded; `stored` itself where that says the same, perhaps spelled otherwise."""
    if stored is None:
        return folded
    same = folded == stored or (_SPELLED_OTHERWISE in stored and _encode(orjson.loads(stored)) == folded)
    return stored if same else folded


def _only_shrinks(step: HistoryRecord) -> bool:
    return all(code in SHRINKING for code, _ in step.operations)


class ProfileFold:
    """Folds the log into `store.state`. One instance, in one process, writes a state."""

    def __init__(
        self,
        store: Store,
        *,
        max_records: int = GROUP_LIMIT_RECORDS,
        max_bytes: int = GROUP_LIMIT_BYTES,
        apply: Callable[..., Properties | None] = apply_operations,
        history: bool = True,
    ) -> None:
        self._store = store
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._apply = apply
        self._keeps_history = history
        self._watermark = store.state.watermark()
        self._uncertain = False
        self._first_at_once = FIRST_AT_ONCE
        self._ahead: _Taken | None = None
        self._thread = ThreadPoolExecutor(1, "fold-writer")
        self._tokens: dict[int, str] | None = None
        self._linking = Linking(store.state)

    @property
    def watermark(self) -> int:
        """The position of the next record to fold."""
        return self._watermark

    def waits(self, head: int) -> bool:
        """Whether there is something to fold, or a step is to tell, when the log ends at `head`."""
        return self._uncertain or self._watermark < head

    def close(self) -> None:
        """End the thread that writes."""
        self._thread.shutdown(wait=True)

    def step(self) -> Folded | None:
        """Fold what waits, up to the limits, in one transaction; None when nothing waits."""
        if self._uncertain:  # the last write raised, and perhaps only behind its commit: a checkpoint, say
            self._watermark = self._store.state.watermark()
            self._linking.start_over()
            self._uncertain = False
        taken = self._ahead
        self._ahead = None
        if taken is None or taken.begin != self._watermark:
            taken = self._take(self._watermark)
        if taken is None:
            return None
        self._tokens = None
        tally = _Tally()
        self._uncertain = True
        plan = taken.plan
        if taken.decoded:
            plan.identities = self._linking.step(taken.decoded)
            _plan(plan, taken.decoded, self._known(taken.asked, taken.first_ms))
            plan.close()
        self._write(taken, plan, tally)
        self._uncertain = False
        records = taken.end - self._watermark
        self._watermark = taken.end
        return Folded(
            records,
            tally.profiles,
            plan.recognised,
            tally.failed,
            taken.end,
            plan.recognised_by_request,
            None if plan.identities is None else plan.identities.counts(),
        )

    def _take(self, begin: int) -> _Taken | None:
        """Read and decode what waits from `begin` on, up to the limits; None when nothing waits."""
        chunks = self._store.log.read(
            begin, max_records=self._max_records, max_bytes=self._max_bytes, kinds=FOR_PROFILES
        )
        end = chunks[-1].end if chunks else self._store.log.skip_damaged(begin)
        if end <= begin:
            return None
        times = (chunks[0].time_ms, chunks[-1].time_ms) if chunks else (0, 0)
        taken = _Taken(begin, end, *times, _Plan(), [], [])
        linking = False
        for chunk in chunks:
            if not chunk.body:  # of events alone
                continue
            try:
                segments = decode_body(chunk.body)
            except CorruptStoreError as error:
                self._store.log.set_aside(chunk, error.message)
                continue
            taken.decoded.append((chunk, segments))
            linking = linking or self._linking.concern(segments)
            for segment in segments:
                if segment.key is not None:
                    taken.asked.append(segment.key)
                taken.asked.extend([update.key for update in segment.updates if update.key is not None])
            if not taken.asked and not linking:  # at once, so that no more than a chunk is held in both forms
                _plan(taken.plan, taken.decoded, {})
        if not taken.decoded:
            taken.plan.close()
        return taken

    def _take_ahead(self, taken: _Taken) -> None:
        """Take what the next step will fold, where much waits; what fails now is done again then."""
        if taken.end - taken.begin >= self._max_records // 2:
            with suppress(StoreError):
                self._ahead = self._take(taken.end)

    def _known(self, asked: list[bytes], first_ms: int) -> dict[bytes, Outcome | None]:
        if not asked:
            return {}
        return self._store.state.known_keys(asked, since_ms=first_ms - KEY_WINDOW_MS)

    def _write(self, taken: _Taken, plan: _Plan, tally: _Tally) -> None:
        """Fold and write the profiles of a step; many of them in two threads."""
        failures: list[RefusedRecord] = []
        writes = _Writes(PropertyChanges(self._store.state.uncounted()), failures, self._history_of(taken))

        def fold(keys: Sequence[ProfileKey], documents: list[bytes | None]) -> Changed:
            changed: Changed = []
            for key, stored in zip(keys, documents, strict=True):
                steps = plan.groups[key[0], key[1]].pop(key[2])
                folded = self._fold_carefully(key, stored, steps, writes)
                if folded is not stored:
                    changed.append((key, folded))
            tally.profiles += len(changed)
            return changed

        def all_folded() -> None:
            if failures:
                tally.failed = len(failures)
                self._keep(failures)
            if plan.identities is not None and plan.identities.failed:
                failed = plan.identities.failed
                self._keep([refusal_of(each, self._token(each.link.project)) for each in failed])
            if writes.history is not None:
                writes.history.close()

        def write(profiles: Iterator[tuple[ProfileKey, bytes | None]]) -> None:
            self._store.state.write(
                FoldResult(
                    taken.end,
                    profiles,
                    plan.keys(),
                    taken.last_ms,
                    writes.properties.all,
                    writes.history,
                    () if plan.identities is None else plan.identities.writes(),
                    taken.begin,
                )
            )

        def profiles() -> Iterator[tuple[ProfileKey, bytes | None]]:
            for keys, documents in self._read(plan.order):
                yield from fold(keys, documents)
            all_folded()

        if len(plan.order) < OVERLAP_FROM_PROFILES:
            write(profiles())
            return
        write_overlapped(
            self._thread,
            reads=self._read(plan.order),
            profiles=len(plan.order),
            fold=fold,
            folded=all_folded,
            write=write,
            meanwhile=lambda: self._take_ahead(taken),
        )

    def _history_of(self, taken: _Taken) -> HistoryFeed | None:
        if not self._keeps_history:
            return None
        return HistoryFeed(Span(taken.begin, taken.end, taken.first_ms, taken.last_ms))

    def _read(self, order: Sequence[ProfileKey]) -> Iterator[Documents]:
        """The documents of `order`, read in the transaction that changes them; few where they are large."""
        most = 0
        for keys, documents in documents_in_batches(
            self._store.state.documents_to_change,
            order,
            first=self._first_at_once,
            most=PROFILES_AT_ONCE,
            roomy_bytes=DOCUMENT_BYTES_AT_ONCE,
        ):
            most = max(most, len(keys))
            yield keys, documents
        # the next step will be much like this one: each batch may be a round trip
        self._first_at_once = max(FIRST_AT_ONCE, 2 * most)

    def _fold_profile(
        self, key: ProfileKey, stored: bytes | None, steps: Sequence[HistoryRecord], writes: _Writes
    ) -> tuple[bytes | None, list[HistoryRecord]]:
        """The document after these records, and those of them that a full profile does not take.

        Whether a profile is full is asked of its exact size before a record, never of how records are
        grouped, so that a re-fold gives the same; measured only where payloads could have filled it.
        """
        doc: Properties | None = None if stored is None else orjson.loads(stored)
        last_seen, plain = (None, False) if doc is None else (doc.get(LAST_SEEN), LAST_SEEN in doc)
        before = None if doc is None or plain else doc.copy()
        changed: list[str] = []
        taken: Taken | None = None
        trace: Trace | None = None
        followed = doc is not None and writes.history is not None
        size = at_most = 0 if stored is None else len(stored)
        crowd: Crowd | None = None
        turned_away: list[HistoryRecord] = []
        for step in steps:
            if at_most >= PROFILE_LIMIT_BYTES:
                at_most = 0 if doc is None else len(_encode(doc))
                if at_most >= PROFILE_LIMIT_BYTES and not _only_shrinks(step):
                    turned_away.append(step)
                    continue
            content = memoryview(step.content)
            operations = orjson.loads(content)
            length = len(content)
            size += length
            at_most += GROWTH_FACTOR * length + RECORD_OVERHEAD_BYTES
            if step.geo is not None:
                size += 200
            arrival = _arrival(step.time_ms)
            seen: str | None = arrival
            if step.flags & IGNORE_TIME:
                seen = None
            elif 0 < step.record_ms < step.time_ms:  # a time in the future is no time (contract 3.1)
                seen = iso_seconds(step.record_ms)
            if size > ROOMY_BYTES and crowd is None:
                crowd = Crowd()
            uncertain = crowd is not None
            if plain and doc is not None and (uncertain or not kept(doc, operations, step.geo, changed)):
                plain, before = False, doc.copy()
            if followed and doc is not None:
                if trace is None and len(steps) == 1 and step.geo is None:
                    taken = taken_by_one(doc, operations)
                if taken is None:
                    trace = trace or Trace(doc)
                    trace.follow(doc, operations, step.geo)
            doc = self._apply(doc, operations, geo=step.geo, seen=seen, arrival=arrival, crowd=crowd)
        folded = None if doc is None else _encode(doc)
        if folded is not None and doc is not None and doc.get(LAST_SEEN) == last_seen:
            folded = _unless_same(stored, folded)
        if changed or not plain:
            writes.properties.note(key, changed, before, None if plain else doc)
        if writes.history is not None and (folded is not stored or len(steps) > 1):
            applied = steps if not turned_away else [step for step in steps if step not in turned_away]
            taken = taken if trace is None else trace.taken(doc)
            writes.history.add(key, taken, applied, large=crowd is not None)
        return folded, turned_away

    def _fold_carefully(
        self, key: ProfileKey, stored: bytes | None, steps: Sequence[HistoryRecord], writes: _Writes
    ) -> bytes | None:
        """Fold all records but those that raise, found by halving: they become refusals."""
        try:
            folded, turned_away = self._fold_profile(key, stored, steps, writes)
        except Exception as error:  # noqa: BLE001 - one record must not stop its neighbours
            if len(steps) == 1:
                at = steps[0].position
                message = f"{texts.INTERNAL} at position {at}: {type(error).__name__}"
                writes.failures.append(self._refusal(key, steps[0], message))
                return stored
        else:
            writes.failures += [self._refusal(key, step, _FULL) for step in turned_away]
            return folded
        half = len(steps) // 2
        stored = self._fold_carefully(key, stored, steps[:half], writes)
        return self._fold_carefully(key, stored, steps[half:], writes)

    def _refusal(self, key: ProfileKey, step: HistoryRecord, message: str) -> RefusedRecord:
        project, group_key, profile_id = key
        record: dict[str, object] = {"$token": self._token(project)}
        if group_key:
            record |= {"$group_key": group_key, "$group_id": profile_id}
        else:
            record["$distinct_id"] = profile_id
        for code, payload in step.operations:
            record[_NAMES[code]] = payload
        if step.record_ms:
            record["$time"] = step.record_ms
        if step.flags & IGNORE_TIME:
            record["$ignore_time"] = True
        return RefusedRecord(
            project=project,
            endpoint="groups" if group_key else "engage",
            index=0,
            field="",
            message=message,
            record=msgspec.json.encode(record).decode(),
            whole=True,
            request_key=digest_key("fold", str(step.position)),
        )

    def _token(self, project: int) -> str:
        """The token that a refused record is sent again with; the catalog is read once a step at most."""
        if self._tokens is None:
            self._tokens = {known.id: known.token for known in self._store.catalog.projects()}
        return self._tokens.get(project, "")

    def _keep(self, failures: list[RefusedRecord]) -> None:
        """Kept before the state is written: a crash in between folds again, and the key keeps it single."""
        homes: dict[int, list[RefusedRecord]] = {}
        for failure in failures:  # where all refusals of a project are, so that its bound holds for it
            homes.setdefault(self._store.partition_of(failure.project), []).append(failure)
        for home, own in homes.items():
            self._store.partition(home).refusals.add(own, 0)
