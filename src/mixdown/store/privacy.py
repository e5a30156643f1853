"""Jobs of data protection: deletions and retrievals of people's data, and what every store does for them.

A deletion is a record of the log (DESIGN §5.6): `begin` appends one `$delete` for each id in a segment of its
own endpoint, so that the fold drops the profiles in order with their neighbours, and an id can be used again
at once. What stands before that record is rewritten afterwards (`tombstoned`): a record becomes a tombstone
that keeps its position and its idempotency key, and nothing else. No id outlives its job.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from mixdown.model.errors import CatalogError
from mixdown.model.operators import Operator
from mixdown.model.updates import IGNORE_ALIAS, Update
from mixdown.store.chunk import (
    FOR_ALL,
    Chunk,
    LoggedEvent,
    LoggedSegment,
    LoggedUpdate,
    Outcome,
    Segment,
    WholeSegment,
    decode_whole,
    encode_filter,
    encode_segment,
    owner_of,
)
from mixdown.store.places import partition_at, views_of
from mixdown.store.protocols import Append, Store, Turn

PENDING: Final = "PENDING"
STAGING: Final = "STAGING"
STARTED: Final = "STARTED"
SUCCESS: Final = "SUCCESS"
REVOKED: Final = "REVOKED"
STATUSES: Final = (PENDING, STAGING, STARTED, SUCCESS, REVOKED)
"""PENDING waits for its time, STAGING is being appended, STARTED stands in the log; the rest is final."""

ENDPOINT: Final = "erase"
SDK: Final = "mixdown"
IDS_LIMIT: Final = 2000
LINKED_LIMIT: Final = 200_000
"""Ids of one deletion, with all that are linked with those it names."""
UNFINISHED_LIMIT: Final = 100
FINISHED_KEPT: Final = 1000
RETRIEVALS_KEPT: Final = 100
RETRIEVAL_LIFE_MS: Final = 7 * 24 * 3600 * 1000
STALE_STAGING_MS: Final = 10_000
"""A job that was begun so long ago and is not in the log lost the process that began it."""
TOMBSTONE_PROJECT: Final = 0
"""No project has this number: what it says to readers of the log is that a record was erased."""
ERASED: Final = "erased"

EVENT_TOMBSTONE: Final[LoggedEvent] = (TOMBSTONE_PROJECT, msgspec.Raw(b"{}"))
"""What stays of an event."""

Targets = Mapping[tuple[int, str], Mapping[str, int]]
"""By (project, group key): ids, and the position from which on each is new again."""


class Deletion(msgspec.Struct, frozen=True):
    """A job that erases people. `ids` is empty once they are erased; `count` says how many were named.

    From STARTED on `ids` has those too that are linked with the ones that were named. `positions` are the
    ends of its records in the logs: one for each partition that has records of the project (none: they are
    not there yet). `due_ms` is when it begins, `claimed_ms` when a process began to append it; `report` is
    JSON, b"" until it is done. Where there are several positions, `parts` has (partition, report) of each
    partition that is done.
    """

    id: str
    project: int
    group_key: str
    ids: tuple[str, ...]
    count: int
    status: str
    requested_by: str
    compliance_type: str
    requested_ms: int
    due_ms: int = 0
    claimed_ms: int = 0
    positions: tuple[int, ...] = ()
    finished_ms: int = 0
    report: bytes = b""
    parts: tuple[tuple[int, str], ...] = ()

    def end_in(self, partition: int) -> int:
        """The end of its records in a partition's log; 0 where it has none there."""
        return next((each for each in self.positions if partition_at(each) == partition), 0)


class Retrieval(msgspec.Struct, frozen=True):
    """A job that hands out people's data: it is read when it is fetched, and never stored."""

    id: str
    project: int
    group_key: str
    ids: tuple[str, ...]
    requested_by: str
    compliance_type: str
    disclosure_type: str
    requested_ms: int


class Erasures(msgspec.Struct, frozen=True):
    """How many of a project's deletions are under way, and when the last that is done ended (0: never)."""

    under_way: int
    last_ms: int


