"""What every export shares: its flags, its run from pages to a file or a pipe, and what it says at the end.

Enters: flags and pages of rows (`Exported`). Leaves: a file that is whole, or nothing but an unfinished
folder from which the same command goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, TypeVar

import click
import msgspec

from mixdown.cli.flags import data_dir_flag, json_flag
from mixdown.cli.output import Failure, emit, note, printable
from mixdown.cli.progress import ProgressBar, size_text
from mixdown.cli.transfer import unfinished as files
from mixdown.cli.transfer.forms import COMPRESSIONS, FORMATS, LAYOUTS, STANDARD, Packer, form_of
from mixdown.query.files.forms import Form
from mixdown.query.files.shapes import Shape

if TYPE_CHECKING:
    from mixdown.query.files.writing import RowWriter
    from mixdown.settings import Settings

SAVE_EVERY_S: Final = 2.0
MANY_ROWS: Final = 100_000
F = TypeVar("F", bound=Callable[..., Any])


class Page(msgspec.Struct, frozen=True):
    """Some rows as a `Shape` takes them, how many were looked at for them, and where the next page begins.

    Where `mark` is None an export cannot go on from here.
    """

    rows: list[Any]
    looked_at: int
    mark: str | None


class Exported(Protocol):
    """What is exported."""

    @property
    def shape(self) -> Shape:
        """How its rows look."""

    def total(self) -> int | None:
        """How many rows will be looked at, where that is known."""

    def pages(self, progress: files.Progress) -> Iterator[Page]:
        """The pages behind `progress.after`, in order; a filter's NOW is `progress.now_s`."""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """The flags that say where an export goes, and in which form."""

    file: str
    properties: str | None
    file_format: str | None
    compression: str | None
    layout: str
    force: bool
    as_json: bool
    data_dir: str | None

    @property
    def target(self) -> Path:
        """The file that it is to be."""
        return Path(self.file).absolute()

    def form(self) -> Form:
        """The form that is asked for. Raises `Failure` where it cannot end well."""
        form = form_of(self.file, self.file_format, self.compression)
        _check(self.target, form, self)
        return form

    def names(self) -> tuple[str, ...] | None:
        """The properties that are asked for; None for all."""
        return names_of(self.properties)


def output_flags(command: F) -> F:
    """Give a command the argument FILE and the flags of `Output`."""
    options = (
        click.argument("file", default=STANDARD),
        click.option("--properties", metavar="A,B", help="Only these properties, separated by commas."),
        click.option(
            "--format",
            "file_format",
            type=click.Choice(FORMATS),
            help="Whatever the name says; ndjson for a pipe.",
        ),
        click.option("--compression", type=click.Choice(COMPRESSIONS), help="Likewise; zst inside Parquet."),
        click.option(
            "--layout",
            type=click.Choice(LAYOUTS),
            default="columns",
            show_default=True,
            help="CSV and Parquet: a column for each property, or one that holds them all as JSON.",
        ),
        click.option("--force", is_flag=True, help="Write over a file that is there."),
        json_flag,
        data_dir_flag,
    )
    for option in reversed(options):
        command = option(command)
    return command


def refuse_data_folder(output: Output, settings: Settings) -> None:
    """Refuse a file inside the data folder. Raises `Failure`."""
    inside = output.target.parent.resolve().is_relative_to(settings.data_dir.resolve())
    if output.file != STANDARD and inside:
        raise Failure(f"{output.target} is inside the data folder", hint="Name a file elsewhere.")


def write_out(exported: Exported, output: Output, form: Form, asked: dict[str, Any]) -> None:
    """Export to the file or the pipe, and say so. `asked` is the whole question, as plain values."""
    began = time.monotonic()
    to_pipe = output.file == STANDARD
    noun = exported.shape.noun
    with files.temporary() if to_pipe else files.opened(output.target, asked, noun) as held:
        out = sys.stdout.buffer if to_pipe else None
        run = _Run(exported, output, form, held, out)
        run.read()
        made = run.make()
        if out is None:
            held.publish(made, output.target, force=output.force)
        elif made != held.rows:
            _copy(made, out)
    _tell(output, noun, held.progress.rows, time.monotonic() - began)


