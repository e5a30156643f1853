"""The run of `mixdown db copy`: a copy of the folder, its tables, its log, and at the end the switch.

Enters: a data folder that is in use, an empty database. Leaves: the database with all that was acknowledged,
and a folder that takes no more. Each part can be cut off at any moment: the next run goes on from what the
database says is there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final, Literal, cast

import msgspec

from mixdown.cli.output import Failure
from mixdown.fold.events import EventsReader
from mixdown.fold.profiles import ProfileFold
from mixdown.model.errors import StoreError
from mixdown.store.chunk import FOR_ALL
from mixdown.store.duck.writing import DAY_MS
from mixdown.store.event_upkeep import first_kept_day
from mixdown.store.events import FIRST_MS
from mixdown.store.moving import checks, events, rows, source
from mixdown.store.moving.catalog import copy_catalog
from mixdown.store.moving.shipping import Shipping
from mixdown.store.opening import Holding, holding_of
from mixdown.store.places import partition_for, places_of
from mixdown.store.postgres import filling
from mixdown.store.postgres.store import PostgresStore
from mixdown.store.protocols import Store
from mixdown.store.shelves import NoShelf
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.backup import copy_readers
from mixdown.store.sqlite.store import SqliteStore

COPY_FOLDER: Final = "moving"
_MADE: Final = "copy.json"
SHIP_EVERY_S: Final = 5.0
TEND_EVERY_S: Final = 1.0
CLOSE_ENOUGH_RECORDS: Final = 20_000
SETTLE_LIMIT_S: Final = 600.0
_POLL_S: Final = 0.05
_READERS: Final[tuple[Literal["fold", "events"], ...]] = ("fold", "events")

Tell = Callable[[str, int, int], None]
"""Told what is done, how many rows are, and how many there are in all."""


class _Made(msgspec.Struct, frozen=True):
    """What a copy of the folder is of: positions of its log, when deletions were held."""

    copy: str
    fold_from: int
    events_from: int
    log_end: int
    began_ms: int


class Outcome(msgspec.Struct, frozen=True):
    """What a run did: rows of each step, what was compared, whether the folder is closed for good."""

    rows: dict[str, int]
    shipped: int
    switched: bool
    closed_s: float = 0.0
    found: checks.Found = {}


class Move:
    """One run. `folder` is the source as it was opened, `target` the database (`filling`)."""

    def __init__(
        self,
        folder: SqliteStore,
        target: PostgresStore,
        *,
        tell: Tell,
        history: bool,
        event_days: int,
        fold_here: Callable[[], None],
    ) -> None:
        self._source = folder
        self._target = target
        self._tell = tell
        self._history = history
        self._event_days = event_days
        self._fold_here = fold_here
        self._work = folder.folder / COPY_FOLDER

    def run(self, *, switch: bool, digests: bool) -> Outcome:
        """Go on from wherever it is. Raises `Failure`, `StoreError`."""
        with source.one_copier(self._source.folder):
            copy = self._begun()
            marker = source.marker_of(self._source.folder)
            switch |= marker is not None and marker.state != "copying"
            steps = filling.Steps(self._target.database)
            shipping = Shipping(self._source.log, self._target, copy)
            self._copy_tables(steps, copy, shipping)
            with self._folding() as fold:
                self._catch_up(shipping, fold)
                if not switch:
                    return Outcome(steps.rows(), shipping.position, switched=False)
                began = time.monotonic()
                self._close(copy)
                self._catch_up(shipping, fold, to_the_end=True)
                self._settle_source()
                source.close_to_refusals(self._source.folder)
                copy_catalog(self._source.folder, steps)
                found = self._compare(digests=digests)
            self._finish(copy)
            return Outcome(
                steps.rows(),
                shipping.position,
                switched=True,
                closed_s=time.monotonic() - began,
                found=found,
            )

    # --- the beginning

    def _begun(self) -> filling.Copy:
        """The copy that is under way, or one that begins."""
        folder, database = self._source.folder, self._target.database
        marker, held = source.marker_of(folder), filling.copy_in(database)
        if held is None:
            if marker is not None and marker.state != "copying":
                raise Failure(f"the data of {folder} moves to {marker.to}, or has moved", hint=_undo(folder))
            return self._begin()
        if held.finished_ms:
            shutil.rmtree(self._work, ignore_errors=True)
            raise Failure(
                f"{database.what} has had all of {held.source} since it was copied",
                hint="Serve it. To copy anew, make another database.",
            )
        if marker is None or marker.copy != held.copy or self._made_copy() != held.copy:
            raise Failure(
                f"{database.what} holds an unfinished copy of {held.source}, of another folder or given up",
                hint="Make a new database and copy into that.",
            )
        source.hold_deletions(folder, since_ms=held.began_ms)
        return held

    def _begin(self) -> filling.Copy:
        folder, database = self._source.folder, self._target.database
        filling.refuse_filled(database)
        large = [project.id for project in self._source.catalog.projects() if project.large]
        if large:
            raise Failure(f"project {large[0]} is marked large, which no project of a data folder can be")
        now_ms = _now_ms()
        made = secrets.token_hex(8)
        source.put_marker(folder, source.Marker(made, "copying", database.what, now_ms))
        source.hold_deletions(folder, since_ms=now_ms + 1)
        source.wait_for_deletions(folder)
        began_ms = _now_ms() + 1  # those that were under way had begun before
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(mode=0o700)
        places = copy_readers(folder, self._work, progress=self._tell)
        text = msgspec.json.encode(
            _Made(made, places.watermark, places.events_watermark, places.head, began_ms)
        )
        (self._work / _MADE).write_bytes(text)
        copy = filling.Copy(
            copy=made,
            source=str(folder),
            fold_from=places.watermark,
            events_from=places.events_watermark,
            log_end=places.head,
            shipped=min(places.watermark, places.events_watermark),
            began_ms=began_ms,
        )
        events_db = self._work / sqlite.EVENTS.file_name
        with closing(sqlite.connect(events_db, sqlite.EVENTS)) as held:
            events.refuse_without_shelf(held, self._target.shelf)
        filling.begin(database, copy)
        return copy

    def _made_copy(self) -> str:
        try:
            return msgspec.json.decode((self._work / _MADE).read_bytes(), type=_Made).copy
        except (OSError, msgspec.MsgspecError):
            return ""

    # --- tables

    def _copy_tables(self, steps: filling.Steps, copy: filling.Copy, shipping: Shipping) -> None:
        if steps.is_done("places"):
            return
        shipped = time.monotonic() - SHIP_EVERY_S

        def told(what: str, done: int, total: int) -> None:
            nonlocal shipped
            self._tell(what, done, total)
            if time.monotonic() - shipped > SHIP_EVERY_S:  # the folder keeps its log for a while only
                while shipping.step():
                    pass
                shipped = time.monotonic()

        self._set_heads(steps, copy)
        projects = [project.id for project in self._source.catalog.projects()]
        homes = [partition_for(steps.partitions, project) for project in projects] or [0]
        with ExitStack() as stack:
            state, stored = (
                stack.enter_context(closing(sqlite.connect(self._work / kind.file_name, kind)))
                for kind in (sqlite.STATE, sqlite.EVENTS)
            )
            stack.enter_context(sqlite.store_errors(str(self._work)))
            tables = rows.StateTables(state, steps.partitions, homes)
            for table in tables.all():
                rows.copy_table(state, steps, table, told)
            rows.sum_up(state, steps, homes)
            events.copy_events(stored, self._work, self._target.shelf, steps, tables, told)
        self._target.database.run("ANALYZE")
        with steps.writing("places", [], 0, done=True):
            pass

    def _set_heads(self, steps: filling.Steps, copy: filling.Copy) -> None:
        """Have partition 0, whose positions are the folder's, go on behind all that was copied."""
        if steps.is_done("heads"):
            return
        with steps.writing("heads", [], 0, done=True) as cursor:
            cursor.execute(
                "UPDATE mixdown.heads SET position = %s, parted = %s WHERE partition = 0 AND position = 0",
                (copy.log_end, copy.log_end),
            )
            cursor.execute(
                "UPDATE mixdown.watermarks SET position = %s WHERE partition = 0 AND position = 0",
                (copy.log_end,),
            )

    # --- the log

    @contextmanager
    def _folding(self) -> Iterator[_Folding]:
        """The right to fold all partitions, until the block ends."""
        name = f"copy-{os.getpid()}"
        holdings = [holding_of(self._as_store(), kind, name) for kind in _READERS]
        folding = _Folding(
            self._target, [each for each in holdings if each is not None], history=self._history
        )
        try:
            yield folding
        finally:
            folding.close()

    def _as_store(self) -> Store:
        return cast("Store", self._target)

    def _catch_up(self, shipping: Shipping, fold: _Folding, *, to_the_end: bool = False) -> None:
        """Take over and fold the log, up to where little is left, or nothing."""
        fold.tend()
        first, enough = shipping.position, 0 if to_the_end else CLOSE_ENOUGH_RECORDS
        while True:
            taken = shipping.step()
            fold.all_there_is()
            head = shipping.position + shipping.behind()
            self._tell("records of the log", shipping.position - first, head - first)
            behind = shipping.behind()
            if behind <= enough or not (taken or to_the_end):
                return

    # --- the switch

    def _close(self, copy: filling.Copy) -> None:
        folder = self._source.folder
        what = self._target.database.what
        source.put_marker(folder, source.Marker(copy.copy, "closed", what, copy.began_ms))
        source.close_to_writes(folder)

    def _settle_source(self) -> None:
        """Wait until the folder's own readers have come to its end: what is compared is compared there."""
        until = time.monotonic() + SETTLE_LIMIT_S
        while True:
            place = places_of([self._source], FOR_ALL)[0]
            if place.slowest >= place.head:
                return
            self._fold_here()
            if time.monotonic() > until:
                raise Failure(
                    f"the folder's server is {place.head - place.slowest} records behind, and stays so",
                    hint="Stop it and give the command again: it folds what is left itself.",
                )
            time.sleep(_POLL_S)

    def _compare(self, *, digests: bool) -> checks.Found:
        """What both hold. Raises `Failure` where it is not the same."""
        projects = [project.id for project in self._source.catalog.projects()]
        here = checks.profiles_in_folder(self._source, digests=digests)
        there = checks.profiles_in_database(self._target, digests=digests)
        # days that either may have dropped by now, or not yet, count for neither
        since_ms = first_kept_day(_now_ms(), self._event_days) * DAY_MS if self._event_days else FIRST_MS
        here |= checks.events_in(self._source, projects, since_ms=since_ms)
        there |= checks.events_in(self._as_store(), projects, since_ms=since_ms)
        found = checks.differences(here, there)
        if found:
            first = found[0]
            raise Failure(
                f"folder and database differ in {len(found)} places: {first.what} of project {first.project}:"
                f" {first.here.rows} ({first.here.digest}) and {first.there.rows} ({first.there.digest})",
                hint=f"Nothing was switched, and the folder is closed. {_undo(self._source.folder)}",
            )
        return here

    def _finish(self, copy: filling.Copy) -> None:
        folder, database = self._source.folder, self._target.database
        database.run("ANALYZE")
        source.put_marker(folder, source.Marker(copy.copy, "moved", database.what, copy.began_ms))
        database.run(
            "UPDATE mixdown.copying SET finished_ms = %s WHERE one = 1 AND copy = %s", (_now_ms(), copy.copy)
        )
        shutil.rmtree(self._work, ignore_errors=True)


