"""Which process reads which partition of the log: leases, and the fences that keep late writers out.

Enters: a kind of reader, a name for this process, how long a lease lasts. Leaves: the partitions that this
process holds, each with the fence of its lease. Time is the database's alone. A holder renews; when it stops,
its leases run out and others take them; when another joins, each gives up what is above its share.

Each taking raises the partition's fence, and whatever a reader writes names the fence that it holds: so a
process that was stopped for a while writes nothing after another has begun, however late it wakes up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from mixdown.model.errors import LeaseLostError, StoreDownError, StoreError
from mixdown.store.postgres.connection import Cursor, Database

FOLD: Final = "fold"
EVENTS: Final = "events"
KINDS: Final = (FOLD, EVENTS)
LEASE_S: Final = 6.0
"""So long after a process died others read its partitions."""
RENEW_S: Final = 1.0
"""How often `tend` is to be called: so soon after a process joined or left, the others have made room."""
# A transaction of the holder before may be at work: it ends, or is ended.
_FENCE_WAIT: Final = "SET LOCAL lock_timeout = '500ms'"

_RENEW: Final = """
    UPDATE mixdown.leases SET expires_at = now() + %(life)s * interval '1 second'
    WHERE kind = %(kind)s AND holder = %(holder)s RETURNING partition, fence
"""
_JOIN: Final = """
    INSERT INTO mixdown.members (kind, holder, expires_at)
    VALUES (%(kind)s, %(holder)s, now() + %(life)s * interval '1 second')
    ON CONFLICT (kind, holder) DO UPDATE SET expires_at = excluded.expires_at
"""
_BURY: Final = """
    WITH dead AS MATERIALIZED (
        SELECT holder FROM mixdown.members
        WHERE kind = %(kind)s AND expires_at < now() FOR UPDATE SKIP LOCKED)
    DELETE FROM mixdown.members AS m USING dead WHERE m.kind = %(kind)s AND m.holder = dead.holder
"""
_GIVE_UP: Final = """
    UPDATE mixdown.leases SET holder = NULL, expires_at = now()
    WHERE kind = %(kind)s AND holder = %(holder)s AND partition = ANY(%(partitions)s)
"""
_TAKE: Final = """
    WITH free AS MATERIALIZED (
        SELECT partition FROM mixdown.leases
        WHERE kind = %(kind)s AND (holder IS NULL OR expires_at < now())
        ORDER BY partition LIMIT %(wanted)s FOR UPDATE SKIP LOCKED)
    UPDATE mixdown.leases AS l SET holder = %(holder)s, fence = l.fence + 1,
        expires_at = now() + %(life)s * interval '1 second'
    FROM free WHERE l.kind = %(kind)s AND l.partition = free.partition
    RETURNING l.partition, l.fence
"""
_RAISE: Final = """
    UPDATE mixdown.watermarks SET fence = %(fence)s
    WHERE partition = %(partition)s AND kind = %(kind)s AND fence <= %(fence)s
"""

# What holds a fence, and hears nothing from its process for so long. A process that is stopped while it sends
# a step leaves its transaction open; PostgreSQL takes that for work, so its own limits do not end it.
STUCK_S: Final = 3.0
LOST_S: Final = 10.0
"""The same of what holds the fence of a partition that this process has: a connection of its own that was cut
off, and nobody told the database."""
TRYING_S: Final = 1.0
"""So long may fences that cannot be raised hold up the next renewal; those that are left wait for it."""
LOOK_EVERY_S: Final = 5.0
_END_STUCK: Final = """
    SELECT pg_terminate_backend(a.pid)
    FROM mixdown.watermarks AS w
    JOIN pg_locks AS l ON l.locktype = 'transactionid' AND l.transactionid = w.xmax AND l.granted
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE w.partition = ANY(%(partitions)s) AND w.kind = %(kind)s
    AND a.wait_event = 'ClientRead' AND a.query_start < clock_timestamp() - %(stuck)s * interval '1 second'
"""
# On a cluster the rows are in shards, and whose a lock on one is can be asked of nobody. Where the
# coordinator has shards itself, nothing but this ends a process of ours that is silent in the middle of a
# transaction, for longer than one that is alive takes between two messages.
SILENT_S: Final = 30.0
_END_SILENT: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
    AND application_name IN ('mixdown fold', 'mixdown events') AND xact_start IS NOT NULL
    AND state = 'active' AND wait_event = 'ClientRead'
    AND query_start < clock_timestamp() - %(silent)s * interval '1 second'
"""


class Fences:
    """The fences of the leases that a process holds. Where it never asked for leases, none is looked at."""

    def __init__(self) -> None:
        self._held: dict[str, Mapping[int, int]] = {}

    def of(self, kind: str, partition: int) -> int:
        """The fence to write under. Raises `LeaseLostError` where another process has the partition."""
        held = self._held.get(kind)
        if held is None:
            return 0  # what a partition has that nobody ever leased
        if partition not in held:
            raise LeaseLostError(
                f"partition {partition} is not this process's to read ({kind})",
                hint="Another process does, or will.",
            )
        return held[partition]

    def hold(self, kind: str, held: Mapping[int, int]) -> None:
        """From now on these."""
        self._held[kind] = dict(held)


