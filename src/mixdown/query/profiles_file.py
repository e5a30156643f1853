"""Profiles as a file that is sent while it is made: what a list shows, filtered and sorted as the list is.

Enters: filters, columns and a form. Leaves: pieces of bytes, made by the same code as an export of the
command line. It holds one page at a time; what cannot be written in one pass (columns that are learnt on the
way, Parquet) goes through a private folder beside the store, gone when the pieces end or are closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from mixdown.query.choosing import Choice, Filters, choose
from mixdown.query.engage import ProfileQueries, ProfileQuery
from mixdown.query.events.reader import EventReads
from mixdown.query.export import pages
from mixdown.query.files.forms import Form
from mixdown.query.files.parquet import write_parquet
from mixdown.query.files.shapes import ProfileShape
from mixdown.query.files.writing import RowWriter, csv_table
from mixdown.store import patience
from mixdown.store.batches import documents_in_batches
from mixdown.store.protocols import Store
from mixdown.store.selection import judge
from mixdown.store.spilling import spill_folder

FORMATS: Final = ("csv", "ndjson", "parquet")
_IDS_AT_ONCE: Final = 10_000
_SENT_BYTES: Final = 1 << 20
_NO_DOCUMENT: Final = b"{}"
_Rows = list[tuple[str, bytes]]


class ProfilesFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is asked for. `names` are its properties in order, None all; `form` one of `FORMATS`."""

    project: int
    filters: Filters
    form: str
    names: tuple[str, ...] | None = None


class _Learnt(msgspec.Struct):
    """`writing.Learnt`, for one file."""

    names: list[str] = []
    bits: list[int] = []
    rest: bool = False


def file_pieces(
    store: Store, asked: ProfilesFile, *, now_ms: int, reads: EventReads | None = None
) -> Iterator[bytes]:
    """The bytes of the file; a piece may be empty while nothing can be sent yet. Blocks at each step.

    Raises `QueryError` (400) before the first piece where a filter is wrong, `StoreError`.
    """
    choice = choose(store, asked.project, asked.filters, now_ms=now_ms, reads=reads)
    form = Form(asked.form, "zst" if asked.form == "parquet" else "none")
    layout = "columns" if asked.names is None else "chosen"
    writer = RowWriter(ProfileShape(), form, layout, asked.names, _Learnt(), safe=True)
    found = _profiles(store, asked, choice)
    if writer.direct:
        if writer.head:
            yield writer.head
        for rows in found:
            yield writer.block(rows) if rows else b""
        return
    yield from _in_two_passes(writer, found, asked.form, getattr(store, "folder", None))


def _in_two_passes(
    writer: RowWriter, found: Iterable[_Rows], form: str, data_folder: Path | None
) -> Iterator[bytes]:
    """First all rows, and with them the columns; then the table."""
    folder = spill_folder(data_folder)
    folder.path.mkdir(mode=0o700)
    try:
        rows, made, count = folder.path / "rows", folder.path / "made", 0
        with rows.open("wb") as file:
            for some in found:
                file.write(writer.block(some))
                count += len(some)
                yield b""
        columns = writer.table()
        if form == "csv":
            yield from csv_table(rows, columns, len(ProfileShape.lead), safe=True)
            return
        write_parquet(rows, columns, made, count=count, compression="zst")
        with made.open("rb") as file:
            while piece := file.read(_SENT_BYTES):
                yield piece
    finally:
        folder.close()


def _profiles(store: Store, asked: ProfilesFile, choice: Choice) -> Iterator[_Rows]:
    """The profiles that are chosen, in their order, some at a time; an empty list where a page has none."""
    selection = choice.selection
    if not choice.is_listed and selection.sort_key is None:
        keep = None if selection.takes_all else judge(selection)
        for page in pages(store.state, asked.project, choice.group_key, keep=keep):
            patience.check()
            yield page.profiles
        return
    query = ProfileQuery(project=asked.project, filters=asked.filters)
    yield from _of_ids(store, asked.project, choice, ProfileQueries(store).matching(query, choice))


def _of_ids(store: Store, project: int, choice: Choice, ids: Iterator[str]) -> Iterator[_Rows]:
    while some := list(islice(ids, _IDS_AT_ONCE)):
        batches = documents_in_batches(
            store.state.documents,
            [(project, choice.group_key, profile_id) for profile_id in some],
            first=16,
            most=1000,
            roomy_bytes=4 * 1024 * 1024,
        )
        for keys, documents in batches:
            patience.check()
            yield [
                (key[2], document or _NO_DOCUMENT)
                for key, document in zip(keys, documents, strict=True)
                if document is not None or choice.keeps_missing
            ]
