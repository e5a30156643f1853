"""Reading all profiles of a kind in `state.db` through a filter, piece by piece.

Enters: a `Selection`. Leaves: ids in its order, or how many there are. Each piece is one statement of some
milliseconds, so that no snapshot holds up the fold's checkpoints, and gives one JSON text, so that threads
work side by side: SQLite gives up the interpreter's lock for a whole statement. Profiles that change while
pieces are read count as they were or as they are.

Pieces go along the rowids (the order of the file), which is several times quicker than looking up a row for
each entry of the index by id. Where the kind is a small part of the file, or an index on a property tells
the candidates (`Narrow`), their rowids are collected first.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import apsw
import msgspec

from mixdown.model.expression import (
    ID_NAMES,
    PROFILE_ACCESSORS,
    Context,
    Expression,
    document_values,
)
from mixdown.model.expression_nodes import Access
from mixdown.store import patience
from mixdown.store.selection import Selection, judge, sort_key_of, value_bytes
from mixdown.store.sorting import FEW_LIMIT, Few, Keyed, Sorter
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.expressions import compile_filter

Narrow = Callable[[apsw.Connection, int, int, Sequence[Expression], Context], "array[int] | None"]
"""(connection, project, data_group_id, where, context) -> rowids of all that may match, or None.

The seam for indexes on properties: what it gives must hold every match, and may hold more; None where no
index helps, or where it would give so many that reading the file in order is quicker.
"""

THREADS_LIMIT: Final = 4
PIECE_LIMIT_BYTES: Final = 8 * 1024 * 1024
FILTERS_AT_ONCE: Final = 16
_BINDINGS_AT_ONCE: Final = 16_000
_CACHE_BYTES: Final = 1024 * 1024
_FIRST_ROWS: Final = 2_000
_MOST_ROWS: Final = 50_000
PIECE_S: Final = 0.04
_SAMPLES: Final = 64
_FEW_SAMPLES: Final = 8
_IDS_AT_ONCE: Final = 10_000
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789 !#$%&'()*+,-./:;<=>?@[]^_`{|}~")

# apart, since SQLite goes through the table where one statement asks for both
_ENDS: Final = "SELECT (SELECT min(rowid) FROM profiles), (SELECT max(rowid) FROM profiles)"
_IN_RANGE: Final = (
    "FROM profiles AS p WHERE p.rowid > ? AND p.rowid <= ? AND +p.project_id = ? AND +p.data_group_id = ?"
)
_IN_ROWIDS: Final = (
    "FROM carray(?) AS c CROSS JOIN profiles AS p ON p.rowid = c.value"
    " WHERE +p.project_id = ? AND +p.data_group_id = ?"
)
_IDS: Final = "SELECT json_group_array(id) FROM (SELECT p.id AS id {rows} AND ({filter}) ORDER BY p.id)"
_PAIRS: Final = (
    "SELECT '[' || coalesce(group_concat('[' || json_quote(p.id) || ',' || {value} || ']'), '') || ']'"
    " {rows} AND ({filter})"
)
_DOCUMENT: Final = "p.document"
_SURE: Final = b"null"
_Found = TypeVar("_Found")
_counts_of: Final = msgspec.json.Decoder(list[int]).decode
_ids_of: Final = msgspec.json.Decoder(list[str]).decode
_values_of: Final = msgspec.json.Decoder(list[tuple[str, Any]]).decode
_documents_of: Final = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]]).decode
_VALUE: Final = "coalesce(p.document -> ?, 'null')"


class _Asked(NamedTuple):
    """One kind of statement: its text with `{rows}` in it, bindings before and after those of the rows."""

    sql: str
    before: tuple[Any, ...]
    after: tuple[Any, ...]


class _Rows(NamedTuple):
    """Where a piece's rows are: a range of rowids (above `first`, up to `last`), or places in an array."""

    first: int
    last: int


