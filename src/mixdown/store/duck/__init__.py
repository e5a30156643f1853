"""Events read through DuckDB: one table made of files and hot batches, whatever store listed them.

`duckdb` is imported when a table is opened, so that processes which never open one stay small.
"""

from mixdown.store.duck.table import EventTable, open_events

__all__ = ["EventTable", "open_events"]
