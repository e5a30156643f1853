"""What is small: the catalog, jobs of data protection, refusals, copied as a whole once the folder is closed.

Enters: the folder's databases, which take no more. Leaves: the same rows, in one transaction, in the place of
what an earlier attempt has left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import apsw
import orjson

from mixdown.store.moving.rows import Row
from mixdown.store.places import first_of, partition_for
from mixdown.store.postgres.connection import Cursor
from mixdown.store.postgres.filling import Bytea, Steps, copy_rows
from mixdown.store.sqlite import connection as sqlite

_ROWS_AT_ONCE: Final = 5000
WITHIN_OTHERS: Final = {
    "account_projects": "the column `others` of accounts",
    "annotations_tagged": "the column `tags` of annotations",
    "version": "the column `version` of the one row of mixdown.catalog",
}
"""Tables of `catalog.db` whose rows stand within those of other tables."""
NOT_COPIED: Final = {"dictionary": ("size_bytes",)}
"""Columns that follow from others."""
# Numbers that were given last: the table that counts them, and the column that holds the last.
_NUMBERS: Final = {
    "projects": "project",
    "accounts": "account",
    "cohorts": "cohort",
    "lookup_contents": "content",
    "reports": "report",
    "annotations": "annotation",
    "annotation_tags": "tag",
}


def _flags(*places: int) -> Callable[[Row], Row]:
    """Integers of these columns as booleans."""
    return lambda row: tuple(bool(value) if at in places else value for at, value in enumerate(row))


def _bytes(*places: int) -> Callable[[Row], Row]:
    """Texts or bytes of these columns as `bytea`."""
    return lambda row: tuple(_as_bytea(value) if at in places else value for at, value in enumerate(row))


def _as_bytea(value: Any) -> Bytea | None:
    if value is None:
        return None
    return Bytea(value.encode() if isinstance(value, str) else value)


def _same(row: Row) -> Row:
    return row


def _account(row: Row) -> Row:
    number, name, hashed, *rest, others = row
    pairs = sorted((project, role) for project, role in orjson.loads(others))
    return number, name, Bytea(hashed), *rest, orjson.dumps(pairs).decode()


# (table, its columns, what is asked of the folder, what a row becomes)
TABLES: Final[tuple[tuple[str, str, str, Callable[[Row], Row]], ...]] = (
    (
        "projects",
        (
            "id, name, token, secret_hash, id_merge, created_ms, rate_limit_records_per_s,"
            " rate_limit_requests_per_s, rate_limit_queries_per_hour, late_events, timezone, ci_strings,"
            " large"
        ),
        "",
        lambda row: _flags(9, 11, 12)(_bytes(3)(row)),
    ),
    (
        "accounts",
        "id, username, password_hash, project_id, role, created_ms, creator, expires_ms, others",
        (
            "SELECT id, username, password_hash, project_id, role, created_ms, creator, expires_ms,"
            " (SELECT json_group_array(json_array(project_id, role)) FROM account_projects AS o"
            " WHERE o.username = accounts.username) FROM accounts"
        ),
        _account,
    ),
    ("facts", "name, value", "", _bytes(1)),
    ("ended_sessions", "username, session, until_s", "", _bytes(1)),
    ("cohorts", "id, project_id, name, description, group_key, expression, created_ms, behaviors", "", _same),
    (
        "cohort_ids",
        "cohort_id, place, id",
        "SELECT cohort_id, row_number() OVER (PARTITION BY cohort_id ORDER BY id) - 1, id FROM cohort_ids",
        _same,
    ),
    (
        "lookup_tables",
        "id, project_id, name, columns, row_count, size_bytes, created_ms, replaced_ms, content",
        "",
        _same,
    ),
    (
        "lookup_contents",
        "number, unused_since_ms",
        "SELECT number, 0 FROM lookup_contents WHERE number IN (SELECT content FROM lookup_tables)",
        _same,
    ),
    (
        "lookup_rows",
        "content, place, key, cells",
        (
            "SELECT content, place, key, cells FROM lookup_rows"
            " WHERE content IN (SELECT content FROM lookup_tables)"
        ),
        _same,
    ),
    ("lookup_replacements", "project_id, time_ms", "", _same),
    ("dictionary", "project_id, entity_type, name, changed_ms, schema", "", _bytes(4)),
    (
        "reports",
        "id, project_id, kind, name, description, creator, created_ms, changed_ms, definition",
        "",
        _bytes(8),
    ),
    (
        "annotations",
        "id, project_id, moment, description, creator, created_ms, tags",
        (
            "SELECT id, project_id, moment, description, creator, created_ms,"
            " (SELECT group_concat(tag_id ORDER BY tag_id) FROM annotations_tagged"
            " WHERE annotation_id = annotations.id) FROM annotations"
        ),
        lambda row: (*row[:-1], f"{{{row[-1] or ''}}}"),
    ),
    ("annotation_tags", "id, project_id, name", "", _same),
    (
        "deletions",
        (
            "id, project_id, group_key, ids, count, status, requested_by, compliance_type, requested_ms,"
            " due_ms, claimed_ms, positions, finished_ms, report, parts"
        ),
        "",
        _bytes(13),
    ),
    (
        "retrievals",
        "id, project_id, group_key, ids, requested_by, compliance_type, disclosure_type, requested_ms",
        "",
        _same,
    ),
)


def copy_catalog(folder: Path, steps: Steps) -> int:
    """Copy all of it, in one transaction; how many rows. Raises `StoreError`."""
    with ExitStack() as stack:
        catalog, log, state = (
            stack.enter_context(_reading(folder, kind)) for kind in (sqlite.CATALOG, sqlite.LOG, sqlite.STATE)
        )
        what = ", ".join(str(folder / kind.file_name) for kind in (sqlite.CATALOG, sqlite.LOG, sqlite.STATE))
        stack.enter_context(sqlite.store_errors(what))
        with steps.writing("catalog", [], 0, done=True) as cursor:
            rows = sum(_table(catalog, cursor, *each) for each in TABLES)
            _numbers(catalog, cursor)
            _indexes(state, cursor)
            return rows + _refusals(log, cursor, steps.partitions)


def _reading(folder: Path, kind: sqlite.Kind) -> closing[apsw.Connection]:
    return closing(sqlite.connect(folder / kind.file_name, kind))


def _table(
    catalog: apsw.Connection,
    cursor: Cursor,
    table: str,
    columns: str,
    select: str,
    made: Callable[[Row], Row],
) -> int:
    emptying: Any = f"DELETE FROM mixdown.{table}"  # noqa: S608 - ours
    cursor.execute(emptying)
    found = catalog.execute(select or f"SELECT {columns} FROM {table}")  # noqa: S608 - ours
    rows = 0
    while lot := _next(found):
        copy_rows(cursor, table, columns, [made(row) for row in lot])
        rows += len(lot)
    return rows


def _next(found: apsw.Cursor) -> list[Any]:
    lot = []
    for row in found:
        lot.append(row)
        if len(lot) == _ROWS_AT_ONCE:
            break
    return lot


def _numbers(catalog: apsw.Connection, cursor: Cursor) -> None:
    """No number that the folder gave is given again; whoever knows the catalog of before looks anew."""
    given = dict(sqlite.rows(catalog, "SELECT name, seq FROM sqlite_sequence"))
    for table, column in _NUMBERS.items():
        setting: Any = f"UPDATE mixdown.catalog SET last_{column} = %s"  # noqa: S608 - ours
        cursor.execute(setting, (given.get(table, 0),))
    version = sqlite.value(catalog, "SELECT number FROM version")
    cursor.execute("UPDATE mixdown.catalog SET version = greatest(version, %s) + 1", (version,))


def _indexes(state: apsw.Connection, cursor: Cursor) -> None:
    """Indexes on properties are asked for, and built anew."""
    cursor.execute("DELETE FROM mixdown.property_indexes")
    for row in sqlite.rows(
        state,
        (
            "SELECT i.project_id, coalesce(g.group_key, ''), i.name FROM property_indexes AS i"
            " LEFT JOIN group_keys AS g ON g.project_id = i.project_id AND g.data_group_id = i.data_group_id"
            " WHERE NOT i.dropped ORDER BY i.number"
        ),
    ):
        cursor.execute(
            "INSERT INTO mixdown.property_indexes (project_id, group_key, name) VALUES (%s, %s, %s)", row
        )


def _refusals(log: apsw.Connection, cursor: Cursor, count: int) -> int:
    """All of them, with the numbers of their partitions in front of their own.

    What the folder's fold could not apply stands in both; the folder's are those that count.
    """
    each = [(partition,) for partition in range(count)]
    cursor.executemany("DELETE FROM mixdown.refusals WHERE partition = %s", each)
    cursor.executemany("DELETE FROM mixdown.refusal_counts WHERE partition = %s", each)
    newest = sqlite.value(log, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'refusals'")
    found = log.execute(
        (
            "SELECT id, project, endpoint, record_index, field, message, record, whole, sdk, request_key,"
            " time_ms, size_bytes FROM refusals ORDER BY id"
        ),
    )
    rows = 0
    while lot := _next(found):
        copy_rows(
            cursor,
            "refusals",
            "partition, id, project, endpoint, record_index, field, message, record, whole, sdk, request_key,"
            " time_ms, size_bytes",
            [_refusal(row, partition_for(count, row[1])) for row in lot],
        )
        rows += len(lot)
    cursor.executemany(
        (
            "INSERT INTO mixdown.refusal_counts (partition, project, records, size_bytes)"
            " SELECT partition, project, count(*), sum(size_bytes) FROM mixdown.refusals"
            " WHERE partition = %s GROUP BY partition, project"
        ),
        each,
    )
    cursor.executemany(
        "UPDATE mixdown.heads SET newest_refusal = greatest(newest_refusal, %s) WHERE partition = %s",
        [(first_of(partition) + newest, partition) for partition in range(count)],
    )
    return rows


def _refusal(row: Sequence[Any], partition: int) -> Row:
    number, project, endpoint, index, field, message, record, whole, sdk, key, time_ms, size = row
    shown = project, endpoint, index, field, message, record, bool(whole), sdk
    return partition, first_of(partition) + number, *shown, _as_bytea(key), time_ms, size
