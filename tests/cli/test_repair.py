"""`mixdown doctor --repair`: it mends what can be mended, says what is lost, and the folder goes on."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from mixdown.store.chunk import Chunk
from mixdown.store.sqlite import open_store
from mixdown.store.sqlite.folder import FolderLock
from tests.cli.support import Cli, user
from tests.cli.test_doctor import NO_RESERVE, flip_a_byte
from tests.engine import of_a_folder

pytestmark = of_a_folder("`mixdown doctor --repair` mends its files")


def change(shop: Cli, name: str, sql: str) -> None:
    connection = apsw.Connection(str(shop.folder / name))
    connection.execute(sql).fetchall()
    connection.close()


def lose(shop: Cli, name: str) -> None:
    for file in shop.folder.glob(f"{name}*"):
        file.unlink()


def repair(shop: Cli, *, code: int = 0) -> list[dict[str, Any]]:
    """Mend everything; the repairs."""
    answer = shop.json("doctor", "--repair", "--yes", code=code, env=NO_RESERVE)
    for made in answer["repairs"]:
        assert set(made) == {"check", "problem", "action", "lost", "made"}
    found: list[dict[str, Any]] = answer["repairs"]
    return found


def names(shop: Cli) -> dict[str, Any]:
    """All users, by id, as `mixdown sql` reads them after folding what waits."""
    rows = shop.json("sql", "select distinct_id, properties from users order by distinct_id")
    return {row["distinct_id"]: row["properties"] for row in rows}


def goes_on(shop: Cli) -> None:
    """The folder takes and folds what is sent next, and never a position twice."""
    _, head = shop.watermark_and_head()
    shop.send(user("after-the-repair", n=1))
    assert "after-the-repair" in names(shop)
    assert shop.watermark_and_head() == (head + 1, head + 1)
    shop("doctor", env=NO_RESERVE)


@pytest.fixture
def folded(shop: Cli) -> Cli:
    """Four records in three chunks, all folded."""
    shop.send(user("u1", mark="first-chunk"))
    shop.send(user("u2", mark="second-chunk"), user("u3"))
    shop.send(user("u4", mark="third-chunk"))
    assert set(names(shop)) == {"u1", "u2", "u3", "u4"}
    return shop


def refused(shop: Cli, words: str) -> None:
    """A command, like a server, opens the folder no more: one line, and one on what to do."""
    lines = shop("project", "list", code=1).stderr.splitlines()
    assert len(lines) == 2, lines
    assert words in lines[0]
    assert "doctor" in lines[1]


def test_a_sound_folder_needs_no_repair(folded: Cli) -> None:
    before = {path.name: path.read_bytes() for path in folded.folder.glob("*.db")}
    assert "nothing to repair" in folded("doctor", "--repair", env=NO_RESERVE).stdout
    assert repair(folded) == []
    assert before == {path.name: path.read_bytes() for path in folded.folder.glob("*.db")}
    goes_on(folded)


def test_a_head_below_the_watermark_is_moved_above_it_and_the_loss_is_told(folded: Cli) -> None:
    change(folded, "log.db", "DELETE FROM chunks WHERE first >= 1")
    change(
        folded, "log.db", "UPDATE head SET position = 1, held_bytes = (SELECT sum(length(body)) FROM chunks)"
    )
    refused(folded, "log.db ends at 1: the two are not of one time")
    [made] = repair(folded)
    assert (made["check"], made["made"]) == ("watermark", True)
    assert "move the log's head to 4" in made["action"]
    assert "3 records of the log, positions 1 to 3" in made["lost"]
    assert folded.watermark_and_head() == (4, 4)
    goes_on(folded)


def test_a_state_below_the_logs_beginning_goes_on_there(folded: Cli) -> None:
    change(folded, "log.db", "DELETE FROM chunks WHERE first < 3")
    change(folded, "log.db", "UPDATE head SET held_bytes = (SELECT sum(length(body)) FROM chunks)")
    change(folded, "state.db", "UPDATE watermarks SET position = 1")
    refused(folded, "log.db begins at 3: what lies between is gone")
    [made] = repair(folded)
    assert "positions 1 to 2: 2 of them" in made["lost"]
    goes_on(folded)


def test_a_head_below_its_chunks_is_moved_up(folded: Cli) -> None:
    change(folded, "log.db", "UPDATE head SET position = 2")
    change(folded, "state.db", "UPDATE watermarks SET position = 2")
    refused(folded, "chunks up to position 4, and says that it ends at 2")
    [made] = repair(folded)
    assert (made["check"], made["lost"]) == ("head", "")
    goes_on(folded)


@pytest.mark.parametrize("folded_before", [True, False])
def test_a_damaged_chunk_is_taken_out_and_its_bytes_are_kept(shop: Cli, folded_before: bool) -> None:
    shop.send(user("u1", mark="first-chunk"))
    shop.send(user("u2", mark="second-chunk"), user("u3"))
    if folded_before:
        names(shop)
    shop.send(user("u4"))
    flip_a_byte(shop.folder / "log.db", b"second-chunk")
    [made] = repair(shop)
    assert made["check"] == "chunks"
    assert "positions 1 to 2" in made["problem"]
    assert made["lost"] == ("" if folded_before else "2 records that were not folded yet")
    kept = shop.folder / "damaged-chunks" / "1.chunk"
    assert b"Xecond-chunk" in kept.read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o600
    store = open_store(shop.folder, role="cli", create=False)
    assert [(first, count) for first, count, _ in store.log.damaged()] == [(1, 2)]
    assert [chunk.first for chunk in store.log.read(0, max_records=99, max_bytes=10**9)] == [0, 1, 3]
    store.close()
    assert set(names(shop)) == {"u1", "u4"} | ({"u2", "u3"} if folded_before else set())
    goes_on(shop)


def test_a_damaged_count_does_not_move_the_head(folded: Cli) -> None:
    change(folded, "log.db", "UPDATE chunks SET count = 1000000 WHERE first = 3")
    refused(folded, "chunks up to position 1000003")
    assert [made["check"] for made in repair(folded)] == ["chunks"]
    assert folded.watermark_and_head() == (4, 4)
    goes_on(folded)


def test_broken_pages_of_the_log_cost_what_lay_in_them_alone(shop: Cli) -> None:
    shop.send(user("u1"))
    noise = random.Random(1)
    shop.send(*[user(f"big{number}", text=noise.randbytes(200).hex()) for number in range(60)])
    shop.send(user("u2"))
    shop.send({"$token": "shop-token", "$distinct_id": "x", "$set": 5})
    content = bytearray((shop.folder / "log.db").read_bytes())
    with closing(apsw.Connection(str(shop.folder / "log.db"))) as log:
        body = log.execute("SELECT body FROM chunks ORDER BY length(body) DESC LIMIT 1").get
    page = content.find(body[len(body) // 2 :][:40]) // 4096 * 4096
    content[page : page + 4] = b"\x7f\xff\xff\xff"
    (shop.folder / "log.db").write_bytes(content)
    checks = {check["check"]: check for check in shop.json("doctor", code=1, env=NO_RESERVE)["checks"]}
    assert "log.db has broken pages" in checks["pages"]["message"]
    made, _ = repair(shop)  # and the sum of what is held is counted anew
    assert (made["check"], made["lost"]) == ("pages", "what could not be read of chunks")
    assert (shop.folder / "log.db.damaged-1").read_bytes() == bytes(content)
    assert len(shop.json("refusals", "list", "--project", "shop")) == 1
    _, head = shop.watermark_and_head()
    assert head == 62
    assert set(names(shop)) == {"u1", "u2"}
    goes_on(shop)


def test_a_broken_index_of_the_state_is_rebuilt_without_loss(folded: Cli) -> None:
    connection = apsw.Connection(str(folded.folder / "state.db"))
    root = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_profiles_1'"
    ).get
    connection.close()
    content = bytearray((folded.folder / "state.db").read_bytes())
    content[(root - 1) * 4096 : (root - 1) * 4096 + 8] = b"\xff" * 8
    (folded.folder / "state.db").write_bytes(content)
    [made] = repair(folded)
    assert (made["check"], made["lost"], made["made"]) == ("pages", "", True)
    assert "4 profiles" in made["action"]
    assert set(names(folded)) == {"u1", "u2", "u3", "u4"}
    goes_on(folded)
    assert properties_of(folded) == {"$last_seen": {"datetime": 5}, "mark": {"string": 3}, "n": {"number": 1}}


def properties_of(shop: Cli) -> dict[str, dict[str, int]]:
    """The counts of users' properties, once the profiles of a repaired file are counted anew."""
    store = open_store(shop.folder, role="fold", create=False)
    try:
        assert store.state.count_properties(100)
        assert not store.state.count_properties(100)
        return store.state.property_counts(1, "", limit=10).counts
    finally:
        store.close()


