"""What is known of an id without a profile: what it is linked with, whether it had one, what was refused.

An id enters; whatever the API knows under it leaves. Of an id that was erased nothing is known, on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mixdown.explorer.frame import Visit
from mixdown.explorer.pages.profile.properties import moments
from mixdown.explorer.pages.profile.subject import ENGAGE, Subject, group_keys, ms_of, subject_of

REFUSALS: Final = "/api/mixdown/refusals"
REFUSALS_LOOKED_AT: Final = 1000
REFUSALS_SHOWN: Final = 5
KEYS_LOOKED_AT: Final = 20


async def build_known(visit: Visit) -> Mapping[str, Any]:
    """What there is under an id instead of a profile."""
    subject = subject_of(visit)
    told = await moments(visit, Subject(subject.id, subject.group_key, own=True))
    newest = told["moments"][0] if told["moments"] else None
    return {
        "asked": subject.asked,
        "what": subject.what,
        "linked": await _linked(visit, subject),
        "deleted_ms": newest["time_ms"] if newest and newest.get("profile") == "deleted" else None,
        "stood_ms": told["moments"][1]["time_ms"] if newest and len(told["moments"]) > 1 else None,
        "since_ms": told["before_ms"],
        "elsewhere": await _elsewhere(visit, subject),
        **await _refused(visit, subject),
    }


async def _linked(visit: Visit, subject: Subject) -> list[str]:
    """The other ids of the person."""
    if subject.group_key:
        return []
    told = (await visit.ask("GET", "/api/mixdown/identity", params={"distinct_id": subject.id})).good()
    return [one for one in told["results"]["ids"] if one != subject.id]


async def _elsewhere(visit: Visit, subject: Subject) -> list[str]:
    """The kinds of profile that this id does have: group keys, "" for a user."""
    kinds = ["", *(await group_keys(visit))[:KEYS_LOOKED_AT]]
    found = []
    for kind in kinds:
        if kind == subject.group_key:
            continue
        params: dict[str, Any] = {"distinct_id": subject.id, "output_properties": ["$name"]}
        params |= {"data_group_id": kind} if kind else {}
        if (await visit.ask("GET", ENGAGE, params=params)).good()["results"]:
            found.append(kind)
    return found


async def _refused(visit: Visit, subject: Subject) -> dict[str, Any]:
    """The newest refused records that name the id, of the last thousand."""
    params = {"limit": REFUSALS_LOOKED_AT}
    answer = (await visit.ask("GET", REFUSALS, params=params)).good()
    about = [each for each in answer["results"] if names_id(each["record"], subject)]
    shown = [
        {name: each[name] for name in ("id", "time", "endpoint", "field", "message", "sdk")}
        | {"time_ms": ms_of(each["time"])}
        for each in about[:REFUSALS_SHOWN]
    ]
    return {"refusals": shown, "refusals_more": len(about) - len(shown)}


def names_id(record: str, subject: Subject) -> bool:
    """Whether the text of a refused record is about a profile."""
    if orjson.dumps(subject.id).decode()[1:-1] not in record and "\\u" not in record:
        return False
    try:
        told = orjson.loads(record)
    except orjson.JSONDecodeError:
        return False
    if type(told) is not dict:
        return False
    if subject.group_key:
        return told.get("$group_key") == subject.group_key and str(told.get("$group_id")) == subject.id
    properties = told.get("properties")
    inside = properties.get("distinct_id") if type(properties) is dict else None
    return subject.id in (_text(told.get("$distinct_id")), _text(inside))


def _text(value: object) -> str:
    return str(value) if type(value) in (str, int) else ""
