"""The quick way for rows of an import gives what the long way gives, or stands aside."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixdown.model.limits import Limits
from mixdown.model.operators import Operator
from mixdown.model.payloads import Reading
from mixdown.model.quick import row_reader
from mixdown.model.updates import Update, read_update
from mixdown.store.chunk import Segment, encode_segment

SEEN = st.sampled_from(
    ["2026-01-15T12:00:00", "2026-01-15T12:00:00Z", "2026-01-15", "soon", 1768478400, None]
)
NAMES = (
    st.sampled_from(["plan", "$last_seen", "$ip", "$token", "$distinct_id", "é", "", "x" * 300]) | st.text()
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["x" * 400, "\0", "\u2028", "2026-01-15T12:00:00"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "$distinct_id": st.text() | st.integers() | st.none(),
        "$properties": st.dictionaries(NAMES, VALUES | SEEN, max_size=6) | VALUES,
        "more": SCALARS,
    },
)


def the_long_way(text: bytes, group_key: str, operator: Operator) -> Any:
    found = orjson.loads(text)
    record: dict[str, Any] = {
        "$token": "T",
        "$ignore_time": True,
        f"${operator.name.lower()}": found["$properties"],
    }
    if group_key:
        record |= {"$group_key": group_key, "$group_id": found["$distinct_id"]}
    else:
        record["$distinct_id"] = found["$distinct_id"]
    reading = Reading({"T": 1}, group=bool(group_key), hostile=True, limits=Limits(string_limit_bytes=0))
    return read_update(record, 0, reading)


def check(text: bytes, group_key: str, operator: Operator) -> bool:
    """Hold the quick way to the long one; whether it took the row."""
    update = row_reader(1, group_key, operator)(text)
    if update is None:
        return False
    expected = the_long_way(text, group_key, operator)
    assert type(expected) is Update, expected
    both = [encode_segment(Segment("engage", "", None, None, [each])) for each in (update, expected)]
    assert both[0] == both[1]
    return True


@given(
    ROWS, st.sampled_from(["", "Company"]), st.sampled_from([Operator.SET, Operator.SET_ONCE]), st.booleans()
)
def test_a_row_taken_the_quick_way_is_as_the_long_way_has_it(
    row: dict[str, Any], group_key: str, operator: Operator, escaped: bool
) -> None:
    text = json.dumps(row, ensure_ascii=escaped)
    check(text.encode("utf-8", "surrogatepass"), group_key, operator)


PLAIN = (
    '{"$distinct_id": "a", "$properties": {"n": [1, 2.5, {"x": null}], "é": "%s",'
    ' "$last_seen": "2026-01-15T12:00:00"}}'
)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (PLAIN % ("x" * 1000), True),
        (PLAIN % r"\u0041", False),
        ('{"$distinct_id": "a", "$properties": {}}', True),
        ('{"$distinct_id": "", "$properties": {}}', False),
        ('{"$distinct_id": "a", "$properties": {"n": 1e400}}', False),
        ('{"$distinct_id": "a", "$properties": {"n": 9223372036854775808}}', False),
        ('{"$distinct_id": "a", "$properties": {"$ip": "10.0.0.1"}}', False),
        ('{"$distinct_id": "a", "$properties": {"$last_seen": "2026-01-15"}}', False),
        ('{"$distinct_id": "a", "$properties": {"$last_seen": null}}', False),
        ('{"$distinct_id": "a", "plan": "pro"}', False),
        ('{"$distinct_id": "a", "$properties": {}} {}', False),
    ],
)
def test_which_rows_are_plain(text: str, taken: bool) -> None:
    try:
        assert check(text.encode(), "", Operator.SET) == taken
    except orjson.JSONDecodeError:
        pytest.fail("the quick way took what is no JSON")
