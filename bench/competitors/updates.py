"""What the applications share: reading a record's operators, and the SQL of each operator on `jsonb`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

Update = tuple[str, Any, str]
"""An operator, its payload, and the `$last_seen` that the record gives."""

# {doc} and {payload} stand for expressions of type jsonb.
SQL: Final = {
    "$set": "{doc} || {payload}",
    "$set_once": "{payload} || {doc}",
    "$unset": "{doc} - ARRAY(SELECT jsonb_array_elements_text({payload}))",
    "$add": "{doc} || (SELECT jsonb_object_agg(k, coalesce(({doc} ->> k)::numeric, 0) + v::numeric)"
    " FROM jsonb_each_text({payload}) AS p(k, v))",
    "$append": "{doc} || (SELECT jsonb_object_agg(k, coalesce({doc} -> k, '[]') || jsonb_build_array(v))"
    " FROM jsonb_each({payload}) AS p(k, v))",
    "$union": "{doc} || (SELECT jsonb_object_agg(k, coalesce({doc} -> k, '[]') || (SELECT"
    " coalesce(jsonb_agg(e), '[]') FROM jsonb_array_elements(v) AS e"
    " WHERE NOT coalesce({doc} -> k, '[]') @> e)) FROM jsonb_each({payload}) AS p(k, v))",
    "$remove": "{doc} || coalesce((SELECT jsonb_object_agg(k, (SELECT coalesce(jsonb_agg(e), '[]')"
    " FROM jsonb_array_elements({doc} -> k) AS e WHERE e <> v))"
    " FROM jsonb_each({payload}) AS p(k, v) WHERE {doc} ? k), '{{}}')",
}
ONLY_CHANGES: Final = ("$unset", "$remove")
"""Operators that make no profile where there is none."""


def updates(record: dict[str, Any]) -> Iterable[Update]:
    """The operators of a record."""
    seen = datetime.fromtimestamp(record.get("$time", 0), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for operator in SQL:
        if operator in record:
            yield operator, record[operator], seen


def by_profile(records: Iterable[dict[str, Any]]) -> dict[str, list[Update]]:
    """The operators for each profile, in the order of the records; the profiles sorted by id.

    Sorted, so that transactions that touch the same profiles wait for each other in one order.
    """
    found: dict[str, list[Update]] = {}
    for record in records:
        found.setdefault(str(record["$distinct_id"]), []).extend(updates(record))
    return dict(sorted(found.items()))
