"""The short form of `make torture`, and the proof that it would notice: each guarantee broken on purpose."""

from __future__ import annotations

import pytest

from tests.durability.faults.mutants import MUTANTS
from tests.torture.ledger import Account, Ledger, Unkeyed
from tests.torture.run import AIMS, Report, torture

SECONDS = 50


@pytest.mark.slow
def test_nothing_is_lost_or_applied_twice_under_torture() -> None:
    """The same program as `make torture`, for a shorter time."""
    report = torture(seconds=SECONDS, seed=2026)
    print("\n".join(["", *report.lines()]))  # noqa: T201 - the record of what was tried
    assert report.failures() == []
    assert report.kills_inside >= 10
    assert report.lost_writes > 0, "no power cut lost anything, so none was proven harmless"
    assert report.traffic["answered 503"] > 0, "no disk was full"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_broken_guarantee_is_noticed(mutant: str) -> None:
    """Each run aims its fault at the moment that the guarantee is for."""
    for seed in (1, 2, 3, 4, 5):
        report = torture(seconds=20, seed=seed, mutant=mutant)
        assert not report.fault, report.fault
        if not report.account.exact:
            return
    pytest.fail(f"torture did not notice the mutant {mutant}")


def test_every_mutant_has_a_fault_aimed_at_it() -> None:
    assert AIMS.keys() == MUTANTS.keys()


def record(profile: str, **operators: object) -> dict[str, object]:
    """A record of a user; operators without their `$`."""
    return {
        "$token": "T",
        "$distinct_id": profile,
        **{f"${name}": value for name, value in operators.items()},
    }


def ledger() -> Ledger:
    """Three acknowledged records on shared profiles, two on an owned one, two requests without a key."""
    made = Ledger()
    made.shared([record("s", add={"total": 2}, append={"marks-1": mark}) for mark in ("a", "b", "c")])
    made.owned([record("o", set={"plan": "pro"}, add={"records": 1}), record("o", add={"records": 1})])
    made.unkeyed(Unkeyed(("k1", "k2"), "m", acknowledged=True))
    made.unkeyed(Unkeyed(("x1", "x2"), "n", acknowledged=False))
    return made


def stored(**changes: object) -> dict[tuple[str, str], dict[str, object]]:
    """What the ledger above wants, but for some profiles (None: not there)."""
    unkeyed = {"records": 1, "marks": ["m"], "$last_seen": "2026-01-01T00:00:00"}
    whole = {
        "s": {"total": 6, "marks-1": ["a", "b", "c"]},
        "o": {"plan": "pro", "records": 2},
        "k1": unkeyed,
        "k2": unkeyed,
        **changes,
    }
    return {("", name): profile for name, profile in whole.items() if isinstance(profile, dict)}


STRAY = {"records": 1, "marks": ["n"]}


@pytest.mark.parametrize(
    ("changes", "losses", "duplicates", "differences"),
    [
        ({}, 0, 0, 0),
        ({"x1": STRAY, "x2": STRAY}, 0, 0, 0),
        ({"s": {"total": 4, "marks-1": ["a", "c"]}}, 1, 0, 0),
        ({"s": {"total": 8, "marks-1": ["a", "b", "b", "c"]}}, 0, 1, 0),
        ({"s": {"total": 6, "marks-1": ["b", "a", "c"]}}, 0, 0, 1),
        ({"s": {"total": 7, "marks-1": ["a", "b", "c"]}}, 0, 0, 1),
        ({"s": None}, 3, 0, 0),
        ({"o": {"records": 1}}, 1, 0, 0),
        ({"o": {"plan": "pro", "records": 3}}, 0, 1, 0),
        ({"o": {"plan": "free", "records": 2}}, 0, 0, 1),
        ({"o": None}, 2, 0, 0),
        ({"k2": None}, 1, 0, 0),
        ({"k1": {"records": 2, "marks": ["m", "m"]}}, 0, 1, 1),
        ({"x1": STRAY}, 1, 0, 0),
        ({"nobody": {"a": 1}}, 0, 1, 0),
    ],
    ids=[
        "all as acknowledged",
        "an unanswered request that came through",
        "a lost mark",
        "a mark twice",
        "marks out of order",
        "a total that is off",
        "a shared profile that is gone",
        "a lost record of an owned profile",
        "one too many",
        "a wrong value",
        "an owned profile that is gone",
        "half of a request without a key",
        "a request without a key, twice",
        "half of an unanswered request",
        "a profile that nobody wrote",
    ],
)
def test_the_ledger_counts_what_is_missing_and_what_is_too_much(
    changes: dict[str, object], losses: int, duplicates: int, differences: int
) -> None:
    account = ledger().compare(stored(**changes))
    assert (account.losses, account.duplicates, account.differences) == (losses, duplicates, differences)


def good_report() -> Report:
    """A report that passes."""
    made = Report(1)
    made.kills["worker, anywhere"] = 30
    made.recognised["records"] = 1
    return made


def test_a_run_passes_with_thirty_kills_and_a_recognised_retry() -> None:
    assert good_report().failures() == []


def test_a_run_with_too_few_kills_fails() -> None:
    report = good_report()
    report.kills["worker, anywhere"] = 29
    assert report.failures() == ["only 29 kills took effect, 30 are wanted"]


def test_a_run_without_a_recognised_retry_fails() -> None:
    report = good_report()
    report.recognised.clear()
    report.traffic["repeated after the answer"] = 9  # answered 200, which proves nothing of it
    assert report.failures() == ["no retry of an acknowledged request was recognised"]


def test_a_run_that_lost_or_doubled_something_fails() -> None:
    report = good_report()
    report.account = Account(losses=2, duplicates=1)
    assert report.failures() == ["2 acknowledged records were lost", "1 records were applied twice"]
