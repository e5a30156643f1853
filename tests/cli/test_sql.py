"""`mixdown sql`: it reads, and nothing else."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator

import pytest

from tests import engine
from tests.cli.support import Cli, group, user


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """One folder for all: no query can change it."""
    folder = tmp_path_factory.mktemp("sql") / "data"
    with engine.node_beside(folder):
        shop = Cli(folder)
        shop("project", "create", "shop", "--token", "shop-token")
        shop.send(user("u1", plan="pro"), user("u2", plan="free"), {"$token": "shop-token", "$set": {}})
        shop.send(group("Company", "Acme", plan="pro"), endpoint="groups")
        yield shop


def test_users_and_groups_are_views(filled: Cli) -> None:
    query = "select distinct_id, properties ->> '$.plan' as plan from users order by 1"
    assert filled.json("sql", query) == [
        {"distinct_id": "u1", "plan": "pro"},
        {"distinct_id": "u2", "plan": "free"},
    ]
    assert filled.json("sql", "select project_id, group_key, group_id from groups") == [
        {"project_id": 1, "group_key": "Company", "group_id": "Acme"}
    ]


def test_records_are_a_view_of_the_log(filled: Cli) -> None:
    query = (
        "select position, project_id, endpoint, sdk, group_key, id, operations from records order by position"
    )
    rows = filled.json("sql", query)
    assert [(row["position"], row["id"], row["group_key"]) for row in rows] == [
        (0, "u1", ""),
        (1, "u2", ""),
        (2, "Acme", "Company"),
    ]
    assert rows[0]["operations"] == '{"$set":{"plan":"pro"}}'
    assert (rows[0]["endpoint"], rows[2]["endpoint"], rows[0]["sdk"]) == ("engage", "groups", "tests")


def test_refusals_are_a_view(filled: Cli) -> None:
    rows = filled.json("sql", "select project_id, message, record_index from refusals")
    assert rows == [{"project_id": 1, "message": "$distinct_id, missing or empty", "record_index": 2}]


def test_answers_outside_a_terminal_are_tab_separated(filled: Cli) -> None:
    assert filled("sql", "select 1 as a, 'x\ty' as b, null as c").stdout == "a\tb\tc\n1\tx\\ty\t\n"


def test_answers_as_csv(filled: Cli) -> None:
    output = filled("sql", "select 1 as a, 'x,\"y' as b, x'ff00' as c", "--csv").stdout
    assert list(csv.reader(io.StringIO(output))) == [["a", "b", "c"], ["1", 'x,"y', "0xff00"]]


def test_json_of_no_rows_is_an_empty_array(filled: Cli) -> None:
    assert filled.json("sql", "select * from users where 0") == []


def test_json_keeps_columns_of_the_same_name(filled: Cli) -> None:
    assert filled.json("sql", "select 1 as a, 2 as a, 3 as a") == [{"a": 1, "a:2": 2, "a:3": 3}]


def test_a_query_comes_from_stdin(filled: Cli) -> None:
    assert filled("sql", typed="select 7 as n;\n-- that is all\n").stdout == "n\n7\n"


def test_input_that_is_no_text_is_a_query_like_any_other(filled: Cli) -> None:
    assert filled.json("sql", "select 'a\udcffb' as x") == [{"x": "a?b"}]


@pytest.mark.parametrize(
    "query",
    [
        "delete from users",
        "delete from profiles",
        "update watermarks set position = 0",
        "insert into log.refusals default values",
        "drop table profiles",
        "create table x (a)",
        "create temp table x (a)",
        "attach '/tmp/other.db' as other",
        "detach log",
        "pragma journal_mode = delete",
        "pragma user_version = 7",
        "pragma writable_schema = 1",
        "pragma wal_checkpoint",
        "vacuum",
        "vacuum into '/tmp/copy.db'",
        "begin",
        "reindex",
        "analyze",
        "select * from users where 0; delete from profiles",
        "with gone as (select 1) delete from profiles",
        "explain delete from profiles; delete from profiles",
    ],
)
def test_whatever_changes_something_is_refused(filled: Cli, query: str) -> None:
    result = filled("sql", query, code=1)
    # over PostgreSQL there is nothing that a query could change, and SQLite says so in words of its own
    assert (
        "Error: " in result.stderr if engine.ON_POSTGRES else "only reads" in result.stderr.splitlines()[-2]
    )
    assert filled.json("sql", "select count(*) as n from users") == [{"n": 2}]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("selec", "syntax error"),
        ("select * from nowhere", "no such table: nowhere"),
        ("select load_extension('x')", "not authorized"),
        ("select 1; select 2", "more than one query"),
        ("", "there is no query"),
        ("/* nothing */", "there is no query"),
    ],
)
def test_a_query_that_cannot_be_answered_is_one_clear_line(filled: Cli, query: str, message: str) -> None:
    result = filled("sql", query, code=1)
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


@pytest.mark.parametrize(
    "query",
    [
        "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n",
        "with recursive n(x) as (select 1 union all select x + 1 from n) select x from n where x < 0",
    ],
)
def test_a_query_ends_at_its_time_limit(filled: Cli, query: str) -> None:
    began = time.monotonic()
    result = filled("sql", query, "--timeout", "0.3", code=1)
    assert "time limit of 0.3 s" in result.stderr
    assert time.monotonic() - began < 60


def test_what_tells_of_the_schema_is_allowed(filled: Cli) -> None:
    names = [row["name"] for row in filled.json("sql", "pragma table_info(users)")]
    assert names == ["project_id", "distinct_id", "properties", "last_seen"]
    assert filled.json("sql", "explain query plan select * from users")


def test_json_and_csv_together_are_wrong_usage(filled: Cli) -> None:
    filled("sql", "select 1", "--json", "--csv", code=2)


def test_a_terminal_gets_a_table_and_a_prompt(filled: Cli) -> None:
    shown = filled.on_a_terminal("sql", "select distinct_id, project_id from users order by 1")
    assert "distinct_id" in shown
    assert "u2" in shown
    typed = (
        "select count(*) as users\nfrom users;\nselec;\ndelete from users;\nselect 40 + 2 as answer;\n\x04"
    )
    shown = filled.on_a_terminal("sql", typed=typed)
    assert "mixdown> " in shown
    assert "syntax error" in shown
    assert "only reads" in shown
    assert "42" in shown
