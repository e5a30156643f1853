"""One SQL query over one project, in a process of its own that can do nothing else (DESIGN G6, G7).

A job enters on stdin as JSON; on stdout leaves a line of JSON (columns, rows, or what was wrong) and behind
it the rows as JSON, lines or CSV. `query.sql` starts it, as a script: it imports nothing of Mixdown.

What keeps a query within its project:
- it sees temporary views alone. They read from private ones, whose names are drawn anew for each process: the
  authorizer lets only those touch a table, and the name in which a query reads is the query's own to choose
  (that of a common table expression counts), so it must not be one that can be guessed;
- a condition of the query is never evaluated on a row of another project: the plan is looked at first, and
  where a table is not searched by the project, the views are made anew with a LIMIT, which nothing passes;
- of refusals it sees what is left when `hidden` (a regular expression, and what stands in) is taken out;
- functions are those of a list. ATTACH, PRAGMA, writes, extensions and virtual tables are refused;
- once the files are open, the process may open no other, no socket, and start no process.
"""

from __future__ import annotations

import csv
import io
import json
import re
import resource
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import apsw
import orjson

VIEWS: Final = ("users", "groups", "refusals")
JSON_TABLES: Final = frozenset({"json_each", "json_tree"})
VALUE_LIMIT_BYTES: Final = 16 * 1024 * 1024
QUERY_LIMIT_BYTES: Final = 64 * 1024
GRACE_S: Final = 2.0
_STEPS: Final = 5000
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""As `query.files.cells` has it: what this process answers with imports nothing of Mixdown."""
_MEMORY_FLAGS: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
_REST_OF_HEAP: Final = 64 * 1024 * 1024
_LIMITS: Final = {
    apsw.SQLITE_LIMIT_LENGTH: VALUE_LIMIT_BYTES,
    apsw.SQLITE_LIMIT_SQL_LENGTH: QUERY_LIMIT_BYTES,
    apsw.SQLITE_LIMIT_COLUMN: 500,
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 200,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    apsw.SQLITE_LIMIT_VDBE_OP: 100_000,
    apsw.SQLITE_LIMIT_FUNCTION_ARG: 100,
    apsw.SQLITE_LIMIT_ATTACHED: 2,
    apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    apsw.SQLITE_LIMIT_VARIABLE_NUMBER: 1000,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_MODULES: Final = (
    "dbstat",
    "dbpage",
    "fts3",
    "fts4",
    "fts5",
    "fts5vocab",
    "geopoly",
    "rtree",
    "bytecode",
    "stmt",
)
FUNCTIONS: Final = frozenset(
    {
        "->",
        "->>",
        "abs",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "avg",
        "ceil",
        "ceiling",
        "char",
        "coalesce",
        "concat",
        "concat_ws",
        "cos",
        "cosh",
        "count",
        "cume_dist",
        "current_date",
        "current_time",
        "current_timestamp",
        "date",
        "datetime",
        "degrees",
        "dense_rank",
        "exp",
        "first_value",
        "floor",
        "format",
        "glob",
        "group_concat",
        "hex",
        "if",
        "ifnull",
        "iif",
        "instr",
        "json",
        "json_array",
        "json_array_insert",
        "json_array_length",
        "json_error_position",
        "json_extract",
        "json_group_array",
        "json_group_object",
        "json_insert",
        "json_object",
        "json_patch",
        "json_pretty",
        "json_quote",
        "json_remove",
        "json_replace",
        "json_set",
        "json_type",
        "json_valid",
        "julianday",
        "lag",
        "last_value",
        "lead",
        "length",
        "like",
        "likelihood",
        "likely",
        "ln",
        "log",
        "log10",
        "log2",
        "lower",
        "ltrim",
        "max",
        "median",
        "min",
        "mod",
        "nth_value",
        "ntile",
        "nullif",
        "octet_length",
        "percent_rank",
        "percentile",
        "percentile_cont",
        "percentile_disc",
        "pi",
        "pow",
        "power",
        "printf",
        "quote",
        "radians",
        "random",
        "rank",
        "replace",
        "round",
        "row_number",
        "rtrim",
        "sign",
        "sin",
        "sinh",
        "sqlite_version",
        "sqrt",
        "strftime",
        "string_agg",
        "substr",
        "substring",
        "sum",
        "tan",
        "tanh",
        "time",
        "timediff",
        "total",
        "trim",
        "trunc",
        "typeof",
        "unhex",
        "unicode",
        "unistr",
        "unixepoch",
        "unlikely",
        "upper",
    }
)
"""What a query may call; all else that SQLite has is refused."""

NOT_THAT: Final = (
    f"a query reads from {', '.join(VIEWS)}, history, json_each and json_tree, and does nothing else"
)
TOO_LATE: Final = "the query was ended at its time limit of {limit:g} s"
TOO_MUCH_MEMORY: Final = "the query needs more than the {limit} bytes of memory that it may use"
ONE_QUERY: Final = "send one query at a time"
NO_QUERY: Final = "there is no query"
NOT_TEXT: Final = "a value is no valid UTF-8: hex() shows it"
BAD_PARAMS: Final = "the parameters cannot be used"
LARGE_ROW: Final = "one row is larger than the {limit} bytes that an answer may have"
UNREADABLE: Final = "the data cannot be read at the moment"


MoreTables = Callable[[apsw.Connection, Path, int], Sequence[str]]
"""Adds virtual tables that show one project's rows alone (connection, folder, project); their names."""


