"""`mixdown profiles export` and `import`: what goes out comes back the same, through every form of file."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner

from mixdown.cli.root import root
from mixdown.query.files import columns, parquet
from tests.cli.support import Cli, continued_after_a_kill, group, user

pytestmark = pytest.mark.slow

SEEN = "2026-01-15T12:00:00"
ODD: dict[str, dict[str, Any]] = {
    "plain": {"plan": "pro", "age": 36, "score": 12.5, "active": True},
    "texts": {
        "empty": "",
        "digits": "36",
        "zip": "02139",
        "word": "true",
        "quoted": '"x"',
        "json": '{"a": 1}',
        "lines": 'one\r\ntwo, "three"\nfour\rfive',
        "blank": "  7  ",
        "plan": 'say "hi"',
        "emoji": "\U0001f389 é \u2028",
        "long": "x" * 1000,
    },
    "numbers": {
        "age": -(2**63),
        "big": 2**63 - 1,
        "exact": 2**53 + 1,
        "score": 1e300,
        "small": 5e-324,
        "tenth": 0.1,
        "debt": 0,
    },
    "mixed": {"age": "36", "plan": ["pro", 1, None], "score": {"a": {"b": [1.5, "é"]}}, "active": "no"},
    "nulls": {"plan": None, "nick": None, "age": 1, "list": [None], "empty": []},
    "names": {
        "Plan": "upper",
        "plan": "lower",
        'a "quoted", name': 1,
        "n\nl": 2,
        "$email": "a@example.com",
        "": 3,
    },
    "nothing": {},
    'id,with\n"all" of \u00e9 it': {"plan": "x"},
    "36": {"plan": "y"},
}
FORMS = [
    "users.ndjson",
    "users.ndjson.gz",
    "users.ndjson.zst",
    "users.csv",
    "users.csv.gz",
    "users.csv.zst",
    "users.parquet",
]


def fill(shop: Cli, profiles: dict[str, dict[str, Any]] = ODD) -> None:
    """Put profiles into the project, texts whole, as an import of lines does."""
    lines = [
        json.dumps({"$distinct_id": name, "$properties": {**properties, "$last_seen": SEEN}})
        for name, properties in profiles.items()
    ]
    shop("profiles", "import", "-", "--project", "shop", typed="\n".join(lines))


def exported(cli: Cli, *arguments: str, project: str = "shop") -> dict[str, dict[str, Any]]:
    """The profiles of a project, by id."""
    result = cli("profiles", "export", "--project", project, *arguments)
    rows = [json.loads(line) for line in result.stdout.split("\n") if line]
    assert all(list(row) == ["$distinct_id", "$properties"] for row in rows)
    return {row["$distinct_id"]: row["$properties"] for row in rows}


def expected(profiles: dict[str, dict[str, Any]] = ODD) -> dict[str, dict[str, Any]]:
    return {name: {**properties, "$last_seen": SEEN} for name, properties in profiles.items()}


@pytest.fixture
def copy(shop: Cli) -> Cli:
    """The folder with a second project, `copy`."""
    shop("project", "create", "copy", "--token", "copy-token")
    return shop


def test_lines_come_back_as_they_went_in_texts_whole_and_last_seen_kept(shop: Cli) -> None:
    fill(shop)
    assert exported(shop) == expected()


@pytest.mark.parametrize("layout", ["columns", "json"])
@pytest.mark.parametrize("name", FORMS)
def test_a_file_brings_equal_profiles_into_another_project(
    copy: Cli, tmp_path: Path, name: str, layout: str
) -> None:
    fill(copy)
    file = tmp_path / name
    told = copy.json("profiles", "export", str(file), "--project", "shop", "--layout", layout)
    assert told == {"file": str(file), "profiles": len(ODD), "size_bytes": file.stat().st_size}
    assert copy.json("profiles", "import", str(file), "--project", "copy")["imported"] == len(ODD)
    assert exported(copy, project="copy") == expected()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", name]


def test_numbers_keep_their_kind_where_a_column_has_one_kind(copy: Cli, tmp_path: Path) -> None:
    fill(copy, {"a": {"whole": 1, "real": 1.0, "text": "1"}, "b": {"whole": 2, "real": 2.0, "text": "2"}})
    for name in FORMS:
        file = str(tmp_path / name)
        copy("profiles", "export", file, "--project", "shop")
        copy("profiles", "import", file, "--project", "copy", "--replace", "--again")
        assert json.dumps(exported(copy, project="copy")["a"], sort_keys=True) == json.dumps(
            {"$last_seen": SEEN, "real": 1.0, "text": "1", "whole": 1}
        )


def test_parquet_columns_have_the_types_of_their_values(shop: Cli, tmp_path: Path) -> None:
    import duckdb

    fill(shop)
    file = str(tmp_path / "users.parquet")
    shop("profiles", "export", file, "--project", "shop")
    found = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [file])
    assert found.description is not None
    types = {name: str(kind) for name, kind, *_ in found.description}
    assert next(iter(types)) == "$distinct_id"
    assert [types[name] for name in ("big", "tenth", "zip", "active", "$last_seen", "score")] == [
        "BIGINT",
        "DOUBLE",
        "VARCHAR",
        "JSON",
        "VARCHAR",
        "JSON",
    ]
    query = "SELECT big FROM read_parquet(?) WHERE \"$distinct_id\" = 'numbers'"
    assert duckdb.connect().execute(query, [file]).fetchone() == (2**63 - 1,)


def test_groups_of_a_key_go_out_and_come_back(copy: Cli, tmp_path: Path) -> None:
    copy.send(group("Company", "Acme", seats=5), group("Team", "Red", size=2), endpoint="groups")
    file = str(tmp_path / "companies.csv")
    copy("profiles", "export", file, "--project", "shop", "--group-key", "Company")
    copy("profiles", "import", file, "--project", "copy", "--group-key", "Company")
    companies = exported(copy, "--group-key", "Company", project="copy")
    assert companies == exported(copy, "--group-key", "Company")
    assert companies["Acme"]["seats"] == 5
    missing = copy("profiles", "export", "--project", "shop", "--group-key", "City", code=1)
    assert "no group of the key City" in missing.stderr
    assert "Company, Team" in missing.stderr


def test_a_filter_and_a_choice_of_properties_hold_on_the_way_out(shop: Cli, tmp_path: Path) -> None:
    fill(shop)
    where = 'properties["age"] == 36 or properties["plan"] == "x"'
    found = exported(shop, "--where", where, "--properties", "plan,active")
    assert found == {
        "plain": {"plan": "pro", "active": True},
        'id,with\n"all" of é it': {"plan": "x"},
    }
    bad = shop("profiles", "export", str(tmp_path / "x.csv"), "--project", "shop", "--where", "1 +", code=1)
    assert "at position" in bad.stderr


def test_an_export_may_be_of_a_time_that_has_passed(shop: Cli) -> None:
    fill(shop, {f"u{n:05}": {"n": n} for n in range(3000)})
    exported(shop)
    time.sleep(0.1)
    then = str(int(time.time() * 1000) - 50)
    fill(shop, {"u00001": {"n": -1}, "new": {"n": 0}})
    shop("profiles", "delete", "u02500", "--project", "shop", "--yes")
    assert exported(shop, "--where", 'properties["n"] < 1') == expected(
        {"u00000": {"n": 0}, "u00001": {"n": -1}, "new": {"n": 0}}
    )
    assert exported(shop, "--as-of", then) == expected({f"u{n:05}": {"n": n} for n in range(3000)})
    assert "is no time" in shop("profiles", "export", "--project", "shop", "--as-of", "soon", code=1).stderr


def test_an_export_of_a_time_that_has_passed_goes_on_after_a_kill(shop: Cli, tmp_path: Path) -> None:
    fill(shop, {f"u{n:05}": {"n": n} for n in range(3000)})
    exported(shop)
    time.sleep(0.1)
    then = str(int(time.time() * 1000) - 50)
    fill(shop, {"u00001": {"n": -1}, "new": {"n": 0}})
    file = tmp_path / "then.ndjson"
    arguments = ["profiles", "export", str(file), "--project", "shop", "--as-of", then]
    environment = {**shop.environment(), "DIE_AT": "1"}
    subprocess.run([sys.executable, "-c", CRASH, *arguments], env=environment, check=False, timeout=90)
    assert not file.exists()
    assert "2000 profiles were written before" in shop(*arguments).stderr
    assert len(file.read_text().splitlines()) == 3000


def test_a_filter_and_a_choice_of_properties_hold_on_the_way_in(copy: Cli, tmp_path: Path) -> None:
    fill(copy)
    file = str(tmp_path / "users.csv")
    copy("profiles", "export", file, "--project", "shop")
    told = copy.json(
        "profiles", "import", file, "--project", "copy", "--where", 'defined(properties["age"])',
        "--properties", "age",
    )  # fmt: skip
    assert told == {"rows": 9, "imported": 4, "recognised": 0, "left_out": 5, "refused": 0}
    assert exported(copy, project="copy")["plain"] == {"age": 36, "$last_seen": SEEN}


def test_a_pipe_joins_an_export_and_an_import(copy: Cli) -> None:
    fill(copy)
    for form, compression in (("ndjson", "zst"), ("csv", "gz"), ("parquet", "none")):
        flags = ["--format", form, "--compression", compression]
        out = CliRunner().invoke(
            root, ["profiles", "export", "--project", "shop", *flags], env=copy.variables()
        )
        arguments = ["profiles", "import", "-", "--project", "copy", "--replace", "--again", *flags]
        back = CliRunner().invoke(root, arguments, input=out.stdout_bytes, env=copy.variables())
        assert back.exit_code == 0, back.output
        assert exported(copy, project="copy") == expected()


def test_processes_joined_by_a_pipe_carry_profiles_from_project_to_project(copy: Cli) -> None:
    fill(copy)
    with copy.process("profiles", "export", "--project", "shop") as out:
        back = subprocess.run(
            copy.command("profiles", "import", "-", "--project", "copy"),
            env=copy.environment(), stdin=out.stdout, capture_output=True, check=True, timeout=90,
        )  # fmt: skip
    assert b"imported 9 of 9 rows" in back.stderr
    assert exported(copy, project="copy") == expected()


def test_a_row_merges_by_default_and_replaces_when_told(shop: Cli) -> None:
    fill(shop, {"a": {"plan": "free", "city": "Rome"}})
    row = json.dumps({"$distinct_id": "a", "plan": "pro"})
    shop("profiles", "import", "-", "--project", "shop", typed=row)
    assert exported(shop) == {"a": {"plan": "pro", "city": "Rome", "$last_seen": SEEN}}
    row = json.dumps({"$distinct_id": "a", "$properties": {"plan": "max", "$last_seen": SEEN}})
    shop("profiles", "import", "-", "--project", "shop", "--replace", typed=row)
    assert exported(shop) == {"a": {"plan": "max", "$last_seen": SEEN}}
    shop(
        "profiles",
        "import",
        "-",
        "--project",
        "shop",
        "--operator",
        "set_once",
        typed='{"$distinct_id":"a","plan":1}',
    )
    shop(
        "profiles",
        "import",
        "-",
        "--project",
        "shop",
        "--operator",
        "add",
        typed='{"$distinct_id":"a","n":2}',
    )
    assert exported(shop) == {"a": {"plan": "max", "n": 2, "$last_seen": SEEN}}


def test_an_import_that_is_run_again_applies_nothing_twice(shop: Cli) -> None:
    rows = "\n".join(json.dumps({"$distinct_id": f"u{n % 3}", "n": 1}) for n in range(4500))
    add = ("profiles", "import", "-", "--project", "shop", "--operator", "add")
    assert CliRunner().invoke(root, [*add, "--json"], input=rows, env=shop.variables()).exit_code == 0
    again = json.loads(CliRunner().invoke(root, [*add, "--json"], input=rows, env=shop.variables()).stdout)
    assert again == {"rows": 4500, "imported": 0, "recognised": 4500, "left_out": 0, "refused": 0}
    assert {name: each["n"] for name, each in exported(shop).items()} == {"u0": 1500, "u1": 1500, "u2": 1500}
    shop(*add, "--again", typed=rows)
    assert exported(shop)["u0"]["n"] == 3000


def test_an_import_that_was_killed_is_continued_by_the_same_command(shop: Cli) -> None:
    lines = [json.dumps({"$distinct_id": f"u{n % 7}", "n": 1}).encode() + b"\n" for n in range(9000)]
    add = shop.command("profiles", "import", "-", "--project", "shop", "--operator", "add")
    told = continued_after_a_kill(shop, add, lines, sent=6500, appended=4000)
    assert told["recognised"] >= 4000
    assert told["imported"] + told["recognised"] == 9000
    assert sum(each["n"] for each in exported(shop).values()) == 9000


CRASH = """
import os, signal, sys
from mixdown.cli.transfer import export_run, unfinished
export_run.SAVE_EVERY_S = 0
save, saves = unfinished.Unfinished.save, []
def dying(self):
    save(self)
    saves.append(1)
    if len(saves) == int(os.environ.get("DIE_AT", "2")):
        self._file.write(b"torn row")
        os.kill(os.getpid(), signal.SIGKILL)
