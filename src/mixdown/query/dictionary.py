"""The data dictionary as people read it: what is observed of each property and event, beside what is written.

What enters: a store and a project, and for events an open table. What leaves: a row for each name, those that
are observed most often first, then those that are only written of. Everything here blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from mixdown.model.dictionary import ALL_EVENTS, USERS, block_of, decode, plain_name
from mixdown.model.kinds import UNKNOWN, kind_of
from mixdown.model.times import iso_seconds
from mixdown.query.events.buckets import Span
from mixdown.query.events.described import event_figures, property_figures, sampled_properties
from mixdown.query.events.reader import OpenEvents
from mixdown.query.properties import PROPERTIES_LIMIT, type_of
from mixdown.store.protocols import Store

EVENTS_LIMIT: Final = 5_000
EVENT_PROPERTIES_LIMIT: Final = 2_000
SAMPLED_PROFILES: Final = 50
EXAMPLE_LIMIT_CHARS: Final = 120
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
Row = dict[str, Any]


def described_profiles(store: Store, project: int, group_key: str) -> tuple[list[Row], bool]:
    """The properties of users ("") or of the groups of a key; and whether all profiles are counted."""
    found = store.state.property_counts(project, group_key, limit=PROPERTIES_LIMIT)
    page = store.state.page(project, group_key, offset=0, limit=SAMPLED_PROFILES)
    examples = _examples(orjson.loads(document) for _, document in page)
    written = _properties_of(store, project, "profile", group_key or USERS)
    rows = [
        {
            **_written(name, written.get(name, {})),
            "count": sum(kinds.values()),
            "type": type_of(kinds),
            "types": dict(kinds),
            "example": examples.get(name),
            "first_seen": None,
            "last_seen": None,
        }
        for name, kinds in found.counts.items()
    ]
    return [*rows, *_only_written(written, found.counts)], found.complete


def described_events(store: Store, project: int, table: OpenEvents) -> list[Row]:
    """The events of a project."""
    written = {
        entry.name: decode(entry.schema)
        for entry in store.dictionary.listing(project, "event")
        if entry.name != ALL_EVENTS
    }
    figures = event_figures(table, EVENTS_LIMIT)
    rows = [
        {
            **_written(figure.name, written.get(plain_name(figure.name), {})),
            "count": figure.times,
            "type": "event",
            "types": None,
            "example": None,
            "first_seen": _moment(figure.first_ms),
            "last_seen": _moment(figure.last_ms),
        }
        for figure in figures
    ]
    return [*rows, *_only_written(written, {plain_name(figure.name) for figure in figures}, kind="event")]


def described_properties(
    store: Store, project: int, table: OpenEvents, event: str | None, span: Span
) -> list[Row]:
    """The properties of the events of a span: of all, or of one event."""
    written = _properties_of(store, project, "event", ALL_EVENTS)
    if event is not None:
        written = {**written, **_properties_of(store, project, "event", event)}
    figures = property_figures(table, event, span, EVENT_PROPERTIES_LIMIT)
    kinds = _kinds(sampled_properties(table, event, span))
    rows = []
    for figure in figures:
        newest = orjson.loads(figure.newest or "{}").get(figure.name)
        known = kinds.get(figure.name) or ({kind_of(newest): 1} if figure.newest else {})
        rows.append(
            {
                **_written(figure.name, written.get(figure.name, {})),
                "count": figure.times,
                "type": type_of(known),
                "types": known,
                "example": None if newest in _EMPTY else _short(newest),
                "first_seen": None,
                "last_seen": _moment(figure.last_ms),
            }
        )
    return [*rows, *_only_written(written, {figure.name for figure in figures})]


def only_written(store: Store, project: int, event: str | None) -> list[Row]:
    """What is written of the properties of events, or of one event, where there are no such events."""
    written = _properties_of(store, project, "event", ALL_EVENTS)
    if event is not None:
        written = {**written, **_properties_of(store, project, "event", event)}
    return _only_written(written, ())


def _properties_of(store: Store, project: int, entity_type: str, name: str) -> dict[str, Any]:
    entry = store.dictionary.get(project, entity_type, plain_name(name))
    properties: dict[str, Any] = {} if entry is None else decode(entry.schema).get("properties", {})
    return properties


def _only_written(written: Mapping[str, Any], seen: Iterable[str], *, kind: str = "") -> list[Row]:
    unseen = sorted(written.keys() - set(seen))
    nothing = {"count": 0, "types": None, "example": None, "first_seen": None, "last_seen": None}
    return [
        {**_written(name, written[name]), **nothing, "type": kind or written[name].get("type", UNKNOWN)}
        for name in unseen
    ]


def _written(name: str, described: Mapping[str, Any]) -> Row:
    """What people have written of a name."""
    block = block_of(described)
    told = {
        "description": described.get("description", ""),
        "display_name": block.get("displayName", ""),
        "tags": block.get("tags", []),
        "owners": [*block.get("contacts", []), *block.get("teamContacts", [])],
    }
    return {
        "name": name,
        **told,
        "hidden": block.get("hidden", False),
        "declared_type": described.get("type"),
        "documented": any(told.values()),
    }


def _examples(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A value of each property that is neither null nor empty; long ones shortened."""
    found: dict[str, Any] = {}
    for document in documents:
        for name, value in document.items():
            if name not in found and value not in _EMPTY:
                found[name] = _short(value)
    return found


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return value if len(text) <= EXAMPLE_LIMIT_CHARS else text[:EXAMPLE_LIMIT_CHARS] + "…"


def _kinds(sampled: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for properties in sampled:
        for name, value in properties.items():
            found.setdefault(name, Counter())[kind_of(value)] += 1
    return {name: dict(kinds) for name, kinds in found.items()}


def _moment(ms: int | None) -> str | None:
    return None if ms is None else iso_seconds(ms)
