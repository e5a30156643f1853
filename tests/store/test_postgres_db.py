"""`mixdown db` on a PostgreSQL: made, brought up to date, and the calls that spread tables over a cluster."""

from __future__ import annotations

import json

import psycopg
import pytest
from click.testing import CliRunner, Result

from mixdown.cli.root import root
from mixdown.store.places import all_views, first_of
from mixdown.store.postgres import open_postgres
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.distributing import distribute
from mixdown.store.postgres.migrating import migrations
from mixdown.store.postgres.tables import DISTRIBUTED, PLAIN
from tests.store.cluster import Cluster
from tests.store.postgres import Server
from tests.store.support import append, appending, read_all, refusal

# What a cluster's extension has: here it notes what it is asked for, and does nothing.
STANDING_IN = """
CREATE TABLE public.pg_dist_partition (logicalrelid regclass, partmethod char, colocated text, shards int);
CREATE FUNCTION public.create_distributed_table(
    its regclass, by text, colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO public.pg_dist_partition
        SELECT its, 'h', colocate_with, shard_count
        FROM pg_attribute WHERE attrelid = its AND attname = by
$$;
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


def test_distribute_asks_for_each_table_of_partitions_once_and_beside_the_first(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.migrated(partitions=3)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(STANDING_IN)
    monkeypatch.setattr("mixdown.store.postgres.distributing._EXTENSION", "SELECT '13'")
    done = run(url, "distribute", "--json")
    assert json.loads(done.stdout) == {"distributed": list(DISTRIBUTED)}
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


def test_a_cluster_that_has_had_a_test_is_empty_for_the_next(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.empty()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(STANDING_IN)
    monkeypatch.setattr("mixdown.store.postgres.distributing._EXTENSION", "SELECT '13'")
    cluster = Cluster(url)
    for partitions in (2, 2, 1):
        store = open_postgres(cluster.emptied(partitions), role="fold", create=False)
        assert [view.log.head() for view in all_views(store)] == [first_of(n) for n in range(partitions)]
        assert store.catalog.projects() == []
        append(store.partition(partitions - 1).log, appending("a", refused=[refusal()]))
        store.catalog.create_project("one", token="t", secret_hash=b"", id_merge="simplified", now_ms=1)
        store.close()


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
