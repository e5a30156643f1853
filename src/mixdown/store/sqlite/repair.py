"""Repairs of a data folder on which no server runs: what is wrong, what would be done, what is lost by it.

Enters: a folder whose lock the caller holds. Leaves: `Repair`s, one after the other, each found after those
before it were made. A repair changes nothing until `make` is called, keeps damaged bytes beside the sound
ones, and never lets a position be used twice (DESIGN §4). What only a backup can bring back is told as such.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import apsw
import msgspec

from mixdown.model.errors import StoreError
from mixdown.store.chunk import PLAIN, checksum, encode_filter, join_segments
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite import event_repair
from mixdown.store.sqlite.folder import FILE_MODE, FOLDER_MODE, RESTORING, sync_folder
from mixdown.store.sqlite.rebuild import discard, integrity_faults, put_in_place, rebuild, set_aside
from mixdown.store.sqlite.repairing import Repair, new_file, reading, remains, tail_and_head, writing
from mixdown.store.sqlite.rewriting import kinds_of_file
from mixdown.store.sqlite.store import wal_lost

LASTING: Final = (sqlite.LOG, sqlite.CATALOG, sqlite.STATE)
ALL: Final = (*LASTING, sqlite.EVENTS)
STRAYS: Final = (
    "server.json",
    "server.new",
    "wake.sock",
    "events.sock",
    "log.db.rebuilt",
    "state.db.rebuilt",
    "catalog.db.rebuilt",
    "events.db.rebuilt",
)
DAMAGED_FOLDER: Final = "damaged-chunks"
_FROM_BACKUP: Final = "Restore the folder from a backup: nothing else in it holds what this file held."
_SQLITE_MAGIC: Final = b"SQLite format 3\x00"


def repairs(folder: Path) -> Iterator[Repair]:
    """What can be repaired, in the order in which it must be. Ask for the next when the last one was made.

    It ends at the first that cannot be made, or was not: what follows would rest on it. Raises `StoreError`.
    """
    steps = (
        _restoring,
        _modes,
        _strays,
        _wals,
        _no_databases,
        _too_new,
        _missing,
        event_repair.missing_list,
        _pages,
        _chunks,
        _head,
        _watermark,
        event_repair.watermark,
        event_repair.broken_files,
        _counts,
    )
    for step in steps:
        for found in step(folder):
            yield found
            if found.make is None:
                return


def _restoring(folder: Path) -> Iterator[Repair]:
    if (folder / RESTORING).exists():
        action = "Run `mixdown restore` with the same file again: it starts anew."
        yield Repair("folder", "a restore into this folder has not finished", action)


def _modes(folder: Path) -> Iterator[Repair]:
    def close() -> None:
        folder.chmod(FOLDER_MODE)
        for path in open_files:
            path.chmod(FILE_MODE)

    open_files = [
        path for path in folder.iterdir() if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if open_files or stat.S_IMODE(folder.stat().st_mode) != FOLDER_MODE:
        names = ", ".join(sorted(path.name for path in open_files)) or "the folder"
        yield Repair("modes", f"open to other users: {names}", "close them (0700 and 0600)", make=close)


def _strays(folder: Path) -> Iterator[Repair]:
    found = [folder / name for name in STRAYS if (folder / name).exists() or (folder / name).is_symlink()]

    def remove() -> None:
        for path in found:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)

    if found:
        names = ", ".join(path.name for path in found)
        yield Repair("strays", f"left by a process that was killed: {names}", "remove them", make=remove)


def _wals(folder: Path) -> Iterator[Repair]:
    for kind in ALL:
        path = folder / kind.file_name
        if not wal_lost(path):
            continue
        yield Repair(
            "wal",
            f"{path.name}-wal is missing, and {path.name} was in use without it",
            f"go on with what {path.name} holds",
            f"what was written to {path.name} last; how much, nothing in the folder tells",
            make=path.with_name(f"{path.name}-shm").unlink,
        )


def _no_databases(folder: Path) -> Iterator[Repair]:
    for kind in ALL:
        path = folder / kind.file_name
        if not path.exists() or path.stat().st_size == 0 or _is_database(path):
            continue
        yield Repair(
            "files",
            f"{path.name} is no database",
            "give it another name, and see what can be made anew",
            make=lambda path=path: _ignore(set_aside(path)),  # type: ignore[misc]
        )


def _ignore(_: object) -> None:
    """What a repair returns is told by its text."""


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC


def _too_new(folder: Path) -> Iterator[Repair]:
    """Files of a newer Mixdown: what follows would judge and change them by rules that are not theirs."""
    told = []
    for kind in ALL:
        version, known = _schema(folder / kind.file_name), len(sqlite.migrations(kind))
        if version > known:
            told.append(
                f"{kind.file_name} has schema {version}, and this Mixdown knows schemas up to {known}"
            )
    if told:
        yield Repair(
            "schemas", "; ".join(told), "A newer Mixdown wrote it: repair the folder with that version."
        )


def _missing(folder: Path) -> Iterator[Repair]:
    missing = {kind.name: kind for kind in LASTING if not _schema(folder / kind.file_name)}
    if not missing or len(missing) == len(LASTING):
        return
    names = ", ".join(kind.file_name for kind in missing.values())
    if "catalog" in missing or len(missing) > 1:
        yield Repair("files", f"{names} is missing or empty", _FROM_BACKUP)
    elif "log" in missing:
        with reading(folder, sqlite.STATE) as state:
            watermark = max(_watermark_of(state), event_repair.events_watermark(folder))
        yield Repair(
            "files",
            "log.db is missing or empty",
            f"make a new one that goes on at position {watermark}{_and_keep(folder / sqlite.LOG.file_name)}",
            "records that were acknowledged and not folded yet, all refusals, and the replay of older ones",
            make=lambda: _new_log(folder, watermark),
        )
    else:
        with reading(folder, sqlite.LOG) as log:
            tail, head = tail_and_head(log)
        if tail > 0:
            problem = f"state.db is missing or empty, and the log reaches back to position {tail} only"
            yield Repair("files", problem, _FROM_BACKUP)
            return
        yield Repair(
            "files",
            "state.db is missing or empty",
            f"make a new one, and let the next start fold all {head} positions of the log into it"
            + _and_keep(folder / sqlite.STATE.file_name),
            make=lambda: new_file(folder, sqlite.STATE),
        )


def _schema(path: Path) -> int:
    """The number of a file's schema; 0 where it is missing or has none."""
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with (
        sqlite.store_errors(str(path)),
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection,
    ):
        return int(connection.pragma("user_version"))


