"""`mixdown tail`: records and refusals as they arrive.

It reads the log a little at a time and holds no transaction open in between, so that no writer and no
checkpoint ever waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click
import msgspec

from mixdown.cli.flags import data_dir_flag, json_flag, project_flag
from mixdown.cli.folder import opened
from mixdown.cli.output import json_text, note, printable, shortened
from mixdown.cli.refusals import chosen_projects

if TYPE_CHECKING:
    from mixdown.query.recent import RecentRecord
    from mixdown.store.protocols import RefusedRecord, Store

POLL_S: Final = 0.1
FIRST_LINES: Final = 10
READ_RECORDS: Final = 2000
READ_BYTES: Final = 4 * 1024 * 1024
PAGE_REFUSALS: Final = 100
PAYLOAD_CHARS: Final = 100


class Line(msgspec.Struct, frozen=True):
    """One line of output, and its place among the others."""

    time_ms: int
    text: str


class Follower:
    """Where a tail stands in the log and among the refusals; `start` once, then `poll` again and again."""

    def __init__(
        self, store: Store, projects: list[int] | None, *, refused_only: bool, as_json: bool
    ) -> None:
        self._store = store
        self._projects = projects
        self._refused_only = refused_only
        self._as_json = as_json
        self._names = {project.id: project.name for project in store.catalog.projects()}
        self._position = store.log.head()
        newest = store.refusals.listing(None, limit=1)
        self._refusal_id = newest[0].id if newest else 0

    def start(self) -> list[Line]:
        """The last lines before now."""
        from mixdown.query.recent import recent_records

        found = self._store.refusals.listing(self._projects, limit=FIRST_LINES)
        lines = [self._refusal_line(each) for each in found[::-1] if each.id <= self._refusal_id]
        if not self._refused_only:
            records = recent_records(self._store, self._projects, limit=FIRST_LINES)
            lines = [
                *(self._record_line(each) for each in records[::-1] if each.position < self._position),
                *lines,
            ]
        return sorted(lines, key=_time)[-FIRST_LINES:]

    def poll(self) -> list[Line]:
        """What has arrived since the last look: a bounded stretch of it."""
        lines = [self._refusal_line(refusal) for refusal in self._new_refusals()]
        if not self._refused_only:
            lines = [self._record_line(record) for record in self._new_records()] + lines
        return sorted(lines, key=_time)

    def _new_records(self) -> Iterator[RecentRecord]:
        from mixdown.query.recent import records_of

        log = self._store.log
        if log.head() <= self._position:
            return
        oldest = log.tail_position()
        if oldest > self._position:
            note(f"{oldest - self._position} records were trimmed from the log before they could be shown")
            self._position = oldest
        chunks = log.read(self._position, max_records=READ_RECORDS, max_bytes=READ_BYTES)
        for chunk in chunks:
            yield from (each for each in records_of(chunk, self._projects) if each.position >= self._position)
        self._position = chunks[-1].end if chunks else log.skip_damaged(self._position)

    def _new_refusals(self) -> list[RefusedRecord]:
        listing = self._store.refusals.listing
        page = listing(None, limit=1)
        found: list[RefusedRecord] = []
        newest = page[0].id if page else 0
        if newest <= self._refusal_id:
            return []
        before = newest + 1
        while page := listing(self._projects, before_id=before, limit=PAGE_REFUSALS):
            found += [refusal for refusal in page if refusal.id > self._refusal_id]
            before = page[-1].id
            if before <= self._refusal_id:
                break
        self._refusal_id = newest
        return found[::-1]

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
    """Show records and refusals as they arrive.

    The last 10 come first; Ctrl-C ends it. Each line has the time (UTC), the project, what kind of profile
    (or `refused`), its id (or the refusal's) and the operators. With --json one object a line: "kind" is
    "record" or "refusal", and the rest is as in `/api/mixdown/records` and `/api/mixdown/refusals`.

    \b
    Examples:
      mixdown tail --project shop
      mixdown tail --refused --project 0
      mixdown tail --json | jq -r 'select(.kind == "record") | .id'
    """
    with opened(data_dir) as (_, store):
        follower = Follower(store, chosen_projects(store, project_ref), refused_only=refused, as_json=as_json)
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
