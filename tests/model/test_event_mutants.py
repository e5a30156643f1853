"""The checks of events catch faults: each deliberate fault below must make the table fail, on its way.

The table holds events that stand on both sides of every rule, and the reference says what becomes of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import msgspec
import pytest

from mixdown.model import events, quick_events
from mixdown.model.events import DAY_MS
from tests.model.event_reference import Setting, judge
from tests.model.test_events import NOW_MS, expected, long_way, plain, quickly

Patch = pytest.MonkeyPatch
HOUR_MS = 3_600_000
UUID = "7d3b0a4e-6d0c-4f67-9a39-9f0f64a8b0d1"
TIMES = [
    NOW_MS // 1000, NOW_MS, NOW_MS / 1000 + 0.0, str(NOW_MS), 99_999_999_999, NOW_MS - 5 * DAY_MS,
    NOW_MS - 5 * DAY_MS - 1, NOW_MS + HOUR_MS, NOW_MS + HOUR_MS + 1, 365 * 86_400, 365 * 86_400 - 1, True,
    "x", None, 1_768_478_399.9996,
]  # fmt: skip
IDS = ["u1", "", 3473, 1.0, True, None, "null", " Undefined ", [], "anonymous"]
INSERT_IDS = ["a-1", "a_b", "a" * 36, "a" * 37, "nil", "Anonymous1", "", None, 77, True, "é"]
VALUES = [
    "x" * 256, "é" * 128, 2**63, 10**400, [1] * 254, [1] * 255, {str(n): n for n in range(254)},
    {str(n): n for n in range(255)}, {"a": {"b": {"c": 1}}}, {"a": {"b": {"c": {"d": 1}}}}, ["x" * 100] * 79,
    ["x" * 100] * 80, {"n" * 300: 1},
]  # fmt: skip
PEOPLE: list[dict[str, Any]] = [
    {"$device_id": "D"},
    {"$device_id": "$device:D"},
    {"$device_id": "$device:D", "$user_id": "U"},
    {"$user_id": "U"},
    {"$user_id": "", "$device_id": ""},
    {"$user_id": 5, "$device_id": 6},
]


def rows() -> Iterator[Any]:
    """The events of the table."""
    yield from [
        plain(),
        {"event": "E"},
        5,
        plain(token="NOPE"),
        plain(**{"$ignore": "x"}),
        plain(ip="1.2.3.4"),
    ]
    yield from [plain(time=each) for each in TIMES]
    yield from [plain(distinct_id=each) for each in IDS]
    yield from [plain(**{"$insert_id": each}) for each in INSERT_IDS]
    yield from [plain(value=each) for each in VALUES]
    yield from [plain(**each) for each in PEOPLE]
    yield from [plain(**{f"p{n}": n for n in range(count)}) for count in (254, 255)]
    for name in ("", " ", "\t", "e" * 256, "$x", "$identify", "$create_alias", "$merge"):
        yield {**plain(alias="A", **{"$anon_id": UUID, "$distinct_ids": ["a", "b"]}), "event": name}
    yield {
        "event": "$identify",
        "properties": {"token": "TOK", "$identified_id": "I", "$anon_distinct_id": UUID},
    }
    yield {"event": "$create_alias", "properties": {"token": "TOK", "alias": "A"}}
    yield {"event": "$merge", "properties": {"token": "TOK", "$distinct_ids": ["a"]}}


SETTINGS = [
    Setting(NOW_MS, importing=importing, strict=strict, mode=mode, late=late)
    for importing, strict, mode, late in product(
        (True, False), (True, False), ("simplified", "original", "legacy"), (True, False)
    )
]


def the_long_way() -> None:
    """Every row, in every setting."""
    for how in SETTINGS:
        for raw in rows():
            assert long_way(raw, how) == expected(judge(raw, how)), (raw, how)


def the_quick_way() -> None:
    """What it takes of the rows, in every setting."""
    for how in SETTINGS:
        for raw in rows():
            found = quickly([raw], how)
            if found is not None and found[0] is not None:
                assert found[0] == expected(judge(raw, how)), (raw, how)


# --- faults


def constant(module: Any, name: str, value: Any) -> Callable[[Patch], None]:
    """A fault that is another value of a constant, or another function."""
    return lambda patch: patch.setattr(module, name, value)


def any_way_fits(*_: Any, **__: Any) -> bool:
    return True


def unlimited_names(patch: Patch) -> None:
    """The quick way does not look at how long names are."""
    quick_events._decoders.cache_clear()
    patch.setattr(quick_events, "_has_short_strings", any_way_fits)


def everything_is_flat(patch: Patch) -> None:
    """The quick way does not look into nested values."""
    judge_quickly = quick_events.judge_quickly

    def flatly(quick: quick_events.QuickEvents, reading: events.EventReading) -> quick_events.QuickJudged:
        return judge_quickly(msgspec.structs.replace(quick, flat=True), reading)

    patch.setattr("tests.model.test_events.judge_quickly", flatly)


LONG = [
    ("late events", constant(events, "LATE_AFTER_MS", 5 * DAY_MS + 1)),
    ("events before 1971", constant(events, "EARLIEST_MS", 0)),
    ("a future of two hours", constant(events, "FUTURE_MS", 2 * HOUR_MS)),
    ("milliseconds from another number on", constant(events, "MILLISECONDS_FROM", 1e10)),
    ("placeholders", constant(events, "PLACEHOLDER_IDS", frozenset())),
    ("insert ids of 37 bytes", constant(events, "INSERT_ID_LIMIT_BYTES", 37)),
    ("256 properties", constant(events, "EVENT_PROPERTIES", 256)),
    ("lists of 255", constant(events, "EVENT_ITEMS", 255)),
    ("values of any size", constant(events, "EVENT_VALUE_LIMIT_BYTES", 1 << 20)),
    ("any nesting", constant(events, "fits_strict", any_way_fits)),
    ("names of any length", constant(events, "clean_name", str)),
    ("the envelope among the properties", constant(events, "ENVELOPE", frozenset({"token", "time"}))),
    ("devices with two prefixes", constant(events, "device_id", lambda device: f"$device:{device}")),
    ("users who are nobody", constant(events, "number_text", lambda _: "")),
    ("no identity event", constant(events, "IDENTITY_EVENTS", frozenset())),
]
QUICK = [
    ("late events", constant(quick_events, "LATE_AFTER_MS", 6 * DAY_MS)),
    ("events before 1971", constant(quick_events, "EARLIEST_MS", 0)),
    ("milliseconds from another number on", constant(quick_events, "_SECONDS_BELOW", 10**10)),
    ("placeholders", constant(quick_events, "_is_placeholder", lambda _: False)),
    ("insert ids of any form", constant(quick_events, "_is_strict_id", any_way_fits)),
    ("identity events as others", constant(quick_events, "IDENTITY_EVENTS", frozenset())),
    ("names of any length", unlimited_names),
    ("values of any size", constant(quick_events, "_all_fit", any_way_fits)),
    ("values of any depth", everything_is_flat),
    ("no import", constant(quick_events, "IMPORT", "import")),
    ("devices with two prefixes", constant(quick_events, "device_id", lambda device: f"$device:{device}")),
]


def test_the_table_holds_on_the_product_as_it_is() -> None:
    the_long_way()
    the_quick_way()


@pytest.mark.parametrize("break_it", [each for _, each in LONG], ids=[name for name, _ in LONG])
def test_a_fault_of_the_long_way_is_caught(break_it: Any, monkeypatch: Patch) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        the_long_way()


@pytest.mark.parametrize("break_it", [each for _, each in QUICK], ids=[name for name, _ in QUICK])
def test_a_fault_of_the_quick_way_is_caught(break_it: Any, monkeypatch: Patch) -> None:
    break_it(monkeypatch)
    try:
        with pytest.raises(AssertionError):
            the_quick_way()
    finally:
        quick_events._decoders.cache_clear()