def _and_keep(path: Path) -> str:
    return ", and keep what there is of the old one" if remains(path) else ""


def _new_log(folder: Path, position: int) -> None:
    new_file(folder, sqlite.LOG)
    with writing(folder, sqlite.LOG) as log:
        sqlite.rows(log, "UPDATE head SET position = ?", (position,))


def _pages(folder: Path) -> Iterator[Repair]:
    """Broken pages: a new file of what can be read; state and catalog only where that is everything."""
    for kind in ALL:
        path = folder / kind.file_name
        if not path.exists():  # of a release before events
            continue
        faults = integrity_faults(path, whole=True)
        if not faults:
            continue
        problem = f"{path.name} has broken pages: {'; '.join(faults[:3])}"
        try:
            new = rebuild(path, kind)
        except StoreError as error:
            yield Repair("pages", f"{problem}; and it cannot be rebuilt: {error.message}", _FROM_BACKUP)
            continue
        if new.torn and kind is not sqlite.LOG:
            discard(new)
            yield Repair("pages", f"{problem}; rows of {', '.join(new.torn)} cannot be read", _FROM_BACKUP)
            continue
        kept = ", ".join(f"{count} {table}" for table, count in new.rows.items() if count)
        lost = [f"what could not be read of {', '.join(new.torn)}"] if new.torn else []
        lost += [
            f"what older rows of {table} held whose key stands there again: {count} rows"
            for table, count in new.doubled.items()
        ]
        if new.headless:
            lost.append("where the log ends: its chunks tell it, unless its last ones are lost too")
        yield Repair(
            "pages",
            problem,
            f"put a new {path.name} in its place, of all that can be read ({kept}), and keep the damaged one",
            "; ".join(lost),
            make=lambda new=new, path=path: _ignore(put_in_place(new, path)),  # type: ignore[misc]
        )