class _Folding:
    """Folds all partitions of the target, as a node would."""

    def __init__(self, target: PostgresStore, holdings: list[Holding], *, history: bool) -> None:
        self._target = target
        self._holdings = holdings
        self._history = history
        self._folds: dict[int, tuple[ProfileFold, EventsReader]] = {}
        self._tended = 0.0

    def tend(self) -> None:
        """Hold all partitions. Raises `StoreError` where others hold some, after their time."""
        everyone = set(range(self._target.partition_count))
        until = time.monotonic() + 15.0
        while not all(everyone <= set(each.tend()) for each in self._holdings):
            if time.monotonic() > until:
                raise StoreError(
                    "other processes fold this database", hint="Stop the servers that run on it, then go on."
                )
            time.sleep(0.2)
        self._tended = time.monotonic()

    def all_there_is(self) -> None:
        """Fold what is in the logs, and take its events."""
        for place in self._target.places(range(self._target.partition_count)):
            if place.slowest >= place.head:
                continue
            fold, reader = self._of(place.partition)
            while fold.step() is not None:
                self._tend_in_time()
            while reader.step() is not None:
                self._tend_in_time()
            reader.finish()
            if not isinstance(self._target.shelf, NoShelf):
                reader_events = self._target.partition(place.partition).events
                reader_events.tend(busy=True, now_ms=_now_ms())

    def _tend_in_time(self) -> None:
        if time.monotonic() - self._tended > TEND_EVERY_S:
            self.tend()

    def _of(self, partition: int) -> tuple[ProfileFold, EventsReader]:
        if partition not in self._folds:
            view = self._target.partition(partition)
            self._folds[partition] = ProfileFold(view, history=self._history), EventsReader(view)
        return self._folds[partition]

    def close(self) -> None:
        """Let others fold."""
        for fold, _ in self._folds.values():
            fold.close()
        for each in self._holdings:
            each.leave()


def undo(folder: Path) -> bool:
    """Have the folder take records again, and forget its copy; whether there was one."""
    with source.one_copier(folder):
        found = source.open_again(folder)
        shutil.rmtree(folder / COPY_FOLDER, ignore_errors=True)
        return found


def _undo(folder: Path) -> str:
    return f"To have the folder take records again: mixdown db copy --undo --from {folder}."


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
