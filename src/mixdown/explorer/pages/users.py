"""Lists of users, and of the groups of a key: search, filters, columns, order, downloads, saving as a cohort.

A visit's address enters; values for the templates leave. The first answer holds what can be had at once; what
takes longer comes in fragments, each within a bounded time, and each with a plain link for browsers without
scripts. What a list shows is said by its address alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.conditions import RowError, text_of
from mixdown.explorer.filtering import conditions_in, edited, filter_view, read_filter
from mixdown.explorer.frame import Frame, Problem, Visit, see_other
from mixdown.explorer.people import (
    COLUMNS_LIMIT,
    EMAIL,
    ID,
    NAME,
    Asked,
    address,
    asked_of,
    changed,
    default_columns,
    filter_params,
    label_of,
    sort_key,
)
from mixdown.explorer.people_rows import NO_ROWS, exact, first_rows, more_rows
from mixdown.http.auth import ANALYSTS
from mixdown.http.profiles import FILE_PATH
from mixdown.http.reading import in_thread
from mixdown.model.operators import LAST_SEEN
from mixdown.query.counts import profiles_of
from mixdown.query.profiles_file import FORMATS

STATS: Final = "/api/query/engage/stats"
PROPERTIES: Final = "/api/query/engage/properties"
COHORTS: Final = "/api/mixdown/cohorts"
FORMAT_NAMES: Final = {"csv": "CSV", "ndjson": "JSON lines", "parquet": "Parquet"}
COLUMNS_SHOWN: Final = 2000
NO_GROUP_KEY: Final = "This project has no group key of that name. One exists from its first group on."
NO_GROUPS: Final = "This project has no groups yet."
NOT_FILTERED: Final = "A cohort is a saved filter: set a filter first, without a search."
_T = TypeVar("_T")


def routes(frame: Frame) -> list[Route]:
    """The routes of these pages."""
    found: list[Route] = []
    for place, title in (("users", "Users"), ("groups", "Groups")):
        about = _about_groups if place == "groups" else _about_users
        found += frame.view(f"/{place}", "users/list.html", _whole(about), title=title, section=place)
        found += frame.view(
            f"/{place}/columns", "users/columns.html", _with(about, columns), title="Columns", section=place
        )
        found += frame.view(
            f"/{place}/cohort",
            "users/cohort.html",
            _with(about, cohort),
            title="Save as cohort",
            section=place,
            roles=ANALYSTS,
        )
        found += [
            frame.fragment(f"/{place}/rows", "users/rows.html", _with(about, rows)),
            frame.fragment(f"/{place}/totals", "users/totals.html", _with(about, totals)),
            frame.fragment(f"/{place}/filter", "users/filter.html", _with(about, filtering)),
            frame.raw(f"/{place}/apply", _with(about, apply)),
            frame.raw(f"/{place}/download", _with(about, download)),
            frame.action(f"/{place}/save", _with(about, save), roles=ANALYSTS),
        ]
    return found


_About = Callable[[Visit], Awaitable[Asked | None]]


async def _about_users(visit: Visit) -> Asked:
    return asked_of(visit, "")


async def _about_groups(visit: Visit) -> Asked | None:
    """The groups of the key in the address, or of the first key; None where there are no groups."""
    keys = await in_thread(visit.services, visit.services.store.state.group_keys, visit.project.id)
    key = visit.text("key")
    if key and key not in keys:
        raise Problem(NO_GROUP_KEY, status=404)
    return asked_of(visit, key or min(keys)) if keys else None


def _with(about: _About, answer: Callable[[Visit, Asked], Awaitable[_T]]) -> Callable[[Visit], Awaitable[_T]]:
    async def build(visit: Visit) -> _T:
        asked = await about(visit)
        if asked is None:
            raise Problem(NO_GROUPS, status=404)
        return await answer(visit, asked)

    return build


def _whole(about: _About) -> Callable[[Visit], Awaitable[Mapping[str, Any]]]:
    async def build(visit: Visit) -> Mapping[str, Any]:
        asked = await about(visit)
        return {"list": None} if asked is None else await page(visit, asked)

    return build


async def page(visit: Visit, asked: Asked) -> Mapping[str, Any]:
    """The whole list: its first rows where they can be had at once."""
    read = await read_filter(visit, asked.where)
    properties = await _properties(visit, asked)
    names = asked.columns if asked.columns is not None else default_columns(properties)
    found = NO_ROWS if read.problem else await first_rows(visit, asked, names)
    return {
        "title": asked.group_key or "Users",
        "list": {
            "group_key": asked.group_key,
            "search": asked.search,
            "where": asked.where,
            "sort": asked.sort,
            "order": "descending" if asked.descending else "ascending",
            "is_filtered": asked.is_filtered,
            "begins_later": bool(asked.after or asked.page),
            "columns": list(names),
            "cohort": await _cohort_name(visit, asked),
            "exact": await exact(visit, asked),
            **found,
        },
        "headings": [
            _heading(visit, asked, name, label)
            for name, label in (
                (NAME, "Name"),
                (ID, "ID"),
                (LAST_SEEN, "Last seen"),
                *((name, label_of(name)) for name in names),
            )
        ],
        "filter": filter_view(visit, asked, read, properties),
        "may_save": visit.may(ANALYSTS)
        and bool(asked.where)
        and not (asked.search or asked.cohort or read.problem),
        "urls": _urls(visit, asked, names),
        "state": [[name, value] for name, value in asked.state],
        "downloads": [
            {
                "label": FORMAT_NAMES[form],
                "what": what,
                "url": address(visit, changed(asked, columns=names), "download", format=form, all=everything),
            }
            for what, everything in (("columns shown", ""), ("all properties", "1"))
            for form in FORMATS
        ],
    }


def _urls(visit: Visit, asked: Asked, names: tuple[str, ...]) -> dict[str, str]:
    shown = changed(asked, columns=names)
    return {
        "list": address(visit, Asked(group_key=asked.group_key)),
        "here": address(visit, changed(asked)),
        "without_filter": address(visit, changed(asked, where="", search="", cohort=0)),
        "without_search": address(visit, changed(asked, search="")),
        "without_where": address(visit, changed(asked, where="")),
        "without_cohort": address(visit, changed(asked, cohort=0)),
        "columns": address(visit, shown, "columns"),
        "cohort": address(visit, asked, "cohort"),
        "totals": address(visit, asked, "totals"),
        "start": visit.path(),
    }


def _heading(visit: Visit, asked: Asked, name: str, label: str) -> dict[str, str]:
    """A column's heading: a link that sorts by it, the other way round where it is sorted so already."""
    by_id = name == ID
    is_sorted = asked.sort == name or (by_id and not asked.sort)
    # whoever looks for times wants the newest
    descending = not asked.descending if is_sorted else name == LAST_SEEN
    plain = by_id and not descending
    url = address(visit, changed(asked, sort="" if plain else name, descending=descending))
    order = ("descending" if asked.descending else "ascending") if is_sorted else ""
    return {"name": name, "label": label, "url": url, "order": order}


