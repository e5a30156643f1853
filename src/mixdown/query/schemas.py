"""Schemas of the data dictionary as clients upload and read them (contract query §6.2).

What enters: a store, a project, entries as JSON. What leaves: counts, or schemas in Mixpanel's shapes. What a
schema may say is decided by `model.dictionary`. Everything here blocks and belongs in a thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from mixdown.model import dictionary
from mixdown.model.errors import CatalogError, QueryError, RequestError
from mixdown.store.dictionary import DictionaryChange, DictionaryEntry
from mixdown.store.protocols import Store

ENTRIES_LIMIT: Final = 4_000
"""So many schemas one upload brings at most (as Mixpanel takes a minute)."""
SAME_LIMIT: Final = 10
_ENTRY: Final = frozenset({"entityType", "name", "schemaJson", "version"})


class Upload(NamedTuple):
    """A schema that was sent, checked; with its place in the request, for errors."""

    entity_type: str
    name: str
    schema: dictionary.Schema
    place: str


def read_entries(value: object) -> list[Upload]:
    """The `entries` of an upload. Raises `QueryError` (400) naming what is wrong."""
    if not isinstance(value, list) or len(value) > ENTRIES_LIMIT:
        raise QueryError(f"entries, must be a list of at most {ENTRIES_LIMIT} objects", status=400)
    found = [_entry(each, f"entries[{index}]") for index, each in enumerate(value)]
    times = Counter((each.entity_type, each.name) for each in found)
    for (entity_type, name), count in times.items():
        if count > SAME_LIMIT:  # each reads and writes the whole schema anew
            raise QueryError(f"entries, name {entity_type} {name!r} at most {SAME_LIMIT} times", status=400)
    return found


def read_one(entity_type: str, name: str, value: object) -> Upload:
    """One schema, as the body of a request for it. Raises `QueryError` (400)."""
    return Upload(
        dictionary.read_entity_type(entity_type, "entityType"),
        dictionary.read_name(name, "name"),
        dictionary.read_schema(value, "schema"),
        "schema",
    )


def upload(
    store: Store, project: int, uploads: list[Upload], *, truncate: bool, partial: bool, now_ms: int
) -> tuple[int, int]:
    """Store schemas, all or none: in place of what there is, or (`partial`) merged into it.

    Returns how many were stored and how many deleted. Raises `QueryError` and `RequestError` (400).
    """
    changes = [
        DictionaryChange(each.entity_type, each.name, _updating(each, partial=partial)) for each in uploads
    ]
    try:
        deleted = store.dictionary.change(project, changes, truncate=truncate, now_ms=now_ms)
    except CatalogError as error:
        raise RequestError(f"entries, {error.message}", status=400, hint=error.hint) from None
    return len({(each.entity_type, each.name) for each in uploads}), deleted


def entry_view(entry: DictionaryEntry) -> dict[str, Any]:
    """A schema as lists show it."""
    return {
        "entityType": entry.entity_type,
        "name": entry.name,
        "schemaJson": orjson.Fragment(entry.schema),
    }


def _entry(value: object, place: str) -> Upload:
    if not isinstance(value, dict):
        raise QueryError(f"{place}, must be an object", status=400)
    unknown = [name for name in value if name not in _ENTRY]
    if unknown:
        raise QueryError(f"{place}.{unknown[0][:255]}, is no part of an entry", status=400)
    return Upload(
        dictionary.read_entity_type(value.get("entityType"), f"{place}.entityType"),
        dictionary.read_name(value.get("name"), f"{place}.name"),
        dictionary.read_schema(value.get("schemaJson"), f"{place}.schemaJson"),
        f"{place}.schemaJson",
    )


def _updating(sent: Upload, *, partial: bool) -> Callable[[bytes | None], bytes]:
    apply = dictionary.merged if partial else dictionary.replaced

    def update(old: bytes | None) -> bytes:
        held = None if old is None else dictionary.decode(old)
        return dictionary.encode(apply(held, sent.schema, sent.place))

    return update