class PrivacyJobs(Protocol):
    """The jobs: on disk when a method returns. Bounds: 100 unfinished deletions a project, 1,000 finished."""

    def add_deletion(self, deletion: Deletion) -> None:
        """Keep a new job. Raises `CatalogError` where the project has too many that are not finished."""

    def deletion(self, project: int, job_id: str) -> Deletion | None:
        """The project's job with this id."""

    def unfinished(self) -> list[Deletion]:
        """The deletions of all projects that are neither done nor revoked, oldest first."""

    def erasures(self, project: int) -> Erasures:
        """What tells whether anybody of a project was erased since it was asked before."""

    def claim(self, job_id: str, *, now_ms: int, stale_ms: int) -> bool:
        """Make a PENDING job STAGING, or take over one claimed before `stale_ms`; whether it is ours."""

    def widen(self, job_id: str, ids: Sequence[str]) -> None:
        """Have a STAGING job erase these ids."""

    def append(
        self, turn: Turn, append: Append, deletion: Deletion, ends: Sequence[int], *, now_ms: int, last: bool
    ) -> int | None:
        """Append records of a job that is STAGING as it was claimed at `now_ms`; where they end.

        None, and nothing is appended, where it is not, or was claimed since. With `last` it is STARTED then:
        its records end at `ends` and here. Nobody can claim it in between.
        """

    def started(self, job_id: str, positions: Sequence[int]) -> None:
        """A STAGING job's records stand in the logs and end at `positions`.

        Of a job that was begun twice, those count that were given last.
        """

    def part_done(self, job_id: str, partition: int, report: bytes) -> None:
        """What a partition holds of a STARTED job's people is erased; `report` says what that was."""

    def revoke(self, job_id: str) -> bool:
        """Make a PENDING job REVOKED and forget its ids; whether it was PENDING."""

    def forget_ids(self, job_ids: Sequence[str], report: bytes) -> None:
        """Forget the ids of jobs whose people are erased; `report` says what that was, so far."""

    def finish(self, job_ids: Sequence[str], *, now_ms: int, report: bytes) -> None:
        """STARTED jobs are done."""

    def add_retrieval(self, retrieval: Retrieval) -> None:
        """Keep a new job; the project's oldest goes where it has 100, and those of more than 7 days go."""

    def retrieval(self, project: int, job_id: str, *, now_ms: int) -> Retrieval | None:
        """The project's job with this id, unless it is older than 7 days."""

    def forget_retrievals(self, project: int, group_key: str, ids: Collection[str]) -> int:
        """Forget retrievals that name one of these ids; how many there were."""

    def close(self) -> None:
        """Release files."""


class Rewritten(msgspec.Struct, frozen=True):
    """A chunk that takes the place of the one with the same positions.

    `records` says how many of it were erased now, `keys` whose outcomes lost what they quoted.
    """

    chunk: Chunk
    id_filter: bytes
    records: int
    keys: tuple[bytes, ...] = ()


def check_unfinished(held: int) -> None:
    """Raises `CatalogError` where a project with so many unfinished deletions may not have one more."""
    if held >= UNFINISHED_LIMIT:
        raise CatalogError(
            f"this project has {held} deletions that are not finished",
            hint="Name more ids in one, and wait for some of them.",
        )


def begin(store: Store, deletion: Deletion, *, now_ms: int) -> bool:
    """Append a deletion's records to the log; false where it is not PENDING any more, or another did so.

    It is of all ids that are linked with those that it names, as far as the log is folded: whoever asks waits
    for the fold first. What the log holds of these ids below the records' end is to be erased. A crash in
    between leaves a STAGING job, which is begun again: then its later records count. Raises `StoreError`.
    """
    jobs = store.privacy
    if not jobs.claim(deletion.id, now_ms=now_ms, stale_ms=now_ms - STALE_STAGING_MS):
        return False
    ids = with_linked(store, deletion.project, deletion.group_key, deletion.ids)
    jobs.widen(deletion.id, ids)
    updates = [
        Update(deletion.project, deletion.group_key, each, [(int(Operator.DELETE), "")], flags=IGNORE_ALIAS)
        for each in ids
    ]
    segment = encode_segment(Segment(ENDPOINT, SDK, None, None, updates))
    id_filter = encode_filter(ids)
    ends: list[int] = []
    views = views_of(store, deletion.project)
    for view in views:
        append = Append(segment, len(updates), id_filter, kinds=FOR_ALL, parts=True, partition=view.number)
        with view.log.turn() as turn:
            # Who waited long for this turn may have lost the job to another process. A second deletion
            # would take what came behind the first, which was answered.
            last = len(ends) + 1 == len(views)
            end = jobs.append(turn, append, deletion, ends, now_ms=now_ms, last=last)
        if end is None:
            return False
        ends.append(end)
    return True


def append_in_turn(
    jobs: PrivacyJobs,
    turn: Turn,
    append: Append,
    deletion: Deletion,
    ends: Sequence[int],
    *,
    now_ms: int,
    last: bool,
) -> int | None:
    """`PrivacyJobs.append` where a turn keeps everybody out who might append: the job is looked at in it."""
    held = jobs.deletion(deletion.project, deletion.id)
    if held is None or (held.status, held.claimed_ms) != (STAGING, now_ms):
        return None
    end = turn.append([append], now_ms).end
    if last:
        jobs.started(deletion.id, (*ends, end))
    return end