def hide_in_the_index(shop: Cli, name: str, index: str, old: bytes, new: bytes) -> None:
    """Change a key within the root page of an index, as a bad disk might: its row is found no more."""
    connection = apsw.Connection(str(shop.folder / name))
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (index,)).get
    connection.close()
    content = bytearray((shop.folder / name).read_bytes())
    page = content[(root - 1) * 4096 : root * 4096]
    assert page.count(old) == 1
    content[(root - 1) * 4096 : root * 4096] = page.replace(old, new)
    (shop.folder / name).write_bytes(content)


def test_of_a_profile_that_stands_twice_the_newer_is_kept_and_the_loss_is_told(folded: Cli) -> None:
    hide_in_the_index(folded, "state.db", "sqlite_autoindex_profiles_1", b"u4", b"u5")
    folded.send(user("u4", mark="newer"))
    rows = folded.json("sql", "select properties from users not indexed where distinct_id || '' = 'u4'")
    assert len(rows) == 2
    [made] = repair(folded)
    assert made["lost"] == "what older rows of profiles held whose key stands there again: 1 rows"
    assert "4 profiles" in made["action"]
    found = names(folded)
    assert set(found) == {"u1", "u2", "u3", "u4"}
    assert '"newer"' in found["u4"]
    goes_on(folded)


