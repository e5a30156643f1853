"""What a person or a group did: their events, newest first, a page at a time (contract query §5.1, §7).

An `ActivityQuery` enters; a page of lines leaves, and the place where the next begins. A person's events are
those of all ids that are linked; a group's are those whose property of that group key names it, by its value
or as one of a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from mixdown.model.errors import QueryError
from mixdown.model.expression_values import string
from mixdown.query.events.buckets import Span
from mixdown.query.events.columns import PERSON_SQL, labels_sql, property_sql
from mixdown.query.events.lines import line_sql, mended
from mixdown.query.events.persons import ids_of_persons
from mixdown.query.events.reader import EventReads, OpenEvents

PAGE_LIMIT: Final = 15_000
PAGE_LIMIT_BYTES: Final = 32 * 1024 * 1024
_ROWS_AT_ONCE: Final = 200


class Place(NamedTuple):
    """Where an event stands among a project's events: by time, and among those of a time by arrival."""

    time_ms: int
    position: int


class Search(msgspec.Struct, frozen=True):
    """A text that an event's name, or one of its values, has somewhere, whatever the case.

    With properties and no text: an event that has one of them.
    """

    text: str
    properties: tuple[str, ...] = ()

    def finds(self, event: str, properties: Mapping[str, Any]) -> bool:
        """Whether an event has it: in its name or any value, or in the values of the named properties."""
        if not self.text:
            return any(properties.get(name) is not None for name in self.properties)
        wanted = self.text.casefold()
        values = [properties.get(name) for name in self.properties] or [event, *properties.values()]
        items = (item for value in values for item in (value if type(value) is list else [value]))
        return any(type(text := string(item)) is str and wanted in text.casefold() for item in items)


class ActivityQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Whose events are asked for, and which of them.

    `ids` are distinct ids, or ids of groups where `group_key` is given. `include` None means all names.
    """

    project: int
    span: Span
    ids: tuple[str, ...]
    group_key: str = ""
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    search: Search | None = None
    before: Place | None = None
    limit: int = PAGE_LIMIT


class Page(NamedTuple):
    """Events as JSON, newest first, and where the next page begins (None: this is the last)."""

    lines: list[str]
    following: Place | None


def activity_page(reads: EventReads, query: ActivityQuery) -> Page:
    """One page; it ends early where its events are large. Raises `StoreError`."""
    span = query.span
    if query.before is not None:
        span = Span(span.since_ms, min(span.until_ms, query.before.time_ms + 1))
    if not query.ids or span.since_ms >= span.until_ms:
        return Page([], None)
    sent = () if query.group_key else ids_of_persons(reads.state, query.project, query.ids)
    with reads.open(query.project, span, ids=sent or None) as table:
        return page_of(_found(reads, table, query, span, sent), query.limit)


def page_of(found: Iterator[tuple[str, Place]], limit: int) -> Page:
    """The first so many events as a page; it ends early where they are large."""
    lines: list[str] = []
    size = 0
    last: Place | None = None
    for line, place in found:
        if len(lines) >= limit or (lines and size + len(line) > PAGE_LIMIT_BYTES):
            return Page(lines, last)
        lines.append(line)
        size += len(line)
        last = place
    return Page(lines, None)


def _found(
    reads: EventReads, table: OpenEvents, query: ActivityQuery, span: Span, sent: Sequence[str]
) -> Iterator[tuple[str, Place]]:
    line, suspect = line_sql(table.columns, both_ids=True)
    conditions: list[str] = [table.within]
    parameters: list[Any] = [*span]
    if query.group_key:
        labels = labels_sql("value")
        source = f"(SELECT *, {property_sql(table.columns, query.group_key)} AS value FROM {table.relation})"
        conditions.append(f"value IS NOT NULL AND list_has_any({labels}, ?::VARCHAR[])")
        parameters.append(list(query.ids))
    else:
        source = table.relation
        persons = set(reads.state.canonical(query.project, query.ids).values())
        conditions.append("distinct_id IN (SELECT unnest(?::VARCHAR[]))")
        conditions.append(f"{PERSON_SQL} IN (SELECT unnest(?::VARCHAR[]))")
        parameters += [list(sent), sorted(persons)]
    if query.include is not None:
        conditions.append("event IN (SELECT unnest(?::VARCHAR[]))")
        parameters.append(list(query.include))
    if query.exclude:
        conditions.append("event NOT IN (SELECT unnest(?::VARCHAR[]))")
        parameters.append(list(query.exclude))
    if query.before is not None:
        conditions.append("(epoch_ms(time) < ? OR position < ?)")
        parameters += [query.before.time_ms, query.before.position]
    sql = (
        f"SELECT {line}, {suspect}, epoch_ms(time), position FROM {source} WHERE {' AND '.join(conditions)} "
        "ORDER BY time DESC, position DESC"
    )
    if query.search is None:
        sql = f"{sql} LIMIT {query.limit + 1}"
    for rows in table.batches(sql, parameters, rows=_ROWS_AT_ONCE):
        for text, doubtful, time_ms, position in rows:
            whole = mended(text) if doubtful else text
            if query.search is None or _matches(query.search, whole):
                yield whole, Place(time_ms, position)


def _matches(search: Search, line: str) -> bool:
    event = orjson.loads(line)
    return search.finds(event["event"], event["properties"])


def place_text(place: Place) -> str:
    """A place as `next` and `before` have it."""
    return f"{place.time_ms}.{place.position}"


def place_of(text: str, name: str) -> Place:
    """The place that a caller gives back. Raises `QueryError` (400)."""
    parts = text.split(".")
    if len(parts) == 2 and all(part.isascii() and part.isdecimal() and len(part) < 17 for part in parts):
        return Place(int(parts[0]), int(parts[1]))
    raise QueryError(f"{name}, must be what the page before gave as its next", status=400)
