"""Files of events are read as they are listed, whatever the folders and properties in them are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mixdown.store.sqlite.events import SqliteEvents
from tests.store.support import DAY_MS, NOW_MS
from tests.store.test_event_files import (
    Held,
    event,
    expected,
    forms,
    home,
    new_home,
    opened,
    small_sizes,
    stored,
    tend,
    write,
)

__all__ = ["home", "new_home", "opened", "small_sizes"]


@pytest.mark.parametrize("name", ["filename", "(file)", "file_row_number", "position", "rest", "Event"])
def test_a_property_may_be_called_as_a_column_of_ours(opened: Held, name: str) -> None:
    written = [event(n, properties={name: f"a {n}"}) for n in range(8)]
    write(opened, written)
    tend(opened)
    again = [event(n + 10, n + NOW_MS, insert_id=f"i{n}", distinct_id=f"user {n % 5}") for n in range(6)]
    write(opened, again)
    tend(opened)
    assert forms(opened)[:2] == (0, 0)
    assert stored(opened, names=[name]) == expected(written + again)


@pytest.mark.parametrize("name", ["plan=gold", "a*c", "a[b]c", "{a,b}", "o'k ?"])
def test_a_folder_may_have_any_name(folder: Path, name: str) -> None:
    """DuckDB takes `plan=gold` in a path for a column, and some characters for patterns."""
    copies = [Path(shutil.copytree(folder, folder.parent / each / "data")) for each in ("abc", name)]
    held = [Held(copy, SqliteEvents(copy)) for copy in copies]
    written = [event(n, properties={"plan": "free"}) for n in range(8)]
    for each in held:
        write(each, written[:5], written[5:])
        assert stored(each, names=["plan"]) == written
        tend(each, now_ms=NOW_MS + 1)
        tend(each, now_ms=NOW_MS + DAY_MS)
        assert stored(each, names=["plan"]) == written
    for each in held:
        each.events.close()