class Leases:
    """This process's leases of one kind, under the name `holder`, which no other process may have.

    One thread tends them; any may look at `held`.
    """

    def __init__(
        self,
        database: Database,
        fences: Fences,
        kind: str,
        holder: str,
        *,
        partitions: int,
        life_s: float = LEASE_S,
    ) -> None:
        self._database = database
        self._fences = fences
        self._partitions = partitions
        self._of = {"kind": kind, "holder": holder, "life": life_s}
        self._kind = kind
        self._guard = threading.Lock()
        self._looked_s = 0.0
        self._resisted: set[int] = set()
        self.held: dict[int, int] = {}
        """Partition: fence. One value, replaced as a whole."""
        fences.hold(kind, {})

    def tend(self) -> dict[int, int]:
        """Renew, give up what is above this process's share, take what is free; what is held now.

        What is given up another process may write from now on: call it between steps. Raises `StoreError`;
        what was held until then may be held still, and what is written under a lease that was lost fails.
        """
        with self._guard:
            with self._database.transaction() as cursor:
                cursor.execute(_JOIN, self._of)
                cursor.execute(_BURY, self._of)
                cursor.execute(_RENEW, self._of)
                leased: dict[int, int] = dict(cursor.fetchall())
                share = self._share(cursor)
                surplus = sorted(leased)[share:]
                if surplus:
                    cursor.execute(_GIVE_UP, {**self._of, "partitions": surplus})
                    for partition in surplus:
                        del leased[partition]
                elif len(leased) < share:
                    cursor.execute(_TAKE, {**self._of, "wanted": share - len(leased)})
                    leased.update(cursor.fetchall())
            return self._now_hold(leased)

    def leave(self) -> None:
        """Give all up at once, so that others need not wait. Raises `StoreError`."""
        with self._guard:
            self._now_hold({})
            with self._database.transaction() as cursor:
                cursor.execute(_GIVE_UP, {**self._of, "partitions": list(range(self._partitions))})
                cursor.execute(
                    "DELETE FROM mixdown.members WHERE kind = %(kind)s AND holder = %(holder)s", self._of
                )

    def _share(self, cursor: Cursor) -> int:
        """How many partitions are this process's: all shares together are all partitions."""
        cursor.execute(
            "SELECT holder FROM mixdown.members WHERE kind = %(kind)s AND expires_at > now()", self._of
        )
        members = sorted(holder for (holder,) in cursor.fetchall())
        each, left = divmod(self._partitions, len(members))
        return each + (members.index(str(self._of["holder"])) < left)

    def _now_hold(self, leased: Mapping[int, int]) -> dict[int, int]:
        """Of what is leased that is held whose fence is raised: from then on nobody else writes."""
        before = self.held
        # one that was lost and taken again is not held for once: whoever reads it is to begin anew
        held = {partition: fence for partition, fence in leased.items() if before.get(partition) == fence}
        self._publish(held)
        tried_s = 0.0
        # those that could not be raised come last: others do not wait for a node of a cluster that is down
        for partition in sorted(
            leased.keys() - before.keys(), key=lambda each: (each in self._resisted, each)
        ):
            began_s = time.monotonic()
            try:
                if self._raise_fence(partition, leased[partition]):
                    held[partition] = leased[partition]
                    self._publish(held)
                self._resisted.discard(partition)
            except StoreDownError:
                # the holder before is at work still, or its node is down: at the next call
                self._resisted.add(partition)
                self._end_stuck([partition], STUCK_S)
                tried_s += time.monotonic() - began_s
                if tried_s >= TRYING_S:
                    break
        if held and time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            self._end_stuck([*held], LOST_S)  # between steps none of ours is at work
        return held

    def _publish(self, held: Mapping[int, int]) -> None:
        self.held = dict(held)
        self._fences.hold(self._kind, held)

    def _raise_fence(self, partition: int, fence: int) -> bool:
        """Keep all writers out whose lease is older; false where this one is older itself by now."""
        with self._database.transaction() as cursor:
            cursor.execute(_FENCE_WAIT)
            cursor.execute(_RAISE, {"partition": partition, "kind": self._kind, "fence": fence})
            return cursor.rowcount == 1

    def _end_stuck(self, partitions: Sequence[int], stuck_s: float) -> None:
        """End transactions that hold the fences of partitions, and of which nothing is heard any more.

        Their process was stopped, and has lost its lease; or it is this one, and the connection was cut off.
        Nothing of them counts. On a cluster the nodes themselves end what is silent (`IDLE_LIMIT_MS`), but
        for a coordinator that is one of them.
        """
        with suppress(StoreError):
            if self._database.is_cluster:
                self._database.rows(_END_SILENT, {"silent": SILENT_S})
                return
            asked = {"partitions": [*partitions], "kind": self._kind, "stuck": stuck_s}
            self._database.rows(_END_STUCK, asked)
