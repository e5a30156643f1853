"""The SQL page: an editor, the views beside it, and the answer as table, chart and download.

A query runs only when its form is sent, by a button or a key: a link fills the editor and no more. It goes to
`/api/mixdown/sql`, which keeps it within the project and its limits; a browser that stops waiting ends it.
Queries are remembered by the browser alone (`static/sql.js`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Frame, Problem, Visit
from mixdown.explorer.sql_results import ROWS_SHOWN, place_of_error, shown_result
from mixdown.http.auth import READERS
from mixdown.http.sql import PATH, QUERY_LIMIT_BYTES

LINK_LIMIT_CHARS: Final = 4000
NAMES_SHOWN: Final = 60
_EVENTS: Final = "events"
_PROFILES: Final = "profiles"
_KINDS: Final = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "ndjson": "application/x-ndjson",
}

EXAMPLES: Final = (
    (
        _PROFILES,
        "Users by plan",
        """select properties ->> '$.plan' as plan, count(*) as users
from users
group by 1
order by users desc""",
    ),
    (
        _PROFILES,
        "Users seen by day",
        """select date(last_seen) as day, count(*) as users
from users
where last_seen is not null
group by 1
order by 1""",
    ),
    (
        _PROFILES,
        "What changed last in one profile",
        """select time, property, operator, old, new
from history
where of_id = 'ada'
order by position desc
limit 50""",
    ),
    (
        _PROFILES,
        "Why records were refused",
        """select message, count(*) as records, max(time) as last
from refusals
group by 1
order by records desc""",
    ),
    (
        _EVENTS,
        "Events by day",
        """select date_trunc('day', time) as day, count(*) as events, count(distinct distinct_id) as persons
from events
group by all
order by day""",
    ),
    (
        _EVENTS,
        "Most frequent events",
        """select event, count(*) as events, count(distinct distinct_id) as persons
from events
group by all
order by events desc
limit 20""",
    ),
    (
        _EVENTS,
        "Events by a property of their users",
        """select u.properties ->> '$.plan' as plan, count(*) as events
from events
join users u using (distinct_id)
group by all
order by events desc""",
    ),
)


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""

    async def run(visit: Visit) -> Response:
        values = await answered(visit)
        if visit.is_htmx:
            return await asyncio.to_thread(partial(frame.render, visit, "sql/result.html", **values))
        whole = {"title": "SQL", "section": "sql", **await editor(visit, values["query"])}
        return await asyncio.to_thread(partial(frame.render, visit, "sql/page.html", **whole, **values))

    return [
        *frame.view("/sql", "sql/page.html", build, title="SQL", section="sql"),
        frame.fragment("/sql/names", "sql/names.html", names),
        frame.action("/sql/run", run, roles=READERS),
        frame.action("/sql/download", download, roles=READERS),
    ]


async def build(visit: Visit) -> Mapping[str, Any]:
    """The editor with the query of the link, which does not run; the views, and the limits."""
    over = _EVENTS if visit.text("over") == _EVENTS else _PROFILES
    query = _plain(visit.text("q"))
    if len(query.encode("utf-8", "replace")) > QUERY_LIMIT_BYTES:
        raise Problem(f"This query is longer than the {QUERY_LIMIT_BYTES // 1024} KiB that one may have.")
    return {**await editor(visit, query), "query": query, "over": over, "result": None, "error": None}


async def editor(visit: Visit, query: str) -> dict[str, Any]:
    """What stands around the result."""
    schema = (await visit.ask("GET", PATH)).good()["results"]
    linked = bool(query) and visit.request.method == "GET"
    return {
        "schema": schema,
        "timeout_s": schema["limits"]["timeout_s"],
        "examples": [{"over": kind, "title": title, "query": text} for kind, title, text in EXAMPLES],
        "from_link": linked,
        "rows_shown": ROWS_SHOWN,
        "link_limit": LINK_LIMIT_CHARS,
    }


async def answered(visit: Visit) -> dict[str, Any]:
    """The answer to the query of the form, or what was wrong with it and where."""
    form = await visit.form()
    query, over = _plain(form.text("q")), _over(form.text("over"))
    asked = {"query": query, "events": over == _EVENTS, "limit": ROWS_SHOWN}
    found: dict[str, Any] = {"query": query, "over": over, "result": None, "error": None}
    if not query.strip():
        return {**found, "error": place_of_error("There is no query yet: write a SELECT.", query, over)}
    began = time.perf_counter()
    answer = await visit.ask("POST", PATH, body=asked)
    took_ms = round(1000 * (time.perf_counter() - began))
    try:
        data = answer.good()
    except Problem as problem:
        return {**found, "error": place_of_error(problem.text, query, over)}
    result = await asyncio.to_thread(shown_result, data)
    behind = int(answer.headers.get("x-mixdown-behind", "0") or 0)
    return {**found, "result": {**result, "took_ms": took_ms, "behind": behind}}


async def download(visit: Visit) -> Response:
    """The whole answer as a file, as far as the API gives it; the query runs once more."""
    form = await visit.form()
    kind = form.text("format")
    if kind not in _KINDS:
        raise Problem("Download as CSV, JSON or lines of JSON.")
    asked = {
        "query": _plain(form.text("q")),
        "events": _over(form.text("over")) == _EVENTS,
        "format": kind,
        "spreadsheet": kind == "csv",
    }
    answer = await visit.ask("POST", PATH, body=asked)
    body = answer.good()
    if kind == "json":
        body = await asyncio.to_thread(_json_rows, body)
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="query.{kind}"',
        "X-Content-Type-Options": "nosniff",
    }
    return Response(body or "", headers=headers, media_type=_KINDS[kind])


def _json_rows(answer: Mapping[str, Any]) -> bytes:
    return orjson.dumps(answer["results"])


async def names(visit: Visit) -> Mapping[str, Any]:
    """Names that are worth a click: properties of users, and events with the most frequent names."""
    properties = await visit.ask("GET", "/api/query/engage/properties")
    found = properties.data.get("results", {}) if properties.status == 200 else {}
    events = await visit.ask(
        "GET", "/api/query/events/names", params={"type": "general", "limit": NAMES_SHOWN}
    )
    listed = events.data if events.status == 200 and isinstance(events.data, list) else []
    return {
        "properties": [
            {
                "name": name,
                "profiles": f"properties ->> {literal(path_of(name))}",
                "events": f"property({literal(name)})",
            }
            for name in list(found)[:NAMES_SHOWN]
        ],
        "events": [{"name": name, "insert": literal(name)} for name in listed[:NAMES_SHOWN]],
    }


def path_of(name: str) -> str:
    """The JSON path of a property in SQLite and DuckDB."""
    plain = name.isascii() and name.replace("_", "a").isalnum() and not name[:1].isdigit()
    return f"$.{name}" if plain else '$."' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def _over(text: str) -> str:
    return _EVENTS if text == _EVENTS else _PROFILES


def _plain(query: str) -> str:
    """A query with the line ends of its text, not those of a form."""
    return query.replace("\r\n", "\n").replace("\r", "\n")
