"""Reading all profiles of a kind in PostgreSQL through a filter, some at a time.

Enters: a `Selection`. Leaves: ids in its order, values, or how many there are. A read streams its rows:
nothing but what is being sorted is held, and that on disk where it is much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
from psycopg import sql

from mixdown.store import choosing
from mixdown.store.choosing import LETTERS, SURE, Filter, at_once
from mixdown.store.filters import Compiled
from mixdown.store.postgres import indexes
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.expressions import compile_filter
from mixdown.store.postgres.ids import TextArray
from mixdown.store.postgres.profiles import Kind
from mixdown.store.selection import Selection

_ROWS_AT_ONCE: Final = 2000
_FEW_ROWS_AT_ONCE: Final = 100
"""Of documents: they may have 4 MiB each."""

PROFILES: Final = sql.SQL(
    "(SELECT coalesce(long_id, id) AS id, id AS key, document, partition, project_id, group_key"
    " FROM mixdown.profiles) AS p"
)
_WHERE: Final = sql.SQL(
    "SELECT {columns} FROM {profiles}"
    " WHERE p.partition = ANY(%s) AND p.project_id = %s AND p.group_key = %s{narrowed} AND ({filter})"
)
_NARROWED: Final = sql.SQL(" AND p.key = ANY(%s)")
_ID: Final = sql.SQL("p.id")
_VALUE: Final = sql.SQL("p.id, (p.document -> %s::text)::text")
_DOCUMENT: Final = sql.SQL("p.id, convert_to(p.document::text, 'UTF8')")
_UNDECIDED: Final = sql.SQL("p.id, convert_to({}, 'UTF8')")


class Scan:
    """`choosing.Pieces` of one read."""

    def __init__(
        self, database: Database, partitions: Sequence[int], kind: Kind, selection: Selection
    ) -> None:
        self._database = database
        self._partitions = list(partitions)
        self._kind = kind
        self.filter = filter_of(selection)
        self._keys = indexes.narrow(database, partitions, kind, selection.where, selection.context)

    def ids(self) -> Iterator[list[str]]:
        for rows in self._stream(_ID, (), _ROWS_AT_ONCE):
            yield [profile_id for (profile_id,) in rows]

    def values(self, name: str) -> Iterator[list[tuple[str, Any]]]:
        for rows in self._stream(_VALUE, (name,), _ROWS_AT_ONCE):
            yield [(profile_id, None if value is None else orjson.loads(value)) for profile_id, value in rows]

    def documents(self, *, all_of_them: bool) -> Iterator[list[tuple[str, bytes]]]:
        columns: sql.Composable = _DOCUMENT
        before: tuple[Any, ...] = ()
        if not all_of_them:
            columns = _UNDECIDED.format(trusted(self.filter.undecided))
            before = self.filter.undecided_bindings
        for rows in self._stream(columns, before, _FEW_ROWS_AT_ONCE):
            yield [(profile_id, SURE if document is None else document) for profile_id, document in rows]

    def _stream(
        self, columns: sql.Composable, before: Sequence[Any], at_once: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        if self._keys is not None and not self._keys:
            return
        statement = _WHERE.format(
            columns=columns,
            profiles=PROFILES,
            narrowed=sql.SQL("") if self._keys is None else _NARROWED,
            filter=trusted(self.filter.sql),
        )
        narrowed = () if self._keys is None else (TextArray.of_texts(self._keys),)
        parameters = (*before, self._partitions, *self._kind, *narrowed, *self.filter.bindings)
        yield from self._database.stream(statement, parameters, rows=at_once, binary=True)


def tally(
    database: Database, partitions: Sequence[int], kind: Kind, selections: Sequence[Selection]
) -> list[int]:
    """How many profiles each selection wants; those that SQL can tell are counted in one pass."""
    filters = [filter_of(selection) for selection in selections]
    counts = [0] * len(selections)
    exact = [place for place, each in enumerate(filters) if each.exact]
    for places in at_once(exact, filters):
        columns = sql.SQL(", ").join(
            sql.SQL("count(*) FILTER (WHERE {})").format(trusted(filters[place].sql)) for place in places
        )
        statement = _WHERE.format(
            columns=columns, profiles=PROFILES, narrowed=sql.SQL(""), filter=sql.SQL("true")
        )
        before = [binding for place in places for binding in filters[place].bindings]
        found = database.row(statement, (*before, list(partitions), *kind))
        assert found is not None
        for place, count in zip(places, found, strict=True):
            counts[place] = count
    for place, selection in enumerate(selections):
        if not filters[place].exact:
            counts[place] = choosing.count(Scan(database, partitions, kind, selection), selection)
    return counts


def trusted(text: str) -> sql.Composable:
    """SQL that a compiler of ours has made: every value in it is a placeholder."""
    return sql.SQL(text)


def filter_of(selection: Selection) -> Filter:
    """A selection as a condition over `p`; `undecided` is NULL for what is surely wanted."""
    parts: list[str] = []
    bindings: list[Any] = []
    sure: list[str] = []
    sure_bindings: list[Any] = []
    exact = True
    for expression in selection.where:
        compiled = _sendable(compile_filter(expression, selection.context))
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
            # ASCII alone is lowered here: what holds anything else is left to Python
            text, one = "p.document::text", "p.id"
            parts.append(
                f'(strpos(lower({text} COLLATE "C"), %s::text) > 0'
                f' OR strpos(lower({one} COLLATE "C"), %s::text) > 0'
                f" OR octet_length({text}) <> char_length({text})"
                f" OR octet_length({one}) <> char_length({one}))"
            )
            bindings += [wanted, wanted]
    undecided = f"CASE WHEN {' AND '.join(sure) or 'true'} THEN NULL ELSE p.document::text END"
    return Filter(" AND ".join(parts) or "true", tuple(bindings), exact, undecided, tuple(sure_bindings))


def _sendable(compiled: Compiled) -> Compiled:
    """The condition, or, where PostgreSQL takes no such text (NUL, a lone surrogate), that Python decides."""
    for binding in (*compiled.bindings, *compiled.undecided_bindings):
        if isinstance(binding, str) and not _is_text(binding):
            return Compiled("true", (), False, "p.document::text", ())
    return compiled


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text and "\\u0000" not in text and "\\ud" not in text.lower()
