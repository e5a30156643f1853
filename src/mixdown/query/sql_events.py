"""SQL over a project's events, in DuckDB's dialect: what a query may name, and what it is refused.

A store, a project and a query enter; columns and rows leave, or `RefusedError`. The query sees the views
`events`, `users` and `groups` of one project. It is read before it runs: one SELECT, from these views, from
its own common table expressions and from a few table functions; no file, no setting, no other statement.
Behind that DuckDB itself opens nothing but this project's files, loads no extension, and its configuration
is locked. What bounds time and memory is the caller's: `query/sql_events_process.py` for HTTP.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

import orjson

from mixdown.query.events.persons import ALONE, add_persons
from mixdown.query.events.reader import OpenEvents
from mixdown.store.duck import open_events
from mixdown.store.duck.sql import identifier
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.sqlite.guarded import (
    BAD_PARAMS,
    NO_QUERY,
    ONE_QUERY,
    UNREADABLE,
    Limited,
    RefusedError,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from mixdown.store.events import Events
    from mixdown.store.protocols import State

VIEWS: Final = ("events", "users", "groups")
TABLE_FUNCTIONS: Final = frozenset({"unnest", "generate_series", "range", "json_each", "json_tree"})
UNFIT_FUNCTIONS: Final = frozenset(
    {"current_setting", "getenv", "getvariable", "query", "query_table", "set_config", "write_log", "nextval"}
)
"""Functions that tell of the process, or do more than compute."""
_READ_FROM: Final = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY"}
)
_REFUSED_FROM: Final = frozenset(
    {"SHOW_REF", "COLUMN_DATA", "DELIM_GET", "BOUND_TABLE_REF", "PIVOT", "TABLE_REF", "CTE"}
)
PROPERTY: Final = "property"
"""The function that reads a property of an event by a column of its own, where a file has one."""
PROPERTIES_LIMIT: Final = 50
_CALL: Final = re.compile(rb"property\s*\(.*\)", re.IGNORECASE | re.DOTALL)
PROFILES_LIMIT_BYTES: Final = 64 * 1024 * 1024
THREADS: Final = 2
ROWS_AT_ONCE: Final = 1000
_PROFILES_AT_ONCE: Final = 2000
_STORED: Final = "stored_"
_PRIVATE: Final = frozenset({"hot", "dead", "unsure", "persons"})
"""What lies behind the views: a name in one place of a query would open the table in another."""
_COLUMNS: Final = (
    "stored.event",
    "CAST(stored.time AS TIMESTAMP) AS time",
    "stored.distinct_id AS sent_id",
    "stored.insert_id",
    "stored.position",
    "CAST(make_timestamp_ms(stored.arrived) AS TIMESTAMP) AS arrived",
)
NOT_THAT: Final = (
    f"a query over events is one SELECT from {', '.join(VIEWS)} and what it makes of them: it reads nothing "
    "else and changes nothing"
)
NO_TABLE: Final = "a query over events reads from {views}, and not from {name}"
NO_NAME: Final = "a query over events may call nothing {name}: choose another name"
NO_FUNCTION: Final = "a query over events may not use the function {name}"
NOT_A_NAME: Final = "property(...) takes the name of a property as a text"
MANY_PROPERTIES: Final = f"a query names at most {PROPERTIES_LIMIT} properties by property(...)"
MANY_PROFILES: Final = (
    f"the project's {{kind}} are more than the {PROFILES_LIMIT_BYTES} bytes that a query over events may join"
)


class Asked:
    """A query that was read: `views` are those that it names, `query` is what is to run.

    `properties` are the names that stand in `property(...)`, each with the column of `events` for it.
    Raises `RefusedError` for what is no single SELECT, and for what it may not read or call.
    """

    def __init__(self, query: str) -> None:
        import duckdb  # noqa: PLC0415 - tens of MiB, for those who ask

        self.properties: dict[str, str] = {}
        self.views: set[str] = set()
        self._defined: set[str] = set()
        self._bytes = query.encode()
        self._calls: list[tuple[int, int, str]] = []
        try:
            statements = duckdb.extract_statements(query)
        except duckdb.Error as error:
            raise RefusedError(str(error)) from None
        if not statements:
            raise RefusedError(NO_QUERY)
        if len(statements) > 1:
            raise RefusedError(ONE_QUERY)
        if statements[0].type != duckdb.StatementType.SELECT:
            raise RefusedError(NOT_THAT)
        with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": "64MiB"}) as reader:
            read = reader.execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0][0]
        tree = json.loads(read)
        if tree.get("error"):
            raise RefusedError(NOT_THAT)
        self._define(tree)
        self._look_at(tree)
        self.query = self._with_columns()

    def _define(self, node: Any) -> None:
        """Collect the names of common table expressions."""
        for each in _within(node):
            for defined in (each.get("cte_map") or {}).get("map", ()):
                name = defined["key"].lower()
                if name in _PRIVATE or name.startswith(_STORED):
                    raise RefusedError(NO_NAME.format(name=json.dumps(defined["key"])))
                self._defined.add(name)

    def _look_at(self, tree: Any) -> None:
        for node in _within(tree):
            kind = node.get("type")
            if kind == "BASE_TABLE":
                self._table(node)
            elif kind == "TABLE_FUNCTION":
                name = node["function"].get("function_name", "")
                if name.lower() not in TABLE_FUNCTIONS:
                    raise RefusedError(NO_TABLE.format(views=", ".join(VIEWS), name=f"{name}(...)"))
            elif kind in _REFUSED_FROM:
                raise RefusedError(NOT_THAT)
            source = node.get("from_table")
            if isinstance(source, dict) and source.get("type") not in _READ_FROM:
                raise RefusedError(NOT_THAT)
            if "function_name" in node:
                self._function(node)

    def _table(self, node: dict[str, Any]) -> None:
        name = str(node.get("table_name", ""))
        bare = not (node.get("schema_name") or node.get("catalog_name") or node.get("at_clause"))
        if bare and name.lower() in VIEWS:
            self.views.add(name.lower())
        elif not bare or name.lower() not in self._defined:
            raise RefusedError(NO_TABLE.format(views=", ".join(VIEWS), name=json.dumps(name)))

    def _function(self, node: dict[str, Any]) -> None:
        name = str(node["function_name"]).lower()
        if name in UNFIT_FUNCTIONS or node.get("schema") or node.get("catalog"):
            raise RefusedError(NO_FUNCTION.format(name=name))
        if name == PROPERTY:
            given = [
                each.get("expression", each) for each in node.get("arguments") or node.get("children", ())
            ]
            literal_of = given[0].get("literal", {}) if len(given) == 1 else {}
            begin, length = node.get("query_location", 0), node.get("query_location_length", 0)
            written = self._bytes[begin : begin + length]
            if literal_of.get("kind") != "STRING" or not _CALL.fullmatch(written):
                raise RefusedError(NOT_A_NAME)
            column = self.properties.setdefault(literal_of["text"], f"property {len(self.properties) + 1}")
            if len(self.properties) > PROPERTIES_LIMIT:
                raise RefusedError(MANY_PROPERTIES)
            self._calls.append((begin, begin + length, column))

    def _with_columns(self) -> str:
        """The query with the column of a property in the place of each `property(...)`."""
        text = self._bytes
        for begin, end, column in sorted(self._calls, reverse=True):
            text = text[:begin] + f"({identifier(column)} ->> '$')".encode() + text[end:]
        return text.decode()


def _within(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a tree, however deep."""
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left += node.values()
        elif isinstance(node, list):
            left += node


