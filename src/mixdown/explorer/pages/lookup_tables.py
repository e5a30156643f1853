"""Lookup tables: listed, made, filled by CSV, looked into, fetched and deleted.

What the API answers enters; pages leave. An upload goes on to the API as it comes: it is never held here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Frame, Problem, Visit, see_other
from mixdown.http.auth import ADMINS

_OWN: Final = "/api/mixdown/lookup-tables"
_SECTION: Final = "lookup-tables"
ROWS_SHOWN: Final = 50
COLUMNS_SHOWN: Final = 50


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""
    return [
        *frame.view(
            "/lookup-tables", "lookup_tables/list.html", _list, title="Lookup tables", section=_SECTION
        ),
        *frame.view(
            "/lookup-tables/table", "lookup_tables/table.html", _table, title="Lookup table", section=_SECTION
        ),
        frame.fragment("/lookup-tables/first-rows", "lookup_tables/first_rows.html", _first_rows),
        frame.raw("/lookup-tables/download", _download),
        frame.action("/lookup-tables/create", _create, roles=ADMINS),
        frame.action("/lookup-tables/upload", _upload, roles=ADMINS),
        frame.action("/lookup-tables/delete", _delete, roles=ADMINS),
    ]


async def _list(visit: Visit) -> Mapping[str, Any]:
    return {"tables": await _tables(visit), "may_write": visit.may(ADMINS)}


async def _tables(visit: Visit) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await visit.ask("GET", _OWN)).good()["results"]
    return found


async def _table(visit: Visit) -> Mapping[str, Any]:
    table = await _named(visit)
    value = next((column for column in table["columns"][1:]), "column")
    return {"table": table, "title": table["name"], "value_column": value, "may_write": visit.may(ADMINS)}


async def _named(visit: Visit) -> dict[str, Any]:
    table_id = visit.text("id")
    for table in await _tables(visit):
        if table["id"] == table_id:
            return table
    raise Problem("There is no such lookup table in this project.", status=404)


def _path(table_id: str) -> str:
    return f"{_OWN}/{quote(table_id, safe='')}"


async def _first_rows(visit: Visit) -> Mapping[str, Any]:
    """The first rows as the API's CSV has them."""
    answer = await visit.ask("GET", _path(visit.text("id") or "-"), params={"limit": ROWS_SHOWN})
    text = answer.good()
    rows = list(csv.reader(io.StringIO(text if type(text) is str else "", newline="")))
    columns, cells = (rows[0], rows[1:]) if rows else ([], [])
    return {
        "columns": columns[:COLUMNS_SHOWN],
        "rows": [row[:COLUMNS_SHOWN] for row in cells],
        "more_columns": max(0, len(columns) - COLUMNS_SHOWN),
    }


async def _download(visit: Visit) -> Response:
    table = await _named(visit)
    return visit.relay("GET", _path(table["id"]), filename=f"{table['name']}.csv")


async def _create(visit: Visit) -> Response:
    form = await visit.form()
    made = (await visit.ask("POST", _OWN, body={"name": form.text("name")})).good()["results"]
    notice = f"The lookup table “{made['name']}” was made. Upload its rows next."
    return see_other(visit.path("lookup-tables/table", id=made["id"]), notice)


async def _upload(visit: Visit) -> Response:
    """What the API answers to the file. Nothing else is asked first: that could take the body's start."""
    table_id = quote(visit.text("id") or "-", safe="")
    return visit.relay("PUT", f"/lookup-tables/{table_id}", streamed=True)


async def _delete(visit: Visit) -> Response:
    form = await visit.form()
    (await visit.ask("DELETE", _path(form.text("id") or "-"))).good()
    return see_other(
        visit.path("lookup-tables"),
        f"The lookup table “{form.text('name')}” was deleted. Expressions find nothing in it now.",
    )