async def rows(visit: Visit, asked: Asked) -> Mapping[str, Any]:
    """Rows behind those that are there."""
    properties = {} if asked.columns is not None else await _properties(visit, asked)
    names = asked.columns if asked.columns is not None else default_columns(properties)
    return {"list": {**await more_rows(visit, asked, names), "is_filtered": asked.is_filtered}}


async def totals(visit: Visit, asked: Asked) -> Mapping[str, Any]:
    """How many profiles there are, and how many match."""
    store = visit.services.store
    everyone = await in_thread(visit.services, profiles_of, store.state, visit.project.id, asked.group_key)
    matching = None
    problem = ""
    if asked.is_filtered:
        answer = await visit.ask("GET", STATS, params=filter_params(asked), headers={"X-Mixdown-Wait": "0"})
        try:
            matching = answer.good()["results"]
        except Problem as error:
            problem = error.text
    return {
        "all": everyone,
        "matching": matching,
        "noun": asked.group_key or "users",
        "problem_text": problem,
    }


async def filtering(visit: Visit, asked: Asked) -> Mapping[str, Any]:
    """The filter after an edit of its rows or of its text: both forms, in step."""
    properties = await _properties(visit, asked)
    read = await edited(visit, asked, properties)
    asked = changed(asked, where=read.text)
    return {"filter": filter_view(visit, asked, read, properties), "state": [[*pair] for pair in asked.state]}


