"""The database that a data folder is copied into: whether it may be, and how far it is.

Enters: an open database. Leaves: steps that are done or not, in the transactions that write their rows. Until
the copy is finished no server starts on it (`refuse_unfinished`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, LiteralString

import msgspec

from mixdown.model.errors import StoreError
from mixdown.store.postgres.connection import Cursor, Database

if TYPE_CHECKING:
    from collections.abc import Iterator

# One after the other: tables of partitions and others do not meet in one statement.
_FILLED: Final[tuple[tuple[LiteralString, str], ...]] = (
    ("SELECT 1 FROM mixdown.projects LIMIT 1", "projects"),
    ("SELECT 1 FROM mixdown.accounts LIMIT 1", "accounts"),
    ("SELECT 1 FROM mixdown.profiles LIMIT 1", "profiles"),
    ("SELECT 1 FROM mixdown.event_files LIMIT 1", "events"),
    ("SELECT 1 FROM mixdown.event_hot LIMIT 1", "events"),
    ("SELECT 1 FROM mixdown.chunks LIMIT 1", "a log"),
    ("SELECT 1 FROM mixdown.heads WHERE position <> partition::bigint << 44 LIMIT 1", "a log"),
)
_COPY: Final = """
    SELECT copy, source, fold_from, events_from, log_end, shipped, began_ms, finished_ms FROM mixdown.copying
"""
_LINE_BYTES: Final = {92: b"\\\\", 10: b"\\n", 13: b"\\r", 9: b"\\t"}


class Copy(msgspec.Struct, frozen=True):
    """A copy, as the database knows it: positions are those of the folder's log.

    What it holds of the log was folded up to `fold_from`, taken for events up to `events_from`; `log_end` was
    the log's end then. The log is here up to `shipped`. `finished_ms` is 0 until all is done.
    """

    copy: str
    source: str
    fold_from: int
    events_from: int
    log_end: int
    shipped: int
    began_ms: int
    finished_ms: int = 0


def copy_in(database: Database) -> Copy | None:
    """The copy that is, or was, made into a database; None where none was."""
    row = database.row(_COPY)
    return None if row is None else Copy(*row)


def refuse_unfinished(database: Database) -> None:
    """Raises `StoreError` where a data folder is being copied into this database: it is not whole."""
    found = copy_in(database)
    if found is not None and not found.finished_ms:
        raise StoreError(
            f"{database.what} is being filled from {found.source}",
            hint="Finish it first: mixdown db copy --switch. Or make another database.",
        )


def refuse_filled(database: Database) -> None:
    """Raises `StoreError` where a database holds anything."""
    held = (what for statement, what in _FILLED if database.value(statement) is not None)
    found = next(held, None)
    if found is not None:
        raise StoreError(
            f"{database.what} holds {found} already: a data folder is copied into an empty database alone",
            hint="Make a new one (createdb), and let no server start on it before the copy is done.",
        )


def begin(database: Database, copy: Copy) -> None:
    """Note that a copy begins. Raises `StoreError` where the database holds anything."""
    refuse_filled(database)
    with database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO mixdown.copying (one, copy, source, fold_from, events_from, log_end, shipped,"
            " began_ms, finished_ms) VALUES (1, %s, %s, %s, %s, %s, %s, %s, %s)",
            msgspec.structs.astuple(copy),
        )


class Steps:
    """The steps of a copy. One thread uses it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.partitions = int(database.value("SELECT partitions FROM mixdown.layout"))
        found = database.rows("SELECT step, place, rows, done FROM mixdown.copying_steps")
        self._known = {step: (msgspec.json.decode(place), rows, done) for step, place, rows, done in found}

    def is_done(self, step: str) -> bool:
        """Whether a step is done."""
        return step in self._known and bool(self._known[step][2])

    def place(self, step: str) -> tuple[list[Any], int]:
        """The key behind which a step goes on ([]: at the beginning), and how many rows it has written."""
        known = self._known.get(step)
        return ([], 0) if known is None else (known[0], known[1])

    def rows(self) -> dict[str, int]:
        """How many rows each step has written, of those that count any."""
        return {step: rows for step, (_, rows, _) in sorted(self._known.items()) if rows}

    @contextmanager
    def writing(self, step: str, place: Sequence[Any], rows: int, *, done: bool = False) -> Iterator[Cursor]:
        """A transaction of a step, which it leaves at `place`, with so many rows in all."""
        with self.database.transaction() as cursor:
            yield cursor
            cursor.execute(
                "INSERT INTO mixdown.copying_steps (step, place, rows, done) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (step) DO UPDATE SET place = excluded.place, rows = excluded.rows,"
                " done = excluded.done",
                (step, msgspec.json.encode(list(place)).decode(), rows, done),
            )
        self._known[step] = (list(place), rows, done)


def copy_rows(cursor: Cursor, table: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
    """Write rows into a table of ours by COPY: texts, integers, booleans, None, and `Bytea`."""
    if not rows:
        return
    lines = bytearray()
    for row in rows:
        lines += b"\t".join([_field(value) for value in row])
        lines += b"\n"
    statement: Any = f"COPY mixdown.{table} ({columns}) FROM STDIN"
    with cursor.copy(statement) as copying:
        copying.write(bytes(lines))


class Bytea(bytes):
    """Bytes of a column `bytea`; plain `bytes` are texts in UTF-8."""

    __slots__ = ()


def _field(value: Any) -> bytes:
    if value is None:
        return b"\\N"
    kind = type(value)
    if kind is int:
        return b"%d" % value
    if kind is str:
        return _escaped(value.encode())
    if isinstance(value, Bytea):
        return b"\\\\x" + value.hex().encode()
    if isinstance(value, bytes):
        return _escaped(value)
    assert kind is bool, kind
    return b"t" if value else b"f"


def _escaped(text: bytes) -> bytes:
    """A text as COPY reads it; most hold nothing that it takes for more than a letter."""
    for byte, escaped in _LINE_BYTES.items():
        if byte in text:
            text = text.replace(bytes((byte,)), escaped)
    return text
