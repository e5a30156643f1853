"""The seven words for kinds of values."""

from __future__ import annotations

from typing import Any

import pytest

from mixdown.model.kinds import KINDS, kind_of

VALUES: dict[str, list[Any]] = {
    "string": ["", "text", "2026-01-15", "2026-01-15 12:00:00", "2026-13-15T12:00:00", "2026-01-15T25:00:00"],
    "number": [0, -1, 2.5, 10**18],
    "boolean": [True, False],
    "datetime": [
        "2026-01-15T12:00:00",
        "2026-01-15T12:00:00Z",
        "2026-01-15T12:00:00.123Z",
        "2026-01-15T12:00:00+02:00",
    ],
    "object": [{}, {"a": 1}],
    "list": [[], [1]],
    "unknown": [None],
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind in VALUES for value in VALUES[kind]])
def test_each_value_has_one_kind(kind: str, value: Any) -> None:
    assert kind_of(value) == kind
    assert kind in KINDS
