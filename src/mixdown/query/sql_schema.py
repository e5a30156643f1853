"""What SQL over one project may name: the views and their columns, in words, and what a query may take.

Nothing enters but the limits in force; a description leaves, for editors. `store/sqlite/guarded.py`,
`sql_history.py` and `sql_events.py` make the views themselves, and a test holds the two together.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from mixdown.query.sql import FORMATS, SqlLimits


class Column(NamedTuple):
    """A column of a view: its name, the type of its values, what it tells."""

    name: str
    type: str
    about: str


class View(NamedTuple):
    """A view that a query may name."""

    name: str
    about: str
    columns: tuple[Column, ...]


_PROJECT: Final = Column("project_id", "integer", "the project")
_PROPERTIES: Final = Column("properties", "json", "all properties, as JSON")
_LAST_SEEN: Final = Column("last_seen", "text", "when the profile was last updated, in UTC")

PROFILE_VIEWS: Final = (
    View(
        "users",
        "A row for each user profile.",
        (_PROJECT, Column("distinct_id", "text", "the user's id"), _PROPERTIES, _LAST_SEEN),
    ),
    View(
        "groups",
        "A row for each group profile.",
        (
            _PROJECT,
            Column("group_key", "text", "the group key, such as Company"),
            Column("data_group_id", "integer", "the number of the group key in the query API"),
            Column("group_id", "text", "the group's id, such as Acme"),
            _PROPERTIES,
            _LAST_SEEN,
        ),
    ),
    View(
        "history",
        "A row for each property that a record changed. `where of_id = 'ada'` reads one profile alone.",
        (
            _PROJECT,
            Column("group_key", "text", "empty for users"),
            Column("id", "text", "whose property"),
            Column("time", "text", "when the record was stored, in UTC"),
            Column("position", "integer", "the record's place in the log"),
            Column("property", "text", "what was changed"),
            Column("operator", "text", "by what: $set, $add, …"),
            Column("old", "json", "the value before"),
            Column("new", "json", "the value after"),
            Column("added", "json", "what came into a list or object"),
            Column("removed", "json", "what went out of it"),
            Column("whole", "text", "created or deleted, where the profile itself came or went"),
            Column("endpoint", "text", "where the record came in"),
            Column("sdk", "text", "what sent it"),
        ),
    ),
    View(
        "refusals",
        "A row for each refused record that is still kept.",
        (
            Column("id", "integer", "the refusal's number"),
            Column("time", "text", "when it arrived, in UTC"),
            _PROJECT,
            Column("endpoint", "text", "where it came in"),
            Column("record_index", "integer", "its place in the request, from 0"),
            Column("field", "text", "what was wrong"),
            Column("message", "text", "why"),
            Column("record", "text", "what arrived"),
            Column("whole", "integer", "0 where only its first kilobyte was kept"),
            Column("sdk", "text", "what sent it"),
        ),
    ),
)
EVENT_VIEWS: Final = (
    View(
        "events",
        "A row for each event. `property('plan')` is quicker than `properties ->> '$.plan'`.",
        (
            Column("event", "text", "its name"),
            Column("time", "timestamp", "when it happened, in UTC"),
            Column("sent_id", "text", "the id that it was sent with"),
            Column("insert_id", "text", "its $insert_id"),
            Column("position", "integer", "its place in the log"),
            Column("arrived", "timestamp", "when it was stored, in UTC"),
            Column("distinct_id", "text", "the id of its person, as identities stand now"),
            _PROPERTIES,
        ),
    ),
    View(
        "users",
        "User profiles, for joins.",
        (Column("distinct_id", "text", "the user's id"), _PROPERTIES),
    ),
    View(
        "groups",
        "Group profiles, for joins.",
        (
            Column("group_key", "text", "the group key"),
            Column("group_id", "text", "the group's id"),
            _PROPERTIES,
        ),
    ),
)


def schema_view(limits: SqlLimits, *, available: bool) -> dict[str, Any]:
    """The views of both dialects, and the limits; `available`: whether this server's data can be asked."""
    return {
        "available": available,
        "formats": list(FORMATS),
        "limits": {
            "timeout_s": limits.timeout_s,
            "memory_bytes": limits.memory_bytes,
            "rows": limits.rows,
            "answer_bytes": limits.answer_bytes,
        },
        "profiles": {"dialect": "SQLite", "views": [_view(view) for view in PROFILE_VIEWS]},
        "events": {"dialect": "DuckDB", "views": [_view(view) for view in EVENT_VIEWS]},
    }


def _view(view: View) -> dict[str, Any]:
    return {
        "name": view.name,
        "about": view.about,
        "columns": [column._asdict() for column in view.columns],
    }
