"""What the page shows, gathered from the store as plain values for the template.

A store, a catalog view and an account enter; a `Content` leaves. Everything here blocks and belongs in
a thread. Values from records are shown as text alone, and cut to a length.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Final

import msgspec
import orjson

from mixdown.http.auth import caller_of
from mixdown.model.times import iso_seconds
from mixdown.query.counts import profiles_of
from mixdown.query.recent import RecentRecord, last_of, records_of
from mixdown.query.recent_events import RecentEvent, events_of
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.chunk import Chunk
from mixdown.store.places import slowest_place
from mixdown.store.protocols import Account, Project, RefusedRecord, Store

LISTED: Final = 20
PROJECTS_LISTED: Final = 20
JSON_LIMIT_CHARS: Final = 4000
_CUT: Final = "\n… (cut here)"


class ProjectCard(msgspec.Struct, frozen=True):
    """A project with its token and counts; `groups` are (group key, data_group_id, count)."""

    id: int
    name: str
    token: str
    users: int
    groups: list[tuple[str, int, int]]
    refusals: int


class RecordRow(msgspec.Struct, frozen=True):
    """An accepted record: `operators` like `$set`, or an event's name; `names` its first properties."""

    position: int
    time: str
    project: str
    operators: str
    group_key: str
    id: str
    names: str
    json: str


class RefusalRow(msgspec.Struct, frozen=True):
    """A refused record and why; `known` says whether a project has its token."""

    id: int
    time: str
    project: str
    endpoint: str
    index: int
    field: str
    message: str
    json: str
    known: bool


class Content(msgspec.Struct, frozen=True):
    """All that the page shows to an account that has signed in."""

    projects: list[ProjectCard]
    more_projects: int
    records: list[RecordRow]
    refusals: list[RefusalRow]
    behind: int


def content_for(store: Store, view: CatalogView, account: Account) -> Content:
    """Gather the page's content: the projects that the account may read, or all of them for an owner."""
    caller = caller_of(account)
    projects = [project for project in view.projects.values() if caller.sees(project.id)]
    ids = [project.id for project in projects]
    names = {project.id: project.name for project in projects}
    refused = store.refusals.counts()
    refusals = store.refusals.listing([*ids, 0] if caller.is_owner else ids, limit=LISTED)
    return Content(
        projects=[
            _card(store, project, refused.get(project.id, (0, 0))[0])
            for project in projects[:PROJECTS_LISTED]
        ],
        more_projects=max(0, len(projects) - PROJECTS_LISTED),
        records=_last_records(store, names),
        refusals=[_refusal(refusal, names) for refusal in refusals],
        behind=max(0, store.log.head() - slowest_place(store)),
    )


def _card(store: Store, project: Project, refusals: int) -> ProjectCard:
    keys = sorted(store.state.group_keys(project.id).items())
    return ProjectCard(
        id=project.id,
        name=project.name,
        token=project.token,
        users=profiles_of(store.state, project.id, ""),
        groups=[(key, number, profiles_of(store.state, project.id, key)) for key, number in keys],
        refusals=refusals,
    )


def _last_records(store: Store, names: dict[int, str]) -> list[RecordRow]:
    """What arrived last in the projects named, updates and events, newest first."""

    def look(chunk: Chunk) -> list[RecentRecord | RecentEvent]:
        found: list[RecentRecord | RecentEvent] = [*records_of(chunk, names.keys())]
        found += events_of(chunk, names.keys())
        return sorted(found, key=attrgetter("position"))

    return [
        _record(each, names) if isinstance(each, RecentRecord) else _event(each, names)
        for each in last_of(store.log, look, limit=LISTED)
    ]


def _event(event: RecentEvent, names: dict[int, str]) -> RecordRow:
    return RecordRow(
        position=event.position,
        time=iso_seconds(event.time_ms),
        project=names.get(event.project, ""),
        operators=event.event,
        group_key="",
        id=event.distinct_id,
        names=_first(event.properties),
        json=_pretty(msgspec.json.encode(event.properties)),
    )


def _record(record: RecentRecord, names: dict[int, str]) -> RecordRow:
    payloads = {name: bytes(payload) for name, payload in record.operations.items()}
    return RecordRow(
        position=record.position,
        time=iso_seconds(record.time_ms),
        project=names.get(record.project, ""),
        operators=" ".join(payloads),
        group_key=record.group_key,
        id=record.id,
        names=_touched(payloads),
        json=_pretty(
            b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in payloads.items())
        ),
    )


def _refusal(refusal: RefusedRecord, names: dict[int, str]) -> RefusalRow:
    return RefusalRow(
        id=refusal.id,
        time=iso_seconds(refusal.time_ms),
        project=names.get(refusal.project, "no project"),
        endpoint=refusal.endpoint,
        index=refusal.index,
        field=refusal.field,
        message=refusal.message,
        json=_pretty(refusal.record.encode()) if refusal.whole else _cut(refusal.record),
        known=refusal.project in names,
    )


def _touched(payloads: dict[str, bytes]) -> str:
    """The names of the first few properties that a record touches."""
    names: list[str] = []
    for raw in payloads.values():
        payload = orjson.loads(raw)
        names += [name for name in payload or () if isinstance(name, str)]
    return _first(names)


def _first(found: Iterable[str]) -> str:
    names = list(found)
    shown = ", ".join(names[:6])
    return f"{shown}, …" if len(names) > 6 else shown


def _pretty(raw: bytes) -> str:
    """JSON indented for reading, cut to a length; other text as it is."""
    try:
        text = orjson.dumps(orjson.loads(raw), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        text = raw.decode("utf-8", "replace")
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= JSON_LIMIT_CHARS else text[:JSON_LIMIT_CHARS] + _CUT
