"""`mixdown events export`: events from the data folder to a file or a pipe, in the order of their times.

It reads a stretch of time after the other, in flat memory, and never holds up a running server.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from mixdown.cli.folder import find_project, opened, settle_and_tell
from mixdown.cli.transfer.events_asked import EventsAsked, events_flags
from mixdown.cli.transfer.export_run import Output, Page, output_flags, refuse_data_folder, write_out
from mixdown.cli.transfer.unfinished import Progress
from mixdown.query.files.shapes import EventShape

if TYPE_CHECKING:
    from mixdown.query.events.export import ExportQuery
    from mixdown.query.events.reader import EventReads

MEMORY_LIMIT_BYTES: Final = 512 * 1024 * 1024


@click.command("export")
@events_flags()
@output_flags
def export(
    *,
    project_ref: str,
    since: str | None,
    until: str | None,
    events: tuple[str, ...],
    where: str,
    **flags: Any,
) -> None:
    """Write events to FILE, in the order of their times, beside a server or without.

    The name says the form: .ndjson, .csv or .parquet, the first two also with .gz or .zst behind. `-`, or no
    name, writes to standard output. Lines are those of Mixpanel's raw export, with `time` in milliseconds; a
    table has the columns event, time (UTC), distinct_id and $insert_id, then the properties. Each event
    comes once, with the id of its person as it is known now. FILE appears when it is whole; an export that
    was interrupted goes on where it stood when the same command is run again.

    \b
    Examples:
      mixdown events export events.ndjson.zst --project shop
      mixdown events export january.parquet --project shop --from 2026-01-01 --to 2026-01-31
      mixdown events export --project shop --event Purchase --where 'properties["price"] > 100' | wc -l
    """
    from mixdown.query.events.reader import EventReads

    output = Output(**flags)
    asked = EventsAsked(project_ref, since, until, events, where)
    asked.check()
    form = output.form()
    with opened(output.data_dir) as (settings, store):
        refuse_data_folder(output, settings)
        project = find_project(store, project_ref)
        query = asked.query(store, project.id)
        settle_and_tell(settings, store)
        reads = EventReads(store, memory_limit_bytes=MEMORY_LIMIT_BYTES)
        question = {
            "events": project.id,
            "asked": [since, until, *events, where],
            "form": msgspec.to_builtins(form),
            "layout": output.layout,
            "properties": output.names(),
        }
        try:
            write_out(_Events(reads, query), output, form, question)
        finally:
            reads.close()


class _Events:
    """`Exported`: the events that are wanted, a stretch of time after the other."""

    def __init__(self, reads: EventReads, query: ExportQuery) -> None:
        self.shape = EventShape()
        self._reads = reads
        self._query = query

    def total(self) -> int | None:
        """As many as are stored; of a part of them it is not known before they are read."""
        first = self._query.selectors[0]
        if first.events is not None or not first.where.is_blank:
            return None
        size = self._reads.store.events.size(self._query.project)
        return size.hot_events + size.file_events

    def pages(self, progress: Progress) -> Iterator[Page]:
        from mixdown.query.events.buckets import Span
        from mixdown.query.events.export import lines_of_window, windows_of

        query = self._query
        if progress.after:
            query = msgspec.structs.replace(query, span=Span(int(progress.after), query.span.until_ms))
        progress.now_s = progress.now_s or int(time.time())
        now_ms = progress.now_s * 1000
        for window in windows_of(self._reads, query, now_ms=now_ms):
            for lines in lines_of_window(self._reads, query, window, now_ms=now_ms):
                yield Page(lines, len(lines), None)
            yield Page([], 0, str(window.until_ms))
