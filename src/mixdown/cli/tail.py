"""`mixdown tail` and `mixdown events tail`: records, events and refusals as they arrive.

It reads the log a little at a time and holds no transaction open in between, so that no writer and no
checkpoint ever waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import click
import msgspec

from mixdown.cli.flags import data_dir_flag, json_flag, project_flag
from mixdown.cli.folder import opened
from mixdown.cli.output import json_text, note, printable, shortened
from mixdown.cli.refusals import chosen_projects
from mixdown.store.places import partition_at

if TYPE_CHECKING:
    from mixdown.cli.transfer.events_asked import Matches
    from mixdown.query.recent import RecentRecord
    from mixdown.query.recent_events import RecentEvent
    from mixdown.store.chunk import Chunk
    from mixdown.store.protocols import RefusedRecord, Store

POLL_S: Final = 0.1
FIRST_LINES: Final = 10
READ_RECORDS: Final = 2000
READ_BYTES: Final = 4 * 1024 * 1024
PAGE_REFUSALS: Final = 100
PAYLOAD_CHARS: Final = 100
RECORDS, EVENTS, REFUSALS = "records", "events", "refusals"
KINDS: Final = frozenset({RECORDS, EVENTS, REFUSALS})


class Line(msgspec.Struct, frozen=True):
    """One line of output, and its place among the others."""

    time_ms: int
    text: str


class _Tail:
    """Where a tail stands in one partition."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._position = store.log.head()
        self._refusal = store.refusals.newest_id()

    def has_record(self, position: int) -> bool:
        """Whether a position is of this partition, and not yet shown."""
        return position >= self._position and partition_at(position) == self.store.number

    def has_after(self, refusal: int) -> bool:
        """The same of a refusal's id."""
        return refusal > self._refusal and partition_at(refusal) == self.store.number

    def records(
        self, look: Callable[[Chunk], list[RecentRecord | RecentEvent]]
    ) -> Iterator[RecentRecord | RecentEvent]:
        """What has come since the last look: a bounded stretch of it."""
        log = self.store.log
        if log.head() <= self._position:
            return
        oldest = log.tail_position()
        if oldest > self._position:
            note(f"{oldest - self._position} records were trimmed from the log before they could be shown")
            self._position = oldest
        chunks = log.read(self._position, max_records=READ_RECORDS, max_bytes=READ_BYTES)
        for chunk in chunks:
            yield from (each for each in look(chunk) if each.position >= self._position)
        self._position = chunks[-1].end if chunks else log.skip_damaged(self._position)

    def refused(self, projects: list[int] | None) -> list[RefusedRecord]:
        """The refusals that have come since the last look."""
        refusals = self.store.refusals
        found: list[RefusedRecord] = []
        newest = refusals.newest_id()
        if newest <= self._refusal:
            return []
        before = newest + 1
        while page := refusals.listing(projects, before_id=before, limit=PAGE_REFUSALS):
            found += [refusal for refusal in page if refusal.id > self._refusal]
            before = page[-1].id
            if before <= self._refusal:
                break
        self._refusal = newest
        return found[::-1]