unfinished.Unfinished.save = dying
from mixdown.cli import main
sys.argv[0] = "mixdown"
main()
"""


@pytest.mark.parametrize(
    "name",
    [
        "users.parquet",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("users.ndjson.gz", "users.csv")),
    ],
)
def test_an_export_that_was_killed_is_continued_by_the_same_command(
    shop: Cli, tmp_path: Path, name: str
) -> None:
    people = {f"u{n:05}": {"n": n, **({"late": str(n)} if n > 6000 else {})} for n in range(7000)}
    fill(shop, people)
    file = tmp_path / name
    arguments = ["profiles", "export", str(file), "--project", "shop"]
    killed = subprocess.run(
        [sys.executable, "-c", CRASH, *arguments], env=shop.environment(), check=False, timeout=90
    )
    assert killed.returncode == -9
    assert not file.exists()
    other = shop("profiles", "export", str(tmp_path / "other.ndjson"), "--project", "shop")
    assert "going on" not in other.stderr
    told = shop(*arguments)
    assert "going on with an unfinished export: 4000 profiles" in told.stderr
    shop("project", "create", "copy", "--token", "copy-token")
    shop("profiles", "import", str(file), "--project", "copy")
    assert exported(shop, project="copy") == expected(people)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_unfinished_export_of_something_else_is_begun_anew(shop: Cli, tmp_path: Path) -> None:
    fill(shop, {f"u{n:05}": {"n": n} for n in range(5000)})
    file = tmp_path / "users.ndjson"
    arguments = ["profiles", "export", str(file), "--project", "shop"]
    subprocess.run([sys.executable, "-c", CRASH, *arguments], env=shop.environment(), check=False, timeout=90)
    told = shop(*arguments, "--where", 'properties["n"] < 10')
    assert "begun anew" in told.stderr
    assert len(file.read_text().splitlines()) == 10


BAD_LINES = [
    ('{"$distinct_id": "a", "$properties": {"plan": "pro"}}', ""),
    ("{not json", "row, no JSON"),
    ("[1]", "row, must be an object"),
    ('{"$properties": {"plan": "pro"}}', "$distinct_id, missing or empty"),
    ('{"$distinct_id": "b", "$properties": 5}', "$set, must be an object"),
    ('{"$distinct_id": "c", "$properties": {"a": NaN}}', "row, no JSON"),
    ('{"$distinct_id": "d", "x": "' + "y" * (9 * 1024 * 1024) + '"}', "row, must be at most 8388608 bytes"),
    ('{"$distinct_id": "e", "plan": "free"}', ""),
]


def test_refused_rows_stand_in_a_file_with_their_reasons_and_can_be_mended(shop: Cli, tmp_path: Path) -> None:
    refused = tmp_path / "refused.ndjson"
    text = "\n".join(line for line, _ in BAD_LINES)
    result = shop(
        "profiles", "import", "-", "--project", "shop", "--refused", str(refused), code=1, typed=text
    )
    assert "imported 2 of 8 rows" in result.stderr
    assert "6 rows were refused" in result.stderr
    assert shop.json("refusals", "list") == []
    rows = [json.loads(line) for line in refused.read_text().splitlines()]
    wrong = [(number, message) for number, (_, message) in enumerate(BAD_LINES, 1) if message]
    assert [row["row"] for row in rows] == [number for number, _ in wrong]
    assert all(row["message"].startswith(message) for row, (_, message) in zip(rows, wrong, strict=True))
    mended = [{**row, "record": {"$distinct_id": f"m{row['row']}", "ok": True}} for row in rows]
    file = tmp_path / "mended.ndjson"
    file.write_text("".join(json.dumps(row) + "\n" for row in mended))
    shop("profiles", "import", str(file), "--project", "shop", "--refused", str(refused))
    assert not refused.exists()
    assert set(exported(shop)) == {"a", "e", "m2", "m3", "m4", "m5", "m6", "m7"}


def test_without_a_file_refused_rows_are_among_the_refusals_of_the_project(shop: Cli) -> None:
    shop("profiles", "import", "-", "--project", "shop", code=1, typed="{}\n{not json")
    found = shop.json("refusals", "list", "--project", "shop")
    assert [each["message"].split(":")[0] for each in found] == [
        "row, no JSON",
        "$distinct_id, missing or empty",
    ]


CSV = "$distinct_id,plan,age\r\na,pro,36\r\nb,free\r\n,x,1\r\nc,caf\udce9,2\r\nd,max,1,2\r\ne,,\r\n"


def test_rows_of_csv_that_do_not_fit_are_refused_and_the_others_stored(shop: Cli, tmp_path: Path) -> None:
    refused = tmp_path / "refused.ndjson"
    file = tmp_path / "users.csv"
    file.write_bytes(b"\xef\xbb\xbf" + CSV.encode("utf-8", "surrogateescape"))
    shop("profiles", "import", str(file), "--project", "shop", "--refused", str(refused), code=1)
    rows = [json.loads(line) for line in refused.read_text().splitlines()]
    assert [(row["row"], row["message"]) for row in rows] == [
        (3, "row, has 2 cells, and the first row 3"),
        (4, "$distinct_id, missing or empty"),
        (5, "row, must be valid UTF-8"),
        (6, "row, has 4 cells, and the first row 3"),
    ]
    found = exported(shop)
    assert (found["a"]["plan"], found["a"]["age"]) == ("pro", 36)
    assert set(found["e"]) == {"$last_seen"}


def test_the_id_may_stand_in_any_column(shop: Cli) -> None:
    arguments = ("profiles", "import", "-", "--format", "csv", "--project", "shop")
    told = shop(*arguments, code=1, typed="user,plan\n7,pro\n")
    assert "--id-column" in told.stderr
    shop(*arguments, "--id-column", "user", typed="user,plan\n7,pro\n")
    assert exported(shop)["7"]["plan"] == "pro"


def test_parquet_of_other_makers_is_read(shop: Cli, tmp_path: Path) -> None:
    import duckdb

    file = tmp_path / "other.parquet"
    duckdb.connect().sql(
        "SELECT 7 AS distinct_id, DATE '2026-01-15' AS day, TIMESTAMP '2026-01-15 12:00:00' AS at,"
        " 12.50::DECIMAL(8, 2) AS price, ['a', 'b'] AS tags, {'city': 'Rome'} AS address,"
        " 'nan'::DOUBLE AS odd"
    ).to_parquet(str(file))
    shop("profiles", "import", str(file), "--project", "shop")
    found = exported(shop)["7"]
    del found["$last_seen"]
    assert found == {
        "day": "2026-01-15",
        "at": "2026-01-15T12:00:00",
        "price": 12.5,
        "tags": ["a", "b"],
        "address": {"city": "Rome"},
        "odd": None,
    }


def test_what_reads_parquet_sees_no_other_file_and_loads_nothing(tmp_path: Path) -> None:
    import duckdb

    inside, outside = tmp_path / "inside", tmp_path / "outside.csv"
    inside.mkdir()
    outside.write_text("a,b\n1,2\n")
    with parquet._sandbox(inside) as database:
        for statement in (
            "SELECT * FROM read_csv(?)",
            "SELECT * FROM read_text(?)",
            "SELECT * FROM glob(?)",
        ):
            with pytest.raises(duckdb.PermissionException):
                database.execute(statement, [str(outside)])
        for statement in ("INSTALL httpfs", "LOAD httpfs", "SET enable_external_access = true"):
            with pytest.raises(duckdb.Error):
                database.execute(statement)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.txt", b"", "does not say which format"),
        ("x.csv", b"", "the file is empty"),
        ("x.csv", b"$distinct_id,a,a\n", "two columns are called 'a'"),
        ("x.csv", b'$distinct_id,a\nu,"' + b"y" * (9 << 20), "field larger than field limit"),
        ("x.ndjson", b'[{"$distinct_id": "a"}]', "jq -c"),
        ("x.ndjson.gz", b"no gzip", "is no gzip file"),
        ("x.ndjson.gz", gzip.compress(b'{"$distinct_id": "a"}\n' * 99, mtime=0)[:-9], "ends in the middle"),
        ("x.ndjson.zst", b"no zstd", "is no zstd file"),
        ("x.ndjson.zst", zstandard.compress(b'{"$distinct_id": "a"}\n' * 99)[:-4], "ends in the middle"),
        ("x.parquet", b"PAR1 no", "this Parquet file cannot be read"),
        ("x.parquet.gz", b"", "compressed inside"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_ends_in_one_clear_error(
    shop: Cli, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    result = shop("profiles", "import", str(file), "--project", "shop", code=1)
    assert told in result.stderr


def test_files_of_several_members_are_read_whole(shop: Cli, tmp_path: Path) -> None:
    lines = [b'{"$distinct_id": "u%d"}\n' % n for n in range(4)]
    (tmp_path / "x.ndjson.gz").write_bytes(b"".join(map(gzip.compress, lines[:2])))
    (tmp_path / "x.ndjson.zst").write_bytes(b"".join(map(zstandard.compress, lines[2:])))
    for name in ("x.ndjson.gz", "x.ndjson.zst"):
        shop("profiles", "import", str(tmp_path / name), "--project", "shop")
    assert set(exported(shop)) == {"u0", "u1", "u2", "u3"}


def test_an_export_writes_over_nothing_and_not_into_the_data_folder(shop: Cli, tmp_path: Path) -> None:
    shop.send(user("a", plan="pro"))
    file = tmp_path / "users.ndjson"
    file.write_text("kept")
    told = shop("profiles", "export", str(file), "--project", "shop", code=1)
    assert "is there already" in told.stderr
    assert file.read_text() == "kept"
    shop("profiles", "export", str(file), "--project", "shop", "--force")
    assert file.stat().st_mode & 0o777 == 0o600
    inside = shop("profiles", "export", str(shop.folder / "x.csv"), "--project", "shop", code=1)
    assert "inside the data folder" in inside.stderr


def test_a_string_limit_that_was_set_holds_for_imports_too(shop: Cli) -> None:
    row = json.dumps({"$distinct_id": "a", "text": "x" * 300})
    shop("profiles", "import", "-", "--project", "shop", typed=row, env={"MIXDOWN_STRING_LIMIT_BYTES": "10"})
    assert exported(shop)["a"]["text"] == "x" * 10


def test_more_properties_than_columns_go_into_one(
    copy: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "COLUMN_LIMIT", 20)
    wide = {f"u{n}": {f"p{n}-{m}": m for m in range(9)} for n in range(3)}
    fill(copy, wide)
    for name in ("users.csv", "users.parquet"):
        file = str(tmp_path / name)
        copy("profiles", "export", file, "--project", "shop")
        copy("profiles", "import", file, "--project", "copy", "--replace", "--again")
        assert exported(copy, project="copy") == expected(wide)
    with (tmp_path / "users.csv").open() as text:
        assert len(next(io.StringIO(text.readline())).split(",")) == 22


def test_a_terminal_sees_how_far_an_import_is(shop: Cli, tmp_path: Path) -> None:
    file = tmp_path / "users.ndjson"
    file.write_bytes(b"".join(b'{"$distinct_id": "u%d", "n": 1}\n' % n for n in range(400_000)))
    shown = shop.on_a_terminal("profiles", "import", str(file), "--project", "shop")
    assert "importing" in shown
    assert "rows," in shown
    assert "remaining" in shown
    assert "imported 400000 of 400000 rows" in shown