class _Bad(msgspec.Struct, frozen=True):
    """A chunk whose checksum does not match, as it stands in the file; it covers `first` to `end - 1`."""

    first: int
    end: int
    time_ms: int
    body: bytes


def _chunks(folder: Path) -> Iterator[Repair]:
    with reading(folder, sqlite.STATE) as state:
        watermark = _watermark_of(state)
    with reading(folder, sqlite.LOG) as log:
        bad = list(_bad_chunks(log))
    if not bad:
        return
    unfolded = sum(chunk.end - max(chunk.first, watermark) for chunk in bad if chunk.end > watermark)
    lost = f"{unfolded} records that were not folded yet" if unfolded else ""
    spans = ", ".join(f"{chunk.first} to {chunk.end - 1}" for chunk in bad[:5]) + (", …" if bad[5:] else "")
    yield Repair(
        "chunks",
        f"{len(bad)} chunks are damaged: positions {spans}",
        f"put empty ones in their place, and keep their bytes in {DAMAGED_FOLDER}/",
        lost,
        make=lambda: _empty_chunks(folder, bad),
    )


def _bad_chunks(log: apsw.Connection) -> Iterator[_Bad]:
    """Damaged chunks in order; each covers what lies before the next, its own count may be damaged too."""
    head = int(sqlite.value(log, "SELECT position FROM head"))
    newest_ms = 0
    open_first: tuple[int, bytes] | None = None
    last = -1
    kinds_sql = kinds_of_file(log)
    while True:
        row = sqlite.value(
            log,
            f"SELECT first, count, time_ms, version, checksum, filter, body, {kinds_sql} FROM chunks"  # noqa: S608 - ours
            " WHERE first > ? ORDER BY first LIMIT 1",
            (last,),
        )
        if open_first is not None:
            end = row[0] if row is not None else max(head, open_first[0] + 1)
            yield _Bad(open_first[0], end, newest_ms, open_first[1])
            open_first = None
        if row is None:
            return
        last, count, time_ms, version, seal, id_filter, body, kinds = row
        if checksum(last, count, time_ms, version, id_filter, body, kinds) == seal:
            newest_ms = time_ms
        else:
            open_first = (last, body)


