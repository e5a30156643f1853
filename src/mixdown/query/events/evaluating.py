"""Expressions over an open table of events as SQL: conditions to filter by and values to group by, exact.

A relation of events and expressions enter; SQL over that relation leaves. What SQL can say is said in SQL
(`store/duck/expressions.py`). All else depends on the values that an expression reads alone: it is asked
once in Python for each different set of them, and SQL joins the answers. What profiles say is joined to the
relation before. The temporary tables `people`, `evaluated0`, ... belong to this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Final

import msgspec
import orjson

from mixdown.model.expression import UNDEFINED, Context, Expression, Slot
from mixdown.model.expression_nodes import Access, Binary, Call, Logical, Node
from mixdown.query.events.columns import PERSON_SQL, Source, label_sql, property_source, source_of
from mixdown.query.events.profiles import Profiles
from mixdown.query.events.reader import OpenEvents
from mixdown.store import patience
from mixdown.store.duck.expressions import compile_filter
from mixdown.store.protocols import State

ROWS_AT_ONCE: Final = 2000
IDS_AT_ONCE: Final = 20_000
_EVENT_ACCESSORS: Final = ("properties", "event")
_PROBE: Final = "properties"
_NOTHING: Final = "NULL::JSON"


class Relation(msgspec.Struct, frozen=True):
    """What stands in FROM, in brackets, and the parameters that it takes there."""

    sql: str
    parameters: tuple[Any, ...] = ()


class Evaluated(msgspec.Struct, frozen=True):
    """An expression as SQL over the relation that it was made for, and what must be joined to that before.

    A condition is BOOLEAN, true where a row matches; a value is JSON, NULL where it is undefined. `plain` is
    the source that the value is, where it is one.
    """

    sql: str
    parameters: tuple[Any, ...] = ()
    join: str = ""
    plain: Source | None = None

    @property
    def is_always(self) -> bool:
        """Whether every row matches."""
        return self.sql == "TRUE"


class Evaluator:
    """Makes expressions ready for the rows of one relation of an open table of events.

    `relation` is that relation, with a column for each thing that the expressions read of profiles.
    """

    def __init__(
        self,
        table: OpenEvents,
        relation: Relation,
        expressions: Sequence[Expression],
        *,
        state: State,
        project: int,
        context: Context,
    ) -> None:
        self._table = table
        self._context = context
        self._numbers = count()
        slots = [slot for expression in expressions for slot in expression.slots if slot.accessor == "user"]
        self._users = {slot.name: f"user{place}" for place, slot in enumerate(dict.fromkeys(slots))}
        self.relation = relation
        if self._users:
            self._join_profiles(state, project)

    def condition(self, expression: Expression) -> Evaluated:
        """Whether rows match. Raises `StoreError`."""
        if expression.is_blank:
            return Evaluated("TRUE")
        sources, bare = self._sources(expression)
        made = compile_filter(bare, sources, self._context)
        if made.exact:
            return Evaluated(
                f"coalesce(({made.sql}), false)" if made.sql != "TRUE" else "TRUE", made.bindings
            )
        run = expression.predicate(self._context)
        if not sources:
            return Evaluated("TRUE" if run(tuple(UNDEFINED for _ in expression.slots)) else "FALSE")
        unsure = Relation(
            f"(SELECT * FROM {self.relation.sql} WHERE ({made.sql}) AND ({made.undecided}) IS NOT NULL)",
            (*self.relation.parameters, *made.bindings, *made.undecided_bindings),
        )
        name, join = self._asked(expression, sources, unsure, lambda row: b"true" if run(row) else None)
        sql = f"coalesce(({made.sql}) AND (({made.undecided}) IS NULL OR {name}.value IS NOT NULL), false)"
        return Evaluated(sql, (*made.bindings, *made.undecided_bindings), join)

    def value(self, expression: Expression) -> Evaluated:
        """What an expression is for each row. Raises `StoreError`."""
        sources, bare = self._sources(expression)
        quick = _quick_value(expression.tree, sources)
        if quick is None and _is_boolean(expression.tree):
            made = compile_filter(bare, sources, self._context)
            if made.exact:
                return Evaluated(f"to_json(coalesce(({made.sql}), false))", made.bindings)
        run = expression.value(self._context)
        if not sources:
            told = _told(run(tuple(UNDEFINED for _ in expression.slots)))
            return Evaluated(_NOTHING) if told is None else Evaluated("?::JSON", (told.decode(),))
        sql, unsure = quick or (_NOTHING, "true")
        if unsure == "false":
            plain = isinstance(expression.tree, Access)
            return Evaluated(sql, plain=next(iter(sources.values())) if plain else None)
        rows = Relation(f"(SELECT * FROM {self.relation.sql} WHERE {unsure})", self.relation.parameters)
        name, join = self._asked(expression, sources, rows, lambda row: _told(run(row)))
        return Evaluated(f"CASE WHEN {unsure} THEN {name}.value::JSON ELSE {sql} END", (), join)

    # --- what is read -----------------------------------------------------------------------------

    def _sources(self, expression: Expression) -> tuple[dict[str, Source], Expression]:
        """The sources of what is read, by the place of the slot, and the expression with these as names."""
        sources: dict[str, Source] = {}
        slots: list[Slot] = []
        for place, slot in enumerate(expression.slots):
            if slot.accessor in _EVENT_ACCESSORS:
                sources[str(place)] = property_source(self._table.columns, slot.name)
                slots.append(Slot(_PROBE, str(place)))
            elif slot.accessor == "user":
                sources[str(place)] = source_of(self._users[slot.name])
                slots.append(Slot(_PROBE, str(place)))
            else:
                slots.append(slot)
        return sources, Expression(expression.text, expression.tree, tuple(slots))

    def _join_profiles(self, state: State, project: int) -> None:
        """Make the table `people` of the persons in the relation, and join it."""
        run, names = self._table.run, list(self._users)
        columns = list(self._users.values())
        run(f"CREATE TEMP TABLE people (id VARCHAR, {', '.join(f'{each} JSON' for each in columns)})")
        run(
            f"CREATE TEMP TABLE asked AS SELECT DISTINCT {PERSON_SQL} AS id FROM {self.relation.sql}",
            self.relation.parameters,
        )
        reads = Expression("user", Access(0), tuple(Slot("user", name) for name in names))
        profiles = Profiles(state, project, reads)
        for ids in self._pages("asked", ["id"], IDS_AT_ONCE):
            found = profiles.rows(dict.fromkeys(one for (one,) in ids))
            known = {one: row for one, row in found.items() if any(value is not UNDEFINED for value in row)}
            texts = [[_text(row[place]) for row in known.values()] for place in range(len(names))]
            run(
                f"INSERT INTO people SELECT {', '.join(['unnest(?::VARCHAR[])'] * (len(names) + 1))}",
                [list(known), *texts],
            )
        run("DROP TABLE asked")
        self.relation = Relation(
            f"(SELECT whole.*, {', '.join(f'people.{each}' for each in columns)} "
            f"FROM {self.relation.sql} AS whole LEFT JOIN people ON people.id = whole.{PERSON_SQL})",
            self.relation.parameters,
        )

    # --- what Python answers ----------------------------------------------------------------------

    def _asked(
        self,
        expression: Expression,
        sources: dict[str, Source],
        rows: Relation,
        answer: Callable[[tuple[Any, ...]], bytes | None],
    ) -> tuple[str, str]:
        """Ask once for each different set of what rows read: the table with the answers, and its join."""
        run, name = self._table.run, f"evaluated{next(self._numbers)}"
        read = [f"CAST({source.json} AS VARCHAR)" for source in sources.values()]
        columns = [f"read{place}" for place in range(len(read))]
        typed = ", ".join(f"{column} VARCHAR" for column in columns)
        run(f"CREATE TEMP TABLE looked_at ({typed})")
        run(f"CREATE TEMP TABLE {name} ({typed}, value VARCHAR)")
        run(f"INSERT INTO looked_at SELECT DISTINCT {', '.join(read)} FROM {rows.sql}", rows.parameters)
        places = {int(place): at for at, place in enumerate(sources)}
        for begin, page in enumerate(self._pages("looked_at", columns, ROWS_AT_ONCE)):
            numbers, answers = [], []
            for number, texts in enumerate(page, begin * ROWS_AT_ONCE):
                patience.check()
                row = tuple(
                    UNDEFINED if place not in places else _read(texts[places[place]])
                    for place in range(len(expression.slots))
                )
                told = answer(row)
                if told is not None:
                    numbers.append(number)
                    answers.append(told.decode())
            run(
                f"INSERT INTO {name} SELECT {', '.join(columns)}, told.value FROM looked_at JOIN "
                "(SELECT unnest(?::BIGINT[]) AS number, unnest(?::VARCHAR[]) AS value) AS told "
                "ON looked_at.rowid = told.number",
                [numbers, answers],
            )
        run("DROP TABLE looked_at")
        same = " AND ".join(
            f"{given} IS NOT DISTINCT FROM {name}.{column}"
            for given, column in zip(read, columns, strict=True)
        )
        return name, f" LEFT JOIN {name} ON {same}"

    def _pages(self, name: str, columns: Sequence[str], rows: int) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a temporary table in the order of their numbers; each page is read to its end."""
        last = next(iter(self._table.rows(f"SELECT coalesce(max(rowid), -1) FROM {name}")))[0]
        for begin in range(0, last + 1, rows):
            sql = f"SELECT {', '.join(columns)} FROM {name} WHERE rowid >= ? AND rowid < ? ORDER BY rowid"
            yield list(self._table.rows(sql, [begin, begin + rows]))


