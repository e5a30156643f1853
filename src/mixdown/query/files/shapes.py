"""What a row of a file is: a profile, or an event.

Enters: rows as the store's reads give them, or objects and cells as files have them. Leaves: lines and cells,
or what an import judges. A row has some columns that every row has, before those of its properties.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, Protocol

import orjson

from mixdown.query.files.columns import REST_COLUMN, Column

Lead = tuple[Any, ...]
"""The values of a row's first columns."""

PROFILE_LEAD: Final = (Column("i", "$distinct_id", "VARCHAR"),)
EVENT_LEAD: Final = (
    Column("e", "event", "VARCHAR"),
    Column("t", "time", "TIMESTAMP_MS"),
    Column("d", "distinct_id", "VARCHAR"),
    Column("n", "$insert_id", "VARCHAR"),
)
ARRIVAL: Final = ("mp_processing_time_ms", "$mp_api_endpoint", "$mp_api_timestamp_ms")
"""What an export says of how an event came; it is said anew of how it comes here."""
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Shape(Protocol):
    """How rows that are exported become rows of files. `noun` are the rows: "profiles"."""

    @property
    def noun(self) -> str:
        """What the rows are, for people."""

    @property
    def lead(self) -> tuple[Column, ...]:
        """The columns that each row has."""

    def line(self, row: Any, wanted: frozenset[str] | None) -> bytes:
        """A row as JSON; of its properties those that are wanted."""

    def document(self, row: Any, wanted: frozenset[str] | None) -> tuple[Lead, bytes]:
        """The first columns, and the properties as JSON."""

    def properties(self, row: Any, wanted: frozenset[str] | None) -> tuple[Lead, dict[str, Any]]:
        """The first columns, and the properties."""


class ProfileShape:
    """Rows are (id, document)."""

    noun: Final = "profiles"
    lead: Final = PROFILE_LEAD

    def line(self, row: tuple[str, bytes], wanted: frozenset[str] | None) -> bytes:
        (profile_id,), document = self.document(row, wanted)
        return b'{"$distinct_id":%b,"$properties":%b}' % (orjson.dumps(profile_id), document)

    def document(self, row: tuple[str, bytes], wanted: frozenset[str] | None) -> tuple[Lead, bytes]:
        if wanted is None:
            return row[:1], row[1]
        return row[:1], orjson.dumps(self.properties(row, wanted)[1])

    def properties(
        self, row: tuple[str, bytes], wanted: frozenset[str] | None
    ) -> tuple[Lead, dict[str, Any]]:
        return row[:1], chosen(orjson.loads(row[1]), wanted)


class EventShape:
    """Rows are lines of the raw export, `time` in milliseconds."""

    noun: Final = "events"
    lead: Final = EVENT_LEAD

    def line(self, row: str, wanted: frozenset[str] | None) -> bytes:
        if wanted is None:
            return row.encode()
        event = orjson.loads(row)
        names = wanted | {column.name for column in EVENT_LEAD}
        return orjson.dumps({**event, "properties": chosen(event["properties"], names)})

    def document(self, row: str, wanted: frozenset[str] | None) -> tuple[Lead, bytes]:
        lead, properties = self.properties(row, wanted)
        return lead, orjson.dumps(properties)

    def properties(self, row: str, wanted: frozenset[str] | None) -> tuple[Lead, dict[str, Any]]:
        event = orjson.loads(row)
        properties = event["properties"]
        time = time_text(properties.pop("time"))
        for name in ARRIVAL[1:]:  # the first says when, and the others nothing more
            del properties[name]
        lead = event["event"], time, properties.pop("distinct_id"), properties.pop("$insert_id")
        return lead, chosen(properties, wanted)


def chosen(properties: dict[str, Any], wanted: frozenset[str] | None) -> dict[str, Any]:
    """Those properties that are wanted; all for None."""
    if wanted is None:
        return properties
    return {name: value for name, value in properties.items() if name in wanted}


def time_text(ms: int) -> str:
    """A time as tables have it: ISO 8601 in UTC, with milliseconds."""
    return (_EPOCH + dt.timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def time_of(value: Any) -> Any:
    """A cell's time as an event has it: ISO 8601 (UTC where it names no zone) in ms, all else as it is."""
    if type(value) is not str or value[4:5] != "-":
        return value
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return value
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - _EPOCH) // dt.timedelta(milliseconds=1)


class RowReader(Protocol):
    """How rows of files become what an import judges, `R`."""

    @property
    def ids(self) -> Sequence[Sequence[str]]:
        """For each of the first columns the names that it may have, the usual one first."""

    @property
    def needed(self) -> int:
        """How many of these a table must have."""

    @property
    def what(self) -> Sequence[str]:
        """What stands in each of those that it must have, for people."""

    @property
    def hint(self) -> str:
        """What to do where a table has none."""

    def of_object(self, found: dict[str, Any]) -> Any:
        """An object of a line as a row."""

    def of_cells(self, lead: Lead, properties: dict[str, Any]) -> Any:
        """A row of a table: the first columns (None where a table or a row has none) and its properties."""


class ProfileReader:
    """Rows are (id, properties)."""

    needed: Final = 1
    what: Final = ("the ids",)
    hint: Final = "Name the column that holds the ids: --id-column NAME"

    def __init__(self, id_column: str | None = None) -> None:
        own = ("$distinct_id", "distinct_id", "$group_id", "group_id")
        self.ids = (own if id_column is None else (id_column,),)

    def of_object(self, found: dict[str, Any]) -> tuple[Any, Any]:
        """An object's `$properties`, or else all that is not the id."""
        names = self.ids[0]
        name = next((name for name in names if name in found), names[0])
        if REST_COLUMN in found:
            return found.get(name), found[REST_COLUMN]
        return found.get(name), {key: value for key, value in found.items() if key != name}

    def of_cells(self, lead: Lead, properties: dict[str, Any]) -> tuple[Any, Any]:
        return lead[0], properties


class EventReader:
    """Rows are events as a client sends them, without what an export says of their arrival."""

    ids: Final = (("event",), ("time",), ("distinct_id",), ("$insert_id", "insert_id"))
    needed: Final = 2
    what: Final = ("the names of events", "their times")
    hint: Final = "Give the column that name."

    def of_object(self, found: dict[str, Any]) -> dict[str, Any]:
        """An event, of which nothing but its name stands beside `properties`; or all side by side."""
        if "properties" in found:
            properties = found["properties"]
            if type(properties) is not dict:
                return {"event": found.get("event"), "properties": properties}
        else:
            properties = {name: value for name, value in found.items() if name != "event"}
        return {"event": found.get("event"), "properties": _own(properties)}

    def of_cells(self, lead: Lead, properties: dict[str, Any]) -> dict[str, Any]:
        event, time, distinct_id, insert_id = lead
        reserved = {"time": time_of(time), "distinct_id": distinct_id, "$insert_id": insert_id}
        reserved = {name: value for name, value in reserved.items() if value is not None}
        return {"event": event, "properties": {**_own(properties), **reserved}}


def _own(properties: dict[str, Any]) -> dict[str, Any]:
    if ARRIVAL[0] not in properties and ARRIVAL[2] not in properties:
        return properties
    return {name: value for name, value in properties.items() if name not in ARRIVAL}
