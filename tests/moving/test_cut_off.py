"""A copy that is cut off anywhere goes on, one that cannot go on says so, and a wrong one is found out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from click.testing import CliRunner, Result

from mixdown.cli.root import root
from mixdown.fold.loop import catch_up
from mixdown.model.errors import StoreDownError, StoreError
from mixdown.store.chunk import FOR_ALL, FOR_PROFILES
from mixdown.store.moving import rows, shipping, source
from mixdown.store.postgres import filling, open_postgres
from mixdown.store.postgres.connection import Cursor, Database
from mixdown.store.sqlite import open_store
from mixdown.store.sqlite.store import SqliteStore
from tests.moving.world import Sender, answers, furnish
from tests.serving import SECRET, TOKEN, launch
from tests.store.postgres import Server as Postgres
from tests.store.postgres import postgres_server
from tests.store.support import append, appending

pytestmark = pytest.mark.slow
PARTITIONS: Final = 3
RUNS_LIMIT: Final = 100
ELSEWHERE: Final = {"MIXDOWN_DATABASE_URL": ""}


class KilledError(BaseException):
    """Nothing but the run's end follows."""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgres]:
    """A server for these tests."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose server was killed: its readers are behind its log, each by another part."""
    folder = tmp_path_factory.mktemp("left") / "folder"
    server = launch(folder, environment=ELSEWHERE)
    try:
        server.command("project", "set", "default", "--late-events", "accept", "--json")
        sender = Sender(server, TOKEN, 7)
        for _ in range(5):
            sender.send(80)
        furnish(server, server.project_id)
        sender.send(80)
    finally:
        server.kill()
    return folder


@pytest.fixture
def folder(left: Path, tmp_path: Path) -> Path:
    """A copy of it, to be moved."""
    return Path(shutil.copytree(left, tmp_path / "folder", ignore=shutil.ignore_patterns("*.sock")))


def copied(folder: Path, url: str, *arguments: str) -> Result:
    """Run `mixdown db copy` in this process, with a place for files of events beside the folder."""
    events = folder.with_name("events")
    given = ["db", "copy", "--from", str(folder), "--to", url, "--events-url", str(events), *arguments]
    return CliRunner().invoke(root, [*given, "--partitions", str(PARTITIONS)], env=ELSEWHERE)


def good(result: Result) -> Result:
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def answers_of(folder: Path, url: str, where: Path) -> dict[str, Any]:
    """What a server on the database answers."""
    variables = {"MIXDOWN_DATABASE_URL": url, "MIXDOWN_EVENTS_URL": str(folder.with_name("events"))}
    server = launch(where, environment=variables)
    try:
        return answers(server, server.project_id, SECRET)
    finally:
        server.stop()


def answers_before(left: Path, where: Path) -> dict[str, Any]:
    """What a server on the folder would have answered."""
    server = launch(
        Path(shutil.copytree(left, where, ignore=shutil.ignore_patterns("*.sock"))), environment=ELSEWHERE
    )
    try:
        return answers(server, server.project_id, SECRET)
    finally:
        server.stop()


def killing(monkeypatch: pytest.MonkeyPatch, *, at: int, committed: bool) -> None:
    """End a run at one of the transactions that write a step, or take over the log: behind it, or within."""
    writing, step, begin = filling.Steps.writing, shipping.Shipping.step, filling.begin
    left = [at]

    def is_last() -> bool:
        left[0] -= 1
        return left[0] <= 0

    @contextmanager
    def killed_writing(
        self: filling.Steps, name: str, place: Any, count: int, *, done: bool = False
    ) -> Iterator[Cursor]:
        last = is_last()
        with writing(self, name, place, count, done=done) as cursor:
            yield cursor
            if last and not committed:
                raise KilledError
        if last:
            raise KilledError

    def killed_step(self: shipping.Shipping) -> int:
        taken = step(self)
        if taken and is_last():
            raise KilledError
        return taken

    def killed_begin(database: Database, copy: filling.Copy) -> None:
        begin(database, copy)
        if is_last():
            raise KilledError

    monkeypatch.setattr(filling.Steps, "writing", killed_writing)
    monkeypatch.setattr(shipping.Shipping, "step", killed_step)
    monkeypatch.setattr(filling, "begin", killed_begin)


