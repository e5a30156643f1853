"""Refused records: kept in the transaction of the chunk they arrived with, within bounds.

Enters: refusals. Leaves: refusals, newest first. They are written by the functions of the schema
(`migrations/0001_log_and_partitions.sql`), which let the oldest go of a project that is over a
bound. All of a project stand in one partition, also of one that is spread over several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
from psycopg import sql

from mixdown.store.bounds import folded, newest_within, refusal_bounds, refusal_bytes, storable
from mixdown.store.places import partition_at
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.partitions import one_at_a_time
from mixdown.store.protocols import (
    ALL_REFUSALS,
    RefusalCount,
    RefusalFilter,
    RefusalHead,
    RefusedRecord,
)

_NO_ID_BEYOND: Final = 2**63 - 1
_NEVER: Final = 2**62
_SELECT: Final = sql.SQL(
    "SELECT project, endpoint, record_index, field, message, record, whole, sdk, request_key, id, time_ms"
    " FROM mixdown.refusals WHERE {} ORDER BY {}"
)
BOUNDS_SQL: Final = ", ".join(map(str, (*refusal_bounds(1), *refusal_bounds(0))))
"""The bounds as the schema's functions take them."""
_KEEP: Final = f"SELECT mixdown.keep_refusals(%s, %s, %s::json, {BOUNDS_SQL})"


def refused_json(refusals: Sequence[RefusedRecord]) -> str | None:
    """Refusals as the schema's functions take them; None where there are none."""
    kept = [storable(refusal) for refusal in newest_within(refusals)]
    if not kept:
        return None
    return orjson.dumps([_object(place, refusal) for place, refusal in enumerate(kept, 1)]).decode()


def _object(place: int, refusal: RefusedRecord) -> dict[str, Any]:
    return {
        "place": place,
        "project": refusal.project,
        "endpoint": refusal.endpoint,
        "record_index": refusal.index,
        "field": refusal.field,
        "message": refusal.message,
        "record": refusal.record,
        "whole": refusal.whole,
        "sdk": refusal.sdk,
        "request_key": None if refusal.request_key is None else refusal.request_key.hex(),
        "size_bytes": refusal_bytes(refusal),
    }


def _wanted(wanted: RefusalFilter) -> Iterator[tuple[str, list[Any]]]:
    """The conditions of a filter, those that look at the record itself last."""
    if wanted.endpoint:
        yield "endpoint = %s", [wanted.endpoint]
    if wanted.field:
        yield "field = %s", [wanted.field]
    if wanted.messages is not None:
        yield "message = ANY(%s::text[])", [list(wanted.messages)]
    if wanted.since_ms:
        yield "time_ms >= %s", [wanted.since_ms]
    if wanted.until_ms:
        yield "time_ms < %s", [wanted.until_ms]
    if wanted.text:
        places = [f"strpos(lower({column}), %s) > 0" for column in ("message", "field", "record")]
        yield f"({' OR '.join(places)})", [folded(wanted.text)] * 3


