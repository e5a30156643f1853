"""Profiles, idempotency keys and the watermark in `state.db`: what one fold transaction writes.

Enters: `FoldResult`s, from one process. Leaves: documents, for any thread of any process. What a
power cut takes from this file the log folds again, so a commit need not wait for the disk; how far
the state *is* on disk is `durable_watermark`, and the log must not be trimmed past it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import apsw

from mixdown.model.errors import StoreError, TooMuchAtOnceError
from mixdown.model.history import Change
from mixdown.store import history_tables, history_upkeep
from mixdown.store.chunk import Outcome
from mixdown.store.group_ids import group_id_of, next_group_id
from mixdown.store.history import HistoryFeed, HistoryRange, HistoryReach, HistorySize, change_of
from mixdown.store.indexing import no_group_key
from mixdown.store.protocols import FoldResult, ProfileKey, PropertyCounts, PropertyIndex
from mixdown.store.selection import Looked, Selection
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite import documents as stored
from mixdown.store.sqlite import identities, indexes, looking, properties
from mixdown.store.sqlite.checkpoints import Checkpoints, Pace
from mixdown.store.sqlite.history import SqliteHistory
from mixdown.store.sqlite.keys import find_keys, key_window, redact_outcomes, write_keys
from mixdown.store.sqlite.scanning import Scanner
from mixdown.store.sqlite.sweeping import sweep

# 96 MiB gain nothing; 256 save a tenth of the CPU of an upsert, and take most of what all processes may (G7).
_WRITER_CACHE_BYTES: Final = 64 * 1024 * 1024
_CHECKPOINT_PAGES: Final = 16_000
# While small steps keep up with what comes in, checkpoints are small too: steps beside one are slow.
_SMALL_CHECKPOINT_SHARE: Final = 4
_SMALL_STEP_PROFILES: Final = 4096
_CHECKPOINT_EVERY_S: Final = 30.0
# Beyond what the WAL grows to under load: to truncate it and let it grow anew costs 6-10 us a page.
_WAL_KEPT_BYTES: Final = 768 * 1024 * 1024
_PROFILES_AT_ONCE: Final = 2048
_PROFILE_BYTES_AT_ONCE: Final = 16 * 1024 * 1024
_IDS_AT_ONCE: Final = 10_000
_GROUP_KEYS_CACHED: Final = 10_000


class SqliteState(identities.SqliteIdentities):
    """`State` in `state.db`; with `writes`, the one that the fold writes through.

    `before_commit`, when set, is called inside each write transaction just before its COMMIT: crash
    tests put their kill there.
    """

    before_commit: Callable[[], None] | None = None

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self._path = path = folder / sqlite.STATE.file_name
        self._what = str(path)
        self._readers = sqlite.ThreadConnections(path, sqlite.STATE)
        self._scanner = Scanner(path, indexes.narrow)
        self._group_keys: dict[tuple[int, str], int] = {}
        self._guard = threading.Lock()
        self._writer: apsw.Connection | None = None
        self._writing = 0
        self._rowids: dict[tuple[int, str], stored.Rowids] = {}
        self._indexes: indexes.Indexes = {}
        self._wal_pages = 0
        self._checkpoints: Checkpoints | None = None
        if writes:
            with sqlite.store_errors(self._what):
                self._writer = sqlite.connect(path, sqlite.STATE, cache_bytes=_WRITER_CACHE_BYTES)
                self._writer.wal_autocheckpoint(0)
                self._writer.set_wal_hook(self._count_pages)
                sqlite.rows(self._writer, f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
            self._checkpoints = Checkpoints(
                path,
                lambda: sqlite.connect(path, sqlite.STATE),
                watermark=self.watermark(),
                durable=self.durable_watermark(),
            )

    def watermark(self) -> int:
        return self._get("SELECT position FROM watermarks WHERE reader = 'profiles'")

    def durable_watermark(self) -> int:
        known = self._get("SELECT durable FROM watermarks WHERE reader = 'profiles'")
        return known if self._checkpoints is None else max(known, self._checkpoints.durable)

    def documents(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        asked: dict[tuple[int, str], list[bytes]] = defaultdict(list)
        for project, group_key, profile_id in keys:
            asked[project, group_key].append(_encoded(profile_id))
        with sqlite.store_errors(self._what):
            if len(asked) == 1:
                return self._find(*next(iter(asked.items())))
            found = self._find_of_many(asked)
        answers = {pair: iter(found_there) for pair, found_there in found.items()}
        return [next(answers[project, group_key]) for project, group_key, _ in keys]

    def documents_to_change(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        return self.documents(keys)

    def _find_of_many(
        self, asked: Mapping[tuple[int, str], Sequence[bytes]]
    ) -> dict[tuple[int, str], list[bytes | None]]:
        """What `_find` gives for each, bounded together as it bounds one."""
        found: dict[tuple[int, str], list[bytes | None]] = {}
        room = stored.FOUND_LIMIT_BYTES
        for pair, ids in asked.items():
            if room < 0:
                raise TooMuchAtOnceError("these documents are more than can be read at once")
            found[pair] = self._find(pair, ids)
            room -= sum(map(len, filter(None, found[pair])))
        return found

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        with sqlite.store_errors(self._what):
            return find_keys(self._readers.get(), keys, since_ms)

    def write(self, result: FoldResult) -> None:
        with self._guard, sqlite.store_errors(self._what):
            writer, checkpoints = self._open_writer()
            self._writing = threading.get_ident()
            try:
                with sqlite.transaction(writer):
                    self._indexes = indexes.to_keep(writer)
                    written = self._write_profiles(writer, result)
                    write_keys(writer, result.keys, result.now_ms)
                    for changes in result.identities:
                        identities.write(writer, changes)
                    sqlite.rows(
                        writer,
                        "UPDATE watermarks SET position = ?, durable = ? WHERE reader = 'profiles'",
                        (result.watermark, checkpoints.durable),
                    )
                    if self.before_commit is not None:
                        self.before_commit()
            finally:
                self._writing = 0
                self._rowids.clear()
            checkpoints.committed(writer, self._wal_pages, result.watermark, self._pace(written))

    def checkpoint(self) -> int:
        with self._guard, sqlite.store_errors(self._what):
            writer, checkpoints = self._open_writer()
            checkpoints.restart(writer)
            return checkpoints.durable

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        with self._guard, sqlite.store_errors(self._what):
            writer, _ = self._open_writer()
            with sqlite.transaction(writer):
                redact_outcomes(writer, keys)

    def sweep(self) -> Iterator[bool]:
        """Overwrite what the file and its WAL hold of deleted rows (`sweeping.sweep`)."""
        with self._guard:
            _, checkpoints = self._open_writer()
        return sweep(self._path, sqlite.STATE, truncate=checkpoints.truncate)

    def ids(self, project: int, group_key: str) -> Iterator[str]:
        group_id = self._group_id(project, group_key)
        if group_id is None:
            return
        last = ""
        while True:
            with sqlite.store_errors(self._what):
                # a page at a time: a cursor held open would hold up the fold's checkpoints
                rows = sqlite.rows(
                    self._readers.get(),
                    "SELECT id FROM profiles WHERE project_id = ? AND data_group_id = ? AND id > ?"
                    " ORDER BY id LIMIT ?",
                    (project, group_id, last, _IDS_AT_ONCE),
                )
            for (profile_id,) in rows:
                yield profile_id
            if len(rows) < _IDS_AT_ONCE:
                return
            last = rows[-1][0]

    def count(self, project: int, group_key: str) -> int:
        group_id = self._group_id(project, group_key)
        return self._get(
            "SELECT count(*) FROM profiles WHERE project_id = ? AND data_group_id = ?", (project, group_id)
        )

    def matching(self, project: int, group_key: str, selection: Selection) -> Iterator[str]:
        group_id = self._group_id(project, group_key)
        return iter(()) if group_id is None else self._scanner.matching(project, group_id, selection)

    def values(self, project: int, group_key: str, selection: Selection) -> Iterator[list[Any]]:
        group_id = self._group_id(project, group_key)
        return iter(()) if group_id is None else self._scanner.values(project, group_id, selection)

    def tally(self, project: int, group_key: str, selections: Sequence[Selection]) -> list[int]:
        group_id = self._group_id(project, group_key)
        if group_id is None:
            return [0] * len(selections)
        return self._scanner.tally(project, group_id, selections)

    def page(self, project: int, group_key: str, *, offset: int, limit: int) -> list[tuple[str, bytes]]:
        group_id = self._group_id(project, group_key)
        return self._rows(
            "SELECT id, CAST(document AS BLOB) FROM profiles WHERE project_id = ? AND data_group_id = ?"
            " ORDER BY id LIMIT ? OFFSET ?",
            (project, group_id, limit, offset),
        )

    def profiles_after(
        self, project: int, group_key: str, *, after: str, limit: int
    ) -> list[tuple[str, bytes]]:
        group_id = self._group_id(project, group_key)
        return self._rows(
            "SELECT id, CAST(document AS BLOB) FROM profiles WHERE project_id = ? AND data_group_id = ?"
            " AND id > ? ORDER BY id LIMIT ?",
            (project, group_id, after, limit),
        )

    def look(
        self, project: int, group_key: str, selection: Selection, *, after: str, limit: int, rows: int
    ) -> Looked:
        group_id = self._group_id(project, group_key)
        if group_id is None:
            return Looked([], 0, None)
        with sqlite.store_errors(self._what):
            asked = looking.Asked((project, group_id), selection, after, limit, rows)
            return looking.look(self._readers.get(), asked, indexes.narrow, self._scanner.at_once)

    def _rows(self, sql: str, bindings: tuple[int | str | None, ...]) -> list[tuple[str, bytes]]:
        """Rows of (id, document), up to the bound in bytes."""
        found: list[tuple[str, bytes]] = []
        room = stored.FOUND_LIMIT_BYTES
        with sqlite.store_errors(self._what), closing(self._readers.get().cursor()) as cursor:
            cursor.execute(sql, bindings)
            for profile_id, document in cursor:
                found.append((profile_id, document))
                room -= len(document)
                if room < 0:
                    break
        return found

    def group_keys(self, project: int) -> dict[str, int]:
        with sqlite.store_errors(self._what):
            return dict(
                sqlite.rows(
                    self._readers.get(),
                    "SELECT group_key, data_group_id FROM group_keys WHERE project_id = ? ORDER BY group_key",
                    (project,),
                )
            )

    def property_counts(self, project: int, group_key: str, *, limit: int) -> PropertyCounts:
        group_id = self._group_id(project, group_key)
        if group_id is None:
            return PropertyCounts({}, complete=True)
        with sqlite.store_errors(self._what):
            return properties.read(self._readers.get(), project, group_id, limit)

    def uncounted(self) -> Mapping[tuple[int, str], str]:
        with sqlite.store_errors(self._what):
            return properties.uncounted(self._readers.get())

    def count_properties(self, limit: int) -> int:
        with self._guard, sqlite.store_errors(self._what):
            writer, checkpoints = self._open_writer()
            with sqlite.transaction(writer):
                counted = properties.count_some(writer, limit)
            checkpoints.committed(writer, self._wal_pages, self.watermark(), self._pace(0))
            return counted

    def standing(self, key: ProfileKey) -> tuple[int, bytes | None]:
        connection = self._readers.get()
        with sqlite.store_errors(self._what), sqlite.snapshot(connection):
            position = sqlite.value(connection, "SELECT position FROM watermarks WHERE reader = 'profiles'")
            return int(position), self.documents([key])[0]

    def history(self, key: ProfileKey, *, below: int, since_ms: int = 0) -> Iterator[Change]:
        with sqlite.store_errors(self._what):
            tables = SqliteHistory(self._readers.get())

            def segment_below(position: int) -> tuple[int, list[bytes]] | None:
                return tables.segment_below(key, position, since_ms)

            for line in history_tables.newest_first(segment_below, key[2], below):
                yield self._change_of(key, line)

    def history_between(
        self, project: int, group_key: str, begin: str, end: str | None, *, since_ms: int
    ) -> HistoryRange:
        with sqlite.store_errors(self._what):
            connection = self._readers.get()
            with sqlite.snapshot(connection):
                tables, pair = SqliteHistory(connection), (project, group_key)
                found, end = history_tables.ranged(tables, pair, begin, end, since_ms)
                rows = stored.between(connection, project, self._group_id(project, group_key), begin, end)
            changes = {
                profile_id: [self._change_of((project, group_key, profile_id), line) for line in lines]
                for profile_id, lines in found.items()
            }
        return HistoryRange(end, dict(rows), changes)

    def id_after(self, project: int, group_key: str, begin: str, count: int) -> str | None:
        with sqlite.store_errors(self._what):
            found: str | None = sqlite.value(
                self._readers.get(),
                "SELECT id FROM profiles WHERE project_id = ? AND data_group_id = ? AND id >= ?"
                " ORDER BY id LIMIT 1 OFFSET ?",
                (project, self._group_id(project, group_key), begin, count),
            )
            return found

    def history_size(self) -> HistorySize:
        with sqlite.store_errors(self._what):
            return history_tables.size(SqliteHistory(self._readers.get()))

    def history_reach(self) -> HistoryReach:
        with sqlite.store_errors(self._what):
            return history_tables.reach(SqliteHistory(self._readers.get()))

    def forget_history(self, keys: Sequence[ProfileKey], *, below: int) -> int:
        with self._guard, sqlite.store_errors(self._what):
            writer, _ = self._open_writer()
            with sqlite.transaction(writer):
                of_kind: dict[tuple[int, str], list[str]] = defaultdict(list)
                for project, group_key, profile_id in keys:
                    of_kind[project, group_key].append(profile_id)
                for pair, ids in of_kind.items():
                    group_id = _select_group_id(writer, *pair)
                    if group_id is not None:
                        indexes.forget(writer, pair[0], group_id, ids)
                return history_tables.forget(SqliteHistory(writer), keys, below)

    def tend_history(self, *, keep_from_ms: int, limit_bytes: int) -> bool:
        with self._guard, sqlite.store_errors(self._what):
            writer, checkpoints = self._open_writer()
            with sqlite.transaction(writer):
                more = history_upkeep.tend(SqliteHistory(writer), keep_from_ms, limit_bytes)
            checkpoints.committed(writer, self._wal_pages, self.watermark(), self._pace(0))
            return more

    def property_indexes(self, project: int) -> list[PropertyIndex]:
        with sqlite.store_errors(self._what):
            return indexes.listing(self._readers.get(), project)

    def add_property_index(self, project: int, group_key: str, name: str) -> PropertyIndex:
        group_id = self._group_id(project, group_key)
        if group_id is None:
            raise no_group_key(group_key)
        with self._guard, sqlite.store_errors(self._what):
            connection = self._writer or self._readers.get()
            with sqlite.transaction(connection):
                number = indexes.add(connection, project, group_id, name)
        return PropertyIndex(number, project, group_key, name)

    def drop_property_index(self, project: int, group_key: str, name: str) -> None:
        group_id = self._group_id(project, group_key)
        with self._guard, sqlite.store_errors(self._what):
            connection = self._writer or self._readers.get()
            with sqlite.transaction(connection):
                indexes.drop(connection, project, group_id, name)

    def build_indexes(self, limit: int) -> bool:
        with sqlite.store_errors(self._what):
            if not indexes.work_left(self._readers.get()):
                return False
        with self._guard, sqlite.store_errors(self._what):
            writer, checkpoints = self._open_writer()
            with sqlite.transaction(writer):
                indexes.work_on(writer, limit)
            checkpoints.committed(writer, self._wal_pages, self.watermark(), self._pace(0))
        return True

    def key_window(self) -> tuple[int, int]:
        with sqlite.store_errors(self._what):
            return key_window(self._readers.get())

    def close(self) -> None:
        self._scanner.close()
        with self._guard:
            self._readers.close()
            if self._checkpoints is not None:
                self._checkpoints.close()
                self._checkpoints = None
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    @staticmethod
    def _pace(written: int) -> Pace:
        share = _SMALL_CHECKPOINT_SHARE if written < _SMALL_STEP_PROFILES else 1
        return Pace(_CHECKPOINT_PAGES // share, _CHECKPOINT_EVERY_S)

    def _change_of(self, key: ProfileKey, line: bytes) -> Change:
        def value(digest: str) -> bytes:
            return history_tables.value_apart(SqliteHistory(self._readers.get()), key, digest)

        return change_of(line, value)

    def _get(self, sql: str, bindings: tuple[int | None, ...] = ()) -> int:
        with sqlite.store_errors(self._what):
            return int(sqlite.value(self._readers.get(), sql, bindings))

    def _find(self, pair: tuple[int, str], ids: Sequence[bytes]) -> list[bytes | None]:
        group_id = self._group_id(*pair)
        if group_id is None:
            return [None] * len(ids)
        if self._writing != threading.get_ident():
            return stored.find(self._readers.get(), pair[0], group_id, ids)
        rowids = self._rowids.setdefault(pair, {})
        return stored.find(self._open_writer()[0], pair[0], group_id, ids, rowids)

    def _group_id(self, project: int, group_key: str) -> int | None:
        """The data_group_id of a group key, None where none was written yet; users have 0."""
        if not group_key:
            return 0
        known = self._group_keys.get((project, group_key))
        if known is None:
            with sqlite.store_errors(self._what):
                known = _select_group_id(self._connection(), project, group_key)
            if known is not None:
                self._remember(project, group_key, known)
        return known

    def _remember(self, project: int, group_key: str, group_id: int) -> None:
        if len(self._group_keys) >= _GROUP_KEYS_CACHED:
            self._group_keys.clear()
        self._group_keys[project, group_key] = group_id

    def _connection(self) -> apsw.Connection:
        """What this thread reads through: inside its write transaction, the writer."""
        return self._open_writer()[0] if self._writing == threading.get_ident() else self._readers.get()

    def _open_writer(self) -> tuple[apsw.Connection, Checkpoints]:
        if self._writer is None or self._checkpoints is None:
            raise StoreError(f"{self._what} was closed, or opened for reading alone")
        return self._writer, self._checkpoints

    def _write_profiles(self, writer: apsw.Connection, result: FoldResult) -> int:
        """Write profiles and what they change in the counts of properties; how many profiles."""
        pairs: set[tuple[int, str]] = set()
        if result.property_changes is None:
            written = self._write_documents(writer, _noting(result.profiles, pairs), result.history)
            for pair in pairs:
                properties.forget(writer, pair[0], _select_group_id(writer, *pair))
            return written
        written = self._write_documents(writer, result.profiles, result.history)
        changes = list(result.property_changes())
        numbers = {pair: _select_group_id(writer, *pair) for pair in {change[:2] for change in changes}}
        properties.add(writer, [(change[0], numbers[change[:2]], *change[2:]) for change in changes])
        return written

    def _write_documents(
        self,
        writer: apsw.Connection,
        profiles: Iterable[tuple[ProfileKey, bytes | None]],
        feed: HistoryFeed | None,
    ) -> int:
        """Write profiles and their history, thousands at once, fewer where they are large; how many."""
        tables = SqliteHistory(writer)
        changes = None if feed is None else history_tables.HistoryWriter(tables, feed)
        some: list[tuple[ProfileKey, bytes | None]] = []
        size = written = 0
        for profile in profiles:
            written += 1
            some.append(profile)
            size += len(profile[1] or b"")
            if len(some) == _PROFILES_AT_ONCE or size > _PROFILE_BYTES_AT_ONCE:
                self._write_some(writer, some)
                if changes is not None:
                    changes.write_some()
                some.clear()
                size = 0
        self._write_some(writer, some)
        if changes is not None:
            changes.finish()
        elif written:
            history_tables.break_off(tables)
        return written

    def _write_some(
        self, writer: apsw.Connection, profiles: Sequence[tuple[ProfileKey, bytes | None]]
    ) -> None:
        """Write by rowid what was read in this transaction, the rest by id."""
        known: list[tuple[bytes, bytes]] = []
        puts: dict[tuple[int, str], list[tuple[bytes, bytes]]] = defaultdict(list)
        gone: dict[tuple[int, str], list[bytes]] = defaultdict(list)
        for (project, group_key, profile_id), document in profiles:
            encoded = profile_id.encode()
            read = self._rowids.get((project, group_key))
            rowid = b"" if read is None else read.pop(encoded, b"")
            if document is None:
                gone[project, group_key].append(encoded)
            elif rowid:
                known.append((rowid, document))
            else:
                puts[project, group_key].append((encoded, document))
        if known:
            stored.replace(writer, known)
        for pair, rows in puts.items():
            stored.put(writer, pair[0], _group_id_for_write(writer, *pair), rows)
        for (project, group_key), ids in gone.items():
            group_id = _select_group_id(writer, project, group_key)
            if group_id is not None:
                stored.delete(writer, project, group_id, ids)
        if self._indexes:
            self._keep_indexes(writer, profiles)

    def _keep_indexes(
        self, writer: apsw.Connection, profiles: Sequence[tuple[ProfileKey, bytes | None]]
    ) -> None:
        rows: dict[tuple[int, str], list[tuple[bytes, bytes | None]]] = defaultdict(list)
        for (project, group_key, profile_id), document in profiles:
            rows[project, group_key].append((profile_id.encode(), document))
        for pair, changed in rows.items():
            group_id = _select_group_id(writer, *pair)
            if group_id is not None and (pair[0], group_id) in self._indexes:
                indexes.keep(writer, self._indexes[pair[0], group_id], changed)

    def _count_pages(self, connection: apsw.Connection, name: str, pages: int) -> int:
        del connection, name
        self._wal_pages = pages
        return apsw.SQLITE_OK


def _noting(
    profiles: Iterable[tuple[ProfileKey, bytes | None]], pairs: set[tuple[int, str]]
) -> Iterator[tuple[ProfileKey, bytes | None]]:
    """The profiles as they come; `pairs` gets the project and group key of each."""
    for profile in profiles:
        pairs.add(profile[0][:2])
        yield profile


def _encoded(text: str) -> bytes:
    """UTF-8 for a lookup; a lone surrogate gives bytes that no stored id has."""
    return text.encode("utf-8", "surrogatepass")


def _select_group_id(connection: apsw.Connection, project: int, group_key: str) -> int | None:
    """The data_group_id as it stands in the file: 0 for users, None for a group key without any group yet."""
    if not group_key:
        return 0
    found: int | None = sqlite.value(
        connection,
        "SELECT data_group_id FROM group_keys WHERE project_id = ? AND group_key = ?",
        (project, group_key),
    )
    return found


def _group_id_for_write(writer: apsw.Connection, project: int, group_key: str) -> int:
    """The data_group_id of a group key, made on its first write: from its name, and past any taken one."""
    if not group_key:
        return 0
    found = _select_group_id(writer, project, group_key)
    if found is not None:
        return found
    group_id = group_id_of(project, group_key)
    while sqlite.value(
        writer, "SELECT 1 FROM group_keys WHERE project_id = ? AND data_group_id = ?", (project, group_id)
    ):
        group_id = next_group_id(group_id)
    sqlite.rows(writer, "INSERT INTO group_keys VALUES (?, ?, ?)", (project, group_key, group_id))
    return group_id
