"""A store's rows as virtual tables of SQLite: what a query asks of them is read page by page.

A store and the projects that may be seen enter; tables of a connection leave. They show those projects' rows
and no others, whatever a query asks: of its text nothing reaches the store but the value that a key is
compared with, as a value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import apsw
import msgspec
import orjson

from mixdown.query.recent import records_of
from mixdown.store.chunk import FOR_PROFILES
from mixdown.store.places import all_views
from mixdown.store.protocols import Store

PAGE_PROFILES: Final = 500
PAGE_REFUSALS: Final = 500
PAGE_RECORDS: Final = 10_000
PAGE_BYTES: Final = 8 * 1024 * 1024
_MANY_ROWS: Final = 1_000_000
_FAR_COLUMN: Final = 63
"""SQLite tells of columns from here on together."""

Row = tuple[Any, ...]
Read = Callable[[Mapping[str, str], Collection[str]], Iterator[Row]]
"""The rows that may have these values of keys; columns that are not among those wanted may be left None."""


class StoreTable:
    """One table (for `apsw`: its module and the table itself). `keys` are columns that `read` can look up."""

    def __init__(self, columns: Sequence[str], keys: Sequence[str], read: Read) -> None:
        """`columns` are declared as SQL declares them, the name first."""
        self.declared = ", ".join(columns)
        self.names = tuple(column.split()[0] for column in columns)
        self.keys = frozenset(keys)
        self.read = read

    def Connect(self, connection: apsw.Connection, *_: Any) -> tuple[str, Any]:  # noqa: N802 - apsw's
        """The table, which views may name."""
        connection.vtab_config(apsw.SQLITE_VTAB_INNOCUOUS)
        return f"CREATE TABLE rows ({self.declared})", self

    Create = Connect

    def BestIndexObject(self, info: apsw.IndexInfo) -> bool:  # noqa: N802 - apsw's
        """Which keys are given, and which columns wanted: both go to `Filter` as text."""
        given: list[str] = []
        for place in range(info.nConstraint):
            name = self._name(info.get_aConstraint_iColumn(place))
            equals = info.get_aConstraint_op(place) == apsw.SQLITE_INDEX_CONSTRAINT_EQ
            if not equals or name not in self.keys or name in given:
                continue
            if info.get_aConstraint_usable(place) and info.get_aConstraint_collation(place) == "BINARY":
                given.append(name)
                info.set_aConstraintUsage_argvIndex(place, len(given))
        wanted = [name for place, name in enumerate(self.names) if min(place, _FAR_COLUMN) in info.colUsed]
        info.idxStr = orjson.dumps([given, wanted]).decode()
        info.estimatedRows = 1 if given else _MANY_ROWS
        info.estimatedCost = 10.0 if given else 10.0 * _MANY_ROWS
        return True

    def _name(self, place: int) -> str:
        return self.names[place] if place >= 0 else ""

    def Open(self) -> _Cursor:  # noqa: N802 - apsw's
        """A walk over the rows."""
        return _Cursor(self)

    def Disconnect(self) -> None:  # noqa: N802 - apsw's
        """Nothing is held."""

    Destroy = Disconnect


class _Cursor:
    """One walk over a table's rows."""

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        self._rows: Iterator[Row] = iter(())
        self._row: Row | None = None
        self._number = 0

    def Filter(self, number: int, text: str | None, values: tuple[Any, ...] | None) -> None:  # noqa: N802
        del number
        names, wanted = orjson.loads(text or "[[],[]]")
        given: dict[str, str] = {}
        for name, value in zip(names, values or (), strict=True):
            key = _as_text(value)
            if key is None and value is None:
                self._rows, self._row = iter(()), None
                return  # nothing equals NULL
            if key is not None:
                given[name] = key
        self._rows = self._table.read(given, frozenset(wanted))
        self._number = -1
        self.Next()

    def Eof(self) -> bool:  # noqa: N802
        return self._row is None

    def Next(self) -> None:  # noqa: N802
        self._row = next(self._rows, None)
        self._number += 1

    def Rowid(self) -> int:  # noqa: N802
        return self._number

    def Column(self, place: int) -> Any:  # noqa: N802
        assert self._row is not None
        return self._number if place < 0 else self._row[place]

    def Close(self) -> None:  # noqa: N802
        self._rows, self._row = iter(()), None


