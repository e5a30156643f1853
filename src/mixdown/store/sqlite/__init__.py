"""The embedded store: SQLite files in one data folder."""

from mixdown.store.sqlite.store import SqliteStore, open_store

__all__ = ["SqliteStore", "open_store"]
