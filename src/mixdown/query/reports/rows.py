"""The rows that every report counts: a project's events in a span, who counts, what matches, what is told.

A `Wanted` enters; `ReportRows` leave, a relation over which SQL counts: events once each, ids resolved as
they are linked now, filters exact, values as the expression language has them, profiles and lookup tables
joined.
Memory and time are those of any read of events (`query/events/reader.py`). No report opens events in another
way.

Columns of the relation:

- `event` VARCHAR, `time` TIMESTAMP_MS (UTC), `position` BIGINT: as `store.duck.EventTable` has them; events
  of one time stand in the order of `position`;
- `person` VARCHAR: what is counted. The canonical id of who did it, or, where groups are counted, a group's
  id: an event of several groups is a row for each of them, and one of no group is none;
- `match0`, `match1`, ... BOOLEAN, never NULL: whether the event is one of each selector; at least one is;
- `value0`, `value1`, ... JSON: each wanted value, NULL where it is undefined (JSON's null is `'null'`);
- `text0`, ... VARCHAR and `number0`, ... DOUBLE: the same, NULL where it is no text, or no number.

What is not named in a statement is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec

from mixdown.model.expression import Context, Expression, parse
from mixdown.model.expression_nodes import Access, Slot
from mixdown.model.lookup import Tables
from mixdown.query.contexts import context_of
from mixdown.query.events.buckets import Span
from mixdown.query.events.columns import BEFORE, PERSON, PERSON_SQL, labels_sql, property_sql, source_of
from mixdown.query.events.evaluating import Evaluated, Evaluator, Relation
from mixdown.query.events.reader import EventReads, OpenEvents
from mixdown.query.events.where import Selector, names_sql
from mixdown.store.places import SPAN_BITS

_BARE: Final = re.compile(r"[A-Za-z_$][\w$.-]*")
_WORDS: Final = frozenset({"true", "false", "TRUE", "FALSE", "null", "undefined", "NOW"})


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a report reads: the events of a span that one of `selectors` matches, and values of each.

    `group_key` names what is counted: "" for persons. Without `persons` the column `person` holds ids as they
    were sent: for what depends on nobody's identity (expressions that do have them resolved all the same).
    """

    project: int
    span: Span
    selectors: tuple[Selector, ...]
    values: tuple[Expression, ...] = ()
    group_key: str = ""
    persons: bool = True


class Arrival(NamedTuple):
    """SQL for a number of each row that ascends as `position` does, from 0, and how many bits it has."""

    sql: str
    bits: int


class ReportRows:
    """Rows to be counted: `relation` stands in FROM with its parameters; statements run on `table`.

    `people` are the same rows and maybe more of the same names, with the column `person` alone, and `named`
    the same events without persons: no filter is asked for either.
    """

    def __init__(self, table: OpenEvents, relation: Relation, people: Relation, named: Relation) -> None:
        self.table = table
        self.relation = relation
        self._people = people
        self._named = named

    def arrival(self, most_bits: int) -> Arrival:
        """How rows arrived, as a number of at most so many bits where there is one; else of more.

        A partition's positions begin high (`store.places`) but for those of events that were copied there,
        and in an old log they are all high: where they may be too long, the rows are asked how far apart
        they are.
        """
        bits = self.table.columns.positions_end.bit_length()
        if bits <= most_bits:
            return Arrival("position", bits)
        place = f"(position & {(1 << SPAN_BITS) - 1:d})"
        ((*ends,),) = self.rows(
            f"SELECT min(position >> {SPAN_BITS}), max(position >> {SPAN_BITS}), min({place}), max({place}) "
            f"FROM {self._named.sql}",
            self._named.parameters,
        )
        first, last, low, high = (end or 0 for end in ends)
        bits = (high - low).bit_length()
        number = f"({place} - {low:d})"
        if first < last:  # of several partitions one comes after the other
            number = f"((((position >> {SPAN_BITS}) - {first:d}) << {bits}) + {number})"
        return Arrival(number, bits + (last - first).bit_length())

    def number_persons(self) -> int:
        """Make the table `numbered`: who occurs (`person`), and a number for each (`n`); how many there are.

        Numbers sort and join quicker than ids, and take less room.
        """
        self.run(
            "CREATE TEMP TABLE numbered AS SELECT person, row_number() OVER () AS n "
            f"FROM (SELECT DISTINCT person FROM {self._people.sql})",
            self._people.parameters,
        )
        ((count,),) = self.rows("SELECT count(*) FROM numbered")
        return int(count)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a statement, one by one. Raises `StoreError`; also of time and of memory."""
        return self.table.rows(sql, parameters)

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that gives nothing, such as one that makes a temporary table."""
        self.table.run(sql, parameters)


