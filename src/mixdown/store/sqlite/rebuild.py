"""Rebuilding a damaged file: every row that can still be read, in a new file of the same schema.

Enters: a database with broken pages. Leaves: a whole one in its place, the damaged one beside it, and how
many rows of which table were lost. It never takes the damaged file away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite import identities, indexes, properties
from mixdown.store.sqlite.folder import make_file, sync_folder

_ROWS_AT_ONCE: Final = 1000
_STEPS_BETWEEN_WORDS: Final = 100_000
_NEWEST_WINS: Final = frozenset({"profiles"})
"""Tables in which a row may stand twice: a broken index hid the first, and the fold wrote another."""


class Rebuilt(msgspec.Struct, frozen=True):
    """A new file that waits to take the damaged one's place; `torn` names tables that lost rows.

    `doubled` counts older rows of tables in which a row stood more than once: only the newest is in the file.
    `headless` says that the log's one row of where it ends was lost, and made anew from the chunks.
    """

    path: Path
    rows: dict[str, int]
    torn: tuple[str, ...]
    doubled: dict[str, int]
    headless: bool = False


def integrity_faults(
    path: Path, *, whole: bool = False, tell: Callable[[], object] = lambda: None, limit: int = 20
) -> list[str]:
    """What SQLite's quick check finds in a file; nothing where it is sound. Raises `StoreError`.

    `whole` also holds every index against its table. `tell` is called now and then meanwhile.
    """
    check = "integrity_check" if whole else "quick_check"
    with (
        sqlite.store_errors(str(path)),
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection,
    ):
        connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
        connection.set_progress_handler(lambda: bool(tell()), _STEPS_BETWEEN_WORDS)
        try:
            found = sqlite.rows(connection, f"PRAGMA {check}({limit})")
        except (apsw.CorruptError, apsw.NotADBError) as error:
            return [str(error)]
    return [] if found == [("ok",)] else [str(line).replace("\n", "; ") for (line,) in found]


def rebuild(path: Path, kind: sqlite.Kind) -> Rebuilt:
    """Make a new file beside a damaged one, of all that can be read. Raises `StoreError` if that is nothing.

    `put_in_place` makes it count; `discard` takes it away.
    """
    target = path.with_name(path.name + ".rebuilt")
    for suffix in ("", "-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    make_file(target)
    with (
        sqlite.store_errors(str(path)),
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as source,
        closing(sqlite.connect(target, kind)) as new,
    ):
        version = int(source.pragma("user_version"))
        sqlite.migrate(new, target, sqlite.migrations(kind)[:version])
        rows: dict[str, int] = {}
        doubled: dict[str, int] = {}
        torn = []
        with sqlite.transaction(new):
            for (table,) in sqlite.rows(new, "SELECT name FROM sqlite_schema WHERE type = 'table'"):
                read, whole = _copy_table(source, new, table)
                rows[table] = int(sqlite.value(new, f"SELECT count(*) FROM {table}"))  # noqa: S608 - our schema
                if whole and rows[table] < read and table in _NEWEST_WINS:
                    doubled[table] = read - rows[table]
                elif not whole or rows[table] < read:
                    torn.append(table)
            if kind is sqlite.STATE and version >= properties.SCHEMA:
                properties.forget_all(new)  # what was counted may be lost now, and what was lost counted
            if kind is sqlite.STATE and "property_indexes" in rows:
                indexes.forget_all(new)
            if kind is sqlite.STATE and {"identities", "identity_links"}.intersection(torn):
                identities.derive_all(new)  # what was read of them may not fit together
            headless = kind is sqlite.LOG and not rows["head"]
            if headless:
                rows["head"] = _head_from_chunks(new)
        sqlite.rows(new, "PRAGMA wal_checkpoint(TRUNCATE)")
    return Rebuilt(target, rows, tuple(torn), doubled, headless)


def put_in_place(rebuilt: Rebuilt, path: Path) -> Path:
    """Let a rebuilt file take the damaged one's place; where the damaged one is now."""
    kept = set_aside(path, keep=True)
    rebuilt.path.replace(path)
    sync_folder(path.parent)
    return kept


def discard(rebuilt: Rebuilt) -> None:
    """Take a rebuilt file away again."""
    rebuilt.path.unlink(missing_ok=True)


