"""The tables of a PostgreSQL store, and which of them a Citus cluster spreads over its nodes.

One declaration: `mixdown db distribute` works by it, and a test holds the schema to it. A table that is not
named here fails that test.
"""

from __future__ import annotations

from typing import Final

SCHEMA: Final = "mixdown"
DISTRIBUTION_COLUMN: Final = "partition"

DISTRIBUTED: Final[tuple[str, ...]] = (
    # the log
    "heads",
    "chunks",
    "damaged_chunks",
    "refusals",
    "refusal_counts",
    "watermarks",
    # events
    "event_readers",
    "event_hot",
    "event_files",
    "event_dead",
    "event_removable",
    "event_drafts",
    "event_keys",
    # the state
    "profiles",
    "keys",
    "key_buckets",
    "property_counts",
    "uncounted",
    "history_segments",
    "history_blocks",
    "history_values",
    "history_reach",
    "identities",
    "identity_links",
    "property_index_parts",
    "property_values",
)
"""Tables of partitions, all placed together: `partition` comes first in the primary key and in every index
that a write uses, and each statement that writes one names `partition = …`."""

PLAIN: Final[tuple[str, ...]] = (
    # of the whole store; on the coordinator
    "migrations",
    "layout",
    "leases",
    "members",
    "event_home",
    "copying",
    "copying_steps",
    # the catalog
    "catalog",
    "projects",
    "accounts",
    "ended_sessions",
    "facts",
    "cohorts",
    "cohort_ids",
    "lookup_tables",
    "lookup_contents",
    "lookup_rows",
    "lookup_replacements",
    "dictionary",
    "reports",
    "annotations",
    "annotation_tags",
    # jobs and result sets
    "privacy_turn",
    "deletions",
    "retrievals",
    "sessions",
    "session_blocks",
    "group_keys",
    "property_indexes",
)
"""Tables that stay where they were made."""