def _as_text(value: Any) -> str | None:
    """A value as a text column would be compared with it; None where all rows are to be compared."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else None


def add_rows(
    connection: apsw.Connection,
    store: Store,
    projects: Sequence[int],
    names: Mapping[str, str],
    *,
    refused_of: Sequence[int] | None,
    hide: Callable[[Any], Any],
) -> tuple[str, ...]:
    """Give a connection the tables `users`, `groups` and `refusals` under the names of `names`; these names.

    Refusals are those of `refused_of` (None: all, also those of no project). `hide` takes out of their texts
    what their reader may not see.
    """
    tables = {
        "users": StoreTable(
            ("project_id INTEGER", "id TEXT", "document TEXT"), ("id",), _users(store, projects)
        ),
        "groups": StoreTable(
            ("project_id INTEGER", "group_key TEXT", "data_group_id INTEGER", "id TEXT", "document TEXT"),
            ("group_key", "id"),
            _groups(store, projects),
        ),
        "refusals": StoreTable(
            (
                "id INTEGER",
                "time_ms INTEGER",
                "project INTEGER",
                "endpoint TEXT",
                "record_index INTEGER",
                "field TEXT",
                "message TEXT",
                "record TEXT",
                "whole INTEGER",
                "sdk TEXT",
            ),
            (),
            _refusals(store, refused_of, hide),
        ),
    }
    for name, table in tables.items():
        _add(connection, names[name], table)
    return tuple(names[name] for name in tables)


def add_records(connection: apsw.Connection, store: Store, name: str) -> None:
    """Give a connection a table of the records of all projects, as far back as the log is kept."""
    columns = (
        "position INTEGER",
        "time_ms INTEGER",
        "project_id INTEGER",
        "endpoint TEXT",
        "sdk TEXT",
        "group_key TEXT",
        "id TEXT",
        "operations TEXT",
    )
    _add(connection, name, StoreTable(columns, (), _records(store)))


def _add(connection: apsw.Connection, name: str, table: StoreTable) -> None:
    connection.create_module(
        name,
        cast("Any", table),
        use_bestindex_object=True,
        eponymous=True,
        eponymous_only=True,
        read_only=True,
    )


def _users(store: Store, projects: Sequence[int]) -> Read:
    def read(given: Mapping[str, str], wanted: Collection[str]) -> Iterator[Row]:
        for project in projects:
            for profile_id, document in _profiles(store, project, "", given.get("id"), wanted):
                yield project, profile_id, document

    return read


def _groups(store: Store, projects: Sequence[int]) -> Read:
    def read(given: Mapping[str, str], wanted: Collection[str]) -> Iterator[Row]:
        for project in projects:
            for key, number in sorted(store.state.group_keys(project).items()):
                if given.get("group_key", key) == key:
                    for group_id, document in _profiles(store, project, key, given.get("id"), wanted):
                        yield project, key, number, group_id, document

    return read


def _profiles(
    store: Store, project: int, key: str, profile_id: str | None, wanted: Collection[str]
) -> Iterator[tuple[str, str | None]]:
    """(id, document) of one profile or of all, ascending by id; documents where they are wanted."""
    if profile_id is not None:
        [found] = store.state.documents([(project, key, profile_id)])
        if found is not None:
            yield profile_id, found.decode()
        return
    if "document" not in wanted:
        for each in store.state.ids(project, key):
            yield each, None
        return
    after = ""
    while some := store.state.profiles_after(project, key, after=after, limit=PAGE_PROFILES):
        for each, document in some:
            yield each, document.decode()
        after = some[-1][0]


def _refusals(store: Store, projects: Sequence[int] | None, hide: Callable[[Any], Any]) -> Read:
    def read(given: Mapping[str, str], wanted: Collection[str]) -> Iterator[Row]:
        del given, wanted
        before: int | None = None
        while some := store.refusals.listing(projects, before_id=before, limit=PAGE_REFUSALS):
            for each in some:
                yield (
                    each.id,
                    each.time_ms,
                    each.project,
                    each.endpoint,
                    each.index,
                    hide(each.field),
                    hide(each.message),
                    hide(each.record),
                    int(each.whole),
                    hide(each.sdk),
                )
            before = some[-1].id

    return read


def _records(store: Store) -> Read:
    def read(given: Mapping[str, str], wanted: Collection[str]) -> Iterator[Row]:
        del given, wanted
        for view in all_views(store):
            at, head = view.log.tail_position(), view.log.head()
            while at < head:
                chunks = view.log.read(at, max_records=PAGE_RECORDS, max_bytes=PAGE_BYTES, kinds=FOR_PROFILES)
                for chunk in chunks:
                    for each in records_of(chunk, None):
                        operations = msgspec.json.encode(each.operations).decode()
                        whose = (each.project, each.endpoint, each.sdk, each.group_key, each.id)
                        yield each.position, each.time_ms, *whose, operations
                at = chunks[-1].end if chunks else max(at + 1, view.log.skip_damaged(at))

    return read
