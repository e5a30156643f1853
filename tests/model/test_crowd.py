"""Many records on one large profile: the result of one by one, in time that grows with their number."""

from __future__ import annotations

import copy
import random
from typing import Any

import orjson
import pytest

from mixdown.model import operators
from mixdown.model.limits import VALUE_LIMIT_BYTES
from mixdown.model.operators import Crowd, Operator, Properties, apply_operations
from mixdown.model.values import canonical

NOON = "2026-01-15T12:00:00"
ELEMENTS: list[Any] = ["a", "b", "é", 1, 1.0, True, None, [1], {"k": 1}, {"k": 1.0}, "x" * 200]
KEYS = ["k", "é", "a key", ""]


def apply(doc: Properties | None, operator: Operator, payload: Any, crowd: Crowd) -> Properties | None:
    return apply_operations(doc, [(operator, payload)], geo=None, seen=NOON, arrival=NOON, crowd=crowd)


def random_change(chance: random.Random) -> tuple[Operator, Any]:
    name = chance.choice(["l", "m"])
    item = copy.deepcopy(chance.choice(ELEMENTS))
    changes = {chance.choice(KEYS): item for _ in range(chance.randrange(3))}
    return chance.choice(
        [
            (Operator.APPEND, {name: item}),
            (Operator.UNION, {name: [item, copy.deepcopy(chance.choice(ELEMENTS))]}),
            (Operator.REMOVE, {name: item}),
            (Operator.MERGE, {"o": changes}),
            (Operator.SET, {name: [item] * chance.randrange(3)}),
            (Operator.SET, {"o": changes}),
            (Operator.UNSET, [chance.choice(["l", "o"])]),
            (Operator.DELETE, None),
        ]
    )


@pytest.mark.parametrize("seed", range(20))
def test_what_is_remembered_between_records_never_changes_their_result(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is small here, so that it is met at every size."""
    chance = random.Random(seed)
    monkeypatch.setattr(operators, "VALUE_LIMIT_BYTES", 60 + 40 * seed)
    crowd = Crowd()
    together: Properties | None = None
    for _ in range(400):
        operator, payload = random_change(chance)
        if chance.random() < 0.9 and operator == Operator.DELETE:
            continue
        before = None if together is None else orjson.loads(orjson.dumps(together))
        alone = apply(before, operator, copy.deepcopy(payload), Crowd())
        together = apply(together, operator, payload, crowd)
        assert orjson.dumps(together) == orjson.dumps(alone)
        for value in (together or {}).values():
            assert type(value) not in (list, dict) or len(orjson.dumps(value)) <= 60 + 40 * seed


@pytest.mark.parametrize(
    ("operator", "stored", "last", "one_more"),
    [
        (Operator.APPEND, ["x" * (VALUE_LIMIT_BYTES - 9)], "é", "éa"),
        (Operator.UNION, ["x" * (VALUE_LIMIT_BYTES - 9)], ["é", "é"], ["éa"]),
        (Operator.MERGE, {"k": "x" * (VALUE_LIMIT_BYTES - 18)}, {"é": 1234}, {"é": 12345}),
        (
            Operator.MERGE,
            {"k": "x" * (VALUE_LIMIT_BYTES - 8)},
            {"k": 1},
            {"k": "x" * (VALUE_LIMIT_BYTES - 7)},
        ),
        (Operator.MERGE, {}, {"k": "x" * (VALUE_LIMIT_BYTES - 8)}, {"k": "x" * (VALUE_LIMIT_BYTES - 7)}),
    ],
)
def test_a_list_or_object_may_grow_to_the_last_byte_of_its_limit(
    operator: Operator, stored: Any, last: Any, one_more: Any
) -> None:
    refused = apply({"p": copy.deepcopy(stored)}, operator, {"p": one_more}, Crowd())
    assert refused is not None
    assert refused["p"] == stored
    taken = apply({"p": copy.deepcopy(stored)}, operator, {"p": last}, Crowd())
    assert taken is not None
    assert taken["p"] != stored


@pytest.mark.parametrize(
    ("operator", "payload"),
    [
        (Operator.UNION, lambda n: [{"new": n}]),
        (Operator.UNION, lambda n: [{"old": n}]),
        (Operator.REMOVE, lambda n: {"new": n}),
    ],
)
def test_a_record_is_compared_with_a_large_list_once_for_all(
    operator: Operator, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = 0

    def counting(value: Any) -> Any:
        nonlocal looked_at
        looked_at += 1
        return canonical(value)

    monkeypatch.setattr(operators, "canonical", counting)
    crowd = Crowd()
    doc: Properties | None = {"l": [{"old": n} for n in range(5000)]}
    for n in range(2000):
        doc = apply(doc, operator, {"l": payload(n)}, crowd)
    assert looked_at <= 5000 + 2 * 2000
