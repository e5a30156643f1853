"""`mixdown sql`: questions to profiles, records and refusals, in SQL, which cannot change anything.

The connection is opened read-only, and an authorizer lets through nothing but reading, before the query
is looked at. A query ends at its time limit.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mixdown.cli.flags import data_dir_flag
from mixdown.cli.folder import find_project, opened, settle_and_tell
from mixdown.cli.output import Failure, json_text, note, print_table, printable, shortened, to_terminal

if TYPE_CHECKING:
    import apsw

    from mixdown.store.protocols import Store

TERMINAL_ROWS: Final = 1000
CELL_CHARS: Final = 200
STEPS: Final = 5000
# What PRAGMA may tell; all else that it can do is refused.
READING_PRAGMAS: Final = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "database_list"}
)
_ONLY_READS: Final = "`mixdown sql` only reads, and this query does more"
_TO_READ: Final = "SELECT from users, groups, records, refusals and history."
LOG_VIEWS: Final = """
CREATE TEMP VIEW refusals AS
SELECT id, strftime('%Y-%m-%dT%H:%M:%S', time_ms / 1000, 'unixepoch') AS time, project AS project_id,
       endpoint, record_index, field, message, record, whole, sdk
FROM log.refusals;
CREATE TEMP VIEW records AS
SELECT chunks.first + each.key AS position,
       strftime('%Y-%m-%dT%H:%M:%S', chunks.time_ms / 1000, 'unixepoch') AS time,
       each.value ->> 0 AS project_id, each.value ->> 1 AS endpoint, each.value ->> 2 AS sdk,
       each.value ->> 3 AS group_key, each.value ->> 4 AS id, each.value -> 5 AS operations
FROM log.chunks AS chunks, json_each(chunk_records(chunks.version, chunks.body)) AS each;
"""


def _chunk_records(*arguments: Any) -> str:
    """The records of a chunk as a JSON array of [project, endpoint, sdk, group key, id, operations].

    The chunk's format and its body enter.
    """
    import msgspec

    from mixdown.query.recent import records_of
    from mixdown.store.chunk import Chunk, unpack_body

    records = records_of(Chunk(0, 0, 0, unpack_body(*arguments)), None)
    rows = [
        (each.project, each.endpoint, each.sdk, each.group_key, each.id, each.operations) for each in records
    ]
    return msgspec.json.encode(rows).decode()


def _connected(store: Store, projects: Sequence[int]) -> apsw.Connection:
    """A connection with the views: over the store's files, or over the store where it has none."""
    folder: Path | None = getattr(store, "folder", None)
    if folder is None:
        from mixdown.query.sql_store import open_rows

        return open_rows(store, projects)
    import apsw

    connection = apsw.Connection(
        str(folder / "state.db"), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )
    connection.set_busy_timeout(5000)
    connection.create_scalar_function("chunk_records", _chunk_records, 2, deterministic=True)
    log_uri = (folder / "log.db").absolute().as_uri() + "?mode=ro"
    connection.execute("ATTACH ? AS log", (log_uri,))
    connection.execute(LOG_VIEWS)
    return connection


