"""`mixdown lookup-table`."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.cli.support import Cli, user
from tests.engine import of_a_folder

PLANS = "plan,price\r\nfree,0\r\npro,12.5\r\n"


@pytest.fixture
def plans(shop: Cli, tmp_path: Path) -> Cli:
    """A shop with the table `plans`, filled."""
    file = tmp_path / "plans.csv"
    file.write_text(PLANS, newline="")
    shop.json("lookup-table", "create", "plans", "--project", "shop")
    shop("lookup-table", "replace", "plans", str(file), "--project", "shop")
    return shop


def test_a_table_is_made_filled_and_shown(shop: Cli, tmp_path: Path) -> None:
    made = shop.json("lookup-table", "create", "plans", "--project", "shop")
    assert made == {
        "id": made["id"],
        "project_id": 1,
        "name": "plans",
        "key": None,
        "columns": [],
        "rows": 0,
        "size_bytes": 0,
        "created": made["created"],
        "replaced": None,
    }
    file = tmp_path / "plans.csv.gz"
    file.write_bytes(gzip.compress(PLANS.encode()))
    filled = shop.json("lookup-table", "replace", made["id"], str(file), "--project", "1")
    assert filled == {
        **made,
        "key": "plan",
        "columns": ["plan", "price"],
        "rows": 2,
        "size_bytes": len(PLANS),
        "replaced": filled["replaced"],
    }
    assert shop.json("lookup-table", "list", "--project", "shop") == [filled]
    assert shop.json("lookup-table", "show", "plans", "--project", "shop") == filled
    assert "columns     plan, price" in shop("lookup-table", "show", "plans", "--project", "shop").stdout
    table = shop("lookup-table", "list", "--project", "shop").stdout
    assert table.splitlines()[0].split("\t") == ["id", "name", "key", "rows", "size_bytes", "replaced"]


def test_a_table_is_fetched_as_it_was_sent(plans: Cli, tmp_path: Path) -> None:
    target = tmp_path / "again.csv"
    said = plans("lookup-table", "download", "plans", str(target), "--project", "shop")
    assert target.read_bytes() == PLANS.encode()
    assert f"wrote 2 rows to {target}" in said.stderr
    assert plans("lookup-table", "download", "plans", "--project", "shop").stdout_bytes == PLANS.encode()


def test_a_table_comes_from_standard_input(plans: Cli) -> None:
    plans("lookup-table", "replace", "plans", "-", "--project", "shop", typed="plan\nteam\n")
    assert plans("lookup-table", "download", "plans", "--project", "shop").stdout_bytes == b"plan\r\nteam\r\n"


def test_bad_rows_are_named_and_change_nothing(plans: Cli, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("plan,price\nfree,0\nfree,1\n,2\n")
    said = plans("lookup-table", "replace", "plans", str(file), "--project", "shop", code=1).stderr
    assert "nothing was changed" in said
    assert "row 2: invalid row: row indexes 1 and 2 have the same primary key" in said
    assert "row 3: primary key is required and cannot be blank" in said
    assert plans.json("lookup-table", "show", "plans", "--project", "shop")["rows"] == 2
    said = plans(
        "lookup-table", "replace", "plans", str(tmp_path / "none"), "--project", "shop", code=1
    ).stderr
    assert "No such file" in said


def test_cohorts_exports_and_imports_join_a_table(plans: Cli, tmp_path: Path) -> None:
    plans.send(user("ada", plan="pro"), user("bob", plan="free"))
    where = 'lookup["plans"]["price"] > 10'
    made = plans.json("cohort", "create", "dear", "--project", "shop", "--where", where)
    assert made["count"] == 1
    file = tmp_path / "dear.ndjson"
    plans("profiles", "export", str(file), "--project", "shop", "--where", where)
    assert '"$distinct_id":"ada"' in file.read_text()
    assert "bob" not in file.read_text()
    rows = tmp_path / "rows.csv"
    rows.write_text("distinct_id,plan\ncyd,pro\ndan,free\n")
    plans("profiles", "import", str(rows), "--project", "shop", "--where", where)
    assert plans.json("cohort", "show", "dear", "--project", "shop")["count"] == 2
    wrong = plans(
        "profiles", "export", "--project", "shop", "--where", 'lookup["plan"]["price"] > 1', code=1
    ).stderr
    assert 'there is no lookup table "plan" in this project, at position 7' in wrong


def test_a_table_is_deleted_after_a_question(plans: Cli) -> None:
    plans("lookup-table", "delete", "plans", "--project", "shop", typed="n\n", code=1)
    assert plans.json("lookup-table", "delete", "plans", "--project", "shop", "--yes")["name"] == "plans"
    assert plans.json("lookup-table", "list", "--project", "shop") == []
    said = plans("lookup-table", "show", "plans", "--project", "shop", code=1).stderr
    assert "there is no lookup table 'plans' in this project" in said


@of_a_folder("backups are those of its files")
def test_a_backup_holds_the_tables(plans: Cli, tmp_path: Path) -> None:
    archive, other = tmp_path / "all.tar", Cli(tmp_path / "other")
    plans("backup", str(archive))
    other("restore", str(archive))
    assert other("lookup-table", "download", "plans", "--project", "shop").stdout_bytes == PLANS.encode()
