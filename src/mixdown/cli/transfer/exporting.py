"""`mixdown profiles export`: profiles from the data folder to a file or a pipe.

Enters: flags. Leaves: a file that is whole, or nothing but an unfinished folder from which the same command
goes on. It reads page by page and never holds up a running server.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click
import msgspec

from mixdown.cli.flags import data_dir_flag, group_key_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened, settle_and_tell
from mixdown.cli.output import Failure, emit, note, printable
from mixdown.cli.progress import ProgressBar, size_text
from mixdown.cli.transfer import unfinished as files
from mixdown.cli.transfer.forms import COMPRESSIONS, FORMATS, LAYOUTS, STANDARD, Form, Packer, form_of
from mixdown.model.values import clean_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixdown.cli.transfer.writing import RowWriter
    from mixdown.query.export import Keep, Page
    from mixdown.store.protocols import Store

SAVE_EVERY_S: Final = 2.0
MANY_PROFILES: Final = 100_000


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
@click.argument("file", default=STANDARD)
@project_flag()
@group_key_flag("Export the groups of this group key.")
@click.option(
    "--where",
    default="",
    metavar="EXPRESSION",
    help="""Only profiles that match, such as 'properties["plan"] == "pro"'.""",
)
@click.option("--properties", metavar="A,B", help="Only these properties, separated by commas.")
@click.option(
    "--as-of",
    metavar="TIME",
    help="As the profiles stood then: 2026-01-31T12:00:00 (UTC), or seconds since 1970.",
)
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), help="Whatever the name says; ndjson for a pipe."
)
@click.option("--compression", type=click.Choice(COMPRESSIONS), help="Likewise; zst inside Parquet.")
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default="columns",
    show_default=True,
    help="CSV and Parquet: a column for each property, or one that holds them all as JSON.",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@json_flag
@data_dir_flag
def export(**flags: Any) -> None:
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

    asked = Asked(**flags)
    form = form_of(asked.file, asked.file_format, asked.compression)
    parse(asked.where, lenient=True)  # lookup tables are known once the folder is open
    as_of_ms = None if asked.as_of is None else read_time(asked.as_of, "--as-of")
    to_pipe = asked.file == STANDARD
    target = Path(asked.file).absolute()
    _check(target, form, asked)
    with opened(asked.data_dir) as (settings, store):
        if not to_pipe and target.parent.resolve().is_relative_to(settings.data_dir.resolve()):
            raise Failure(f"{target} is inside the data folder", hint="Name a file elsewhere.")
        project = find_project(store, asked.project_ref)
        settle_and_tell(settings, store)
        wanted = Wanted(
            project.id,
            clean_text(asked.group_key),
            form,
            asked.layout,
            asked.where,
            _names(asked.properties),
            as_of_ms,
        )
        parse(asked.where, store.lookup_tables.tables(project.id))
        _check_group_key(store, wanted)
        began = time.monotonic()
        with files.temporary() if to_pipe else files.opened(target, wanted.asked()) as held:
            out = sys.stdout.buffer if to_pipe else None
            run = _Run(store, wanted, held, out)
            run.read()
            made = run.make()
            if out is None:
                held.publish(made, target, force=asked.force)
            elif made != held.rows:
                _copy(made, out)
    _tell(asked, target, held.progress.profiles, time.monotonic() - began)


class Asked(msgspec.Struct, frozen=True):
    """The flags."""

    file: str
    project_ref: str
    group_key: str
    where: str
    properties: str | None
    as_of: str | None
    file_format: str | None
    compression: str | None
    layout: str
    force: bool
    as_json: bool
    data_dir: str | None


class _Run:
    """One export: `read` writes the rows, `make` gives the file that is to be published or copied."""

    def __init__(self, store: Store, wanted: Wanted, held: files.Unfinished, out: IO[bytes] | None) -> None:
        from mixdown.cli.transfer.writing import RowWriter

        self._store = store
        self._wanted = wanted
        self._held = held
        self._rows: RowWriter = RowWriter(wanted.form, wanted.layout, wanted.properties, held.progress)
        self._out = out if self._rows.direct else None

    def read(self) -> None:
        """Read all profiles that are left, and write their rows."""
        progress = self._held.progress
        if progress.read:
            return
        out = self._out or self._held.rows_to_write()
        packer = Packer(out, self._wanted.form.compression if self._rows.direct else "none")
        total = self._store.state.count(self._wanted.project, self._wanted.group_key)
        try:
            with ProgressBar("exporting", total, "profiles") as bar:
                if not progress.looked_at and self._rows.head:
                    packer.write(self._rows.head)
                self._read_pages(packer, bar)
            packer.flush()
            progress.read = True
            self._save()
        except BaseException:
            if self._held.saved:
                note("interrupted: the same command goes on from here")
            raise
        finally:
            packer.close()

    def make(self) -> Path:
        """The finished file in the unfinished folder: its rows, where they are the file."""
        held, form = self._held, self._wanted.form
        if self._rows.direct:
            return held.rows
        columns = self._rows.table()
        if form.format == "parquet":
            from mixdown.cli.transfer.parquet import write_parquet

            held.close()
            if held.progress.profiles >= MANY_PROFILES:
                note("all profiles are read; writing Parquet …")
            write_parquet(
                held.rows, columns, held.made, count=held.progress.profiles, compression=form.compression
            )
            return held.made
        from mixdown.cli.transfer.writing import csv_table

        with held.made.open("wb", buffering=0) as file:
            packer = Packer(file, form.compression)
            try:
                for block in csv_table(held.rows, columns):
                    packer.write(block)
                packer.flush()
            finally:
                packer.close()
        return held.made

    def _read_pages(self, packer: Packer, bar: ProgressBar) -> None:
        progress = self._held.progress
        saved = time.monotonic()
        bar.tell(progress.looked_at, progress.profiles)
        for page in self._pages():
            if page.profiles:
                packer.write(self._rows.block(page.profiles))
            progress.after = page.last_id
            progress.looked_at += page.looked_at
            progress.profiles += len(page.profiles)
            bar.tell(progress.looked_at, progress.profiles)
            if time.monotonic() - saved >= SAVE_EVERY_S:
                packer.flush()
                self._save()
                saved = time.monotonic()

    def _pages(self) -> Iterator[Page]:
        from mixdown.query.export import pages, pages_as_of

        wanted, progress = self._wanted, self._held.progress
        project, key, after, keep = wanted.project, wanted.group_key, progress.after, self._filter(progress)
        if wanted.as_of_ms is not None:
            return pages_as_of(self._store, project, key, wanted.as_of_ms, after=after, keep=keep)
        return pages(self._store.state, project, key, after=after, keep=keep)

    def _filter(self, progress: files.Progress) -> Keep | None:
        from mixdown.model.expression import Context, document_predicate, parse

        wanted = self._wanted
        expression = parse(wanted.where, self._store.lookup_tables.tables(wanted.project))
        if expression.is_blank:
            return None
        progress.now_s = progress.now_s or int(time.time())
        return document_predicate(expression, Context(progress.now_s))

    def _save(self) -> None:
        if self._out is None:
            self._rows.note(self._held.progress)
            self._held.save()


def _check(target: Path, form: Form, asked: Asked) -> None:
    """Refuse what cannot end well before any work is done."""
    if asked.file == STANDARD:
        if (form.format == "parquet" or form.compression != "none") and sys.stdout.isatty():
            raise Failure("this is not for a terminal", hint="Name a file, or send it on: export - | …")
        if asked.as_json:
            raise click.UsageError("--json goes with a FILE: here standard output is the export itself.")
        return
    if target.is_dir():
        raise Failure(f"{target} is a folder", hint="Name the file that the export is to be.")
    if target.exists() and not asked.force:
        raise files.already_there(target)
    if not target.parent.is_dir():
        raise Failure(f"there is no folder {target.parent}", hint="Make it first, or name another file.")


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _check_group_key(store: Store, wanted: Wanted) -> None:
    known = store.state.group_keys(wanted.project)
    if wanted.group_key and wanted.group_key not in known:
        names = ", ".join(map(printable, list(known)[:10]))
        raise Failure(
            f"no group of the key {printable(wanted.group_key)} was ever written",
            hint=f"Group keys of this project: {names}" if known else "This project has no groups yet.",
        )


def _copy(made: Path, out: IO[bytes]) -> None:
    import shutil

    with made.open("rb") as file:
        shutil.copyfileobj(file, out, 1 << 20)
    out.flush()


def _tell(asked: Asked, target: Path, profiles: int, seconds: float) -> None:
    if asked.file == STANDARD:
        note(f"exported {profiles} profiles")
        return
    size = target.stat().st_size
    if asked.as_json:
        emit({"file": asked.file, "profiles": profiles, "size_bytes": size})
    else:
        note(f"exported {profiles} profiles to {printable(asked.file)}: {size_text(size)}, {seconds:.2f} s")
