"""A month in the life of a server, for pictures: records arrive when they would have, by a clock of its own.

A fresh server that follows a `Clock` enters; it then holds what `pleasant` says, with changes that lie days
apart, and a last ten minutes with something in each. The same each time but for the real clock.
"""

import os
import random
import struct
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.explorer import pleasant
from tests.explorer.pleasant import DAY_S, PEOPLE
from tests.serving import Server

FOLDER: Final = Path(__file__).parent / "clock"
_BUCKET_S: Final = 3 * 3600
_LAST_S: Final = 600
_LAST_BUCKET_S: Final = 10
_ADA_DAYS: Final = (19, 11, 5, 2)


class Clock:
    """What a server's clock is off by; its processes read it from a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, offset_s: float) -> None:
        """From now on the server's clock is off by so much."""
        if not self._file.exists():
            self._file.write_bytes(bytes(8))
        with self._file.open("r+b") as opened:
            opened.write(struct.pack("<q", int(offset_s * 1e9)))

    def environment(self) -> dict[str, str]:
        """What the server is started with."""
        others = [path for path in (os.environ.get("PYTHONPATH"),) if path]
        return {"PYTHONPATH": os.pathsep.join([str(FOLDER), *others]), "EXPLORER_CLOCK": str(self._file)}


class Moment(NamedTuple):
    """A record, where it is sent to, and when."""

    at_s: float
    path: str
    record: dict[str, Any]


def play(server: Server, clock: Clock, now_s: int) -> None:
    """Send the month; the clock stands right when it is over."""
    moments = sorted([*_changes(now_s), *_groups(now_s), *_events(now_s), *_lately(now_s)], key=_when)
    for ends_s, some in groupby(moments, key=lambda moment: _bucket_end(moment.at_s, now_s)):
        clock.set(ends_s - now_s)
        for path, records in groupby(sorted(some, key=lambda moment: moment.path), key=lambda one: one.path):
            reply = server.post(f"{path}?ip=0", [_signed(server, path, each.record) for each in records])
            assert reply.body == b"1", reply
    clock.set(0)


def _when(moment: Moment) -> float:
    return moment.at_s


def _bucket_end(at_s: float, now_s: int) -> float:
    if at_s > now_s - _LAST_S:
        return now_s - (now_s - at_s) // _LAST_BUCKET_S * _LAST_BUCKET_S
    return min(now_s - (now_s - at_s) // _BUCKET_S * _BUCKET_S, now_s - _LAST_S)


def _signed(server: Server, path: str, record: dict[str, Any]) -> dict[str, Any]:
    if path != "/track":
        return {"$token": server.token, **record}
    return {**record, "properties": {**record["properties"], "token": server.token}}


def _changes(now_s: int) -> Iterator[Moment]:
    """Updates of users: everyone's first when they joined, upgrades and payments later, Ada's over weeks."""
    source = random.Random(12)
    begun_s = now_s - 29 * DAY_S
    joined = {
        each.id: max(each.joined_s, begun_s + source.randrange(DAY_S)) for each in pleasant.people(now_s)
    }
    ada = iter(_ADA_DAYS)
    for number, batch in enumerate(pleasant.profile_updates(now_s)):
        its_day_s = now_s - next(ada) * DAY_S if 3 <= number <= 6 else 0
        for record in batch:
            first_s = joined[record["$distinct_id"]]
            left_s = now_s - _LAST_S - first_s
            at_s = its_day_s or first_s + left_s * (0, 0.15, 0.2 + 0.1 * source.random(), 1)[min(number, 3)]
            yield Moment(min(at_s, now_s - source.randrange(_LAST_S, DAY_S // 2)), "/engage", record)


def _groups(now_s: int) -> Iterator[Moment]:
    for number, record in enumerate(pleasant.group_updates(now_s)):
        yield Moment(now_s - 29 * DAY_S + number * 60, "/groups", record)


def _events(now_s: int) -> Iterator[Moment]:
    for event in pleasant.events(now_s):
        at_s = event["properties"]["time"]
        if at_s > now_s - 29 * DAY_S:
            yield Moment(at_s, "/track", event)


def _lately(now_s: int) -> Iterator[Moment]:
    """The last ten minutes: a few records each ten seconds."""
    source = random.Random(13)
    everyone = pleasant.people(now_s)
    for ago_s in range(_LAST_S, 0, -_LAST_BUCKET_S // 2):
        for number in range(source.randrange(3)):
            person = everyone[1 + int((PEOPLE - 1) * source.random() ** 2)]
            at_s = now_s - ago_s + number
            yield Moment(at_s, "/track", pleasant.event(person, source, at_s, f"late-{ago_s}-{number}"))
            if source.random() < 0.4:
                change = {"$distinct_id": person.id, "$add": {"tasks_done": 1}}
                yield Moment(at_s, "/engage", change)
