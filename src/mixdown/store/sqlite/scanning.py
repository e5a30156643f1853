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
import orjson

from mixdown.model.expression import Context, Expression
from mixdown.store import choosing, patience
from mixdown.store.choosing import LETTERS, Filter, at_once
from mixdown.store.selection import Selection
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.expressions import compile_filter

Narrow = Callable[[apsw.Connection, int, int, Sequence[Expression], Context], "array[int] | None"]
"""(connection, project, data_group_id, where, context) -> rowids of all that may match, or None.

The seam for indexes on properties: what it gives must hold every match, and may hold more; None where no
index helps, or where it would give so many that reading the file in order is quicker.
"""

THREADS_LIMIT: Final = 4
PIECE_LIMIT_BYTES: Final = 8 * 1024 * 1024
_CACHE_BYTES: Final = 1024 * 1024
_FIRST_ROWS: Final = 2_000
_MOST_ROWS: Final = 50_000
PIECE_S: Final = 0.04
_SAMPLES: Final = 64
_FEW_SAMPLES: Final = 8
_IDS_AT_ONCE: Final = 10_000

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
        return choosing.matching(_Read(self, (project, group_id), selection), selection, self._folder)

    def values(self, project: int, group_id: int, selection: Selection) -> Iterator[list[Any]]:
        """What `selection.sort_key` is for each profile that is wanted, in no order, many at a time."""
        return choosing.values(_Read(self, (project, group_id), selection), selection)

    def tally(self, project: int, group_id: int, selections: Sequence[Selection]) -> list[int]:
        """How many profiles each selection wants; those that SQL can tell are counted in one pass."""
        filters = [filter_of(selection) for selection in selections]
        counts = [0] * len(selections)
        exact = [place for place, each in enumerate(filters) if each.exact]
        for places in at_once(exact, filters):
            columns = ",".join(f"count(*) FILTER (WHERE {filters[place].sql})" for place in places)
            before = tuple(binding for place in places for binding in filters[place].bindings)
            asked = _Asked(f"SELECT json_array({columns}) {{rows}}", before, ())
            for found in self.pieces(project, group_id, asked, None, _counts_of):
                for place, count in zip(places, found, strict=True):
                    counts[place] += count
        for place, selection in enumerate(selections):
            if not filters[place].exact:
                counts[place] = choosing.count(_Read(self, (project, group_id), selection), selection)
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

    def pieces(
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


class _Read:
    """`choosing.Pieces` of one read."""

    def __init__(self, scanner: Scanner, kind: tuple[int, int], selection: Selection) -> None:
        self._scanner = scanner
        self._kind = kind
        self._selection = selection
        self.filter = filter_of(selection)

    def ids(self) -> Iterator[list[str]]:
        asked = _Asked(_IDS.replace("{filter}", self.filter.sql), (), self.filter.bindings)
        return self._scanner.pieces(*self._kind, asked, self._selection, _ids_of)

    def values(self, name: str) -> Iterator[list[tuple[str, Any]]]:
        if not name.isprintable() or set(name) & {'"', "\\"}:  # no path can name it
            return self._values_in_documents(name)
        return self._pairs(_VALUE, (f'$."{name}"',), _values_of)

    def documents(self, *, all_of_them: bool) -> Iterator[list[tuple[str, bytes]]]:
        if all_of_them:
            found = self._pairs(_DOCUMENT, (), _documents_of)
        else:
            found = self._pairs(self.filter.undecided, self.filter.undecided_bindings, _documents_of)
        for pairs in found:
            yield [(profile_id, bytes(raw)) for profile_id, raw in pairs]

    def _values_in_documents(self, name: str) -> Iterator[list[tuple[str, Any]]]:
        for pairs in self.documents(all_of_them=True):
            yield [(profile_id, orjson.loads(document).get(name)) for profile_id, document in pairs]

    def _pairs(
        self, value: str, before: tuple[Any, ...], decode: Callable[[str], list[tuple[str, _Found]]]
    ) -> Iterator[list[tuple[str, _Found]]]:
        sql = _PAIRS.replace("{value}", value).replace("{filter}", self.filter.sql)
        asked = _Asked(sql, before, self.filter.bindings)
        return self._scanner.pieces(*self._kind, asked, self._selection, decode)


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
        if LETTERS.issuperset(wanted):
            # SQLite lowers ASCII alone: what holds anything else is left to Python
            parts.append(
                "(instr(lower(p.document), ?) OR instr(lower(p.id), ?)"
                " OR octet_length(p.document) <> length(p.document) OR octet_length(p.id) <> length(p.id)"
                " OR instr(p.document, '\\u'))"
            )
            bindings += [wanted, wanted]
    undecided = f"CASE WHEN {' AND '.join(sure) or 'true'} THEN 'null' ELSE p.document END"
    return Filter(" AND ".join(parts) or "true", tuple(bindings), exact, undecided, tuple(sure_bindings))


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
