"""The tables of a data folder's copy, written into the database a lot at a time.

Enters: the copied `state.db`, in which nothing changes any more. Leaves: rows of the partitions that its
projects are at home in. Positions stay what they are: they lie below all that the database gives out (the log
of partition 0 goes on behind them), so what was, and what comes, keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import apsw
import msgspec

from mixdown.model import texts
from mixdown.store.chunk import Outcome
from mixdown.store.history_tables import READY
from mixdown.store.places import partition_for
from mixdown.store.postgres.documents import bytes_for_jsonb
from mixdown.store.postgres.filling import Bytea, Steps, copy_rows
from mixdown.store.postgres.ids import cut, key_for_write, long_of
from mixdown.store.sqlite import connection as sqlite

LOT_ROWS: Final = 5000
LOT_BYTES: Final = 8 * 1024 * 1024
_outcomes: Final = msgspec.json.Decoder(Outcome)

Row = tuple[Any, ...]


class Told(Protocol):
    """Who is told how far it is, between two lots: (what, rows so far, rows in all)."""

    def __call__(self, what: str, rows: int, total: int, /) -> None:
        """So far."""


class Table(msgspec.Struct, frozen=True):
    """How a table is read, `key` being the columns that its rows are sorted by, and what a row becomes.

    `select` has `{behind}` where the rows behind a key are asked for. `rows_of` gives rows of the target,
    `size_of` about how many bytes a row is.
    """

    step: str
    what: str
    select: str
    key: tuple[str, ...]
    count: str
    target: str
    columns: str
    rows_of: Callable[[Row], Iterable[Sequence[Any]]]
    size_of: Callable[[Row], int]


def copy_table(source: apsw.Connection, steps: Steps, table: Table, told: Told) -> int:
    """Copy what is not there yet; how many rows were read in all. Raises `StoreError`."""
    place, rows = steps.place(table.step)
    if steps.is_done(table.step):
        return rows
    total = int(sqlite.value(source, table.count))
    for lot in _lots(source, table, place):
        rows += len(lot)
        last = lot[-1][: len(table.key)]
        written = [made for row in lot for made in table.rows_of(row)]
        with steps.writing(table.step, [_kept(value) for value in last], rows) as cursor:
            copy_rows(cursor, table.target, table.columns, written)
        told(table.what, rows, total)
    with steps.writing(table.step, [], rows, done=True):
        pass
    return rows


def _kept(value: Any) -> Any:
    return ["hex", value.hex()] if isinstance(value, bytes) else value


def _key(value: Any) -> Any:
    return bytes.fromhex(value[1]) if isinstance(value, list) else value


def _lots(source: apsw.Connection, table: Table, place: Sequence[Any]) -> Iterator[list[Row]]:
    """Rows behind a key, so many at once. The cursor is read to its end, or closed."""
    behind = ""
    if place:
        behind = f"({', '.join(table.key)}) > ({', '.join('?' * len(place))})"
    cursor = source.execute(table.select.format(behind=behind or "1"), tuple(map(_key, place)))
    lot: list[Row] = []
    size = 0
    try:
        for row in cursor:
            lot.append(row)
            size += table.size_of(row)
            if len(lot) >= LOT_ROWS or size >= LOT_BYTES:
                yield lot
                lot, size = [], 0
        if lot:
            yield lot
    finally:
        cursor.close()


class StateTables:
    """The tables of `state.db`. `homes` are the partitions of the projects that there are."""

    def __init__(self, source: apsw.Connection, count: int, homes: Sequence[int]) -> None:
        self._count = count
        self.homes = tuple(sorted(set(homes)))
        groups = sqlite.rows(source, "SELECT project_id, data_group_id, group_key FROM group_keys")
        self._groups = {(project, number): key for project, number, key in groups}
        ready = sqlite.rows(source, "SELECT segment FROM history_segments WHERE state = ?", (READY,))
        self._ready = ", ".join(str(segment) for (segment,) in ready) or "NULL"

    def home(self, project: int) -> int:
        """The partition of a project's rows."""
        return partition_for(self._count, project)

    def all(self) -> list[Table]:
        """All of them, the largest first; history's segments are summed up afterwards."""
        return [self._profiles(), *self._history(), *self._keys(), *self._counts(), *self._identities()]

    def _profiles(self) -> Table:
        return Table(
            step="profiles",
            what="profiles",
            select="SELECT project_id, data_group_id, id, CAST(document AS BLOB) FROM profiles"
            " WHERE {behind} ORDER BY project_id, data_group_id, id",
            key=("project_id", "data_group_id", "id"),
            count="SELECT count(*) FROM profiles",
            target="profiles",
            columns="partition, project_id, group_key, id, document, long_id",
            rows_of=self._profile,
            size_of=lambda row: 64 + len(row[3]),
        )

    def _profile(self, row: Row) -> Iterator[Row]:
        project, number, profile_id, document = row
        group_key = self._groups[project, number] if number else ""
        stored = bytes_for_jsonb(document)
        key = key_for_write(profile_id)
        yield self.home(project), project, group_key, key, stored, long_of(profile_id)

    def _history(self) -> Iterator[Table]:
        yield Table(
            step="history_blocks",
            what="blocks of history",
            select="SELECT segment, project_id, group_key, first_id, number, data FROM history_blocks"  # noqa: S608 - numbers
            f" WHERE {{behind}} AND segment IN ({self._ready})"
            " ORDER BY segment, project_id, group_key, first_id, number",
            key=("segment", "project_id", "group_key", "first_id", "number"),
            count="SELECT count(*) FROM history_blocks",
            target="history_blocks",
            columns="partition, segment, project_id, group_key, first_id, number, data",
            rows_of=lambda row: [(self.home(row[1]), *row[:3], cut(row[3]), row[4], Bytea(row[5]))],
            size_of=lambda row: 64 + 2 * len(row[5]),
        )
        yield Table(
            step="history_values",
            what="large values of history",
            select="SELECT project_id, group_key, id, digest, last_ms, data FROM history_values"
            " WHERE {behind} ORDER BY project_id, group_key, id, digest",
            key=("project_id", "group_key", "id", "digest"),
            count="SELECT count(*) FROM history_values",
            target="history_values",
            columns="partition, project_id, group_key, id, digest, last_ms, data",
            rows_of=lambda row: [
                (self.home(row[0]), *row[:2], key_for_write(row[2]), *row[3:5], Bytea(row[5]))
            ],
            size_of=lambda row: 64 + 2 * len(row[5]),
        )

    def _keys(self) -> Iterator[Table]:
        """Which project a key is of, nobody can tell: each partition that has projects gets them all."""
        yield Table(
            step="keys",
            what="request keys",
            select="SELECT bucket, key, time_ms, outcome FROM keys WHERE {behind} AND bucket IN"
            " (SELECT bucket FROM key_buckets WHERE NOT dropped) ORDER BY bucket, key",
            key=("bucket", "key"),
            count="SELECT coalesce(sum(keys), 0) FROM key_buckets WHERE NOT dropped",
            target="keys",
            columns="partition, bucket, key, time_ms, outcome",
            rows_of=lambda row: [
                (home, row[0], Bytea(row[1]), row[2], self.told(row[3])) for home in self.homes
            ],
            size_of=lambda _row: 64 * len(self.homes),
        )
        yield Table(
            step="key_buckets",
            what="buckets of keys",
            select="SELECT bucket, day, first_ms, last_ms, keys FROM key_buckets"
            " WHERE {behind} AND NOT dropped ORDER BY bucket",
            key=("bucket",),
            count="SELECT count(*) FROM key_buckets WHERE NOT dropped",
            target="key_buckets",
            columns="partition, bucket, day, first_ms, last_ms, keys, dropped",
            rows_of=lambda row: [(home, *row, False) for home in self.homes],
            size_of=lambda _row: 64,
        )

    def told(self, outcome: bytes | None) -> Bytea | None:
        """What a request was answered, for its retry: in several partitions without what it may quote.

        Whoever erases a person from one would not find it in the others (`ingest.placing`).
        """
        if outcome is None:
            return None
        if len(self.homes) == 1:
            return Bytea(outcome)
        whole = _outcomes.decode(outcome)
        failed = tuple((index, "", texts.REFUSED_BEFORE) for index, _, _ in whole.failed)
        return Bytea(msgspec.json.encode(msgspec.structs.replace(whole, failed=failed)))

    def _counts(self) -> Iterator[Table]:
        for name, more in (("property_counts", ("name", "kind", "profiles")), ("uncounted", ("counted_to",))):
            counted = name == "property_counts"
            yield Table(
                step=name,
                what="counts of properties",
                select=f"SELECT project_id, data_group_id, {', '.join(more)} FROM {name} WHERE {{behind}}"  # noqa: S608 - our columns
                f" ORDER BY project_id, data_group_id{', name, kind' if counted else ''}",
                key=("project_id", "data_group_id", *(("name", "kind") if counted else ())),
                count=f"SELECT count(*) FROM {name}",  # noqa: S608 - ours
                target=name,
                columns=f"partition, project_id, group_key, {', '.join(more)}",
                rows_of=self._count_row if counted else self._uncounted_row,
                size_of=lambda _row: 64,
            )

    def _count_row(self, row: Row) -> Iterator[Row]:
        project, number, *rest = row
        yield self.home(project), project, self._groups[project, number] if number else "", *rest

    def _uncounted_row(self, row: Row) -> Iterator[Row]:
        *place, counted_to = next(self._count_row(row))
        yield *place, key_for_write(counted_to)

    def _identities(self) -> Iterator[Table]:
        yield Table(
            step="identities",
            what="ids of identities",
            select="SELECT project_id, id, canonical, since FROM identities"
            " WHERE {behind} ORDER BY project_id, id",
            key=("project_id", "id"),
            count="SELECT count(*) FROM identities",
            target="identities",
            columns="partition, project_id, id, canonical, since, long_id",
            rows_of=lambda row: [
                (self.home(row[0]), row[0], key_for_write(row[1]), *row[2:], long_of(row[1]))
            ],
            size_of=lambda row: 64 + len(row[1]) + len(row[2]),
        )
        yield Table(
            step="identity_links",
            what="links of identities",
            select="SELECT project_id, other, position, one, time_ms, mode, verb, undone_position, undone_ms"
            " FROM identity_links WHERE {behind} ORDER BY project_id, other, position, one",
            key=("project_id", "other", "position", "one"),
            count="SELECT count(*) FROM identity_links",
            target="identity_links",
            columns="partition, project_id, other, position, one, time_ms, mode, verb, undone_position,"
            " undone_ms, long_one, long_other",
            rows_of=self._link,
            size_of=lambda row: 96 + len(row[1]) + len(row[3]),
        )

    def _link(self, row: Row) -> Iterator[Row]:
        project, other, position, one, *rest = row
        ids = key_for_write(other), position, key_for_write(one)
        yield self.home(project), project, *ids, *rest, long_of(one), long_of(other)


