"""`mixdown lookup-table …`: tables of CSV that expressions join to properties.

Makes, fills, lists, shows, fetches and deletes them in the catalog; what a table may hold is decided by
`model.lookup_csv`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import click

from mixdown.cli.flags import data_dir_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened
from mixdown.cli.output import Failure, confirm, emit, note, print_fields, print_rows, printable

_PIECE_BYTES: Final = 256 * 1024
_STANDARD: Final = "-"


@click.group("lookup-table")
def lookup_table() -> None:
    """Make, fill, list, show, fetch and delete lookup tables.

    A lookup table gives the values of a property further columns: `lookup["plans"]["price"]` in an
    expression. TABLE below is a table's id or name.
    """


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@lookup_table.command()
@click.argument("name")
@project_flag()
@json_flag
@data_dir_flag
def create(*, name: str, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Make an empty lookup table, and print its id.

    \b
    Examples:
      mixdown lookup-table create plans --project shop
      mixdown lookup-table create plans --project shop --json | jq -r .id
    """
    from mixdown.query.lookup_tables import new_table, table_view

    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        made = store.lookup_tables.create(new_table(project.id, name, now_ms=_now_ms()))
    _show(table_view(made), as_json=as_json)


@lookup_table.command("list")
@project_flag()
@json_flag
@data_dir_flag
def list_tables(*, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """List a project's lookup tables."""
    from mixdown.query.lookup_tables import table_view

    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        found = [table_view(table) for table in store.lookup_tables.listing(project.id)]
    if as_json:
        emit(found)
        return
    columns = ("id", "name", "key", "rows", "size_bytes", "replaced")
    print_rows(columns, [[view[column] for column in columns] for view in found])


@lookup_table.command()
@click.argument("table_ref", metavar="TABLE")
@project_flag()
@json_flag
@data_dir_flag
def show(*, table_ref: str, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Show a lookup table and its columns."""
    from mixdown.query.lookup_tables import find_table, table_view

    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        view = table_view(find_table(store, project.id, table_ref))
    _show(view, as_json=as_json)


@lookup_table.command()
@click.argument("table_ref", metavar="TABLE")
@click.argument("file")
@project_flag()
@json_flag
@data_dir_flag
def replace(*, table_ref: str, file: str, project_ref: str, as_json: bool, data_dir: str | None) -> None:
    """Put a CSV FILE in the place of what a table holds: all of its rows, or none.

    The first row names the columns; the first column is the key, by which a property's value finds its row.
    `-` reads standard input; gzip is known by its first bytes.

    \b
    Examples:
      mixdown lookup-table replace plans plans.csv --project shop
      gzip -c plans.csv | mixdown lookup-table replace plans - --project shop
    """
    from mixdown.http.compression import pieces_of
    from mixdown.model.errors import LookupTableError
    from mixdown.model.lookup_csv import BYTES_LIMIT, LookupCsv
    from mixdown.query.lookup_tables import find_table, table_view

    with _source(file) as source, opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        table = find_table(store, project.id, table_ref)
        try:
            made = store.lookup_tables.replace(
                project.id, table.id, LookupCsv(pieces_of(source, BYTES_LIMIT)), now_ms=_now_ms()
            )
        except LookupTableError as error:
            raise Failure(f"{file} cannot be used: nothing was changed", hint=error.hint) from None
    _show(table_view(made), as_json=as_json)


def _source(file: str) -> IO[bytes]:
    """The file, or what standard input gives, which may take its time while nobody waits for it."""
    if file != _STANDARD:
        try:
            return Path(file).open("rb")
        except OSError as error:
            raise Failure(f"{file}: {error.strerror or error}") from None
    held: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - its user closes it
    while piece := sys.stdin.buffer.read(_PIECE_BYTES):
        held.write(piece)
    return held


@lookup_table.command()
@click.argument("table_ref", metavar="TABLE")
@click.argument("file", default=_STANDARD)
@project_flag()
@data_dir_flag
def download(*, table_ref: str, file: str, project_ref: str, data_dir: str | None) -> None:
    """Write a lookup table as CSV to FILE, or to standard output.

    \b
    Examples:
      mixdown lookup-table download plans plans.csv --project shop
      mixdown lookup-table download plans --project shop | head
    """
    from mixdown.query.lookup_tables import csv_of, find_table

    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        table = find_table(store, project.id, table_ref)
        _write(csv_of(store, table), file)
    if file != _STANDARD:
        note(f"wrote {table.rows} rows to {printable(file)}")


def _write(pieces: Iterator[bytes], file: str) -> None:
    if file == _STANDARD:
        sys.stdout.buffer.writelines(pieces)
        return
    try:
        with Path(file).open("wb") as out:
            out.writelines(pieces)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}") from None


@lookup_table.command()
@click.argument("table_ref", metavar="TABLE")
@project_flag()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@data_dir_flag
def delete(*, table_ref: str, project_ref: str, yes: bool, as_json: bool, data_dir: str | None) -> None:
    """Delete a lookup table.

    In cohorts that name it, its columns are undefined from then on.
    """
    from mixdown.query.lookup_tables import find_table

    with opened(data_dir) as (_, store):
        project = find_project(store, project_ref)
        found = find_table(store, project.id, table_ref)
        confirm(f"Delete the lookup table {printable(found.name)}?", yes=yes)
        store.lookup_tables.delete(project.id, found.id)
    if as_json:
        emit({"id": found.id, "name": found.name})
    else:
        note(f"deleted the lookup table {printable(found.name)}")


def _show(view: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        emit(view)
        return
    columns = view.pop("columns")
    assert isinstance(columns, list)
    print_fields(
        [
            *((name, value) for name, value in view.items() if value is not None),
            ("columns", ", ".join(map(printable, columns))),
        ]
    )