class Scanner:
    """Reads through filters on one `state.db`; safe to use from many threads."""

    def __init__(self, path: Path, narrow: Narrow | None = None) -> None:
        self._folder = path.parent
        self._what = str(path)
        # each page of the file is read once: a larger cache would hold what nobody asks for again
        self._readers = sqlite.ThreadConnections(path, sqlite.STATE, cache_bytes=_CACHE_BYTES)
        self._narrow = narrow
        self._guard = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def matching(self, project: int, group_id: int, selection: Selection) -> Iterator[str]:
        """The ids of the profiles that are wanted, in the selection's order."""
        if selection.sort_key is None:
            yield from self._by_id(project, group_id, selection)
        else:
            yield from self._by_key(project, group_id, selection)

    def values(self, project: int, group_id: int, selection: Selection) -> Iterator[list[Any]]:
        """What `selection.sort_key` is for each profile that is wanted, in no order, many at a time."""
        assert selection.sort_key is not None
        known = filter_of(selection)
        path = _path_of(selection.sort_key)
        if known.exact and path:
            sql = _PAIRS.replace("{value}", _VALUE).replace("{filter}", known.sql)
            asked = _Asked(sql, (path,), known.bindings)
            for pairs in self._pieces(project, group_id, asked, selection, _values_of):
                yield [value for _, value in pairs]
        else:
            value_of = document_values(selection.sort_key, selection.context)
            for found in self._wanted(project, group_id, selection, known, _DOCUMENT):
                yield [value_of(*each) for each in found]

    def tally(self, project: int, group_id: int, selections: Sequence[Selection]) -> list[int]:
        """How many profiles each selection wants; those that SQL can tell are counted in one pass."""
        filters = [filter_of(selection) for selection in selections]
        counts = [0] * len(selections)
        exact = [place for place, each in enumerate(filters) if each.exact]
        for places in _at_once(exact, filters):
            columns = ",".join(f"count(*) FILTER (WHERE {filters[place].sql})" for place in places)
            before = tuple(binding for place in places for binding in filters[place].bindings)
            asked = _Asked(f"SELECT json_array({columns}) {{rows}}", before, ())
            for found in self._pieces(project, group_id, asked, None, _counts_of):
                for place, count in zip(places, found, strict=True):
                    counts[place] += count
        for place, selection in enumerate(selections):
            if not filters[place].exact:
                known = filters[place]
                wanted = self._wanted(project, group_id, selection, known, known.undecided)
                counts[place] = sum(map(len, wanted))
        return counts

    def at_once(self, calls: Sequence[Callable[[apsw.Connection], _Found]]) -> list[_Found]:
        """What calls give, made side by side; each has a connection, and the time of whoever asks."""

        def call(made: Callable[[apsw.Connection], _Found]) -> _Found:
            return made(self._readers.get())

        pool, bounded = self._threads(), patience.shared(call)
        waiting = [pool.submit(bounded, each) for each in calls]
        try:
            return [future.result() for future in waiting]
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """End the threads and their connections."""
        with self._guard:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
                self._pool = None
        self._readers.close()

    def _by_id(self, project: int, group_id: int, selection: Selection) -> Iterator[str]:
        known = filter_of(selection)
        sorter = Sorter[str](str, self._folder)
        try:
            if known.exact:
                asked = _Asked(_IDS.replace("{filter}", known.sql), (), known.bindings)
                for ids in self._pieces(project, group_id, asked, selection, _ids_of):
                    sorter.add(ids)
            else:
                for found in self._wanted(project, group_id, selection, known, known.undecided):
                    sorter.add([profile_id for profile_id, _ in found])
            last = None
            for profile_id in sorter:
                if profile_id != last:  # deleted and made again meanwhile, it may be met twice
                    yield profile_id
                last = profile_id
        finally:
            sorter.close()

    def _by_key(self, project: int, group_id: int, selection: Selection) -> Iterator[str]:
        known = filter_of(selection)
        few = 0 < selection.most <= FEW_LIMIT
        sorter = Few(selection.most) if few else Sorter[Keyed](Keyed, self._folder)
        try:
            path = _path_of(selection.sort_key)
            if known.exact and path:
                sql = _PAIRS.replace("{value}", _VALUE).replace("{filter}", known.sql)
                asked = _Asked(sql, (path,), known.bindings)
                for pairs in self._pieces(project, group_id, asked, selection, _values_of):
                    keys = [value_bytes(value, descending=selection.descending) for _, value in pairs]
                    sorter.add([(key, pair[0]) for key, pair in zip(keys, pairs, strict=True)])
            else:
                key_of = sort_key_of(selection)
                for found in self._wanted(project, group_id, selection, known, _DOCUMENT):
                    sorter.add([(key_of(*each), each[0]) for each in found])
            for _, profile_id in sorter:
                yield profile_id
        finally:
            sorter.close()

    def _wanted(
        self, project: int, group_id: int, selection: Selection, known: Filter, value: str
    ) -> Iterator[list[tuple[str, bytes]]]:
        """(id, `value`) of what is wanted, in no order; Python decides where SQL does not.

        `value` is the document, or `known.undecided`: `null` for what SQL is sure of, which then stays.
        """
        sql = _PAIRS.replace("{value}", value).replace("{filter}", known.sql)
        before = () if value == _DOCUMENT else known.undecided_bindings
        wants = judge(selection)
        asked = _Asked(sql, before, known.bindings)
        for pairs in self._pieces(project, group_id, asked, selection, _documents_of):
            wanted = []
            for profile_id, raw in pairs:
                patience.check()
                document = bytes(raw)
                if known.exact or document == _SURE or wants(profile_id, document):
                    wanted.append((profile_id, document))
            yield wanted

    def _pieces(
        self,
        project: int,
        group_id: int,
        asked: _Asked,
        selection: Selection | None,
        decode: Callable[[str], list[_Found]],
    ) -> Iterator[list[_Found]]:
        """The answers of all pieces in order, several of them being made at a time."""
        rowids, whole = self._places(project, group_id, selection)
        sql = asked.sql.replace("{rows}", _IN_RANGE if rowids is None else _IN_ROWIDS)
        pace = _Pace()

        def read(rows: _Rows) -> list[str]:
            """One piece, in as many statements as it takes to stay below the bound in bytes."""
            chosen: tuple[Any, ...]
            if rowids is None:
                chosen = (rows.first, rows.last)
            else:
                chosen = (apsw.carray(rowids, start=rows.first, stop=rows.last),)
            bindings = (*asked.before, *chosen, project, group_id, *asked.after)
            try:
                return [self._ask(sql, bindings, pace, rows)]
            except apsw.TooBigError:
                middle = (rows.first + rows.last) // 2
                return read(_Rows(rows.first, middle)) + read(_Rows(middle, rows.last))

        bounded = patience.shared(read)
        waiting: deque[Future[list[str]]] = deque()
        pool = self._threads()
        most = 2 * pool._max_workers  # noqa: SLF001 - it has no other name
        try:
            first = whole.first
            while first < whole.last or waiting:
                while first < whole.last and len(waiting) < most:
                    last = min(first + pace.rows, whole.last)
                    waiting.append(pool.submit(bounded, _Rows(first, last)))
                    first = last
                patience.check()
                yield from map(decode, waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()

    def _ask(self, sql: str, bindings: tuple[Any, ...], pace: _Pace, rows: _Rows) -> str:
        """One statement: a JSON text."""
        connection = self._readers.get()
        began = time.monotonic()
        # several rows are bounded together; one is no larger than a profile may be
        single = rows.last - rows.first <= 1
        bound = connection.limit(apsw.SQLITE_LIMIT_LENGTH) if single else PIECE_LIMIT_BYTES
        before = connection.limit(apsw.SQLITE_LIMIT_LENGTH, bound)
        try:
            text: str = sqlite.value(connection, sql, bindings)
        except apsw.TooBigError:
            if single:
                raise
            pace.too_large(rows.last - rows.first)
            raise
        except apsw.Error:
            with sqlite.store_errors(self._what):
                raise
        finally:
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, before)
        pace.took(rows.last - rows.first, time.monotonic() - began)
        return text

    def _places(
        self, project: int, group_id: int, selection: Selection | None
    ) -> tuple[array[int] | None, _Rows]:
        """What to read: rowids that were collected, or None and a range of them all."""
        with sqlite.store_errors(self._what):
            connection = self._readers.get()
            rowids = None
            if selection is not None and selection.where and self._narrow is not None:
                rowids = self._narrow(connection, project, group_id, selection.where, selection.context)
            if rowids is None:
                low, high = sqlite.value(connection, _ENDS)
                if low is None:
                    return None, _Rows(0, 0)
                if not _is_few(connection, project, group_id, low, high):
                    return None, _Rows(low - 1, high)
                rowids = _rowids(connection, project, group_id)
        in_order = array("q", sorted(rowids))
        return in_order, _Rows(0, len(in_order))

    def _threads(self) -> ThreadPoolExecutor:
        with self._guard:
            if self._pool is None:
                cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
                self._pool = ThreadPoolExecutor(min(cores, THREADS_LIMIT), thread_name_prefix="scan")
            return self._pool