class _Run:
    """One export: `read` writes the rows, `make` gives the file that is to be published or copied."""

    def __init__(
        self,
        exported: Exported,
        output: Output,
        form: Form,
        held: files.Unfinished,
        out: IO[bytes] | None,
    ) -> None:
        from mixdown.query.files.writing import RowWriter

        self._exported = exported
        self._form = form
        self._held = held
        self._noun = exported.shape.noun
        self._rows: RowWriter = RowWriter(exported.shape, form, output.layout, output.names(), held.progress)
        self._out = out if self._rows.direct else None

    def read(self) -> None:
        """Read all that is left, and write their rows."""
        progress = self._held.progress
        if progress.read:
            return
        out = self._out or self._held.rows_to_write()
        packer = Packer(out, self._form.compression if self._rows.direct else "none")
        try:
            with ProgressBar("exporting", self._exported.total(), self._noun) as bar:
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
        held, form = self._held, self._form
        if self._rows.direct:
            return held.rows
        columns = self._rows.table()
        if form.format == "parquet":
            from mixdown.query.files.parquet import write_parquet

            held.close()
            if held.progress.rows >= MANY_ROWS:
                note(f"all {self._noun} are read; writing Parquet …")
            write_parquet(
                held.rows, columns, held.made, count=held.progress.rows, compression=form.compression
            )
            return held.made
        from mixdown.query.files.writing import csv_table

        with held.made.open("wb", buffering=0) as file:
            packer = Packer(file, form.compression)
            try:
                for block in csv_table(held.rows, columns, len(self._exported.shape.lead)):
                    packer.write(block)
                packer.flush()
            finally:
                packer.close()
        return held.made

    def _read_pages(self, packer: Packer, bar: ProgressBar) -> None:
        progress = self._held.progress
        saved = time.monotonic()
        bar.tell(progress.looked_at, progress.rows)
        for page in self._exported.pages(progress):
            if page.rows:
                packer.write(self._rows.block(page.rows))
            progress.looked_at += page.looked_at
            progress.rows += len(page.rows)
            bar.tell(progress.looked_at, progress.rows)
            if page.mark is None:
                continue
            progress.after = page.mark
            if time.monotonic() - saved >= SAVE_EVERY_S:
                packer.flush()
                self._save()
                saved = time.monotonic()

    def _save(self) -> None:
        if self._out is None:
            self._rows.note(self._held.progress)
            self._held.save()


def _check(target: Path, form: Form, output: Output) -> None:
    """Refuse what cannot end well before any work is done."""
    if output.file == STANDARD:
        if (form.format == "parquet" or form.compression != "none") and sys.stdout.isatty():
            raise Failure("this is not for a terminal", hint="Name a file, or send it on: export - | …")
        if output.as_json:
            raise click.UsageError("--json goes with a FILE: here standard output is the export itself.")
        return
    if target.is_dir():
        raise Failure(f"{target} is a folder", hint="Name the file that the export is to be.")
    if target.exists() and not output.force:
        raise files.already_there(target)
    if not target.parent.is_dir():
        raise Failure(f"there is no folder {target.parent}", hint="Make it first, or name another file.")


def names_of(text: str | None) -> tuple[str, ...] | None:
    """Names that are separated by commas, each once; None for None."""
    if text is None:
        return None
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _copy(made: Path, out: IO[bytes]) -> None:
    import shutil

    with made.open("rb") as file:
        shutil.copyfileobj(file, out, 1 << 20)
    out.flush()


def _tell(output: Output, noun: str, rows: int, seconds: float) -> None:
    if output.file == STANDARD:
        note(f"exported {rows} {noun}")
        return
    size = output.target.stat().st_size
    if output.as_json:
        emit({"file": output.file, noun: rows, "size_bytes": size})
    else:
        note(f"exported {rows} {noun} to {printable(output.file)}: {size_text(size)}, {seconds:.2f} s")