def sum_up(source: apsw.Connection, steps: Steps, homes: Sequence[int]) -> None:
    """What follows from rows that are there: group keys, history's segments and reach."""
    if steps.is_done("summed_up"):
        return
    groups = sqlite.rows(source, "SELECT project_id, group_key, data_group_id FROM group_keys")
    segments = sqlite.rows(
        source,
        "SELECT segment, state, first_position, last_position, first_ms, last_ms, bytes, value_bytes"
        " FROM history_segments WHERE state = ?",
        (READY,),
    )
    since_ms, broken = sqlite.rows(source, "SELECT since_ms, broken FROM history_reach")[0]
    with steps.writing("summed_up", [], len(segments), done=True) as cursor:
        copy_rows(cursor, "group_keys", "project_id, group_key, data_group_id", groups)
        own = sorted(set(homes))
        # each partition that has blocks of one: what they take, and their share of the values
        cursor.executemany(
            "INSERT INTO mixdown.history_segments (partition, segment, state, first_position,"
            " last_position, first_ms, last_ms, bytes, value_bytes)"
            " SELECT partition, segment, %s, %s, %s, %s, %s, sum(octet_length(data)),"
            " (sum(octet_length(data)) * %s::numeric / greatest(%s, 1))::bigint"
            " FROM mixdown.history_blocks WHERE partition = %s AND segment = %s GROUP BY partition, segment",
            [
                (state, first, last, first_ms, last_ms, value_bytes, size, home, segment)
                for segment, state, first, last, first_ms, last_ms, size, value_bytes in segments
                for home in own
            ],
        )
        copy_rows(
            cursor,
            "history_reach",
            "partition, since_ms, broken",
            [(home, since_ms, bool(broken)) for home in own],
        )
