"""Opening a PostgreSQL store: connected, migrated, its parts put together.

Enters: a URL and the role of the process. Leaves: a `PostgresStore`. All durable state is in the database;
the processes that share it may run on any number of machines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Literal, cast

from mixdown.store.chunk import FOR_ALL, FOR_EVENTS, FOR_PROFILES
from mixdown.store.events import Events
from mixdown.store.places import End, Logs, Place, first_of, partition_for
from mixdown.store.postgres.catalog import PostgresCatalog
from mixdown.store.postgres.cohorts import PostgresCohorts
from mixdown.store.postgres.connection import ANSWER_LIMIT_S, POOL_SIZE, Database
from mixdown.store.postgres.dictionary import PostgresDictionary
from mixdown.store.postgres.distributing import require_whole
from mixdown.store.postgres.events import PostgresEvents, WholeEvents, check_shelf
from mixdown.store.postgres.filling import refuse_unfinished
from mixdown.store.postgres.history import Shares
from mixdown.store.postgres.kept import Kept
from mixdown.store.postgres.leases import EVENTS, FOLD, Fences
from mixdown.store.postgres.log import PostgresLog
from mixdown.store.postgres.lookup_tables import PostgresLookupTables
from mixdown.store.postgres.migrating import PARTITIONS, migrate, require_migrated
from mixdown.store.postgres.partitions import NoLog
from mixdown.store.postgres.privacy import PostgresPrivacyJobs
from mixdown.store.postgres.reach import Reach
from mixdown.store.postgres.refusals import PostgresRefusals
from mixdown.store.postgres.reports import PostgresAnnotations, PostgresReports
from mixdown.store.postgres.sessions import PostgresSessions
from mixdown.store.postgres.state import PostgresState
from mixdown.store.protocols import Log, Refusals, State, Store
from mixdown.store.shelves import NoShelf, Shelf

Role = Literal["worker", "fold", "events", "cli"]

_STANDING: Final = """
    SELECT h.partition, h.position, w.kind, w.position
    FROM mixdown.heads AS h JOIN mixdown.watermarks AS w ON w.partition = h.partition
    WHERE h.partition = ANY(%s)
"""
_NEXT: Final = """
    SELECT first FROM mixdown.chunks
    WHERE partition = %s AND first >= %s AND first < %s AND kinds & %s <> 0 ORDER BY first LIMIT 1
"""
# Added up here: a cluster does not join what it has added up with what it looks up.
_LOGS: Final = """
    SELECT h.partition, h.position, h.held_bytes, h.time_ms, (SELECT c.first FROM mixdown.chunks AS c
        WHERE c.partition = h.partition ORDER BY c.first LIMIT 1)
    FROM mixdown.heads AS h
    UNION ALL SELECT NULL, count(*), 0, 0, 0 FROM mixdown.damaged_chunks