class Follower:
    """Where a tail stands in the log and among the refusals; `start` once, then `poll` again and again."""

    def __init__(
        self,
        store: Store,
        projects: list[int] | None,
        *,
        as_json: bool,
        kinds: frozenset[str] = KINDS,
        matches: Matches | None = None,
    ) -> None:
        self._store = store
        self._projects = projects
        self._kinds = kinds
        self._matches = matches
        self._as_json = as_json
        self._names = {project.id: project.name for project in store.catalog.projects()}
        from mixdown.query.recent import views_for

        self._tails = [_Tail(view) for view in views_for(store, projects)]

    def start(self) -> list[Line]:
        """The last lines before now."""
        from mixdown.query.recent import last_of_all

        lines: list[Line] = []
        if self._kinds != {REFUSALS}:
            views = [tail.store for tail in self._tails]
            found = last_of_all(views, self._look, limit=FIRST_LINES)
            lines = [self._line_of(each) for each in found[::-1] if not self._is_new(each.position)]
        if REFUSALS in self._kinds:
            refused = self._store.refusals.listing(self._projects, limit=FIRST_LINES)
            shown = [
                each for each in refused[::-1] if not any(tail.has_after(each.id) for tail in self._tails)
            ]
            lines += [self._refusal_line(each) for each in shown]
        return sorted(lines, key=_time)[-FIRST_LINES:]

    def poll(self) -> list[Line]:
        """What has arrived since the last look: a bounded stretch of it."""
        lines: list[Line] = []
        if self._kinds != {REFUSALS}:
            for tail in self._tails:
                lines += [self._line_of(each) for each in tail.records(self._look)]
        if REFUSALS in self._kinds:
            for tail in self._tails:
                lines += [self._refusal_line(refusal) for refusal in tail.refused(self._projects)]
        return sorted(lines, key=_time)

    def _look(self, chunk: Chunk) -> list[RecentRecord | RecentEvent]:
        """What of a chunk is shown."""
        from mixdown.query.recent import records_of
        from mixdown.query.recent_events import events_of

        found: list[RecentRecord | RecentEvent] = []
        if RECORDS in self._kinds:
            found += records_of(chunk, self._projects)
        if EVENTS in self._kinds:
            found += [each for each in events_of(chunk, self._projects) if self._wanted(each)]
        return sorted(found, key=_place)

    def _wanted(self, event: RecentEvent) -> bool:
        if self._matches is None:
            return True
        own = {"distinct_id": event.distinct_id, "$insert_id": event.insert_id}
        return self._matches(event.event, event.happened_ms, {**event.properties, **own})

    def _is_new(self, position: int) -> bool:
        """Whether a record comes after where the tail began."""
        return any(tail.has_record(position) for tail in self._tails)

    def _line_of(self, each: RecentRecord | RecentEvent) -> Line:
        from mixdown.query.recent import RecentRecord

        return self._record_line(each) if isinstance(each, RecentRecord) else self._event_line(each)

    def _event_line(self, event: RecentEvent) -> Line:
        from mixdown.http.own import event_view

        if self._as_json:
            return Line(event.time_ms, json_text({"kind": "event", **event_view(event)}))
        name = click.style(printable(event.event), fg="green")
        text = f"{name}  {printable(event.distinct_id)}  {_payload(json_text(event.properties))}"
        return self._line(event.time_ms, event.project, "event", text.rstrip())

    def _record_line(self, record: RecentRecord) -> Line:
        if self._as_json:
            from mixdown.http.own import record_view

            return Line(record.time_ms, json_text({"kind": "record", **record_view(record)}))
        operations = "  ".join(
            f"{click.style(name, fg='green')} {_payload(bytes(payload).decode())}".rstrip()
            for name, payload in record.operations.items()
        )
        kind = shortened(printable(record.group_key or "user"), 20)
        return self._line(record.time_ms, record.project, kind, f"{printable(record.id)}  {operations}")

    def _refusal_line(self, refusal: RefusedRecord) -> Line:
        if self._as_json:
            from mixdown.http.own import refusal_view

            return Line(refusal.time_ms, json_text({"kind": "refusal", **refusal_view(refusal)}))
        message = click.style(printable(refusal.message), fg="red")
        text = f"{refusal.id}  /{refusal.endpoint}  {message}  {_payload(refusal.record)}"
        return self._line(refusal.time_ms, refusal.project, click.style("refused", fg="red"), text)

    def _line(self, time_ms: int, project: int, kind: str, text: str) -> Line:
        name = shortened(printable(self._names.get(project, f"project {project}" if project else "-")), 20)
        return Line(time_ms, f"{click.style(_clock(time_ms), dim=True)}  {name}  {kind}  {text}")


def _time(line: Line) -> int:
    return line.time_ms


def _place(each: RecentRecord | RecentEvent) -> int:
    return each.position


def _clock(time_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(time_ms // 1000)) + f".{time_ms % 1000:03d}Z"


def _payload(text: str) -> str:
    return "" if text in ('""', "null") else shortened(printable(text), PAYLOAD_CHARS)


@click.command()
@click.option("--refused", is_flag=True, help="Only refusals.")
@project_flag(required=False)
@json_flag
@data_dir_flag
def tail(*, refused: bool, project_ref: str | None, as_json: bool, data_dir: str | None) -> None:
    """Show updates of profiles, events and refusals as they arrive.

    The last 10 come first; Ctrl-C ends it. Each line has the time (UTC), the project, what kind of profile
    (or `event`, or `refused`), its id (or the refusal's) and the operators. With --json one object a line:
    "kind" is "record", "event" or "refusal", and the rest is as in `/api/mixdown/records` and
    `/api/mixdown/refusals`.

    \b
    Examples:
      mixdown tail --project shop
      mixdown tail --refused --project 0
      mixdown tail --json | jq -r 'select(.kind == "record") | .id'
    """
    with opened(data_dir) as (_, store):
        kinds = frozenset({REFUSALS}) if refused else KINDS
        follow(Follower(store, chosen_projects(store, project_ref), kinds=kinds, as_json=as_json))


def follow(follower: Follower) -> None:
    """Print what a follower finds until Ctrl-C."""
    try:
        _print(follower.start())
        while True:
            lines = follower.poll()
            _print(lines)
            if len(lines) < PAGE_REFUSALS:
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        return


def _print(lines: list[Line]) -> None:
    for line in lines:
        click.echo(line.text)