class EventSql:
    """One query over one project. Close it (it is a context manager)."""

    def __init__(
        self, query: str, *, events: Events, state: State, project: int, memory_bytes: int, timeout_s: float
    ) -> None:
        """Raises `RefusedError`, `StoreError`."""
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._asked = Asked(query)
        self._private = f"{_STORED}{secrets.token_hex(8)}"
        self._table = open_events(
            events.parts(project, FIRST_MS, LAST_MS + 1),
            memory_limit_bytes=memory_bytes,
            threads=THREADS,
            temp_directory=None,  # nothing is spilt: what does not fit in memory is refused
        )
        self._watch = threading.Timer(timeout_s, self._table.interrupt)
        self._watch.daemon = True
        try:
            with self._errors():
                self._make_views(state, project)
        except BaseException:
            self._table.close()
            raise

    @property
    def connection(self) -> DuckDBPyConnection:
        """The connection that the query runs on."""
        return self._table.connection

    def run(self, params: Sequence[Any] | dict[str, Any]) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """The columns of the query, and its rows as they are read. Raises `RefusedError`."""
        self._watch.start()
        with self._errors():
            found = self.connection.execute(self._asked.query, params)
            columns = [name for name, *_ in found.description]
        return columns, self._rows()

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        with self._errors():
            while some := self.connection.fetchmany(ROWS_AT_ONCE):
                for row in some:
                    yield tuple(map(cell, row))

    def close(self) -> None:
        """Give back memory and files."""
        self._watch.cancel()
        self._table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_views(self, state: State, project: int) -> None:
        table, run = self._table, self.connection.execute
        relation = ALONE
        if "events" in self._asked.views:
            relation = add_persons(OpenEvents(table), state, project)
        asked = [(table.value(name), column) for name, column in self._asked.properties.items()]
        whole = table.whole
        run(f"CREATE TEMP VIEW {self._private} AS {table.relation_sql()}")
        canonical, linked = "stored.distinct_id", ""
        if relation != ALONE:
            canonical = f"coalesce(persons.canonical, {canonical})"
            linked = (
                " LEFT JOIN persons ON persons.id = stored.distinct_id AND stored.position >= persons.since"
            )
        own = [f"stored.{sql} AS {identifier(column)}" for sql, column in asked]
        selected = ", ".join(
            [*_COLUMNS, f"{canonical} AS distinct_id", f"stored.{whole} AS properties", *own]
        )
        source = f"{self._private} AS stored{linked}"
        run(f"CREATE OR REPLACE TEMP VIEW events AS SELECT {selected} FROM {source}")  # noqa: S608 - our columns
        self._make_profiles(state, project)

    def _make_profiles(self, state: State, project: int) -> None:
        run = self.connection.execute
        run("CREATE TEMP TABLE users (distinct_id VARCHAR, properties JSON)")
        run("CREATE TEMP TABLE groups (group_key VARCHAR, group_id VARCHAR, properties JSON)")
        if "users" in self._asked.views:
            for ids, documents in _profiles(state, project, "", "users"):
                run("INSERT INTO users SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[])", [ids, documents])
        if "groups" in self._asked.views:
            for key in state.group_keys(project):
                for ids, documents in _profiles(state, project, key, "groups"):
                    run(
                        "INSERT INTO groups SELECT ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
                        [key, ids, documents],
                    )

    def _errors(self) -> _errors:
        return _errors(self._timeout_s, self._memory_bytes)


