"""The navigation of the explorer: one declaration of its entries, and which of them a visitor sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from mixdown.explorer.policy import PREFIX
from mixdown.explorer.visit import Visit, path_of
from mixdown.http.auth import ADMINS, OWNERS, READERS


class Entry(NamedTuple):
    """A line of the navigation; `heading` begins a group of lines, `key` is a shortcut behind `g`."""

    label: str
    url: str
    icon: str
    current: bool
    heading: str = ""
    key: str = ""
    foreign: bool = False


class _Declared(NamedTuple):
    section: str
    label: str
    rest: str
    roles: frozenset[str] = READERS
    heading: str = ""
    key: str = ""


_PROJECT: Final = (
    _Declared("start", "Start", "", key="s"),
    _Declared("live", "Live", "live", key="l"),
    _Declared("reports", "Reports", "reports", key="o"),
    _Declared("users", "Users", "users", heading="People", key="u"),
    _Declared("groups", "", "groups"),
    _Declared("cohorts", "Cohorts", "cohorts", key="c"),
    _Declared("events", "Events", "events", heading="Data", key="e"),
    _Declared("dictionary", "Dictionary", "dictionary", key="d"),
    _Declared("lookup-tables", "Lookup tables", "lookup-tables", key="t"),
    _Declared("refusals", "Refusals", "refusals", key="r"),
    _Declared("sql", "SQL", "sql", key="q"),
    _Declared("settings", "Settings", "settings", heading="Project", key="p"),
)
_SERVER: Final = (
    _Declared("projects", "Projects", "projects", READERS, heading="Server"),
    _Declared("accounts", "Accounts", "accounts", ADMINS),
    _Declared("health", "Health", "health", READERS, key="h"),
)


def entries(visit: Visit, section: str, *, keys_limit: int) -> list[Entry]:
    """The lines that this visitor sees, `section` marked as the current one."""
    return [*_of_project(visit, section, keys_limit), *_of_server(visit, section)]


def _of_project(visit: Visit, section: str, keys_limit: int) -> Iterator[Entry]:
    project = visit.near_project
    if project is None:
        return
    below = f"{PREFIX}/{project.id}"
    for one in _PROJECT:
        if one.section == "groups":
            yield from _groups(visit, below, section, keys_limit)
        elif visit.caller.sees(project.id, one.roles):
            url = path_of(below, one.rest, {})
            yield Entry(one.label, url, one.section, section == one.section, one.heading, one.key)


def _groups(visit: Visit, below: str, section: str, keys_limit: int) -> Iterator[Entry]:
    """One line for each group key, the first of them at least."""
    current = visit.text("key") or visit.text("group_key")
    for key, _ in visit.group_keys[:keys_limit]:
        is_current = section == "groups" and key == current
        yield Entry(key, path_of(below, "groups", {"key": key}), "groups", is_current, foreign=True)
    if len(visit.group_keys) > keys_limit:
        more = f"{len(visit.group_keys) - keys_limit} more group keys"
        yield Entry(more, path_of(below, "groups", {}), "groups", current=False)


def _of_server(visit: Visit, section: str) -> Iterator[Entry]:
    for one in _SERVER:
        if visit.caller.roles & one.roles or visit.caller.roles & OWNERS:
            url = visit.server_path(one.rest)
            yield Entry(one.label, url, one.section, section == one.section, one.heading, one.key)