@pytest.mark.parametrize("chunks_left", [True, False])
def test_a_log_whose_head_cannot_be_read_ends_where_its_chunks_or_the_fold_do(
    folded: Cli, chunks_left: bool
) -> None:
    if not chunks_left:
        change(folded, "log.db", "DELETE FROM chunks")
    connection = apsw.Connection(str(folded.folder / "log.db"))
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'head'").get
    connection.close()
    content = bytearray((folded.folder / "log.db").read_bytes())
    content[(root - 1) * 4096 : (root - 1) * 4096 + 8] = b"\xff" * 8
    (folded.folder / "log.db").write_bytes(content)
    made = repair(folded)
    assert [one["check"] for one in made] == (["pages"] if chunks_left else ["pages", "watermark"])
    assert "could not be read of head; where the log ends" in made[0]["lost"]
    assert folded.watermark_and_head() == (4, 4)
    assert repair(folded) == []
    goes_on(folded)


def test_a_row_that_stands_twice_in_the_log_is_told_as_lost(folded: Cli) -> None:
    insert = (
        "INSERT INTO refusals (project, endpoint, record_index, field, message, record, whole, sdk,"
        " request_key, time_ms, size_bytes)"
        " VALUES (1, 'engage', 0, '', '', '{}', 1, 'tests', x'aabbccdd', 1, 10)"
    )
    change(folded, "log.db", insert)
    hide_in_the_index(folded, "log.db", "refusals_once", b"\xaa\xbb\xcc\xdd", b"\xaa\xbb\xcc\xde")
    change(folded, "log.db", insert)
    made = repair(folded)
    assert made[0]["check"] == "pages"
    assert "1 refusals" in made[0]["action"]
    assert made[0]["lost"] == "what could not be read of refusals"
    goes_on(folded)