@contextmanager
def report_rows(
    reads: EventReads, wanted: Wanted, *, now_ms: int, ordered: bool = False
) -> Iterator[ReportRows]:
    """The rows of a report, as long as the block lasts. Blocks; for a thread that reads events.

    With `ordered`, what a statement sorts within itself stays sorted for windows that name no order.
    Raises `StoreError`, of these `ReadTimeoutError` and `TooMuchAtOnceError` (too much memory).
    """
    expressions = [*(selector.where for selector in wanted.selectors), *wanted.values]
    persons = wanted.persons or any(_reads_persons(expression) for expression in expressions)
    context = context_of(reads.store, wanted.project, now_ms=now_ms)
    with reads.open(wanted.project, wanted.span, persons=persons, ordered=ordered) as table:
        named = _named(table, wanted)
        relation = _relation(reads, table, wanted, expressions, context)
        people = Relation(f"(SELECT {_person(table, wanted)} AS person FROM {named.sql})", named.parameters)
        yield ReportRows(table, relation, people, _named(table, wanted, "events"))


def segment_by(text: str, tables: Tables) -> Expression:
    """The expression of `on`; a bare word is the property of that name. Raises `ExpressionError` (400)."""
    bare = text.strip()
    if _BARE.fullmatch(bare) and bare not in _WORDS:
        return Expression(bare, Access(0), (Slot("properties", bare),))
    return parse(text, tables)


def _reads_persons(expression: Expression) -> bool:
    names = {slot.name for slot in expression.slots}
    accessors = {slot.accessor for slot in expression.slots}
    return "user" in accessors or not names.isdisjoint((*PERSON, BEFORE))


def _relation(
    reads: EventReads, table: OpenEvents, wanted: Wanted, expressions: Sequence[Expression], context: Context
) -> Relation:
    evaluator = Evaluator(
        table,
        _named(table, wanted),
        expressions,
        state=reads.state,
        project=wanted.project,
        context=context,
    )
    matches = [_match(evaluator, selector, wanted.selectors) for selector in wanted.selectors]
    values = [evaluator.value(expression) for expression in wanted.values]
    columns = ["event", "time", "position", f"{_person(table, wanted)} AS {PERSON_SQL}"]
    columns += [f"{match.sql} AS match{place}" for place, match in enumerate(matches)]
    columns += [f"{value.sql} AS value{place}" for place, value in enumerate(values)]
    for place, made in enumerate(values):
        plain = made.plain or source_of(f"value{place}")
        columns += [f"{plain.text} AS text{place}", f"{plain.number} AS number{place}"]
    asked = [*matches, *values]
    inner = (
        f"SELECT {', '.join(columns)} FROM {evaluator.relation.sql} AS named"
        f"{''.join(each.join for each in asked)}"
    )
    given = [*(one for each in asked for one in each.parameters), *evaluator.relation.parameters]
    if any(match.is_always for match in matches) or all(each.where.is_blank for each in wanted.selectors):
        return Relation(f"({inner})", tuple(given))  # names have been looked at
    some = " OR ".join(f"match{place}" for place in range(len(matches))) or "false"
    return Relation(f"(SELECT * FROM ({inner}) WHERE {some})", tuple(given))


def _named(table: OpenEvents, wanted: Wanted, source: str = "") -> Relation:
    """The events that have one of the names; of another relation than the table's where told.

    The table has those of the span alone.
    """
    names, parameters = names_sql(wanted.selectors)
    if len(parameters) > 1:  # a function of the name alone is asked once for each name of a group of rows
        names = (
            f"event >= ? AND event <= ? AND list_position([{', '.join('?' * len(parameters))}], event) > 0"
        )
        parameters = [min(parameters), max(parameters), *parameters]
    return Relation(f"(SELECT * FROM {source or table.relation} WHERE {names})", tuple(parameters))


def _person(table: OpenEvents, wanted: Wanted) -> str:
    """SQL for who is counted."""
    if not wanted.group_key:
        return PERSON_SQL
    labels = labels_sql(property_sql(table.columns, wanted.group_key), absent="NULL::VARCHAR")
    return f"unnest(list_filter({labels}, lambda one: one <> ''))"


def _match(evaluator: Evaluator, selector: Selector, selectors: Sequence[Selector]) -> Evaluated:
    """Whether an event is one of a selector: of its names, and matched by its filter."""
    made = evaluator.condition(selector.where)
    if selector.events is None or all(other.events == selector.events for other in selectors):
        return made  # the relation has no other names
    names, parameters = names_sql((selector,))
    return Evaluated(f"({names} AND {made.sql})", (*parameters, *made.parameters), made.join)