async def apply(visit: Visit, asked: Asked) -> Response:
    """From the rows of the form to the list's address."""
    try:
        where = text_of(conditions_in(visit))
    except RowError as error:
        return see_other(
            address(visit, changed(asked)), problem=f"The filter was not applied: {error.message}."
        )
    return see_other(address(visit, changed(asked, where=where)))


async def columns(visit: Visit, asked: Asked) -> Mapping[str, Any]:
    """All properties to choose columns from: those chosen first, in their order, then the most frequent."""
    properties = await _properties(visit, asked)
    chosen = list(asked.columns if asked.columns is not None else default_columns(properties))
    _move(chosen, visit.text("up"), -1)
    _move(chosen, visit.text("down"), 1)
    own = {*chosen, NAME, EMAIL, LAST_SEEN, ID}
    others = [name for name in properties if name and name not in own][:COLUMNS_SHOWN]
    types = {name: told["type"] for name, told in properties.items()}
    state = [[name, value] for name, value in asked.state if name != "column"]
    return {
        "chosen": [{"name": name, "label": label_of(name), "type": types.get(name, "")} for name in chosen],
        "others": [
            {
                "name": name,
                "label": label_of(name),
                "type": types[name],
                "count": properties[name]["count"],
            }
            for name in others
        ],
        "hidden": max(0, len(properties) - len(own & properties.keys()) - len(others)),
        "most": COLUMNS_LIMIT,
        "state": state,
        "urls": {
            "list": visit.path(asked.place),
            "columns": visit.path(f"{asked.place}/columns"),
            "back": address(visit, changed(asked)),
            "default": address(visit, changed(asked, columns=None)),
        },
    }


def _move(names: list[str], name: str, by: int) -> None:
    if name in names:
        at = names.index(name)
        names.insert(max(0, at + by), names.pop(at))


async def cohort(visit: Visit, asked: Asked) -> Mapping[str, Any]:
    """The form that saves the filter as a cohort."""
    if not asked.where or asked.search or asked.cohort:
        raise Problem(NOT_FILTERED, status=400)
    return {
        "where": asked.where,
        "group_key": asked.group_key,
        "urls": {"save": address(visit, changed(asked), "save"), "back": address(visit, changed(asked))},
    }


async def save(visit: Visit, asked: Asked) -> Response:
    """Make the cohort."""
    form = await visit.form()
    if not asked.where or asked.search or asked.cohort:
        raise Problem(NOT_FILTERED, status=400)
    body = {
        "name": form.text("name"),
        "description": form.text("description"),
        "where": asked.where,
        "data_group_id": asked.group_key,
    }
    answer = await visit.ask("POST", COHORTS, body=body)
    try:
        made = answer.good()["results"]
    except Problem as error:
        if visit.is_htmx:
            raise
        return see_other(address(visit, changed(asked), "cohort"), problem=error.text)
    count, noun = made["count"], asked.group_key or "users"
    return see_other(
        visit.path("cohorts"), f"The cohort “{made['name']}” is saved. It has {count} {noun} now."
    )


async def download(visit: Visit, asked: Asked) -> Response:
    """The list as a file, with its filter, its columns and its order."""
    params = filter_params(asked)
    if asked.sort:
        params |= {
            "sort_key": sort_key(asked.sort),
            "sort_order": "descending" if asked.descending else "ascending",
        }
    if asked.columns is not None and not visit.text("all"):
        params["output_properties"] = list(dict.fromkeys([NAME, EMAIL, LAST_SEEN, *asked.columns]))
    return visit.relay("GET", FILE_PATH, params={**params, "format": visit.text("format", FORMATS[0])})


async def _properties(visit: Visit, asked: Asked) -> dict[str, Any]:
    """The properties that profiles hold, those that most hold first."""
    params = {"data_group_id": asked.group_key or None}
    answer = await visit.ask("GET", PROPERTIES, params=params, headers={"X-Mixdown-Wait": "0"})
    found: dict[str, Any] = answer.good()["results"]
    return found


async def _cohort_name(visit: Visit, asked: Asked) -> str:
    """The name of the cohort that the list is limited to, "" without one."""
    if not asked.cohort:
        return ""
    store = visit.services.store
    found = await in_thread(visit.services, store.cohorts.get, visit.project.id, asked.cohort)
    return found.name if found is not None else f"#{asked.cohort}"