def test_profiles_that_cannot_be_read_are_left_to_a_backup(folded: Cli) -> None:
    connection = apsw.Connection(str(folded.folder / "state.db"))
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'profiles'").get
    connection.close()
    content = bytearray((folded.folder / "state.db").read_bytes())
    content[(root - 1) * 4096 : (root - 1) * 4096 + 8] = b"\xff" * 8
    (folded.folder / "state.db").write_bytes(content)
    [made] = repair(folded, code=1)
    assert (made["made"], "rows of profiles cannot be read" in made["problem"]) == (False, True)
    assert "backup" in made["action"]
    assert (folded.folder / "state.db").read_bytes() == content
    assert not (folded.folder / "state.db.rebuilt").exists()


@pytest.mark.parametrize("spoil", ["missing", "empty", "garbage"])
def test_a_lost_log_is_made_anew_above_the_watermark(folded: Cli, spoil: str) -> None:
    lose(folded, "log.db")
    if spoil != "missing":
        (folded.folder / "log.db").write_bytes(b"" if spoil == "empty" else b"no database " * 1000)
        (folded.folder / "log.db").chmod(0o600)
    refused(folded, "log.db is")
    made = repair(folded)
    assert [one["check"] for one in made] == (["files"] if spoil != "garbage" else ["files", "files"])
    assert "goes on at position 4" in made[-1]["action"]
    assert "not folded yet" in made[-1]["lost"]
    assert folded.watermark_and_head() == (4, 4)
    assert set(names(folded)) == {"u1", "u2", "u3", "u4"}
    goes_on(folded)


def test_a_lost_state_is_folded_anew_from_a_log_that_holds_everything(folded: Cli) -> None:
    before = names(folded)
    lose(folded, "state.db")
    refused(folded, "state.db is missing")
    [made] = repair(folded)
    assert (made["check"], made["lost"]) == ("files", "")
    assert names(folded) == before
    goes_on(folded)


@pytest.mark.parametrize("name", ["log.db", "state.db"])
def test_what_is_left_of_a_lost_file_is_kept_beside_the_new_one(folded: Cli, name: str) -> None:
    lose(folded, name)
    (folded.folder / f"{name}-wal").write_bytes(b"what a power cut left")
    (folded.folder / f"{name}-wal").chmod(0o600)
    [made] = repair(folded)
    assert made["action"].endswith("and keep what there is of the old one")
    assert (folded.folder / f"{name}.damaged-1-wal").read_bytes() == b"what a power cut left"
    assert set(names(folded)) == {"u1", "u2", "u3", "u4"}
    goes_on(folded)


def test_a_file_whose_schema_number_is_gone_is_kept_beside_the_new_one(folded: Cli) -> None:
    change(folded, "log.db", "PRAGMA user_version = 0")
    change(folded, "log.db", "PRAGMA wal_checkpoint(TRUNCATE)")
    before = (folded.folder / "log.db").read_bytes()
    [made] = repair(folded)
    assert made["action"].endswith("and keep what there is of the old one")
    assert (folded.folder / "log.db.damaged-1").read_bytes() == before
    goes_on(folded)


@pytest.mark.parametrize(
    ("newer", "lost"),
    [("log.db", ""), ("catalog.db", ""), ("state.db", ""), ("state.db", "log.db"), ("log.db", "state.db")],
)
def test_a_folder_of_a_newer_mixdown_is_not_repaired(folded: Cli, newer: str, lost: str) -> None:
    change(folded, "log.db", "UPDATE head SET held_bytes = 5")
    change(folded, newer, "PRAGMA user_version = 99")
    if lost:
        lose(folded, lost)
    before = {path.name: path.read_bytes() for path in folded.folder.glob("*.db")}
    [left] = repair(folded, code=1)
    assert (left["check"], left["made"]) == ("schemas", False)
    assert f"{newer} has schema 99" in left["problem"]
    assert {path.name: path.read_bytes() for path in folded.folder.glob("*.db")} == before


def lose_catalog(shop: Cli) -> None:
    lose(shop, "catalog.db")


