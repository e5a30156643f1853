"""Spreading the tables of partitions over the nodes of a Citus cluster.

Enters: a migrated database in which the extension `citus` is. Leaves: the same tables, distributed by
`partition` and placed together, so that what one transaction writes lies on one node, and each node with as
many partitions as the others. It may be asked again: what is distributed already stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from psycopg import sql

from mixdown.model.errors import StoreError
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.migrating import require_migrated
from mixdown.store.postgres.tables import DISTRIBUTED, DISTRIBUTION_COLUMN, SCHEMA

_FIRST: Final = DISTRIBUTED[0]
_EXTENSION: Final = "SELECT extversion FROM pg_extension WHERE extname = 'citus'"
# Others of the same name, of whoever shares the database, are not ours.
_DONE: Final = """
    SELECT c.relname FROM pg_dist_partition AS p JOIN pg_class AS c ON c.oid = p.logicalrelid
    WHERE p.partmethod = 'h' AND c.relnamespace = %s::regnamespace
"""
_ALONE: Final = (
    "SELECT create_distributed_table(%s::regclass, %s, colocate_with => 'none', shard_count => %s)"
)
_BESIDE: Final = "SELECT create_distributed_table(%s::regclass, %s, colocate_with => %s)"
# What Citus leaves out when it makes parts of a table: the settings of the table beside it, for large values.
_BESIDES: Final = """
    SELECT c.relname, t.reloptions FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid
    WHERE c.relnamespace = %s::regnamespace AND c.relname = ANY(%s) AND t.reloptions IS NOT NULL
"""
_NODES: Final = """
    SELECT nodeid, nodename, nodeport FROM pg_dist_node
    WHERE isactive AND shouldhaveshards AND noderole = 'primary' ORDER BY nodeid
"""
_PLACES: Final = """
    SELECT s.shardid, n.nodeid FROM pg_dist_shard AS s JOIN pg_dist_placement AS p ON p.shardid = s.shardid
    JOIN pg_dist_node AS n ON n.groupid = p.groupid AND n.noderole = 'primary'
    WHERE s.logicalrelid = %s::regclass ORDER BY s.shardid
"""
_HELD: Final = """
    SELECT get_shard_id_for_distribution_column(%s::regclass, number), count(*)
    FROM generate_series(0, %s::int - 1) AS number GROUP BY 1
"""
_MOVE: Final = """
    SELECT citus_move_shard_placement(%s, %s, %s, %s, %s, shard_transfer_mode => 'block_writes')
