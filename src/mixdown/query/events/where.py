"""`where` over events: which of a batch match, with `user[...]` of the profiles of their persons.

An expression enters with the table that its rows come from; SQL for the columns that it wants leaves, and
then, of batches of such rows, those that match (contract query §3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import orjson

from mixdown.model.expression import UNDEFINED, Context, Expression, Slot
from mixdown.model.expression_nodes import Access, Binary, Call, Literal, Logical, Node, Now
from mixdown.query.events.buckets import Span
from mixdown.query.events.columns import PERSON_SQL, TIME, Columns, property_sql
from mixdown.query.events.profiles import Profiles
from mixdown.store import patience
from mixdown.store.protocols import State

_EVENT_ACCESSORS: Final = ("properties", "event")
_SECOND_MS: Final = 1000
_SWAPPED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
_Row = tuple[Any, ...]


class Selector(msgspec.Struct, frozen=True):
    """Events of these names (None: of any) that an expression matches."""

    where: Expression
    events: tuple[str, ...] | None = None


class Selection:
    """Selectors made ready for rows of one table of events of one project: what any matches is wanted.

    `condition` is SQL with `parameters` that lets through no event but of their names; a row has the values
    of `columns`, in order.
    """

    def __init__(
        self,
        selectors: Sequence[Selector],
        columns: Columns,
        state: State,
        project: int,
        context: Context,
    ) -> None:
        self.condition, self.parameters = names_sql(selectors)
        self.columns: list[str] = []
        self._parts: list[tuple[frozenset[str] | None, int, EventFilter]] = []
        if len(selectors) == 1 and selectors[0].where.is_blank:
            return
        self.columns.append("event")
        for selector in selectors:
            own = EventFilter(selector.where, columns, state, project, context)
            names = None if selector.events is None else frozenset(selector.events)
            self._parts.append((names, len(self.columns), own))
            self.columns += own.columns

    @property
    def takes_all(self) -> bool:
        """Whether each row that `condition` lets through matches."""
        return not self._parts

    def matching(self, rows: Sequence[_Row]) -> list[bool]:
        """Whether each row matches. Raises `StoreError`."""
        if self.takes_all:
            return [True] * len(rows)
        found = [False] * len(rows)
        for names, at, own in self._parts:
            width = len(own.columns)
            asked = [
                place
                for place, row in enumerate(rows)
                if not found[place] and (names is None or row[0] in names)
            ]
            matches = own.matching([rows[place][at : at + width] for place in asked])
            for place, matched in zip(asked, matches, strict=True):
                found[place] = matched
        return found


def names_sql(selectors: Sequence[Selector]) -> tuple[str, list[Any]]:
    """SQL for events of the names that selectors have, and its parameters."""
    if any(selector.events is None for selector in selectors):
        return "true", []
    names = sorted({name for selector in selectors for name in selector.events or ()})
    return (f"event IN ({', '.join('?' * len(names))})", list(names)) if names else ("false", [])


class EventFilter:
    """An expression made ready for rows of one table of events of one project.

    A row has the values of `columns`, in order: texts of JSON or None, and the person's id at `person_at`.
    """

    def __init__(
        self, expression: Expression, columns: Columns, state: State, project: int, context: Context
    ) -> None:
        self._matches = expression.predicate(context)
        self._slots = expression.slots
        names = [slot.name for slot in self._slots if slot.accessor in _EVENT_ACCESSORS]
        self._names = list(dict.fromkeys(names))
        self._of_user = tuple(slot for slot in self._slots if slot.accessor == "user")
        self.columns = [f"CAST({property_sql(columns, name)} AS VARCHAR)" for name in self._names]
        if self._of_user:
            self.columns.append(PERSON_SQL)
            users = Expression(expression.text, expression.tree, self._of_user)
            self._profiles = Profiles(state, project, users)

    def matching(self, rows: Sequence[_Row]) -> list[bool]:
        """Whether each row matches. Raises `StoreError`."""
        users: dict[str, _Row] = {}
        if self._of_user:
            users = self._profiles.rows(dict.fromkeys(row[-1] for row in rows))
        places = {name: place for place, name in enumerate(self._names)}
        found = []
        for row in rows:
            patience.check()
            user = users[row[-1]] if self._of_user else ()
            found.append(self._matches(self._slot_values(row, places, user)))
        return found

    def _slot_values(self, row: _Row, places: dict[str, int], user: _Row) -> _Row:
        values: list[Any] = []
        of_user = iter(user)
        for slot in self._slots:
            if slot.accessor == "user":
                values.append(next(of_user))
            elif slot.accessor in _EVENT_ACCESSORS:
                text = row[places[slot.name]]
                values.append(UNDEFINED if text is None else orjson.loads(text))
            else:
                values.append(UNDEFINED)
        return tuple(values)


def wants_profiles(selectors: Sequence[Selector]) -> bool:
    """Whether an answer depends on profiles."""
    return any(slot.accessor == "user" for selector in selectors for slot in selector.where.slots)


def narrowed(expression: Expression, span: Span, context: Context) -> Span:
    """The part of a span outside of which no event can match, as far as comparisons of times say so.

    Clients that read what is new ask for `properties["$time"] >= datetime(...)` in the days that hold it.
    """
    since_ms, until_ms = span
    for operator, seconds in _time_bounds(expression, expression.tree, context):
        if operator in (">", ">=", "=="):
            since_ms = max(since_ms, (seconds + (operator == ">")) * _SECOND_MS)
        if operator in ("<", "<=", "=="):
            until_ms = min(until_ms, (seconds + (operator != "<")) * _SECOND_MS)
    return Span(since_ms, max(since_ms, until_ms))


def _time_bounds(expression: Expression, node: Node, context: Context) -> list[tuple[str, int]]:
    """(operator, unix seconds) of each comparison of the event's time that must hold."""
    match node:
        case Logical(operator="and", operands=operands):
            return [each for part in operands for each in _time_bounds(expression, part, context)]
        case Binary(operator=operator, left=left, right=right) if operator in _SWAPPED:
            if _is_time(left, expression.slots):
                seconds = _seconds_of(right, context)
            elif _is_time(right, expression.slots):
                seconds, operator = _seconds_of(left, context), _SWAPPED[operator]
            else:
                return []
            return [] if seconds is None else [(operator, seconds)]
    return []


def _is_time(node: Node, slots: Sequence[Slot]) -> bool:
    """Whether a node is the event's time, bare or through `datetime`."""
    if isinstance(node, Call) and node.function == "datetime":
        node = node.arguments[0]
    if not isinstance(node, Access):
        return False
    slot = slots[node.place]
    return slot.accessor in _EVENT_ACCESSORS and slot.name in TIME


def _seconds_of(node: Node, context: Context) -> int | None:
    """What a constant `datetime(...)` is, in unix seconds; None for anything else."""
    if not (isinstance(node, Call) and node.function == "datetime"):
        return None
    inner = node.arguments[0]
    if not isinstance(inner, Literal | Now):
        return None
    value = Expression("constant", node, ()).value(context)(())
    return value if type(value) is int else None
