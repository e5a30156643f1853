"""`mixdown erase` and `mixdown retrieve`: erasing people, and writing out all that is kept of them.

An erasure is a job, as over HTTP: where a server runs, its fold's process does it; where none runs, this
process does. It must never print an id that it was not given.
"""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from mixdown.cli.flags import data_dir_flag, group_key_flag, json_flag, project_flag
from mixdown.cli.folder import find_project, opened, settle, settle_and_tell, wake_fold
from mixdown.cli.output import Failure, confirm, emit, note, printable
from mixdown.model.values import clean_text

if TYPE_CHECKING:
    from mixdown.settings import Settings
    from mixdown.store.privacy import Deletion
    from mixdown.store.protocols import Store

POLL_S: Final = 0.1
_FILE_MODE: Final = 0o600


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@project_flag()
@group_key_flag("Erase groups of this group key, instead of users.")
@click.option("--wait", is_flag=True, help="Wait until no file of the data folder holds them any more.")
@click.option("--yes", is_flag=True, help="Do not ask (on a terminal).")
@json_flag
@data_dir_flag
def erase(
    *,
    ids: tuple[str, ...],
    project_ref: str,
    group_key: str,
    wait: bool,
    yes: bool,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Erase people: profile, history and all else that is kept of them.

    All that stands of these ids goes, and cannot be brought back but from a backup; what is sent afterwards
    is new. Up to 2,000 ids. Reads do not show them any more as soon as this is folded; the files are
    rewritten after that, by the running server or, where none runs, by this command. With --json:
    {"task_id": …, "status": …, "distinct_id_count": …, "report": …}.

    \b
    Examples:
      mixdown erase alice --project shop --wait
      mixdown erase Acme --group-key Company --project shop --yes
    """
    from mixdown.store.privacy import IDS_LIMIT

    named = tuple(dict.fromkeys(filter(None, map(clean_text, ids))))
    if not named or len(named) > IDS_LIMIT:
        raise Failure(f"name 1 to {IDS_LIMIT} ids")
    group_key = clean_text(group_key)
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        who = f"{len(named)} people" if len(named) > 1 else printable(named[0])
        question = f"Erase {who} from project {project.id}, {printable(project.name)}, for good?"
        confirm(question, yes=yes or not sys.stdin.isatty())
        settled = not settle(settings, store)  # else the fold begins it once it is not late
        job = _begin(store, project.id, group_key, named, at_once=settled)
        wake_fold(settings)
        _erase_here(settings)
        job = _after(store, job, wait=wait)
    if as_json:
        emit(_view(job))
        return
    note(f"erased {job.count}" if job.finished_ms else f"task {job.id}: {job.status}")
    for left in _view(job)["report"]["not_reached"] if job.finished_ms else ():
        note(f"not reached: {left}")


def _begin(store: Store, project: int, group_key: str, ids: tuple[str, ...], *, at_once: bool) -> Deletion:
    """A job, with `at_once` one whose records stand in the log. Raises `CatalogError`, `StoreError`."""
    from mixdown.store.privacy import PENDING, Deletion, begin, with_linked

    with_linked(store, project, group_key, ids)
    now_ms = _now_ms()
    job = Deletion(
        id=secrets.token_hex(16),
        project=project,
        group_key=group_key,
        ids=ids,
        count=len(ids),
        status=PENDING,
        requested_by="mixdown",
        compliance_type="GDPR",
        requested_ms=now_ms,
        due_ms=now_ms,
    )
    store.privacy.add_deletion(job)
    if at_once:
        begin(store, job, now_ms=now_ms)
    return job


def _erase_here(settings: Settings) -> None:
    """Fold and erase in this process, where no server does."""
    from mixdown.fold.erasure import erase_all
    from mixdown.fold.loop import catch_up
    from mixdown.model.errors import FolderBusyError
    from mixdown.store.sqlite import open_store
    from mixdown.store.sqlite.folder import FolderLock

    if settings.on_postgres:
        return  # whoever folds does it
    try:
        held = FolderLock(settings.data_dir).acquire(0)
    except FolderBusyError:
        return
    with held:
        folding = open_store(settings.data_dir, role="fold", create=False)
        try:
            catch_up(folding, history=settings.history_retention_days > 0)
            erase_all(folding)
        finally:
            folding.close()


def _after(store: Store, job: Deletion, *, wait: bool) -> Deletion:
    """The job as it is now, or with `wait` as it is when it is done."""
    from mixdown.store.privacy import SUCCESS

    while True:
        known = store.privacy.deletion(job.project, job.id)
        if known is None:
            raise Failure("the job is gone: the data folder was restored or changed meanwhile")
        if not wait or known.status == SUCCESS:
            return known
        time.sleep(POLL_S)


def _view(job: Deletion) -> dict[str, Any]:
    import orjson

    return {
        "task_id": job.id,
        "status": job.status,
        "distinct_id_count": job.count,
        "report": orjson.loads(job.report) if job.finished_ms else None,
    }


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@project_flag()
@group_key_flag("Groups of this group key, instead of users.")
@click.option(
    "--out", required=True, metavar="FILE", help="The JSON file to write, closed to others; - is stdout."
)
@data_dir_flag
def retrieve(
    *, ids: tuple[str, ...], project_ref: str, group_key: str, out: str, data_dir: str | None
) -> None:
    """Write out all that is kept of some people, as one JSON file.

    It holds their profiles and history, what links their ids, their events, the cohorts that list them, the
    refused records that name them, and the updates that the log still has, of all ids that are linked with
    these. A file that is there is not overwritten.

    \b
    Examples:
      mixdown retrieve alice --project shop --out alice.json
      mixdown retrieve Acme --group-key Company --project shop --out - | jq .profiles
    """
    from mixdown.query.person import person_file

    named = tuple(dict.fromkeys(filter(None, map(clean_text, ids))))
    if not named:
        raise Failure("name at least one id")
    with opened(data_dir) as (settings, store):
        project = find_project(store, project_ref)
        settle_and_tell(settings, store)
        pieces = person_file(store, project, clean_text(group_key), named, now_ms=_now_ms())
        with _sink(out) as sink:
            for piece in pieces:
                sink.write(piece)


def _sink(out: str) -> IO[bytes]:
    """Where the file goes. Raises `Failure` where there is one already."""
    if out == "-":
        return click.open_file("-", "wb")
    path = Path(out)
    try:
        path.touch(_FILE_MODE, exist_ok=False)
    except FileExistsError:
        raise Failure(f"{out} is there already", hint="Name another file, or remove this one.") from None
    return path.open("wb")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
