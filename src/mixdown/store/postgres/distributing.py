"""Spreading the tables of partitions over the nodes of a Citus cluster.

Enters: a migrated database in which the extension `citus` is. Leaves: the same tables, distributed by
`partition` and placed together, so that what one transaction writes lies on one node. It may be asked again:
what is distributed already stays as it is.
"""

from __future__ import annotations

from typing import Final

from mixdown.model.errors import StoreError
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.migrating import require_migrated
from mixdown.store.postgres.tables import DISTRIBUTED, DISTRIBUTION_COLUMN, SCHEMA

_FIRST: Final = DISTRIBUTED[0]
_EXTENSION: Final = "SELECT extversion FROM pg_extension WHERE extname = 'citus'"
_DONE: Final = "SELECT logicalrelid::regclass::text FROM pg_dist_partition WHERE partmethod = 'h'"
_ALONE: Final = (
    "SELECT create_distributed_table(%s::regclass, %s, colocate_with => 'none', shard_count => %s)"
)
_BESIDE: Final = "SELECT create_distributed_table(%s::regclass, %s, colocate_with => %s)"


def distribute(database: Database, *, shards: int | None = None) -> list[str]:
    """Distribute the tables that are not distributed yet; which they were.

    `shards` counts the first time: into how many parts each table is cut, as many as partitions where it is
    not given. Raises `StoreError` where the database is no cluster, or its tables are not up to date.
    """
    require_migrated(database)
    if database.value(_EXTENSION) is None:
        raise StoreError(
            f"{database.what} has no Citus: there are no nodes to spread tables over",
            hint="On one PostgreSQL nothing is to be done. On a cluster: CREATE EXTENSION citus.",
        )
    count = int(database.value(f"SELECT partitions FROM {SCHEMA}.layout"))
    done = {name.replace('"', "").rpartition(".")[2] for (name,) in database.rows(_DONE)}
    taken = []
    for table in DISTRIBUTED:
        if table in done:
            continue
        name = f"{SCHEMA}.{table}"
        if table == _FIRST:
            database.value(_ALONE, (name, DISTRIBUTION_COLUMN, shards or count))
        else:
            database.value(_BESIDE, (name, DISTRIBUTION_COLUMN, f"{SCHEMA}.{_FIRST}"))
        taken.append(table)
    return taken