def _empty_chunks(folder: Path, bad: list[_Bad]) -> None:
    kept = folder / DAMAGED_FOLDER
    kept.mkdir(mode=FOLDER_MODE, exist_ok=True)
    for chunk in bad:
        fd = os.open(kept / f"{chunk.first}.chunk", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with os.fdopen(fd, "wb") as file:
            file.write(chunk.body)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(kept)
    sync_folder(folder)
    body, no_ids = join_segments(()), encode_filter(())
    with writing(folder, sqlite.LOG) as log:
        kinds_sql = kinds_of_file(log)
        for chunk in bad:
            count = chunk.end - chunk.first
            kinds = sqlite.value(
                log,
                f"SELECT {kinds_sql} FROM chunks WHERE first = ?",  # noqa: S608 - our schema
                (chunk.first,),
            )
            seal = checksum(chunk.first, count, chunk.time_ms, PLAIN, no_ids, body, kinds)
            sqlite.rows(
                log,
                "UPDATE chunks SET count = ?, time_ms = ?, version = ?, checksum = ?, filter = ?, body = ?"
                " WHERE first = ?",
                (count, chunk.time_ms, PLAIN, seal, no_ids, body, chunk.first),
            )
            sqlite.rows(
                log,
                "INSERT OR REPLACE INTO damaged_chunks VALUES (?, ?, ?)",
                (chunk.first, count, f"put aside by a repair, as {DAMAGED_FOLDER}/{chunk.first}.chunk"),
            )
        sqlite.rows(log, "UPDATE head SET held_bytes = (SELECT coalesce(sum(length(body)), 0) FROM chunks)")


def _head(folder: Path) -> Iterator[Repair]:
    with reading(folder, sqlite.LOG) as log:
        head, end = sqlite.value(
            log,
            "SELECT position, coalesce((SELECT first + count FROM chunks ORDER BY first DESC LIMIT 1), 0)"
            " FROM head",
        )
    if end > head:
        yield Repair(
            "head",
            f"log.db holds chunks up to position {end}, and says that it ends at {head}",
            f"move the log's head to {end}",
            make=lambda: _move_head(folder, end),
        )


def _watermark(folder: Path) -> Iterator[Repair]:
    with reading(folder, sqlite.STATE) as state:
        watermark = _watermark_of(state)
    with reading(folder, sqlite.LOG) as log:
        tail, head = tail_and_head(log)
    furthest = max(watermark, event_repair.events_watermark(folder))
    if furthest > head:
        names = " and ".join(
            name
            for name, place in (("state.db", watermark), ("events.db", furthest))
            if place == furthest and (name == "state.db" or watermark < furthest)
        )
        yield Repair(
            "watermark",
            f"{names} has taken the log up to position {furthest}, and log.db ends at {head}",
            f"move the log's head to {furthest}, so that no position is used again",
            f"{furthest - head} records of the log, positions {head} to {furthest - 1}: they are in the"
            f" profiles and events, and cannot be replayed; records from {furthest} on, if any were"
            " acknowledged; and the refusals of that time",
            make=lambda: _move_head(folder, furthest),
        )
    elif watermark < tail:
        yield Repair(
            "watermark",
            f"state.db has folded the log up to position {watermark}, and log.db begins at {tail}",
            f"let the fold go on at {tail}",
            f"the records at positions {watermark} to {tail - 1}: {tail - watermark} of them",
            make=lambda: _move_watermark(folder, tail),
        )


def _counts(folder: Path) -> Iterator[Repair]:
    """Sums that are kept beside what they count."""
    with reading(folder, sqlite.LOG) as log:
        held, real = sqlite.value(
            log, "SELECT held_bytes, (SELECT coalesce(sum(length(body)), 0) FROM chunks) FROM head"
        )
        told = set(sqlite.rows(log, "SELECT * FROM refusal_counts WHERE records > 0"))
        counted = set(sqlite.rows(log, _COUNT_REFUSALS))
    if held != real or told != counted:
        yield Repair(
            "counts",
            "the sums in log.db do not match what they count",
            "count anew",
            make=lambda: _count_anew(folder),
        )


_COUNT_REFUSALS: Final = "SELECT project, count(*), sum(size_bytes) FROM refusals GROUP BY project"


def _count_anew(folder: Path) -> None:
    with writing(folder, sqlite.LOG) as log:
        sqlite.rows(log, "UPDATE head SET held_bytes = (SELECT coalesce(sum(length(body)), 0) FROM chunks)")
        sqlite.rows(log, "DELETE FROM refusal_counts")
        sqlite.rows(log, f"INSERT INTO refusal_counts {_COUNT_REFUSALS}")


def _move_head(folder: Path, position: int) -> None:
    with writing(folder, sqlite.LOG) as log:
        sqlite.rows(log, "UPDATE head SET position = ?", (position,))


def _move_watermark(folder: Path, position: int) -> None:
    with writing(folder, sqlite.STATE) as state:
        sqlite.rows(state, "UPDATE watermarks SET position = ? WHERE reader = 'profiles'", (position,))


def _watermark_of(state: apsw.Connection) -> int:
    return int(sqlite.value(state, "SELECT position FROM watermarks WHERE reader = 'profiles'"))
