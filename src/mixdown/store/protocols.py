"""What a store must do, for every engine: one protocol for each kind of durable state.

Positions number the records of the log from 0 upwards and are never used again. A *watermark* is
the position of the next record that a reader has not yet taken; the *head* is the position that the
next record will get. All methods block (they are called from threads) and raise `StoreError`.

A store has one or more *partitions*, each with a log of its own; the records of a project are in one of them,
those of a project marked large in all. Partition n counts positions, and ids of refusals, from
`store.places.first_of(n)` upwards. `Store.partition` gives the store as one partition sees it: what reads
and writes a log runs on such a view.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from mixdown.model.history import Change
from mixdown.store import accounts, cohorts, projects, refusals, sessions
from mixdown.store.chunk import FOR_ALL, FOR_PROFILES, Chunk, Outcome
from mixdown.store.history import HistoryFeed, HistoryRange, HistoryReach, HistorySize
from mixdown.store.identities import IdentityReads, IdentityWrites
from mixdown.store.selection import Looked, Selection
from mixdown.store.zones import DEFAULT

if TYPE_CHECKING:
    from mixdown.store.annotations import Annotations
    from mixdown.store.dictionary import Dictionary
    from mixdown.store.events import Events
    from mixdown.store.lookup_tables import LookupTables
    from mixdown.store.places import End, Logs, Place
    from mixdown.store.privacy import PrivacyJobs, Rewritten
    from mixdown.store.reports import Reports

ProfileKey = tuple[int, str, str]
"""(project, group key or "" for users, id)."""

PropertyChange = tuple[int, str, str, str, int]
"""(project, group key, property, kind of value, how many more profiles hold it; fewer: negative)."""


RefusedRecord = refusals.RefusedRecord
RefusalFilter = refusals.RefusalFilter
ALL_REFUSALS: Final = refusals.ALL_REFUSALS
RefusalCount = refusals.RefusalCount
RefusalHead = refusals.RefusalHead
Refusals = refusals.Refusals


class Append(msgspec.Struct, frozen=True):
    """One request's share of a group commit: an encoded segment (b"" when every record was refused).

    `id_filter` is its share of the chunk's filter (`store.chunk.encode_filter`): joined, they make the whole.
    `kinds` says which of the log's readers it is of interest to (`store.chunk.FOR_PROFILES`, `FOR_EVENTS`),
    `partition` in whose log it belongs: a request has one for each that it touches. `parts` says that it
    undoes links between ids.
    """

    segment: bytes
    count: int
    id_filter: bytes
    refusals: tuple[RefusedRecord, ...] = ()
    kinds: int = FOR_PROFILES
    parts: bool = False
    partition: int = 0


def kinds_of(appends: Iterable[Append]) -> int:
    """Which of the log's readers a chunk of these is of interest to; 0 where no record of theirs stands."""
    kinds = 0
    for append in appends:
        kinds |= append.kinds if append.count else 0
    return kinds


class Appended(msgspec.Struct, frozen=True):
    """Where a group commit went: positions `first` to `end - 1`, at chunk time `time_ms`."""

    first: int
    end: int
    time_ms: int


class Turn(Protocol):
    """A held turn at the log: nobody else appends until it ends.

    Where processes on several machines share a store, none of the other threads of this process does.
    """

    def append(self, appends: Sequence[Append], now_ms: int) -> Appended:
        """Append all as one chunk with its refusals, in one transaction, on disk when it returns.

        The chunk's time is `now_ms`, or the time of the chunk before it if that is later. Where
        every record was refused no chunk is written, but the refusals are. Raises `PartedError` where
        `parted` would tell something else by now than it did in this turn: another process parted ids.
        """

    def parted(self) -> int:
        """The position behind the last record that undid links between ids; else the first."""