"""
_ENDS: Final = "SELECT partition, position, newest_refusal FROM mixdown.heads WHERE partition = ANY(%s)"
# How long a statement may take. What folds has nobody waiting, and large steps; commands may change a table.
_ANSWERS_S: Final[dict[Role, float | None]] = {
    "worker": ANSWER_LIMIT_S,
    "fold": 120.0,
    "events": 120.0,
    "cli": None,
}
_KINDS: Final = {FOLD: FOR_PROFILES, EVENTS: FOR_EVENTS}


class _Common:
    """What has no partitions."""

    def __init__(self, database: Database) -> None:
        self.catalog = PostgresCatalog(database)
        self.cohorts = PostgresCohorts(self.catalog)
        self.lookup_tables = PostgresLookupTables(database, self.catalog)
        self.dictionary = PostgresDictionary(self.catalog)
        self.reports = PostgresReports(self.catalog)
        self.annotations = PostgresAnnotations(self.catalog)
        self.sessions = PostgresSessions(database)
        self.privacy = PostgresPrivacyJobs(database)


class _Parts:
    """What the whole store and each view of it have alike."""

    def __init__(self, database: Database, common: _Common, *, count: int, number: int, role: Role) -> None:
        self.database = database
        self.partition_count = count
        self.number = number
        self.role = role
        self.catalog = common.catalog
        self.cohorts = common.cohorts
        self.lookup_tables = common.lookup_tables
        self.dictionary = common.dictionary
        self.reports = common.reports
        self.annotations = common.annotations
        self.sessions = common.sessions
        self.privacy = common.privacy

    def partition_of(self, project: int, key: str | None = None) -> int:
        return partition_for(self.partition_count, project, key)

    def partitions_of(self, project: int) -> Sequence[int]:
        found = self.catalog.project(project)
        if found is not None and found.large:
            return range(self.partition_count)
        return (self.partition_of(project),)

    def places(self, partitions: Sequence[int], kinds: int = FOR_ALL) -> Sequence[Place]:
        found = self.database.rows(_STANDING, (list(partitions),))
        heads = {number: head for number, head, _, _ in found}
        come = {(number, _KINDS[kind]): position for number, _, kind, position in found}
        behind = [
            (number, of) for (number, of), position in come.items() if kinds & of and position < heads[number]
        ]
        if behind:  # a reader has come up to the next chunk that is for it
            with self.database.pipeline() as connection:
                asked = [
                    connection.execute(_NEXT, (number, come[number, of], heads[number], of))
                    for number, of in behind
                ]
            for key, cursor in zip(behind, asked, strict=True):
                row = cursor.fetchone()
                come[key] = heads[key[0]] if row is None else row[0]
        for number, of in come:
            if not kinds & of:
                come[number, of] = heads[number]
        return [
            Place(number, heads[number], come[number, FOR_PROFILES], come[number, FOR_EVENTS])
            for number in partitions
        ]

    def logs(self) -> Logs:
        rows = self.database.rows(_LOGS)
        found = [row for row in rows if row[0] is not None]
        return Logs(
            records=sum(head - first_of(number) for number, head, *_ in found),
            dropped=sum(
                (head if tail is None else tail) - first_of(number) for number, head, _, _, tail in found
            ),
            size_bytes=sum(size for _, _, size, _, _ in found),
            newest_ms=max(time_ms for *_, time_ms, _ in found),
            damaged=sum(row[1] for row in rows if row[0] is None),
        )

    def ends(self, partitions: Sequence[int]) -> Mapping[int, End]:
        found = self.database.rows(_ENDS, (list(partitions),))
        return {number: End(head, refusal) for number, head, refusal in found}

    def sweep(self) -> Iterator[bool]:
        """Nothing: what PostgreSQL leaves of deleted rows on its disk, VACUUM gives to others."""
        return iter(())

    def leftovers(self) -> list[str]:
        return []


class PostgresStore(_Parts):
    """`Store` in a PostgreSQL database. One for a process; its parts may be used from any thread."""

    def __init__(self, database: Database, role: Role, shelf: Shelf | None = None) -> None:
        count = int(database.value("SELECT partitions FROM mixdown.layout"))
        self.common = _Common(database)
        super().__init__(database, self.common, count=count, number=0, role=role)
        self.shelf = shelf or NoShelf()
        self.opened_by: Mapping[str, str] = {}
        """How another process opens the same store: the URL, the file of its password, the shelf's URL."""
        self.fences = Fences()
        """Of the leases that this process holds: what it writes names them."""
        self.history_shares = Shares(database, count)
        self.kept = Kept()
        """What this process has written of profiles."""
        self._views = [PostgresView(self, number) for number in range(count)]
        own = self._views[0]
        self.log: Log = own.log
        self.refusals: Refusals = own.refusals
        self.state: State = own.state
        self.events: Events = own.events
        if count > 1:
            self.log = cast("Log", NoLog())
            self.refusals = PostgresRefusals(database, range(count))
            self.state = PostgresState(database, Reach(self, None))
            views = [view.events for view in self._views]
            self.events = WholeEvents(database, self.shelf, views, self.partitions_of)

    def partition(self, number: int) -> Store:
        view = self if self.partition_count == 1 else self._views[number]
        return cast("Store", view)

    def close(self) -> None:
        self.lookup_tables.close()
        self.database.close()


class PostgresView(_Parts):
    """The store as one of its partitions sees it."""

    def __init__(self, whole: PostgresStore, number: int) -> None:
        super().__init__(
            whole.database, whole.common, count=whole.partition_count, number=number, role=whole.role
        )
        self._whole = whole
        self.log: Log = PostgresLog(whole.database, number)
        self.refusals = PostgresRefusals(whole.database, [number])
        fence = partial(whole.fences.of, FOLD, number)
        self.state = PostgresState(
            whole.database, Reach(whole, number, fence), whole.history_shares, whole.kept
        )
        self.events = PostgresEvents(
            whole.database, number, whole.shelf, partial(whole.fences.of, EVENTS, number)
        )

    def partition(self, number: int) -> Store:
        return self._whole.partition(number)

    def close(self) -> None:
        self._whole.close()


def open_postgres(
    url: str,
    *,
    role: Role,
    create: bool,
    pool_size: int = POOL_SIZE,
    password_file: str = "",
    partitions: int = PARTITIONS,
    shelf: Shelf | None = None,
    filling: bool = False,
) -> PostgresStore:
    """Open the store in the database that a URL names; `create` makes its tables or brings them up to date.

    `partitions` counts where it is made; `shelf` is where files of events lie (`store.shelves`). Several
    processes may open it at the same time. Raises `SettingsError`, `StoreDownError`, `SchemaTooNewError`, and
    `StoreError` where the tables are not those of this version and `create` is false, where they are spread
    over the nodes of a cluster in part alone, or where a data folder is being copied into them, unless it is
    who copies that asks (`filling`).
    """
    database = Database(
        url,
        pool_size=pool_size,
        application=f"mixdown {role}",
        password_file=password_file,
        answer_limit_s=_ANSWERS_S[role],
    )
    try:
        if create:
            migrate(database, partitions=partitions)
        else:
            require_migrated(database)
        if database.is_cluster:
            require_whole(database)
        if not filling:
            refuse_unfinished(database)
        if shelf is not None:
            check_shelf(database, shelf)
        store = PostgresStore(database, role, shelf)
        store.opened_by = {"url": url, "password_file": password_file, "shelf": store.shelf.url}
        return store
    except BaseException:
        database.close()
        raise
