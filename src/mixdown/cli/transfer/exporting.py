"""`mixdown profiles export`: profiles from the data folder to a file or a pipe.

It reads page by page, in the order of ids, and never holds up a running server.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from mixdown.cli.flags import group_key_flag, project_flag
from mixdown.cli.folder import find_project, opened, settle_and_tell
from mixdown.cli.output import Failure, printable
from mixdown.cli.transfer.export_run import Output, Page, output_flags, refuse_data_folder, write_out
from mixdown.cli.transfer.unfinished import Progress
from mixdown.model.values import clean_text
from mixdown.query.files.forms import Form
from mixdown.query.files.shapes import ProfileShape

if TYPE_CHECKING:
    from mixdown.query.export import Keep
    from mixdown.store.protocols import Store


class Wanted(msgspec.Struct, frozen=True):
    """Which profiles, in which form."""

    project: int
    group_key: str
    form: Form
    layout: str
    where: str = ""
    properties: tuple[str, ...] | None = None
    as_of_ms: int | None = None

    def asked(self) -> dict[str, Any]:
        """The question as plain values: an unfinished export goes on only with the same one."""
        asked: dict[str, Any] = msgspec.to_builtins(self)
        return asked


@click.command("export")
@project_flag()
@group_key_flag("Export the groups of this group key.")
@click.option(
    "--where",
    default="",
    metavar="EXPRESSION",
    help="""Only profiles that match, such as 'properties["plan"] == "pro"'.""",
)
@click.option(
    "--as-of",
    metavar="TIME",
    help="As the profiles stood then: 2026-01-31T12:00:00 (UTC), or seconds since 1970.",
)
@output_flags
def export(*, project_ref: str, group_key: str, where: str, as_of: str | None, **flags: Any) -> None:
    """Write profiles to FILE, in the order of their ids, beside a server or without.

    The name says the form: .ndjson, .csv or .parquet, the first two also with .gz or .zst behind. `-`, or no
    name, writes to standard output. FILE appears when it is whole; an export that was interrupted goes on
    where it stood when the same command is run again.

    \b
    Examples:
      mixdown profiles export users.ndjson.zst --project shop
      mixdown profiles export pro.parquet --project shop --where 'properties["plan"] == "pro"'
      mixdown profiles export companies.csv --group-key Company --project shop
      mixdown profiles export --project shop | jq -r '."$distinct_id"'
    """
    from mixdown.model.expression import parse
    from mixdown.query.history import read_time

    output = Output(**flags)
    parse(where, lenient=True)  # lookup tables are known once the folder is open
    as_of_ms = None if as_of is None else read_time(as_of, "--as-of")
    form = output.form()
    with opened(output.data_dir) as (settings, store):
        refuse_data_folder(output, settings)
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        key = clean_text(group_key)
        wanted = Wanted(project.id, key, form, output.layout, where, output.names(), as_of_ms)
        parse(where, store.lookup_tables.tables(project.id))
        _check_group_key(store, wanted)
        write_out(_Profiles(store, wanted), output, form, wanted.asked())


class _Profiles:
    """`Exported`: the profiles that are wanted."""

    def __init__(self, store: Store, wanted: Wanted) -> None:
        self.shape = ProfileShape()
        self._store = store
        self._wanted = wanted

    def total(self) -> int:
        return self._store.state.count(self._wanted.project, self._wanted.group_key)

    def pages(self, progress: Progress) -> Iterator[Page]:
        from mixdown.query.export import pages, pages_as_of

        wanted, after, keep = self._wanted, progress.after, self._filter(progress)
        project, key = wanted.project, wanted.group_key
        if wanted.as_of_ms is not None:
            found = pages_as_of(self._store, project, key, wanted.as_of_ms, after=after, keep=keep)
        else:
            found = pages(self._store.state, project, key, after=after, keep=keep)
        for page in found:
            yield Page(page.profiles, page.looked_at, page.last_id)

    def _filter(self, progress: Progress) -> Keep | None:
        from mixdown.model.expression import document_predicate, parse
        from mixdown.query.contexts import context_of

        wanted = self._wanted
        expression = parse(wanted.where, self._store.lookup_tables.tables(wanted.project))
        if expression.is_blank:
            return None
        progress.now_s = progress.now_s or int(time.time())
        context = context_of(self._store, wanted.project, now_ms=progress.now_s * 1000)
        return document_predicate(expression, context)


def _check_group_key(store: Store, wanted: Wanted) -> None:
    known = store.state.group_keys(wanted.project)
    if wanted.group_key and wanted.group_key not in known:
        names = ", ".join(map(printable, list(known)[:10]))
        raise Failure(
            f"no group of the key {printable(wanted.group_key)} was ever written",
            hint=f"Group keys of this project: {names}" if known else "This project has no groups yet.",
        )
