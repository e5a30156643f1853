"""What helps to fill in a question: filters built from conditions, and names of events and properties.

What somebody has typed enters; the filter in its two forms, kept in step, and lists of names leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.routing import Route

from mixdown.explorer.conditions import ALL, Row
from mixdown.explorer.filtering import Filtering, edited, read_filter, row_view
from mixdown.explorer.frame import Frame, Problem, Visit
from mixdown.explorer.pages.event_asking import WAIT, range_of
from mixdown.explorer.pages.reports import asking
from mixdown.explorer.pages.reports.asking import KINDS, property_expression, quoted
from mixdown.explorer.people import Asked
from mixdown.http.events_own import PROPERTIES
from mixdown.http.reading import in_thread
from mixdown.model.errors import ExpressionError
from mixdown.model.expression import parse
from mixdown.query.reports.funnels import STEPS_LIMIT

FIELDS: Final = frozenset(
    {"where", "born_where", *(f"where{number}" for number in range(1, STEPS_LIMIT + 2))}
)
EVENTS_LOOKED_AT: Final = 20_000
PROPERTIES_NAMED: Final = 500
EVENTS_NAMED: Final = 5
CHOICES: Final = 8
PERSONAL: Final = "/api/query/engage/properties"
_ROW_KINDS: Final = {"string": "is", "number": "eq", "boolean": "true", "list": "has"}
_FIELD: Final = {"segmentation": "event", "retention": "born_event", "addiction": "event"}
"""Where the event stands that a kind of report is about."""
_NOTHING: Final[Mapping[str, Any]] = {}


def routes(frame: Frame) -> list[Route]:
    """The routes of this file."""
    return [
        frame.fragment("/reports/filter", "reports/filter.html", _edited),
        frame.fragment("/reports/choices", "reports/choices.html", _choices),
        frame.fragment("/reports/names", "reports/names.html", _events),
        frame.fragment("/reports/properties", "reports/properties.html", _properties),
    ]


async def filter_of(visit: Visit, field: str, text: str) -> dict[str, Any]:
    """A filter as a page shows it first."""
    return _view(visit, field, await _of_events(visit, await read_filter(visit, text)))


async def _edited(visit: Visit) -> Mapping[str, Any]:
    """A filter after an edit of its rows or of its text."""
    field = visit.text("field")
    if field not in FIELDS:
        raise Problem("field: is that of a filter.", status=400)
    text = visit.text(field)
    if len(text) > asking.WHERE_LIMIT_CHARS:
        raise Problem(f"A filter has at most {asking.WHERE_LIMIT_CHARS:,} characters.", status=400)
    read = await edited(visit, Asked(where=text), _NOTHING)
    return {"filter": _view(visit, field, await _of_events(visit, read)), "is_edit": True}


async def _of_events(visit: Visit, read: Filtering) -> Filtering:
    """Rows speak of the events alone: a filter that reads profiles stays a text."""
    if read.conditions is None or not read.text.strip() or '"' not in read.text:
        return read
    tables = visit.services.store.lookup_tables.tables(visit.project.id)
    try:
        expression = await in_thread(visit.services, parse, read.text, tables)
    except ExpressionError:
        return read
    is_plain = all(slot.accessor == "properties" for slot in expression.slots)
    return read if is_plain else Filtering(read.text, None)


def _view(visit: Visit, field: str, read: Filtering) -> dict[str, Any]:
    rows = read.conditions.rows if read.conditions is not None else ()
    return {
        "field": field,
        "text": read.text,
        "problem": read.problem,
        "caret": dict(read.caret) if read.caret is not None else None,
        "bad_row": read.bad_row,
        "is_rows": read.conditions is not None,
        "joined": read.conditions.joined if read.conditions is not None else ALL,
        "rows": [row_view(row, _NOTHING) for row in (*rows, Row("", "is"))],
        "url": visit.path("reports/filter", field=field),
    }


# --- names


async def _events(visit: Visit) -> Mapping[str, Any]:
    """Names of events, the most frequent first."""
    params = {"type": "general", "limit": asking.NAMES_LIMIT}
    for name in ("from", "to"):
        params[f"{name}_date"] = visit.text(name) or None
    answer = await visit.ask("GET", asking.NAMES, params=params, headers=WAIT)
    return {"names": answer.data if answer.status < 400 else []}


async def _choices(visit: Visit) -> Mapping[str, Any]:
    """The most frequent events, each leading to a report of the kind that is about it."""
    kind = visit.text("of")
    if kind not in KINDS:
        raise Problem("of: is a kind of report.", status=400)
    days = range_of(visit)
    answer = await visit.ask("GET", asking.NAMES, params={"limit": CHOICES, **days.params}, headers=WAIT)
    names = answer.good()
    own = {name: visit.text(name) for name in visit.request.query_params if name != "of"}
    field = _FIELD[kind] if kind != "funnels" else _next_step(visit)
    return {
        "choices": [
            {"name": name, "url": visit.path(KINDS[kind][0], **{**own, field: name})} for name in names
        ]
    }


def _next_step(visit: Visit) -> str:
    """The first step of a funnel that names no event yet."""
    free = (number for number in range(1, STEPS_LIMIT) if not visit.text(f"event{number}"))
    return f"event{next(free, STEPS_LIMIT)}"


async def _properties(visit: Visit) -> Mapping[str, Any]:
    """Properties of the named events and of profiles as expressions, each with a comparison that suits."""
    events = [name for name in visit.texts("event") if name][:EVENTS_NAMED]
    params = {"event": events or None, "recent": EVENTS_LOOKED_AT}
    answer = await visit.ask("GET", PROPERTIES, params=params, headers=WAIT)
    found = answer.data["results"]["properties"] if answer.status < 400 else []
    own = [
        {"name": one["name"], "on": property_expression(one["name"]), "operator": _operator(one["kinds"])}
        for one in found[:PROPERTIES_NAMED]
        if one["name"]
    ]
    answer = await visit.ask("GET", PERSONAL, headers=WAIT)
    people = answer.data["results"] if answer.status < 400 else {}
    return {
        "properties": own,
        "personal": [f"user[{quoted(name)}]" for name in list(people)[:PROPERTIES_NAMED]],
    }


def _operator(kinds: Mapping[str, int]) -> str:
    """The comparison that suits the values of a property best."""
    most = max(kinds, key=lambda kind: kinds[kind], default="string")
    return _ROW_KINDS.get(most, "is")
