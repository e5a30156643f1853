"""`mixdown doctor`: it finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apsw
import pytest

from mixdown.store.sqlite import open_store
from mixdown.store.sqlite.connection import CATALOG, migrations
from mixdown.store.sqlite.folder import FolderLock
from tests.cli.support import Cli, user
from tests.engine import of_a_folder

pytestmark = of_a_folder("`mixdown doctor` looks at its files")

CHECKS = [
    "versions",
    "settings",
    "geo",
    "modes",
    "files",
    "schemas",
    "watermark",
    "events",
    "pages",
    "chunks",
    "parquet",
    "disk",
    "server",
]
NO_RESERVE = {"MIXDOWN_DISK_RESERVE_BYTES": "0", "MIXDOWN_DISK_RESERVE_PERCENT": "0"}


def diagnosis(cli: Cli, *, code: int = 0, env: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The findings by the name of their check; the exit code must be `code`."""
    answer = cli.json("doctor", code=code, env={**NO_RESERVE, **(env or {})})
    assert answer["ok"] == (code == 0)
    found = {}
    for check in answer["checks"]:
        assert set(check) == {"check", "status", "message", "hint"}
        assert check["status"] == "ok" or check["hint"]
        found[check["check"]] = check
    return found


def flip_a_byte(file: Path, around: bytes) -> None:
    """Change one byte of a stored record on the disk."""
    content = file.read_bytes()
    assert content.count(around) == 1
    file.write_bytes(content.replace(around, b"X" + around[1:]))


def test_a_sound_folder_has_no_faults(shop: Cli) -> None:
    shop.send(user("u1"), user("u2"))
    found = diagnosis(shop)
    assert list(found) == CHECKS
    assert {name for name, check in found.items() if check["status"] != "ok"} == {"server"}
    assert "no server runs" in found["server"]["message"]
    assert "SQLite 3." in found["versions"]["message"]
    assert "log head 2, watermark 0: 2 records wait" in found["watermark"]["message"]
    assert found["chunks"]["message"].startswith("1 chunks")


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("3.50.4", "fail"),
        ("3.51.0", "fail"),
        ("3.51.2", "fail"),
        ("3.51.3", "ok"),
        ("3.53.0", "ok"),
        ("4.0", "ok"),
    ],
)
def test_an_sqlite_that_may_damage_a_wal_is_told(
    shop: Cli, monkeypatch: pytest.MonkeyPatch, version: str, status: str
) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    found = diagnosis(shop, code=0 if status == "ok" else 1)["versions"]
    assert found["status"] == status
    assert ("3.51.3 or newer" in found["hint"]) == (status == "fail")


def test_for_people_each_finding_is_a_line(shop: Cli) -> None:
    lines = shop("doctor", env=NO_RESERVE).stdout.splitlines()
    assert [line.split()[1] for line in lines if line[:4].strip()] == CHECKS
    assert lines[-2].startswith("warn  server")
    assert "mixdown serve" in lines[-1]


def test_a_flipped_byte_in_a_chunk_is_found_and_left_alone(shop: Cli) -> None:
    shop.send(user("u1", mark="first-chunk"))
    shop.send(user("u2", mark="second-chunk"), user("u3"))
    shop("profiles", "get", "u1", "--project", "1")
    shop.send(user("u4", mark="third-chunk"))
    flip_a_byte(shop.folder / "log.db", b"second-chunk")
    found = diagnosis(shop, code=1)["chunks"]
    assert found["status"] == "fail"
    assert found["message"].startswith("1 of 3 chunks are damaged: positions 1 to 2 (already folded)")
    store = open_store(shop.folder, role="cli", create=False)
    assert store.log.damaged() == []
    store.close()
    flip_a_byte(shop.folder / "log.db", b"third-chunk")
    assert "3 to 3 (not folded yet)" in diagnosis(shop, code=1)["chunks"]["message"]


def test_a_state_from_another_time_is_found(shop: Cli) -> None:
    connection = apsw.Connection(str(shop.folder / "state.db"))
    connection.execute("UPDATE watermarks SET position = 99")
    connection.close()
    found = diagnosis(shop, code=1)["watermark"]
    assert (found["status"], "watermark 99" in found["message"]) == ("fail", True)


def test_a_newer_schema_is_found_and_not_touched(shop: Cli) -> None:
    connection = apsw.Connection(str(shop.folder / "catalog.db"))
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    answer = shop.json("doctor", code=1, env=NO_RESERVE)
    messages = [check["message"] for check in answer["checks"] if check["status"] == "fail"]
    assert messages == [f"catalog.db has schema 999, known are up to {len(migrations(CATALOG))}"]


def test_a_missing_file_is_found(shop: Cli) -> None:
    for file in shop.folder.glob("state.db*"):
        file.unlink()
    answer = shop.json("doctor", code=1, env=NO_RESERVE)
    assert "state.db is missing" in [check["message"] for check in answer["checks"]]
    assert not (shop.folder / "state.db").exists()


def test_a_file_that_is_no_database_is_found(shop: Cli) -> None:
    for file in shop.folder.glob("log.db*"):
        file.unlink()
    (shop.folder / "log.db").write_bytes(b"not a database, and long enough to be looked at" * 100)
    assert "log.db" in diagnosis(shop, code=1)["chunks"]["message"]


def test_open_modes_are_found_and_left(shop: Cli) -> None:
    shop.folder.chmod(0o755)
    (shop.folder / "catalog.db").chmod(0o644)
    found = diagnosis(shop)["modes"]
    assert (found["status"], "data, catalog.db" in found["message"]) == ("warn", True)
    assert "chmod" in found["hint"]
    assert (shop.folder / "catalog.db").stat().st_mode & 0o777 == 0o644


def test_a_full_disk_is_found(shop: Cli) -> None:
    found = diagnosis(shop, code=1, env={"MIXDOWN_DISK_RESERVE_BYTES": str(10**15)})["disk"]
    assert (found["status"], "writes stop below" in found["message"]) == ("fail", True)


def test_a_geo_database_that_cannot_be_read_is_found(shop: Cli, tmp_path: Path) -> None:
    found = diagnosis(shop, code=1, env={"MIXDOWN_GEO_DATABASE": str(tmp_path / "none.mmdb")})["geo"]
    assert (found["status"], "none.mmdb" in found["message"]) == ("fail", True)


def test_short_presets_and_misspelled_variables_are_found(shop: Cli) -> None:
    result = shop("doctor", "--json", env={**NO_RESERVE, "MIXDOWN_SECRET": "hush-hush", "MIXDOWN_PROT": "1"})
    assert "MIXDOWN_SECRET" in result.stdout
    assert "MIXDOWN_PROT" in result.stdout
    assert "hush-hush" not in result.output


def test_a_folder_without_data_fails_and_stays_as_it_is(cli: Cli) -> None:
    assert "there is no Mixdown data" in diagnosis(cli, code=1)["folder"]["message"]
    assert not cli.folder.exists()


def test_a_holder_that_is_not_ready_is_told(shop: Cli) -> None:
    with FolderLock(shop.folder).acquire(0):
        found = diagnosis(shop)["server"]
    assert found["status"] == "warn"
    assert f"process {os.getpid()} holds the folder" in found["message"]


def test_looking_changes_no_byte(shop: Cli) -> None:
    shop.send(user("u1"))
    before = {file.name: file.read_bytes() for file in shop.folder.iterdir() if file.suffix == ".db"}
    diagnosis(shop)
    assert before == {file.name: file.read_bytes() for file in shop.folder.iterdir() if file.suffix == ".db"}
