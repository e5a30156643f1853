"""The store on PostgreSQL, plain or spread over a cluster with Citus: for more than one machine."""

from mixdown.store.postgres.store import PostgresStore, open_postgres

__all__ = ["PostgresStore", "open_postgres"]
