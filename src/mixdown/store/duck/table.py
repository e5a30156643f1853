"""A project's events as one table: files and hot batches together, each event once.

Enters: `Parts`. Leaves: an `EventTable`, a DuckDB connection with the relation `events`. The connection
reads the project's own files and nothing else, in bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec.structs import replace

from mixdown.model.errors import StoreError, TooMuchAtOnceError
from mixdown.store import patience
from mixdown.store.duck import columns, presence
from mixdown.store.duck.lines import load_hot
from mixdown.store.duck.shredding import BASE
from mixdown.store.duck.sql import as_allowed, identifier, parquet
from mixdown.store.events import EventFile, Parts

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

KEY: Final = "event, distinct_id, time, insert_id"
# hot events and files have times of different types, and these other hashes
_HASH: Final = "hash(event, distinct_id, epoch_ms(time), insert_id)"
_DAY_MS: Final = 24 * 3600 * 1000
_DAYS_ONE_BY_ONE: Final = 16


def at_time(time_ms: int) -> str:
    """A moment as SQL that columns of files can be compared with, whole groups of rows at once."""
    return f"CAST(make_timestamp_ms({time_ms:d}) AS TIMESTAMP_MS)"


def open_events(
    parts: Parts,
    *,
    memory_limit_bytes: int,
    threads: int,
    temp_directory: Path | None,
    ordered: bool = False,
) -> EventTable:
    """The events of `parts` as a table; close it (it is a context manager).

    It takes `memory_limit_bytes` and little more; what is larger goes into a folder of its own within
    `temp_directory` (None: it fails as what does not fit in memory). For one thread at a time; `interrupt`
    may be called from any. With `ordered`, rows keep their order on their way through a statement, as DuckDB
    says of "order preservation"; without, it may do with less memory. Raises `StoreError`.
    """
    return EventTable(parts, memory_limit_bytes, threads, temp_directory, ordered=ordered)


class EventTable:
    """The relation `events`, and SQL for what is asked of it.

    Columns: `event`, `distinct_id`, `insert_id` (VARCHAR), `time` (TIMESTAMP_MS, UTC; `epoch_ms(time)` gives
    milliseconds), `position`, `arrived` (BIGINT; ms), and those that `value` and `whole` give. Name a
    property by `value` before the statement runs that uses it. Ids are as they were sent.
    """

    def __init__(
        self,
        parts: Parts,
        memory_limit_bytes: int,
        threads: int,
        temp_directory: Path | None,
        *,
        ordered: bool = False,
    ) -> None:
        import duckdb  # noqa: PLC0415 - tens of MiB, for those who read events

        self._parts = parts
        self._asked: dict[tuple[columns.Form, str], str] = {}
        self._whole = False
        self._stale = True
        self._doubtful: frozenset[int] = frozenset()  # files that may have rows in `dead` beyond their own
        self._hot_dead = False
        self._scratch: TemporaryDirectory[str] | None = None
        if temp_directory is not None:
            temp_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # one of its own: two databases must not share a folder for what they spill
            self._scratch = TemporaryDirectory(dir=temp_directory, ignore_cleanup_errors=True)
        with store_errors():
            self.connection: DuckDBPyConnection = duckdb.connect(
                ":memory:",
                config={
                    "memory_limit": f"{memory_limit_bytes // 1024}KiB",
                    "threads": threads,
                    "temp_directory": "" if self._scratch is None else self._scratch.name,
                    "preserve_insertion_order": False,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
            try:
                with self.in_time():
                    self._prepare(ordered=ordered)
            except BaseException:
                self.close()
                raise

    def _prepare(self, *, ordered: bool) -> None:
        run = self.connection.execute
        run("SET enable_progress_bar = false")
        load_hot(self.connection, self._parts.hot)
        if self._parts.attach is not None:
            self._parts.attach(self.connection)
        run("SET allowed_paths = ?", [as_allowed(file.path for file in self._parts.files)])
        run("SET enable_external_access = false")
        run("CREATE TEMP TABLE dead (position BIGINT)")
        dead = [position for file in self._parts.files for position in file.dead]
        if dead:
            run("INSERT INTO dead SELECT unnest(?::BIGINT[])", [dead])
        self._find_doubles()
        if ordered:  # only now: tables that are made in order take more memory
            run("SET preserve_insertion_order = true")
        run("SET lock_configuration = true")

    def _find_doubles(self) -> None:
        """Add to `dead` what was stored again: files of days hold no event twice, all else may.

        Only days in which events lie that are not in files of days are looked at. Hashes are compared first:
        they take a fraction of the memory of keys, and where all differ nothing is stored twice.
        """
        run = self.connection.execute
        recent = [file for file in self._parts.files if file.day is None]
        sources = ["SELECT * FROM hot"] if self._parts.hot else []
        sources += [self._rows_of(group) for group in _groups(recent)]
        if not sources:
            return
        hashed = f"{_HASH} AS hash"
        every = " UNION ALL ".join(f"SELECT {hashed}, time FROM ({source})" for source in sources)
        run(f"CREATE TEMP TABLE unsure AS {every}")
        touched = run(
            f"SELECT epoch_ms(time) // {_DAY_MS}, epoch_ms(min(time)), epoch_ms(max(time))"
            " FROM unsure GROUP BY 1"
        ).fetchall()
        sure = self._overlapping(touched)
        looked = [
            f"SELECT * FROM ({self._rows_of(files)})"
            f" WHERE time BETWEEN {at_time(first_ms)} AND {at_time(last_ms)}"
            for files, first_ms, last_ms in sure
        ]
        if looked:
            held = " UNION ALL ".join(f"SELECT {hashed}, time FROM ({source})" for source in looked)
            run(f"INSERT INTO unsure SELECT * FROM ({held}) SEMI JOIN (SELECT hash FROM unsure) USING (hash)")
        run("CREATE TEMP TABLE alike AS SELECT hash FROM unsure GROUP BY hash HAVING count(*) > 1")
        run("DROP TABLE unsure")
        if run("SELECT count(*) FROM alike").fetchall() != [(0,)]:
            every = " UNION ALL ".join(
                f"SELECT {KEY}, position FROM ({source}) SEMI JOIN alike ON {_HASH} = alike.hash"
                for source in (*sources, *looked)
            )
            run(
                f"INSERT INTO dead SELECT position FROM ({every})"
                f" QUALIFY row_number() OVER (PARTITION BY {KEY} ORDER BY position DESC) > 1"
            )
        run("DROP TABLE alike")
        if run("SELECT count(*) FROM dead").fetchall() != [(0,)]:
            self._doubtful = frozenset(file.number for file in recent) | {
                file.number for files, *_ in sure for file in files
            }
            self._hot_dead = True

    def _overlapping(self, touched: Sequence[tuple[int, int, int]]) -> list[tuple[list[EventFile], int, int]]:
        """Files of days that may hold what lies in spans (day, first ms, last ms), and those spans.

        Days come one by one while they are few: then little is read of a day that goes on.
        """
        of_days: dict[int, list[EventFile]] = {}
        for file in self._parts.files:
            if file.day is not None:
                of_days.setdefault(file.day, []).append(file)
        found = []
        for day, first_ms, last_ms in touched:
            files = [
                file for file in of_days.get(day, ()) if file.first_ms <= last_ms and file.last_ms >= first_ms
            ]
            if files:
                found.append((files, first_ms, last_ms))
        if len(found) > _DAYS_ONE_BY_ONE:
            every = [file for files, *_ in found for file in files]
            found = [(every, min(first for _, first, _ in found), max(last for *_, last in found))]
        return found

    def value(self, name: str) -> str:
        """SQL of a property as JSON, for statements over `events`; NULL where an event does not have it."""
        return self._column("json", name)

    def text(self, name: str) -> str:
        """SQL of a property that is a text; NULL where it is none."""
        return self._column("text", name)

    def number(self, name: str) -> str:
        """SQL of a property that is a number, as a double; NULL where it is none."""
        return self._column("number", name)

    def _column(self, form: columns.Form, name: str) -> str:
        asked = (form, name)
        if asked not in self._asked:
            self._asked[asked] = f"property {len(self._asked)}"
            self._stale = True
        return identifier(self._asked[asked])

    @property
    def whole(self) -> str:
        """SQL of all properties of an event as one JSON object."""
        if not self._whole:
            self._whole = self._stale = True
        return "properties"

    def names(self) -> list[str]:
        """Names of properties that are common in these parts, the most frequent first; not all of them."""
        counts: dict[str, int] = {}
        for file in self._parts.files:
            for column in file.columns:
                counts[column.name] = counts.get(column.name, 0) + column.count
        return sorted(counts, key=lambda name: (-counts[name], name))

    def members_sql(self, condition: str) -> str:
        """SQL of (name, kind, n): properties of events that meet a condition, several rows for a name.

        The condition is over the columns that every event has.
        """
        found = [presence.in_json("properties", self._of_hot(["properties"]), condition)]
        shapes: dict[tuple[Any, ...], list[EventFile]] = {}
        typed: dict[tuple[Any, ...], list[EventFile]] = {}
        for file in self._parts.files:
            alike = (self._is_doubtful(file), file.begin_ms)
            if file.rest or file.rest is None or file.day is None:
                shapes.setdefault(("properties" if file.day is None else "rest", *alike), []).append(file)
            if file.columns:
                own = tuple(replace(column, count=0, integers="") for column in file.columns)
                typed.setdefault((own, *alike), []).append(file)
        for (column, dead, begin_ms), files in shapes.items():
            source = self._select(_parquet(files), [column], dead=dead, begin_ms=begin_ms)
            found.append(presence.in_json(column, source, condition))
        for (own, dead, begin_ms), files in typed.items():
            named = [identifier(column.column) for column in own]
            source = self._select(_parquet(files), named, dead=dead, begin_ms=begin_ms)
            found.append(presence.in_columns(own, source, condition))
        return " UNION ALL ".join(found)

    @property
    def rows_at_most(self) -> int:
        """How many events there may be: all of the parts, whatever their time."""
        hot = sum(batch.count(b"\n") for batch in self._parts.hot)
        return hot + sum(file.count for file in self._parts.files)

    @property
    def positions_end(self) -> int:
        """A position that is higher than any event's."""
        return max(0, self._parts.watermark) + 1

    def relation_sql(self) -> str:
        """The relation `events` as a SELECT, with all columns that were asked for so far."""
        return self._view()

    def prepare(self) -> DuckDBPyConnection:
        """The connection, its relation `events` with all columns that were asked for."""
        if self._stale:
            with store_errors():
                self.connection.execute(f"CREATE OR REPLACE TEMP VIEW events AS {self._view()}")
            self._stale = False
        return self.connection

    def batches(
        self, sql: str, params: Sequence[Any] = (), *, rows: int = 2000
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Run a statement; its rows, some at a time, in bounded memory. Raises `StoreError`."""
        connection = self.prepare()
        with store_errors():
            connection.execute(sql, list(params))
            while some := connection.fetchmany(rows):
                yield some

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """A block whose statement is ended by force where this thread's time is over, or nobody waits."""
        with patience.interrupted_by(self.interrupt):
            yield

    def interrupt(self) -> None:
        """End the statement that runs, from another thread; nothing where the table is closed by now."""
        import duckdb  # noqa: PLC0415

        with suppress(duckdb.ConnectionException):
            self.connection.interrupt()

    def close(self) -> None:
        """Give back memory and files."""
        self.connection.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _view(self) -> str:
        """The relation `events`: a SELECT for each group of files that read alike, and one for hot events."""
        hot = [
            f"{columns.in_form(columns.of_json('properties', name), form)} AS {identifier(own)}"
            for (form, name), own in self._asked.items()
        ]
        hot += ["properties"] if self._whole else []
        selects = [self._of_hot(hot)]
        groups: dict[tuple[Any, ...], list[EventFile]] = {}
        for file in self._parts.files:
            own = [
                f"{columns.of_file(file, name, form)} AS {identifier(own)}"
                for (form, name), own in self._asked.items()
            ]
            own += [f"{columns.whole_of_file(file)} AS properties"] if self._whole else []
            since_ms = None if self._is_whole(file) else self._since_ms(file.begin_ms)
            groups.setdefault((tuple(own), self._is_doubtful(file), since_ms), []).append(file)
        for (own, dead, since_ms), files in groups.items():
            selects.append(self._from(_parquet(files), own, dead=dead, since_ms=since_ms))
        return " UNION ALL ".join(selects)

    def _is_doubtful(self, file: EventFile) -> bool:
        """Whether a file may have rows that are dead."""
        return bool(file.dead) or file.number in self._doubtful

    def _of_hot(self, own: Sequence[str]) -> str:
        return self._select("hot", own, dead=self._hot_dead, begin_ms=None)

    def _rows_of(self, files: Sequence[EventFile]) -> str:
        """The rows of files that begin at the same time."""
        return self._select(
            _parquet(files), [], dead=any(file.dead for file in files), begin_ms=files[0].begin_ms
        )

    def _select(self, source: str, own: Sequence[str], *, dead: bool, begin_ms: int | None) -> str:
        return self._from(source, own, dead=dead, since_ms=self._since_ms(begin_ms))

    def _from(self, source: str, own: Sequence[str], *, dead: bool, since_ms: int | None) -> str:
        """The rows of a source from `since_ms` on; None: all of them."""
        living = " ANTI JOIN dead USING (position)" if dead else ""
        found = f"SELECT {', '.join((*BASE, *own))} FROM {source}{living}"
        if since_ms is None:
            return found
        return f"{found} WHERE time >= {at_time(since_ms)} AND time < {at_time(self._parts.until_ms)}"

    def _since_ms(self, begin_ms: int | None) -> int:
        return self._parts.since_ms if begin_ms is None else max(self._parts.since_ms, begin_ms)

    def _is_whole(self, file: EventFile) -> bool:
        """Whether all rows of a file lie in the span: then no row's time needs to be looked at."""
        return file.first_ms >= self._since_ms(file.begin_ms) and file.last_ms < self._parts.until_ms


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what DuckDB raises into `StoreError`s."""
    import duckdb  # noqa: PLC0415

    try:
        yield
    except duckdb.InterruptException as error:
        raise patience.timeout() from error
    except duckdb.OutOfMemoryException as error:
        raise TooMuchAtOnceError(
            f"this read of events takes more memory than it may: {error}",
            hint="Ask for a shorter span of time.",
        ) from error
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.PermissionException) as error:
        raise StoreError(
            f"a file of events cannot be read: {error}", hint="`mixdown doctor` looks for the cause."
        ) from error
    except duckdb.Error as error:  # no statement should meet one; whoever reads is told all the same
        raise StoreError(
            f"events cannot be read: {error}", hint="Please report it, with the request that was sent."
        ) from error


def _parquet(files: Iterable[EventFile]) -> str:
    return parquet(file.path for file in files)


def _groups(files: Sequence[EventFile]) -> list[list[EventFile]]:
    """Recent files by where they begin."""
    groups: dict[int | None, list[EventFile]] = {}
    for file in files:
        groups.setdefault(file.begin_ms, []).append(file)
    return list(groups.values())