class RefusedError(Exception):
    """A query that is not answered, and why."""


class Guard:
    """A connection that sees the views of one project and nothing else."""

    def __init__(
        self,
        folder: Path,
        project: int,
        *,
        timeout_s: float,
        memory_bytes: int,
        more_tables: MoreTables | None = None,
        hidden: Sequence[str] | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._deadline = time.monotonic() + timeout_s
        self._project = project
        self._tag = secrets.token_hex(16)
        self._private: frozenset[str] = frozenset()
        self._known = {name.lower() for name in _MODULES}
        self.connection = connection = apsw.Connection(":memory:", flags=_MEMORY_FLAGS)
        for limit, value in _LIMITS.items():
            connection.limit(limit, value)
        connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.set_busy_timeout(1000)
        self._tables = JSON_TABLES | self._open(folder)
        if more_tables is not None:
            self._tables |= frozenset(more_tables(connection, folder, project))
        self._hide = f"hide_{self._tag}"
        connection.create_scalar_function(self._hide, hiding(hidden), 1, deterministic=True)
        self._make_views(apart=False)
        connection.set_progress_handler(self._late, _STEPS)
        connection.authorizer = self._authorize

    def _open(self, folder: Path) -> frozenset[str]:
        """Open what the views read from; the tables beside it that a query may read itself."""
        for name in ("state", "log"):
            uri = (folder / f"{name}.db").absolute().as_uri() + "?mode=ro"
            self.connection.execute(f"ATTACH ? AS {name}", (uri,))
            # this opens their files too: none can be opened later
            tables = self.connection.execute(f"SELECT name FROM {name}.sqlite_schema")  # noqa: S608 - our own names
            self._known |= {table.lower() for (table,) in tables}
        return frozenset()

    def _open_descriptors(self) -> int:
        """How many descriptors the process may have from here on."""
        return 0

    def close_in(self) -> None:
        """From here on the process opens nothing, starts nothing, and has so much memory and time."""
        used = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
        apsw.hard_heap_limit(self._memory_bytes)
        for kind, limit in (
            (resource.RLIMIT_AS, used + self._memory_bytes + _REST_OF_HEAP),
            (resource.RLIMIT_CPU, int(self._timeout_s + GRACE_S) + 1),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_NPROC, 0),
            (resource.RLIMIT_NOFILE, self._open_descriptors()),
        ):
            resource.setrlimit(kind, (limit, limit))

    def run(self, query: str, params: Sequence[Any] | dict[str, Any]) -> tuple[list[str], Iterator[Any]]:
        """The columns of a query, and its rows as they are read. Raises `RefusedError`."""
        with _errors(self._timeout_s, self._memory_bytes, query):
            if not self._is_searched_by_project(query, params):
                self._make_views(apart=True)
            columns: list[str] = []

            def begun(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
                del statement, bindings
                names = [name for name, *_ in cursor.get_description()]
                if names and columns:
                    raise RefusedError(ONE_QUERY)
                columns.extend(names)
                return True

            cursor = self.connection.cursor()
            cursor.exec_trace = begun
            cursor.execute(query, params)
        if not columns:
            raise RefusedError(NO_QUERY)
        return columns, cursor

    def answer(self, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The head and the body of the answer to a job's query. Raises `RefusedError`."""
        columns, rows = self.run(job["query"], job["params"])
        with _errors(self._timeout_s, self._memory_bytes):
            return written(job, columns, rows)

    def _is_searched_by_project(self, query: str, params: Sequence[Any] | dict[str, Any]) -> bool:
        """Whether every table is searched by the project, so that no condition meets a row of another."""
        details: list[str] = []

        def begun(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
            del statement, bindings
            if details or not cursor.is_explain:
                raise RefusedError(ONE_QUERY)
            return True

        try:
            cursor = self.connection.cursor()
            cursor.exec_trace = begun
            for *_, detail in cursor.execute("EXPLAIN QUERY PLAN " + query, params):
                details.append(detail)
        except apsw.SQLError:
            return False  # an EXPLAIN of its own, or an error that is told when the query is run
        tables = [detail for detail in details if self._tag in detail]
        return all("(project" in detail and "AUTOMATIC" not in detail for detail in tables)

    def _make_views(self, *, apart: bool) -> None:
        """The views; `apart` lets nothing of the query into them, and every row of the project out."""
        authorizer, self.connection.authorizer = self.connection.authorizer, None
        end = " LIMIT -1" if apart else ""
        for name in VIEWS:
            self.connection.execute(f"DROP VIEW IF EXISTS temp.{name}")
            self.connection.execute(f"DROP VIEW IF EXISTS temp.{name}_{self._tag}")
        for sql in PRIVATE_SQL:
            self.connection.execute(sql.format(tag=self._tag, project=self._project, end=end))
        for sql in VIEW_SQL:
            self.connection.execute(sql.format(tag=self._tag, schema="temp"))
        self._private = frozenset(f"{name}_{self._tag}" for name in VIEWS)
        self.connection.authorizer = authorizer

    def _is_known(self, name: str) -> bool:
        """Whether a name is a table's: else it is that of a common table expression."""
        name = name.lower()
        return name in self._known or name.startswith(("sqlite_", "pragma_"))

    def _late(self) -> bool:
        return time.monotonic() > self._deadline

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, source: str | None
    ) -> int:
        allowed = False
        if action in (apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE):
            allowed = True
        elif action == apsw.SQLITE_FUNCTION:
            name = (second or "").lower()
            allowed = name in FUNCTIONS or (name == self._hide and source in self._private)
        elif action == apsw.SQLITE_READ:
            if database in ("state", "log"):
                allowed = source in self._private
            elif database == "temp":
                allowed = first in VIEWS or first in self._private
            elif database is None and not second:  # nothing but the number of its rows
                allowed = first in VIEWS or first in self._private or not self._is_known(first or "")
            else:
                allowed = first in self._tables
        return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY


def hiding(hidden: Sequence[str] | None) -> Callable[..., Any]:
    """What a text is without what is hidden in it: a regular expression, and what stands in for it."""
    if not hidden:
        return lambda value: value
    pattern, stand_in = re.compile(hidden[0]), hidden[1]
    return lambda value: pattern.sub(stand_in, value) if isinstance(value, str) else value


PRIVATE_SQL: Final = (
    """
CREATE TEMP VIEW users_{tag} AS
SELECT p_{tag}.project_id, p_{tag}.id, p_{tag}.document
FROM state.profiles AS p_{tag} INDEXED BY sqlite_autoindex_profiles_1
WHERE p_{tag}.project_id = {project} AND p_{tag}.data_group_id = 0{end}""",
    """
CREATE TEMP VIEW groups_{tag} AS
SELECT p_{tag}.project_id, g_{tag}.group_key, p_{tag}.data_group_id, p_{tag}.id, p_{tag}.document
FROM state.group_keys AS g_{tag}
CROSS JOIN state.profiles AS p_{tag} INDEXED BY sqlite_autoindex_profiles_1
WHERE g_{tag}.project_id = {project} AND p_{tag}.project_id = {project}
  AND p_{tag}.data_group_id = g_{tag}.data_group_id{end}""",
    """
CREATE TEMP VIEW refusals_{tag} AS
SELECT r_{tag}.id, r_{tag}.time_ms, r_{tag}.project, r_{tag}.endpoint, r_{tag}.record_index,
       hide_{tag}(r_{tag}.field) AS field, hide_{tag}(r_{tag}.message) AS message,
       hide_{tag}(r_{tag}.record) AS record, r_{tag}.whole, hide_{tag}(r_{tag}.sdk) AS sdk
FROM log.refusals AS r_{tag} INDEXED BY refusals_of_project
WHERE r_{tag}.project = {project}{end}""",
)
VIEW_SQL: Final = (
    """
CREATE TEMP VIEW users (project_id, distinct_id, properties, last_seen) AS
SELECT project_id, id, document, document ->> '$."$last_seen"' FROM {schema}.users_{tag}""",
    """
CREATE TEMP VIEW groups (project_id, group_key, data_group_id, group_id, properties, last_seen) AS
SELECT project_id, group_key, data_group_id, id, document, document ->> '$."$last_seen"'
FROM {schema}.groups_{tag}""",
    """
CREATE TEMP VIEW refusals
    (id, time, project_id, endpoint, record_index, field, message, record, whole, sdk) AS
SELECT id, strftime('%Y-%m-%dT%H:%M:%S', time_ms / 1000, 'unixepoch'), project, endpoint, record_index,
       field, message, record, whole, sdk
FROM {schema}.refusals_{tag}""",
)


def place_in(query: str, offset: int) -> str:
    """Where in a query that many bytes from its start are, in words to put behind an error; "" below 0."""
    if offset < 0:
        return ""
    lines = query.encode("utf-8", "replace")[:offset].decode("utf-8", "replace").split("\n")
    return f" (line {len(lines)}, column {len(lines[-1]) + 1})"


class Limited:
    """A block under the limits of a query: subclasses turn what ends it into `RefusedError`s."""

    def __init__(self, timeout_s: float, memory_bytes: int) -> None:
        self._late = TOO_LATE.format(limit=timeout_s)
        self._large = TOO_MUCH_MEMORY.format(limit=memory_bytes)

    def __enter__(self) -> None:
        pass


class _errors(Limited):  # noqa: N801 - read as a word: with _errors(...)
    """Turn what SQLite raises into `RefusedError`s that tell nothing of the files, and where in `query`."""

    def __init__(self, timeout_s: float, memory_bytes: int, query: str = "") -> None:
        super().__init__(timeout_s, memory_bytes)
        self._query = query

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        del kind, trace
        if isinstance(error, apsw.InterruptError):
            raise RefusedError(self._late) from error
        if isinstance(error, MemoryError | apsw.NoMemError):
            raise RefusedError(self._large) from error
        if isinstance(error, apsw.AuthError):
            text = str(error).removeprefix("AuthError: ")
            function = text.startswith("not authorized to use function")
            raise RefusedError(text if function else NOT_THAT) from error
        if isinstance(error, UnicodeDecodeError):
            raise RefusedError(NOT_TEXT) from error
        if isinstance(error, OverflowError | ValueError | TypeError):
            raise RefusedError(f"{BAD_PARAMS}: {error}") from error
        if isinstance(error, apsw.SQLError | apsw.TooBigError | apsw.MismatchError | apsw.BindingsError):
            raise RefusedError(
                str(error) + place_in(self._query, getattr(error, "error_offset", -1))
            ) from error
        if isinstance(error, apsw.Error):
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            raise RefusedError(UNREADABLE) from error


# --- answers


def plain(value: Any) -> Any:
    """A value as JSON and CSV can hold it: a blob as its text, or else in hexadecimal."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "0x" + value.hex()


def distinct(columns: Sequence[str]) -> list[str]:
    """Column names, a later one of the same name with a number behind it that makes it the only one."""
    names: dict[str, None] = {}
    for column in columns:
        name, number = column, 1
        while name in names:
            number += 1
            name = f"{column}:{number}"
        names[name] = None
    return list(names)


def _objects(names: Sequence[str]) -> Callable[[Sequence[Any]], bytes]:
    def line(row: Sequence[Any]) -> bytes:
        return orjson.dumps(dict(zip(names, map(plain, row), strict=True))) + b"\n"

    return line


def csv_line(row: Iterable[Any]) -> bytes:
    """One row of CSV, its line end included; NULL is empty."""
    text = io.StringIO()
    csv.writer(text).writerow(map(plain, row))
    return text.getvalue().encode("utf-8", "replace")


def sheet_line(row: Sequence[Any]) -> bytes:
    """The same for a spreadsheet: a text that it would run as a formula gets an apostrophe in front."""
    cells = map(plain, row)
    return csv_line(
        f"'{each}" if isinstance(each, str) and each.startswith(_FORMULA) else each for each in cells
    )


def answer(job: dict[str, Any], more_tables: MoreTables | None = None) -> tuple[dict[str, Any], bytes]:
    """The head and the body of the answer to a job. Raises `RefusedError`."""
    guard = Guard(
        Path(job["folder"]),
        job["project"],
        timeout_s=job["timeout_s"],
        memory_bytes=job["memory_bytes"],
        more_tables=more_tables,
        hidden=job.get("hidden"),
    )
    guard.close_in()
    return guard.answer(job)


def written(job: dict[str, Any], columns: Sequence[str], rows: Iterator[Any]) -> tuple[dict[str, Any], bytes]:
    """The head and the body of an answer, within the job's limits. Raises `RefusedError`, as `rows` may."""
    names = distinct(columns)
    lines: list[bytes] = []
    line_of = _objects(names)
    if job["format"] == "csv":
        line_of = sheet_line if job.get("spreadsheet") else csv_line
        lines.append(line_of(columns))
    size, count, more = 0, 0, False
    for row in rows:
        line = line_of(row)
        size += len(line)
        more = count == job["rows"] or size > job["bytes"]
        if more:
            break
        lines.append(line)
        count += 1
    if more and not count:
        raise RefusedError(LARGE_ROW.format(limit=job["bytes"]))
    body = b"".join(lines)
    if job["format"] == "json":
        body = b"[" + b",".join(line[:-1] for line in lines) + b"]"
    return {"columns": names, "rows": count, "more": more}, body


def main(more_tables: MoreTables | None = None) -> None:
    """Answer the job on stdin, over files."""
    run_job(lambda job: answer(job, more_tables))


def run_job(answered: Callable[[dict[str, Any]], tuple[dict[str, Any], bytes]]) -> None:
    """Answer the job on stdin by a function that gives head and body."""
    job = json.load(sys.stdin.buffer)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, job["timeout_s"] + GRACE_S)  # it ends, whoever forgets it
    try:
        head, body = answered(job)
    except RefusedError as error:
        head, body = {"error": str(error)}, b""
    except apsw.Error as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        head, body = {"error": UNREADABLE}, b""
    except MemoryError:
        head, body = {"error": TOO_MUCH_MEMORY.format(limit=job["memory_bytes"])}, b""
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
