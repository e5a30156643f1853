"""Events that a filter matches, as a relation for SQL to count: exact, whatever the filter says.

An open table, a filter and its context enter; a relation with its parameters leaves. The temporary tables of
`evaluating.py` belong to it; one filter to an open table.
"""

from __future__ import annotations

from mixdown.model.expression import Context
from mixdown.query.events.buckets import Span
from mixdown.query.events.columns import BEFORE, PERSON
from mixdown.query.events.evaluating import Evaluator, Relation
from mixdown.query.events.reader import OpenEvents
from mixdown.query.events.where import Selector, names_sql, wants_profiles
from mixdown.store.protocols import State

__all__ = ["Relation", "matching_events", "reads_persons"]


def reads_persons(selector: Selector) -> bool:
    """Whether it depends on who an event's person is which events match."""
    names = {slot.name for slot in selector.where.slots}
    return wants_profiles((selector,)) or not names.isdisjoint((*PERSON, BEFORE))


def matching_events(
    table: OpenEvents, selector: Selector, span: Span, *, state: State, project: int, context: Context
) -> Relation:
    """The events of a span that a selector matches. Raises `StoreError`."""
    names, parameters = names_sql((selector,))
    named = Relation(
        f"(SELECT * FROM {table.relation} WHERE {names} AND {table.within})", (*parameters, *span)
    )
    if selector.where.is_blank:
        return named
    evaluator = Evaluator(table, named, [selector.where], state=state, project=project, context=context)
    matched = evaluator.condition(selector.where)
    return Relation(
        f"(SELECT named.* FROM {evaluator.relation.sql} AS named{matched.join} WHERE {matched.sql})",
        (*evaluator.relation.parameters, *matched.parameters),
    )