"""


class Node(NamedTuple):
    """A node of a cluster that holds shards."""

    number: int
    name: str
    port: int


class Move(NamedTuple):
    """A shard that is to be on another node, by their numbers."""

    shard: int
    source: int
    target: int


def distribute(
    database: Database, *, shards: int | None = None, warn: Callable[[str], None] | None = None
) -> list[str]:
    """Distribute the tables that are not distributed yet; which they were.

    `shards` counts the first time: into how many parts each table is cut, as many as partitions where it is
    not given. `warn` is told where nodes could not be given the same number of partitions, which costs speed
    and nothing else. Raises `StoreError` where the database is no cluster, or has no nodes, or its tables are
    not up to date.
    """
    require_migrated(database)
    require_nodes(database)
    done = _spread(database)
    taken = []
    if _FIRST not in done:
        count = shards or _partitions(database)
        database.value(_ALONE, (f"{SCHEMA}.{_FIRST}", DISTRIBUTION_COLUMN, count))
        taken.append(_FIRST)
    if not done - {_FIRST}:
        # as long as it is alone, a shard is a few rows: those of all others will stand where it stands
        try:
            _even_out(database)
        except StoreError as error:
            if warn is not None:
                warn(
                    f"shards could not be moved, so nodes hold unequal numbers of partitions: {error.message}"
                )
    for table in DISTRIBUTED[1:]:
        if table not in done:
            database.value(_BESIDE, (f"{SCHEMA}.{table}", DISTRIBUTION_COLUMN, f"{SCHEMA}.{_FIRST}"))
            taken.append(table)
    _tell_settings(database)
    return taken


def require_nodes(database: Database) -> None:
    """Raises `StoreError` where the database is no cluster, or one without a node to hold parts of tables."""
    if not _has_citus(database):
        raise StoreError(
            f"{database.what} has no Citus: there are no nodes to spread tables over",
            hint="On one PostgreSQL nothing is to be done. On a cluster: CREATE EXTENSION citus.",
        )
    if not database.rows(_NODES):  # Citus would take the coordinator itself, and call it localhost
        raise StoreError(
            f"{database.what} knows no active node that holds parts of tables",
            hint="On the coordinator, as a superuser: SELECT citus_add_node('HOST', 5432) for each.",
        )


def require_whole(database: Database) -> None:
    """Raises `StoreError` where some tables of partitions are spread over nodes, and others are not.

    So they are after an update that brought new ones. A transaction would then write a node and the
    coordinator, and a crash between the two commits leave one of them.
    """
    if not _has_citus(database):
        return
    done = _spread(database)
    missing = [table for table in DISTRIBUTED if table not in done]
    if missing and len(missing) < len(DISTRIBUTED):
        raise StoreError(
            f"{database.what} is spread over nodes, and these tables are not yet: {', '.join(missing)}",
            hint="While no server runs: mixdown db distribute.",
        )


def partitions_on_nodes(database: Database) -> dict[str, int]:
    """How many partitions lie on each node, as "host:port", of a store that is distributed."""
    nodes, at, held = _placed(database)
    count = Counter(dict.fromkeys(nodes, 0))
    for shard, node in at.items():
        count[node] += held.get(shard, 0)
    return {f"{nodes[number].name}:{nodes[number].port}": count[number] for number in sorted(nodes)}


def moves(held: Mapping[int, int], at: Mapping[int, int], nodes: Sequence[int]) -> list[Move]:
    """Nearly the fewest moves after which no node has two partitions more than another, if that can be.

    `held` has how many partitions each shard holds, `at` on which node it is. Which shard a partition is in
    is told by a hash: of as many shards as partitions some hold none, and others several.
    """
    at = dict(at)
    wanted: list[Move] = []
    load = Counter(dict.fromkeys(nodes, 0))
    for shard, node in at.items():
        load[node] += held.get(shard, 0)
    while True:
        source, target = max(nodes, key=load.__getitem__), min(nodes, key=load.__getitem__)
        above = load[source] - load[target]
        fit = [shard for shard, node in at.items() if node == source and 0 < held.get(shard, 0) < above]
        if above < 2 or not fit:
            return wanted
        shard = min(fit, key=lambda each: abs(2 * held[each] - above))
        wanted.append(Move(shard, source, target))
        at[shard] = target
        load[source] -= held[shard]
        load[target] += held[shard]


def _has_citus(database: Database) -> bool:
    return database.value(_EXTENSION) is not None


def _spread(database: Database) -> set[str]:
    """The tables that are distributed."""
    return {name for (name,) in database.rows(_DONE, (SCHEMA,))}


def _partitions(database: Database) -> int:
    return int(database.value(f"SELECT partitions FROM {SCHEMA}.layout"))


def _placed(database: Database) -> tuple[dict[int, Node], dict[int, int], dict[int, int]]:
    """The nodes by number, on which of them each shard is, and how many partitions each shard holds."""
    name = f"{SCHEMA}.{_FIRST}"
    nodes = {row[0]: Node(*row) for row in database.rows(_NODES)}
    at: dict[int, int] = dict(database.rows(_PLACES, (name,)))
    held: dict[int, int] = dict(database.rows(_HELD, (name, _partitions(database))))
    return nodes, {shard: node for shard, node in at.items() if node in nodes}, held


def _tell_settings(database: Database) -> None:
    """Give parts of tables what they were made without: each time, for what was moved was made anew."""
    for table, settings in database.rows(_BESIDES, (SCHEMA, list(DISTRIBUTED))):
        wanted = [
            sql.SQL("{} = {}").format(sql.Identifier("toast", name), sql.Literal(value))
            for name, value in (each.split("=", 1) for each in settings)
        ]
        statement = sql.SQL("ALTER TABLE {} SET ({})")
        database.run(statement.format(sql.Identifier(SCHEMA, table), sql.SQL(", ").join(wanted)))


def _even_out(database: Database) -> None:
    """Move shards so that each node holds as many partitions as the others."""
    nodes, at, held = _placed(database)
    if len(nodes) < 2:
        return
    for shard, source, target in moves(held, at, sorted(nodes)):
        database.value(_MOVE, (shard, *nodes[source][1:], *nodes[target][1:]))