def test_a_copy_killed_after_each_transaction_and_within_goes_on(
    postgresql: Postgres, folder: Path, left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.empty()
    monkeypatch.setattr(rows, "LOT_ROWS", 70)
    monkeypatch.setattr(shipping, "RECORDS_AT_ONCE", 150)
    kills = 0
    for run in range(RUNS_LIMIT):
        with monkeypatch.context() as patched:
            killing(patched, at=(1, 2, 4, 3)[run % 4], committed=bool(run % 3))
            try:
                ended = copied(folder, url, "--switch", "--json")
            except KilledError:
                kills += 1
                continue
        if "had no processor" not in ended.output:  # a machine that is busy may end it as well
            good(ended)
            break
    assert kills > 8
    assert "To copy anew, make another database" in copied(folder, url, "--switch").output
    assert answers_of(folder, url, tmp_path / "node") == answers_before(left, tmp_path / "before")


def test_nobody_serves_what_is_half_there_nor_what_has_moved(postgresql: Postgres, folder: Path) -> None:
    url = postgresql.empty()
    good(copied(folder, url))
    with pytest.raises(StoreError, match="is being filled from"):
        open_postgres(url, role="worker", create=True)
    source.refuse_moved(folder)  # it serves on
    good(copied(folder, url, "--switch"))
    open_postgres(url, role="worker", create=False).close()
    with pytest.raises(StoreError, match="has moved to the database"):
        source.refuse_moved(folder)
    with appending_to(folder) as store:
        with pytest.raises(StoreDownError, match="takes no more records"):
            append(store.log, appending("ann"))
        with pytest.raises(StoreDownError, match="takes no more records"):
            store.catalog.set_fact("one", b"1")
    good(CliRunner().invoke(root, ["db", "copy", "--from", str(folder), "--undo", "--yes"]))
    source.refuse_moved(folder)
    with appending_to(folder) as store:
        append(store.log, appending("ann"))
    refused = copied(folder, url)
    assert refused.exit_code == 1
    assert "To copy anew, make another database" in refused.output


def settle(folder: Path) -> None:
    """Have the folder's readers come to the end of its log."""
    store = open_store(folder, role="fold", create=False)
    try:
        catch_up(store)
    finally:
        store.close()


@contextmanager
def appending_to(folder: Path) -> Iterator[SqliteStore]:
    store = open_store(folder, role="worker", create=False)
    try:
        yield store
    finally:
        store.close()


def test_a_database_that_holds_anything_is_refused(postgresql: Postgres, folder: Path) -> None:
    url = postgresql.migrated(PARTITIONS)
    store = open_postgres(url, role="cli", create=False)
    store.catalog.create_project("p", token="t", secret_hash=b"", id_merge="simplified", now_ms=1)
    store.close()
    refused = copied(folder, url)
    assert refused.exit_code == 1
    assert "holds projects already" in refused.output
    assert source.marker_of(folder) is None
    dry = CliRunner().invoke(root, ["db", "copy", "--from", str(folder), "--to", url, "--dry-run"])
    assert "holds projects already" in dry.output


def test_a_log_that_was_trimmed_meanwhile_is_not_passed_over(postgresql: Postgres, folder: Path) -> None:
    url = postgresql.empty()
    good(copied(folder, url))
    with appending_to(folder) as store:
        append(store.log, appending("ann"))
    settle(folder)
    with appending_to(folder) as store:
        append(store.log, appending("ann"))
        store.log.trim(store.state.watermark(), 1 << 62)
    refused = copied(folder, url, "--switch")
    assert refused.exit_code == 1
    assert "the rest is gone" in refused.output


def test_what_was_folded_before_is_not_folded_again(
    postgresql: Postgres, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant takes over for the fold what the copied state has already: the check must find it out."""
    settle(folder)
    url = postgresql.empty()
    begin = filling.begin

    def from_the_start(database: Database, copy: filling.Copy) -> None:
        with appending_to(folder) as store:
            tail = store.log.tail_position()
        begin(database, msgspec.structs.replace(copy, fold_from=tail, shipped=tail))
        raise KilledError  # what goes on knows what the database says

    monkeypatch.setattr(filling, "begin", from_the_start)
    with pytest.raises(KilledError):
        copied(folder, url)
    found = copied(folder, url, "--switch")
    assert found.exit_code == 1
    assert "folder and database differ" in found.output
    assert source.marker_of(folder).state == "closed"  # type: ignore[union-attr]


def test_what_was_not_folded_before_is(
    postgresql: Postgres, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant leaves out what the fold has not had."""
    with appending_to(folder) as store:
        append(store.log, appending("ann"))
    monkeypatch.setattr(shipping, "_kinds_of", lambda _segment: FOR_ALL & ~FOR_PROFILES)
    found = copied(folder, postgresql.empty(), "--switch")
    assert found.exit_code == 1
    assert "folder and database differ" in found.output


def at(folder: Path) -> dict[str, str]:
    return {**ELSEWHERE, "MIXDOWN_DATA_DIR": str(folder)}


def test_a_deletion_waits_for_the_database(postgresql: Postgres, folder: Path) -> None:
    url = postgresql.empty()
    good(copied(folder, url))
    erase = ["erase", "ann", "--project", "default", "--yes", "--json"]
    asked = CliRunner().invoke(root, erase, env=at(folder))
    assert json.loads(good(asked).stdout)["status"] == "PENDING"
    good(copied(folder, url, "--switch"))
    store = open_postgres(url, role="cli", create=False)
    (job,) = store.privacy.unfinished()
    assert (job.status, job.ids) == ("PENDING", ("ann",))
    store.close()
