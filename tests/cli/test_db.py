"""`mixdown db` without a database; what it does with one is in tests/store/test_postgres_db.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mixdown.cli.root import root


def test_a_database_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIXDOWN_DATABASE_URL", raising=False)
    for command in ("migrate", "distribute"):
        done = CliRunner().invoke(root, ["db", command])
        assert done.exit_code == 1
        assert "--database-url postgresql://" in done.stderr


def test_the_url_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://u:hunter2@127.0.0.1:1/d\n")
    for arguments, variables in (
        (["--database-url-file", str(path)], {}),
        ([], {"MIXDOWN_DATABASE_URL_FILE": str(path)}),
    ):
        done = CliRunner().invoke(root, ["db", "migrate", *arguments], env=variables)
        assert done.exit_code == 1
        assert "the database d on 127.0.0.1:1 cannot be reached" in done.stderr
        assert "hunter2" not in done.stderr
    path.unlink()
    done = CliRunner().invoke(root, ["db", "migrate", "--database-url-file", str(path)])
    assert "database_url_file cannot be read" in done.stderr


def test_a_url_that_cannot_be_read_is_not_repeated_with_its_password() -> None:
    for url in ("postgresql://u:hunter2%zz@h/d", "hunter2", "postgresql://u:hunter2@h/d?x=hunter2"):
        done = CliRunner().invoke(root, ["db", "migrate", "--database-url", url])
        assert done.exit_code == 1
        assert "database_url cannot be read" in done.stderr
        assert "hunter2" not in done.stderr


def test_a_database_that_is_not_there_is_told_with_what_to_do() -> None:
    url = "postgresql://u:hunter2@127.0.0.1:1/d"
    done = CliRunner().invoke(root, ["db", "migrate"], env={"MIXDOWN_DATABASE_URL": url})
    assert done.exit_code == 1
    assert "the database d on 127.0.0.1:1 cannot be reached" in done.stderr
    assert "See that it runs" in done.stderr
    assert "hunter2" not in done.stderr
