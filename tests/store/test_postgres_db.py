"""`mixdown db` on a PostgreSQL: made, brought up to date, and the calls that spread tables over a cluster."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import psycopg
import pytest
from click.testing import CliRunner, Result

from mixdown.cli.root import root
from mixdown.model.errors import StoreError
from mixdown.store.places import all_views, first_of
from mixdown.store.postgres import open_postgres
from mixdown.store.postgres.address import address_of
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.distributing import distribute, moves
from mixdown.store.postgres.migrating import migrate, migrations
from mixdown.store.postgres.tables import DISTRIBUTED, PLAIN
from tests.store.cluster import Cluster, as_libpq_has_it, greet_as_citus
from tests.store.postgres import Server
from tests.store.support import append, appending, read_all, refusal

# What a cluster's extension has: here it notes what it is asked for, and does nothing. It places shards as
# Citus does: by the hash of the partition, one node after the other.
STANDING_IN = """
CREATE TABLE public.pg_dist_partition (logicalrelid regclass, partmethod char, colocated text, shards int);
CREATE TABLE public.pg_dist_node (
    nodeid int, nodename text, nodeport int DEFAULT 5432, groupid int GENERATED ALWAYS AS (nodeid) STORED,
    isactive boolean DEFAULT true, shouldhaveshards boolean DEFAULT true, noderole text DEFAULT 'primary'
);
INSERT INTO public.pg_dist_node (nodeid, nodename) VALUES %(nodes)s;
CREATE TABLE public.pg_dist_shard (logicalrelid regclass, shardid bigint);
CREATE TABLE public.pg_dist_placement (shardid bigint, groupid int);
CREATE TABLE public.moved (shardid bigint, beside bigint);
CREATE FUNCTION public.create_distributed_table(
    its regclass, by text, colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    nodes int := (SELECT count(*) FROM public.pg_dist_node);
BEGIN
    INSERT INTO public.pg_dist_partition
        SELECT its, 'h', colocate_with, shard_count
        FROM pg_attribute WHERE attrelid = its AND attname = by;
    INSERT INTO public.pg_dist_shard SELECT its, place FROM generate_series(0, shard_count - 1) AS place;
    INSERT INTO public.pg_dist_placement
        SELECT place, 1 + place %% nodes FROM generate_series(0, shard_count - 1) AS place;
END
$$;
CREATE FUNCTION public.get_shard_id_for_distribution_column(its regclass, value int) RETURNS bigint
LANGUAGE sql AS $$
    SELECT (hashint4(value)::bigint + 2147483648) / (4294967296 / shards)
    FROM public.pg_dist_partition WHERE logicalrelid = its
$$;
CREATE FUNCTION public.citus_move_shard_placement(
    shard bigint, source text, source_port int, target text, target_port int, shard_transfer_mode text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.pg_dist_placement AS p SET groupid = t.groupid
    FROM public.pg_dist_node AS s, public.pg_dist_node AS t
    WHERE p.shardid = shard AND p.groupid = s.groupid AND s.nodename = source AND t.nodename = target
    AND shard_transfer_mode = 'block_writes' AND %(can_move)s;
    IF NOT FOUND THEN
        RAISE 'this shard cannot be moved';
    END IF;
    INSERT INTO public.moved SELECT shard, count(*) FROM public.pg_dist_partition;
END
$$;
"""
OVERHEARING: Final = """
CREATE TABLE public.overheard (statement text);
CREATE FUNCTION public.overhear() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.overheard VALUES (current_query());
END
$$;
CREATE EVENT TRIGGER overhear ON ddl_command_end WHEN TAG IN ('ALTER TABLE')
    EXECUTE FUNCTION public.overhear();
"""


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(root, ["db", *arguments], env={"MIXDOWN_DATABASE_URL": url})


def test_migrate_makes_the_tables_once(postgresql: Server) -> None:
    url = postgresql.empty()
    done = run(url, "migrate", "--partitions", "5", "--json")
    names = [step.name for step in migrations()]
    assert json.loads(done.stdout) == {"taken": names, "partitions": 5}
    again = run(url, "migrate", "--partitions", "9")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "nothing to do; 5 partitions" in again.stderr
    open_postgres(url, role="cli", create=False).close()


def test_one_postgresql_has_nothing_to_spread(postgresql: Server) -> None:
    done = run(postgresql.migrated(), "distribute")
    assert done.exit_code == 1
    assert "has no Citus" in done.stderr
    done = run(postgresql.empty(), "distribute")
    assert "mixdown db migrate" in done.stderr


def standing_in(
    url: str, monkeypatch: pytest.MonkeyPatch, *, nodes: str = "a", can_move: bool = True
) -> None:
    """Have a database say that it is a cluster, whose nodes have these letters for names."""
    listed = ", ".join(f"({number}, '{name}')" for number, name in enumerate(nodes, 1))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((STANDING_IN % {"nodes": listed, "can_move": can_move}).encode())
    monkeypatch.setattr("mixdown.store.postgres.distributing._EXTENSION", "SELECT '13'")


def test_distribute_asks_for_each_table_of_partitions_once_and_beside_the_first(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.migrated(partitions=3)
    standing_in(url, monkeypatch)
    done = run(url, "distribute", "--json")
    assert json.loads(done.stdout) == {"distributed": list(DISTRIBUTED), "nodes": {"a:5432": 3}}
    database = Database(url)
    asked = database.rows("SELECT logicalrelid::text, colocated, shards FROM pg_dist_partition")
    first, *rest = DISTRIBUTED
    assert asked == [
        (f"mixdown.{first}", "none", 3),
        *((f"mixdown.{table}", f"mixdown.{first}", None) for table in rest),
    ]
    assert distribute(database) == []
    database.run("DELETE FROM pg_dist_partition WHERE logicalrelid = 'mixdown.chunks'::regclass")
    assert distribute(database) == ["chunks"]
    database.close()


def test_tables_of_the_same_name_that_are_of_others_are_not_ours(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.migrated()
    standing_in(url, monkeypatch)
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("heads", "profiles"):
            connection.execute(f"CREATE TABLE public.{table} (partition int)".encode())
            connection.execute(f"SELECT create_distributed_table('public.{table}', 'partition')".encode())
    database = Database(url)
    assert distribute(database) == list(DISTRIBUTED)
    database.close()


def test_each_node_gets_as_many_partitions_as_the_others(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.migrated(partitions=64)
    standing_in(url, monkeypatch, nodes="abcd")
    done = run(url, "distribute")
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines()[:4] == [f"{name}:5432: 16 partitions" for name in "abcd"]
    with psycopg.connect(url) as connection:
        moved = connection.execute("SELECT beside FROM moved").fetchall()
    assert moved, "as they come, one node has 25 and another 9"
    assert set(moved) == {(1,)}, "before there are other tables, of which each shard would have to move along"


def test_where_shards_cannot_be_moved_tables_are_spread_all_the_same(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.migrated(partitions=64)
    standing_in(url, monkeypatch, nodes="abcd", can_move=False)
    done = run(url, "distribute", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["distributed"] == list(DISTRIBUTED)
    assert "unequal numbers of partitions" in done.stderr
    assert json.loads(done.stdout)["nodes"] == {"a:5432": 25, "b:5432": 9, "c:5432": 14, "d:5432": 16}


def test_where_no_node_is_to_hold_parts_none_are_spread(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Citus would put all of them on the coordinator itself."""
    url = postgresql.migrated(partitions=3)
    standing_in(url, monkeypatch)
    for change in ("isactive = false", "isactive = true, shouldhaveshards = false"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"UPDATE pg_dist_node SET {change}".encode())
        done = run(url, "distribute")
        assert done.exit_code == 1
        assert "knows no active node" in done.stderr
        assert "citus_add_node" in done.stderr
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_dist_partition").fetchone() == (0,)


def test_no_store_is_opened_of_which_a_part_alone_is_spread(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is after an update that brought new tables."""
    greet_as_citus(monkeypatch, "13.0.1")
    url = postgresql.migrated(partitions=3)
    open_postgres(url, role="worker", create=True).close()
    standing_in(url, monkeypatch)
    open_postgres(url, role="worker", create=True).close()
    assert run(url, "distribute").exit_code == 0
    open_postgres(url, role="worker", create=True).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM pg_dist_partition WHERE logicalrelid = 'mixdown.keys'::regclass")
    for create in (True, False):
        with pytest.raises(StoreError, match=r"not yet: keys\n") as refused:
            open_postgres(url, role="worker", create=create)
        assert "mixdown db distribute" in refused.value.hint
    assert json.loads(run(url, "distribute", "--json").stdout)["distributed"] == ["keys"]
    open_postgres(url, role="worker", create=False).close()


def test_nodes_are_told_how_often_to_vacuum_what_is_stored_apart(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Citus makes parts of a table with its own settings, and without those of the table beside it."""
    url = postgresql.migrated()
    standing_in(url, monkeypatch)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(OVERHEARING.encode())
    told = (
        'ALTER TABLE "mixdown"."event_hot" SET'
        """ ("toast"."autovacuum_vacuum_threshold" = '5000',"""
        """ "toast"."autovacuum_vacuum_scale_factor" = '0')"""
    )
    for times in (1, 2):  # parts that were moved meanwhile were made anew
        assert run(url, "distribute").exit_code == 0
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT statement FROM overheard").fetchall() == times * [(told,)]


@pytest.mark.parametrize(
    ("held", "at", "nodes", "loads"),
    [
        ({1: 1, 2: 1, 3: 1}, {1: 7, 2: 8, 3: 9}, [7, 8, 9], [1, 1, 1]),
        ({1: 3, 2: 1}, {1: 7, 2: 8, 3: 8}, [7, 8], [1, 3]),
        ({1: 5}, {1: 7, 2: 8}, [7, 8], [0, 5]),
        ({1: 2, 2: 2, 3: 2}, {1: 7, 2: 7, 3: 7}, [7, 8, 9], [2, 2, 2]),
        ({1: 3, 2: 3, 3: 1, 4: 1}, {1: 7, 2: 7, 3: 7, 4: 8}, [7, 8], [4, 4]),
        (dict.fromkeys(range(32), 1), dict.fromkeys(range(32), 1), [1, 2, 3, 4, 5], [6, 6, 6, 7, 7]),
    ],
)
def test_shards_are_moved_until_no_node_has_much_more_than_another(
    held: dict[int, int], at: dict[int, int], nodes: list[int], loads: list[int]
) -> None:
    after = dict(at)
    for shard, source, target in moves(held, at, nodes):
        assert after[shard] == source != target
        after[shard] = target
    load = dict.fromkeys(nodes, 0)
    for shard, node in after.items():
        load[node] += held.get(shard, 0)
    assert sorted(load.values()) == loads


def test_a_cluster_that_has_had_a_test_is_empty_for_the_next(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.straight(postgresql.empty())
    standing_in(url, monkeypatch)
    made = []

    def noted(database: Database, **options: Any) -> None:
        made.append(migrate(database, **options))

    monkeypatch.setattr("tests.store.cluster.migrate", noted)
    for partitions in (2, 2, 1):
        cluster = Cluster(url)  # each test has its own, and any process may have made the tables
        with cluster.turn():
            store = open_postgres(cluster.emptied(partitions), role="fold", create=False)
            assert [view.log.head() for view in all_views(store)] == [first_of(n) for n in range(partitions)]
            assert store.catalog.projects() == []
            append(store.partition(partitions - 1).log, appending("a", refused=[refusal()]))
            store.catalog.create_project("one", token="t", secret_hash=b"", id_merge="simplified", now_ms=1)
            store.close()
    assert len(made) == 2, "what is of this version, with so many partitions, is emptied and not made anew"
    Cluster(url).empty()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regnamespace('mixdown')").fetchone() == (None,)


def test_a_test_on_the_cluster_waits_for_that_of_another_process(postgresql: Server) -> None:
    url = postgresql.straight(postgresql.empty())
    order = []
    with ThreadPoolExecutor(1) as executor:

        def another() -> None:
            with Cluster(url).turn():
                order.append("another")

        with Cluster(url).turn():
            waiting = executor.submit(another)
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            began = time.monotonic()
            with psycopg.connect(url, autocommit=True) as connection:
                while connection.execute(waits).fetchone() == (0,):
                    assert time.monotonic() - began < 60
                    time.sleep(0.02)
            order.append("one")
        waiting.result(60)
    assert order == ["one", "another"]


@pytest.mark.parametrize(
    ("url", "environment", "wanted"),
    [
        ("postgresql://db/x", {}, "postgresql://db/x?sslmode=prefer"),
        ("postgresql://db/x?port=6432", {}, "postgresql://db/x?port=6432&sslmode=prefer"),
        ("postgresql://db/x?sslmode=require", {}, "postgresql://db/x?sslmode=require"),
        ("postgresql://db/x", {"PGSSLMODE": "disable"}, "postgresql://db/x"),
        ("", {}, ""),
    ],
)
def test_certificates_of_a_cluster_of_tests_are_not_looked_at(
    url: str, environment: dict[str, str], wanted: str
) -> None:
    assert as_libpq_has_it(url, environment) == wanted
    if "?" in wanted:
        assert address_of(wanted).parameters["sslmode"] in ("prefer", "require")


def test_a_cluster_without_nodes_says_so_before_tables_are_made(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.straight(postgresql.empty())
    standing_in(url, monkeypatch)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM pg_dist_node")
    with pytest.raises(StoreError, match="knows no active node"):
        Cluster(url).emptied()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regnamespace('mixdown')").fetchone() == (None,)


def test_a_cluster_keeps_a_log_and_refusals(cluster: Cluster) -> None:
    """What is written before and after the tables are spread."""
    url = cluster.emptied(4)
    database = Database(url)
    store = open_postgres(url, role="fold", create=False)
    for number in range(4):
        log = store.partition(number).log
        append(log, appending(f"p{number}", refused=[refusal(index=number)]))
        assert read_all(log, first_of(number))[-1] == f"p{number}"
        assert log.trim(log.head(), 2**60) >= 1
    assert len(store.refusals.listing(None)) == 4
    spread = {name for (name,) in database.rows("SELECT table_name::text FROM citus_tables")}
    assert {f"mixdown.{name}" for name in DISTRIBUTED} <= spread
    assert not {f"mixdown.{name}" for name in PLAIN} & spread
    store.close()
    database.close()
