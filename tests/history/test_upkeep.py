"""The upkeep of history: merging changes no answer, retention bounds it, forgetting leaves nothing."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex
from typing import Any

import apsw
import pytest
import zstandard

from mixdown.fold import upkeep
from mixdown.fold.upkeep import HistoryKept, HistoryUpkeep
from mixdown.model.errors import StoreError
from mixdown.store.sqlite import SqliteStore
from tests.engine import TRIED
from tests.fold.conftest import Way, record
from tests.history.support import U1, all_at, step, tend, told

STEPS = 40


def history_of_some(way: Way) -> list[int]:
    """Steps that change a few profiles each, some of them deleted on the way; when they came."""
    return [
        step(
            way,
            *(
                record(f"u{who}", set={"n": number, f"p{number % 3}": "x" * 50})
                for who in range(number % 5, 7)
            ),
            *([record("u3", delete="")] if number % 7 == 0 else []),
        )
        for number in range(STEPS)
    ]


# the store in memory has nothing to merge
on_disk = pytest.mark.parametrize("way", [name for name in TRIED if name != "memory"], indirect=True)


@on_disk
def test_merging_leaves_few_segments_and_changes_no_answer(way: Way) -> None:
    times = history_of_some(way)
    before = [all_at(way.store, at) for at in times], [told(way.store, f"u{who}") for who in range(7)]
    assert way.store.state.history_size().segments == STEPS
    assert tend(way.store) > 0
    assert way.store.state.history_size().segments < STEPS / 2
    assert (
        [all_at(way.store, at) for at in times],
        [told(way.store, f"u{who}") for who in range(7)],
    ) == before


@pytest.mark.slow
@on_disk
def test_a_merge_in_many_pieces_gives_the_same(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixdown.store.history_upkeep.PIECE_BYTES", 3000)
    monkeypatch.setattr("mixdown.store.history_upkeep.BLOCK_BYTES", 400)
    times = history_of_some(way)
    before = [all_at(way.store, at) for at in times], [told(way.store, f"u{who}") for who in range(7)]
    while way.store.state.tend_history(keep_from_ms=0, limit_bytes=0):
        assert [all_at(way.store, at) for at in times[::19]] == before[0][::19], "half merged, it counts once"
    assert (
        [all_at(way.store, at) for at in times],
        [told(way.store, f"u{who}") for who in range(7)],
    ) == before


def test_what_is_older_than_the_retention_goes_and_asking_for_it_is_refused(way: Way) -> None:
    times = history_of_some(way)
    tend(way.store, keep_from_ms=times[20])
    since = way.store.state.history_size().since_ms
    assert since is not None
    assert times[0] <= since <= times[20]
    assert all_at(way.store, times[25])["u6"]["n"] == 25
    assert all(new != 3 for _, _, _, new in told(way.store, "u6"))
    assert told(way.store, "u6")[0][3] == STEPS - 1


@on_disk
def test_what_is_old_goes_while_new_records_come_and_are_merged_with_it(way: Way) -> None:
    """However little it is: a merged piece does not reach over all of the time that is kept."""
    kept_ms, most = 64_000, 0
    for number in range(200):
        now_ms = step(way, record("u1", set={"n": number}))
        tend(way.store, keep_from_ms=now_ms - kept_ms)
        most = max(most, way.store.state.history_size().segments)
    since_ms = way.store.state.history_size().since_ms
    assert since_ms is not None
    assert now_ms - kept_ms * 1.1 <= since_ms <= now_ms - kept_ms * 0.9
    assert len(told(way.store, limit=1000)) <= kept_ms / 1000 * 1.1 + 1
    assert most < 200


@on_disk
def test_merges_stay_within_their_part_of_the_time_that_is_kept(way: Way) -> None:
    kept_ms = 640_000
    for number in range(200):
        now_ms = step(way, record("u1", set={"n": number}))
        tend(way.store, keep_from_ms=now_ms - kept_ms)
    assert way.store.state.history_size().segments < 100, "it merges all the same"
    assert [new for *_, new in told(way.store, limit=1000)] == list(range(199, -1, -1))


def test_above_the_limit_the_oldest_goes_first(way: Way) -> None:
    history_of_some(way)
    half = way.store.state.history_size().size_bytes // 2
    tend(way.store, limit_bytes=half)
    assert way.store.state.history_size().size_bytes <= half
    assert told(way.store, "u6")[0][3] == STEPS - 1


@on_disk
def test_large_values_count_towards_the_limit(way: Way) -> None:
    limit_bytes = 1_000_000
    for number in range(60):
        step(way, record("u1", set={"n": number, "large": [token_hex(100) for _ in range(500)]}))
        tend(way.store, limit_bytes=limit_bytes)
    assert way.store.state.history_size().size_bytes <= limit_bytes * 1.1
    assert told(way.store, names=["n"])[0][3] == 59
    assert 2 < len(told(way.store, names=["n"])) < 59


def raw(folder: Path) -> bytes:
    """All that the blocks and values of the history say."""
    connection = apsw.Connection(str(folder / "state.db"))
    rows: list[Any] = connection.execute(
        "SELECT data FROM history_blocks UNION ALL SELECT data FROM history_values"
    ).fetchall()
    names: list[Any] = connection.execute("SELECT first_id FROM history_blocks").fetchall()
    names += connection.execute("SELECT done_id FROM history_segments").fetchall()
    connection.close()
    said = [zstandard.ZstdDecompressor().decompress(data) for (data,) in rows]
    return b"\n".join([*said, *(name.encode() for (name,) in names)])


def test_forgetting_a_profile_leaves_nothing_of_it_and_all_of_the_others(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.store.history_upkeep.PIECE_BYTES", 300)
    times = history_of_some(way)
    step(way, record("u2", set={"large": "u2" * 200_000, "list": ["u2 " * 3000]}))
    way.store.state.tend_history(keep_from_ms=0, limit_bytes=0)  # a merge is under way
    others = [told(way.store, f"u{who}") for who in range(7) if who != 2]
    assert (
        way.store.state.forget_history([(1, "", "u2"), (1, "", "never there")], below=way.store.log.head())
        > 10
    )
    assert told(way.store, "u2") == []
    if isinstance(way.store, SqliteStore):
        assert b"u2" not in raw(tmp_path / "data")
    tend(way.store)
    assert [told(way.store, f"u{who}") for who in range(7) if who != 2] == others
    assert "u3" in all_at(way.store, times[10])


def test_a_profile_with_much_history_is_read_whole(way: Way) -> None:
    """Its lines fill many blocks, before and after they are merged."""
    for start in range(0, 1200, 40):
        step(
            way, *(record(set={"n": number, "text": f"{number}" * 30}) for number in range(start, start + 40))
        )
    for _ in range(2):
        shown = told(way.store, names=["n"], limit=2000)
        assert [new for _, _, _, new in shown] == list(range(1199, -1, -1))
        assert (all_at(way.store, way.now_ms - 1000)[U1[2]])["n"] == 1159
        tend(way.store)


@pytest.mark.parametrize(("segments", "share"), [(1, upkeep.BUSY_SHARE), (STEPS, upkeep.EASY_SHARE)])
@on_disk
def test_beside_a_load_few_segments_are_merged_at_ease_and_many_in_haste(
    way: Way, monkeypatch: pytest.MonkeyPatch, segments: int, share: int
) -> None:
    history_of_some(way)
    monkeypatch.setattr(upkeep, "MANY_SEGMENTS", segments)
    clock = iter((1000.0, 1001.0, *([1001.0] * 99)))
    monkeypatch.setattr("mixdown.fold.upkeep.time.monotonic", lambda: next(clock))
    tending = HistoryUpkeep(way.store, HistoryKept(), lambda error: pytest.fail(str(error)))
    assert tending.go_on(busy=True), "there is something to merge"
    assert tending._due == 1001.0 + (share - 1)


def test_how_far_history_reaches_is_told_alike_with_its_size_and_without(way: Way) -> None:
    for _ in range(2):
        size, far = way.store.state.history_size(), way.store.state.history_reach()
        assert (far.segments, far.since_ms) == (size.segments, size.since_ms)
        history_of_some(way)


def test_what_fails_between_steps_is_told_and_tried_again(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise StoreError("the disk is gone")

    history_of_some(way)
    told: list[str] = []
    tending = HistoryUpkeep(way.store, HistoryKept(), lambda error: told.append(str(error)))
    monkeypatch.setattr(way.store.state, "tend_history", lambda **_: True)
    with monkeypatch.context() as patched:
        patched.setattr(way.store.state, "history_reach", broken)
        assert not tending.go_on(busy=True)
    assert told == ["the disk is gone"]
    tending._due = 0.0
    assert tending.go_on(busy=True)
