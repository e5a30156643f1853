"""Backup, doctor and repair of a folder with events: hot in `events.db`, and in files that it lists."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from mixdown.fold.events import take_all
from mixdown.store import event_upkeep
from mixdown.store.duck import open_events
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.sqlite import open_store
from mixdown.store.sqlite.folder import BackupLock
from tests.cli.support import Cli
from tests.cli.test_doctor import NO_RESERVE, diagnosis
from tests.cli.test_repair import change, lose, repair
from tests.engine import of_a_folder
from tests.store.support import append, appending_events

pytestmark = [pytest.mark.slow, of_a_folder("its files are copied and mended")]

FILED = {f"filed-{number}" for number in range(30)}
HOT = {"hot-1", "hot-2"}


@pytest.fixture
def events(shop: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Thirty events in three files, two that are hot, one that waits in the log."""
    monkeypatch.setattr(event_upkeep, "CLOSED_EVENTS", 5)
    store = open_store(shop.folder, role="fold", create=False)
    names = sorted(FILED)
    for at in range(0, 30, 10):
        append(store.log, appending_events(*names[at : at + 10]))
        take_all(store)
    append(store.log, appending_events(*HOT))
    take_all(store)
    append(store.log, appending_events("waits"))
    assert store.events.size().files == 3
    store.close()
    return shop


def stored(cli: Cli) -> set[str]:
    """Whose events reads are given, after what waits was taken in."""
    store = open_store(cli.folder, role="fold", create=False)
    take_all(store)
    parts = store.events.parts(1, FIRST_MS, LAST_MS)
    try:
        with open_events(
            parts, memory_limit_bytes=2**28, threads=1, temp_directory=cli.folder / "spill"
        ) as table:
            return {name for batch in table.batches("SELECT distinct_id FROM events") for (name,) in batch}
    finally:
        store.close()


def files(cli: Cli) -> list[Path]:
    """The files of events, by number."""
    return sorted((cli.folder / "events").rglob("*.parquet"))


def test_a_backup_has_events_and_their_files(events: Cli, tmp_path: Path) -> None:
    told = events.json("backup", str(tmp_path / "a.tar.gz"))
    assert (told["events_watermark"], told["head"]) == (32, 33)
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        assert archive.getnames() == [
            "state.db",
            "events.db",
            *(f"events/1/recent/{number}.parquet" for number in (1, 2, 3)),
            "catalog.db",
            "log.db",
            "manifest.json",
        ]
    restored = Cli(tmp_path / "restored")
    restored("restore", str(tmp_path / "a.tar.gz"))
    assert stored(restored) == FILED | HOT | {"waits"}
    assert {path.stat().st_mode & 0o777 for path in files(restored)} == {0o600}
    assert (restored.folder / "events/1/recent").stat().st_mode & 0o777 == 0o700
    assert diagnosis(restored)["parquet"]["message"].startswith("3 files of events")


def test_a_file_of_events_that_is_damaged_in_the_archive_is_noticed(events: Cli, tmp_path: Path) -> None:
    events("backup", str(tmp_path / "a.tar"))
    content = bytearray((tmp_path / "a.tar").read_bytes())
    content[content.index(b"PAR1") + 8] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    restored = Cli(tmp_path / "restored")
    told = restored("restore", str(tmp_path / "a.tar"), code=1).stderr
    assert "events/1/recent/1.parquet in the backup does not match its checksum" in told
    assert not restored.folder.exists() or os.listdir(restored.folder) in ([], ["lock"])  # noqa: PTH208


def test_an_archive_may_put_no_file_elsewhere(events: Cli, tmp_path: Path) -> None:
    events("backup", str(tmp_path / "a.tar"))
    with tarfile.open(tmp_path / "a.tar") as old, tarfile.open(tmp_path / "b.tar", "w") as new:
        for entry in old:
            if entry.name == "events/1/recent/1.parquet":
                entry.name = "events/1/../../../1.parquet"
            new.addfile(entry, old.extractfile(entry))
    restored = Cli(tmp_path / "restored")
    assert "no backup of Mixdown" in restored("restore", str(tmp_path / "b.tar"), code=1).stderr


def test_files_stay_as_they_are_while_a_backup_copies(events: Cli) -> None:
    from mixdown.fold.events_loop import Tending
    from mixdown.store.sqlite.folder import BackupWatch

    store = open_store(events.folder, role="events", create=False)
    tending = Tending(store, Silent(), busy=lambda: False, backups=BackupWatch(events.folder))
    lock = BackupLock(events.folder)
    lock.acquire()
    assert not tending._tend()
    lock.close()
    store.close()


