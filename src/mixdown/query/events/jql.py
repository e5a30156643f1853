"""The scripts of JQL that mixpanel-utils sends, answered without JavaScript (contract query §5.1).

A script's text and its parameters enter; which of the three it is leaves, and the rows that it gives. Any
other script is refused: its text is never run, nor looked into.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from mixdown.model.errors import QueryError
from mixdown.model.expression import document_predicate, parse
from mixdown.model.lookup import Tables
from mixdown.query.contexts import context_of
from mixdown.query.events.buckets import Span
from mixdown.query.events.columns import PERSON_SQL
from mixdown.query.events.export import ExportQuery, matching_lines
from mixdown.query.events.reader import EventReads
from mixdown.query.events.where import Selector, names_sql
from mixdown.query.export import pages
from mixdown.store import patience
from mixdown.store.batches import documents_in_batches
from mixdown.store.protocols import State, Store

EVENTS: Final = "events"
PEOPLE: Final = "people"
COUNTS: Final = "counts"
SCRIPTS: Final[Mapping[str, str]] = {
    EVENTS: (
        "function main() {return Events({from_date: params.from_date,to_date: params.to_date,"
        "event_selectors: params.event_selectors}).map(function(event) {var result = {event: event.name,"
        "properties: {distinct_id: event.distinct_id,time: (event.time / 1000) - (params.timezone_offset * "
        "3600)}};if ('output_properties' in params) {output_properties = params.output_properties;} else "
        "{output_properties = Object.keys(event.properties);}_.each(output_properties, prop => "
        "result.properties[prop] = event.properties[prop]);return result;});}"
    ),
    PEOPLE: (
        "function main() {return People({user_selectors: params.user_selectors}).map(function(user) {"
        "var result = {$distinct_id: user.distinct_id,$properties: {}};if ('output_properties' in params) "
        "{output_properties = params.output_properties;} else {output_properties = "
        "Object.keys(user.properties);}_.each(output_properties, prop => result.$properties[prop] = "
        "user.properties[prop]);return result;});}"
    ),
    COUNTS: (
        "function main() { var event_selectors_array = []; _.each(params.events, function(e) "
        "{event_selectors_array.push({'event': e});}); return join(Events({from_date: params.from_date,"
        "to_date: params.to_date, event_selectors: event_selectors_array}), People(), {type: 'inner'})"
        ".groupByUser(['event.name'], mixpanel.reducer.count()).map(function(row) {v = {}; v[row.key[1]] = "
        "row.value; return {$distinct_id: row.key[0],value: v};});}"
    ),
}
REFUSED: Final = (
    "JQL not supported: of scripts only those that mixpanel-utils sends itself are answered; read events by "
    "export, profiles by engage"
)
SELECTORS_LIMIT: Final = 100
_BLANKS: Final = re.compile(r"\s+")
_ROWS_AT_ONCE: Final = 1000
_ROOMY_BYTES: Final = 4 * 1024 * 1024
_SECOND_MS: Final = 1000
_HOUR_S: Final = 3600


def script_of(text: str) -> str:
    """Which of the three a script is, however its blanks are set. Raises `QueryError` (400) for any other."""
    bare = _BLANKS.sub("", text)
    for name, script in SCRIPTS.items():
        if bare == _BLANKS.sub("", script):
            return name
    raise QueryError(REFUSED, status=400)


def selectors_of(value: Any, name: str, tables: Tables) -> tuple[Selector, ...]:
    """A list of `{"event": name, "selector": expression}`; see `parse`. Raises `QueryError` (400)."""
    given = [] if value is None else value
    if type(given) is not list or len(given) > SELECTORS_LIMIT:
        raise QueryError(f"{name}, must be a list of at most {SELECTORS_LIMIT} selectors", status=400)
    return tuple(_selector(each, name, tables) for each in given)


def _selector(value: Any, name: str, tables: Tables) -> Selector:
    if type(value) is str:
        value = {"selector": value}
    event, text = (value.get("event"), value.get("selector", "")) if type(value) is dict else (0, "")
    if not (event is None or type(event) is str) or type(text) is not str:
        raise QueryError(f'{name}, each must be {{"event": name, "selector": expression}}', status=400)
    return Selector(parse(text, tables), None if event is None else (event,))


def event_rows(
    reads: EventReads, query: ExportQuery, output: Sequence[str] | None, *, offset_hours: float, now_ms: int
) -> Iterator[list[bytes]]:
    """What the script on events gives: a JSON object for each event, some at a time; [] now and then.

    `query` asks for times in milliseconds. Raises `StoreError`.
    """
    for lines in matching_lines(reads, query, now_ms=now_ms):
        yield [_event_row(line, output, offset_hours) for line in lines]


def _event_row(line: str, output: Sequence[str] | None, offset_hours: float) -> bytes:
    event = orjson.loads(line)
    properties = event["properties"]
    seconds = properties.pop("time") / _SECOND_MS - offset_hours * _HOUR_S
    person = properties.pop("distinct_id")
    names = properties if output is None else output
    kept = {name: properties[name] for name in names if name in properties}
    time = int(seconds) if seconds == int(seconds) else seconds
    return orjson.dumps({"event": event["event"], "properties": {"distinct_id": person, "time": time} | kept})


def people_rows(
    store: Store,
    project: int,
    selectors: Sequence[Selector],
    output: Sequence[str] | None,
    *,
    now_ms: int,
) -> Iterator[list[bytes]]:
    """What the script on people gives: a JSON object for each profile that any of the selectors matches."""
    context = context_of(store, project, now_ms=now_ms)
    matches = [document_predicate(selector.where, context) for selector in selectors]

    def wanted(profile_id: str, document: bytes) -> bool:
        return not matches or any(each(profile_id, document) for each in matches)

    for page in pages(store.state, project, "", keep=wanted):
        patience.check()
        yield [_people_row(profile_id, document, output) for profile_id, document in page.profiles]


def _people_row(profile_id: str, document: bytes, output: Sequence[str] | None) -> bytes:
    if output is not None:
        found = orjson.loads(document)
        document = orjson.dumps({name: found[name] for name in output if name in found})
    return b'{"$distinct_id":%b,"$properties":%b}' % (orjson.dumps(profile_id), document)


def count_rows(reads: EventReads, project: int, span: Span, events: Sequence[str]) -> Iterator[list[bytes]]:
    """What the script on counts gives: for each person with a profile and each event, how often it came.

    All events where none is named, as a join of all events gives it. Raises `StoreError`.
    """
    condition, parameters = names_sql([Selector(parse(""), tuple(events) or None)])
    with reads.open(project, span) as table:
        sql = (
            f"SELECT {PERSON_SQL}, event, count(*) FROM {table.relation} WHERE {condition} "
            f"AND {table.within} GROUP BY {PERSON_SQL}, event ORDER BY {PERSON_SQL}, event"
        )
        for rows in table.batches(sql, [*parameters, *span], rows=_ROWS_AT_ONCE):
            known = _with_profile(reads.state, project, dict.fromkeys(row[0] for row in rows))
            yield [
                orjson.dumps({"$distinct_id": person, "value": {event: count}})
                for person, event, count in rows
                if person in known
            ]


def _with_profile(state: State, project: int, ids: dict[str, None]) -> set[str]:
    batches = documents_in_batches(
        state.documents,
        [(project, "", one) for one in ids],
        first=_ROWS_AT_ONCE,
        most=_ROWS_AT_ONCE,
        roomy_bytes=_ROOMY_BYTES,
    )
    return {
        key[2]
        for keys, documents in batches
        for key, document in zip(keys, documents, strict=True)
        if document is not None
    }