def set_aside(path: Path, *, keep: bool = False) -> Path:
    """Give a damaged file another name, with `keep` besides its own; its -wal and -shm go along.

    Without `keep` the file itself may be missing: what is left of the three gets the name.
    """
    number = 1
    while any(
        path.with_name(f"{path.name}.damaged-{number}{suffix}").exists() for suffix in ("", "-wal", "-shm")
    ):
        number += 1
    kept = path.with_name(f"{path.name}.damaged-{number}")
    if keep:
        kept.hardlink_to(path)
    elif path.exists():
        path.rename(kept)
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(kept.with_name(kept.name + suffix))
    sync_folder(path.parent)
    return kept


def _copy_table(source: apsw.Connection, new: apsw.Connection, table: str) -> tuple[int, bool]:
    """Copy what can be read of a table; how many rows were read, and whether those are all.

    The new file may hold fewer: a row whose key was read before is left out, or takes the older one's place.
    """
    columns = sqlite.rows(new, "SELECT name, pk FROM pragma_table_info(?)", (table,))
    sqlite.rows(new, f"DELETE FROM {table}")  # noqa: S608 - a name from this program's own schema
    marks = ", ".join("?" * len(columns))
    conflict = "REPLACE" if table in _NEWEST_WINS else "IGNORE"
    insert = f"INSERT OR {conflict} INTO {table} VALUES ({marks})"  # noqa: S608 - likewise
    count = 0
    whole = True
    some: list[tuple[Any, ...]] = []
    for row in _readable(source, table, [name for name, pk in sorted(columns, key=_by_key) if pk]):
        if row is None:
            whole = False
            continue
        some.append(row)
        count += 1
        if len(some) >= _ROWS_AT_ONCE:
            new.executemany(insert, some)
            some.clear()
    new.executemany(insert, some)
    return count, whole


def _head_from_chunks(new: apsw.Connection) -> int:
    """Let a log without a head end where its last chunk does; how many rows it has then.

    No position of a chunk is used again, and a repair holds the head against the fold's watermark after this.
    """
    sqlite.rows(
        new,
        "INSERT INTO head (one, position, time_ms, held_bytes)"
        " SELECT 1, coalesce(max(first + count), 0), coalesce(max(time_ms), 0),"
        " coalesce(sum(length(body)), 0) FROM chunks",
    )
    return 1


def _by_key(column: tuple[str, int]) -> int:
    return column[1]


def _readable(source: apsw.Connection, table: str, key: list[str]) -> Iterator[tuple[Any, ...] | None]:
    """The rows of a table from both ends, and None for each place that cannot be read.

    A row whose own pages are broken is stepped over where the key is one column; where the tree above the
    rows is broken, what can be reached from the other end is taken too. A row may come twice.
    """
    order = ", ".join(key) or "rowid"
    last: Any = None
    while True:
        where, bindings = ("", ()) if last is None else (f"WHERE {order} > ?", (last,))
        step = f"SELECT {order}, * FROM {table} {where} ORDER BY {order}"  # noqa: S608 - names of our schema
        try:
            for row in source.execute(step, bindings):
                last = row[0]
                yield row[max(1, len(key)) :]
            return
        except (apsw.CorruptError, apsw.IOError):
            yield None
        if len(key) > 1:
            break
        found = _key_after(source, table, order, last)
        if found is None:
            break
        last = found  # its row is the broken one
    try:
        for row in source.execute(
            f"SELECT * FROM {table} ORDER BY {', '.join(f'{name} DESC' for name in order.split(', '))}"  # noqa: S608
        ):
            yield row
    except (apsw.CorruptError, apsw.IOError):
        return


def _key_after(source: apsw.Connection, table: str, key: str, last: Any) -> Any:
    """The key of the row after `last` without its other columns; None where it cannot be reached."""
    where, bindings = ("", ()) if last is None else (f"WHERE {key} > ?", (last,))
    try:
        found = sqlite.value(
            source,
            f"SELECT {key} FROM {table} {where} ORDER BY {key} LIMIT 1",  # noqa: S608 - names of our schema
            bindings,
        )
    except (apsw.CorruptError, apsw.IOError):
        return None
    return found
