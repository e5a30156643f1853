"""Whose profile a page is about, and reading it: as it stands, or as it stood.

A visit enters; ids, parameters for the API, and properties leave.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from mixdown.explorer.frame import Form, Problem, Visit
from mixdown.explorer.reserved import display_name
from mixdown.model.errors import QueryError
from mixdown.model.times import canonical_timestamp
from mixdown.query.history import read_time

ENGAGE: Final = "/api/query/engage"
NO_ID: Final = "id: missing. A profile's address ends with ?id= and its id."
SHOWN_ID_CHARS: Final = 80
_NO_BREAKS: Final = {ord("\n"): None, ord("\r"): None}


class Subject(msgspec.Struct, frozen=True):
    """A user, or a group of a group key; `own`: the profile under this very id, whoever it is linked with."""

    id: str
    group_key: str = ""
    own: bool = False

    @property
    def asked(self) -> dict[str, str]:
        """The parameters of the pages about it."""
        asked = {"id": self.id}
        if self.group_key:
            asked["group_key"] = self.group_key
        if self.own:
            asked["own"] = "1"
        return asked

    @property
    def read(self) -> dict[str, Any]:
        """The parameters of the API's reads about it."""
        read: dict[str, Any] = {"distinct_id": self.id}
        if self.group_key:
            read["data_group_id"] = self.group_key
        if self.own:
            read["ignore_alias"] = "true"
        return read

    @property
    def what(self) -> str:
        """What it is, in a word."""
        return self.group_key or "user"


def subject_of(source: Visit | Form) -> Subject:
    """The subject that a page's parameters or a form's fields name. Raises `Problem` (400)."""
    profile_id = source.text("id")
    if not profile_id:
        raise Problem(NO_ID, status=400)
    return Subject(profile_id, source.text("group_key"), source.text("own") == "1")


class Standing(msgspec.Struct, frozen=True):
    """A profile as it was read: `id` is whose it is (an alias leads to another); None where there is none.

    `behind` is how many records were not applied yet when it was read.
    """

    id: str
    properties: dict[str, Any] | None
    behind: int = 0

    @property
    def name(self) -> str:
        """What a person calls it, "" where nothing says so."""
        return display_name(self.properties or {})


async def standing(visit: Visit, subject: Subject, *, at: str = "") -> Standing:
    """The profile as it stands, or as it stood `at` a time. Raises `Problem`."""
    params = {**subject.read, **({"as_of": at} if at else {})}
    if subject.group_key and not await is_group_key(visit, subject.group_key):
        return Standing(subject.id, None)
    answer = await visit.ask("GET", ENGAGE, params=params)
    rows = answer.good()["results"]
    behind = int(answer.headers.get("x-mixdown-behind", "0"))
    if not rows:
        return Standing(subject.id, None, behind)
    return Standing(rows[0]["$distinct_id"], rows[0]["$properties"], behind)


async def is_group_key(visit: Visit, key: str) -> bool:
    """Whether the project has groups of this key: the API knows a key from its first group on."""
    return key in await group_keys(visit)


async def group_keys(visit: Visit) -> list[str]:
    """The group keys of the project."""
    path = f"/api/app/projects/{visit.project.id}/data-groups"
    return [str(each["property_name"]) for each in (await visit.ask("GET", path)).good()["results"]]


def moment_ms(text: str) -> int:
    """The time that `at=` names, in ms; 0 for none. Raises `Problem` (400)."""
    if not text:
        return 0
    try:
        return read_time(text, "at")
    except QueryError as error:
        raise Problem(error.message, status=400) from None


def exact(subject: Subject, found: Standing) -> Subject:
    """The subject under the id that its profile has: what is written goes there and nowhere else."""
    return Subject(found.id, subject.group_key, subject.own)


def ms_of(text: object) -> int | None:
    """A time as the API writes it, `2026-01-15T12:00:00` in UTC, in ms; None where it is none."""
    told = canonical_timestamp(text) if type(text) is str else None
    return (
        None if told is None else round(datetime.fromisoformat(told).replace(tzinfo=UTC).timestamp() * 1000)
    )


def is_typed(given: str, wanted: str) -> bool:
    """Whether somebody typed an id; a field of one line takes no line breaks."""
    return bool(wanted) and given.translate(_NO_BREAKS) == wanted.translate(_NO_BREAKS)


def shortened(text: str, limit: int = SHOWN_ID_CHARS) -> str:
    """A text for a title or a message: hostile ones may have hundreds of characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
