"""Conditions on a lookup table as conditions on the property that it is joined by: no engine need join it.

Enters: a part of an expression that reads nothing of a profile but a property, and that only to find a row of
one small table. Leaves: the keys of the rows that make it true, each asked once. It knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from mixdown.model.expression import PROFILE_ACCESSORS, UNDEFINED, Context, Expression
from mixdown.model.expression_nodes import Access, Lookup, Node, parts_of
from mixdown.model.expression_running import build
from mixdown.model.lookup import Table, numbers_with_key
from mixdown.store.dialect import NEVER, Bound, Dialect, none_of, some

WORK_LIMIT: Final = 3_000_000
"""So many nodes are evaluated for one expression at most: a second or so."""
_SURELY_EXACT: Final = 2**53
"""From here on an integer and a double may be written alike and differ."""
_ROWS_BETWEEN_PAUSES: Final = 256


class Join(NamedTuple):
    """What a part reads: the row that a table has for a property of the profile."""

    table: Table
    name: str


class Joins:
    """The parts of one expression that read a lookup table and nothing else."""

    def __init__(self, expression: Expression, context: Context) -> None:
        self._slots = expression.slots
        self._context = context
        self._known: dict[int, tuple[bool, Join | None, int]] = {}
        self._left = WORK_LIMIT

    def condition(self, dialect: Dialect, node: Node, wanted: Callable[[Any], bool]) -> Bound | None:
        """When the node's value is `wanted`, said of the property; None where it reads more, or too much."""
        alone, join, nodes = self._read_by(node)
        keys = join.table.keys() if alone and join is not None else None
        if join is None or keys is None or (len(keys) + 1) * nodes > self._left:
            return None
        self._left -= (len(keys) + 1) * nodes
        run = build(node, len(self._slots), self._context).run
        places = [place for place, slot in enumerate(self._slots) if slot.name == join.name]
        row: list[Any] = [UNDEFINED] * len(self._slots)
        otherwise = wanted(run(tuple(row)))
        differing = []
        for count, key in enumerate(keys):
            if self._context.pause is not None and count % _ROWS_BETWEEN_PAUSES == 0:
                self._context.pause()
            for place in places:
                if self._slots[place].accessor in PROFILE_ACCESSORS:
                    row[place] = key
            if wanted(run(tuple(row))) is not otherwise:
                differing.append(key)
        found = _has_key(dialect, join.name, differing)
        return none_of(found) if otherwise else found

    def _read_by(self, node: Node) -> tuple[bool, Join | None, int]:
        """Whether the node reads one join or nothing; which; and of how many nodes it is made."""
        known = self._known.get(id(node))
        if known is None:
            known = self._known[id(node)] = self._look_into(node)
        return known

    def _look_into(self, node: Node) -> tuple[bool, Join | None, int]:
        if isinstance(node, Access):
            return self._name(node) is None, None, 1
        if isinstance(node, Lookup):
            name = self._name(node.key)
            if name is not None:
                return True, Join(node.table, name), 2
        alone, join, nodes = True, None, 1
        for part in parts_of(node):
            its_alone, its_join, its_nodes = self._read_by(part)
            nodes += its_nodes
            alone = alone and its_alone and (join is None or its_join is None or _same(join, its_join))
            join = join or its_join
        return alone, join, nodes

    def _name(self, node: Node) -> str | None:
        if isinstance(node, Access) and self._slots[node.place].accessor in PROFILE_ACCESSORS:
            return self._slots[node.place].name
        return None


def _same(one: Join, other: Join) -> bool:
    return one.table is other.table and one.name == other.name


def _has_key(dialect: Dialect, name: str, keys: Sequence[str]) -> Bound:
    """Whether a property finds one of these keys: by `string(...)` of it, as `lookup.reader` does."""
    if not keys:
        return some([])
    numbers = [number for key in keys for number in numbers_with_key(key)]
    sure = [number for number in numbers if abs(number) < _SURELY_EXACT]
    unsure = [number for number in numbers if abs(number) >= _SURELY_EXACT]
    bounds = [dialect.text_in(name, keys)]
    if sure:
        bounds.append(dialect.number_in(name, sure))
    if unsure:
        bounds.append(Bound(dialect.number_in(name, unsure).upper, NEVER.lower))
    bounds += [
        dialect.is_boolean(name, value=value)
        for value, text in ((True, "true"), (False, "false"))
        if text in keys
    ]
    return some(bounds)
