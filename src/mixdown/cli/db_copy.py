"""`mixdown db copy`: a data folder moves into PostgreSQL, while it is in use.

Takes the folder and the URL of an empty database. Tells on stderr how far it is, and at the end what was
compared. What it does is `cli.moving`.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mixdown.cli.flags import json_flag, settings_from
from mixdown.cli.output import Failure, confirm, emit, note, print_rows
from mixdown.cli.progress import ProgressLine, size_text

if TYPE_CHECKING:
    from mixdown.cli.moving import Outcome
    from mixdown.settings import Settings
    from mixdown.store.postgres.store import PostgresStore

TELL_EVERY_S: Final = 10.0
# For an estimate alone; measured on a small machine with the database on it.
_PROFILES_PER_S: Final = 15_000
_BYTES_PER_S: Final = 50_000_000


@click.command()
@click.option("--from", "folder", metavar="DIR", required=True, help="The data folder.")
@click.option(
    "--to",
    "url",
    envvar="MIXDOWN_DATABASE_URL",
    default="",
    metavar="URL",
    help="The database: empty, or with an unfinished copy of this folder. [MIXDOWN_DATABASE_URL]",
)
@click.option(
    "--database-password-file",
    "password_file",
    envvar="MIXDOWN_DATABASE_PASSWORD_FILE",
    default="",
    metavar="FILE",
    help="A file with its password. [MIXDOWN_DATABASE_PASSWORD_FILE]",
)
@click.option(
    "--events-url",
    envvar="MIXDOWN_EVENTS_URL",
    default="",
    metavar="PLACE",
    help="Where files of events are to lie: a folder that every node mounts, or s3://bucket/prefix."
    " [MIXDOWN_EVENTS_URL]",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 512),
    default=32,
    show_default=True,
    metavar="N",
    help="How many partitions the database has, where its tables are made now.",
)
@click.option("--switch", is_flag=True, help="Once it has caught up, close the folder and finish.")
@click.option("--quick-check", is_flag=True, help="Compare numbers of profiles, not each profile.")
@click.option("--dry-run", is_flag=True, help="Say what there is to copy and what it takes; change nothing.")
@click.option("--undo", is_flag=True, help="Have the folder take records again, and forget its copy.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
def copy(  # noqa: PLR0913 - each is a flag
    *,
    folder: str,
    url: str,
    password_file: str,
    events_url: str,
    partitions: int,
    switch: bool,
    quick_check: bool,
    dry_run: bool,
    undo: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Move a data folder into PostgreSQL without loss, while a server runs on it.

    Without --switch it copies all there is, follows the folder's log until little is left, and ends; the
    server goes on as ever. Give it again to catch up again, or after whatever ended it: it goes on where it
    was. Do not let more than a day pass: the log is kept so long (log_retention_hours), and deletions of
    people, which wait for the copy, wait no longer.

    With --switch it does the same, then closes the folder: from that moment on the server answers writes with
    503 (clients send again) and reads as before. What is left follows, both sides are compared, and the
    folder is marked, so that no server starts on it. Then start servers on the database, and send clients
    there. Nothing that was acknowledged is lost, and nothing is applied twice, retries included.

    The database must be empty, and no server may start on it before this is done. The folder's disk needs
    room for a copy of state.db and events.db. Query sessions are not copied; who signed in stays signed in.

    \b
    Examples:
      mixdown db copy --from ./mixdown-data --to postgresql://mixdown@db/mixdown --dry-run
      mixdown db copy --from ./mixdown-data --to postgresql://mixdown@db/mixdown --events-url s3://events
      mixdown db copy --from ./mixdown-data --to postgresql://… --events-url s3://events --switch
      mixdown db copy --from ./mixdown-data --undo
    """
    path = Path(folder).absolute()
    if undo:
        _undo(path, yes=yes)
        return
    settings = settings_from({"data_dir": str(path)})
    if not url and settings.on_postgres:
        from mixdown.store.opening import database_url

        url = database_url(settings)
    if not url:
        raise Failure(
            "no database is named", hint="Name it: --to postgresql://mixdown@db.example.com/mixdown"
        )
    settings = replace(settings, database_url="", database_url_file="")
    if dry_run:
        _estimate(settings, url, password_file, as_json=as_json)
        return
    done = _moved(
        settings, url, password_file, events_url, partitions, switch=switch, digests=not quick_check
    )
    _show(done, as_json=as_json, digests=not quick_check)


