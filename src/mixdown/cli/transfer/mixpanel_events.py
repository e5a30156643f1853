"""The events of a Mixpanel project, through its own raw export (contract query §4), a day after the other.

Enters: where the project is, days, credentials. Leaves: batches of lines. A day is fetched whole, to a file
of a private folder, before any of it is imported: one that was cut off is fetched again. Each day that is on
disk is noted, so that a later command goes on with the next.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from mixdown.cli.transfer.asking import Asker, CutOffError, MixpanelError, keep_place
from mixdown.cli.transfer.forms import READ_BYTES, unpacked
from mixdown.cli.transfer.reading import Batch, Lines
from mixdown.query.files.shapes import EventReader

REGIONS: Final = {
    "us": "https://data.mixpanel.com",
    "eu": "https://data-eu.mixpanel.com",
    "in": "https://data-in.mixpanel.com",
}
PATH: Final = "/api/2.0/export"
_CUT_OFF: Final = b"terminated early"
_TOO_NEW: Final = "later than today"
_TAIL_BYTES: Final = 256
_DAY: Final = dt.timedelta(days=1)


class Question(msgspec.Struct, frozen=True):
    """Which events of which project. `project_id` is "" where a project secret says which one is meant."""

    base_url: str
    project_id: str
    since: dt.date
    until: dt.date
    events: tuple[str, ...] = ()
    where: str = ""


class Place(msgspec.Struct):
    """How far the reading of a project is: the day that comes next, and what came before."""

    asked: dict[str, Any]
    day: dt.date
    rows: int = 0


class MixpanelEvents:
    """`Source` of a project's events. `place_file` remembers the place between commands."""

    def __init__(
        self,
        question: Question,
        authorization: str,
        place_file: Path,
        scratch: Path,
        *,
        tell: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._question = question
        self._file = place_file
        self._scratch = scratch / "day"
        self._tell = tell
        self._asker = Asker(question.base_url, authorization, tell=tell, sleep=sleep)
        self._lines = Lines(iter(()), EventReader())
        asked: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(question))
        self._place = Place(asked, question.since)
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode(place_file.read_bytes(), type=Place)
            if found.asked == asked:
                self._place = found
                tell(f"going on with {found.day}: {found.rows} events were read before")
        self.total = (question.until - question.since).days + 1

    def batches(self) -> Iterator[Batch]:
        """The days as batches; one without events gives an empty batch. Raises `MixpanelError`."""
        place = self._place
        while place.day <= self._question.until:
            if not self._fetch(place.day):
                self._tell(f"{place.day} is not over where the project is: reading ends here")
                return
            day, place.day = place.day, place.day + _DAY
            held: Batch | None = None
            for batch in self._batches_of(day):
                batch.numbers = list(range(place.rows + 1, place.rows + len(batch.raws) + 1))
                place.rows += len(batch.raws)
                if held is not None:
                    yield held
                held = batch
            last = held or Batch([], [], f"mixpanel {day} without events")
            last.mark = msgspec.structs.replace(place)
            yield last

    def done_of_total(self, rows: int) -> int:
        """The days that were read; those of earlier runs count too."""
        del rows
        return (self._place.day - self._question.since).days

    def row(self, raw: Any) -> Any:
        """A line as an event."""
        return self._lines.row(raw)

    def hostile(self, raw: Any) -> bool:
        """As in a file."""
        return self._lines.hostile(raw)

    def record(self, raw: Any) -> Any:
        """As in a file."""
        return self._lines.record(raw)

    def done(self, batch: Batch) -> None:
        """Remember the day whose last batch this is."""
        if batch.mark is not None:
            keep_place(self._file, batch.mark)

    def finish(self) -> None:
        """All days are on disk: a later command begins anew."""
        self._file.unlink(missing_ok=True)

    def _batches_of(self, day: dt.date) -> Iterator[Batch]:
        with self._scratch.open("rb") as file:
            pieces = unpacked(file, "gz", f"the events of {day}")
            for batch in Lines(pieces, EventReader()).batches():
                batch.identity = f"mixpanel {self._question.base_url} {day} {batch.identity}"
                yield batch

    def _fetch(self, day: dt.date) -> bool:
        """Fetch a day; False where Mixpanel says that it is yet to come."""
        question = self._question
        query = {"from_date": str(day), "to_date": str(day), "time_in_ms": "true"}
        if question.project_id:
            query["project_id"] = question.project_id
        if question.events:
            query["event"] = json.dumps(question.events)
        if question.where:
            query["where"] = question.where
        try:
            self._asker.ask(PATH, query, None, self._keep, accept="text/plain")
        except MixpanelError as error:
            if _TOO_NEW in error.message:
                return False
            raise
        return True

    def _keep(self, reply: IO[bytes]) -> None:
        """Write an answer to the file, compressed. Raises `CutOffError`."""
        tail = b""
        packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        with self._scratch.open("wb") as file:
            while piece := reply.read(READ_BYTES):
                tail = (tail + piece)[-_TAIL_BYTES:]
                file.write(packer.compress(piece))
            file.write(packer.flush())
        last = tail.strip().rpartition(b"\n")[2]
        if last.endswith(_CUT_OFF):
            raise CutOffError(f"the answer ends with {last.decode(errors='replace')!r}")
