"""The simulation of uneven partitions, where one can reckon by hand; and what docs/scaling.md quotes."""

from __future__ import annotations

import json
import math
import random

import pytest

from bench import sizes, skew
from bench.report import RESULTS


@pytest.fixture(scope="module")
def kept() -> skew.Result:
    found: skew.Result = json.loads((RESULTS / "skew.json").read_bytes())
    return found


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.3])
def test_shares_are_those_of_a_zipf_law(exponent: float) -> None:
    shares, rest = skew.weights(exponent, 100_000, 1000)
    total = math.fsum(rank**-exponent for rank in range(1, 100_001))
    assert shares[:3] == pytest.approx([rank**-exponent / total for rank in (1, 2, 3)], rel=1e-5)
    assert math.fsum(shares) + rest == pytest.approx(1.0)


def test_loads_are_shared_out_whole() -> None:
    shares, rest = skew.weights(1.1, 10**9, 2000)
    found = skew.loads(shares, rest, skew.places(5, 64, 2000), 64)
    assert math.fsum(found) == pytest.approx(1.0)
    assert max(found) >= shares[0]
    even = skew.worst_worker([1 / 64] * 64, 8, random.Random(1))
    assert even == pytest.approx(1.0)
    assert skew.worst_worker([0.9, *[0.1 / 63] * 63], 8, random.Random(1)) > 7


def test_a_hot_profile_weighs_more_the_more_partitions_there_are(kept: skew.Result) -> None:
    for exponent, ratios in kept["hottest"].items():
        middle = [ratios[str(count)][0] for count in skew.PARTITIONS]
        assert middle == sorted(middle)
        hot = [kept["largest"][exponent] * count for count in skew.PARTITIONS]
        assert all(ratio >= 0.99 * alone for ratio, alone in zip(middle, hot, strict=True))


def test_what_is_kept_is_what_the_simulation_gives(kept: skew.Result) -> None:
    shares, rest = skew.weights(0.9, skew.PROFILES, skew.PLACED)
    ratios = sorted(
        max(skew.loads(shares, rest, skew.places(seed, 64), 64)) * 64 for seed in range(skew.SEEDS)
    )
    assert kept["hottest"]["0.9"]["64"] == [round(ratios[skew.SEEDS // 2], 3), round(ratios[-1], 3)]


def test_the_page_shows_what_is_kept(kept: skew.Result) -> None:
    tables = skew.markdown(kept)
    assert (RESULTS / "skew.md").read_text() == tables
    page = skew.PAGE.read_text()
    assert skew.published(page, tables) == page


def test_the_page_shows_the_sizes_that_are_kept() -> None:
    tables = sizes.markdown(json.loads((RESULTS / "sizes.json").read_bytes()))
    page = skew.PAGE.read_text()
    assert skew.published(page, tables, sizes.NAME) == page
