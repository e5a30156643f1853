"""Events as they are stored and read: what the events reader of the log hands over, and what reads get.

Enters: batches of events in log order. Leaves: for a project and a span of time, the *parts* that hold
its events: listed Parquet files, and hot batches as ndjson (`store.duck.open_events` makes one table of
them). An event is known by (event, distinct_id, time, insert_id) within its project; where several are
stored, the one with the highest position counts. Ids are kept as they were sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

from mixdown.store.chunk import Outcome

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Kind = Literal["text", "integer", "number", "boolean"]
"""What a property's own column in a file holds; values of other kinds stand in the column `rest`."""

FIRST_MS: Final = -(2**53)
LAST_MS: Final = 2**53
"""Bounds of the times of events: milliseconds since 1970, every integer that a double holds exactly."""


class EventBatch(msgspec.Struct, frozen=True):
    """Events of one project that one step of the reader took from the log.

    `lines` is ndjson: an object a line, each line ended by a newline, with exactly the members
    `position` (int, of the record in the log), `arrived` (int, ms: chunk time), `event`, `time` (int,
    ms), `distinct_id`, `insert_id` (texts) and `properties` (an object without twice the same name).
    Positions ascend. `first_ms` and `last_ms` are the least and the greatest `time` in it.
    """

    project: int
    count: int
    first_ms: int
    last_ms: int
    lines: bytes


class EventsWrite(msgspec.Struct, frozen=True):
    """What one transaction of the events reader writes: batches, request keys, the watermark.

    `keys` are (request key, chunk time in ms, outcome or None), as in `FoldResult`. `begin` is the watermark
    that it goes on from: where it is given and another stands, a store that several processes may write
    raises and writes nothing.
    """

    watermark: int
    batches: Sequence[EventBatch]
    keys: Sequence[tuple[bytes, int, Outcome | None]]
    now_ms: int
    begin: int | None = None


class PropertyColumn(msgspec.Struct, frozen=True, array_like=True):
    """A property with a column of its own in a file.

    `column` is the column's name. A `number` column holds doubles; where some of them were sent as
    integers, `integers` names a boolean column that is true for those ("" where none was).
    """

    name: str
    kind: Kind
    column: str
    count: int
    integers: str = ""


class EventFile(msgspec.Struct, frozen=True):
    """A listed Parquet file, with the least and the greatest time of its rows.

    `day` is its UTC day (days since 1970), None for a recent file: its properties are one column of JSON
    text, and rows before `begin_ms`, where that is given, count as not there (they have moved to files of
    days). `columns` are the properties with a column of their own; `rest` are the names that the column
    `rest` has, None where they are too many to name. `dead` are positions of rows that count as not there.
    """

    number: int
    project: int
    path: str
    day: int | None
    count: int
    size_bytes: int
    first_ms: int
    last_ms: int
    begin_ms: int | None = None
    columns: tuple[PropertyColumn, ...] = ()
    rest: frozenset[str] | None = frozenset()
    dead: tuple[int, ...] = ()


Attach = Callable[["DuckDBPyConnection"], None]
"""Lets a DuckDB connection open the paths of files that are none of this machine."""


class Parts(msgspec.Struct, frozen=True):
    """What holds a project's events with `since_ms` <= time < `until_ms`, as of `watermark`.

    Some parts hold others as well. `files` stay on disk for `GRACE_MS` after they were given out; where
    `attach` is given, a connection reads them once it was called with it. No event has a position above
    the watermark.
    """

    project: int
    since_ms: int
    until_ms: int
    watermark: int
    files: tuple[EventFile, ...] = ()
    hot: tuple[bytes, ...] = ()
    attach: Attach | None = None


class EventsSize(msgspec.Struct, frozen=True):
    """How much is stored: events (those sent twice may count twice) and bytes, hot and in files.

    `waiting` counts files that are still to be split or merged, `removable` those that wait to be
    unlinked, `dead` the rows that are hidden and go when their file is written anew.
    """

    hot_events: int = 0
    hot_bytes: int = 0
    files: int = 0
    file_events: int = 0
    file_bytes: int = 0
    waiting: int = 0
    removable: int = 0
    dead: int = 0


GRACE_MS: Final = 15 * 60 * 1000
"""How long a file that is no longer listed stays on disk for the reads that still have it on their list."""


class Events(Protocol):
    """Stored events. One process writes (`write`, `tend`, `forget`, `drop`); any may read.

    `tend` may run in a thread of its own beside `write`: it holds up neither writes nor reads, but for
    its short commits. A file that is listed no more stays for `grace_ms` (`GRACE_MS`; a process that knows
    that nobody reads may set 0).
    """

    grace_ms: int

    def watermark(self) -> int:
        """The position up to which (exclusive) the log has been taken into this store, on disk."""

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        """Those of `keys` that were written at or after chunk time `since_ms`, with their outcomes."""

    def key_window(self) -> tuple[int, int]:
        """How many request keys are held, and the chunk time of the oldest (0 if none)."""

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        """Take what the outcomes of these request keys quote (`store.privacy.redact`); keys stay."""

    def write(self, written: EventsWrite) -> None:
        """Write everything in `written`, in one transaction, on disk when it returns."""

    def tend(self, *, busy: bool, now_ms: int) -> bool:
        """Do one piece (a second or so) of what keeps events quick to read; whether there was any.

        While `busy` only what cannot wait: closing hot batches, splitting when many recent files wait.
        Only the process that writes may ask; it may be killed at any point.
        """

    def parts(self, project: int, since_ms: int, until_ms: int) -> Parts:
        """What holds the project's events with `since_ms` <= time < `until_ms`, of one moment."""

    def projects(self) -> list[int]:
        """The projects that have events stored, ascending."""

    def forget(self, project: int, ids: Collection[str], *, below: int) -> Iterator[int]:
        """Hide the events with these distinct_ids (as they were sent) and positions below `below`.

        A part at a time, each in a transaction of its own: how many events were hidden in it. Once the
        iterator has ended none is given out any more; `tend` then takes them off the disk, and
        `owed` tells when that is done. Asked again it does what is left.
        """

    def forgotten(self) -> int:
        """The position in the log up to which (exclusive) erasures have been carried through to here."""

    def note_forgotten(self, position: int) -> None:
        """Note that they have been, on disk when it returns."""

    def drop(self, project: int) -> None:
        """Hide all events of a project at once, for good; `tend` takes them off the disk."""

    def owed(self, project: int) -> int:
        """How many files still hold rows that `forget` or `drop` hid."""

    def size(self, project: int | None = None) -> EventsSize:
        """How much is stored, of one project or of all; cheap."""

    def close(self) -> None:
        """Release files. Closed events raise on use."""


def batch_of(project: int, events: Iterable[Mapping[str, Any]]) -> EventBatch:
    """A batch of events given as objects with the members of `EventBatch.lines`, in their order."""
    held = list(events)
    times = [event["time"] for event in held]
    return EventBatch(
        project=project,
        count=len(held),
        first_ms=min(times),
        last_ms=max(times),
        lines=b"".join(msgspec.json.encode(event) + b"\n" for event in held),
    )