class Log(Protocol):
    """The durable sequence of chunks."""

    def turn(self) -> AbstractContextManager[Turn]:
        """Wait for one's turn at the log, across processes, and hold it."""

    def head(self) -> int:
        """The position that the next record will get."""

    def tail_position(self) -> int:
        """The position of the oldest record still held (equals `head()` when the log is empty)."""

    def read(self, watermark: int, *, max_records: int, max_bytes: int, kinds: int = FOR_ALL) -> list[Chunk]:
        """Chunks from `watermark` on, in order: at least one if there is any, then up to the limits.

        A chunk within which the watermark stands comes whole: whoever reads in part skips its start.
        A chunk whose checksum does not match is left out and reported by `damaged`. Those that are of none of
        the `kinds` are not loaded: a run of them comes as one chunk without a body, and counts for no limit.
        """

    def damaged(self) -> list[tuple[int, int, str]]:
        """Chunks set aside because they cannot be read: (first, count, reason)."""

    def next_of(self, watermark: int, kinds: int) -> int:
        """Where the next chunk of one of the kinds begins, from `watermark` on; the head where there is none.

        So far has a reader come whose watermark this is: what lies before is of no interest to it.
        """

    def skip_damaged(self, watermark: int) -> int:
        """Where reading goes on when `read` gave nothing: past damaged chunks that start at `watermark`."""

    def set_aside(self, chunk: Chunk, reason: str) -> None:
        """Note that a chunk cannot be read, so that `damaged` tells; its positions stay used."""

    def trim(self, below: int, older_than_ms: int) -> int:
        """Drop chunks that end at or below position `below` and are older than the time; how many."""

    def holding(
        self, hashes: frozenset[int], *, begin: int, below: int, times_ms: Collection[int] = ()
    ) -> tuple[list[int], int]:
        """Where chunks begin that may hold one of the ids hashed by `store.privacy.hashes_of`.

        Also those of these chunk times. Looks at a bounded number of chunks from `begin` on, below `below`;
        returns where to go on, `below` or more at the end. Damaged chunks are among them.
        """

    def rewrite(self, rewritten: Sequence[Rewritten]) -> int:
        """Put chunks in the place of those with the same positions, in one transaction; how many there were.

        Only the process that folds may ask: a chunk that was trimmed meanwhile is left out.
        """

    def size_bytes(self) -> int:
        """Bytes of the bodies of all chunks held (for limits and metrics; may be a second old)."""

    def time_at(self, position: int) -> int:
        """The chunk time (ms) of the record at `position`, or of the next one held; 0 where there is none."""

    def newest_ms(self) -> int:
        """The time (ms) of the newest chunk ever appended; 0 before the first."""

    def close(self) -> None:
        """Release files. A closed log raises on use."""


class FoldResult(msgspec.Struct, frozen=True):
    """What one fold transaction writes: documents (None: the profile is gone), keys, the watermark.

    `profiles` comes in the order of its keys, once, and may be made while it is written: what it raises
    undoes the transaction. `keys` are (idempotency key, chunk time in ms, outcome or None).
    `property_changes` is asked once all profiles are written; without it, the properties of all users or
    groups among which one was written are counted anew, a piece at a time, by `State.count_properties`.
    `history` is what the profiles' changes are kept as; without it, what was kept ends here. `identities` has
    an entry for each project whose links change. `begin` is the watermark that it was folded from: where
    others may fold too, nothing is written when that is no more the store's.
    """

    watermark: int
    profiles: Iterable[tuple[ProfileKey, bytes | None]]
    keys: Sequence[tuple[bytes, int, Outcome | None]]
    now_ms: int
    property_changes: Callable[[], Iterable[PropertyChange]] | None = None
    history: HistoryFeed | None = None
    identities: Sequence[IdentityWrites] = ()
    begin: int | None = None


class PropertyCounts(msgspec.Struct, frozen=True):
    """In how many profiles each property holds a value of which kind, the most frequent properties first.

    `complete` is false while profiles that were stored without counting are still being counted.
    """

    counts: dict[str, dict[str, int]]
    complete: bool


class PropertyIndex(msgspec.Struct, frozen=True):
    """An index on a property of a project's users (group key "") or groups of one key.

    It is used once it is `complete`; `profiles` says how many it has taken in.
    """

    number: int
    project: int
    group_key: str
    name: str
    complete: bool = False
    profiles: int = 0


