"""The fuzzer itself: it finds faults that are put in, repeats its inputs, and finds none as things are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixdown.http import body
from mixdown.model import updates
from tests.hostile import fuzz
from tests.hostile.fuzz import PLAN, Fuzzer, main
from tests.hostile.stored import StoreCheck


def tried(fuzzer: Fuzzer, count: int, *, first: int = 0) -> Fuzzer:
    for number in range(first, first + count):
        fuzzer.try_one(number, PLAN[number % len(PLAN)])
    return fuzzer


def test_a_few_thousand_inputs_find_nothing_and_are_stored_and_read_back(tmp_path: Path) -> None:
    fuzzer = Fuzzer(seed=20)
    fuzzer.records.keep = 60
    tried(fuzzer, 4000)
    assert fuzzer.counts["body"] == 1600
    assert fuzzer.counts["record"] == 1800
    with StoreCheck(tmp_path / "data") as store:
        fuzzer.store(store)
    assert fuzzer.stored == 60
    assert fuzzer.findings == {}


def test_the_same_number_makes_the_same_input_again() -> None:
    one, other = Fuzzer(seed=4), Fuzzer(seed=4)
    for number in (3, 9, 16, 19, 1_000_003):
        target = PLAN[number % len(PLAN)]
        one.mutator.reseed(number)
        other.mutator.reseed(number)
        assert one._made(target)[0] == other._made(target)[0]


def test_a_decoder_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(text: bytes) -> bytes:
        raise IndexError(text[:0])

    monkeypatch.setattr(body, "_from_base64", raises)
    found = tried(Fuzzer(seed=1), 400).findings
    assert any("IndexError" in kind for kind in found)


def test_a_parser_that_keeps_what_cannot_be_stored_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "clean_text", lambda text: text)
    monkeypatch.setattr("mixdown.model.values.clean_text", lambda text: text)
    found = tried(Fuzzer(seed=1), 3000).findings
    assert any(kind.startswith("record: ") for kind in found)


def test_a_slow_input_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "INPUT_LIMIT_S", 0.0)
    monkeypatch.setattr(fuzz, "BYTE_LIMIT_S", 0.0)
    found = tried(Fuzzer(seed=1), 20).findings
    assert any("TookTooLongError" in kind for kind in found)


def test_the_command_counts_its_inputs_by_target(tmp_path: Path) -> None:
    out = tmp_path / "fuzz.json"
    assert main(["--inputs", "400", "--processes", "2", "--seed", "5", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["inputs"] == 400
    assert report["inputs_by_target"] == {"body": 160, "record": 180, "parameters": 40, "head": 20}
    assert report["findings"] == {}
