"""What `mixdown doctor` looks at: each check takes the settings and gives findings.

Everything is opened read-only: no schema is migrated, no mode mended, no chunk set aside by looking at it.
"""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import apsw

from mixdown.cli.event_checks import check_events, check_parquet, has_events
from mixdown.cli.findings import reading
from mixdown.cli.folder import running_server
from mixdown.cli.progress import size_text
from mixdown.model.errors import MixdownError, StoreError
from mixdown.query.findings import Finding, check_disk, check_modes, check_versions
from mixdown.server.first_start import SHORT_SECRET_CHARS, short_presets
from mixdown.settings import Settings, unknown_variables
from mixdown.store.chunk import CHUNK_VERSION, checksum
from mixdown.store.sqlite.connection import CATALOG, EVENTS, LOG, STATE, Kind, migrations
from mixdown.store.sqlite.folder import RESTORING, unfinished_restore
from mixdown.store.sqlite.rebuild import integrity_faults
from mixdown.store.sqlite.rewriting import kinds_of_file
from mixdown.store.sqlite.store import wal_lost

Tell = Callable[[str], None]
"""Told how far a long check is, in words for people."""

LATE_RECORDS: Final = 100_000
ANSWER_TIMEOUT_S: Final = 5.0
DAMAGE_SHOWN: Final = 5
WHOLE_READS: Final = ("pages", "chunks", "parquet")


