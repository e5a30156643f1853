"""Schemas of the data dictionary, as Mixpanel's Lexicon has them (contract query §6.2): read, merged. Pure.

JSON of a client enters; a schema that can be kept leaves: `description`, `properties` with type, description
and metadata, and `metadata`. What is wrong is refused with its place; what nobody knows is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mixdown.model.errors import QueryError
from mixdown.model.values import clean_text

ENTITY_TYPES: Final = ("event", "profile")
USERS: Final = "$user"
"""The name of the profile schema of users; that of groups has the name of their group key."""
ALL_EVENTS: Final = "$all_events"
"""The name of the event schema with the properties that events share."""
TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")
BLOCK: Final = "com.mixpanel"
"""What stands under `metadata`: the rest of it is left out."""
NAME_LIMIT_CHARS: Final = 255
TEXT_LIMIT_CHARS: Final = 10_000
LIST_LIMIT: Final = 100
PROPERTIES_LIMIT: Final = 10_000
SCHEMA_LIMIT_BYTES: Final = 1024 * 1024

_TEXTS: Final = frozenset({"$source", "displayName"})
_FLAGS: Final = frozenset({"hidden", "dropped"})
_LISTS: Final = frozenset({"tags", "contacts", "teamContacts"})
_PROPERTY: Final = frozenset({"type", "description", "metadata"})
Schema = dict[str, Any]


def plain_name(name: str) -> str:
    """The name by which an entity is described: blanks around it are no part of it."""
    return clean_text(name).strip()


def read_name(value: object, place: str) -> str:
    """The name of an entity. Raises `QueryError`."""
    name = plain_name(value) if type(value) is str else ""
    if not name or len(name) > NAME_LIMIT_CHARS:
        raise _wrong(place, f"must be a text of 1 to {NAME_LIMIT_CHARS} characters")
    return name


def read_entity_type(value: object, place: str) -> str:
    """An entity type. Raises `QueryError`."""
    if type(value) is not str or value not in ENTITY_TYPES:
        raise _wrong(place, f"must be one of {', '.join(ENTITY_TYPES)}")
    return value


def read_schema(value: object, place: str) -> Schema:
    """A schema as it was sent; null stands for what is to be cleared. Raises `QueryError` with its place."""
    given = _object(value, place)
    found: Schema = {}
    if "description" in given:
        found["description"] = _text(given["description"], f"{place}.description")
    if "properties" in given:
        found["properties"] = _properties(given["properties"], f"{place}.properties")
    if "metadata" in given:
        found["metadata"] = _metadata(given["metadata"], f"{place}.metadata")
    return found


def replaced(old: Schema | None, sent: Schema, place: str) -> Schema:
    """The schema that takes the place of `old`: of this only metadata stays that `sent` does not name.

    Raises `QueryError` where a property is left without a type, or the schema is too long.
    """
    made = _merged({}, sent)
    _keep_metadata(old or {}, sent, made)
    olds = (old or {}).get("properties", {})
    for name, property_sent in (sent.get("properties") or {}).items():
        if property_sent is not None and name in olds:
            _keep_metadata(olds[name], property_sent, made["properties"][name])
    return _complete(made, place)


def merged(old: Schema | None, sent: Schema, place: str) -> Schema:
    """`old` with what `sent` names; null clears. Raises `QueryError` as `replaced` does."""
    return _complete(_merged(old or {}, sent), place)


def encode(schema: Schema) -> bytes:
    """A schema as it is kept."""
    return orjson.dumps(schema)


def decode(text: bytes | str) -> Schema:
    """A schema that was kept."""
    schema: Schema = orjson.loads(text)
    return schema


def block_of(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of a schema, or of one of its properties."""
    block: Mapping[str, Any] = described.get("metadata", {}).get(BLOCK, {})
    return block


def _keep_metadata(old: Mapping[str, Any], sent: Mapping[str, Any], made: dict[str, Any]) -> None:
    """Keep the keys of the metadata that an upload does not name."""
    if sent.get("metadata", {}) is None:
        return
    block = _merged(dict(block_of(old)), block_of(_without_null(sent)))
    if block:
        made["metadata"] = {BLOCK: block}


