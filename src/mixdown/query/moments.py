"""When a profile changed: its moments, and when each of its properties last did.

A state and a profile enter; times leave. One walk back through history tells both, and it ends where it has
looked at enough: what it did not see is older than where it ended.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mixdown.model.operators import Properties
from mixdown.model.times import iso_seconds
from mixdown.query.history import names_changed, operator_of, steps_back
from mixdown.store.protocols import ProfileKey, State

MOMENTS_LIMIT: Final = 1000
LOOKS_LIMIT: Final = 4_000_000
"""Properties that are compared at most, of all records together: about half a second."""


class Moment(msgspec.Struct, frozen=True):
    """A time at which a profile changed, in ms; how many properties did, and whether it came or went."""

    time_ms: int
    changes: int
    whole: str = ""


class LastChange(msgspec.Struct, frozen=True):
    """What changed a property last: the record's place in the log, its time, its operator, who sent it."""

    position: int
    time_ms: int
    operator: str
    endpoint: str
    sdk: str


class Moments(msgspec.Struct, frozen=True):
    """When a profile changed.

    `moments` are the newest first, those of one time together; `more` says that there are others before them.
    `changed` has the properties that stand and whose last change was met; all others changed before
    `before_ms`, or nobody knows (None: no history is kept).
    """

    moments: list[Moment]
    changed: dict[str, LastChange]
    more: bool
    before_ms: int | None


def moments_of(state: State, key: ProfileKey) -> Moments:
    """When a profile changed, and each property that it has. Blocks. Raises `CorruptStoreError`."""
    since_ms = state.history_reach().since_ms
    walk = _Walk()
    for record, before, after in steps_back(state, key):
        old, new = before or {}, after or {}
        if walk.standing is None:
            walk.standing = new
        walk.looks += len(old) + len(new) + 1
        if walk.looks > LOOKS_LIMIT:
            walk.more = True
            since_ms = max(since_ms or 0, record.time_ms)
            break
        names = names_changed(old, new)
        for name in names:
            if name in walk.standing and name not in walk.changed:
                walk.changed[name] = LastChange(
                    record.position, record.time_ms, operator_of(record, name), record.endpoint, record.sdk
                )
        if (before is None) != (after is None):
            walk.note(record.time_ms, len(names), "created" if before is None else "deleted")
        elif names:
            walk.note(record.time_ms, len(names), "")
    return Moments(walk.moments, walk.changed, walk.more, since_ms)


class _Walk:
    """What a walk has met so far."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self.changed: dict[str, LastChange] = {}
        self.standing: Properties | None = None
        self.looks = 0
        self.more = False

    def note(self, time_ms: int, changes: int, whole: str) -> None:
        """Records of one time are one moment; of several words about the profile the newest stays."""
        last = self.moments[-1] if self.moments else None
        if last is not None and last.time_ms == time_ms:
            self.moments[-1] = Moment(time_ms, last.changes + changes, last.whole or whole)
        elif len(self.moments) < MOMENTS_LIMIT:
            self.moments.append(Moment(time_ms, changes, whole))
        else:
            self.more = True


def moments_view(found: Moments) -> dict[str, Any]:
    """Moments as they are shown."""
    return {
        "moments": [
            {"time": iso_seconds(each.time_ms), "time_ms": each.time_ms, "changes": each.changes}
            | ({"profile": each.whole} if each.whole else {})
            for each in found.moments
        ],
        "changed": {
            name: {
                "time": iso_seconds(last.time_ms),
                "time_ms": last.time_ms,
                "position": last.position,
                "operator": last.operator,
                "endpoint": last.endpoint,
                "sdk": last.sdk,
            }
            for name, last in found.changed.items()
        },
        "more": found.more,
        "before": None if found.before_ms is None else iso_seconds(found.before_ms),
        "before_ms": found.before_ms,
    }