class _Pace:
    """How many rows the next piece takes, so that it takes some `PIECE_S`."""

    def __init__(self) -> None:
        self.rows = _FIRST_ROWS
        self._most = _MOST_ROWS

    def took(self, rows: int, seconds: float) -> None:
        """Take note of a piece."""
        wanted = rows * PIECE_S / max(seconds, 1e-6)
        self.rows = int(max(1, min(wanted, 2 * self.rows, self._most)))

    def too_large(self, rows: int) -> None:
        """Take note of a piece that had more bytes than it may."""
        self._most = max(1, rows // 2)
        self.rows = min(self.rows, self._most)


class Filter(NamedTuple):
    """A condition over `p`. Where it is not exact, it lets through more than is wanted.

    `undecided` is then the document of what Python must decide, and `null` for what is surely wanted.
    """

    sql: str
    bindings: tuple[Any, ...]
    exact: bool
    undecided: str
    undecided_bindings: tuple[Any, ...]


def filter_of(selection: Selection) -> Filter:
    """A selection as a condition over `p`."""
    parts: list[str] = []
    bindings: list[Any] = []
    sure: list[str] = []
    sure_bindings: list[Any] = []
    exact = True
    for expression in selection.where:
        compiled = compile_filter(expression, selection.context)
        parts.append(f"({compiled.sql})")
        bindings.extend(compiled.bindings)
        if not compiled.exact:
            exact = False
            sure.append(f"({compiled.undecided}) IS NULL")
            sure_bindings.extend(compiled.undecided_bindings)
    if selection.search:
        exact = False
        sure, sure_bindings = ["false"], []
        wanted = selection.search.lower()
        if _LETTERS.issuperset(wanted):
            # SQLite lowers ASCII alone: what holds anything else is left to Python
            parts.append(
                "(instr(lower(p.document), ?) OR instr(lower(p.id), ?)"
                " OR octet_length(p.document) <> length(p.document) OR octet_length(p.id) <> length(p.id)"
                " OR instr(p.document, '\\u'))"
            )
            bindings += [wanted, wanted]
    undecided = f"CASE WHEN {' AND '.join(sure) or 'true'} THEN 'null' ELSE p.document END"
    return Filter(" AND ".join(parts) or "true", tuple(bindings), exact, undecided, tuple(sure_bindings))


def _at_once(places: Sequence[int], filters: Sequence[Filter]) -> Iterator[list[int]]:
    """Places of filters that one statement can count: SQLite takes 32,766 bindings."""
    some: list[int] = []
    bindings = 0
    for place in places:
        own = len(filters[place].bindings)
        if some and (len(some) == FILTERS_AT_ONCE or bindings + own > _BINDINGS_AT_ONCE):
            yield some
            some, bindings = [], 0
        some.append(place)
        bindings += own
    if some:
        yield some


def _is_few(connection: apsw.Connection, project: int, group_id: int, low: int, high: int) -> bool:
    """Whether these profiles are a small part of the file, by a sample that is spread over it."""
    step = max(1, (high - low) // _SAMPLES)
    hits = sum(
        sqlite.value(
            connection, "SELECT project_id, data_group_id FROM profiles WHERE rowid >= ? LIMIT 1", (rowid,)
        )
        == (project, group_id)
        for rowid in range(low, high + 1, step)
    )
    return hits < _FEW_SAMPLES and high - low >= _SAMPLES


def _rowids(connection: apsw.Connection, project: int, group_id: int) -> array[int]:
    found = array("q")
    last = ""
    while True:
        patience.check()
        some = sqlite.rows(
            connection,
            "SELECT rowid, id FROM profiles WHERE project_id = ? AND data_group_id = ? AND id > ?"
            " ORDER BY id LIMIT ?",
            (project, group_id, last, _IDS_AT_ONCE),
        )
        found.extend([rowid for rowid, _ in some])
        if len(some) < _IDS_AT_ONCE:
            return found
        last = some[-1][1]


def _path_of(sort_key: Expression | None) -> str:
    """The path of the one property that a sort key is; "" where it is more, or no path can name it."""
    if sort_key is None or not isinstance(sort_key.tree, Access):
        return ""
    slot = sort_key.slots[sort_key.tree.place]
    plain = slot.name.isprintable() and not set(slot.name) & {'"', "\\"} and slot.name not in ID_NAMES
    return f'$."{slot.name}"' if plain and slot.accessor in PROFILE_ACCESSORS else ""