class PostgresRefusals:
    """`Refusals` of one partition, or of all: then the times tell which are newer."""

    def __init__(self, database: Database, partitions: Sequence[int]) -> None:
        self._database = database
        self._partitions = list(partitions)
        self._one = len(self._partitions) == 1

    def listing(
        self,
        projects: Sequence[int] | None,
        *,
        before_id: int | None = None,
        limit: int = 100,
        wanted: RefusalFilter = ALL_REFUSALS,
    ) -> list[RefusedRecord]:
        conditions = ["partition = ANY(%s)"]
        given: list[Any] = [self._partitions]
        if before_id is not None:
            conditions.append("id < %s" if self._one else "(time_ms, id) < (%s, %s)")
            given += [before_id] if self._one else [self._time_of(before_id), before_id]
        if projects is not None:
            conditions.append("project = ANY(%s::bigint[])")
            given.append(list(projects))
        for condition, values in _wanted(wanted):
            conditions.append(condition)
            given += values
        order = "id DESC LIMIT %s" if self._one else "time_ms DESC, id DESC LIMIT %s"
        return self._select(" AND ".join(conditions), order, (*given, limit))

    def by_ids(self, ids: Sequence[int]) -> list[RefusedRecord]:
        wanted = self._own(ids)
        return self._select(
            "partition = ANY(%s) AND id = ANY(%s::bigint[])",
            "id",
            (list(wanted), [each for some in wanted.values() for each in some]),
        )

    def newest_id(self) -> int:
        return int(
            self._database.value(
                "SELECT newest_refusal FROM mixdown.heads WHERE partition = %s", (self._number(),)
            )
        )

    def heads(self, after_id: int, *, limit: int) -> list[RefusalHead]:
        found = self._database.rows(
            "SELECT id, project, time_ms FROM mixdown.refusals"
            " WHERE partition = %s AND id > %s ORDER BY id LIMIT %s",
            (self._number(), after_id, limit),
        )
        return [(refusal_id, project, time_ms) for refusal_id, project, time_ms in found]

    def remove(self, ids: Sequence[int]) -> int:
        return sum(self._remove(partition, some) for partition, some in sorted(self._own(ids).items()))

    def _remove(self, partition: int, ids: Sequence[int]) -> int:
        gone: dict[int, tuple[int, int]] = {}
        with self._database.transaction() as cursor:
            # the head first, as an append does: so nobody waits in a circle
            cursor.execute("SELECT 1 FROM mixdown.heads WHERE partition = %s FOR UPDATE", (partition,))
            cursor.execute(
                "DELETE FROM mixdown.refusals WHERE partition = %s AND id = ANY(%s::bigint[])"
                " RETURNING project, size_bytes",
                (partition, list(ids)),
            )
            for project, size_bytes in cursor.fetchall():
                records, size = gone.get(project, (0, 0))
                gone[project] = records + 1, size + size_bytes
            for project, (records, size) in gone.items():
                cursor.execute(
                    "UPDATE mixdown.refusal_counts SET records = records - %s, size_bytes = size_bytes - %s"
                    " WHERE partition = %s AND project = %s",
                    (records, size, partition, project),
                )
        return sum(records for records, _ in gone.values())

    def counts(self) -> Mapping[int, tuple[int, int]]:
        found = self._database.rows(
            "SELECT project, sum(records)::bigint, sum(size_bytes)::bigint FROM mixdown.refusal_counts"
            " WHERE partition = ANY(%s) GROUP BY project HAVING sum(records) > 0 ORDER BY project",
            (self._partitions,),
        )
        return {project: (records, size) for project, records, size in found}

    def reasons(self, projects: Sequence[int]) -> list[RefusalCount]:
        found = self._database.rows(
            "SELECT message, endpoint, count(*), max(id) FROM mixdown.refusals"
            " WHERE partition = ANY(%s) AND project = ANY(%s::bigint[]) GROUP BY message, endpoint",
            (self._partitions, list(projects)),
        )
        return [RefusalCount(*row) for row in found]

    def add(self, refusals: Sequence[RefusedRecord], now_ms: int) -> None:
        number = self._number()
        refused = refused_json(refusals)
        if refused is not None:
            self._database.write(_KEEP, (number, now_ms, refused))

    def _number(self) -> int:
        """The partition, where it is of one."""
        if not self._one:
            raise one_at_a_time("refusals")
        return self._partitions[0]

    def _time_of(self, refusal_id: int) -> int:
        """When a refusal came; where it is gone, a later time: rather too much is listed than too little."""
        found = self._database.value(
            "SELECT time_ms FROM mixdown.refusals WHERE partition = %s AND id >= %s ORDER BY id LIMIT 1",
            (partition_at(refusal_id), refusal_id),
        )
        return _NEVER if found is None else int(found)

    def _own(self, ids: Sequence[int]) -> dict[int, list[int]]:
        """Ids by the partition that keeps them, of those that are looked at."""
        found: dict[int, list[int]] = {}
        for each in ids:
            if 0 < each <= _NO_ID_BEYOND and partition_at(each) in self._partitions:
                found.setdefault(partition_at(each), []).append(each)
        return found

    def _select(self, condition: str, order: str, given: Sequence[Any]) -> list[RefusedRecord]:
        found = self._database.rows(_SELECT.format(sql.SQL(condition), sql.SQL(order)), given)
        return [RefusedRecord(*row) for row in found]
