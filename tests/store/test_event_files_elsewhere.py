"""Files of events in the hands of others: DuckDB, Polars, and whatever reads Parquet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from mixdown.store import event_upkeep
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.events import SqliteEvents
from tests.store.support import NOW_MS
from tests.store.test_event_files import Held, event, tend, write

PROPERTIES = [
    {"plan": "pro", "seats": 3, "price": 9.5, "trial": True, "tags": ["a", "b"], "Plan": "shadowed"},
    {"plan": 'it\'s "quoted"', "seats": 4, "price": 10, "trial": False, "note": None},
    {"plan": 7, "seats": 5, "price": 10.0, "event": "click"},
]


@pytest.fixture
def file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of one day with three events."""
    monkeypatch.setattr(event_upkeep, "CLOSED_EVENTS", 3)
    monkeypatch.setattr(event_upkeep, "SPLIT_EVENTS", 3)
    held = Held(folder, SqliteEvents(folder))
    write(held, [event(n, properties=properties) for n, properties in enumerate(PROPERTIES)])
    tend(held)
    with sqlite.connect(folder / "events.db", sqlite.EVENTS) as database:
        ((path, _, day, events, dead),) = sqlite.rows(database, "SELECT * FROM event_files")
    held.events.close()
    assert (day, events, dead) == (path.split("/")[1], 3, 0)
    return str(folder / "events" / path)


def test_polars_sees_typed_columns(file: str) -> None:
    frame = pl.read_parquet(file).sort("position")
    assert frame["time"].to_list()[0] == datetime.fromtimestamp(NOW_MS / 1000, UTC).replace(tzinfo=None)
    assert frame["event"].to_list() == ["seen"] * 3
    assert frame["plan"].to_list() == ["pro", 'it\'s "quoted"', None]
    assert frame["seats"].to_list() == [3, 4, 5]
    assert frame["price"].to_list() == [9.5, 10.0, 10.0]
    assert frame["price (integer)"].to_list() == [None, True, None]
    assert frame["trial"].to_list() == [True, False, None]
    assert frame["event (property)"].to_list() == [None, None, "click"]
    types = {"seats": pl.Int64, "price": pl.Float64, "trial": pl.Boolean, "plan": pl.String}
    assert {name: frame.schema[name] for name in types} == types
    rest = frame["rest"].str.json_decode(pl.Struct({"tags": pl.List(pl.String), "Plan": pl.String}))
    assert rest.to_list()[0] == {"tags": ["a", "b"], "Plan": "shadowed"}


def test_plain_duckdb_reads_them_too(file: str) -> None:
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT sum(price), count(*) FILTER (trial), max(rest->>'Plan') FROM read_parquet(?)",
            [file],
        ).fetchall()
    assert found == [(29.5, 1, "shadowed")]