def _moved(
    settings: Settings,
    url: str,
    password_file: str,
    events_url: str,
    partitions: int,
    *,
    switch: bool,
    digests: bool,
) -> Outcome:
    from mixdown.cli.folder import fold_where_nobody_does
    from mixdown.cli.moving import Move
    from mixdown.store.sqlite import open_store

    source = open_store(settings.data_dir, role="cli", create=False)
    telling = _Telling()
    try:
        target = _target(settings, url, password_file, events_url, partitions)
        try:
            move = Move(
                source,
                target,
                tell=telling.tell,
                history=settings.history_retention_days > 0,
                event_days=settings.event_retention_days,
                fold_here=lambda: fold_where_nobody_does(settings),
            )
            return move.run(switch=switch, digests=digests)
        finally:
            target.close()
    finally:
        telling.clear()
        source.close()


def _target(
    settings: Settings, url: str, password_file: str, events_url: str, partitions: int
) -> PostgresStore:
    from mixdown.store.postgres import open_postgres
    from mixdown.store.shelves import shelf_of

    return open_postgres(
        url,
        role="cli",
        create=True,
        pool_size=8,
        password_file=password_file,
        partitions=partitions,
        shelf=shelf_of(events_url, settings.data_dir) if events_url else None,
        filling=True,
    )


def _undo(folder: Path, *, yes: bool) -> None:
    from mixdown.cli.moving import undo
    from mixdown.store.moving.source import marker_of

    if not folder.is_dir():
        raise Failure(f"there is no folder {folder}")
    marker = marker_of(folder)
    if marker is not None and marker.state == "moved":
        confirm(
            f"What came to {marker.to} since the switch is not in {folder}. Let it take records again?",
            yes=yes,
        )
    note(f"{folder} takes records again" if undo(folder) else f"{folder} is not being copied: nothing to do")


def _estimate(settings: Settings, url: str, password_file: str, *, as_json: bool) -> None:
    """What there is, what it takes, and whether the database can have it."""
    from mixdown.store.moving.sizes import sizes_of
    from mixdown.store.postgres.connection import Database
    from mixdown.store.postgres.filling import copy_in, refuse_filled
    from mixdown.store.postgres.migrating import waiting

    found = sizes_of(settings.data_dir)
    database = Database(url, pool_size=1, application="mixdown db", password_file=password_file)
    try:
        if not waiting(database) and copy_in(database) is None:
            refuse_filled(database)
        what = database.what
    finally:
        database.close()
    free = shutil.disk_usage(settings.data_dir).free
    seconds = found.profiles / _PROFILES_PER_S + (found.history_bytes + found.events_bytes) / _BYTES_PER_S
    if as_json:
        emit({**found.as_dict(), "free_bytes": free, "estimated_s": round(seconds)})
        return
    note(f"{what} can be reached, and is empty or has an unfinished copy")
    rows: list[tuple[str, Any]] = [
        ("profiles", f"{found.profiles:,}"),
        ("history", size_text(found.history_bytes)),
        ("events", f"{found.events:,}, {size_text(found.events_bytes)} in files"),
        ("records in the log", f"{found.log_records:,}"),
        ("room that the copy takes on the folder's disk", size_text(found.copied_bytes)),
        ("free there", size_text(free)),
        ("time, by a small machine's measure", _span(seconds)),
    ]
    print_rows(("what", "how much"), rows)


def _show(done: Outcome, *, as_json: bool, digests: bool) -> None:
    from mixdown.store.moving.checks import rows_in

    if as_json:
        emit(
            {
                "switched": done.switched,
                "rows": done.rows,
                "log_position": done.shipped,
                "closed_s": round(done.closed_s, 3),
                "compared": [
                    {"project": project, "what": what, "rows": rows, "digest": digest}
                    for project, what, rows, digest in rows_in(done.found)
                ],
            }
        )
        return
    if not done.switched:
        note("copied, and caught up with the log; give the command again with --switch to finish")
        return
    print_rows(("project", "what", "rows", "digest"), rows_in(done.found))
    alike = "numbers and digests" if digests else "numbers"
    note(f"{alike} are alike; the folder took no records for the last {_span(done.closed_s)}")
    note("start servers on the database now, and send clients there")


class _Telling:
    """How far it is: a line on a terminal, elsewhere a line now and then."""

    def __init__(self) -> None:
        self._line = ProgressLine()
        self._what = ""
        self._began = self._told = 0.0
        self._first = 0

    def tell(self, what: str, done: int, total: int) -> None:
        """So many of so many."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._told, self._first = what, now, now, done
            if not sys.stderr.isatty():
                note(f"{what}: {total:,}")
        rate = (done - self._first) / max(now - self._began, 1e-3)
        text = f"{what}: {done:,} of {total:,}, {rate:,.0f}/s"
        if rate and total > done:
            text += f", {_span((total - done) / rate)} left"
        if sys.stderr.isatty():
            self._line.tell(text)
        elif now - self._told > TELL_EVERY_S:
            self._told = now
            note(text)

    def clear(self) -> None:
        """Nothing more is told."""
        self._line.clear()


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