def with_linked(store: Store, project: int, group_key: str, ids: Sequence[str]) -> list[str]:
    """These ids and all that are linked with them, each once; groups are linked with nobody.

    Raises `CatalogError` where they are more than one deletion may have.
    """
    found = dict.fromkeys(ids)
    if not group_key and project in store.state.linked_projects():
        for each in ids:
            found.update(dict.fromkeys(store.state.linked(project, each)))
            if len(found) > LINKED_LIMIT:
                raise CatalogError(
                    f"more than {LINKED_LIMIT} ids are linked with these", hint="Name fewer ids in one."
                )
    return list(found)


def later_ends(held: Sequence[int], given: Sequence[int]) -> tuple[int, ...]:
    """The further of two positions in each partition."""
    ends = {partition_at(each): each for each in held}
    for each in given:
        ends[partition_at(each)] = max(each, ends.get(partition_at(each), 0))
    return tuple(ends[partition] for partition in sorted(ends))


def targets_of(deletions: Iterable[Deletion], partition: int = 0) -> dict[tuple[int, str], dict[str, int]]:
    """What these jobs erase in a partition: of an id that several name, the latest counts."""
    found: dict[tuple[int, str], dict[str, int]] = {}
    for deletion in deletions:
        if not deletion.ids:
            continue
        held = found.setdefault((deletion.project, deletion.group_key), {})
        for each in deletion.ids:
            held[each] = max(held.get(each, 0), deletion.end_in(partition))
    return found


def hashes_of(ids: Iterable[str]) -> frozenset[int]:
    """The hashes of ids as a chunk's filter holds them."""
    return frozenset(zlib.crc32(each.encode()) for each in ids)


def filter_meets(encoded: bytes, hashes: frozenset[int]) -> bool:
    """Whether a chunk with this filter may hold one of the ids that `hashes_of` was given."""
    held = array("I")
    held.frombytes(encoded)
    return not hashes.isdisjoint(held)


def tombstoned(chunk: Chunk, targets: Targets, keys: Collection[bytes] = ()) -> Rewritten | None:
    """A chunk without the records that `targets` names; None where it has none of them.

    `keys` are requests whose outcomes lose what they quote even if none of their records goes. Raises
    `CorruptStoreError` where the chunk cannot be decoded.
    """
    segments = decode_whole(chunk.body)
    redacted = []
    position = chunk.first
    erased = 0
    for segment in segments:
        before = erased
        for at, update in enumerate(segment.updates):
            from_here_new = targets.get((update.project, update.group_key), {}).get(update.id, 0)
            if position < from_here_new:
                segment.updates[at] = _tombstone(update)
                erased += 1
            position += 1
        erased += _take_events(segment, position, targets)
        position += segment.event_count
        named = erased > before or segment.key in keys
        if named and segment.key is not None and segment.outcome is not None and segment.outcome.failed:
            segment.outcome = redact(segment.outcome)
            redacted.append(segment.key)
    if not erased and not redacted:
        return None
    ids = {each for segment in segments for each in segment.ids()}
    body = msgspec.json.encode(segments)
    rewritten = Chunk(chunk.first, chunk.count, chunk.time_ms, body, chunk.kinds)
    return Rewritten(rewritten, encode_filter(ids), erased, tuple(redacted))


def is_tombstone(update: LoggedUpdate) -> bool:
    """Whether this is what is left of a record that was erased."""
    return update.project == TOMBSTONE_PROJECT


def redact(outcome: Outcome) -> Outcome:
    """An outcome whose failures say neither field nor message: they may quote names that a record brought."""
    return Outcome(outcome.total, outcome.good, tuple((index, "", ERASED) for index, _, _ in outcome.failed))


def records_about(
    segments: Iterable[LoggedSegment], targets: Targets, first: int
) -> list[tuple[int, str, LoggedUpdate]]:
    """(position, endpoint, update) of the records that `targets` names, of a chunk that begins at `first`."""
    found = []
    position = first
    for segment in segments:
        for update in segment.updates:
            if position < targets.get((update.project, update.group_key), {}).get(update.id, 0):
                found.append((position, segment.endpoint, update))
            position += 1
        position += segment.event_count
    return found


def _take_events(segment: WholeSegment, first: int, targets: Targets) -> int:
    """Make tombstones of the events of these people, which begin at a position; how many.

    What they say of identities is applied, since the fold is past it, and goes.
    """
    held = {project: ids for (project, group_key), ids in targets.items() if not group_key}
    taken = 0
    for at, (project, event) in enumerate(segment.events):
        if project in held and first + at < held[project].get(owner_of(event), 0):
            segment.events[at] = EVENT_TOMBSTONE
            taken += 1
    segment.links = [
        link
        for link in segment.links
        if not any(
            first + link.index < held.get(link.project, {}).get(each, 0) for each in (link.one, link.other)
        )
    ]
    return taken


def _tombstone(update: LoggedUpdate) -> LoggedUpdate:
    """What stays of a record: that there was one, and the hash by which its retry is recognised."""
    return LoggedUpdate(TOMBSTONE_PROJECT, "", "", msgspec.Raw(b"[]"), 0, 0, update.key, None)