class State(IdentityReads, Protocol):
    """Profiles and identities as the fold writes and readers read them."""

    def watermark(self) -> int:
        """The position up to which (exclusive) the log has been folded into this state."""

    def durable_watermark(self) -> int:
        """A watermark that survives a power cut: the one read before the last completed checkpoint."""

    def checkpoint(self) -> int:
        """Put the state on disk as far as readers allow; returns the durable watermark then.

        Only the process that folds may ask. It happens by itself while much is written.
        """

    def documents(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        """The documents (JSON bytes) of these profiles, in the order asked; None where there is none.

        Raises `TooMuchAtOnceError` for several that are tens of MiB together: `store.batches` asks for fewer.
        """

    def documents_to_change(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        """The same for whoever writes them, who asks once in each step, within `write`.

        They may be spelled otherwise than the fold spells them: with spaces, their names in another order.
        """

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        """Those of `keys` that a fold wrote at or after chunk time `since_ms`, with their outcomes."""

    def write(self, result: FoldResult) -> None:
        """Write everything in `result` in one transaction.

        Raises `LeaseLostError` where another process folds here now, or has.
        """

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        """Take what the outcomes of these idempotency keys quote (`store.privacy.redact`); keys stay."""

    def ids(self, project: int, group_key: str) -> Iterator[str]:
        """All ids of a project's users ("") or groups, ascending by code point."""

    def count(self, project: int, group_key: str) -> int:
        """How many profiles there are."""

    def matching(self, project: int, group_key: str, selection: Selection) -> Iterator[str]:
        """The ids of the profiles that a selection wants, in its order.

        They are those of no single moment: what changes meanwhile counts as it was or as it is.
        """

    def values(self, project: int, group_key: str, selection: Selection) -> Iterator[list[Any]]:
        """What the selection's `sort_key` is for each profile that it wants, in no order, many at a time."""

    def tally(self, project: int, group_key: str, selections: Sequence[Selection]) -> list[int]:
        """How many profiles each of these selections wants."""

    def page(self, project: int, group_key: str, *, offset: int, limit: int) -> list[tuple[str, bytes]]:
        """(id, document) ascending by id: `limit` of them, fewer (but one) where they are tens of MiB."""

    def profiles_after(
        self, project: int, group_key: str, *, after: str, limit: int
    ) -> list[tuple[str, bytes]]:
        """(id, document) ascending by id, from the first id behind `after` on ("": from the start).

        `limit` of them, fewer (but one) where they are tens of MiB, none where there are no more. To read
        all, ask again with the last id: no snapshot is held in between.
        """

    def look(
        self, project: int, group_key: str, selection: Selection, *, after: str, limit: int, rows: int
    ) -> Looked:
        """The first profiles behind the id `after` that a selection wants, ascending by id.

        At most `limit` of them (fewer, but one, where they are tens of MiB), found among at most `rows`.
        To go on, ask again with `Looked.last`.
        """

    def group_keys(self, project: int) -> dict[str, int]:
        """The project's group keys and their data_group_id (positive, below 2^53, never changing)."""

    def property_counts(self, project: int, group_key: str, *, limit: int) -> PropertyCounts:
        """The counts of the `limit` properties that most of a project's users ("") or groups hold."""

    def uncounted(self) -> Mapping[tuple[int, str], str]:
        """(project, group key) of which not all properties are counted: only those of ids up to the value."""

    def count_properties(self, limit: int) -> int:
        """Count those of at most `limit` further profiles; how many there were, 0 when all are counted.

        Only the process that folds may ask, between two writes.
        """

    def standing(self, key: ProfileKey) -> tuple[int, bytes | None]:
        """The watermark, and the document of a profile as it stands there (None: there is none)."""

    def history(self, key: ProfileKey, *, below: int, since_ms: int = 0) -> Iterator[Change]:
        """What changed in a profile, newest first: the steps whose records stand below a position.

        Those that ended before `since_ms` (chunk time) need not come. Reads little at once; no transaction
        stays open between: what the fold writes meanwhile stands above `below`. Raises `CorruptStoreError`.
        """

    def history_between(
        self, project: int, group_key: str, begin: str, end: str | None, *, since_ms: int
    ) -> HistoryRange:
        """Profiles with ids from `begin` to before `end`, and their changes in steps since `since_ms`."""

    def id_after(self, project: int, group_key: str, begin: str, count: int) -> str | None:
        """The id `count` places behind the first from `begin` on; None where there are no more."""

    def history_size(self) -> HistorySize:
        """How much history there is, and how far back it reaches. Looks at every large value."""

    def history_reach(self) -> HistoryReach:
        """How far back it reaches, and in how many segments; cheap."""

    def tend_history(self, *, keep_from_ms: int, limit_bytes: int) -> bool:
        """Do a little of what keeps history quick to read and within bounds; whether anything was to do.

        What ended before a chunk time goes, a piece as a whole, so up to a sixteenth of the time that is kept
        later; and the oldest of what is above a number of bytes (0: no bound).
        Only the process that folds may ask.
        """

    def forget_history(self, keys: Sequence[ProfileKey], *, below: int) -> int:
        """Take the history of these profiles below a position away, in one transaction; of how many steps.

        And what else says that they ever were, but for the profiles themselves. Only the process that folds
        may ask.
        """

    def property_indexes(self, project: int) -> list[PropertyIndex]:
        """A project's indexes, oldest first. They make reads quicker and never change an answer."""

    def add_property_index(self, project: int, group_key: str, name: str) -> PropertyIndex:
        """Ask for an index, from any process; the fold builds it, a piece at a time, and keeps it.

        Raises `CatalogError` where there is one already, too many, or no such group key.
        """

    def drop_property_index(self, project: int, group_key: str, name: str) -> None:
        """Use an index no more, from any process. Raises `CatalogError` where there is none."""

    def build_indexes(self, limit: int) -> bool:
        """Take in at most `limit` further profiles; whether there was anything to do.

        Only the process that folds may ask, between two writes.
        """

    def key_window(self) -> tuple[int, int]:
        """How many idempotency keys of retries are held, and the chunk time (ms) of the oldest (0: none)."""

    def close(self) -> None:
        """Release files."""


Project = projects.Project
Account = accounts.Account


class Catalog(Protocol):
    """Projects, service accounts and small facts. Every change raises `version`."""

    def version(self) -> int:
        """Changes whenever anything in the catalog was changed, by any process; cheap."""

    def projects(self) -> list[Project]:
        """All projects, by id."""

    def project(self, project_id: int) -> Project | None:
        """The project with this id, None where there is none; cheap, however many there are."""

    def accounts(self) -> list[Account]:
        """All service accounts, by username."""

    def create_project(
        self,
        name: str,
        *,
        token: str,
        secret_hash: bytes,
        id_merge: str,
        now_ms: int,
        timezone: str = DEFAULT,
    ) -> Project:
        """Make a project. Raises `CatalogError` when name or token is taken."""

    def change_project(
        self,
        project_id: int,
        *,
        name: str | None = None,
        token: str | None = None,
        secret_hash: bytes | None = None,
        id_merge: str | None = None,
        late_events: bool | None = None,
        timezone: str | None = None,
        ci_strings: bool | None = None,
    ) -> Project:
        """Change what is given. Raises `CatalogError`.

        No such project, a name or token is taken, or another identity mode for a project marked large.
        """

    def limit_project(
        self,
        project_id: int,
        *,
        records_per_s: int | None,
        requests_per_s: int | None,
        queries_per_hour: int | None,
    ) -> Project:
        """Set all of a project's rate limits (None: as the server's settings say). Raises `CatalogError`."""

    def enlarge_project(self, project_id: int) -> Project:
        """Mark a project large, for good. Raises `CatalogError` where its identity is not simplified."""

    def delete_project(self, project_id: int) -> None:
        """Delete a project and the accounts that are in no other; its id is never used again.

        Raises `CatalogError`.
        """

    def create_account(self, account: Account) -> Account:
        """Make a service account; returns it with its number.

        Raises `CatalogError` when the name is taken or a project is missing.
        """

    def grant_account(self, username: str, project_id: int, role: str) -> Account:
        """Give an account a role in a project, in place of one it has there.

        Raises `CatalogError`: no such account or project, or an owner, who sees every project.
        """

    def revoke_account(self, username: str, project_id: int) -> Account:
        """Take an account out of a project. Raises `CatalogError` when it is not in it."""

    def change_password(self, username: str, password_hash: bytes) -> Account:
        """Give an account another password. Raises `CatalogError` when there is no such account."""

    def expire_account(self, username: str, expires_ms: int) -> Account:
        """Let an account end at another time (0: never). Raises `CatalogError` when there is none."""

    def delete_account(self, username: str) -> None:
        """Raises `CatalogError` when there is none."""

    def end_session(self, username: str, session: bytes, *, until_s: int, now_s: int) -> None:
        """Let a session of an account be over, which would have lived until `until_s`; raises no `version`.

        Those that are past their time are forgotten. Of an account that has ended `bounds.SESSIONS_ENDED`
        others, all sessions are over that would have lived until then.
        """

    def is_session_over(self, username: str, session: bytes, *, until_s: int) -> bool:
        """Whether a session, which would live until `until_s`, was ended; cheap."""

    def fact(self, name: str) -> bytes | None:
        """A small durable fact (such as the key that signs cookies)."""

    def set_fact(self, name: str, value: bytes) -> None:
        """Keep a fact; does not raise `version`."""

    def close(self) -> None:
        """Release files."""


Cohort = cohorts.Cohort
Cohorts = cohorts.Cohorts


Session = sessions.Session
Sessions = sessions.Sessions


class Store(Protocol):
    """All durable state of one server, opened by one process.

    A view (`partition`) has the log, refusals, state and events of one partition: all that these say and
    write is of its records alone, positions and watermarks included. What has no partitions (catalog,
    cohorts, lookup tables, dictionary, sessions, jobs of data protection) is the same in every view. A store
    of one partition is its own view. Of one with several, `log` raises; `refusals`, `state` and `events` read
    all partitions, and what only the process that folds, or takes events, may ask raises;
    `refusals.remove` and what may be asked of any process go where they belong; `watermark` is a number that
    grows whenever any partition's does, and no position.
    """

    @property
    def partition_count(self) -> int:
        """How many partitions there are; it never changes."""

    @property
    def number(self) -> int:
        """Which partition this is a view of; 0 for the whole of a store with several."""

    def partition_of(self, project: int, key: str | None = None) -> int:
        """The partition of a project's records; with `key`, that of the key. Pure.

        For projects marked large alone a key is given: `store.places.profile_key_text` of what a record is
        about, as it was sent.
        """

    def partitions_of(self, project: int) -> Sequence[int]:
        """The partitions that hold records of a project: one, or all for a project marked large."""

    def partition(self, number: int) -> Store:
        """The store as one partition sees it; the same object each time."""

    def places(self, partitions: Sequence[int], kinds: int = FOR_ALL) -> Sequence[Place]:
        """How far these partitions' logs and readers (of these kinds of chunks) are: heads are read first."""

    def logs(self) -> Logs:
        """All logs of the store together; one look, however many they are."""

    def ends(self, partitions: Sequence[int]) -> Mapping[int, End]:
        """Where these partitions' logs and refusals end; one look, however many they are."""

    @property
    def log(self) -> Log:
        """The durable sequence of chunks."""

    @property
    def refusals(self) -> Refusals:
        """Refused records."""

    @property
    def state(self) -> State:
        """Profiles and idempotency keys."""

    @property
    def catalog(self) -> Catalog:
        """Projects and accounts."""

    @property
    def cohorts(self) -> Cohorts:
        """Saved filters."""

    @property
    def lookup_tables(self) -> LookupTables:
        """Lookup tables."""

    @property
    def dictionary(self) -> Dictionary:
        """What people write of events and profiles."""

    @property
    def reports(self) -> Reports:
        """Saved reports."""

    @property
    def annotations(self) -> Annotations:
        """Notes on points in time."""

    @property
    def sessions(self) -> Sessions:
        """Query sessions."""

    @property
    def privacy(self) -> PrivacyJobs:
        """Deletions and retrievals of people's data."""

    @property
    def events(self) -> Events:
        """Events, as they are stored to be analysed."""

    def sweep(self) -> Iterator[bool]:
        """Let no byte of what was deleted stay on disk. Only the process that folds may ask.

        A step at a time: gives True after each that got on, False where somebody's read or write held it up.
        """

    def leftovers(self) -> list[str]:
        """Names of files beside the store's own that may hold what it has deleted."""

    def close(self) -> None:
        """Close all parts."""