def _without_null(sent: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = sent.get("metadata") or {}
    return {"metadata": {BLOCK: metadata.get(BLOCK) or {}}}


def _merged(old: dict[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(old)
    for name, value in sent.items():
        if value is None:
            made.pop(name, None)
        elif type(value) is dict:
            held = made.get(name)
            made[name] = _merged(held if type(held) is dict else {}, value)
        else:
            made[name] = value
    return made


def _complete(schema: Schema, place: str) -> Schema:
    """The schema, if each of its properties has a type and it is not too long; empty parts are left out."""
    properties = schema.get("properties", {})
    if len(properties) > PROPERTIES_LIMIT:
        raise _wrong(f"{place}.properties", f"must hold at most {PROPERTIES_LIMIT} properties")
    for name, described in properties.items():
        if "type" not in described:
            raise _wrong(f"{place}.properties.{name}.type", f"missing: give one of {', '.join(TYPES)}")
        _prune(described)
    _prune(schema)
    if len(encode(schema)) > SCHEMA_LIMIT_BYTES:
        raise _wrong(place, f"must be at most {SCHEMA_LIMIT_BYTES} bytes of JSON")
    return schema


def _prune(described: dict[str, Any]) -> None:
    if not block_of(described):
        described.pop("metadata", None)
    if described.get("properties") == {}:
        del described["properties"]


def _properties(value: object, place: str) -> Any:
    if value is None:
        return None
    found: dict[str, Any] = {}
    for name, described in _object(value, place).items():
        known = clean_text(name)
        if not known or len(known) > NAME_LIMIT_CHARS:
            raise _wrong(place, f"a name must have 1 to {NAME_LIMIT_CHARS} characters")
        found[known] = None if described is None else _property(described, f"{place}.{known}")
    return found


def _property(value: object, place: str) -> dict[str, Any]:
    given = _object(value, place)
    _only(given, _PROPERTY, place)
    found: dict[str, Any] = {}
    if "type" in given:
        kind = given["type"]
        if type(kind) is not str or kind not in TYPES:
            raise _wrong(f"{place}.type", f"must be one of {', '.join(TYPES)}")
        found["type"] = kind
    if "description" in given:
        found["description"] = _text(given["description"], f"{place}.description")
    if "metadata" in given:
        found["metadata"] = _metadata(given["metadata"], f"{place}.metadata")
    return found


def _metadata(value: object, place: str) -> Any:
    if value is None:
        return None
    given = _object(value, place)
    if BLOCK not in given:
        return {}
    if given[BLOCK] is None:
        return {BLOCK: None}
    inner = f"{place}.{BLOCK}"
    block = _object(given[BLOCK], inner)
    _only(block, _TEXTS | _FLAGS | _LISTS, inner)
    return {BLOCK: {name: _field(name, each, f"{inner}.{name}") for name, each in block.items()}}


def _field(name: str, value: object, place: str) -> Any:
    if value is None:
        return None
    if name in _TEXTS:
        return _text(value, place)
    if name in _LISTS:
        return _texts(value, place)
    if type(value) is not bool:
        raise _wrong(place, "must be true or false")
    if name == "dropped" and value:
        # to keep it and store the events all the same would be a promise that is broken
        raise _wrong(place, "nothing is dropped here: leave it out, and stop sending instead")
    return value


def _text(value: object, place: str) -> str | None:
    if value is None:
        return None
    if type(value) is not str or len(value) > TEXT_LIMIT_CHARS:
        raise _wrong(place, f"must be a text of at most {TEXT_LIMIT_CHARS} characters")
    return clean_text(value)


def _texts(value: object, place: str) -> list[str]:
    if not isinstance(value, list) or len(value) > LIST_LIMIT:
        raise _wrong(place, f"must be a list of at most {LIST_LIMIT} texts")
    texts = []
    for each in value:
        if type(each) is not str or len(each) > NAME_LIMIT_CHARS:
            raise _wrong(place, f"must be texts of at most {NAME_LIMIT_CHARS} characters")
        texts.append(clean_text(each))
    return list(dict.fromkeys(texts))


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place, "must be an object")
    return value


def _only(given: Mapping[str, Any], known: frozenset[str], place: str) -> None:
    for name in given:
        if name not in known:
            raise _wrong(f"{place}.{clean_text(name)[:NAME_LIMIT_CHARS]}", "is no part of a schema")


def _wrong(place: str, rule: str) -> QueryError:
    return QueryError(f"{place}, {rule}", status=400)