class Silent:
    """Where nothing is told."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def test_a_sound_folder_is_told_with_what_it_holds(events: Cli) -> None:
    found = diagnosis(events)
    assert found["events"]["message"] == (
        "log head 33, watermark of events 32; 2 events in events.db, 30 in 3 files"
    )
    assert found["parquet"]["message"] == "3 files of events, and all of them can be read"
    assert repair(events) == []


def truncate(cli: Cli) -> None:
    """Cut a file off."""
    os.truncate(files(cli)[1], 100)


def remove(cli: Cli) -> None:
    """Take a file away."""
    files(cli)[1].unlink()


def overwrite(cli: Cli) -> None:
    """Something else under a file's name, of the same size."""
    path = files(cli)[1]
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("harm", "words"),
    [(truncate, "of 100 bytes where"), (remove, "missing"), (overwrite, "no Parquet file")],
    ids=["cut off", "missing", "overwritten"],
)
def test_a_listed_file_that_is_not_whole_is_found_and_taken_from_the_list(
    events: Cli, harm: Callable[[Cli], None], words: str
) -> None:
    harm(events)
    found = diagnosis(events, code=1)["events"]
    assert found["status"] == "fail"
    assert "1 of 3 files, with 10 events: events/1/recent/2.parquet is" in found["message"]
    assert words in found["message"]
    [made] = repair(events)
    assert (made["check"], made["made"]) == ("events", True)
    assert made["lost"].startswith("10 events of project 1 from 2024-10-04T00:00:00 to")
    left = stored(events)
    assert len(left) == 23
    assert left >= HOT
    kept = events.folder / "events.damaged-1" / "2.parquet"
    assert kept.exists() == (harm is not remove)
    diagnosis(events)


def test_damage_within_a_file_is_found_by_reading_it(events: Cli) -> None:
    path = files(events)[0]
    content = bytearray(path.read_bytes())
    for at in range(4, len(content) // 2):
        content[at] ^= 0x5A
    path.write_bytes(content)
    assert diagnosis(events, code=1)["events"]["status"] == "ok", "its size and ends are right"
    found = diagnosis(events, code=1)["parquet"]
    assert found["status"] == "fail"
    assert "events/1/recent/1.parquet is damaged" in found["message"]


def test_a_lost_list_is_made_anew_and_the_files_are_kept(events: Cli) -> None:
    lose(events, "events.db")
    assert "events.db is missing" in events("project", "list", code=1).stderr
    assert diagnosis(events, code=1)["events"]["message"].startswith("events.db is missing")
    [made] = repair(events)
    assert (made["check"], made["made"]) == ("files", True)
    assert "position 0" in made["action"]
    assert len(list((events.folder / "events.damaged-1").rglob("*.parquet"))) == 3
    assert stored(events) == FILED | HOT | {"waits"}, "the log still has everything"
    events("doctor", env=NO_RESERVE)


def test_a_place_that_does_not_fit_the_log_is_refused_and_mended(events: Cli) -> None:
    change(events, "log.db", "DELETE FROM chunks WHERE first >= 20")
    change(
        events, "log.db", "UPDATE head SET position = 20, held_bytes = (SELECT sum(length(body)) FROM chunks)"
    )
    assert "events.db" in events("project", "list", code=1).stderr
    assert diagnosis(events, code=1)["events"]["message"].endswith("has taken what the log never held")
    [made] = repair(events)
    assert "move the log's head to 32" in made["action"]
    assert stored(events) == FILED | HOT
    change(events, "events.db", "UPDATE reader SET watermark = 3")
    change(events, "log.db", "DELETE FROM chunks")
    assert "begins at 32" in events("project", "list", code=1).stderr
    assert [made["lost"] for made in repair(events) if made["check"] == "events"] == [
        "the events at positions 3 to 31, if there were any"
    ]
    diagnosis(events)


def test_events_of_a_newer_mixdown_are_refused(events: Cli) -> None:
    connection = apsw.Connection(str(events.folder / "events.db"))
    connection.pragma("user_version", 99)
    connection.close()
    assert "schema 99" in events("project", "list", code=1).stderr
    shown = events("doctor", code=1, env=NO_RESERVE).stdout
    assert "events.db has schema 99, known are up to" in shown