def kinds_of(folder: Path) -> tuple[Kind, ...]:
    """The databases that a folder must have."""
    return (LOG, CATALOG, STATE, EVENTS) if has_events(folder) else (LOG, CATALOG, STATE)


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Variables that are no settings, and presets that can be guessed."""
    unknown = unknown_variables(os.environ)
    short = short_presets(settings)
    if unknown:
        yield Finding(
            "settings", "warn", f"not a setting: {', '.join(unknown)}", "`mixdown config` lists all settings."
        )
    if short:
        yield Finding(
            "settings",
            "warn",
            f"short enough to be guessed: {', '.join(short)}",
            f"Use {SHORT_SECRET_CHARS} characters or more, unless only this machine can reach the server.",
        )
    if not unknown and not short:
        yield Finding("settings", "ok", "no unknown variables, no short presets")


def check_geo(settings: Settings) -> Iterator[Finding]:
    """Whether the geo database can be read."""
    from mixdown.ingest.geo import open_geo

    try:
        open_geo(settings.geo_database)
    except MixdownError as error:
        yield Finding("geo", "fail", error.message, error.hint)
    else:
        yield Finding("geo", "ok", settings.geo_database or "the built-in database: countries only")


def check_files(settings: Settings) -> Iterator[Finding]:
    """Whether a restore was cut off, and whether a -wal was taken away from a file in use."""
    folder = settings.data_dir
    found = False
    if (folder / RESTORING).exists():
        found = True
        error = unfinished_restore(folder)
        yield Finding("files", "fail", error.message, error.hint)
    for kind in kinds_of(settings.data_dir):
        if wal_lost(folder / kind.file_name):
            found = True
            yield Finding(
                "files",
                "fail",
                f"{kind.file_name}-wal is missing: it held what was written last",
                "Put it back; or restore the folder from a backup, or go on without it: doctor --repair.",
            )
    aside = sorted(path.name for path in folder.glob("*.damaged-*") if path.suffix.startswith(".damaged"))
    if aside:
        found = True
        hint = "Repairs have set them aside; remove them when nothing in them is wanted any more."
        yield Finding("files", "warn", f"damaged files: {', '.join(aside)}", hint)
    if not found:
        yield Finding("files", "ok", "no file was cut off or set aside")


def check_schemas(settings: Settings) -> Iterator[Finding]:
    """Whether every file is there, and this Mixdown knows its schema."""
    told = []
    for kind in kinds_of(settings.data_dir):
        path = settings.data_dir / kind.file_name
        if not path.exists() or path.stat().st_size == 0:
            what = "missing" if not path.exists() else "empty"
            hint = "Restore the folder from a backup, or see what can be rebuilt: mixdown doctor --repair."
            yield Finding("schemas", "fail", f"{kind.file_name} is {what}", hint)
            continue
        newest = len(migrations(kind))
        with reading(settings.data_dir, kind) as connection:
            version = int(connection.pragma("user_version"))
        if version > newest:
            hint = "It was written by a newer Mixdown: use that version."
            yield Finding(
                "schemas", "fail", f"{kind.file_name} has schema {version}, known are up to {newest}", hint
            )
        told.append(
            f"{kind.name} {version}"
            + (f" (of {newest}: the next start migrates)" if version < newest else "")
        )
    if told:
        yield Finding("schemas", "ok", ", ".join(told))


def check_watermark(settings: Settings) -> Iterator[Finding]:
    """Whether state and log are of one time, and how far the fold is behind."""
    with reading(settings.data_dir, STATE) as connection:
        watermark = int(connection.execute("SELECT position FROM watermarks WHERE reader = 'profiles'").get)
    with reading(settings.data_dir, LOG) as connection:
        tail, head, end = connection.execute(
            "SELECT coalesce((SELECT min(first) FROM chunks), position), position,"
            " coalesce((SELECT first + count FROM chunks ORDER BY first DESC LIMIT 1), 0) FROM head"
        ).get
    behind = head - watermark
    places = f"log head {head}, watermark {watermark}"
    if end > head:
        hint = "Restore the folder from a backup, or mend it: mixdown doctor --repair."
        yield Finding("watermark", "fail", f"{places}, and the log holds chunks up to {end}", hint)
    elif behind < 0:
        hint = "Restore the folder from a backup, or go on from what is there: mixdown doctor --repair."
        yield Finding("watermark", "fail", f"{places}: the state has folded what the log never held", hint)
    elif watermark < tail:
        hint = "Restore the folder from a backup, or go on without it: mixdown doctor --repair."
        message = f"{places}, and the log begins at {tail}: what lies between is gone"
        yield Finding("watermark", "fail", message, hint)
    elif behind > LATE_RECORDS:
        hint = "If this grows while the server runs, look at its log for the fold's errors."
        yield Finding("watermark", "warn", f"{places}: {behind} records wait for the fold", hint)
    else:
        yield Finding("watermark", "ok", f"{places}: {behind or 'no'} records wait for the fold")


def check_pages(settings: Settings, tell: Tell) -> Iterator[Finding]:
    """SQLite's own check of every page of every file; rows are matched with their indexes by `--repair`."""
    sizes = []
    for kind in kinds_of(settings.data_dir):
        path = settings.data_dir / kind.file_name
        if kind == EVENTS and not path.exists():
            continue
        size = size_text(path.stat().st_size)
        faults = integrity_faults(path, tell=partial(tell, f"checking {kind.file_name}, {size}"))
        sizes.append(f"{kind.file_name} {size}")
        if faults:
            yield Finding(
                "pages",
                "fail",
                f"{kind.file_name} has broken pages: {'; '.join(faults[:DAMAGE_SHOWN])}",
                "Check both disk and memory. Restore the folder from a backup, or see what can be rebuilt:"
                " mixdown doctor --repair.",
            )
            return
    yield Finding("pages", "ok", f"every page is sound: {', '.join(sizes)}")


def check_chunks(settings: Settings, tell: Tell) -> Iterator[Finding]:
    """Whether the checksum of every chunk in the log matches."""
    with reading(settings.data_dir, STATE) as connection:
        watermark = int(connection.execute("SELECT position FROM watermarks WHERE reader = 'profiles'").get)
    with reading(settings.data_dir, LOG) as connection:
        total = int(connection.execute("SELECT count(*) FROM chunks").get)
        checked, damaged = 0, []
        position = -1
        while (place := _next_chunk(connection, position)) is not None:
            first, count = place
            reason = _chunk_fault(connection, first)
            if reason:
                folded = "already folded" if first + count <= watermark else "not folded yet"
                damaged.append(f"{first} to {first + count - 1} ({folded}): {reason}")
            checked += 1
            tell(f"checking chunk {checked} of {total}")
            position = first
    if damaged:
        shown = "; ".join(damaged[:DAMAGE_SHOWN]) + ("; …" if len(damaged) > DAMAGE_SHOWN else "")
        yield Finding(
            "chunks",
            "fail",
            f"{len(damaged)} of {checked} chunks are damaged: positions {shown}",
            "Bytes have changed on the disk or in memory: check both. What is folded is in the profiles; "
            "restore the rest from a backup. The server steps over damaged chunks and goes on; "
            "`mixdown doctor --repair` takes them out.",
        )
    else:
        yield Finding("chunks", "ok", f"{checked} chunks, and every checksum matches")


