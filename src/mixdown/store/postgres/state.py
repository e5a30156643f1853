"""Profiles, idempotency keys and the watermark in PostgreSQL: what one fold transaction writes.

Enters: `FoldResult`s, from the process that holds a partition's lease. Leaves: documents, for any thread of
any process. A step asks for the profiles that it wants in one round trip, and sends all that it writes in
another.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, Final

from mixdown.model.errors import StoreError
from mixdown.model.history import Change
from mixdown.store import choosing, history_tables, history_upkeep
from mixdown.store.chunk import Outcome
from mixdown.store.group_ids import group_id_of, next_group_id
from mixdown.store.history import HistoryRange, HistoryReach, HistorySize, change_of
from mixdown.store.indexing import no_group_key
from mixdown.store.places import first_of
from mixdown.store.postgres import (
    fencing,
    history,
    identities,
    indexes,
    looking,
    profiles,
    properties,
    scanning,
)
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.documents import document_of
from mixdown.store.postgres.history import PostgresHistory
from mixdown.store.postgres.ids import key_of
from mixdown.store.postgres.kept import Kept, OwnKept
from mixdown.store.postgres.keys import (
    Bucket,
    buckets_of,
    find_keys,
    key_window,
    redact_outcomes,
    write_keys,
)
from mixdown.store.postgres.pool import Connection
from mixdown.store.postgres.profiles import Kind
from mixdown.store.postgres.reach import Place, Reach
from mixdown.store.protocols import FoldResult, ProfileKey, PropertyCounts, PropertyIndex
from mixdown.store.selection import Looked, Selection

_PROFILES_AT_ONCE: Final = 512
"""In one statement: more give larger buffers, which malloc takes from the system anew for each."""
_PROFILE_BYTES_AT_ONCE: Final = 16 * 1024 * 1024
_IDS_AT_ONCE: Final = 10_000
_WATERMARKS: Final = """
    SELECT partition, position FROM mixdown.watermarks WHERE partition = ANY(%s) AND kind = 'fold'
"""
_STANDING: Final = """
    SELECT position, (
        SELECT convert_to(document::text, 'UTF8') FROM mixdown.profiles
        WHERE partition = %s AND project_id = %s AND group_key = %s AND id = %s
    ) FROM mixdown.watermarks WHERE partition = %s AND kind = 'fold'
"""
_GROUP_KEYS: Final = """
    SELECT group_key, data_group_id FROM mixdown.group_keys WHERE project_id = %s ORDER BY group_key
"""
_NAME_GROUP: Final = """
    INSERT INTO mixdown.group_keys (project_id, group_key, data_group_id) VALUES (%s, %s, %s)
    ON CONFLICT DO NOTHING
