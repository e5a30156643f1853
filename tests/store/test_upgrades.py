"""Data folders of earlier versions open, fold and go on; and nobody adds a migration without such a folder.

`tests/data/folders` holds a folder of each released version, as a killed server left it (see `make.py`
there), and `migrations.json`: the checksum of every migration.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest

from mixdown.fold.loop import catch_up
from mixdown.ingest.pipeline import Ingest
from mixdown.ingest.prepare import Submission
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.credentials import secret_hash
from mixdown.store.sqlite import SqliteStore, open_store
from mixdown.store.sqlite.connection import CATALOG, LOG, STATE, Kind, migrations, prepare

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ROOT / "tests" / "data" / "folders"
CHECKSUMS = FOLDERS / "migrations.json"
VERSIONS = sorted(path.name for path in FOLDERS.iterdir() if path.is_dir() and path.name[0].isdigit())
LASTING = (LOG, CATALOG, STATE)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """A released version."""
    return str(request.param)


@pytest.fixture
def expected(version: str) -> dict[str, Any]:
    """What must be read from its folder."""
    found: dict[str, Any] = json.loads((FOLDERS / version / "expected.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def upgraded(version: str, tmp_path: Path) -> Iterator[SqliteStore]:
    """Its folder, opened by this version."""
    shutil.copytree(FOLDERS / version, tmp_path / "data")
    store = open_store(tmp_path / "data", role="fold", create=False)
    yield store
    store.close()


def documents(store: SqliteStore, group_key: str) -> dict[str, Any]:
    """All profiles of a kind, without the times of their arrival."""
    found = {}
    for profile_id, document in store.state.page(1, group_key, offset=0, limit=10_000):
        properties = orjson.loads(document)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", properties.pop("$last_seen"))
        found[profile_id] = properties
    return found


def schema(file: Path) -> int:
    connection = apsw.Connection(
        f"file:{file}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )
    level = connection.pragma("user_version")
    connection.close()
    return int(level)


def test_a_folder_of_an_earlier_version_opens_folds_and_reads_as_expected(
    upgraded: SqliteStore, expected: dict[str, Any]
) -> None:
    watermark, head = upgraded.state.watermark(), upgraded.log.head()
    assert 0 < watermark < head, "the folder was left with records to fold"
    assert catch_up(upgraded) == head - watermark
    assert documents(upgraded, "") == expected["users"]
    for group_key, groups in expected["groups"].items():
        assert documents(upgraded, group_key) == groups
    assert upgraded.log.damaged() == []
    refusals = [orjson.loads(refusal.record) for refusal in upgraded.refusals.listing(None)]
    assert refusals == expected["refused"]
    [project] = upgraded.catalog.projects()
    assert (project.token, project.secret_hash) == (expected["token"], secret_hash(expected["secret"]))
    assert [account.username for account in upgraded.catalog.accounts()] == [expected["account"]]


def test_a_folder_of_an_earlier_version_can_be_folded_anew_from_its_log(
    upgraded: SqliteStore, expected: dict[str, Any], tmp_path: Path
) -> None:
    """Every chunk that the earlier version wrote is still understood."""
    upgraded.close()
    for file in (tmp_path / "data").glob("state.db*"):
        file.unlink()
    prepare(tmp_path / "data" / "state.db", STATE)
    store = open_store(tmp_path / "data", role="fold", create=False)
    assert catch_up(store) == store.log.head()
    assert documents(store, "") == expected["users"]
    store.close()


def test_retries_of_what_an_earlier_version_took_are_recognised(
    upgraded: SqliteStore, expected: dict[str, Any]
) -> None:
    catch_up(upgraded)
    head = upgraded.log.head()
    now_ms = upgraded.log.newest_ms() + 1000
    executor = ThreadPoolExecutor(2)
    ingest = Ingest.open(
        Settings(disk_reserve_bytes=0, disk_reserve_percent=0),
        upgraded,
        CatalogCache(upgraded.catalog),
        executor=executor,
        now_ms=lambda: now_ms,
    )

    def send(records: list[Any], key: str = "") -> None:
        submission = Submission("engage", records, ip_flag=False, idempotency_key=key, path="engage")
        outcome = asyncio.run(ingest.submit(submission))
        assert (outcome.good, outcome.failed) == (1, ())

    send(expected["keyed"]["records"], expected["keyed"]["key"])
    assert upgraded.log.head() == head, "the first reply is given again"
    send(expected["inserted"])
    send([{"$token": expected["token"], "$distinct_id": "new", "$set": {"n": 1}}])
    ingest.close()
    executor.shutdown()
    assert upgraded.log.head() == head + 2, "positions go on"
    catch_up(upgraded)
    assert documents(upgraded, "") == {**expected["users"], "new": {"n": 1}}


def test_every_release_in_the_changelog_has_its_folder() -> None:
    """Before a release: `python tests/data/folders/make.py`, and commit what it makes."""
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released
    assert sorted(released) == VERSIONS


@pytest.mark.parametrize("kind", LASTING, ids=lambda kind: kind.name)
def test_a_folder_of_the_first_level_takes_every_migration_since(kind: Kind, tmp_path: Path) -> None:
    """Levels that no release had need no folder of their own: what is upgraded passes through them."""
    levels = {version: schema(FOLDERS / version / kind.file_name) for version in VERSIONS}
    assert min(levels.values()) == 1
    for version in VERSIONS:
        shutil.copytree(FOLDERS / version, tmp_path / version)
        open_store(tmp_path / version, role="fold", create=False).close()
        assert schema(tmp_path / version / kind.file_name) == len(migrations(kind))


def test_no_migration_is_changed_once_it_is_written() -> None:
    """Folders that have taken it would differ from new ones for ever: add another migration instead.

    A new migration's checksum is added to `migrations.json`; the checksum of an old one stays.
    """
    known = json.loads(CHECKSUMS.read_text())
    found = {}
    for folder in resources.files("mixdown.store.sqlite").joinpath("migrations").iterdir():
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.name.endswith(".sql"):
                found[f"{folder.name}/{file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found == known
