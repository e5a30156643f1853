"""What a list of users or groups shows, as its address says it, and its rows as a template takes them.

A visit's parameters enter; an `Asked`, addresses of the same list with something changed, and rows leave.
Nothing is read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import orjson

from mixdown.explorer.frame import Problem, Visit
from mixdown.model.operators import LAST_SEEN

COLUMNS_LIMIT: Final = 50
PAGE_ROWS: Final = 50
ID: Final = "$distinct_id"
NAME: Final = "$name"
EMAIL: Final = "$email"
NAMES: Final = (NAME, "name", "$first_name", "$last_name")
PREFERRED: Final = ("plan", "$created", "$country_code", "$region", "$city")
"""Columns that a list begins with, where profiles hold them."""
DEFAULT_COLUMNS: Final = 4
_HUES: Final = 6
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z?", re.ASCII)


class Asked(msgspec.Struct, frozen=True):
    """What a list shows, and where it begins (`after`, `session`, `page`).

    `columns` None: nobody has chosen any.
    """

    group_key: str = ""
    search: str = ""
    where: str = ""
    cohort: int = 0
    columns: tuple[str, ...] | None = None
    sort: str = ""
    descending: bool = False
    after: str = ""
    session: str = ""
    page: int = 0

    @property
    def place(self) -> str:
        """The list's path below the project."""
        return "groups" if self.group_key else "users"

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows it."""
        return bool(self.search or self.where.strip() or self.cohort)

    @property
    def state(self) -> list[tuple[str, str]]:
        """The parameters of its address, without where it begins."""
        pairs = [
            ("key", self.group_key),
            ("search", self.search),
            ("where", self.where),
            ("cohort", str(self.cohort or "")),
            ("sort", self.sort),
            ("order", "descending" if self.descending else ""),
        ]
        columns = [("column", name) for name in self.columns] if self.columns is not None else []
        return [*((name, value) for name, value in pairs if value), *(columns or self._no_columns())]

    def _no_columns(self) -> list[tuple[str, str]]:
        return [("column", "")] if self.columns is not None else []


def asked_of(visit: Visit, group_key: str) -> Asked:
    """What the address asks for. Raises `Problem` (400)."""
    columns = visit.texts("column")
    if len(columns) > COLUMNS_LIMIT:
        raise Problem(f"A list has at most {COLUMNS_LIMIT} columns of your choice.", status=400)
    order = visit.text("order")
    return Asked(
        group_key=group_key,
        search=visit.text("search").strip(),
        where=visit.text("where") if visit.text("where").strip() else "",
        cohort=visit.integer("cohort", 0, low=0, high=2**53),
        columns=tuple(dict.fromkeys(name for name in columns if name)) if columns else None,
        sort=visit.text("sort"),
        descending=order == "descending",
        after=visit.text("after"),
        session=visit.text("session"),
        page=visit.integer("page", 0, low=0, high=10**9),
    )


def address(visit: Visit, asked: Asked, rest: str = "", **more: Any) -> str:
    """The address of a list, or of a part of it."""
    params: dict[str, list[str]] = {}
    for name, value in asked.state:
        params.setdefault(name, []).append(value)
    place = f"{asked.place}/{rest}" if rest else asked.place
    return visit.path(
        place, **params, **{name: value for name, value in more.items() if value not in (None, "")}
    )


def changed(asked: Asked, **changes: Any) -> Asked:
    """The same list with something changed, from its start."""
    return msgspec.structs.replace(asked, after="", session="", page=0, **changes)


def default_columns(properties: Mapping[str, Any]) -> tuple[str, ...]:
    """What a list shows until somebody chooses: what is usually asked for, then what most profiles hold."""
    own = {ID, EMAIL, LAST_SEEN, *NAMES}
    there = [name for name in PREFERRED if name in properties]
    others = [
        name for name in properties if name not in own and name not in there and not name.startswith("$")
    ]
    return tuple([*there, *others][:DEFAULT_COLUMNS])


def label_of(name: str) -> str:
    """A property's name as it is shown: one that cannot be seen is spelled out."""
    return name if name.isprintable() and name.strip() else orjson.dumps(name).decode()


def sort_key(name: str) -> str:
    """A property as the expression that rows are sorted by."""
    return f"properties[{orjson.dumps(name).decode()}]"


def api_params(asked: Asked, columns: Sequence[str]) -> dict[str, Any]:
    """What the API is asked about a list."""
    return {
        **filter_params(asked),
        "output_properties": list(dict.fromkeys([*NAMES, EMAIL, LAST_SEEN, *columns])),
    }


def filter_params(asked: Asked) -> dict[str, Any]:
    """What narrows a list, for the API."""
    return {
        "where": asked.where or None,
        "search": asked.search or None,
        "data_group_id": asked.group_key or None,
        "filter_by_cohort": {"id": asked.cohort} if asked.cohort else None,
    }


def row_view(visit: Visit, asked: Asked, result: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """A profile as a row: JSON-able, with the address of its page."""
    profile_id: str = result["$distinct_id"]
    properties: dict[str, Any] = result["$properties"]
    name = _name(properties)
    email = properties.get(EMAIL)
    shown = name or (email if type(email) is str and email else "") or profile_id
    return {
        "id": profile_id,
        "url": visit.path("profile", id=profile_id, group_key=asked.group_key or None),
        "title": shown,
        "email": email if type(email) is str and email != shown else "",
        "initials": initials(shown),
        "hue": sum(profile_id.encode()) % _HUES,
        "last_seen": time_ms(properties.get(LAST_SEEN)),
        "cells": [
            {
                "has": column in properties,
                "value": properties.get(column),
                "ms": time_ms(properties.get(column)),
            }
            for column in columns
        ],
    }


def _name(properties: Mapping[str, Any]) -> str:
    for own in NAMES[:2]:
        value = properties.get(own)
        if type(value) is str and value.strip():
            return value
    parts = [properties.get(own) for own in NAMES[2:]]
    return " ".join(part for part in parts if type(part) is str and part.strip())


def initials(text: str) -> str:
    """One or two letters that stand for a profile where others have a picture."""
    words = [word for word in re.split(r"[\s@._\-]+", text) if word and word[0].isalnum()]
    return "".join(word[0] for word in words[:2]).upper() or "·"


def time_ms(value: Any) -> int | None:
    """A stored time in milliseconds; None for what is none."""
    if type(value) is not str or not _TIME.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value.removesuffix("Z"))
    except ValueError:
        return None
    return int(moment.replace(tzinfo=UTC).timestamp() * 1000)


def caret(text: str, position: int, *, around: int = 60) -> dict[str, str]:
    """The line of a text in which an error stands: what is before it, the character, and what comes after."""
    position = max(0, min(position, len(text)))
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    first, last = max(begin, position - around), min(end, position + around)
    return {
        "before": ("…" if first > begin else "") + text[first:position],
        "at": text[position : position + 1] if position < end else "",
        "after": text[position + 1 : last] + ("…" if last < end else ""),
    }
