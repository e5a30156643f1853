"""`segmentation` and below as OpenAPI has them, and what descriptions of reports have in common.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mixdown.http import events, segmentation
from mixdown.http.openapi_figures import figure_errors
from mixdown.http.openapi_pieces import (
    PROJECT,
    READERS,
    WAIT,
    Operation,
    content,
    operation,
    parameter,
    ref,
    response,
)
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.query.events.buckets import BUCKETS_LIMIT, UNITS
from mixdown.query.events.figures import CELLS_LIMIT, KINDS
from mixdown.query.reports.segmentation import RANGES_LIMIT
from mixdown.settings import Settings

TAG: Final = "Reports"
BEHIND: Final = "How many records the answer is behind; absent when it is not."
TEXT: Final = {"type": "string"}
EVENT: Final = parameter("event", "The name of an event.", TEXT) | {"required": True, "example": "signed up"}
DAYS: Final = (
    parameter("from_date", "The first day, YYYY-MM-DD, in the project's time zone.", TEXT)
    | {"required": True, "example": "2026-11-21"},
    parameter("to_date", "The last day, inclusive.", TEXT) | {"required": True, "example": "2026-11-22"},
)
ON: Final = parameter(
    "on", 'An expression whose values tell events apart, or a bare name: `properties["plan"]`, `plan`.', TEXT
)
WHERE: Final = parameter("where", "An expression that events must match.", TEXT)
TYPE: Final = parameter(
    "type",
    "How often (`general`), by how many (`unique`), or how often by each of them on average (`average`).",
    {"type": "string", "enum": list(KINDS), "default": KINDS[0]},
)
UNIT: Final = parameter("unit", "How time is cut.", {"type": "string", "enum": list(UNITS), "default": "day"})
INTERVAL: Final = parameter(
    "interval",
    "How many units a bucket has, from `from_date` on; without days, how many units there are up to now.",
    {"type": "integer", "minimum": 1, "maximum": BUCKETS_LIMIT},
)
GROUP: Final = parameter(
    "data_group_id", "A group key's name or number: groups are counted instead of persons.", TEXT
)
_FORMAT: Final = parameter(
    "format", "csv: a line for each key, a column for each name.", {"type": "string", "enum": ["json", "csv"]}
)
_LIMIT: Final = parameter(
    "limit",
    f"At most so many values; never more than {segmentation.SEGMENTS_LIMIT}.",
    {
        "type": "integer",
        "minimum": 1,
        "maximum": events.LIMIT_LIMIT,
        "default": segmentation.DEFAULT_SEGMENTS,
    },
)
_BOUNDS: Final = f"Every name has every key. At most {BUCKETS_LIMIT} keys, and {CELLS_LIMIT} figures."
_SUMMED: Final = {
    "status": "ok",
    "computed_at": "2026-11-22T03:53:59.000000+00:00",
    "results": {"2026-11-21": 120, "2026-11-22": 47.5},
}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {
        f"{prefix}/{name}": {"get": told}
        for number, prefix in enumerate(QUERY_PREFIXES)
        for name, told in _segmentation(prefix, str(number or "")).items()
    }


def report(
    identity: str,
    path: str,
    summary: str,
    description: str,
    body: Mapping[str, Any],
    parameters: tuple[Mapping[str, Any], ...],
) -> Operation:
    """A report that is read by GET."""
    return operation(
        identity,
        TAG,
        summary,
        description,
        figure_errors(path) | {"200": response("The answer.", body, X_Mixdown_Behind=BEHIND)},
        parameters=(PROJECT | {"example": 1}, *parameters, WAIT),
        security=READERS,
    )


def _series(keys: Mapping[str, Any]) -> dict[str, Any]:
    days = ["2026-11-21", "2026-11-22"]
    return {"data": {"series": days, "values": keys}, "legend_size": len(keys)}


def _segmentation(prefix: str, suffix: str) -> dict[str, Operation]:
    asked = (EVENT, *DAYS, UNIT, INTERVAL, WHERE)
    by_plan = _series(
        {"pro": {"2026-11-21": 3, "2026-11-22": 5}, "undefined": {"2026-11-21": 0, "2026-11-22": 1}}
    )
    by_range = _series({"0 - 50": {"2026-11-21": 3, "2026-11-22": 5}})
    number = ON | {"required": True, "example": 'properties["amount"]'}
    plain = content(ref("EventSeries"), by_plan)
    csv = content(TEXT, "date,pro,undefined\n2026-11-21,3,0\n2026-11-22,5,1\n", "text/csv")
    summed = content(ref("SummedByKey"), _SUMMED)
    return {
        "segmentation": report(
            f"segment{suffix}",
            f"{prefix}/segmentation",
            "Count an event over time, by the values of an expression",
            "The most frequent values of `on`. An event without one counts as `undefined`, one with a list "
            f"under each different element of it. {_BOUNDS}",
            plain | csv,
            (*asked, ON, TYPE, _LIMIT, GROUP, _FORMAT),
        ),
        "segmentation/numeric": report(
            f"segmentByRanges{suffix}",
            f"{prefix}/segmentation/numeric",
            "Count an event over time, by ranges of a number",
            f"At most {RANGES_LIMIT} ranges of one round width, their ends excluded, without those in which "
            f"there is nothing. Events whose value is no number are in none. {_BOUNDS}",
            content(ref("EventSeries"), by_range) | content(TEXT, "date,0 - 50\n2026-11-21,3\n", "text/csv"),
            (*asked, number, TYPE, GROUP, _FORMAT),
        ),
        "segmentation/sum": report(
            f"sumEvents{suffix}",
            f"{prefix}/segmentation/sum",
            "Sum an expression over time",
            f"A value that is no number counts as 0. At most {BUCKETS_LIMIT} keys.",
            summed,
            (*asked, number),
        ),
        "segmentation/average": report(
            f"averageEvents{suffix}",
            f"{prefix}/segmentation/average",
            "Average an expression over time",
            f"A value that is no number counts as 0. At most {BUCKETS_LIMIT} keys.",
            summed,
            (*asked, number),
        ),
    }