def _profiles(state: State, project: int, key: str, kind: str) -> Iterator[tuple[list[str], list[str]]]:
    """Ids and documents, some at a time. Raises `RefusedError` where they are too many to be joined."""
    after, size = "", 0
    while some := state.profiles_after(project, key, after=after, limit=_PROFILES_AT_ONCE):
        size += sum(len(document) for _, document in some)
        if size > PROFILES_LIMIT_BYTES:
            raise RefusedError(MANY_PROFILES.format(kind=kind))
        yield [profile_id for profile_id, _ in some], [document.decode() for _, document in some]
        after = some[-1][0]


_TEXTS: Final[dict[type, Callable[[Any], Any]]] = {
    datetime: lambda value: value.isoformat(),
    date: lambda value: value.isoformat(),
    time: lambda value: value.isoformat(),
    timedelta: str,
    UUID: str,
    bytes: lambda value: "0x" + value.hex(),
    Decimal: lambda value: int(value) if value == value.to_integral_value() else float(value),
}


def cell(value: Any) -> Any:
    """A value of DuckDB's as JSON and CSV can hold it: lists, structs and maps as JSON text."""
    found = shown(value)
    return orjson.dumps(found).decode() if isinstance(found, list | dict) else found


def shown(value: Any) -> Any:
    """A value as JSON has it; integers past 64 bits as doubles, infinities as null."""
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if kind in _TEXTS:
        return shown(_TEXTS[kind](value))
    if kind is int:
        return value if -(2**63) <= value < 2**64 else float(value)
    if kind is float:
        return value if value - value == 0 else None
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    if isinstance(value, dict):
        return {str(shown(name)): shown(each) for name, each in value.items()}
    return str(value)


_PLACES: Final = re.compile(rf"\b{re.escape(_STORED)}[0-9a-f]{{16}}\b")


class _errors(Limited):  # noqa: N801 - read as a word: with self._errors()
    """Turn what DuckDB raises into `RefusedError`s that tell nothing of the files."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        import duckdb  # noqa: PLC0415

        del kind, trace
        if isinstance(error, duckdb.InterruptException):
            raise RefusedError(self._late) from error
        if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
            raise RefusedError(self._large) from error
        if isinstance(error, duckdb.IOException | duckdb.HTTPException):
            raise RefusedError(UNREADABLE) from error
        if isinstance(error, duckdb.PermissionException):
            raise RefusedError(NOT_THAT) from error
        if isinstance(error, duckdb.Error):
            raise RefusedError(_PLACES.sub("events", str(error))) from error
        if isinstance(error, OverflowError | ValueError | TypeError):
            raise RefusedError(f"{BAD_PARAMS}: {error}") from error
