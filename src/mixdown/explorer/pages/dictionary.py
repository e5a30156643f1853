"""The data dictionary: every property and event with what is observed of it and what people wrote of it.

What the API answers enters; a searchable list, and a form for one name, leave. What is written goes through
the Lexicon schemas API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Form, Frame, Problem, Visit, see_other
from mixdown.http.auth import ANALYSTS
from mixdown.model.dictionary import ALL_EVENTS, TYPES, USERS, block_of

_OWN: Final = "/api/mixdown/dictionary"
PAGE: Final = 200
WORDS: Final = ("users", "groups", "events", "event_properties")
_OFFSET_LIMIT: Final = 100_000
_JSON_TYPES: Final = {
    "string": "string",
    "datetime": "string",
    "number": "number",
    "boolean": "boolean",
    "object": "object",
    "list": "array",
}
"""What a schema calls the type of what is observed."""


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""
    return [
        *frame.view("/dictionary", "dictionary/page.html", _page, title="Dictionary", section="dictionary"),
        frame.fragment("/dictionary/rows", "dictionary/rows.html", _rows),
        *frame.view(
            "/dictionary/entry", "dictionary/entry.html", _entry, title="Dictionary", section="dictionary"
        ),
        frame.fragment("/dictionary/facts", "dictionary/facts.html", _facts),
        frame.action("/dictionary/save", _save, roles=ANALYSTS),
    ]


# --- what is asked for ----------------------------------------------------------------------------


def _asked(visit: Visit) -> dict[str, str]:
    """Of what the dictionary tells: `of`, and the group key or event where there is one."""
    of = visit.text("of", "users") or "users"
    return _checked(of, visit.text("key"), visit.text("event"))


def _checked(of: str, key: str, event: str) -> dict[str, str]:
    if of not in WORDS:
        raise Problem(f"of: must be one of {', '.join(WORDS)}.")
    if of == "groups" and not key:
        raise Problem("key: name the group key.")
    asked = {"of": of}
    if of == "groups":
        asked["key"] = key
    if of == "event_properties" and event:
        asked["event"] = event
    return asked


def _params(asked: Mapping[str, str]) -> dict[str, str | None]:
    return {"of": asked["of"], "data_group_id": asked.get("key"), "event": asked.get("event")}


async def _all(visit: Visit, asked: Mapping[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = (await visit.ask("GET", _OWN, params=_params(asked))).good()
    return answer


# --- the list -------------------------------------------------------------------------------------


async def _page(visit: Visit) -> Mapping[str, Any]:
    asked = _asked(visit)
    keys = await _group_keys(visit)
    # events are read through to count them: not before the page is there
    is_slow = asked["of"] in ("events", "event_properties") and not _is_twin(visit)
    listed = {} if is_slow else await _rows(visit)
    filters = _filters(visit)
    return {
        "asked": asked,
        "filters": filters,
        "tabs": _tabs(visit, asked, keys),
        "is_slow": is_slow,
        "rows_url": visit.path("dictionary/rows", **asked, **filters),
        **listed,
    }


def _is_twin(visit: Visit) -> bool:
    return visit.request.url.path.endswith(".json")


async def _group_keys(visit: Visit) -> list[str]:
    answer = await visit.ask("GET", f"/api/app/projects/{visit.project.id}/data-groups")
    return [each["property_name"] for each in answer.good()["results"]]


def _tabs(visit: Visit, asked: Mapping[str, str], keys: Sequence[str]) -> list[dict[str, Any]]:
    named = [("Users", {"of": "users"})]
    named += [(key, {"of": "groups", "key": key}) for key in keys]
    named += [("Events", {"of": "events"}), ("Event properties", {"of": "event_properties"})]
    return [
        {
            "label": label,
            "url": visit.path("dictionary", **params),
            "current": params.items() <= asked.items(),
        }
        for label, params in named
    ]


def _filters(visit: Visit) -> dict[str, str]:
    found = {"q": visit.text("q").strip(), "type": visit.text("type"), "only": visit.text("only")}
    return {name: text for name, text in found.items() if text}


async def _rows(visit: Visit) -> Mapping[str, Any]:
    asked, filters = _asked(visit), _filters(visit)
    answer = await _all(visit, asked)
    found = answer["results"]
    wanted = [row for row in found if _is_wanted(row, filters)]
    offset = visit.integer("offset", 0, low=0, high=_OFFSET_LIMIT)
    shown = wanted if _is_twin(visit) else wanted[offset : offset + PAGE]
    left = len(wanted) - offset - len(shown)
    later = {**asked, **filters, "offset": str(offset + PAGE)}
    return {
        "asked": asked,
        "filters": filters,
        "complete": answer["complete"],
        "days": answer["days"],
        "known": len(found),
        "found": len(wanted),
        "documented": sum(row["documented"] for row in found),
        "types": sorted({row["type"] for row in found}),
        "offset": offset,
        "left": left,
        "more": visit.path("dictionary/rows", **later) if left > 0 else "",
        "rows": [{**row, "url": _url(visit, asked, row)} for row in shown],
        "may_write": visit.may(ANALYSTS),
    }


def _is_wanted(row: Mapping[str, Any], filters: Mapping[str, str]) -> bool:
    if filters.get("type") not in (None, row["type"]):
        return False
    only = filters.get("only")
    if only == "undocumented" and row["documented"]:
        return False
    if only == "documented" and not row["documented"]:
        return False
    if only == "hidden" and not row["hidden"]:
        return False
    text = filters.get("q", "").casefold()
    texts = (row["name"], row["display_name"], row["description"], *row["tags"], *row["owners"])
    return any(text in each.casefold() for each in texts)


def _url(visit: Visit, asked: Mapping[str, str], row: Mapping[str, Any]) -> str:
    return visit.path("dictionary/entry", **asked, name=row["name"], type=row["type"])


# --- one name -------------------------------------------------------------------------------------


async def _entry(visit: Visit) -> Mapping[str, Any]:
    asked, name = _asked(visit), visit.text("name")
    if not name:
        raise Problem("name: say which.", status=404)
    described = _described(await _schema(visit, asked, name), asked, name)
    block = block_of(described)
    fields = {
        "description": described.get("description", ""),
        "display_name": block.get("displayName", ""),
        "tags": ", ".join(block.get("tags", [])),
        "owners": ", ".join([*block.get("contacts", []), *block.get("teamContacts", [])]),
        "hidden": block.get("hidden", False),
        "type": described.get("type") or _JSON_TYPES.get(visit.text("type"), "string"),
    }
    return {
        "asked": asked,
        "name": name,
        "title": name,
        "fields": fields,
        "types": TYPES,
        "what": _what(asked),
        "facts_url": visit.path("dictionary/facts", **asked, name=name),
        "list_url": visit.path("dictionary", **asked),
        "properties_url": visit.path("dictionary", of="event_properties", event=name),
        "event_url": visit.path("event", name=name),
        "may_write": visit.may(ANALYSTS),
    }


def _what(asked: Mapping[str, str]) -> str:
    words = {"users": "property of users", "events": "event", "event_properties": "property of all events"}
    if asked["of"] == "groups":
        return f"property of {asked['key']}"
    return f"property of the event {asked['event']}" if "event" in asked else words[asked["of"]]


def _entity(asked: Mapping[str, str], name: str) -> tuple[str, str]:
    """The schema that holds what is written of a name: its entity type and name."""
    if asked["of"] == "events":
        return "event", name
    if asked["of"] == "event_properties":
        return "event", asked.get("event") or ALL_EVENTS
    return "profile", asked.get("key") or USERS


async def _schema(visit: Visit, asked: Mapping[str, str], name: str) -> Mapping[str, Any]:
    entity_type, entity_name = _entity(asked, name)
    path = f"/api/app/projects/{visit.project.id}/schemas/{entity_type}"
    answer = await visit.ask("GET", path, params={"entity_name": entity_name})
    if answer.status == 404:
        return {}
    schema: Mapping[str, Any] = answer.good()["results"]
    return schema


def _described(schema: Mapping[str, Any], asked: Mapping[str, str], name: str) -> Mapping[str, Any]:
    if asked["of"] == "events":
        return schema
    described: Mapping[str, Any] = schema.get("properties", {}).get(name, {})
    return described


async def _facts(visit: Visit) -> Mapping[str, Any]:
    """What is observed of one name, with some values of a property of events."""
    asked, name = _asked(visit), visit.text("name")
    answer = await _all(visit, asked)
    row = next((row for row in answer["results"] if row["name"] == name), None)
    values: list[str] = []
    if asked["of"] == "event_properties" and row is not None:
        params = {"name": name, "event": asked.get("event"), "limit": 10}
        values = (await visit.ask("GET", "/api/query/events/properties/values", params=params)).good()
    return {"row": row, "values": values, "asked": asked, "days": answer["days"]}


# --- writing --------------------------------------------------------------------------------------


async def _save(visit: Visit) -> Response:
    form = await visit.form()
    asked = _checked(form.text("of"), form.text("key"), form.text("event"))
    name = form.text("name")
    entity_type, entity_name = _entity(asked, name)
    described = _written(form)
    schema: dict[str, Any] = described
    if asked["of"] != "events":
        is_empty = not any(
            form.text(field).strip() for field in ("description", "display_name", "tags", "owners")
        )
        nothing = is_empty and not form.text("hidden")
        schema = {"properties": {name: None if nothing else {"type": form.text("type"), **described}}}
    entries = [{"entityType": entity_type, "name": entity_name, "schemaJson": schema}]
    path = f"/api/app/projects/{visit.project.id}/schemas"
    (await visit.ask("PATCH", path, body={"entries": entries})).good()
    return see_other(visit.path("dictionary", **asked), f"What is written of “{name}” was saved.")


def _written(form: Form) -> dict[str, Any]:
    """What a form says, as a schema is merged: null clears."""
    return {
        "description": form.text("description").strip() or None,
        "metadata": {
            "com.mixpanel": {
                "displayName": form.text("display_name").strip() or None,
                "tags": _list(form.text("tags")) or None,
                "contacts": _list(form.text("owners")) or None,
                "teamContacts": None,
                "hidden": True if form.text("hidden") else None,
            }
        },
    }


def _list(text: str) -> list[str]:
    return [each for each in (part.strip() for part in text.split(",")) if each]