def lose_log_and_state(shop: Cli) -> None:
    lose(shop, "log.db")
    lose(shop, "state.db")


def lose_state_of_a_trimmed_log(shop: Cli) -> None:
    change(shop, "log.db", "DELETE FROM chunks WHERE first = 0")
    lose(shop, "state.db")


@pytest.mark.parametrize("spoil", [lose_catalog, lose_log_and_state, lose_state_of_a_trimmed_log])
def test_what_nothing_else_holds_is_left_to_a_backup(folded: Cli, spoil: Callable[[Cli], object]) -> None:
    spoil(folded)
    refused(folded, "missing")
    left = repair(folded, code=1)
    assert [made["made"] for made in left] == [False]
    assert "backup" in left[0]["action"]
    refused(folded, "missing")


@pytest.mark.parametrize("name", ["log.db", "catalog.db", "state.db"])
def test_a_lost_wal_is_gone_on_without(shop: Cli, tmp_path: Path, name: str) -> None:
    shop.send(user("u1"))
    store = open_store(shop.folder, role="worker", create=False)
    copy = Cli(tmp_path / "killed")
    shutil.copytree(shop.folder, copy.folder)
    store.close()
    (copy.folder / f"{name}-wal").unlink()
    refused(copy, f"{name}-wal is missing")
    [made] = repair(copy)
    assert (made["check"], "written" in made["lost"]) == ("wal", True)
    goes_on(copy)


def test_what_killed_processes_left_is_removed_and_modes_are_closed(folded: Cli) -> None:
    (folded.folder / "server.json").write_text('{"pid": 1}')
    (folded.folder / "log.db").chmod(0o644)
    assert [made["check"] for made in repair(folded)] == ["modes", "strays"]
    assert not (folded.folder / "server.json").exists()
    assert (folded.folder / "log.db").stat().st_mode & 0o777 == 0o600
    goes_on(folded)


def test_sums_that_do_not_match_are_counted_anew(folded: Cli) -> None:
    change(folded, "log.db", "UPDATE head SET held_bytes = 5")
    change(folded, "log.db", "INSERT INTO refusal_counts VALUES (1, 10001, 50)")
    assert [made["check"] for made in repair(folded)] == ["counts"]
    assert repair(folded) == []
    folded.send({"$token": "shop-token", "$distinct_id": "x", "$set": 5})
    goes_on(folded)


def test_nothing_is_repaired_without_a_yes(folded: Cli) -> None:
    change(folded, "log.db", "UPDATE head SET held_bytes = 5")
    result = folded("doctor", "--repair", code=1, typed="n\n", env=NO_RESERVE)
    assert "count anew. Do it?" in result.stderr
    assert "nothing was changed" in result.stderr
    folded("doctor", "--repair", "--json", code=1, env=NO_RESERVE)
    assert folded("doctor", "--repair", typed="y\n", env=NO_RESERVE).stdout.startswith("mended  counts")


def test_nothing_is_repaired_while_a_server_runs(folded: Cli) -> None:
    change(folded, "log.db", "UPDATE head SET held_bytes = 5")
    with FolderLock(folded.folder).acquire(0):
        lines = folded("doctor", "--repair", "--yes", code=1, env=NO_RESERVE).stderr.splitlines()
    assert "is in use by process" in lines[0]
    assert [made["check"] for made in repair(folded)] == ["counts"]


def test_a_quick_look_leaves_out_what_reads_whole_files(folded: Cli) -> None:
    told = [check["check"] for check in folded.json("doctor", "--fast", env=NO_RESERVE)["checks"]]
    assert "pages" not in told
    assert "chunks" not in told
    assert "watermark" in told


def test_a_chunk_that_cannot_be_decoded_stays_noted(folded: Cli) -> None:
    store = open_store(folded.folder, role="worker", create=False)
    store.log.set_aside(Chunk(1, 2, 0, b""), "a chunk cannot be decoded")
    store.close()
    assert repair(folded) == []
    store = open_store(folded.folder, role="worker", create=False)
    assert [first for first, _, _ in store.log.damaged()] == [1]
    store.close()