def _next_chunk(connection: apsw.Connection, after: int) -> tuple[int, int] | None:
    found: tuple[int, int] | None = connection.execute(
        "SELECT first, count FROM chunks WHERE first > ? ORDER BY first LIMIT 1", (after,)
    ).get
    return found


def _chunk_fault(connection: apsw.Connection, first: int) -> str:
    """What is wrong with a chunk; "" where nothing is, or where it was trimmed meanwhile."""
    try:
        row = connection.execute(
            "SELECT count, time_ms, version, checksum, filter, body,"  # noqa: S608 - our schema
            f" {kinds_of_file(connection)} FROM chunks WHERE first = ?",
            (first,),
        ).get
    except apsw.CorruptError as error:
        return f"its pages are damaged: {error}"
    if row is None:
        return ""
    count, time_ms, version, seal, id_filter, body, kinds = row
    if checksum(first, count, time_ms, version, id_filter, body, kinds) != seal:
        return "its checksum does not match"
    return f"its format {version} is newer than this Mixdown" if version > CHUNK_VERSION else ""


def check_server(settings: Settings) -> Iterator[Finding]:
    """Whether a server runs on the folder and says that it can append."""
    found = running_server(settings.data_dir)
    if found is None:
        yield Finding("server", "warn", "no server runs on this folder", "Start one with `mixdown serve`.")
        return
    who = f"process {found['pid']}"
    if "address" not in found:
        hint = "It may be starting, ending, or a command that folds: try again in some seconds."
        yield Finding("server", "warn", f"{who} holds the folder, and has not said that it is ready", hint)
        return
    address = str(found["address"])
    try:
        status, reasons = _readyz(address)
    except (OSError, ValueError) as error:
        yield Finding(
            "server", "fail", f"{who} at {address} does not answer: {error}", "Look at the server's log."
        )
        return
    if status == 200:
        yield Finding("server", "ok", f"{who} at {address} is ready")
    else:
        yield Finding(
            "server", "fail", f"{who} at {address} takes no writes: {reasons}", "Look at the server's log."
        )


def _readyz(address: str) -> tuple[int, str]:
    """The status of `/readyz`, and the reasons that it gives. Raises `OSError` and `ValueError`."""
    context = ssl.create_default_context()
    context.check_hostname = False  # only "is it there" is asked; nothing secret travels
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(f"{address.rstrip('/')}/readyz", timeout=ANSWER_TIMEOUT_S) as reply:
            return int(reply.status), ""
    except urllib.error.HTTPError as error:
        with error:
            answer: Any = json.loads(error.read(65536))
        return error.code, ", ".join(answer.get("reasons", [])) if isinstance(answer, dict) else ""


def all_findings(settings: Settings, *, has_data: bool, fast: bool, tell: Tell) -> Iterator[Finding]:
    """Every check in turn; one that cannot be made is a finding too. `fast` leaves out what reads all."""
    yield from check_versions()
    yield from check_settings(settings)
    yield from check_geo(settings)
    if not has_data:
        yield Finding(
            "folder",
            "fail",
            f"there is no Mixdown data in {settings.data_dir.absolute()}",
            "Name the server's folder with --data-dir or MIXDOWN_DATA_DIR; `mixdown serve` makes a new one.",
        )
        return
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("modes", lambda: check_modes(settings)),
        ("files", lambda: check_files(settings)),
        ("schemas", lambda: check_schemas(settings)),
        ("watermark", lambda: check_watermark(settings)),
        ("events", lambda: check_events(settings)),
        ("pages", lambda: check_pages(settings, tell)),
        ("chunks", lambda: check_chunks(settings, tell)),
        ("parquet", lambda: check_parquet(settings, tell)),
        ("disk", lambda: check_disk(settings)),
        ("server", lambda: check_server(settings)),
    )
    for name, check in checks:
        if fast and name in WHOLE_READS:
            continue
        try:
            yield from check()
        except StoreError as error:
            yield Finding(name, "fail", error.message, error.hint)
        except OSError as error:
            yield Finding(name, "fail", f"{error.filename or settings.data_dir}: {error.strerror}")
