"""Rows of a list, as far as they can be had in the time that there is.

An `Asked` enters; rows leave, with how the list goes on: the address of the next part, for htmx and as a
plain link. A list in the order of ids looks through profiles a bounded time at once
(`/api/mixdown/profiles`); a sorted one pages through a result that the query API has frozen: the first
thousand, and only behind them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mixdown.explorer.asking import LIST_LIMIT_BYTES
from mixdown.explorer.frame import Answer, Problem, Visit
from mixdown.explorer.people import PAGE_ROWS, Asked, address, api_params, row_view, sort_key
from mixdown.http.profiles import PATH
from mixdown.http.reading import in_thread
from mixdown.query.counts import profiles_of

ENGAGE: Final = "/api/query/engage"
FIRST_LOOK_MS: Final = 60
LOOK_MS: Final = 500
FIRST_PAGES: Final = 20
"""So many pages of a sorted list are put in order first: most readers want no more, and it is quicker."""
PATIENCE_S: Final = 0.09
"""How long a page's first answer waits for its rows; what takes longer comes after it."""
COUNT_LIMIT: Final = 2**53
NO_ROWS: Final[Mapping[str, Any]] = {
    "rows": [],
    "pending_url": None,
    "pending_link": None,
    "next": None,
    "looked_at": 0,
    "of": None,
    "found": 0,
    "total": None,
    "problem_text": "",
}
_NOW: Final = {"X-Mixdown-Wait": "50"}
LEFT_LIMIT: Final = 4
"""So many sorts run on with nobody waiting; of more, the oldest ends."""
_left: Final[dict[asyncio.Task[Answer], None]] = {}


async def first_rows(visit: Visit, asked: Asked, names: Sequence[str]) -> Mapping[str, Any]:
    """The first rows, if they come soon; else where they are to be had.

    The JSON twin, and a page that was asked to wait, have them in any case.
    """
    patient = visit.request.url.path.endswith(".json") or bool(visit.text("wait"))
    try:
        if asked.sort:
            return await _sorted(visit, asked, names, patient=patient)
        return await _by_id(visit, asked, names, look_ms=LOOK_MS if patient else FIRST_LOOK_MS)
    except Problem as error:
        return {**NO_ROWS, "problem_text": error.text}


async def exact(visit: Visit, asked: Asked) -> Mapping[str, Any] | None:
    """The profile that the text searched for is an id of, as a row; None where there is none."""
    if not asked.search or asked.after or asked.page:
        return None
    params = {
        "distinct_id": asked.search,
        "data_group_id": asked.group_key or None,
        "output_properties": api_params(asked, ())["output_properties"],
    }
    results = (
        await visit.ask("GET", ENGAGE, params=params, headers=_NOW, limit_bytes=LIST_LIMIT_BYTES)
    ).good()["results"]
    return row_view(visit, asked, results[0], ()) if results else None


async def more_rows(visit: Visit, asked: Asked, names: Sequence[str]) -> Mapping[str, Any]:
    """The rows of a fragment."""
    try:
        if asked.sort:
            return await _sorted(visit, asked, names, patient=True)
        found = await _by_id(visit, asked, names, look_ms=LOOK_MS)
    except Problem as error:
        return {**NO_ROWS, "problem_text": error.text}
    store = visit.services.store
    everyone = await in_thread(visit.services, profiles_of, store.state, visit.project.id, asked.group_key)
    return {**found, "of": everyone}


async def _by_id(visit: Visit, asked: Asked, names: Sequence[str], *, look_ms: int) -> Mapping[str, Any]:
    params = {
        **api_params(asked, names),
        "after": asked.after or None,
        "limit": PAGE_ROWS,
        "look_ms": look_ms,
    }
    page = (await visit.ask("GET", PATH, params=params, headers=_NOW, limit_bytes=LIST_LIMIT_BYTES)).good()
    rows = [row_view(visit, asked, result, names) for result in page["results"]]
    looked_at = visit.integer("looked", 0, low=0, high=COUNT_LIMIT) + page["looked_at"]
    found = visit.integer("found", 0, low=0, high=COUNT_LIMIT) + len(rows)
    following = None
    if page["next"] is not None:
        following = {
            "url": address(visit, asked, "rows", after=page["next"], looked=looked_at, found=found),
            "link": address(visit, asked, after=page["next"], wait=1),
            "is_searching": len(rows) < PAGE_ROWS,
        }
    return {**NO_ROWS, "rows": rows, "next": following, "looked_at": looked_at, "found": found}


async def _sorted(visit: Visit, asked: Asked, names: Sequence[str], *, patient: bool) -> Mapping[str, Any]:
    params = {
        **api_params(asked, names),
        "sort_key": sort_key(asked.sort),
        "sort_order": "descending" if asked.descending else "ascending",
        "page_size": PAGE_ROWS,
        "page": asked.page,
        "session_id": asked.session or None,
    }
    if asked.page < FIRST_PAGES:
        params["limit"] = FIRST_PAGES * PAGE_ROWS
    elif not asked.session:  # from here on, all of them are put in order
        whole = await visit.ask(
            "GET", ENGAGE, params={**params, "page": 0}, headers=_NOW, limit_bytes=LIST_LIMIT_BYTES
        )
        params["session_id"] = whole.good()["session_id"]
    asking = asyncio.ensure_future(
        visit.ask("GET", ENGAGE, params=params, headers=_NOW, limit_bytes=LIST_LIMIT_BYTES)
    )
    if not patient:
        done, _ = await asyncio.wait({asking}, timeout=PATIENCE_S)
        if not done:
            _leave(asking)  # whoever asks the same next shares its answer
            return {
                **NO_ROWS,
                "pending_url": address(visit, asked, "rows"),
                "pending_link": address(visit, asked, wait=1),
            }
    page = (await asking).good()
    rows = [row_view(visit, asked, result, names) for result in page["results"]]
    shown = asked.page * PAGE_ROWS + len(rows)
    following = None
    is_cut = asked.page < FIRST_PAGES and page["total"] == FIRST_PAGES * PAGE_ROWS
    if rows and (shown < page["total"] or is_cut):
        goes_on = asked.page + 1 != FIRST_PAGES
        place: dict[str, Any] = {"session": page["session_id"] if goes_on else "", "page": asked.page + 1}
        following = {
            "url": address(visit, asked, "rows", **place),
            "link": address(visit, asked, **place, wait=1),
            "is_searching": False,
        }
    total = None if is_cut else page["total"]
    return {**NO_ROWS, "rows": rows, "next": following, "found": shown, "total": total}


def _leave(asking: asyncio.Task[Answer]) -> None:
    """Let a question run on without anybody waiting: to its end, or until others were left behind it."""
    _left[asking] = None
    while len(_left) > LEFT_LIMIT:
        oldest = next(iter(_left))
        del _left[oldest]
        oldest.cancel()

    def ended(task: asyncio.Task[Answer]) -> None:
        _left.pop(task, None)
        if not task.cancelled():
            task.exception()

    asking.add_done_callback(ended)
