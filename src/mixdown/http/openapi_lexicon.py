"""The data dictionary as OpenAPI has it: Mixpanel's Lexicon schemas, and what is observed beside them.

Settings enter unused; operations by path and method leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mixdown.http import dictionary, schemas
from mixdown.http.openapi_figures import figure_errors
from mixdown.http.openapi_pieces import (
    ENCODING,
    PROJECT,
    READERS,
    WAIT,
    Operation,
    content,
    operation,
    parameter,
    ref,
    request_body,
    response,
)
from mixdown.model.dictionary import SCHEMA_LIMIT_BYTES
from mixdown.query.schemas import ENTRIES_LIMIT
from mixdown.settings import Settings
from mixdown.store.dictionary import SCHEMAS_PER_PROJECT

_TAG: Final = "Data dictionary"
_ACCOUNT: Final[Sequence[Mapping[str, Any]]] = ({"account": []},)
_WRITES: Final = " Needs the role analyst, admin or owner."
_SCHEMA: Final[dict[str, Any]] = {
    "description": "Somebody bought something.",
    "properties": {"amount": {"type": "number", "description": "In euros."}},
    "metadata": {"com.mixpanel": {"displayName": "Purchase", "tags": ["core"]}},
}
_ENTRY: Final = {"entityType": "event", "name": "bought", "schemaJson": _SCHEMA}
_PATCH: Final = {"description": "Somebody paid.", "metadata": {"com.mixpanel": {"tags": None}}}
_ROW: Final = {
    "name": "plan",
    "description": "What they pay for.",
    "display_name": "",
    "tags": [],
    "owners": [],
    "hidden": False,
    "declared_type": "string",
    "documented": True,
    "count": 2,
    "type": "string",
    "types": {"string": 2},
    "example": "pro",
    "first_seen": None,
    "last_seen": None,
}
_NAMED: Final = parameter(
    "entity_name", "Only this one: its schema is the result.", {"type": "string", "minLength": 1}
)


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {
        schemas.PATH: {
            "get": _read("listSchemas", "List schemas", schemas.PATH, "SchemasAnswer", _ok([_ENTRY])),
            "post": _upload(),
            "patch": _merge_all(),
            "delete": _delete("deleteSchemas", "Delete all schemas", schemas.PATH),
        },
        schemas.ONE_PATH: {
            "get": _read(
                "showSchema",
                "Show a schema",
                schemas.ONE_PATH,
                "OneSchemaAnswer",
                {**_SCHEMA, **_ok([_ENTRY])},
            ),
            "post": _write("replaceSchema", "Make or replace a schema", _SCHEMA, {"status": "ok"}, "Done"),
            "patch": _write("mergeSchema", "Merge into a schema", _PATCH, _ok(_ENTRY), "SchemaEntryAnswer"),
            "delete": _delete("deleteSchema", "Delete a schema", schemas.ONE_PATH),
        },
        schemas.TYPE_PATH: {
            "get": _read(
                "listSchemasOfType",
                "List schemas of a type",
                schemas.TYPE_PATH,
                "SchemasOfTypeAnswer",
                _ok([_ENTRY]),
                (_NAMED,),
            ),
            "delete": _delete(
                "deleteSchemasOfType", "Delete schemas of a type", schemas.TYPE_PATH, (_NAMED,)
            ),
        },
        dictionary.PATH: {"get": _dictionary()},
    }


def _ok(results: Any) -> dict[str, Any]:
    return {"status": "ok", "results": results}


def _missing(path: str) -> dict[str, Any]:
    text = {"request": path, "error": "name, there is no schema of event 'bought'", "status": "error"}
    return {"404": response("There is no such project, or no such schema.", content(ref("ReadError"), text))}


def _read(
    identity: str,
    summary: str,
    path: str,
    schema: str,
    example: Any,
    parameters: tuple[dict[str, Any], ...] = (),
) -> Operation:
    found = figure_errors(path) | _missing(path)
    found["200"] = response("As it was written.", content(ref(schema), example))
    return operation(
        identity, _TAG, summary, "For every role that reads.", found, parameters=parameters, security=READERS
    )


def _upload() -> Operation:
    found = figure_errors(schemas.PATH) | _missing(schemas.PATH)
    found["200"] = response(
        "All are stored.", content(ref("SchemasUploaded"), _ok({"added": 1, "deleted": 0}))
    )
    return operation(
        "uploadSchemas",
        _TAG,
        "Make or replace schemas",
        f"All of them or none, {ENTRIES_LIMIT} at a time; a project has {SCHEMAS_PER_PROJECT}, of "
        f"{SCHEMA_LIMIT_BYTES} bytes at most. `truncate` deletes all others. Of a schema that is replaced, "
        "keys of `com.mixpanel` that are not named stay, and null clears." + _WRITES,
        found,
        parameters=(ENCODING,),
        body=request_body(content(ref("SchemasUpload"), {"entries": [_ENTRY], "truncate": False})),
        security=_ACCOUNT,
    )


def _merge_all() -> Operation:
    found = figure_errors(schemas.PATH) | _missing(schemas.PATH)
    told = [{"entityType": "event", "name": "bought", "status": "ok"}]
    found["200"] = response("All are stored.", content(ref("SchemasMerged"), _ok(told)))
    return operation(
        "mergeSchemas",
        _TAG,
        "Merge into schemas",
        "What is named is set, null clears, all else stays; what is not there is made. All or none."
        + _WRITES,
        found,
        parameters=(ENCODING,),
        body=request_body(content(ref("SchemasMerge"), {"entries": [_ENTRY]})),
        security=_ACCOUNT,
    )


def _write(identity: str, summary: str, body: Any, answer: Any, schema: str) -> Operation:
    found = figure_errors(schemas.ONE_PATH) | _missing(schemas.ONE_PATH)
    found["200"] = response("It is stored.", content(ref(schema), answer))
    return operation(
        identity,
        _TAG,
        summary,
        "As for several." + _WRITES,
        found,
        parameters=(ENCODING,),
        body=request_body(content(ref("LexiconSchema"), body)),
        security=_ACCOUNT,
    )


def _delete(identity: str, summary: str, path: str, parameters: tuple[dict[str, Any], ...] = ()) -> Operation:
    found = figure_errors(path) | _missing(path)
    gone = _ok({"delete_count": 1, "deleteCount": 1})
    found["200"] = response("How many there were.", content(ref("SchemasDeleted"), gone))
    return operation(
        identity,
        _TAG,
        summary,
        "No event and no profile changes." + _WRITES,
        found,
        parameters=parameters,
        security=_ACCOUNT,
    )


def _dictionary() -> Operation:
    found = figure_errors(dictionary.PATH)
    answer = {"status": "ok", "complete": True, "days": None, "results": [_ROW]}
    found["200"] = response(
        "A row for each name, the most frequent first, then what is only written of.",
        content(ref("DictionaryAnswer"), answer),
        X_Mixdown_Behind="How many records the answer is behind; absent when it is not.",
    )
    of = parameter("of", "`users` by default.", {"type": "string", "enum": list(dictionary.WORDS)})
    key = parameter("data_group_id", "Of `groups`: a group key's name or number.", {"type": "string"})
    event = parameter("event", "Of `event_properties`: those of one event.", {"type": "string"})
    return operation(
        "readDictionary",
        _TAG,
        "What is observed of properties and events, and what is written of them",
        f"Properties of events are counted over the last {dictionary.RECENT_DAYS} days with events, "
        f"or as many of them as hold {dictionary.RECENT_EVENTS} events. "
        "Their types and examples are those of a few events, examples of profiles those of the first.",
        found,
        parameters=(PROJECT | {"example": 1}, of, key, event, WAIT),
        security=READERS,
    )
