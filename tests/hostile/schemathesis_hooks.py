"""How schemathesis writes a body of lines, and which of its requests at edges are sent."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.generation.meta import CoveragePhaseData

_tried: set[tuple[object, ...]] = set()


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: object) -> bytes:
    """The text of a body, as bytes."""
    del context
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.hook
def filter_case(context: Any, case: schemathesis.Case[Any]) -> bool:
    """Of the values at the edges of each place of a request, the first of each kind.

    All of them would be more than twenty thousand requests, most of them like many others.
    """
    del context
    if case.meta is None or not isinstance(case.meta.phase.data, CoveragePhaseData):
        return True
    edge = case.meta.phase.data
    mode = case.meta.generation.mode
    place = (edge.parameter_location, edge.parameter, edge.location)
    kind = (case.operation.label, mode, edge.scenario, place)
    is_new = kind not in _tried
    _tried.add(kind)
    return is_new