"""

Profile = tuple[ProfileKey, bytes | None]
Row = tuple[str, bytes | None]
"""(id, document)."""


class _Held:
    """What the process that writes a partition knows of its tables, as long as nobody else has written."""

    def __init__(self, fence: int | None, kept: OwnKept) -> None:
        self.fence = fence
        self.kept = kept
        self.numbers = history.Numbers()
        self.buckets: list[Bucket] | None = None
        self.indexes: indexes.Indexes | None = None
        self.history_is_broken = False


class PostgresState(identities.PostgresIdentities):
    """`State` of one partition, or of all (`Reach`).

    `before_commit`, when set, is called inside each write transaction just before its COMMIT: crash tests put
    their kill there.
    """

    before_commit: Callable[[], None] | None = None

    def __init__(
        self,
        database: Database,
        reach: Reach,
        shares: history.Shares | None = None,
        kept: Kept | None = None,
    ) -> None:
        """`shares` says how much of the history's bound is this partition's; without it, all of it.

        `kept` is the process's, for what was written.
        """
        self._database = database
        self._kept = kept or Kept()
        self._shares = shares
        self._reach = reach
        self._guard = threading.Lock()
        self._held: _Held | None = None
        self._named: set[Kind] = set()

    # --- how far it has come

    def watermark(self) -> int:
        found = self._database.rows(_WATERMARKS, (list(self._reach.all),))
        if len(self._reach.all) == 1:
            return int(found[0][1])
        return sum(position - first_of(partition) for partition, position in found)

    def durable_watermark(self) -> int:
        return self.watermark()

    def checkpoint(self) -> int:
        return self.watermark()

    # --- writing

    def write(self, result: FoldResult) -> None:
        with self._guard:
            partition = self._reach.own
            held = self._hold()
            if held.indexes is None:
                held.indexes = indexes.to_keep(self._database, self._reach)
            if held.buckets is None:
                held.buckets = buckets_of(self._database, partition)
            some = _in_batches(result.profiles)
            first = next(some, [])  # before the transaction begins, and the connection is taken
            with self._writing(held, begin=result.begin, position=result.watermark) as connection:
                self._write_profiles(connection, held, result, chain([first], some))
                write_keys(connection, partition, held.buckets, result.keys, result.now_ms)
                for changes in result.identities:
                    identities.write(connection, partition, changes)

    def _write_profiles(
        self, connection: Connection, held: _Held, result: FoldResult, some: Iterable[list[Profile]]
    ) -> None:
        partition = self._reach.own
        tables = PostgresHistory(connection, partition, held.numbers)
        changes = None if result.history is None else history_tables.HistoryWriter(tables, result.history)
        kinds: set[Kind] = set()
        for batch in some:
            of_kind = _by_kind(batch)
            kinds.update(of_kind)
            self._write_some(connection, held, of_kind)
            held.kept.put(batch)
            if changes is not None:
                changes.write_some()
        if changes is not None:
            changes.finish()
            held.history_is_broken = False
        elif kinds and not held.history_is_broken:
            history_tables.break_off(tables)
            held.history_is_broken = True
        if result.property_changes is None:
            for kind in sorted(kinds):
                properties.forget(connection, partition, kind)
        else:
            properties.add(connection, partition, result.property_changes())

    def _write_some(self, connection: Connection, held: _Held, of_kind: Mapping[Kind, list[Row]]) -> None:
        for kind, rows in of_kind.items():
            place = Place(self._reach.own, *kind)
            put = [(profile_id, document) for profile_id, document in rows if document is not None]
            if put:
                self._name_group(kind)
                profiles.put(connection, place, put)
            if len(put) < len(rows):
                gone = [profile_id for profile_id, document in rows if document is None]
                profiles.delete(connection, place, gone)
            kept = held.indexes.get(kind) if held.indexes else None
            if kept:
                indexes.keep(connection, place.partition, kept, rows)

    def _name_group(self, kind: Kind) -> None:
        """Give a group key its number where it has none: for good, and before its first group is there."""
        project, group_key = kind
        if not group_key or kind in self._named:
            return
        group_id = group_id_of(project, group_key)
        while not self._database.run(_NAME_GROUP, (project, group_key, group_id)):
            if group_key in self.group_keys(project):
                break
            group_id = next_group_id(group_id)
        self._named.add(kind)

    def _hold(self) -> _Held:
        fence = None if self._reach.fence is None else self._reach.fence()
        if self._held is None or self._held.fence != fence:
            self._let_go()
            self._held = _Held(fence, self._kept.owner())
        return self._held

    def _let_go(self) -> None:
        """What it knows may not be so."""
        if self._held is not None:
            self._held.kept.drop()
        self._held = None

    @contextmanager
    def _writing(
        self, held: _Held, *, begin: int | None = None, position: int | None = None, at_once: bool = True
    ) -> Iterator[Connection]:
        """A transaction of the partition's holder; without `at_once`, its lease is not looked at yet."""
        try:
            with self._database.pipeline() as connection:
                if at_once:
                    fencing.move(connection, self._reach.own, held.fence, begin=begin, position=position)
                yield connection
                if self.before_commit is not None:
                    self.before_commit()
        except BaseException as error:
            self._let_go()
            lost = fencing.lease_lost(error, self._reach.own)
            if lost is not None:
                raise lost from error
            raise

    # --- profiles

    def documents(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        return profiles.find(self._database, keys, self._reach.of_profile)

    def documents_to_change(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        partition, held = self._reach.own, self._held
        if held is None:
            return profiles.find_to_change(self._database, partition, keys)
        documents = held.kept.find(keys)
        asked = [key for key, document in zip(keys, documents, strict=True) if document is None]
        found = iter(profiles.find_to_change(self._database, partition, asked))
        return [next(found) if document is None else document for document in documents]

    def standing(self, key: ProfileKey) -> tuple[int, bytes | None]:
        place = Place(self._reach.of_profile(key), key[0], key[1])
        found = self._database.row(_STANDING, (*place, key_of(key[2]), place.partition), binary=True)
        if found is None:
            raise StoreError(f"there is no partition {place.partition}")
        return found[0], None if found[1] is None else document_of(found[1])

    def ids(self, project: int, group_key: str) -> Iterator[str]:
        places = self._reach.places(project, group_key)
        for _, profile_id in profiles.merged_ids(self._database, places, _IDS_AT_ONCE):
            yield profile_id

    def count(self, project: int, group_key: str) -> int:
        return profiles.count(self._database, self._reach.of_project(project), (project, group_key))

    def page(self, project: int, group_key: str, *, offset: int, limit: int) -> list[tuple[str, bytes]]:
        places = self._reach.places(project, group_key)
        after = profiles.key_before(self._database, places, offset) if offset else ""
        return [] if after is None else profiles.page_after(self._database, places, after, limit)

    def profiles_after(
        self, project: int, group_key: str, *, after: str, limit: int
    ) -> list[tuple[str, bytes]]:
        places = self._reach.places(project, group_key)
        return profiles.page_after(self._database, places, _behind(after), limit)

    def id_after(self, project: int, group_key: str, begin: str, count: int) -> str | None:
        partitions = self._reach.of_project(project)
        return profiles.nth_from(self._database, partitions, (project, group_key), _behind(begin), count)

    def group_keys(self, project: int) -> dict[str, int]:
        rows = self._database.rows(_GROUP_KEYS, (project,))
        return {row[0]: row[1] for row in rows}

    # --- selections

    def matching(self, project: int, group_key: str, selection: Selection) -> Iterator[str]:
        return choosing.matching(self._scan(project, group_key, selection), selection, None)

    def values(self, project: int, group_key: str, selection: Selection) -> Iterator[list[Any]]:
        return choosing.values(self._scan(project, group_key, selection), selection)

    def tally(self, project: int, group_key: str, selections: Sequence[Selection]) -> list[int]:
        partitions = self._reach.of_project(project)
        return scanning.tally(self._database, partitions, (project, group_key), selections)

    def look(
        self, project: int, group_key: str, selection: Selection, *, after: str, limit: int, rows: int
    ) -> Looked:
        kind, partitions = (project, group_key), self._reach.of_project(project)
        asked = looking.Asked(partitions, kind, selection, _behind(after), limit, rows)
        return looking.look(self._database, asked)

    def _scan(self, project: int, group_key: str, selection: Selection) -> scanning.Scan:
        partitions = self._reach.of_project(project)
        return scanning.Scan(self._database, partitions, (project, group_key), selection)

    # --- idempotency keys

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        return find_keys(self._database, self._reach.all, keys, since_ms)

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        for partition in self._reach.all:
            with self._database.transaction() as cursor:
                redact_outcomes(cursor, partition, keys)

    def key_window(self) -> tuple[int, int]:
        return key_window(self._database, self._reach.all)

    # --- counts of properties, and indexes on them

    def property_counts(self, project: int, group_key: str, *, limit: int) -> PropertyCounts:
        partitions = self._reach.of_project(project)
        return properties.read(self._database, partitions, (project, group_key), limit)

    def uncounted(self) -> Mapping[tuple[int, str], str]:
        return properties.uncounted(self._database, self._reach.own)

    def count_properties(self, limit: int) -> int:
        with self._guard:
            partition = self._reach.own
            counted = properties.count_some(self._database, partition, limit)
            if counted.done or counted.profiles:
                with self._writing(self._hold()) as connection:
                    properties.keep(connection, partition, counted)
            return counted.profiles

    def property_indexes(self, project: int) -> list[PropertyIndex]:
        return indexes.listing(self._database, self._reach.of_project(project), project)

    def add_property_index(self, project: int, group_key: str, name: str) -> PropertyIndex:
        if group_key and group_key not in self.group_keys(project):
            raise no_group_key(group_key)
        with self._database.transaction() as cursor:
            number = indexes.add(cursor, project, group_key, name)
        return PropertyIndex(number, project, group_key, name)

    def drop_property_index(self, project: int, group_key: str, name: str) -> None:
        indexes.drop(self._database, project, group_key, name)

    def build_indexes(self, limit: int) -> bool:
        with self._guard:
            index = indexes.work_left(self._database, self._reach)
            if index is None:
                return False
            partition = self._reach.own
            taken = indexes.behind(self._database, partition, index, limit)
            held = self._hold()
            held.indexes = None
            with self._writing(held) as connection:
                indexes.work_on(connection, partition, index, taken)
            return True

    # --- history

    def history(self, key: ProfileKey, *, below: int, since_ms: int = 0) -> Iterator[Change]:
        if key_of(key[2]) is None:
            return
        partition = self._reach.of_profile(key)

        def segment_below(position: int) -> tuple[int, list[bytes]] | None:
            return history.segment_below(self._database, partition, key, position, since_ms)

        for line in history_tables.newest_first(segment_below, key[2], below):
            yield change_of(line, partial(self._value, partition, key))

    def _value(self, partition: int, key: ProfileKey, digest: str) -> bytes:
        with self._database.connection() as connection:
            return history_tables.value_apart(PostgresHistory(connection, partition), key, digest)

    def history_between(
        self, project: int, group_key: str, begin: str, end: str | None, *, since_ms: int
    ) -> HistoryRange:
        documents: dict[str, bytes] = {}
        changes: dict[str, list[Change]] = {}
        for place in self._reach.places(project, group_key):
            with self._database.transaction(read_only=True) as cursor:
                tables = PostgresHistory(cursor.connection, place.partition)
                found, end = history_tables.ranged(tables, (project, group_key), begin, end, since_ms)
                documents.update(profiles.between(cursor.connection, place, begin, end))
                for profile_id, lines in found.items():
                    value = partial(history_tables.value_apart, tables, (project, group_key, profile_id))
                    changes[profile_id] = [change_of(line, value) for line in lines]
        if end is not None:  # what later partitions are not whole for
            documents = {name: document for name, document in documents.items() if name < end}
            changes = {name: found for name, found in changes.items() if name < end}
        return HistoryRange(end, documents, changes)

    def history_size(self) -> HistorySize:
        sizes = []
        for partition in self._reach.all:
            with self._database.transaction(read_only=True) as cursor:
                sizes.append(history_tables.size(PostgresHistory(cursor.connection, partition)))
        since = [each.since_ms for each in sizes]
        return HistorySize(
            sum(each.size_bytes for each in sizes), sum(each.segments for each in sizes), _since(since)
        )

    def history_reach(self) -> HistoryReach:
        found = history.reach(self._database, self._reach.all)
        return HistoryReach(
            sum(segments for segments, _ in found), _since([since_ms for _, since_ms in found])
        )

    def tend_history(self, *, keep_from_ms: int, limit_bytes: int) -> bool:
        with self._guard:
            partition, held = self._reach.own, self._hold()
            if self._shares is not None:
                limit_bytes = self._shares.of(partition, limit_bytes)
            with self._writing(held, at_once=False) as connection:
                fence = partial(fencing.move, connection, partition, held.fence)
                tables = PostgresHistory(connection, partition, held.numbers, before_writing=fence)
                return history_upkeep.tend(tables, keep_from_ms, limit_bytes)

    def forget_history(self, keys: Sequence[ProfileKey], *, below: int) -> int:
        with self._guard:
            partition, held = self._reach.own, self._hold()
            own = indexes.own_indexes(self._database, self._reach)
            of_kind: dict[Kind, list[str]] = defaultdict(list)
            for project, group_key, profile_id in keys:
                of_kind[project, group_key].append(profile_id)
            with self._writing(held) as connection:
                for kind, ids in of_kind.items():
                    indexes.forget(connection, partition, own, kind, ids)
                tables = PostgresHistory(connection, partition, held.numbers)
                return history_tables.forget(tables, keys, below)

    def close(self) -> None:
        """Nothing: the connections are the store's."""


def _behind(after: str) -> str:
    """The key to go on from: that of an id, or, where none can be stored like it, of what begins like it."""
    stored = key_of(after)
    if stored is None:
        stored = key_of(after.encode("utf-8", "replace").decode().partition("\0")[0])
    return stored or ""


def _since(times_ms: Sequence[int | None]) -> int | None:
    """Since when history of several partitions is whole; None where it is not."""
    known = [each for each in times_ms if each is not None]
    return max(known) if len(known) == len(times_ms) else None


def _by_kind(batch: Sequence[Profile]) -> dict[Kind, list[Row]]:
    """Profiles, which come in the order of their keys, as rows of their kinds."""
    if not batch:
        return {}
    first, last = batch[0][0][:2], batch[-1][0][:2]
    if first == last:
        return {first: [(key[2], document) for key, document in batch]}
    of_kind: dict[Kind, list[Row]] = defaultdict(list)
    for key, document in batch:
        of_kind[key[:2]].append((key[2], document))
    return of_kind


def _in_batches(given: Iterable[Profile]) -> Iterator[list[Profile]]:
    """Profiles to be written in one statement: thousands, fewer where they are large."""
    batch: list[Profile] = []
    size = 0
    for profile in given:
        batch.append(profile)
        size += len(profile[1] or b"")
        if len(batch) == _PROFILES_AT_ONCE or size > _PROFILE_BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