class Reader:
    """A connection that reads, and does nothing else."""

    def __init__(self, store: Store, projects: Sequence[int], *, timeout_s: float) -> None:
        from mixdown.query.sql_history import add_history

        self._timeout_s = timeout_s
        self._deadline = 0.0
        self._refused = ""
        self.connection = _connected(store, projects)
        add_history(self.connection, store.state, projects)
        self.connection.set_progress_handler(self._late, STEPS)
        self.connection.authorizer = self._authorize

    def run(self, query: str) -> tuple[tuple[str, ...], Generator[tuple[Any, ...]]]:
        """Start a query: its columns, and its rows as they are read. Raises `Failure`."""
        self._deadline = time.monotonic() + self._timeout_s
        self._refused = ""
        statements: list[tuple[str, ...]] = []

        def begun(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
            del statement, bindings
            columns = tuple(name for name, *_ in cursor.get_description())
            if columns and statements:
                raise Failure("this is more than one query", hint="Ask one at a time.")
            if columns:  # else it is a comment
                statements.append(columns)
            return True

        with self._errors():
            cursor = self.connection.cursor()
            cursor.exec_trace = begun
            cursor.execute(query)
        if not statements:
            raise Failure("there is no query", hint="`mixdown sql --help` shows some.")
        return statements[0], self._rows(cursor)

    def close(self) -> None:
        """Release the files."""
        self.connection.close()

    def _rows(self, cursor: apsw.Cursor) -> Generator[tuple[Any, ...]]:
        try:
            with self._errors():
                yield from cursor
        finally:
            cursor.close()

    def _late(self) -> bool:
        return bool(self._deadline) and time.monotonic() > self._deadline

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        import apsw

        del database, trigger
        if action in (apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE):
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_FUNCTION and second != "load_extension":
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_PRAGMA and (first or "").lower() in READING_PRAGMAS:
            return apsw.SQLITE_OK
        named = apsw.mapping_authorizer_function.get(action, action)
        self._refused = str(named).removeprefix("SQLITE_").replace("_", " ")
        return apsw.SQLITE_DENY

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import apsw

        try:
            yield
        except apsw.InterruptError:
            raise Failure(
                f"the query was ended at its time limit of {self._timeout_s:g} s",
                hint="Allow more with --timeout.",
            ) from None
        except (apsw.AuthError, apsw.ReadOnlyError) as error:
            what = self._refused or str(error)
            raise Failure(f"{_ONLY_READS}: {what}", hint=_TO_READ) from None
        except apsw.Error as error:
            text = str(error)
            if text.startswith("cannot modify"):
                raise Failure(f"{_ONLY_READS}: {text}", hint=_TO_READ) from None
            raise Failure(text) from None


Writer = Callable[[Sequence[str], Iterator[tuple[Any, ...]]], None]


def write_json(columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    """An array of objects, one a line; the closing bracket means that it is whole."""
    from mixdown.store.sqlite.guarded import distinct, plain

    names = distinct(columns)
    click.echo("[", nl=False)
    separator = ""
    for row in rows:
        fields = dict(zip(names, map(plain, row), strict=True))
        click.echo(f"{separator}{json_text(fields)}", nl=False)
        separator = ",\n "
    click.echo("]")


def write_csv(columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    """Comma separated values below a line of names; NULL is empty."""
    from mixdown.store.sqlite.guarded import plain

    writer = csv.writer(_Echo())
    writer.writerow(columns)
    writer.writerows(map(plain, row) for row in rows)


class _Echo:
    """stdout for the csv module."""

    @staticmethod
    def write(text: str) -> None:
        click.echo(text, nl=False)


def write_lines(columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    """Tab separated lines below a line of names."""
    from mixdown.store.sqlite.guarded import plain

    click.echo("\t".join(columns))
    for row in rows:
        click.echo("\t".join(printable(plain(value)) for value in row))


def write_table(columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    """A table for a terminal, of the first rows."""
    held = [[_shown(value) for value in row] for row in islice(rows, TERMINAL_ROWS)]
    more = next(rows, None) is not None
    if columns:
        print_table(columns, held)
    if more:
        note(f"only the first {TERMINAL_ROWS} rows; --csv or --json gives all")


def _shown(value: Any) -> Any:
    from mixdown.store.sqlite.guarded import plain

    shown = plain(value)
    return shortened(shown, CELL_CHARS) if isinstance(shown, str) else shown


@click.command()
@click.argument("query", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array with an object for each row.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma separated values.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="End a query after so many seconds.",
)
@click.option("--events", "events_of", metavar="P", help="Ask the events of this project, in DuckDB's SQL.")
@data_dir_flag
def sql(
    *,
    query: str | None,
    as_json: bool,
    as_csv: bool,
    timeout_s: float,
    events_of: str | None,
    data_dir: str | None,
) -> None:
    """Ask in SQL; nothing can be changed.

    \b
    Views:
      users     project_id, distinct_id, properties, last_seen
      groups    project_id, group_key, data_group_id, group_id, properties, last_seen
      records   position, time, project_id, endpoint, sdk, group_key, id, operations
      refusals  id, time, project_id, endpoint, record_index, field, message, record, whole, sdk
      history   project_id, group_key, id, time, position, property, operator, old, new, added, removed,
                whole, endpoint, sdk

    history goes through all profiles; `where of_id = 'ada'` reads that one alone.
    The SQL is SQLite's. properties and operations are JSON: properties ->> '$.plan' is one of them. records
    reach back as far as the log is kept. Prints a table on a terminal, otherwise tab separated lines. Without
    QUERY it is read from stdin; on a terminal a prompt appears.

    \b
    With --events P, views of the project P:
      events    event, time, distinct_id, sent_id, insert_id, properties, position, arrived
      users     distinct_id, properties
      groups    group_key, group_id, properties

    \b
    Examples:
      mixdown sql --events shop "select event, count(*) from events group by all"
      mixdown sql "select count(*) from users where project_id = 1"
      mixdown sql "select distinct_id from users where properties ->> '$.plan' = 'pro'" --csv
      mixdown sql "select message, count(*) from refusals group by 1 order by 2 desc"
    """
    if as_json and as_csv:
        raise click.UsageError("Choose --json or --csv.")
    writer: Writer = (
        write_json if as_json else write_csv if as_csv else write_table if to_terminal() else write_lines
    )
    if events_of is not None:
        text = query if query is not None else _typed()
        _over_events(text, events_of, writer, timeout_s=timeout_s, data_dir=data_dir)
        return
    with opened(data_dir) as (settings, store):
        settle_and_tell(settings, store)
        projects = [project.id for project in store.catalog.projects()]
        reader = Reader(store, projects, timeout_s=timeout_s)
        try:
            if query is None and sys.stdin.isatty():
                _prompt(reader, writer)
                return
            _answer(reader, query if query is not None else _typed(), writer)
        finally:
            reader.close()


def _over_events(query: str, ref: str, writer: Writer, *, timeout_s: float, data_dir: str | None) -> None:
    """Answer a query over the events of one project."""
    from mixdown.query.sql_events import EventSql
    from mixdown.store.sqlite.guarded import RefusedError

    with opened(data_dir) as (settings, store):
        project = find_project(store, ref)
        settle_and_tell(settings, store)
        try:
            with EventSql(
                query,
                events=store.events,
                state=store.state,
                project=project.id,
                memory_bytes=settings.sql_memory_bytes,
                timeout_s=timeout_s,
            ) as asked:
                writer(*asked.run(()))
        except RefusedError as error:
            raise Failure(str(error)) from None


def _typed() -> str:
    """All of stdin."""
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _answer(reader: Reader, query: str, writer: Writer) -> None:
    columns, rows = reader.run(query.encode("utf-8", "replace").decode())
    with closing(rows):  # an open cursor would keep its snapshot and hold up every checkpoint
        writer(columns, rows)


def _prompt(reader: Reader, writer: Writer) -> None:
    """Read queries from a terminal, each up to its semicolon, until the end of input."""
    import readline  # noqa: F401 - gives `input` its line editing

    import apsw

    note("SQL on users, groups, records, refusals, history; end it with a semicolon, leave with Ctrl-D.")
    held = ""
    while True:
        try:
            held += input("mixdown> " if not held else "     ... ") + "\n"
        except EOFError:
            note("")
            return
        except KeyboardInterrupt:
            note("")
            held = ""
            continue
        if not held.strip():
            held = ""
        elif apsw.complete(held):
            try:
                _answer(reader, held, writer)
            except Failure as failure:
                failure.show()
            except KeyboardInterrupt:
                note("stopped")
            held = ""