def _read(text: str | None) -> Any:
    return UNDEFINED if text is None else orjson.loads(text)


def _text(value: Any) -> str | None:
    return None if value is UNDEFINED else orjson.dumps(value).decode()


def _told(value: Any) -> bytes | None:
    return None if value is UNDEFINED else orjson.dumps(value)


def _is_boolean(node: Node) -> bool:
    """Whether a node's value is true or false, whatever a row holds."""
    if isinstance(node, Call):
        return node.function in ("defined", "boolean")
    return isinstance(node, Logical) or (isinstance(node, Binary) and node.operator in ("==", "!="))


def _quick_value(node: Node, sources: dict[str, Source]) -> tuple[str, str] | None:
    """SQL of a property, or of a cast of one, and where it must be asked in Python all the same."""
    function = ""
    if isinstance(node, Call) and len(node.arguments) == 1:
        function, node = node.function, node.arguments[0]
    if not isinstance(node, Access) or str(node.place) not in sources:
        return None
    value = sources[str(node.place)].json
    if not function:
        return value, "false"
    kind = f"json_type({value})"
    if function == "string":
        plain = label_sql(value, "NULL")
        return (
            f"CASE WHEN {kind} IN ('NULL', 'VARCHAR') THEN {value} "
            f"WHEN {kind} IN ('ARRAY', 'OBJECT') THEN NULL ELSE to_json({plain}) END"
        ), "false"
    if function == "number":
        return (
            f"CASE WHEN {kind} IN ('ARRAY', 'OBJECT', 'NULL', 'VARCHAR') THEN NULL "
            f"WHEN {kind} = 'BOOLEAN' THEN CASE WHEN CAST({value} AS VARCHAR) = 'true' THEN '1' ELSE '0' END "
            f"ELSE {value} END::JSON"
        ), f"coalesce({kind} = 'VARCHAR', false)"
    if function == "list":
        return (
            f"CASE WHEN {kind} = 'ARRAY' THEN {value} WHEN {kind} IN ('OBJECT', 'NULL') THEN NULL "
            f"ELSE '[' || CAST({value} AS VARCHAR) || ']' END::JSON"
        ), "false"
    return None
